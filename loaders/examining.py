"""What there is to know of data before anybody trains on it: counted in one pass over its rows.

Rows are equal here if their values are: the two zeros of floating point are one, and a missing
value (not-a-number) is equal to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .cells import Cells, FieldFound, cells_of
from .errors import LoaderError
from .rows import Array, Arrays, Form, Labels, RowNumbers, Rows, Source, bytes_of
from .sources import told_of
from .splits import contradictory_keys, groups_of, keys_of

#: Rows that are told as examples, of each kind.
TOLD = 5
#: Cells that are looked at together: 8 MiB as they are added up.
_CELLS = 1 << 20


class Row(NamedTuple):
    """Which row of a source.

    Args:
        split: of it, there.
        number: from 0.
        called: what people call it; empty: nobody has a name for it.
    """

    split: str
    number: int
    called: str = ""


@dataclass(frozen=True)
class Some:
    """Rows of one kind.

    Args:
        rows: how many.
        first: the first few.
        other: what each of these is like: a row that is equal to it.
    """

    rows: int = 0
    first: tuple[Row, ...] = ()
    other: tuple[Row, ...] = ()


@dataclass(frozen=True)
class SplitFound:
    """What the rows of a split are like.

    Args:
        rows: how many.
        digest: of these rows, as runs keep it.
        counts: rows by class, of those classes that occur.
        copies: rows that are equal to an earlier one.
        contradictions: rows that are equal to one of another class.
        blank: rows of pictures that are of one colour all over.
        broken: rows with a cell that is missing or infinite.
        fields: by name.
    """

    rows: int
    digest: str
    counts: Mapping[int, int]
    copies: Some
    contradictions: Some
    blank: Some
    broken: Some
    fields: Mapping[str, FieldFound]


@dataclass(frozen=True)
class Examined:
    """What some data is like.

    Args:
        name: as people call it.
        form: of its rows.
        digest: of all of it.
        splits: by name, `train` first.
        leaked: test rows that are equal to a training row.
        mislabelled: those of them that are equal to training rows of other classes only.
        absent: why there is no `train` or `test`, a sentence by its name.
    """

    name: str
    form: Form
    digest: str
    splits: Mapping[str, SplitFound]
    leaked: Some
    mislabelled: Some
    absent: Mapping[str, str] = field(default_factory=dict)

    def classes(self) -> list[int]:
        """Return the classes that occur, ascending."""
        return sorted({label for split in self.splits.values() for label in split.counts})


def examine(source: Source) -> Examined:
    """Return what a source's rows are like; they are read once, a block at a time.

    It takes no more memory than one block, and for each row its labels and some 60 bytes.

    Raises:
        LoaderError: they can't be read.
    """
    splits: dict[str, SplitFound] = {}
    keys: dict[str, npt.NDArray[np.uint64]] = {}
    labels: dict[str, Labels] = {}
    for name in sorted(source.splits, key=lambda each: (each != "train", each != "test", each)):
        rows = Rows(source, name)
        splits[name], keys[name] = _split(rows)
        labels[name] = rows.labels
    leaked, mislabelled = Some(), Some()
    if "train" in keys and "test" in keys:
        leaked, mislabelled = _leaks(source, keys, labels)
    absent = {
        split: getattr(source, "absent", {}).get(split, f"{source.name} has no {split} rows")
        for split in ("train", "test")
        if not source.splits.get(split)
    }
    return Examined(
        source.name, source.form, source.digest, splits, leaked, mislabelled, absent
    )  # fmt: skip


def _split(rows: Rows) -> tuple[SplitFound, npt.NDArray[np.uint64]]:
    """Return what the rows of a split are like, and a key for each: of equal rows, equal keys."""
    fields = {name: Cells(each) for name, each in rows.form.fields.items()}
    keys = np.zeros((len(rows), 2), np.uint64)
    blank, broken = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for first, arrays in _blocks(rows):
        one_way = {name: _one_way(array) for name, array in arrays.items()}
        several = slice(first, first + len(next(iter(arrays.values()))))
        keys[several] = keys_of(_beside(one_way))
        for name, array in one_way.items():
            seen = fields[name].add(array)
            broken[several] |= seen.broken
            if rows.form.image is not None:
                blank[several] |= seen.plain
    values, counts = np.unique(rows.labels, return_counts=True)
    return SplitFound(
        rows=len(rows),
        digest=rows.digest,
        counts=dict(zip(values.tolist(), counts.tolist(), strict=True)),
        copies=_some(rows.source, rows.split, *_copies(keys)),
        contradictions=_some(rows.source, rows.split, *contradictory_keys(keys, rows.labels)),
        blank=_some(rows.source, rows.split, np.flatnonzero(blank)),
        broken=_some(rows.source, rows.split, np.flatnonzero(broken)),
        fields={name: each.found() for name, each in fields.items()},
    ), keys


def _blocks(rows: Rows) -> Iterator[tuple[int, Arrays]]:
    """Yield the fields of all rows, some at a time, and the number of the first of them.

    Raises:
        LoaderError: they can't be read, or are not what their source says.
    """
    cells = sum(cells_of(each.shape) for each in rows.form.fields.values())
    size = max(1, _CELLS // max(1, cells))
    for first in range(0, len(rows), size):
        several = min(size, len(rows) - first)
        with told_of(rows.source.name):
            arrays = rows.source.read(rows.split, slice(first, first + several))
            if rows.form.check(arrays, None) != several:
                raise LoaderError(f"{rows.source.name}: fewer {rows.split} rows than it says")
        yield first, arrays


def _one_way(array: Array) -> Array:
    """Return an array with one zero and one not-a-number."""
    if array.dtype.kind != "f":
        return array
    array = array + np.zeros((), array.dtype)  # the negative zero becomes the other
    array[np.isnan(array)] = np.nan
    return array


def _beside(arrays: Arrays) -> Array:
    """Return all fields as bytes beside each other, shape (n, bytes of a row)."""
    parts = []
    for name in sorted(arrays):
        array = arrays[name]
        wide = cells_of(array.shape[1:]) * array.dtype.itemsize
        parts.append(np.frombuffer(bytes_of(array), np.uint8).reshape(len(array), wide))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


# Equal rows.


def _copies(keys: npt.NDArray[np.uint64]) -> tuple[RowNumbers, RowNumbers]:
    """Return which rows are equal to an earlier one, ascending, and the first such of each."""
    group = groups_of(keys)
    _, first = np.unique(group, return_index=True)
    firsts = first[group]
    again = np.flatnonzero(firsts != np.arange(len(group)))
    return again, firsts[again]


def _leaks(
    source: Source, keys: Mapping[str, npt.NDArray[np.uint64]], labels: Mapping[str, Labels]
) -> tuple[Some, Some]:
    """Return which test rows are equal to a training row; and those to none of their class."""
    many = len(keys["train"])
    group = groups_of(np.concatenate([keys["train"], keys["test"]]))
    _, class_ = np.unique(np.concatenate([labels["train"], labels["test"]]), return_inverse=True)
    pair = group * np.int64(class_.max(initial=0) + 1) + class_.ravel()
    there, first = np.unique(group[:many], return_index=True)
    leaked = np.flatnonzero(np.isin(group[many:], there))
    like = first[np.searchsorted(there, group[many:][leaked])]
    odd = ~np.isin(pair[many:][leaked], pair[:many])
    return tuple(  # type: ignore[return-value]
        _some(source, "test", leaked[which], like[which], "train") for which in (slice(None), odd)
    )


def _some(
    source: Source, split: str, numbers: RowNumbers, like: RowNumbers | None = None,
    of: str | None = None,
) -> Some:  # fmt: skip
    """Return some rows as the source itself numbers them, whatever was cut from it."""
    first = [_row(source, split, number) for number in numbers[:TOLD].tolist()]
    other = () if like is None else like[:TOLD].tolist()
    return Some(len(numbers), tuple(first), tuple(_row(source, of or split, n) for n in other))


def _row(source: Source, split: str, number: int) -> Row:
    called = getattr(source, "called", None)
    name = called(split, number) if called else ""
    if (origin := getattr(source, "origin", None)) is not None:
        split, number = origin(split, number)
    return Row(split, number, name)
