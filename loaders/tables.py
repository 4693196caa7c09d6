"""Sources made of tables, however these are kept: which column is the label, what the others are.

Columns of numbers become one number a row; one of texts becomes a 0 or 1 for each of its texts, so
that `colour` is `colour=blue`, `colour=red`; columns of pixels, or a column of pictures, are
pictures.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from protocol.wire.words import safe_line

from .arrays import LEAST_SIDE, Given, Texts, source_of
from .errors import CorruptDataset, DatasetNotFound, LoaderError
from .naming import TEST, TRAIN, Set, nearest, split_above, table_key, table_named
from .places import ahead, naturally
from .rows import Array, ArraySource
from .sources import listed, some

if TYPE_CHECKING:
    from .places import Where
    from .sources import Asked, Say

#: What a label's column is called where it is not said, the first that there is.
LABELS = ("label", "class", "target", "y")
#: Different texts that a column may have: more are names or numbers of rows, say.
MOST_TEXTS = 1_000
#: Columns that texts may become: no learner that comes along takes more of them.
MOST_COLUMNS = 1 << 16
_PIXELS = re.compile(r"(pixel|px|p)[-_ ]?\d+([-_x]\d+)?|\d+x\d+", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+")
#: What data frames call the numbers of their rows when they are written.
_ROW_NUMBERS = re.compile(r"(Unnamed: \d+|__index_level_\d+__|)")
_PIXEL = 255


@dataclass(frozen=True)
class Table:
    """A table as it was read: each column is a number, a text or an array a row.

    Args:
        where: it is from, for people.
        columns: the names of all, in order.
        numeric: the names of those of numbers, in order; what is left out may be in neither.
        numbers: of these, (n, len(numeric)): uint8 where all fit, else of another type.
        texts: those of texts, by name.
        arrays: those of arrays, by name: (n, ...).
        named: whether columns have names; else these are their numbers.
        classes: names of classes that numbers stand for, by column.
    """

    where: str
    columns: tuple[str, ...]
    numeric: tuple[str, ...]
    numbers: Array
    texts: Mapping[str, Texts] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    named: bool = True
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def read(self) -> list[str]:
        """The names of those that were read, in order."""
        there = {*self.numeric, *self.texts, *self.arrays}
        return [each for each in self.columns if each in there]

    def kind(self, column: str) -> str:
        """Return what a column has, in a word."""
        if column in self.arrays:
            return "arrays"
        return "texts" if column in self.texts else "numbers"

    def values(self, column: str) -> Array | Texts:
        """Return a column."""
        if column in self.texts:
            return self.texts[column]
        if column in self.arrays:
            return self.arrays[column]
        values: Array = self.numbers[:, self.places[column]]
        return values

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Which of the numbers each column of numbers is: there may be tens of thousands."""
        return {name: number for number, name in enumerate(self.numeric)}


