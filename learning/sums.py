"""Arithmetic that strategies share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from loaders.rows import Array, Arrays

from .contract import Solution
from .errors import MergeError
from .layout import Layout, endless


def weighted_mean(solutions: Iterable[Solution]) -> Arrays:
    """Return the mean of the solutions' arrays, weighted by their examples.

    Sums in float64 and in the order given, so that equal solutions in equal order make equal
    bits; memory is one solution and one sum, however many solutions there are. Whole numbers are
    rounded.

    Raises:
        MergeError: no solution, no examples, or arrays that don't fit together.
    """
    sums: dict[str, npt.NDArray[np.float64]] = {}
    layout = Layout({})
    total = 0
    for number, solution in enumerate(solutions, 1):
        if number == 1:
            layout = Layout(solution.arrays)
            sums = {name: np.zeros(a.shape, np.float64) for name, a in solution.arrays.items()}
        wrong = layout.difference(solution.arrays) or endless(solution.arrays)
        if solution.examples < 0:
            wrong = f"it has {solution.examples} examples"
        if wrong:
            raise MergeError(f"solution {number} does not fit the first: {wrong}")
        for name, array in solution.arrays.items():
            sums[name] += array.astype(np.float64) * solution.examples
        total += solution.examples
    if not total:
        raise MergeError("nothing to merge: no solution with any example")
    return {name: as_type(array / total, layout[name][0]) for name, array in sums.items()}


def as_type(array: npt.NDArray[np.float64], dtype: str) -> Array:
    """Return sums or means as an array of some type: rounded where it is of whole numbers."""
    return np.asarray(np.rint(array) if np.dtype(dtype).kind in "iub" else array).astype(dtype)
