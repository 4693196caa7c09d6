"""Ways to merge solutions into one model: a class each, its source in the docstring."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Arrays, Layout, Solution
from .errors import MergeError, UnfitSolution


class WeightedMean:
    """The mean of the solutions' arrays, weighted by their examples.

    Sums in float64 and in the order given, so that equal solutions in equal order make equal
    bits; memory is one solution and one sum, however many solutions there are.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", algorithm 1 (FederatedAveraging).
    """

    def merge(self, solutions: Iterable[Solution]) -> Arrays:
        """Return the mean, each array in the type of the first solution's.

        Raises:
            MergeError: no solution, no examples, or arrays that don't fit together.
        """
        sums: dict[str, npt.NDArray[np.float64]] = {}
        dtypes: dict[str, np.dtype[Any]] = {}
        total = 0
        for number, solution in enumerate(solutions, 1):
            if not number - 1:
                dtypes = {name: array.dtype for name, array in solution.arrays.items()}
                sums = {
                    name: np.zeros(array.shape, np.float64)
                    for name, array in solution.arrays.items()
                }
            _check_fit(number, solution, sums)
            for name, array in solution.arrays.items():
                sums[name] += array.astype(np.float64) * solution.examples
            total += solution.examples
        if not total:
            raise MergeError("nothing to merge: no solution with any example")
        return {name: _cast(array / total, dtypes[name]) for name, array in sums.items()}


def check(solution: Solution, layout: Layout, examples: int) -> None:
    """Raise unless a solution is what its job asked for.

    Args:
        solution: whatever a computing node sent.
        layout: what its arrays must be.
        examples: the rows of its shard: its weight when merged.

    Raises:
        UnfitSolution: it is not, in words.
    """
    if solution.examples != examples:
        raise UnfitSolution(f"it claims {solution.examples} examples of a shard of {examples}")
    if solution.arrays.keys() != layout.keys():
        odd = ", ".join(sorted(solution.arrays.keys() ^ layout.keys())[:5])
        raise UnfitSolution(f"its arrays are not those of the model: {odd}")
    for name, (dtype, shape) in layout.items():
        array = solution.arrays[name]
        if array.dtype.name != dtype or array.shape != shape:
            raise UnfitSolution(
                f"array {name!r} is {array.dtype.name} of shape {array.shape},"
                f" not {dtype} of {shape}"
            )
        if not np.isfinite(array).all():
            raise UnfitSolution(
                f"array {name!r} holds numbers that are not finite: its training diverged;"
                " try a smaller learning rate"
            )


def _check_fit(number: int, solution: Solution, sums: Arrays) -> None:
    if solution.examples < 0:
        raise MergeError(f"solution {number} has {solution.examples} examples")
    if solution.arrays.keys() != sums.keys():
        odd = sorted(solution.arrays.keys() ^ sums.keys())
        raise MergeError(f"solution {number} and the first differ in their arrays: {odd}")
    for name, array in solution.arrays.items():
        if array.shape != sums[name].shape:
            raise MergeError(
                f"array {name!r} of solution {number} has shape {array.shape},"
                f" the first solution's {sums[name].shape}"
            )
        if not np.isfinite(array).all():
            raise MergeError(
                f"array {name!r} of solution {number} holds numbers that are not finite:"
                " its training diverged; try a smaller learning rate"
            )


def _cast(array: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return (np.rint(array) if dtype.kind in "iub" else array).astype(dtype)


def sha256(model: Arrays) -> str:
    """Return sha256 over the arrays' bytes in name order, in hexadecimal."""
    hash_ = hashlib.sha256()
    for name in sorted(model):
        hash_.update(np.ascontiguousarray(model[name]).tobytes())
    return hash_.hexdigest()
