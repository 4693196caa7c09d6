"""An archive of NumPy's arrays, as Keras' `mnist.npz`: `x_train`, `y_train`, `x_test`, `y_test`.

Its arrays may have other names: `train_images`, `labels`, `X`, `target`, and so on; a folder may
have `train.npz` and `test.npz`, each with rows and labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import CorruptDataset, DatasetNotFound
from ..naming import LABELS, ROWS, TEST, TRAIN, VALIDATION, named, table_named, told
from ..places import ahead, opened
from . import Asked, listed

if TYPE_CHECKING:
    from ..arrays import Given
    from ..npy import Archive, Header
    from ..places import Where
    from ..rows import ArraySource
    from . import Say

WHAT, SHORT = "a .npz file", ".npz"
ORDER = 20
NAMES = ()
ACCEPTED = (
    "x_train, y_train, x_test and y_test, or without a test set; images and labels; data and"
    " target; X and y; train_images, train_labels, ...; or arr_0 and arr_1, one of which has a"
    " label a row"
)
_Names = dict[str, dict[str, str]]


def knows(asked: Asked) -> bool:
    """Whether it is an archive whose first file is an array, or is called so; or a folder of it."""
    if asked.is_folder:
        return bool(_in_folder(asked))
    return asked.is_file and (_is_archive(asked.head) or asked.where.suffix.lower() == ".npz")


def _is_archive(head: bytes) -> bool:
    size = int.from_bytes(head[26:28], "little")
    return head.startswith(b"PK\x03\x04") and head[30 : 30 + size].endswith(b".npy")


def _in_folder(asked: Asked) -> list[Where]:
    return [
        each for each in asked.entries
        if each.suffix.lower() == ".npz" and not each.name.startswith(".")
    ]  # fmt: skip


def open_source(asked: Asked) -> ArraySource:
    """Return what is in an archive, or in those of a folder.

    Raises:
        DatasetNotFound: there are several data sets, or none.
        CorruptDataset: an archive is damaged, its arrays don't match, or it is not said which are
            rows and which labels.
    """
    from ..arrays import source_of

    if not asked.is_folder:
        return source_of(asked.name, _splits(asked.where, asked.say, TRAIN), say=asked.say)
    files = _in_folder(asked)
    if len(files) == 1:
        return source_of(asked.name, _splits(files[0], asked.say, TRAIN), say=asked.say)
    by_split = {split: f for f in files if (split := table_named(f.stem).split) in (TRAIN, TEST)}
    if TRAIN not in by_split:
        raise DatasetNotFound(
            f"{asked.where} holds {listed(files)}; name one of them, or call them train.npz and"
            " test.npz"
        )
    with ahead(by_split.values()) as coming:
        splits = {
            split: _splits(file, asked.say, split)[split]
            for split, file in zip(by_split, coming, strict=True)
        }
    return source_of(asked.name, splits, say=asked.say)


def _splits(where: Where, say: Say, alone: str) -> dict[str, Given]:
    """Return the splits in an archive.

    Args:
        where: it is.
        say: told what is left out.
        alone: the split of rows that are said to be of none.
    """
    from ..arrays import Given
    from ..npy import Archive

    with opened(where) as file:
        archive = Archive(where, file)
        chosen = _chosen(where, archive, archive.headers(), say)
        return {
            split or alone: Given(
                archive.read(names[ROWS]), archive.read(names[LABELS]), names[ROWS], names[LABELS]
            )
            for split, names in chosen.items()
        }


def _chosen(where: Where, archive: Archive, headers: Mapping[str, Header], say: Say) -> _Names:
    """Return the names of each split's rows and labels.

    Raises:
        CorruptDataset: they can't be told, or there are several.
    """
    found = _by_slot(where, headers)
    whole = {split: names for split, names in found.items() if len(names) == 2}
    # Of rows that are said to be of a split and others that are not, the others are of none.
    wanted = {split: names for split, names in whole.items() if split in (TRAIN, TEST)}
    alone: _Names = {split: names for split, names in whole.items() if not split}
    chosen = (wanted if TRAIN in wanted or not alone else alone) or _numbered(headers)
    if not chosen:
        raise CorruptDataset(
            f"{where}: it holds {_told(headers)}, and not for certain rows and their labels; an"
            f" archive has {ACCEPTED}"
        )
    if VALIDATION in whole:
        say(f"{where}: {' and '.join(whole[VALIDATION].values())} are left out")
    return chosen


def _by_slot(where: Where, names: Mapping[str, object]) -> _Names:
    """Return names by split and by what they are.

    Raises:
        CorruptDataset: two are the same.
    """
    found: _Names = {}
    for name in names:
        set_, split, what = named(name)
        if not what or set_:
            continue
        if what in found.setdefault(split, {}):
            raise CorruptDataset(
                f"{where}: {found[split][what]} and {name} may both be {f'{split} {what}'.strip()};"
                " keep one of them"
            )
        found[split][what] = name
    return found


def _numbered(headers: Mapping[str, Header]) -> _Names:
    """Return which of two arrays without names are rows and which labels, if that is certain."""
    if set(headers) != {"arr_0", "arr_1"}:
        return {}
    labels = [name for name, header in headers.items() if _are_labels(header)]
    if len(labels) != 1:
        return {}
    (rows,) = set(headers) - set(labels)
    pair = {ROWS: rows, LABELS: labels[0]}
    return {"": pair}


def _are_labels(header: Header) -> bool:
    return len(header.shape) == 1 or header.shape[1:] == (1,)


def _told(headers: Mapping[str, Header]) -> str:
    return told({name: str(header) for name, header in headers.items()}) or "no arrays"
