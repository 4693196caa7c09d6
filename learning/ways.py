"""How far solutions are from a model, and solutions that go only a part of their way."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from loaders.rows import Array, Arrays

from .contract import Solution
from .sums import BLOCK, as_type, checked

#: Below so many solutions, which of them is far from the others nobody can say.
_FEWEST = 3


def distance(arrays: Arrays, other: Arrays) -> float:
    """Return how far arrays are from others: the Euclidean norm of what lies between.

    What is no real number, as counters are, counts for nothing.
    """
    squares = []
    for name, array in arrays.items():
        if array.dtype.kind != "f" or name not in other or other[name].shape != array.shape:
            continue
        one, two = array.reshape(-1), other[name].reshape(-1)
        for first in range(0, one.size, BLOCK):
            part = slice(first, first + BLOCK)
            way = one[part].astype(np.float64) - two[part]
            scale = float(np.abs(way).max())
            if scale:
                way /= scale  # no square overflows
                squares.append((scale, float(way @ way)))
    most = max((scale for scale, _ in squares), default=0.0)
    return most * math.sqrt(math.fsum((s / most) ** 2 * square for s, square in squares if most))


class Way(NamedTuple):
    """How far a solution is from the model before.

    Args:
        times: as far as the median one.
        taken: how much of it is not too far, 0 to 1.
    """

    times: float
    taken: float


def shortened(solutions: Collection[Solution], before: Arrays, bound: float) -> list[Way]:
    """Return how far solutions are from a model, where any is too far; else nothing.

    Args:
        solutions: of one round.
        before: the model that they went on from; of an empty one nothing is too far.
        bound: so many times as far as the median one may be; 0: as far as it likes.
    """
    if not bound or not before or len(solutions) < _FEWEST:
        return []
    ways = np.array([distance(each.arrays, before) for each in checked(solutions)])
    middle = float(np.median(ways))
    if not middle or ways.max() <= bound * middle:  # where most have not moved, who has is right
        return []
    times = ways / middle
    return [Way(float(each), min(1.0, bound / float(max(each, bound)))) for each in times]


def drawn_back(
    solutions: Iterable[Solution], before: Arrays, taken: Sequence[float]
) -> Iterator[Solution]:
    """Yield solutions that go so much of their way from a model; whole numbers stay."""
    for solution, part in zip(solutions, taken, strict=True):
        if part == 1.0:
            yield solution
            continue
        arrays = {
            name: array if array.dtype.kind not in "fc" else _on_the_way(array, before[name], part)
            for name, array in solution.arrays.items()
        }
        yield replace(solution, arrays=arrays)


def _on_the_way(array: Array, before: Array, part: float) -> Array:
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    start = before.astype(wide)
    return as_type(start + part * (array.astype(wide) - start), array.dtype.name)
