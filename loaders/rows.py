"""What data is, whatever it came from: its form, which of its rows, and how they are read.

A **source** is somewhere that labelled rows are; a **form** says what one row is like; **rows** say
which ones, as plain values, and read them when they are wanted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt
import xxhash

from .errors import CorruptDataset, LoaderError
from .sources import told_of

#: Of whatever numbers.
Array = npt.NDArray[Any]
#: Arrays by name.
Arrays = Mapping[str, Array]
Labels = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.int64]

#: Classes, fields of a row and axes of a field, at most.
MOST_CLASSES, MOST_FIELDS, MOST_AXES = 1 << 32, 64, 8
#: Letters of the name of a type; the length of an axis.
MOST_LETTERS, MOST_LENGTH = 16, 1 << 53
#: Columns that have names, and bytes of these together: they travel with every job.
MOST_COLUMNS, MOST_COLUMN_BYTES = 1 << 15, 1 << 18
#: What a field may be made of: numbers, or true and false.
_KINDS = "biuf"


class Field(NamedTuple):
    """What a row has under one name.

    Args:
        dtype: numpy's name of the element type, e.g. `uint8`.
        shape: of one row's, e.g. (28, 28).
        columns: of a table, what each number is called; none unless they have names.
    """

    dtype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()

    def as_values(self) -> list[object]:
        """Return it as plain values; columns are told only where they have names."""
        named: list[object] = [list(self.columns)] if self.columns else []
        return [self.dtype, list(self.shape), *named]


class Numbered(Sequence[str]):
    """Names of classes that have none: `0`, `1`, and so on; takes no memory, however many."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        found = range(self._count)[index]
        return str(found) if isinstance(found, int) else tuple(map(str, found))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Numbered):
            return self._count == other._count
        same_length = isinstance(other, Sequence) and len(other) == self._count
        return same_length and tuple(self) == tuple(other)  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Numbered({self._count})"


