"""How data become terms: which constants a row of a table, or an image, is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.rows import Array

from ..errors import ModelError

Bools = npt.NDArray[np.bool_]

#: Grey above this is "on", of 255: a tenth, as in the sources' experiments.
ON = 25.6
#: Thresholds of grey, at most.
MOST_LEVELS = 16
#: At most so many thresholds of a numeric column by default.
LEVELS = 16
#: Rows whose constants are told together.
_TOGETHER = 4096
_WHITE = 255
#: What channels of pictures are called, by how many there are.
_CHANNELS = {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


@dataclass(frozen=True)
class Numeric:
    """A column of numbers, by a thermometer code: two constants for each threshold.

    Args:
        thresholds: ascending. A value has the constant "above" of each threshold that it is
            above, and the constant "not above" of each other: so has one that is missing.
        missing: whether values may be missing (not a number): two more constants say which are.
    """

    thresholds: tuple[float, ...]
    missing: bool = False

    @property
    def constants(self) -> int:
        """How many constants the column has."""
        return 2 * (len(self.thresholds) + self.missing)

    def bits(self, values: Array) -> Bools:
        """Return which constants each value has, bool, shape (n, constants)."""
        numbers = values.astype(np.float64)
        above = numbers[:, None] > np.array(self.thresholds)
        parts = [above, ~above]
        if self.missing:
            unknown = np.isnan(numbers)[:, None]
            parts += [unknown, ~unknown]
        return np.concatenate(parts, axis=1)

    def name(self, constant: int) -> str:
        """Return what a constant says of the column, e.g. `> 25.6`."""
        levels = len(self.thresholds)
        if constant >= 2 * levels:
            return "is missing" if constant == 2 * levels else "is there"
        sign = ">" if constant < levels else "<="
        return f"{sign} {self.thresholds[constant % levels]:g}"


@dataclass(frozen=True)
class Categorical:
    """A column of names: a constant for each, and one for a name that was not there.

    Args:
        values: the names.
    """

    values: tuple[Any, ...]

    @property
    def constants(self) -> int:
        """How many constants the column has."""
        return len(self.values) + 1

    def bits(self, values: Array) -> Bools:
        """Return which constants each value has, bool, shape (n, constants)."""
        known = np.stack([values == value for value in self.values], axis=1).astype(bool)
        return np.concatenate([known, ~known.any(axis=1, keepdims=True)], axis=1)

    def name(self, constant: int) -> str:
        """Return what a constant says of the column, e.g. `= red`."""
        if constant == len(self.values):
            return "= a name never seen"
        return f"= {self.values[constant]}"


@dataclass(frozen=True)
class TableEmbedding:
    """The embedding of a table, column by column.

    Args:
        columns: of the table, in order.
        names: of the columns.
    """

    columns: tuple[Numeric | Categorical, ...]
    names: tuple[str, ...]
    _starts: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = np.cumsum([0] + [column.constants for column in self.columns])
        object.__setattr__(self, "_starts", starts.tolist())

    @property
    def constants(self) -> int:
        """How many constants a term is chosen from; classes come after them."""
        return self._starts[-1]

    @classmethod
    def of(
        cls, table: Array, labels: Array, categorical: Iterable[int] = (),
        levels: int = LEVELS, names: Sequence[str] | None = None, missing: bool = False,
    ) -> TableEmbedding:  # fmt: skip
        """Return an embedding that fits a table.

        Where rows of different labels would become the same term, a threshold is added in the
        numeric column that tells them apart best.

        Args:
            table: shape (rows, columns); numbers, or objects where columns differ in type.
            labels: shape (rows,).
            categorical: numbers of the columns whose values are names; those that hold texts
                are without being named.
            levels: thresholds of a numeric column, at most, at its quantiles.
            names: of the columns.
            missing: whether numbers may be missing (not a number).
        """
        chosen = set(categorical)
        columns: list[Numeric | Categorical] = []
        for number in range(table.shape[1]):
            values = table[:, number]
            text = table.dtype.kind in "OUS" and any(isinstance(v, (str, bytes)) for v in values)
            if number in chosen or text:
                columns.append(Categorical(tuple(dict.fromkeys(values.tolist()))))
            else:
                numbers = values.astype(np.float64)
                there = numbers[~np.isnan(numbers)] if missing else numbers
                if not np.isfinite(there).all():
                    raise ValueError(f"column {number}: a value is missing, or not finite")
                columns.append(Numeric(_thresholds(there, levels), len(there) < len(numbers)))
        titles = tuple(names or (f"x{k}" for k in range(table.shape[1])))
        while True:
            embedding = cls(tuple(columns), titles)
            more = embedding._distinctions(table, labels)
            if not more:
                return embedding
            for column, thresholds in more.items():
                old = columns[column]
                assert isinstance(old, Numeric)
                every = tuple(sorted(thresholds.union(old.thresholds)))
                columns[column] = Numeric(every, old.missing)

    def _distinctions(self, table: Array, labels: Array) -> dict[int, set[float]]:
        """Return further thresholds, by column, that rows of different labels need."""
        other = first_equal(packed(self, table))
        numeric = [k for k, column in enumerate(self.columns) if isinstance(column, Numeric)]
        # Of two rows that are equal so far, a number is missing in both or in none.
        numbers = np.nan_to_num(table[:, numeric].astype(np.float64), posinf=None, neginf=None)
        tiny = np.finfo(float).tiny
        scaled = numbers / np.maximum(np.abs(numbers).max(axis=0, initial=0), tiny)
        scaled /= np.maximum(np.ptp(scaled, axis=0), tiny) if len(table) else 1
        more: dict[int, set[float]] = {}
        for row in np.flatnonzero(labels != labels[other]):
            apart = np.abs(scaled[row] - scaled[other[row]])
            if len(apart) and apart.max() > 0:
                best = int(np.argmax(apart))
                low, high = sorted([numbers[row, best], numbers[other[row], best]])
                middle = low / 2 + high / 2
                threshold = float(middle if middle < high else low)
                more.setdefault(numeric[best], set()).add(threshold)
        return more

    def bits(self, table: Array) -> Bools:
        """Return the terms of a table's rows, bool, shape (rows, constants).

        Raises:
            ModelError: it has another number of columns.
        """
        if table.ndim != 2 or table.shape[1] != len(self.columns):
            raise ModelError(f"{table.shape[-1]} columns; the model is of {len(self.columns)}")
        parts = [column.bits(table[:, k]) for k, column in enumerate(self.columns)]
        return np.concatenate([np.zeros((len(table), 0), bool), *parts], axis=1)

    def column_of(self, constants: Array) -> npt.NDArray[np.int64]:
        """Return of which column each constant is."""
        return np.searchsorted(self._starts, constants, side="right") - 1

    def name(self, constant: int) -> str:
        """Return what a constant says, e.g. `x3 > 0.5`."""
        column = int(self.column_of(np.array(constant)))
        return f"{self.names[column]} {self.columns[column].name(constant - self._starts[column])}"


def packed(embedding: Embedding, data: Array) -> npt.NDArray[np.uint8]:
    """Return the terms of rows, eight constants a byte, shape (n, .)."""
    parts = [
        np.packbits(embedding.bits(data[first : first + _TOGETHER]), axis=1)
        for first in range(0, max(1, len(data)), _TOGETHER)
    ]
    return np.concatenate(parts)


def first_equal(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return for each row the number of the first one that equals it."""
    if not rows.shape[1]:
        return np.zeros(len(rows), np.int64)
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1]))).ravel()
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return np.asarray(first[which], np.int64)


