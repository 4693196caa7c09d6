"""How data become terms: which constants a row of a table, or an image, is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Numeric:
    """A column of numbers, by a thermometer code: two constants for each threshold.

    Args:
        thresholds: ascending. A value has the constant "above" of each threshold that it is
            above, and the constant "not above" of each other.
    """

    thresholds: tuple[float, ...]

    @property
    def constants(self) -> int:
        """How many constants the column has."""
        return 2 * len(self.thresholds)

    def bits(self, values: Array) -> Bools:
        """Return which constants each value has, bool, shape (n, constants)."""
        above = values.astype(np.float64)[:, None] > np.array(self.thresholds)
        return np.concatenate([above, ~above], axis=1)

    def name(self, constant: int) -> str:
        """Return what a constant says of the column, e.g. `> 25.6`."""
        sign = ">" if constant < len(self.thresholds) else "<="
        return f"{sign} {self.thresholds[constant % len(self.thresholds)]:g}"


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
        levels: int = LEVELS, names: Sequence[str] | None = None,
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
                if not np.isfinite(numbers).all():
                    raise ValueError(f"column {number}: a value is missing, or not finite")
                columns.append(Numeric(_thresholds(numbers, levels)))
        titles = tuple(names or (f"x{k}" for k in range(table.shape[1])))
        while True:
            embedding = cls(tuple(columns), titles)
            more = embedding._distinctions(table, labels)
            if not more:
                return embedding
            for column, thresholds in more.items():
                old = columns[column]
                assert isinstance(old, Numeric)
                columns[column] = Numeric(tuple(sorted(thresholds.union(old.thresholds))))

    def _distinctions(self, table: Array, labels: Array) -> dict[int, set[float]]:
        """Return further thresholds, by column, that rows of different labels need."""
        _, first, which = np.unique(
            np.packbits(self.bits(table), axis=1), axis=0, return_index=True, return_inverse=True
        )
        other = first[which.ravel()]
        numeric = [k for k, column in enumerate(self.columns) if isinstance(column, Numeric)]
        numbers = table[:, numeric].astype(np.float64)
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

    def name(self, constant: int) -> str:
        """Return what a constant says, e.g. `x3 > 0.5`."""
        column = int(np.searchsorted(self._starts, constant, side="right")) - 1
        return f"{self.names[column]} {self.columns[column].name(constant - self._starts[column])}"


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
    """The embedding of grey images: for each threshold, every pixel is on or off.

    Constant k * 2 * p + i is "pixel i is above threshold k", k * 2 * p + p + i is "it is not",
    where p is the number of pixels and they are counted row by row. Classes come after them: at
    28 x 28 pixels and one threshold, class d is constant 1568 + d.

    Args:
        height, width: of the images.
        thresholds: of grey, ascending, 0 to 255.
    """

    height: int
    width: int
    thresholds: tuple[float, ...] = (ON,)

    @classmethod
    def of_levels(cls, height: int, width: int, levels: int) -> ImageEmbedding:
        """Return the embedding with so many thresholds: a tenth of white, then evenly spaced."""
        step = (255 - ON) / levels
        return cls(height, width, tuple(ON + step * k for k in range(levels)))

    @property
    def pixels(self) -> int:
        """How many pixels an image has."""
        return self.height * self.width

    @property
    def constants(self) -> int:
        """How many constants a term is chosen from; classes come after them."""
        return 2 * self.pixels * len(self.thresholds)

    def bits(self, images: Array) -> Bools:
        """Return the terms of images, bool, shape (n, constants).

        Args:
            images: grey, shape (n, height, width) or (n, height * width), 0 to 255.

        Raises:
            ModelError: they are of another size.
        """
        flat = images.reshape(len(images), -1)
        if flat.shape[1] != self.pixels or (images.ndim == 3 and images.shape[1] != self.height):
            raise ModelError(
                f"images of {' x '.join(map(str, images.shape[1:]))} pixels; the model is for"
                f" {self.height} x {self.width}"
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
        row, column = divmod(place, self.width)
        return row, column, self.thresholds[level], not above

    def name(self, constant: int) -> str:
        """Return what a constant says, e.g. `pixel (3, 14) on`."""
        row, column, threshold, above = self.pixel(constant)
        if len(self.thresholds) == 1:
            return f"pixel ({row}, {column}) {'on' if above else 'off'}"
        return f"pixel ({row}, {column}) {'>' if above else '<='} {threshold:.0f}"


Embedding = TableEmbedding | ImageEmbedding


def shifted(images: Array, pixels: int) -> list[Array]:
    """Return images moved by up to so many pixels up, down, left and right; black comes in.

    Args:
        images: shape (n, height, width).
        pixels: 0 for none.
    """
    moved = []
    height, width = images.shape[1:]
    for distance in range(1, pixels + 1):
        for axis, step in ((1, distance), (1, -distance), (2, distance), (2, -distance)):
            if distance < (height, width)[axis - 1]:
                padding = [(0, 0), (0, 0), (0, 0)]
                padding[axis] = (step, 0) if step > 0 else (0, -step)
                wider = np.pad(images, padding)
                begin = 0 if step > 0 else -step
                moved.append(np.take(wider, range(begin, begin + images.shape[axis]), axis=axis))
    return moved
