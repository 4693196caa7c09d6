"""Arithmetic that strategies share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import xxhash

from loaders.rows import Array, Arrays, bytes_of

from .contract import Solution
from .errors import MergeError
from .layout import Layout, endless

#: Whole numbers up to this are exact in float64; numbers from this on may overflow when summed.
_EXACT, _LARGE, _SHIFT = 1 << 53, 2.0**900, 120
#: Numbers that are computed with at once: what is made of them on the way is small, and near.
BLOCK = 1 << 16
_rounded = np.frompyfunc(lambda number, total: round(Fraction(number, total)), 2, 1)


class _Sum:
    """A sum of arrays, each taken so many times: in float64, and exact where that would not do.

    Whole numbers beyond 2**53 are summed as Python's; numbers that would overflow are made smaller
    by a power of two, which changes no bit of theirs. Of float64 that is equal in all arrays, as
    what is known of the whole data, a sum that is divided again would be near, and not equal: it
    is told by a digest, which costs no memory.
    """

    def __init__(self, like: Array) -> None:
        self._whole, self._most, self._shift = like.dtype.kind in "iu", 0, 0
        kind = np.complex128 if like.dtype.kind == "c" else np.float64
        self._sum: Array = np.zeros(like.shape, kind)
        #: Whether numbers may be too large for sums, and whether equal ones may have another mean.
        self._wide = like.dtype.kind in "fc" and like.dtype.itemsize >= kind().itemsize
        self._rounds = self._wide
        #: All arrays so far, if they are equal; and the digest of the first.
        self._each: Array | None = None
        self._digest = b""

    def add(self, array: Array, times: int) -> None:
        """Add an array, so many times."""
        if self._rounds:
            digest = xxhash.xxh3_128_digest(bytes_of(array))
            self._digest = self._digest or digest
            self._each = array if digest == self._digest else None
            self._rounds = self._each is not None
        if self._whole:
            if array.size:
                self._most += max(int(array.max()), -int(array.min())) * times
            if self._most > _EXACT and self._sum.dtype != object:
                self._sum = np.asarray(self._sum.astype(np.int64), object)
            kind = self._sum.dtype
            self._sum = np.asarray(self._sum + array.astype(kind) * times, kind)
            return
        parts = list(zip(blocks(self._sum), blocks(array), strict=True))
        if self._wide and not self._shift and any(np.abs(b).max() > _LARGE for _, b in parts):
            self._shift = _SHIFT
            self._sum *= 2.0**-_SHIFT
        for sum_, block in parts:
            wide = block.astype(sum_.dtype)
            if self._shift:
                wide *= 2.0**-_SHIFT
            wide *= times
            np.add(sum_, wide, out=sum_)

    def mean(self, total: int) -> Array:
        """Return the sum of so many, divided by their number; asked for once."""
        if self._each is not None:
            return self._each
        if self._sum.dtype == object:
            return np.asarray(_rounded(self._sum, total), object)
        self._sum /= total
        self._sum *= 2.0**self._shift
        return self._sum


def blocks(array: Array) -> Iterator[Array]:
    """Yield an array's numbers in order, some at a time; where it is contiguous, themselves."""
    flat = array.reshape(-1)
    for first in range(0, flat.size, BLOCK):
        yield flat[first : first + BLOCK]


def weighted_mean(solutions: Iterable[Solution]) -> Arrays:
    """Return the mean of the solutions' arrays, weighted by their examples.

    Sums in float64 and in the order given, so that equal solutions in equal order make equal
    bits; memory is one solution and one sum, however many solutions there are. Whole numbers are
    rounded. The mean of equal arrays is what they are, to the bit.

    Raises:
        MergeError: no solution, no examples, arrays that don't fit together, or that are of no
            numbers.
    """
    sums: dict[str, _Sum] = {}
    dtypes: dict[str, str] = {}
    total = 0
    for solution in checked(solutions):
        if not sums:
            dtypes = {name: array.dtype.name for name, array in solution.arrays.items()}
            sums = {name: _Sum(array) for name, array in solution.arrays.items()}
        for name, array in solution.arrays.items():
            sums[name].add(array, solution.examples)
        total += solution.examples
        del solution  # before the next is read
    if not total:
        raise MergeError("nothing to merge: no solution with any example")
    return {name: as_type(sums.pop(name).mean(total), dtypes[name]) for name in list(sums)}


def checked(solutions: Iterable[Solution]) -> Iterator[Solution]:
    """Yield solutions that fit together, one at a time.

    Raises:
        MergeError: one is no numbers, or is laid out otherwise than the first.
    """
    layout: Layout | None = None
    for number, solution in enumerate(solutions, 1):
        layout = layout or Layout(solution.arrays)
        wrong = _not_numbers(solution) or layout.difference(solution.arrays)
        wrong = wrong or endless(solution.arrays)
        if wrong:
            raise MergeError(f"solution {number} does not fit the first: {wrong}")
        yield solution


def _not_numbers(solution: Solution) -> str:
    """Return what of a solution is no number that has a mean, in words; empty if nothing is."""
    if not (solution.examples >= 0 and math.isfinite(solution.examples)):
        return f"it has {solution.examples} examples"
    for name, array in solution.arrays.items():
        if array.dtype.kind not in "biufc":
            return f"array {name!r} is of {array.dtype}, which has no mean"
    return ""


def as_type(array: Array, dtype: str) -> Array:
    """Return sums or means as an array of some type: rounded where it is of whole numbers."""
    rounds = np.dtype(dtype).kind in "iub" and array.dtype != object
    return np.asarray(np.rint(array) if rounds else array).astype(dtype)
