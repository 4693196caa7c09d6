"""Where data may come from: a file here is a layout of files that a source is read from.

    WHAT = "a folder of IDX files"               # in a sentence that says what there is
    ORDER = 10                                   # who is asked first, of those that know a folder
    NAMES = ("mnist",)                           # that it takes whatever folders there are; or none
    def about(name: str) -> About: ...           # of a name; where there are some, and if it likes

    def knows(asked: Asked) -> bool: ...         # whether it is one of its own; cheap
    def open_source(asked: Asked) -> Source: ...
    SHORT = "WHAT"                               # or none; in a list of all that there could be
    def almost(asked: Asked) -> str: ...         # or none; of what nobody knows: what to do

Nothing else has to know of it. Where files are is none of its business (`loaders/places.py`). What
it needs that is large it imports when it opens something.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from protocol.options import at_home
from protocol.wire.secrets import shown
from protocol.wire.words import safe_line

from .. import places
from ..errors import CorruptDataset, DatasetNotFound, LoaderError
from ..options import ReadingOptions
from ..signs import HEAD, tell

if TYPE_CHECKING:
    from ..places import Where
    from ..rows import Rows, Source

#: Told what happens while it takes time, a line each.
Say = Callable[[str], object]
#: Folders below the one that is named are looked into so deep; entries that are looked at, in all.
DEEP, MOST_ENTRIES = 3, 10_000
#: Entries of a data set whose files all count.
_MOST_OF_IT = 10_000_000
#: Names that are told where nothing fits.
_TOLD = 8


_FOLDER, _OR_MANY = "a folder of ", " or a folder of such"


@dataclass(frozen=True)
class Asked:
    """What was asked for: looked at once, by whoever wants to know whether it is one of its own.

    Args:
        given: what a user has called it.
        reading: how it is to be read.
        say: told what happens while it takes time, a line each.
        known: the columns that a model knows, of a table; of texts, `colour=red`. None: any.
    """

    given: str
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    say: Say = str
    known: tuple[str, ...] = ()

    @cached_property
    def name(self) -> str:
        """What it is called wherever it is told: an address without its secrets."""
        return shown(self.given)

    @cached_property
    def where(self) -> Where:
        """The place that it names, if it is one."""
        return places.at(self.given)

    @cached_property
    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return places.is_folder(self.where)

    @cached_property
    def is_file(self) -> bool:
        """Whether a file is there."""
        return places.is_file(self.where)

    @property
    def is_there(self) -> bool:
        """Whether it names a file or a folder."""
        return self.is_folder or self.is_file

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the file that is there; none of a folder, or of nothing."""
        return places.head(self.where, HEAD) if self.is_file else b""

    @cached_property
    def entries(self) -> tuple[Where, ...]:
        """What is in the folder that is there, shorter names first; nothing without one."""
        return tuple(ordered(self.where, MOST_ENTRIES)) if self.is_folder else ()

    @cached_property
    def files(self) -> tuple[Where, ...]:
        """The files in the folder and those below it, the nearest first; so many at most.

        They are enough to tell what it is; who reads them all asks for `every`.
        """
        return self._walked[0]

    @cached_property
    def every(self) -> tuple[Where, ...]:
        """The same files, and those that `files` may have left out where there are very many."""
        files, whole = self._walked
        return files if whole else tuple(_walk(self.where, DEEP, _MOST_OF_IT)[0])

    @cached_property
    def _walked(self) -> tuple[tuple[Where, ...], bool]:
        if not self.is_folder:
            return (), True
        files, whole = _walk(self.where, DEEP, MOST_ENTRIES)
        return tuple(files), whole


def ordered(folder: Where, most: int) -> list[Where]:
    """Return what is in a folder: shorter names first, so that no copy comes before a file."""
    found = places.entries(folder, most)
    return sorted(found, key=lambda each: (each.suffix.lower() == ".gz", len(each.name), each.name))


def walk(folder: Where, deep: int) -> list[Where]:
    """Return files of a folder and those below it, the nearest first; unpacked before packed."""
    return _walk(folder, deep, MOST_ENTRIES)[0]


def _walk(folder: Where, deep: int, most: int) -> tuple[list[Where], bool]:
    """Return what `walk` does of so many entries, and whether there are no more."""
    found: list[Where] = []
    folders, left = [folder], most
    for _ in range(deep + 1):
        below: list[Where] = []
        for each in folders:
            there = ordered(each, left)
            left -= len(there)
            for entry in there:
                if places.is_file(entry):
                    found.append(entry)
                elif entry.name[:1] != "." and places.is_folder(entry):
                    below.append(entry)
        folders = below
    return found, left > 0


