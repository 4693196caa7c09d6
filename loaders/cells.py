"""What the values of a field are like, added up block by block: range, mean, what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .rows import Array, Field

#: Of so many channels at most each is told apart.
CHANNELS = 4
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Numbers:
    """What the cells of a column, of a channel, or of a whole field are like.

    Args:
        name: of the column or channel; empty: it is the whole field.
        cells: numbers that are finite.
        missing: not-a-numbers.
        infinite: of either sign.
        mean, deviation: of the finite ones, the latter over their count; not-a-number: there are
            none.
        least, most: of the finite ones; None: there are none.
        constant: whether every cell is equal to every other; missing ones are.
        rising: whether it is one cell a row, and each is more (or each less) than the one before.
    """

    name: str
    cells: int
    missing: int
    infinite: int
    mean: float
    deviation: float
    least: float | None
    most: float | None
    constant: bool
    rising: bool


@dataclass(frozen=True)
class FieldFound:
    """What the values of a field are like in some rows.

    Args:
        parts: for each column of a table, for each of up to `CHANNELS` channels of pictures; else
            one, of all cells.
        cells: of one row.
        constant: cells of a row that are the same in every row.
    """

    parts: tuple[Numbers, ...]
    cells: int
    constant: int


class Seen(NamedTuple):
    """What there is to see of the rows of a block: true or false, shape (n,).

    Args:
        broken: whether a cell is missing or infinite.
        plain: whether there are several cells, all equal; of several channels, several pixels.
    """

    broken: npt.NDArray[np.bool_]
    plain: npt.NDArray[np.bool_]


def cells_of(shape: Sequence[int]) -> int:
    """Return how many cells there are in an array of some shape."""
    return math.prod(shape)


def parts_of(field: Field) -> tuple[str, ...]:
    """Return the names of the parts of a field that are told apart; one without a name: it all."""
    if len(field.shape) == 1:
        return field.columns or tuple(f"column {each + 1}" for each in range(field.shape[0]))
    if len(field.shape) == 3 and 1 < field.shape[2] <= CHANNELS:
        many = field.shape[2]
        return _COLOURS if many == 3 else tuple(f"channel {each + 1}" for each in range(many))
    return ("",)


class Cells:
    """The cells of a field, added up.

    Args:
        field: what it is in a row.
    """

    def __init__(self, field: Field) -> None:
        self._names, self._cells = parts_of(field), cells_of(field.shape)
        parts = len(self._names)
        #: Whether each part is one cell of a row.
        self._alone = parts == self._cells
        #: Cells, or those of all channels together.
        self._pixels = self._cells if self._alone or not parts else self._cells // parts
        self._rows = 0
        self._finite, self._missing, self._infinite = np.zeros((3, parts), np.int64)
        self._mean, self._squares = np.zeros((2, parts))
        self._least: Array | None = None
        self._most: Array | None = None
        self._first: Array | None = None
        self._last: Array | None = None
        #: Which cells are as in the first row in all others; which only rise, and only fall.
        self._same = np.ones(self._cells, bool)
        self._rises, self._falls = np.ones((2, self._cells), bool)

    def add(self, array: Array) -> Seen:
        """Add rows, at least one; shape (n, ...) as the field says."""
        flat = array.reshape(len(array), self._cells)
        self._rows += len(flat)
        if not self._cells:
            none = np.zeros(len(flat), bool)
            return Seen(none, none)
        nan = np.isnan(flat) if flat.dtype.kind == "f" else None
        finite = None if nan is None else np.isfinite(flat)
        self._compare(flat, nan)
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are all but infinite
            self._add_up(flat, finite, nan)
        broken, plain = np.zeros((2, len(flat)), bool)
        if finite is not None:
            broken |= ~finite.all(axis=1)
        if self._pixels > 1:
            pixels = flat.reshape(len(flat), self._pixels, -1)
            plain |= (pixels == pixels[:, :1]).all(axis=(1, 2))
        return Seen(broken, plain)

    def _compare(self, flat: Array, nan: npt.NDArray[np.bool_] | None) -> None:
        """Compare rows with the first, and each with the one before."""
        if self._first is None:
            self._first = flat[0].copy()
        same = flat == self._first
        if nan is not None:
            same |= nan & np.isnan(self._first)
        self._same &= same.all(axis=0)
        if self._alone:
            run = flat if self._last is None else np.concatenate([self._last, flat])
            self._rises &= (run[1:] > run[:-1]).all(axis=0)
            self._falls &= (run[1:] < run[:-1]).all(axis=0)
            self._last = flat[-1:].copy()

    def _add_up(
        self, flat: Array, finite: npt.NDArray[np.bool_] | None, nan: npt.NDArray[np.bool_] | None
    ) -> None:
        """Add rows to count, mean and squares: each block's own, put together as Chan et al. do.

        Source: T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances", 1979.
        """
        cells = _by_part(flat, len(self._names))
        low = high = cells
        values = cells.astype(np.float64)
        count = np.full(len(cells), cells.shape[1], np.int64)
        there = None
        if finite is not None and nan is not None and not finite.all():
            there, missing = _by_part(finite, len(cells)), _by_part(nan, len(cells))
            count = there.sum(axis=1)
            self._missing += missing.sum(axis=1)
            self._infinite += (~there & ~missing).sum(axis=1)
            values[~there] = 0
            low, high = np.where(there, cells, np.inf), np.where(there, cells, -np.inf)
        mean = values.sum(axis=1) / np.maximum(count, 1)
        values -= mean[:, None]
        if there is not None:
            values[~there] = 0
        squares = np.square(values, out=values).sum(axis=1)
        total = np.maximum(self._finite + count, 1)
        apart = mean - self._mean
        self._squares += squares + np.square(apart) * (self._finite / total * count)
        self._mean += apart * (count / total)
        self._finite += count
        least, most = low.min(axis=1), high.max(axis=1)
        self._least = least if self._least is None else np.minimum(self._least, least)
        self._most = most if self._most is None else np.maximum(self._most, most)

    def found(self) -> FieldFound:
        """Return what all rows so far are like."""
        parts = tuple(self._part(each) for each in range(len(self._names)))
        return FieldFound(parts, self._cells, int(self._same.sum()) if self._rows else 0)

    def _part(self, part: int) -> Numbers:
        count, missing = int(self._finite[part]), int(self._missing[part])
        infinite = int(self._infinite[part])
        least, most = (
            None if found is None or not count else _plain(found[part])
            for found in (self._least, self._most)
        )
        if self._alone:
            constant = self._rows > 0 and bool(self._same[part])
        else:
            constant = not infinite and (missing == 0 < count or count == 0 < missing)
            constant = constant and least == most
        return Numbers(
            name=self._names[part], cells=count, missing=missing, infinite=infinite,
            mean=float(self._mean[part]) if count else math.nan,
            deviation=math.sqrt(self._squares[part] / count) if count else math.nan,
            least=least, most=most, constant=constant,
            rising=self._alone and self._rows > 1
            and bool(self._rises[part] or self._falls[part]),
        )  # fmt: skip


def _plain(value: np.generic) -> float:
    """Return a number as Python's: whole ones exactly."""
    return float(value) if value.dtype.kind == "f" else int(value)


def _by_part(flat: Array, parts: int) -> Array:
    """Return the cells of rows by part, those of each one after the other: sums are quick so."""
    return np.ascontiguousarray(flat.reshape(-1, parts).T)