def _thresholds(values: npt.NDArray[np.float64], levels: int) -> tuple[float, ...]:
    """Return thresholds between a column's values: all, or where many, at quantiles."""
    seen = np.unique(values)
    between = (seen[1:] + seen[:-1]) / 2
    if len(between) > levels:
        ranks = np.quantile(values, np.arange(1, levels + 1) / (levels + 1))
        between = np.unique(between[np.clip(np.searchsorted(between, ranks), 0, len(between) - 1)])
    return tuple(between.tolist())


@dataclass(frozen=True)
class ImageEmbedding:
    """The embedding of pictures: for each threshold, every pixel is on or off.

    Constant k * 2 * p + i is "pixel i is above threshold k", k * 2 * p + p + i is "it is not",
    where p is the number of pixels and they are counted row by row; in colours, each channel of
    each pixel is one of its own. Classes come after them: at 28 x 28 pixels, grey and one
    threshold, class d is constant 1568 + d.

    Args:
        height, width: of the pictures.
        thresholds: of grey, or of each channel, ascending.
        channels: of each pixel.
    """

    height: int
    width: int
    thresholds: tuple[float, ...] = (ON,)
    channels: int = 1

    @classmethod
    def of_levels(cls, height: int, width: int, levels: int, channels: int = 1) -> ImageEmbedding:
        """Return the embedding with so many thresholds: a tenth of white, then evenly spaced."""
        step = (_WHITE - ON) / levels
        return cls(height, width, tuple(ON + step * k for k in range(levels)), channels)

    @classmethod
    def of_range(
        cls, shape: tuple[int, int, int], levels: int, low: float, high: float
    ) -> ImageEmbedding:
        """Return the embedding of other numbers than bytes: `low` is their black, `high` white.

        Args:
            shape: height, width and channels.
            levels: thresholds.
            low, high: the least and the largest number, finite.

        Raises:
            ValueError: there are no thresholds between them.
        """
        height, width, channels = shape
        of_bytes = cls.of_levels(height, width, levels, channels).thresholds
        # Neither a difference nor a product of finite numbers may be infinite.
        parts = [each / _WHITE for each in of_bytes]
        thresholds = tuple(low * (1 - part) + high * part for part in parts)
        if any(not below < above for below, above in pairwise((low, *thresholds, high))):
            raise ValueError(f"from {low:g} to {high:g}, and can't be told apart")
        return cls(height, width, thresholds, channels)

    @property
    def pixels(self) -> int:
        """How many pixels a picture has, each channel counted."""
        return self.height * self.width * self.channels

    @property
    def constants(self) -> int:
        """How many constants a term is chosen from; classes come after them."""
        return 2 * self.pixels * len(self.thresholds)

    def bits(self, images: Array) -> Bools:
        """Return the terms of pictures, bool, shape (n, constants).

        Args:
            images: shape (n, height, width), (n, height, width, channels) or (n, pixels).

        Raises:
            ModelError: they are of another size.
        """
        flat = images.reshape(len(images), -1)
        own = (self.height, self.width, self.channels)
        if flat.shape[1] != self.pixels or (images.ndim > 2 and (*images.shape[1:], 1)[:3] != own):
            raise ModelError(
                f"images of {' x '.join(map(str, images.shape[1:]))} pixels; the model is for"
                f" {' x '.join(map(str, own[: 2 + (self.channels > 1)]))}"
            )
        parts = []
        for threshold in self.thresholds:
            above = flat > threshold
            parts += [above, ~above]
        return np.concatenate(parts, axis=1)

    def pixel(self, constant: int) -> tuple[int, int, float, bool]:
        """Return what a constant says: row, column, threshold, and whether above it."""
        level, rest = divmod(constant, 2 * self.pixels)
        above, place = divmod(rest, self.pixels)
        row, column = divmod(place // self.channels, self.width)
        return row, column, self.thresholds[level], not above

    def channel(self, constant: int) -> str:
        """Return of which channel a constant is, in a word; empty where there is but one."""
        if self.channels == 1:
            return ""
        number = constant % self.channels
        return _CHANNELS.get(self.channels, ("first", "second"))[number]

    def state(self, constant: int) -> str:
        """Return what a constant says of its pixel, e.g. `on`, `red off` or `above 25.6`."""
        _, _, threshold, above = self.pixel(constant)
        state = "on" if above else "off"
        if len(self.thresholds) > 1:
            digits = f"{threshold:.0f}" if self.thresholds[0] == ON else f"{threshold:g}"
            state = f"{'above' if above else 'not above'} {digits}"
        return f"{self.channel(constant)} {state}".lstrip()

    def name(self, constant: int) -> str:
        """Return what a constant says, e.g. `pixel (3, 14) on`."""
        row, column, threshold, above = self.pixel(constant)
        pixel = f"pixel ({row}, {column}) {self.channel(constant)}".rstrip()
        if len(self.thresholds) == 1:
            return f"{pixel} {'on' if above else 'off'}"
        return f"{pixel} {'>' if above else '<='} {threshold:.0f}"


Embedding = TableEmbedding | ImageEmbedding


def shifted(images: Array, pixels: int, fill: float = 0) -> list[Array]:
    """Return images moved by up to so many pixels up, down, left and right.

    Args:
        images: shape (n, height, width) or (n, height, width, channels).
        pixels: 0 for none.
        fill: what comes in: black.
    """
    moved = []
    for distance in range(1, pixels + 1):
        for axis, step in ((1, distance), (1, -distance), (2, distance), (2, -distance)):
            if distance < images.shape[axis]:
                padding = [(0, 0)] * images.ndim
                padding[axis] = (step, 0) if step > 0 else (0, -step)
                wider = np.pad(images, padding, constant_values=fill)
                begin = 0 if step > 0 else -step
                moved.append(np.take(wider, range(begin, begin + images.shape[axis]), axis=axis))
    return moved