def joined(tables: Sequence[Table]) -> Table:
    """Return one table of several that have the same columns.

    Raises:
        CorruptDataset: they have not.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    for each in tables[1:]:
        _same(first, each, first.read)
        if each.numeric != first.numeric or {*each.read} != {*first.read}:
            raise CorruptDataset(f"{each.where} has other columns than {first.where}")
    return replace(
        first,
        numbers=np.concatenate([each.numbers for each in tables]),
        texts={name: Texts.joined([each.texts[name] for each in tables]) for name in first.texts},
        arrays={
            name: _concatenated(f"{first.where}: column {name!r}", name, tables)
            for name in first.arrays
        },
    )


def _concatenated(what: str, name: str, tables: Sequence[Table]) -> Array:
    arrays = [each.arrays[name] for each in tables]
    sizes = {array.shape[1:] for array in arrays}
    if len(sizes) > 1:
        told = " and ".join(sorted(" x ".join(map(str, size)) for size in sizes))
        raise CorruptDataset(f"{what} has arrays of {told} in its parts; all must be of one size")
    return np.concatenate(arrays)


def _same(first: Table, other: Table, columns: Sequence[str]) -> None:
    """Raise unless another table has these columns, of the same kinds."""
    there = {*other.columns}
    missing = [name for name in columns if name not in there]
    if missing:
        raise CorruptDataset(
            f"{other.where} lacks the columns {some([*map(repr, missing)])}, which {first.where}"
            " has"
        )
    for name in columns:
        if first.kind(name) != other.kind(name):
            raise CorruptDataset(
                f"{other.where}: column {name!r} holds {other.kind(name)}, and in {first.where}"
                f" {first.kind(name)}"
            )


def left_out(columns: Sequence[str], asked: Asked) -> set[str]:
    """Return which of some columns nothing is made of, as was asked for: by names or numbers.

    Where it is for a model that knows columns by their names, these are all others but the label.
    """
    reading = asked.reading
    if asked.known and any(_is_among(each, asked.known) for each in columns):
        label = None if reading.label is None else _asked(columns, reading.label)
        kept = {label} if label is not None else {*LABELS}
        return {
            each for each in columns
            if not _is_among(each, asked.known) and each not in kept and each.lower() not in kept
        }  # fmt: skip
    found = {each: _asked(columns, each) for each in reading.leave_out}
    return {each for each in found.values() if each is not None}


def table_source(asked: Asked, tables: Mapping[str, Table]) -> ArraySource:
    """Return a source of tables.

    Args:
        asked: what was asked for.
        tables: of each split.

    Raises:
        DatasetNotFound: no column is the label.
        CorruptDataset: the tables don't fit together, or a column can't be learned from.
    """
    train, name, say = tables[TRAIN], asked.name, asked.say
    left = left_out(train.columns, asked)
    _tell_left(train, left, asked)
    column, features = _label(train, asked.reading.label, left)
    features = _without_row_numbers(train, features, say)
    used: dict[str, Table] = {}
    known = {*train.columns}
    for split, table in tables.items():
        if column not in table.columns and split != TRAIN:
            say(f"{table.where}: it has no column {column!r}: its rows are no {split} set")
            continue
        _same(train, table, [*features, column])
        more = [each for each in table.read if each not in known]
        if more:
            say(f"{table.where}: {some(more)}: left out, because {train.where} has it not")
        used[split] = table
    if train.kind(column) == "arrays":
        raise CorruptDataset(f"{train.where}: column {column!r}, its label, holds arrays")
    rows, names = _rows(used, features, say)
    splits = {
        split: Given(rows[split], table.values(column), table.where, _of(table, column))
        for split, table in used.items()
    }
    classes = train.classes.get(column)
    return source_of(name, splits, say=say, classes=classes, columns=names)


def _tell_left(table: Table, left: Collection[str], asked: Asked) -> None:
    """Say what is left out because a model does not know it; of what was asked for, nothing.

    Raises:
        DatasetNotFound: a column that was asked for is not there.
        LoaderError: it is the label.
    """
    reading, columns = asked.reading, table.columns
    by_user = {_asked(columns, each) for each in reading.leave_out}
    if asked.known:
        unknown = [each for each in columns if each in left and each not in by_user]
        if unknown:
            asked.say(
                f"{table.where}: {some([*map(repr, unknown)])}: left out, the model does not know"
                f" {'it' if len(unknown) == 1 else 'them'}"
            )
        return
    absent = [each for each in reading.leave_out if _asked(columns, each) is None]
    if absent:
        raise DatasetNotFound(
            f"{table.where}: there is no column {some([*map(repr, absent)])} to leave out"
            f" (--leave-out); its {len(columns):,} columns are {some(columns)}"
        )
    if reading.label is not None and _asked(columns, reading.label) in left:
        raise LoaderError(
            f"{table.where}: column {reading.label!r} can't be the label (--label) and left out"
            " (--leave-out)"
        )


def unlabelled(asked: Asked, table: Table) -> ArraySource:
    """Return a source of the rows of a table, whatever their labels, as the split `all`.

    Args:
        asked: what was asked for; of a model that knows no columns by name, all that are no label
            and not left out are taken.
        table: of its rows.

    Raises:
        CorruptDataset: it has none of these columns, or one can't be taken.
    """
    name, columns, say = asked.name, asked.known, asked.say
    if columns:
        taken = [each for each in table.columns if _is_among(each, columns)]
        by_user = {_asked(table.columns, each) for each in asked.reading.leave_out}
        left = [each for each in table.columns if each not in taken and each not in by_user]
        if taken and left:
            say(f"{name}: {some([*map(repr, left)])}: left out, the model does not know it")
        rows, names = (
            _of_columns({TRAIN: table}, taken)
            if taken
            else ({TRAIN: np.empty((len(table), 0))}, [])
        )
    else:
        out = left_out(table.columns, asked)
        label = _usual(table, out) if table.named else None
        taken = [each for each in table.columns if each != label and each not in out]
        found, named = _rows({TRAIN: table}, taken, say)
        rows, names = found, [*named]
    if not taken:
        raise CorruptDataset(
            f"{name}: none of the columns that the model knows ({some([*map(repr, columns)])}) is"
            f" there; there are {some([*map(repr, table.columns)])}"
        )
    given = Given(rows[TRAIN], np.zeros(len(table), np.int64), name, name)
    return source_of(name, {"all": given}, say=say, columns=names)


def _is_among(name: str, columns: Sequence[str]) -> bool:
    return any(each == name or each.startswith(f"{name}=") for each in columns)


def _of(table: Table, column: str) -> str:
    return f"column {column!r} of {table.where}"


def _label(
    table: Table, label: str | None, left: Collection[str]
) -> tuple[str, list[str]]:  # fmt: skip
    """Return the label's column, and all others that are not left out.

    Raises:
        DatasetNotFound: there is none.
    """
    columns = table.columns
    found = _asked(columns, label) if label is not None else _usual(table, left)
    if found is None:
        what = "of columns without names none" if not table.named else "no column"
        wanted = f"{what} is called {', '.join(LABELS[:-1])} or {LABELS[-1]}"
        if label is not None:
            wanted = f"there is no column {label!r}"
        first = "" if table.named else f"; its first row: {_first_row(table)}"
        raise DatasetNotFound(
            f"{table.where}: {wanted}; its {len(columns):,} columns are"
            f" {some(columns)}{first}; say which is the class by --label COLUMN, its name or number"
            " (from 0; -1 is the last)"
        )
    return found, [each for each in columns if each != found and each not in left]


def _asked(columns: Sequence[str], label: str) -> str | None:
    if label in columns:
        return label
    if _NUMBER.fullmatch(label) and -len(columns) <= int(label) < len(columns):
        return columns[int(label)]
    return None


def _usual(table: Table, left: Collection[str]) -> str | None:
    columns = [each for each in table.columns if each not in left]
    small = {name.lower(): name for name in reversed(columns)}
    if table.named:
        return next((small[each] for each in LABELS if each in small), None)
    # As MNIST is passed on: the label, and then its pixels.
    return columns[0] if columns and _side(table, columns[1:]) else None


def _first_row(table: Table) -> str:
    told = []
    for name in table.columns[:_TOLD]:
        values = table.values(name)
        if isinstance(values, Texts):
            told.append(values.values[values.codes[0]] if values.codes[0] >= 0 else "")
        else:
            told.append(f"{values[0]:g}")
    return safe_line(", ".join(told))


_TOLD = 8


def _without_row_numbers(table: Table, features: Sequence[str], say: Say) -> list[str]:
    """Return columns but for one that only numbers the rows, as data frames write it."""
    for name in features if table.named else ():
        if table.kind(name) != "numbers" or not _ROW_NUMBERS.fullmatch(name):
            continue
        values = table.values(name)
        if isinstance(values, np.ndarray):
            first = values[0] if len(values) else 0
            if np.array_equal(values, np.arange(first, first + len(values))):
                say(f"{table.where}: column {name!r} numbers the rows: left out")
                return [each for each in features if each != name]
    return [*features]


# What a row is.


def _rows(
    tables: Mapping[str, Table], features: Sequence[str], say: Say
) -> tuple[dict[str, Array], Sequence[str]]:
    """Return the rows of each split, and the names of their columns."""
    train = tables[TRAIN]
    if not features:
        raise CorruptDataset(f"{train.where}: beside its label it has no columns")
    arrays = [name for name in features if name in train.arrays]
    if arrays:
        return _of_arrays(tables, features, arrays, say), ()
    side = _side(train, features)
    if side and all(_side(table, features) == side for table in tables.values()):
        say(
            f"{train.where}: its {len(features):,} columns of whole numbers from 0 to 255 are taken"
            f" as pixels, {side} x {side}"
        )
        return {
            split: _numbers(table, features).astype(np.uint8).reshape(-1, side, side)
            for split, table in tables.items()
        }, ()
    return _of_columns(tables, features)


def _of_arrays(
    tables: Mapping[str, Table], features: Sequence[str], arrays: Sequence[str], say: Say
) -> dict[str, Array]:
    if len(arrays) > 1:
        raise CorruptDataset(
            f"{tables[TRAIN].where}: the columns {some(arrays)} all hold arrays or pictures; keep"
            " one, and leave the others out: --leave-out COLUMN"
        )
    others = [name for name in features if name not in arrays]
    if others:
        say(
            f"{tables[TRAIN].where}: rows are made of column {arrays[0]!r};"
            f" {some(others)}: left out"
        )
    return {split: table.arrays[arrays[0]] for split, table in tables.items()}


def _side(table: Table, features: Sequence[str]) -> int:
    """Return the height and width of pictures in columns of pixels; 0 if they are none."""
    side = math.isqrt(len(features))
    if side < 2 or side * side != len(features) or any(f not in table.places for f in features):
        return 0
    if not all(map(_PIXELS.fullmatch, features)) and not (
        side >= LEAST_SIDE and all(each.isdecimal() for each in features)
    ):
        return 0
    numbers = _numbers(table, features)
    if numbers.dtype != np.uint8:
        whole = (numbers >= 0) & (numbers <= _PIXEL) & (numbers == np.rint(numbers))
        if not whole.all():
            return 0
    return side if numbers.max(initial=0) > 1 else 0  # zeros and ones are flags as well


def _numbers(table: Table, columns: Sequence[str]) -> Array:
    """Return columns of numbers: a view where they lie beside each other."""
    chosen = [table.places[name] for name in columns]
    if chosen == list(range(chosen[0], chosen[0] + len(chosen))):
        return table.numbers[:, chosen[0] : chosen[-1] + 1]
    return table.numbers[:, chosen]


def _of_columns(
    tables: Mapping[str, Table], features: Sequence[str]
) -> tuple[dict[str, Array], list[str]]:
    """Return numbers, float64, and the names of the columns that they are in."""
    train = tables[TRAIN]
    names: list[str] = []
    texts: dict[str, list[str]] = {}
    for name in features:
        if name not in train.texts:
            names.append(name)
            continue
        texts[name] = _few(name, tables)
        names += [f"{name}={text}" for text in texts[name]]
    if texts and len(names) > MOST_COLUMNS:  # 8 bytes each, of every row
        raise CorruptDataset(
            f"{train.where}: its {len(texts):,} columns of texts would become {len(names):,}"
            f" columns, one for each text; at most {MOST_COLUMNS:,} can be learned from: leave some"
            " out by --leave-out COLUMN"
        )
    rows = {}
    for split, table in tables.items():
        made = np.empty((len(table), len(names)))
        at = 0
        for first, last in _runs(features, texts):
            if first in texts:
                width = len(texts[first])
                made[:, at : at + width] = _flags(table.texts[first], texts[first])
            else:
                some_ = features[features.index(first) : features.index(last) + 1]
                width = len(some_)
                made[:, at : at + width] = _numbers(table, some_)
            at += width
        rows[split] = made
    return rows, names


def _runs(features: Sequence[str], texts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the first and last of columns that can be copied together."""
    runs: list[tuple[str, str]] = []
    for name in features:
        if runs and name not in texts and runs[-1][1] not in texts:
            runs[-1] = runs[-1][0], name
        else:
            runs.append((name, name))
    return runs


