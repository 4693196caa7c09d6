"""What the arrays of a model must be, made from a fresh one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from loaders.rows import Array, Arrays
from protocol.wire.limits import ARRAY_NAME_LETTERS

from .durable import DTYPES
from .errors import Diverged, UnfitSolution

#: So begin the names of what a strategy keeps of a shard; a model's don't.
OWN = "own/"
#: Of a fresh model, as it comes from a node.
MOST_ARRAYS = 2_600
#: Numbers that are computed with at once: what is made of them on the way is small, and near.
BLOCK = 1 << 15
#: A job carries the model up to three times, under longer names: so many letters and empty arrays.
_NAME_LETTERS, _MOST_EMPTY = ARRAY_NAME_LETTERS - 8, 160


def blocks(array: Array) -> Iterator[Array]:
    """Yield an array's numbers in order, some at a time; where it is contiguous, themselves."""
    flat = array.reshape(-1)
    for first in range(0, flat.size, BLOCK):
        yield flat[first : first + BLOCK]


class Layout(Mapping[str, tuple[str, tuple[int, ...]]]):
    """Element type and shape of each array, by name.

    Args:
        of: arrays.
    """

    def __init__(self, of: Arrays) -> None:
        self._each = {name: (array.dtype.name, array.shape) for name, array in of.items()}

    def __getitem__(self, name: str) -> tuple[str, tuple[int, ...]]:
        return self._each[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._each)

    def __len__(self) -> int:
        return len(self._each)

    @property
    def nbytes(self) -> int:
        """How many bytes they have together."""
        return sum(
            math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in self._each.values()
        )

    def check(self, arrays: Arrays, whose: str = "the model") -> None:
        """Raise unless arrays, from whomever, are laid out so, and finite.

        Args:
            arrays: by name.
            whose: they should be, in words.

        Raises:
            UnfitSolution: they are others, in words.
            Diverged: they hold numbers that are not finite.
        """
        wrong = self.difference(arrays, whose)
        if wrong:
            raise UnfitSolution(wrong)
        wrong = endless(arrays)
        if wrong:
            raise Diverged(wrong)

    def difference(self, arrays: Arrays, whose: str = "the model") -> str:
        """Return how arrays differ from what they must be, in words; empty if they don't."""
        if arrays.keys() != self._each.keys():
            odd = ", ".join(sorted(arrays.keys() ^ self._each.keys())[:5])
            return f"its arrays are not those of {whose}: {odd}"
        for name, (dtype, shape) in self._each.items():
            array = arrays[name]
            if (array.dtype.name, array.shape) != (dtype, shape):
                was = f"{array.dtype.name} of shape {array.shape}"
                return f"array {name!r} of {whose} is {was}, not {dtype} of {shape}"
        return ""


def endless(arrays: Arrays) -> str:
    """Return which array holds numbers that are not finite, in words; empty if none does."""
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not all(np.isfinite(b).all() for b in blocks(array)):
            return (
                f"array {name!r} holds numbers that are not finite: its training diverged;"
                " try a smaller learning rate"
            )
    return ""


def check_fresh(arrays: Arrays) -> None:
    """Raise unless arrays, from whomever, can be a fresh model's.

    Raises:
        UnfitSolution: they can't.
        Diverged: they hold numbers that are not finite.
    """
    check_kept(arrays)
    long = [name for name in arrays if len(name) > _NAME_LETTERS or not name.isprintable()]
    if long:
        raise UnfitSolution(f"array {long[0]!r:.80}: a name of more than {_NAME_LETTERS} letters")
    if sum(not array.size for array in arrays.values()) > _MOST_EMPTY:
        raise UnfitSolution(f"a model of more than {_MOST_EMPTY} empty arrays")
    taken = [name for name in arrays if name.startswith(OWN)]
    if taken:
        raise UnfitSolution(f"array {taken[0]!r}: {OWN}... is what a shard's own arrays are called")
    wrong = endless(arrays)
    if wrong:
        raise Diverged(wrong)


def check_kept(arrays: Arrays) -> None:
    """Raise unless arrays can be kept on disk.

    Raises:
        UnfitSolution: they can't.
    """
    if len(arrays) > MOST_ARRAYS:
        raise UnfitSolution(f"{len(arrays):,} arrays, more than {MOST_ARRAYS:,}")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray | np.generic):
            raise UnfitSolution(f"{name!r} is no array, but {type(array).__name__}")
        if array.dtype.name not in DTYPES:
            raise UnfitSolution(f"array {name!r} is of {array.dtype}, which can't be kept")
