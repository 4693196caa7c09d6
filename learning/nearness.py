"""Which solutions are near to many others."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from .contract import Solution
from .errors import MergeError
from .ways import distance


class Nearness:
    """How far solutions are from each other.

    Args:
        solutions: laid out alike; at least one.

    Raises:
        MergeError: they are of whole numbers only, between which there is no distance.
    """

    def __init__(self, solutions: Sequence[Solution]) -> None:
        check_far(solutions[0])
        self._between = np.zeros((len(solutions), len(solutions)))
        for one in range(len(solutions)):
            for two in range(one):
                here, there = solutions[one].arrays, solutions[two].arrays
                far = 0.0 if here is there else distance(here, there)  # as in a trial
                self._between[one, two] = self._between[two, one] = far

    def reach(self, among: Collection[int], liars: int) -> dict[int, float]:
        """Return how far some of the solutions are from their nearest neighbours among these.

        That is the root of the sum of the squared distances, which stands in the same order and
        never overflows.

        Args:
            among: their places.
            liars: how many of them may be anything: that many, and two, are not its neighbours.
        """
        count = max(1, len(among) - liars - 2)
        far = {one: [self._between[one, two] for two in among if two != one] for one in among}
        return {one: math.hypot(*sorted(others)[:count]) for one, others in far.items()}


def check_far(solution: Solution) -> None:
    """Raise unless a solution can be far from another.

    Raises:
        MergeError: it is of whole numbers only.
    """
    if not any(array.dtype.kind in "fc" for array in solution.arrays.values()):
        raise MergeError("solutions of whole numbers only have no distance to be merged by")