def _few(name: str, tables: Mapping[str, Table]) -> list[str]:
    """Return the texts of a column, sorted.

    Raises:
        CorruptDataset: there are too many to be kinds of something.
    """
    every = sorted({text for table in tables.values() for text in table.texts[name].values})
    if len(every) > MOST_TEXTS:
        raise CorruptDataset(
            f"{tables[TRAIN].where}: column {name!r} has {len(every):,} different texts"
            f" ({some([*map(repr, every[:3])])}, ...); at most {MOST_TEXTS:,} can be learned from:"
            f" is it an id, or a name? {leave_out(name)} leaves it out"
        )
    return every


def leave_out(column: str) -> str:
    """Return the option that leaves a column out, for a shell."""
    return f"--leave-out {shlex.quote(safe_line(column))}"


def _flags(texts: Texts, every: Sequence[str]) -> Array:
    """Return for each row a 1 for the text that it has, 0 for others; nothing is known: NaN."""
    place = {text: number for number, text in enumerate(every)}
    codes = np.array([*(place[text] for text in texts.values), -1], np.int64)[texts.codes]
    flags = np.zeros((len(codes), len(every)))
    there = np.flatnonzero(codes >= 0)
    flags[there, codes[there]] = 1
    flags[codes < 0] = np.nan
    return flags


