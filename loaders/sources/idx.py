"""A folder of IDX files, named and packed as whoever brought them did: MNIST's, and its kin's.

`train-images-idx3-ubyte`, `t10k-images.idx3-ubyte.gz`, `emnist-letters-test-labels-idx1-ubyte`,
`qmnist-train-labels-idx2-int`; in the folder itself, or below it (torchvision's `MNIST/raw`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CorruptDataset, DatasetNotFound
from ..known import MNIST
from ..places import Joined, ahead, is_closed, is_folder
from . import MOST_ENTRIES, Asked, listed, ordered, pulled, some, walk

if TYPE_CHECKING:
    from ..places import Where
    from ..rows import ArraySource

WHAT = "a folder of IDX files"
ORDER = 10
NAMES = ()
#: Labels are digits unless there are more: a file with few of them is of ten classes, too.
LEAST_CLASSES = 10
#: So many classes there may be, however few rows.
MOST_SPARSE = 10_000
SPLITS, _WHAT = ("train", "test"), ("images", "labels")
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
    for name in MNIST.files
}


class _Set(NamedTuple):
    """A data set in a folder: there may be several, that begin differently."""

    home: Where
    name: str

    @property
    def path(self) -> Where:
        """What names it: the folder, or the beginning of its files' names there."""
        return self.home / self.name


_Files = dict[_Slot, "Where | Joined"]


def knows(asked: Asked) -> bool:
    """Whether there are files named as MNIST's, or it is how such names begin."""
    if asked.is_folder:
        return any(_slot_of(asked.where, file) for file in asked.files)
    return bool(_of(asked)[1])


def open_source(asked: Asked) -> ArraySource:
    """Return the data set in a folder; of several, the one that the name goes on with.

    Raises:
        DatasetNotFound: a file is missing, or there are several data sets.
        CorruptDataset: one is damaged, or two don't match.
    """
    where = asked.where
    chosen, files = _only(where, _found(asked)) if asked.is_folder else _of(asked)
    absent = {each: why for each in SPLITS if (why := _lacks(where, chosen.home, files, each))}
    if len(absent) == len(SPLITS):
        raise DatasetNotFound(_lacks(where, chosen.home, files))
    turned = chosen.name.lower().startswith("emnist")
    if turned:
        asked.say(f"{chosen.path}: EMNIST's images lie on their side; they are put upright")
    for file in files.values():
        if isinstance(file, Joined) and file.scrambled:
            asked.say(f"{file}: its {len(file.parts)} parts are put in the order of their numbers")
    return _read(files, asked.name, absent, turned)


def read_folder(
    folder: Path, name: str, begins: str = "", classes: tuple[str, ...] = (), first: int = 0
) -> ArraySource:
    """Return one of the data sets in a folder, as a source of this name.

    Args:
        folder: that has all its files.
        name: of the source.
        begins: what the names of its files begin with.
        classes: their names; none: their numbers.
        first: the lowest label; it is the first class.
    """
    asked = Asked(str(folder / begins))
    files = _of(asked)[1] if begins else _only(folder, _found(asked))[1]
    source = _read(files, name, {}, begins.startswith("emnist"))
    return _named_classes(source, classes, first) if classes else source


def _named_classes(source: ArraySource, classes: tuple[str, ...], first: int) -> ArraySource:
    from ..rows import ArraySource, Form

    form = Form(source.form.fields, classes)
    return ArraySource(
        source.name, form,
        {each: (source.read(each, slice(None)), source.labels(each) - first) for each in SPLITS},
    )  # fmt: skip


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

    there = [split for split in SPLITS if split not in absent]
    with ahead(files[_Slot(each, what)] for each in there for what in _WHAT) as coming:
        pairs = zip(coming[::2], coming[1::2], strict=True)
        read = {split: read_pair(*pair, turned) for split, pair in zip(there, pairs, strict=True)}
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


def _named(name: str) -> tuple[str, _Slot] | None:
    """Return which data set a file is of, and what of it, by its name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    split = "train" if found["split"].lower() == "train" else "test"
    return found["set"], _Slot(split, found["what"].lower())


def _slot_of(folder: Where, file: Where) -> tuple[_Set, _Slot] | None:
    """Return what a file is, or is a part of, somewhere below a folder."""
    named, home = _named(file.name), file.parent
    if home != folder and (above := _named(home.name)):  # a folder of each, whole or in parts
        if named not in (None, above):
            return None
        named, home = above, home.parent
    if named is None:
        return None
    if home != folder and home.name.lower() in SPLITS:
        home = home.parent
    return _Set(home, named[0]), named[1]


def _of(asked: Asked) -> tuple[_Set, _Files]:
    """Return the data set that a path names: how its files begin, or one of them; or no files."""
    where = asked.where
    named = _named(where.name) if asked.is_file else None
    chosen = _Set(where.parent, where.name if named is None else named[0])
    files: _Files = {}
    begins = not (asked.is_file or asked.is_folder) and is_folder(where.parent)
    if named is not None or begins:
        for file in walk(where.parent, 0):
            of = _named(file.name)
            if of is not None and of[0] == chosen.name:
                files.setdefault(of[1], file)
    return chosen, files


def _found(asked: Asked) -> dict[_Set, _Files]:
    """Return the data sets that there are in a folder and below it, in parts or whole."""
    found: dict[_Set, _Files] = {}
    parts: dict[tuple[_Set, _Slot], list[Where]] = {}
    for file in asked.every:
        of = _slot_of(asked.where, file)
        if of is None:
            continue
        if _named(file.name) is None:
            parts.setdefault(of, []).append(file)
        else:
            found.setdefault(of[0], {}).setdefault(of[1], file)
    for (chosen, slot), files in parts.items():
        found.setdefault(chosen, {}).setdefault(slot, Joined.of(files[0].parent, files))
    return found


def _only(folder: Where, found: Mapping[_Set, _Files]) -> tuple[_Set, _Files]:
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
            f"{folder} holds {len(paths)} data sets; name one of them: {some(paths)}"
        )
    return nearest[0], found[nearest[0]]


def _whole(files: _Files, split: str) -> bool:
    return all(slot in files for slot in _SLOTS if slot.split == split)


def _lacks(path: Where, home: Where, files: _Files, split: str = "") -> str:
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
    there = ordered(home, MOST_ENTRIES)
    told = f"{', '.join(missing)} (or .gz)"
    if is_closed(home):
        return f"{path} needs {told}; {home} can't be looked into (it is not yours to read)"
    if not there:
        return f"{path} is empty; it needs {told}"
    where = "it" if home == path else str(home)
    return f"{path} lacks {told}; {where} holds {listed(there)}{pulled(there)}"
