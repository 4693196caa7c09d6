"""What can be said of all rows of some data: whether they are finite, their range and moments.

Rows are read some at a time, always as many, in order: equal rows give equal bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from loaders.rows import Array, Rows

from .errors import UnfitData
from .forms import Table

Floats = npt.NDArray[np.float64]

#: The most that a byte can be.
WHITE = 255
#: Numbers that are looked at together.
_TOGETHER = 1 << 22
#: Numbers beyond this count as this: their squares have a sum.
MOST = 1e140
#: Deviations from the mean beyond this count as this.
MOST_DEVIATIONS = 10.0
#: Pictures of bytes that are no more than this are dim: they are taken by their own range, 0 to 1
#: or 0 to 16, say, for as parts of 255 they would be all but black.
DIM = 127


def _blocks(rows: Rows) -> Iterator[tuple[int, Array]]:
    """Yield all rows, some at a time: the place of the first, and their one field."""
    (field,) = rows.form.fields.values()
    size = max(1, _TOGETHER // max(1, math.prod(field.shape)))
    first = 0
    for fields, _ in rows.batches(size, buffer=size):
        (array,) = fields.values()
        yield first, array
        first += len(array)


def check_numbers(rows: Rows, table: Table | None) -> None:
    """Raise unless all numbers can be computed with.

    Args:
        rows: of one field.
        table: whose they are: missing numbers may be among them; None: they are of pictures.

    Raises:
        UnfitData: some are not finite; the row is named, and the column.
    """
    (field,) = rows.form.fields.values()
    if np.dtype(field.dtype).kind != "f":
        return
    for first, array in _blocks(rows):
        bad = np.isinf(array) if table is not None else ~np.isfinite(array)
        if bad.any():
            place = tuple(int(each) for each in np.argwhere(bad)[0])
            row = first + place[0]
            if rows.numbers is not None:
                row = int(rows.numbers[row])
            raise UnfitData(_told(row, array[place], table, place[1]))


def _told(row: int, value: object, table: Table | None, column: int) -> str:
    """Return what is wrong with a number, in a sentence."""
    if table is None:
        return (
            f"row {row} (counted from 0): one of its pixels is {value}, and no number that can be"
            " learned from; leave the row out, or put something else there"
        )
    return (
        f"column {table.columns[column]!r}: row {row} (counted from 0) has {value} in it; numbers"
        " must be finite, and what is missing not a number (an empty cell)"
    )


def bounds(rows: Rows) -> tuple[float, float]:
    """Return the least and the largest of all numbers; of no rows, infinite ones."""
    low, high = math.inf, -math.inf
    for _, array in _blocks(rows):
        low, high = min(low, float(array.min())), max(high, float(array.max()))
    return low, high


def white_of(rows: Rows) -> int:
    """Return what is white in pictures of bytes: 255, or of dim ones the most that there is.

    It is 255, too, where all are black.
    """
    most = 0
    for _, array in _blocks(rows):
        most = max(most, int(array.max(initial=0)))
        if most > DIM:
            break
    return most if 0 < most <= DIM else WHITE


def moments(rows: Rows) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each column, or of each channel of pictures.

    What is missing (not a number) counts for nothing. One that is the same in all rows has a
    deviation of 0.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
    sample variances".

    Args:
        rows: of one field: (columns,), (height, width) or (height, width, channels).

    Returns:
        float64, shape (columns,) or (channels,), each.
    """
    (field,) = rows.form.fields.values()
    width = field.shape[0] if len(field.shape) == 1 else (*field.shape, 1)[2]
    count, mean, squares = np.zeros(width), np.zeros(width), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    base: Floats | None = None  # what all are counted from: near them, so that no digits are lost
    for _, array in _blocks(rows):
        values = np.clip(array.reshape(-1, width).astype(np.float64), -MOST, MOST)
        there = ~np.isnan(values)
        if base is None:
            base = np.where(there, values, MOST).min(axis=0)
            base = np.where(there.any(axis=0), base, 0)
        values = values - base
        low = np.minimum(low, np.where(there, values, np.inf).min(axis=0))
        high = np.maximum(high, np.where(there, values, -np.inf).max(axis=0))
        more = there.sum(axis=0).astype(np.float64)
        own = np.where(there, values, 0).sum(axis=0) / np.maximum(more, 1)
        spread = (np.where(there, values - own, 0) ** 2).sum(axis=0)
        total = np.maximum(count + more, 1)
        apart = own - mean
        squares += spread + apart**2 * (count / total) * more
        mean, count = mean + apart * (more / total), count + more
    same = low >= high
    mean = np.where(count == 0, 0, np.where(same, low, mean) + (0 if base is None else base))
    return mean, np.where(same, 0, np.sqrt(squares / np.maximum(count, 1)))


def standardised(array: Array, mean: Floats, deviation: Floats) -> npt.NDArray[np.float32]:
    """Return rows in deviations from the mean, 10 at most; 0 where missing, or without deviation.

    Args:
        array: shape (n, columns), (n, height, width) or (n, height, width, channels).
        mean, deviation: float64, of each column or channel.
    """
    shape = array.shape
    if len(shape) == 3:
        array = array[..., None]
    values = np.clip(array.astype(np.float64), -MOST, MOST) - mean
    with np.errstate(over="ignore"):
        values = values / np.where(deviation > 0, deviation, np.inf)
    values = np.clip(np.nan_to_num(values, nan=0.0), -MOST_DEVIATIONS, MOST_DEVIATIONS)
    return values.astype(np.float32).reshape(shape)