@dataclass(frozen=True)
class About:
    """What is known of a data set that has a name, unread.

    Args:
        name: its name.
        title: for people.
        rows: of its splits, in words.
        form: of a row, in words.
        licence: as whoever made it states it; empty: not known.
        origin: where it is had from.
        kept: the folder on this machine that has it; empty: none.
    """

    name: str
    title: str = ""
    rows: str = ""
    form: str = ""
    licence: str = ""
    origin: str = ""
    kept: str = ""


class SourceKind(Protocol):
    """What a file here has."""

    WHAT: str
    ORDER: int
    NAMES: tuple[str, ...]

    def knows(self, asked: Asked) -> bool:
        """Whether it is one that this kind opens."""

    def open_source(self, asked: Asked) -> Source:
        """Open it."""


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Tell what a kind of source raises, whatever it is, as an error of the source.

    Raises:
        LoaderError: something was raised.
    """
    try:
        yield
    except (LoaderError, MemoryError):
        raise
    except Exception as error:
        told = shown(f"{name}: it can't be read: {type(error).__name__}: {error}")
        raise LoaderError(told) from error


@cache
def kinds() -> tuple[SourceKind, ...]:
    """Return every kind of source; those with names first: no folder takes a name from them."""
    modules = [
        import_module(f".{found.name}", __name__) for found in pkgutil.iter_modules(__path__)
    ]
    found = [cast(SourceKind, module) for module in modules if hasattr(module, "open_source")]
    return tuple(sorted(found, key=lambda kind: (not kind.NAMES, kind.ORDER)))


def is_name(text: str) -> bool:
    """Whether a source is called so, whatever folders there are."""
    return any(text in kind.NAMES for kind in kinds())


def lasting(name: str) -> str:
    """Return what a source is called in every folder: by its whole path, if it is a path here."""
    file = name.rpartition(":")[0] if ".py:" in name else name
    try:
        there = not is_name(name) and Path(file).exists()
    except (OSError, ValueError):  # too long, say
        return name
    return str(Path(name).absolute()) if there else name


def runs_code(name: str) -> bool:
    """Whether a source is what a function of a user's returns; no file or folder is called so."""
    from . import code

    try:
        return code.knows(Asked(name)) and not Path(name).exists()
    except (OSError, ValueError):  # too long, say
        return False


def named() -> list[About]:
    """Return what is known of every data set that has a name."""
    return [
        getattr(kind, "about", About)(name) for kind in kinds() for name in kind.NAMES
    ]  # fmt: skip


def what_is(name: str | Path, reading: ReadingOptions | None = None) -> str:
    """Return what kind of source a name is of, in words; empty: of none."""
    asked = Asked(str(name), reading or ReadingOptions())
    with told_of(asked.name):
        what = next((kind.WHAT for kind in kinds() if kind.knows(asked)), "")
        one, either_, _ = what.partition(_OR_MANY)
        if not either_:
            return what
        return one if asked.is_file else f"{_FOLDER}{one.removeprefix('a ')}s"


def open_source(
    name: str | Path, say: Say = str, reading: ReadingOptions | None = None,
    columns: Sequence[str] = (),
) -> Source:  # fmt: skip
    """Return the source that has a name.

    Args:
        name: one that a kind of source knows: `mnist`, a folder, a file, and so on.
        say: told what happens while it takes time, a line each.
        reading: how it is to be read; None: as it says itself.
        columns: of a table, that a model knows; where it has some of these, others are left out.

    Raises:
        DatasetNotFound: nothing knows it, or what it names is not there.
        CorruptDataset: it is not what it should be.
        LoaderError: whatever else its kind raised.
    """
    with told_of(str(name)):
        asked = Asked(at_home(str(name)), reading or ReadingOptions(), say, tuple(columns))
    for kind in kinds():
        with told_of(asked.name):
            if kind.knows(asked):
                if asked.name in kind.NAMES and asked.is_there:
                    here = f"./{asked.name}"
                    say(f"{asked.name}: the data set of this name; what lies here is {here}")
                return kind.open_source(asked)
    with told_of(asked.name):
        raise DatasetNotFound(_nothing(asked))


