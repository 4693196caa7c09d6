"""Arrays of NumPy's in pairs: rows and their labels, `X.npy` and `X-labels.npy`.

In a folder `x_train.npy`, `y_train.npy`, `x_test.npy`, `y_test.npy`, or `train-data.npy`,
`train-labels.npy` and so on; or `train/images.npy`, `train/labels.npy`.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ..errors import CorruptDataset, DatasetNotFound
from ..naming import LABELS, ROWS, TEST, TRAIN, VALIDATION, Set, named, nearest, split_above
from ..places import ahead
from . import Asked, listed, walk

if TYPE_CHECKING:
    from ..places import Where
    from ..rows import ArraySource

WHAT, SHORT = "a pair or a folder of .npy files", ".npy"
ORDER = 30
NAMES = ()
_MAGIC = b"\x93NUMPY"


_Pairs = dict[str, dict[str, "Where"]]


def knows(asked: Asked) -> bool:
    """Whether it is an array, or a folder of a pair of some, or of arrays alone."""
    if asked.is_folder:
        there = [file for file in asked.files if not file.name.startswith(".")]
        arrays = [*filter(_is_array, there)]
        pairs = _found(asked.where, arrays).values()
        return any(map(_whole, pairs)) or (bool(arrays) and len(arrays) == len(there))
    return asked.is_file and (asked.head.startswith(_MAGIC) or _is_array(asked.where))


def _is_array(file: Where) -> bool:
    return file.suffix.lower() == ".npy" and not file.name.startswith(".")


def open_source(asked: Asked) -> ArraySource:
    """Return the data set in a folder, or that a file is of.

    Raises:
        DatasetNotFound: an array has no pair, or there are several data sets.
        CorruptDataset: a file is damaged, or two don't match.
    """
    from ..arrays import Given, source_of
    from ..npy import read_npy

    pairs = _of_folder(asked) if asked.is_folder else _of_file(asked)
    if VALIDATION in pairs:
        asked.say(f"{asked.where}: {pairs.pop(VALIDATION)[ROWS].name} and its labels are left out")
    _check_alone(asked, pairs)
    files = [(files[ROWS], files[LABELS]) for files in pairs.values()]
    with ahead(chain.from_iterable(files)) as coming:
        arrays = [*map(read_npy, coming)]
    splits = {
        split or TRAIN: Given(array, truth, rows.name, labels.name)
        for split, array, truth, (rows, labels) in zip(
            pairs, arrays[::2], arrays[1::2], files, strict=True
        )
    }
    return source_of(asked.name, splits, say=asked.say)


def _of_folder(asked: Asked) -> _Pairs:
    found = _found(asked.where, [each for each in asked.every if _is_array(each)])
    whole = {each: pairs for each, files in found.items() if (pairs := _whole(files))}
    if not whole:
        arrays = [each for each in asked.files if _is_array(each)]
        raise DatasetNotFound(
            f"{asked.where}: its arrays ({listed(arrays)}) are no pairs of rows and labels; there"
            " are x_train.npy and y_train.npy, train-data.npy and train-labels.npy, or NAME.npy and"
            " NAME-labels.npy"
        )
    return nearest(asked.where, whole, "arrays")


def _of_file(asked: Asked) -> _Pairs:
    """Return the pairs of the data set that a file is of.

    Raises:
        DatasetNotFound: its other half is not there.
    """
    where = asked.where
    mine, split, what = named(where.stem)
    beside = [each for each in walk(where.parent, 0) if _is_array(each) or each == where]
    pairs = _found(where.parent, beside)[Set(where.parent, mine)]
    halves = _halves(pairs)
    if split not in halves:
        other = "rows" if what == LABELS else "labels"
        wanted = f"{where.stem}-labels.npy" if other == "labels" else "the rows"
        raise DatasetNotFound(
            f"{where}: the {other} that belong to it are not beside it ({wanted}, or"
            f" x_train.npy and y_train.npy); there is {listed(beside)}"
        )
    # Of a pair without a split there is only this; a named one brings the other split along.
    return {"": halves[""]} if not split else _whole(pairs)


def _found(root: Where, arrays: list[Where]) -> dict[Set, _Pairs]:
    """Return arrays by data set, split, and what they are."""
    found: dict[Set, _Pairs] = {}
    for file in arrays:
        of, split, what = _called(root, file)
        found.setdefault(of, {}).setdefault(split, {}).setdefault(what, file)
    for pairs in found.values():
        for files in pairs.values():
            # What is called by its split or its set alone is rows, if nothing else is.
            alone = files.pop("", None)
            if alone is not None:
                files.setdefault(ROWS, alone)
    return found


def _called(root: Where, file: Where) -> tuple[Set, str, str]:
    """Return the data set and the split that an array is of by its name, and what it is."""
    home, above = split_above(root, file)
    set_, split, what = named(file.stem)
    return Set(home, set_), split or above, what


def _check_alone(asked: Asked, pairs: _Pairs) -> None:
    """Raise if another array has as good a claim to be one that was chosen.

    Raises:
        CorruptDataset: two are the same by their names: `x_train.npy`, `train-images.npy`.
    """
    root = asked.where if asked.is_folder else asked.where.parent
    chosen = {_called(root, file): file for files in pairs.values() for file in files.values()}
    beside = asked.every if asked.is_folder else walk(root, 0)
    for file in filter(_is_array, beside):
        other = chosen.get(_called(root, file), file)
        if other != file:
            raise CorruptDataset(
                f"{root}: {other.name} and {file.name} may both be the"
                f" {_called(root, file)[2] or ROWS}; keep one of them"
            )


def _halves(pairs: _Pairs) -> _Pairs:
    return {split: files for split, files in pairs.items() if len(files) == 2}


def _whole(pairs: _Pairs) -> _Pairs:
    """Return those with both halves; where there are splits, nothing that is of none."""
    whole = _halves(pairs)
    if TRAIN in whole or TEST in whole:
        whole.pop("", None)
    return whole
