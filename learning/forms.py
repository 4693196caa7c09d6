"""The forms of data that the learners which come along take: pictures and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UnfitData

if TYPE_CHECKING:
    from loaders.rows import Array, Form, Rows

#: Channels of a picture, at most: red, green, blue and one more.
MOST_CHANNELS = 4
#: Numbers of a picture, at most: 4,096 x 4,096 of grey. A row must fit into memory many times.
MOST_VALUES = 1 << 24
#: Columns of a table, at most.
MOST_COLUMNS = 1 << 16
_TAKES = (
    f"pictures (one field: height x width, or height x width x channels, 1 to {MOST_CHANNELS} of"
    " them, which come last) and tables (one field: columns)"
)


@dataclass(frozen=True)
class Picture:
    """Rows that are pictures.

    Args:
        dtype: numpy's name of the element type.
        height, width: in pixels, 1 or more each.
        channels: 1 to `MOST_CHANNELS`; grey ones have one, with an axis of its own or without.
    """

    dtype: str
    height: int
    width: int
    channels: int

    @property
    def is_bytes(self) -> bool:
        """Whether they go from 0 to 255: what they mean is known without looking at them."""
        return self.dtype == "uint8"

    @property
    def is_grey(self) -> bool:
        """Whether there is one channel."""
        return self.channels == 1


@dataclass(frozen=True)
class Table:
    """Rows of a table of numbers; what is missing is not a number.

    Args:
        dtype: numpy's name of the element type.
        columns: what they are called.
    """

    dtype: str
    columns: tuple[str, ...]


def taken(form: Form, whose: str) -> Picture | Table:
    """Return what rows are.

    Args:
        form: of the rows.
        whose: learner wants them, for the message.

    Raises:
        UnfitData: neither pictures nor a table, or too large ones; it says what is taken.
    """
    found = _found(form)
    if found is None:
        raise UnfitData(f"the {whose} learner takes {_TAKES}; a row of this data is {form.tell()}")
    if isinstance(found, Picture):
        values = found.height * found.width * found.channels
        if values > MOST_VALUES:
            raise UnfitData(
                f"the {whose} learner takes pictures of up to {MOST_VALUES:,} numbers; these have"
                f" {values:,} each: make them smaller"
            )
    elif len(found.columns) > MOST_COLUMNS:
        raise UnfitData(
            f"the {whose} learner takes tables of up to {MOST_COLUMNS:,} columns; a row of this"
            f" data is {form.tell()}"
        )
    return found


def _found(form: Form) -> Picture | Table | None:
    if len(form.fields) != 1:
        return None
    (only,) = form.fields.values()
    shape = only.shape
    if not all(shape):
        return None
    if len(shape) == 1:
        names = tuple(only.columns)
        few = range(min(shape[0], MOST_COLUMNS + 1))  # of somebody's form, that may say anything
        return Table(only.dtype, names or tuple(f"column {number}" for number in few))
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels > MOST_CHANNELS:
        return None
    return Picture(only.dtype, shape[0], shape[1], channels)


def only_field(rows: Rows) -> Array:
    """Return the one field of rows that have no other."""
    (array,) = rows.arrays.values()
    return array
