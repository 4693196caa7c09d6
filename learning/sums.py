"""Arithmetic that strategies share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
import xxhash

from loaders.rows import Array, Arrays, bytes_of

from .contract import Solution
from .errors import MergeError
from .layout import BLOCK, Layout, blocks, endless

#: Whole numbers up to this are exact in float64; numbers from this on may overflow when summed.
_EXACT, _LARGE, _SHIFT = 1 << 53, 2.0**900, 120
_rounded = np.frompyfunc(lambda number, total: round(Fraction(number, total)), 2, 1)


class _Sum:
    """A sum of arrays, each taken so many times: in float64, and exact where that would not do.

    Whole numbers beyond 2**53 are summed as Python's; numbers that would overflow are made smaller
    by a power of two, which changes no bit of theirs. Of float64 that is equal in all arrays, as
    what is known of the whole data, a sum that is divided again would be near, and not equal: it
    is told by a digest, which costs no memory.
    """

    def __init__(self, like: Array) -> None:
        self._dtype = like.dtype.name
        self._whole, self._most, self._shift = like.dtype.kind in "iu", 0, 0
        kind = np.complex128 if like.dtype.kind == "c" else np.float64
        # Not 0.0: that and -0.0 are 0.0, and the sum of negative zeros has to be one.
        self._sum: Array = np.full(like.shape, -0.0, kind)
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
        if self._wide and not self._shift and any(np.abs(b).max() > _LARGE for b in blocks(array)):
            self._shift = _SHIFT
            self._sum *= 2.0**-_SHIFT
        scale, kind = times * 2.0**-self._shift, self._sum.dtype
        buffer = np.empty(min(BLOCK, array.size), kind)
        for sum_, block in zip(blocks(self._sum), blocks(array), strict=True):
            scaled = np.multiply(block, scale, out=buffer[: block.size], dtype=kind)
            np.add(sum_, scaled, out=sum_)

    def mean(self, total: int) -> Array:
        """Return the sum of so many, divided by their number, as they are; asked for once."""
        if self._each is not None:
            return self._each
        if self._sum.dtype == object:
            return as_type(np.asarray(_rounded(self._sum, total), object), self._dtype)
        self._sum /= total
        self._sum *= 2.0**self._shift
        return as_type(self._sum, self._dtype)


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
    total = sum(map(partial(_added, sums), checked(solutions)))
    if not total:
        raise MergeError("nothing to merge: no solution with any example")
    return {name: sums.pop(name).mean(total) for name in list(sums)}


def plain_mean(arrays: Iterable[Array]) -> Array:
    """Return the mean of arrays of one type and shape, which all count alike; at least one."""
    of, count = None, 0
    for array in arrays:
        of, count = of or _Sum(array), count + 1
        of.add(array, 1)
    assert of is not None
    return of.mean(count)


def alike_mean(solutions: Sequence[Solution]) -> Arrays:
    """Return the mean of solutions that fit together, all of which count alike; at least one."""
    return {n: plain_mean(each.arrays[n] for each in solutions) for n in solutions[0].arrays}


def real(array: Array) -> Array:
    """Return an array's numbers in order, complex ones as two; themselves if contiguous."""
    return np.ascontiguousarray(array.reshape(-1)).view(array.real.dtype)


def _added(sums: dict[str, _Sum], solution: Solution) -> int:
    """Add a solution to sums by name; return how many examples it is of."""
    if not sums:
        sums.update({name: _Sum(array) for name, array in solution.arrays.items()})
    for name, array in solution.arrays.items():
        sums[name].add(array, solution.examples)
    return solution.examples


def checked(solutions: Iterable[Solution]) -> Iterator[Solution]:
    """Return solutions that fit together, one at a time: none is held when the next is read.

    Raises:
        MergeError: one is no numbers, or is laid out otherwise than the first.
    """
    return map(_Fitting(), solutions)


class _Fitting:
    """Lets solutions pass that are laid out as the first one."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._seen = 0

    def __call__(self, solution: Solution) -> Solution:
        self._layout, self._seen = self._layout or Layout(solution.arrays), self._seen + 1
        wrong = _not_numbers(solution) or self._layout.difference(solution.arrays)
        wrong = wrong or endless(solution.arrays)
        if wrong:
            raise MergeError(f"solution {self._seen} does not fit the first: {wrong}")
        return solution


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
