"""A folder of IDX files, named and packed as whoever brought them did: MNIST's, and its kin's.

`train-images-idx3-ubyte`, `t10k-images.idx3-ubyte.gz`, `emnist-letters-test-labels-idx1-ubyte`,
`qmnist-train-labels-idx2-int`; in the folder itself, or below it (torchvision's `MNIST/raw`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protocol.wire.words import safe_line

from ..errors import CorruptDataset, DatasetNotFound
from ..fetching import MNIST_FILES
from . import Say

if TYPE_CHECKING:
    from ..rows import ArraySource

WHAT = "a folder of IDX files"
NAMES = ()
#: Labels are digits unless there are more: a file with few of them is of ten classes, too.
LEAST_CLASSES = 10
#: So many classes there may be, however few rows.
MOST_SPARSE = 10_000
SPLITS = ("train", "test")
#: Folders below the one that is named are looked into so deep; entries that are looked at, in all.
_DEEP, _MOST_ENTRIES = 3, 10_000
#: Names that are told where nothing fits.
_TOLD = 8
_NAME = re.compile(
    r"(?P<set>.*?)[-_.]?(?P<split>train|t10k|test)(ing)?[-_.](?P<what>images|labels)"
    r"([-_.]?idx\d)?([-_.]?(ubyte|byte|short|int|float|double))?(\.(idx|bin))?(?P<packed>\.gz)?",
    re.IGNORECASE,
)


class _Slot(NamedTuple):
    """What a file is of a data set."""

    split: str
    what: str


#: MNIST's name for each; what is said to be missing.
_SLOTS = {
    _Slot("test" if name.startswith("t10k") else "train", name.split("-")[1]): name
    for name in MNIST_FILES
}


class _Set(NamedTuple):
    """A data set in a folder: there may be several, that begin differently."""

    home: Path
    name: str

    @property
    def path(self) -> Path:
        """What names it: the folder, or the beginning of its files' names there."""
        return self.home / self.name


_Files = dict[_Slot, Path]


def knows(name: str) -> bool:
    """Whether it is a folder, or how the files of a data set in a folder begin."""
    try:
        return Path(name).is_dir() or bool(_of(Path(name))[1])
    except (OSError, ValueError):  # too long, say
        return False


def open_source(name: str, say: Say) -> ArraySource:
    """Return the data set in a folder; of several, the one that the name goes on with.

    Raises:
        DatasetNotFound: a file is missing, or there are several data sets.
        CorruptDataset: one is damaged, or two don't match.
    """
    path = Path(name)
    chosen, files = _only(path, _found(path)) if path.is_dir() else _of(path)
    absent = {each: why for each in SPLITS if (why := _lacks(path, chosen.home, files, each))}
    if len(absent) == len(SPLITS):
        raise DatasetNotFound(_lacks(path, chosen.home, files))
    turned = chosen.name.lower().startswith("emnist")
    if turned:
        say(f"{chosen.path}: EMNIST's images lie on their side; they are put upright")
    return _read(files, name, absent, turned)


def read_folder(folder: Path, name: str) -> ArraySource:
    """Return what is in a folder that has MNIST's four files, as a source of this name."""
    return _read({slot: folder / file for slot, file in _SLOTS.items()}, name, {}, turned=False)


def _read(files: _Files, name: str, absent: Mapping[str, str], turned: bool) -> ArraySource:
    """Return what is in files, as a source of this name.

    Args:
        files: both of each split that is not absent.
        name: of the source.
        absent: why a split is not there, by its name.
        turned: whether images lie on their side.
    """
    import numpy as np

    from ..mnist import read_pair
    from ..rows import ArraySource, Field, Form, Numbered

    read = {
        split: read_pair(files[_Slot(split, "images")], files[_Slot(split, "labels")], turned)
        for split in SPLITS
        if split not in absent
    }
    size = _size(name, {split: array.shape[1:] for split, (array, ls) in read.items() if len(ls)})
    most = max((int(labels.max(initial=0)) for _, labels in read.values()), default=0)
    _check_most(name, most, sum(len(labels) for _, labels in read.values()))
    form = Form({"image": Field("uint8", size)}, Numbered(max(LEAST_CLASSES, most + 1)))
    splits = {}
    for split, (array, labels) in read.items():
        # Of no rows the size may be any; that there are none is said where they are asked for.
        images = array if len(labels) else np.zeros((0, *size), np.uint8)
        images.flags.writeable = False  # every learner is handed these
        splits[split] = {"image": images}, labels
    return ArraySource(name, form, splits, absent)


def _check_most(name: str, most: int, rows: int) -> None:
    """Raise if a label makes classes of which nearly none has a row: a model has room for each."""
    if most >= max(MOST_SPARSE, rows):
        raise CorruptDataset(
            f"{name}: a label of {most:,} among {rows:,} rows would make {most + 1:,} classes; is"
            " the file damaged? If not, number the classes from 0 on"
        )


