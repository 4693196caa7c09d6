"""Ways to merge solutions into one model: a class each, its source in the docstring."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Arrays, Layout, Solution
from .errors import Diverged, MergeError, UnfitSolution


class WeightedMean:
    """The mean of the solutions' arrays, weighted by their examples.

    Sums in float64 and in the order given, so that equal solutions in equal order make equal
    bits; memory is one solution and one sum, however many solutions there are.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", algorithm 1 (FederatedAveraging).
    """

    def merge(self, solutions: Iterable[Solution], before: Arrays | None = None) -> Arrays:
        """Return the mean, each array in the type of the first solution's; forget what was before.

        Raises:
            MergeError: no solution, no examples, or arrays that don't fit together.
        """
        sums: dict[str, npt.NDArray[np.float64]] = {}
        layout: Layout = {}
        total = 0
        for number, solution in enumerate(solutions, 1):
            if number == 1:
                layout = {n: (a.dtype.name, a.shape) for n, a in solution.arrays.items()}
                sums = {n: np.zeros(a.shape, np.float64) for n, a in solution.arrays.items()}
            wrong = _difference(solution.arrays, layout) or _endless(solution.arrays)
            if solution.examples < 0:
                wrong = f"it has {solution.examples} examples"
            if wrong:
                raise MergeError(f"solution {number} does not fit the first: {wrong}")
            for name, array in solution.arrays.items():
                sums[name] += array.astype(np.float64) * solution.examples
            total += solution.examples
        if not total:
            raise MergeError("nothing to merge: no solution with any example")
        return {name: _cast(array / total, layout[name][0]) for name, array in sums.items()}


def check(solution: Solution, layout: Layout, examples: int) -> None:
    """Raise unless a solution is what its job asked for.

    Args:
        solution: whatever a computing node sent.
        layout: what its arrays must be.
        examples: the rows of its shard: its weight when merged.

    Raises:
        UnfitSolution: it is not, in words.
        Diverged: it holds numbers that are not finite.
    """
    check_examples(solution, examples)
    wrong = _difference(solution.arrays, layout)
    if wrong:
        raise UnfitSolution(wrong)
    wrong = _endless(solution.arrays)
    if wrong:
        raise Diverged(wrong)


def check_examples(solution: Solution, examples: int) -> None:
    """Raise unless a solution is of so many examples.

    Raises:
        UnfitSolution: it is of others.
    """
    if solution.examples != examples:
        raise UnfitSolution(f"it claims {solution.examples} examples of a shard of {examples}")


def _difference(arrays: Arrays, layout: Layout) -> str:
    """Return how arrays differ from what they must be, in words; empty if they don't."""
    if arrays.keys() != layout.keys():
        odd = ", ".join(sorted(arrays.keys() ^ layout.keys())[:5])
        return f"its arrays are not those of the model: {odd}"
    for name, (dtype, shape) in layout.items():
        array = arrays[name]
        if (array.dtype.name, array.shape) != (dtype, shape):
            was = f"{array.dtype.name} of shape {array.shape}"
            return f"array {name!r} is {was}, not {dtype} of {shape}"
    return ""


def _endless(arrays: Arrays) -> str:
    """Return which array holds numbers that are not finite, in words; empty if none does."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return (
                f"array {name!r} holds numbers that are not finite: its training diverged;"
                " try a smaller learning rate"
            )
    return ""


def _cast(array: npt.NDArray[np.float64], dtype: str) -> npt.NDArray[Any]:
    return (np.rint(array) if np.dtype(dtype).kind in "iub" else array).astype(dtype)


def sha256(model: Arrays) -> str:
    """Return sha256 over the arrays' bytes in name order, in hexadecimal."""
    hash_ = hashlib.sha256()
    for name in sorted(model):
        hash_.update(np.ascontiguousarray(model[name]).tobytes())
    return hash_.hexdigest()