@dataclass(frozen=True)
class Form:
    """What the rows of some data are like.

    Args:
        fields: what each row has, by name.
        classes: their names; a label is the number of one.
    """

    fields: Mapping[str, Field]
    classes: Sequence[str]

    @property
    def image(self) -> Field | None:
        """The one field of rows that are pictures: (height, width) or (height, width, channels)."""
        if len(self.fields) != 1:
            return None
        (only,) = self.fields.values()
        return only if len(only.shape) in (2, 3) else None

    def tell(self) -> str:
        """Return in words what a row is: `image: uint8 28 x 28`."""
        return ", ".join(
            f"{name}: {each.dtype} {' x '.join(map(str, each.shape)) or 'alone'}"
            for name, each in self.fields.items()
        )

    def as_values(self) -> dict[str, object]:
        """Return it as plain values, the names of the classes left out: there may be many."""
        fields = {name: each.as_values() for name, each in self.fields.items()}
        return {"fields": fields, "classes": len(self.classes)}

    @classmethod
    def of_values(cls, values: Any) -> Form:
        """Return the form that `as_values` told, from whomever.

        Raises:
            CorruptDataset: it is none.
        """
        try:
            told, classes = values["fields"], values["classes"]
            _must(isinstance(told, dict) and len(told) <= MOST_FIELDS)
            _must(type(classes) is int and 1 <= classes <= MOST_CLASSES)
            fields = {str(name): _field(each) for name, each in told.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptDataset(f"not a form of data: {values!r:.200}") from error
        return cls(fields, Numbered(classes))

    def check(self, arrays: Arrays, labels: Labels | None) -> int:
        """Return how many rows some arrays hold; raise unless they are rows of this form.

        Raises:
            CorruptDataset: they are not, in words.
        """
        if arrays.keys() != self.fields.keys():
            raise CorruptDataset(f"fields {sorted(arrays)}, not {sorted(self.fields)}")
        rows = {len(array) if array.ndim else 0 for array in arrays.values()}
        rows |= set() if labels is None else {len(labels)}
        for name, array in arrays.items():
            wanted = self.fields[name]
            if array.dtype != wanted.dtype or array.shape[1:] != wanted.shape or not array.ndim:
                raise CorruptDataset(
                    f"{name} is {array.dtype} of shape {array.shape},"
                    f" not {wanted.dtype} of (rows, {', '.join(map(str, wanted.shape))})"
                )
        if len(rows) > 1:
            raise CorruptDataset(f"fields and labels don't match: {sorted(rows)} rows")
        if labels is not None:
            self._check_labels(labels)
        return rows.pop() if rows else 0

    def _check_labels(self, labels: Labels) -> None:
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise CorruptDataset(
                f"labels are {labels.dtype} of shape {labels.shape}, not one a row"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise CorruptDataset(
                f"labels from {labels.min()} to {labels.max()}"
                f" where there are {len(self.classes)} classes"
            )


def _field(told: Any) -> Field:
    dtype, shape, *more = told
    # By its one name: `u1` is equal to `uint8` for numpy, and for nobody who compares forms.
    _must(type(dtype) is str and len(dtype) <= MOST_LETTERS and np.dtype(dtype).name == dtype)
    _must(np.dtype(dtype).kind in _KINDS)
    _must(isinstance(shape, list | tuple) and len(shape) <= MOST_AXES)
    _must(all(type(length) is int and 0 <= length <= MOST_LENGTH for length in shape))
    _must(len(more) <= 1)
    return Field(dtype, tuple(shape), *(_columns(each, tuple(shape)) for each in more))


def _columns(told: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of columns, one for each number of a row."""
    _must(isinstance(told, list | tuple) and all(type(each) is str for each in told))
    _must((len(told),) == shape and can_be_told(told))
    return tuple(told)


def can_be_told(columns: Sequence[str]) -> bool:
    """Whether there are names of columns, and so few that they can travel with every job."""
    size = sum(len(each.encode("utf-8", "backslashreplace")) for each in columns)
    return 0 < len(columns) <= MOST_COLUMNS and size <= MOST_COLUMN_BYTES


def _must(fits: bool) -> None:
    """Raise unless it fits; an `assert` would be gone where Python optimizes."""
    if not fits:
        raise ValueError


class Source(Protocol):
    """Somewhere that labelled rows are.

    Attributes:
        name: what people call it.
        form: of its rows; its classes are those of all splits together.

    It may have `absent`, too: why a split is not there, a sentence by the split's name.
    """

    name: str
    form: Form

    @property
    def splits(self) -> Mapping[str, int]:
        """How many rows each split has; `train` and `test` are what a run wants."""

    @property
    def digest(self) -> str:
        """Tells its content from every other, in hexadecimal: equal data, equal digest."""

    def labels(self, split: str) -> Labels:
        """Return the labels of a whole split."""

    def read(self, split: str, numbers: RowNumbers | slice) -> Arrays:
        """Return the fields of some rows, by name, in the order of the numbers.

        Raises:
            LoaderError: they can't be read.
        """


class ArraySource:
    """A source whose rows are in memory.

    Args:
        name: what people call it.
        form: of its rows.
        splits: fields and labels of each, by name.
        absent: why a split is not there, by its name.

    Raises:
        CorruptDataset: they are not of that form, or don't fit together.
    """

    def __init__(
        self, name: str, form: Form, splits: Mapping[str, tuple[Arrays, Labels]],
        absent: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.name, self.form, self._splits, self.absent = name, form, splits, absent
        try:
            self.splits = {
                split: form.check(arrays, labels) for split, (arrays, labels) in splits.items()
            }
        except CorruptDataset as error:
            raise CorruptDataset(f"{name}: {error}") from error

    @cached_property
    def digest(self) -> str:
        """xxh3-128 over the form and every split, in hexadecimal."""
        classes = self.form.classes
        named = len(classes) if isinstance(classes, Numbered) else list(classes)
        told = [self.form.as_values(), named, sorted(self._splits)]
        hash_ = xxhash.xxh3_128(json.dumps(told, sort_keys=True).encode())
        for split in sorted(self._splits):
            arrays, labels = self._splits[split]
            for array in (*(arrays[name] for name in sorted(arrays)), labels):
                hash_.update(f"{array.shape}".encode())
                hash_.update(bytes_of(array))
        return hash_.hexdigest()

    def labels(self, split: str) -> Labels:
        """Return the labels of a whole split."""
        return self._splits[split][1]

    def read(self, split: str, numbers: RowNumbers | slice) -> Arrays:
        """Return the fields of some rows: views where they are one after the other."""
        chosen = numbers if isinstance(numbers, slice) else _slice(numbers)
        return {name: array[chosen] for name, array in self._splits[split][0].items()}


def _slice(numbers: RowNumbers) -> RowNumbers | slice:
    """Return numbers as a slice, if each is the one before and one."""
    if not len(numbers) or (np.diff(numbers) != 1).any():
        return numbers
    return slice(int(numbers[0]), int(numbers[-1]) + 1)


def bytes_of(array: Array) -> memoryview:
    """Return an array's bytes, row by row; copied only where they lie otherwise."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class Rows:
    """Some rows of a source: which ones, as plain values; they are read when they are wanted.

    Args:
        source: of the rows.
        split: of the source.
        numbers: of the rows, int64; None: all of the split.
    """

    source: Source
    split: str
    numbers: RowNumbers | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.source.splits[self.split] if self.numbers is None else len(self.numbers)

    @property
    def form(self) -> Form:
        """What each row is like."""
        return self.source.form

    @property
    def classes(self) -> int:
        """How many classes the whole source has."""
        return len(self.form.classes)

    @cached_property
    def labels(self) -> Labels:
        """The class of each row, int64, shape (n,)."""
        with told_of(self.source.name):
            every = self.source.labels(self.split)
        return every if self.numbers is None else every[self.numbers]

    @cached_property
    def arrays(self) -> Arrays:
        """All fields of all rows, by name; read once."""
        return self.read()

    def read(self) -> Arrays:
        """Read all fields of all rows, by name, and remember nothing of it.

        Raises:
            LoaderError: they can't be read.
        """
        with told_of(self.source.name):
            return self.source.read(
                self.split, slice(None) if self.numbers is None else self.numbers
            )

    @cached_property
    def digest(self) -> str:
        """What tells these rows from others, in hexadecimal, however they travel."""
        which = "all" if self.numbers is None else len(self.numbers)
        hash_ = xxhash.xxh3_128(f"{self.source.digest} {self.split} {which}".encode())
        if self.numbers is not None:
            hash_.update(np.ascontiguousarray(self.numbers, np.int64).data)
        return hash_.hexdigest()

    @property
    def kind(self) -> str:
        """What people call one of them: `image` where they are pictures, else `row`."""
        return "row" if self.form.image is None else "image"

    def of(self, numbers: RowNumbers | slice) -> Rows:
        """Return some of these rows, by their place among them."""
        mine = self.numbers
        if mine is None:
            mine = np.arange(len(self))
        return Rows(self.source, self.split, np.asarray(mine[numbers], np.int64))

    def limited(self, rows: int | None) -> Rows:
        """Return the first `rows` rows (None, or not so many: all).

        Raises:
            LoaderError: `rows` is not positive.
        """
        if rows is None or rows >= len(self) > 0:
            return self
        if rows < 1:
            raise LoaderError(f"a limit of {rows} rows leaves nothing; give 1 or more")
        return self.of(slice(0, rows))

    def parts(self, count: int) -> list[Rows]:
        """Return them in so many parts, one after the other, of equal sizes but for one row."""
        return [self.of(part) for part in np.array_split(np.arange(len(self)), count)]

    def batches(
        self, size: int, seed: int | np.random.Generator | None = None, buffer: int | None = None
    ) -> Iterator[tuple[Arrays, Labels]]:
        """Yield all rows once, some at a time: fields by name, and labels.

        Args:
            size: rows of a batch; the last may have fewer.
            seed: of their order, or what draws it; None: as they are.
            buffer: rows that are read, and put in random order, together, for data that is larger
                than memory: the blocks of so many come in random order, too. None: all.

        Raises:
            LoaderError: a size that is not positive, or rows that can't be read.
        """
        if size < 1 or (buffer is not None and buffer < 1):
            raise LoaderError(f"batches of {size} rows, {buffer} in memory; give 1 or more")
        if buffer is None or buffer >= len(self):
            yield from self._in_memory(size, seed)
        else:
            yield from _cut(self._blocks(max(size, buffer), seed), size)

    def _in_memory(
        self, size: int, seed: int | np.random.Generator | None
    ) -> Iterator[tuple[Arrays, Labels]]:
        arrays, labels = self.arrays, self.labels
        order = None if seed is None else np.random.default_rng(seed).permutation(len(self))
        for first in range(0, len(self), size):
            chosen = slice(first, first + size) if order is None else order[first : first + size]
            yield {name: array[chosen] for name, array in arrays.items()}, labels[chosen]

    def _blocks(
        self, rows: int, seed: int | np.random.Generator | None
    ) -> Iterator[tuple[Arrays, Labels]]:
        blocks = np.arange(math.ceil(len(self) / rows))
        random = None if seed is None else np.random.default_rng(seed)
        for block in blocks if random is None else random.permutation(blocks):
            chosen = np.arange(block * rows, min((block + 1) * rows, len(self)))
            if random is not None:
                # Read as they lie, and mixed in memory: no disk likes rows at random.
                order = random.permutation(len(chosen))
            part = self.of(chosen)
            arrays, labels = part.arrays, part.labels
            if random is not None:
                arrays, labels = {n: a[order] for n, a in arrays.items()}, labels[order]
            yield arrays, labels


def _cut(blocks: Iterator[tuple[Arrays, Labels]], size: int) -> Iterator[tuple[Arrays, Labels]]:
    """Yield batches of one size, but for the last, from blocks that are no shorter."""
    rest: tuple[Arrays, Labels] | None = None
    for block in blocks:
        arrays, labels = block if rest is None else _joined(rest, block)
        whole = len(labels) - len(labels) % size
        for first in range(0, whole, size):
            some = slice(first, first + size)
            yield {name: array[some] for name, array in arrays.items()}, labels[some]
        rest = {name: array[whole:] for name, array in arrays.items()}, labels[whole:]
    if rest is not None and len(rest[1]):
        yield rest


def _joined(first: tuple[Arrays, Labels], second: tuple[Arrays, Labels]) -> tuple[Arrays, Labels]:
    arrays = {name: np.concatenate([array, second[0][name]]) for name, array in first[0].items()}
    return arrays, np.concatenate([first[1], second[1]])