# Which files.


def table_files(asked: Asked, ending: re.Pattern[str]) -> dict[str, list[Where]]:
    """Return the files of each split, in order: of a folder, or the one that is named.

    Args:
        asked: what was asked for.
        ending: how such files' names end.

    Raises:
        DatasetNotFound: there are several data sets.
        CorruptDataset: one file is there twice.
    """
    if not asked.is_folder:
        return {TRAIN: [asked.where]}
    found: dict[Set, dict[str, list[Where]]] = {}
    for file in asked.every:
        end = ending.search(file.name)
        if end is None or file.name.startswith("."):
            continue
        home, above = split_above(asked.where, file)
        of = table_named(file.name[: end.start()])
        chosen = Set(home, of.set if of.split or not above else "")
        found.setdefault(chosen, {}).setdefault(of.split or above, []).append(file)
    split = {each: files for each, files in found.items() if TRAIN in files}
    if not split:
        return {
            TRAIN: [_only(asked, [f for of in found.values() for fs in of.values() for f in fs])]
        }
    only = nearest(asked.where, split, "files")
    more = [
        file
        for files in found.values()
        for of_split, every in files.items()
        if files is not only or of_split not in (TRAIN, TEST)
        for file in every
    ]
    if more:
        asked.say(f"{asked.where}: {listed(more)}: left out")
    named = {s: sorted(files, key=naturally) for s, files in only.items() if s in (TRAIN, TEST)}
    for every in named.values():
        _check_alone(asked, every, ending)
    return named