def open_rows(
    name: str | Path, columns: Sequence[str] = (), say: Say = str,
    reading: ReadingOptions | None = None,
) -> Source:  # fmt: skip
    """Return the rows of a table, which need no label, as the split `all`.

    Args:
        name: of a file.
        columns: that a model knows; others are left out. None: all are taken.
        say: told how columns are taken.
        reading: how the data was read that the model is of.

    Raises:
        DatasetNotFound: there is no such file, or it is no table.
        CorruptDataset: it is damaged, or has none of these columns.
    """
    asked = Asked(at_home(str(name)), reading or ReadingOptions(), say, tuple(columns))
    for kind in kinds():
        with told_of(asked.name):
            if hasattr(kind, "open_rows") and kind.knows(asked):
                found: Source = kind.open_rows(asked)
                return found
    there = tell(asked.head, "a table") if asked.is_file else "no such table"
    raise DatasetNotFound(f"{safe_line(asked.name)}: {there}; rows are those of CSV or Parquet")


def _could() -> str:
    """Return what a source may be, in a line or two: names, folders, files."""
    names = [name for kind in kinds() for name in kind.NAMES]
    rest = [getattr(kind, "SHORT", kind.WHAT) for kind in kinds() if not kind.NAMES]
    folders = [each.removeprefix(_FOLDER) for each in rest if each.startswith(_FOLDER)]
    files = [each for each in rest if not each.startswith(_FOLDER)]
    told = f"a name ({', '.join(names[:2])}, ...: mnist-datasets list)" if names else ""
    groups = [told, _FOLDER + either(folders) if folders else "", either(files)]
    return f"a source is {'; '.join(filter(None, groups))}"


def either(words: Sequence[str]) -> str:
    """Return words as alternatives: `a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _nothing(asked: Asked) -> str:
    """Return what there is where nothing is that any kind knows, and what to do, or could be."""
    nearly = (getattr(kind, "almost", lambda _: "")(asked) for kind in kinds() if asked.is_there)
    could = next(filter(None, nearly), "") or _could()
    name = safe_line(asked.name)
    if asked.is_folder:
        there = (
            f"it holds {listed(asked.entries)}{pulled(asked.entries)}"
            if asked.entries
            else "it is empty"
        )
        if places.is_closed(asked.where):
            return f"{name} can't be looked into (it is not yours to read)"
        return f"{name}: a folder without data that is known: {there}; {could}"
    if asked.is_file:
        return f"{name}: {tell(asked.head, 'data that is known')}; {could}"
    return f"{name}: no such file or folder; {could}"


def listed(found: Sequence[Where]) -> str:
    """Return what files and folders are called, in one line that is not too long."""
    told = [each.name + _remark(each) for each in found[:_TOLD]]
    return some([*told, *(each.name for each in found[_TOLD:])])


def _remark(where: Where) -> str:
    """Return what is to be said behind the name of something that is in a folder."""
    if places.is_file(where):
        return ""
    if places.is_folder(where):
        return "/"
    return " (no file)" if places.is_there(where) else " (a link that leads nowhere)"


def pulled(found: Sequence[Where]) -> str:
    """Return what to do where files only say where data is; empty where none does."""
    pointers = any(each.name.endswith(".dvc") for each in found)
    return "; what ends in .dvc is no data, but says where some is: run dvc pull" * pointers


def some(names: Sequence[str]) -> str:
    """Return names, of whatever letters, in one line that is not too long."""
    more = f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else ""
    return ", ".join(safe_line(name) for name in names[:_TOLD]) + more


def load(
    source: str | Path = "mnist", split: str = "train", limit: int | None = None,
    say: Say = str, reading: ReadingOptions | None = None,
) -> Rows:  # fmt: skip
    """Return the rows of one split.

    Args:
        source: `mnist` (from the cache, else fetched), a folder of IDX files, or whatever else
            there is in `loaders/sources`.
        split: `train` or `test`.
        limit: the first so many rows; None: all.
        say: told what happens while it takes time, a line each.
        reading: how it is to be read; None: as it says itself.

    Raises:
        DatasetNotFound: no such source, or a file of it is missing.
        CorruptDataset: a file is damaged, or fields and labels don't match.
        LoaderError: `limit` is not positive.
    """
    return rows_of(open_source(source, say, reading), split, limit)


def rows_of(source: Source, split: str, limit: int | None = None) -> Rows:
    """Return the rows of one split of a source; the first `limit` of them.

    Raises:
        DatasetNotFound: it has no such split.
        CorruptDataset: there is nothing in it.
        LoaderError: `limit` is not positive.
    """
    from ..rows import Rows

    if split not in source.splits:
        why = f"no split {split!r}; there is {' and '.join(source.splits)}"
        raise DatasetNotFound(getattr(source, "absent", {}).get(split, why))
    if not source.splits[split]:
        raise CorruptDataset(f"{source.name}: its {split} files hold no rows")
    return Rows(source, split).limited(limit)