def _size(name: str, sizes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the one size, and channels, of the images of all splits.

    Raises:
        CorruptDataset: they are of several.
    """
    if len(set(sizes.values())) > 1:
        told = ", ".join(
            f"its {split} images are {' x '.join(map(str, size))}" for split, size in sizes.items()
        )
        raise CorruptDataset(f"{name}: {told} pixels; they must be of one size")
    return next(iter(sizes.values()), (0, 0))


# Which files there are.


def _named(path: Path) -> tuple[str, _Slot] | None:
    """Return which data set a file is of, and what of it, by its name."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    split = "train" if found["split"].lower() == "train" else "test"
    return found["set"], _Slot(split, found["what"].lower())


def _of(path: Path) -> tuple[_Set, _Files]:
    """Return the data set that a path names: how its files begin, or one of them; or no files."""
    named = _named(path) if path.is_file() else None
    chosen = _Set(path.parent, path.name if named is None else named[0])
    files: _Files = {}
    if path.parent.is_dir() and (named is not None or not path.exists()):
        for file in _files(path.parent, 0):
            of = _named(file)
            if of is not None and of[0] == chosen.name:
                files.setdefault(of[1], file)
    return chosen, files


def _files(folder: Path, deep: int) -> Iterator[Path]:
    """Yield files of a folder and those below it, the nearest first; unpacked before packed."""
    folders, left = [folder], _MOST_ENTRIES
    for _ in range(deep + 1):
        below: list[Path] = []
        for each in folders:
            there = _entries(each, left)
            left -= len(there)
            yield from (entry for entry in there if stat.S_ISREG(_mode(entry)))
            below += (e for e in there if stat.S_ISDIR(_mode(e)) and e.name[0] != ".")
        folders = below


def _entries(folder: Path, most: int) -> list[Path]:
    """Return what is in a folder: shorter names first, so that no copy comes before a file."""
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            found += (Path(entry.path) for _, entry in zip(range(most), entries, strict=False))
    except OSError:  # maybe that of somebody else, below; of the one that is named it is said
        pass
    return sorted(found, key=lambda path: (path.suffix.lower() == ".gz", len(path.name), path.name))


def _mode(path: Path) -> int:
    """Return what something is, as `stat` has it; 0 where nobody can tell.

    A link may lead nowhere, in a circle, or to where one may not look; the others are as good.
    """
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _found(folder: Path) -> dict[_Set, _Files]:
    """Return the data sets that there are in a folder and below it, in parts or whole."""
    found: dict[_Set, _Files] = {}
    for path in _files(folder, _DEEP):
        named = _named(path)
        if named is not None:
            home = path.parent
            if home != folder and _named(home) == named:  # some unpackers make a folder of each
                home = home.parent
            found.setdefault(_Set(home, named[0]), {}).setdefault(named[1], path)
    return found


def _only(folder: Path, found: Mapping[_Set, _Files]) -> tuple[_Set, _Files]:
    """Return the data set that is meant: of those with a whole split, the nearest.

    Raises:
        DatasetNotFound: there are several.
    """
    whole = [each for each, files in found.items() if any(_whole(files, split) for split in SPLITS)]
    if not whole:
        most = max(found, key=lambda each: len(found[each]), default=_Set(folder, ""))
        return most, found.get(most, {})
    if _Set(folder, "") in whole:  # by MNIST's own names, whatever else there is
        whole = [_Set(folder, "")]
    near = min(len(each.home.parts) for each in whole)
    nearest = [each for each in whole if len(each.home.parts) == near]
    if len(nearest) > 1:
        paths = sorted(str(each.path) for each in nearest)
        raise DatasetNotFound(
            f"{folder} holds {len(paths)} data sets; name one of them: {_some(paths)}"
        )
    return nearest[0], found[nearest[0]]


def _whole(files: _Files, split: str) -> bool:
    return all(slot in files for slot in _SLOTS if slot.split == split)


def _lacks(path: Path, home: Path, files: _Files, split: str = "") -> str:
    """Return which files are missing, and what is there instead; empty if none is.

    Args:
        path: that was named.
        home: the folder that holds the files that there are.
        files: these.
        split: of this only; both unless given.
    """
    missing = [
        name for slot, name in _SLOTS.items() if slot not in files and split in ("", slot.split)
    ]
    if not missing:
        return ""
    there = [each.name + _remark(each) for each in _entries(home, _MOST_ENTRIES)]
    told = f"{', '.join(missing)} (or .gz)"
    if not os.access(home, os.R_OK | os.X_OK):
        return f"{path} needs {told}; {home} can't be looked into (it is not yours to read)"
    if not there:
        return f"{path} is empty; it needs {told}"
    pointers = any(name.endswith(".dvc") for name in there)
    hint = "; what ends in .dvc is no data, but says where some is: run dvc pull" * pointers
    where = "it" if home == path else str(home)
    return f"{path} lacks {told}; {where} holds {_some(there)}{hint}"


def _remark(path: Path) -> str:
    """Return what is to be said behind the name of something that is in a folder."""
    mode = _mode(path)
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISDIR(mode):
        return "/"
    return " (no file)" if mode else " (a link that leads nowhere)"


def _some(names: list[str]) -> str:
    """Return names, of whatever letters, in one line that is not too long."""
    more = f" and {len(names) - _TOLD:,} more" if len(names) > _TOLD else ""
    return ", ".join(safe_line(name) for name in names[:_TOLD]) + more