@contextmanager
def coming(files: Mapping[str, Sequence[Where]]) -> Iterator[dict[str, list[Where]]]:
    """Have the files of splits come before they are opened, in this order."""
    with ahead(chain.from_iterable(files.values())) as flat:
        each = iter(flat)
        yield {split: [*islice(each, len(every))] for split, every in files.items()}


def _check_alone(asked: Asked, files: Sequence[Where], ending: re.Pattern[str]) -> None:
    """Raise if two files are of one name but for its ending: a copy is no further part.

    Raises:
        CorruptDataset: they are: `train.csv`, `train.csv.gz`.
    """
    first: dict[tuple[object, ...], Where] = {}
    for file in files:
        key = file.parent, table_key(ending.sub("", file.name))
        other = first.setdefault(key, file)
        if other is not file:
            raise CorruptDataset(
                f"{asked.where}: {other.name} and {file.name} may both be the same rows; keep one"
                " of them, or number them"
            )


def _only(asked: Asked, files: Sequence[Where]) -> Where:
    """Return the only file, or that which is nearer than all others."""
    near = min(len(each.parts) for each in files)
    files = [each for each in files if len(each.parts) == near]
    if len(files) > 1:
        raise DatasetNotFound(
            f"{asked.where} holds {listed(files)}; name one of them, or call them train and test"
        )
    return files[0]
