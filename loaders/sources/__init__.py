"""Where data may come from: a file here is a source.

    WHAT = "a folder of IDX files"               # in a sentence that says what there is
    NAMES = ("mnist",)                           # that it takes whatever folders there are; or none

    def knows(name: str) -> bool: ...            # whether it is one of its own; cheap
    def open_source(name: str, say: Say) -> Source: ...

Nothing else has to know of it. What it needs that is large it imports when it opens something.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from protocol.options import at_home

from ..errors import DatasetNotFound, LoaderError

if TYPE_CHECKING:
    from ..rows import Rows, Source

#: Told what happens while it takes time, a line each.
Say = Callable[[str], object]


class SourceKind(Protocol):
    """What a file here has."""

    WHAT: str
    NAMES: tuple[str, ...]

    def knows(self, name: str) -> bool:
        """Whether a name is one that this kind opens."""

    def open_source(self, name: str, say: Say) -> Source:
        """Open what has this name."""


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
        raise LoaderError(f"{name}: it can't be read: {type(error).__name__}: {error}") from error


@cache
def kinds() -> tuple[SourceKind, ...]:
    """Return every kind of source; those with names first: no folder takes a name from them."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__))
    modules = [import_module(f".{name}", __name__) for name in names]
    found = [cast(SourceKind, module) for module in modules if hasattr(module, "open_source")]
    return tuple(sorted(found, key=lambda kind: not kind.NAMES))


def is_name(text: str) -> bool:
    """Whether a source is called so, whatever folders there are."""
    return any(text in kind.NAMES for kind in kinds())


def open_source(name: str | Path, say: Say = str) -> Source:
    """Return the source that has a name.

    Args:
        name: one that a kind of source knows: `mnist`, a folder, and so on.
        say: told what happens while it takes time, a line each.

    Raises:
        DatasetNotFound: nothing knows it, or what it names is not there.
        CorruptDataset: it is not what it should be.
        LoaderError: whatever else its kind raised.
    """
    with told_of(str(name)):
        named = at_home(str(name))
    for kind in kinds():
        with told_of(named):
            if kind.knows(named):
                return kind.open_source(named, say)
    what = [repr(each) for kind in kinds() for each in kind.NAMES]
    what += [kind.WHAT for kind in kinds() if not kind.NAMES]
    listed = f"neither {what[0]} nor {what[1]}" if len(what) == 2 else f"none of {', '.join(what)}"
    raise DatasetNotFound(f"{name}: {listed}")


def load(
    source: str | Path = "mnist", split: str = "train", limit: int | None = None,
    say: Say = str,
) -> Rows:  # fmt: skip
    """Return the rows of one split.

    Args:
        source: `mnist` (from the cache, else fetched), a folder of IDX files, or whatever else
            there is in `loaders/sources`.
        split: `train` or `test`.
        limit: the first so many rows; None: all.
        say: told what happens while it takes time, a line each.

    Raises:
        DatasetNotFound: no such source, or a file of it is missing.
        CorruptDataset: a file is damaged, or fields and labels don't match.
        LoaderError: `limit` is not positive.
    """
    return rows_of(open_source(source, say), split, limit)


def rows_of(source: Source, split: str, limit: int | None = None) -> Rows:
    """Return the rows of one split of a source; the first `limit` of them.

    Raises:
        DatasetNotFound: it has no such split.
        CorruptDataset: there is nothing in it.
        LoaderError: `limit` is not positive.
    """
    from ..errors import CorruptDataset
    from ..rows import Rows

    if split not in source.splits:
        why = f"no split {split!r}; there is {' and '.join(source.splits)}"
        raise DatasetNotFound(getattr(source, "absent", {}).get(split, why))
    if not source.splits[split]:
        raise CorruptDataset(f"{source.name}: its {split} files hold no rows")
    return Rows(source, split).limited(limit)
