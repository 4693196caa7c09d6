"""What an array, or a file, is of a data set, by its name: `x_train`, `mnist-test-labels`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from protocol.wire.words import safe_line

from .errors import DatasetNotFound

if TYPE_CHECKING:
    from .places import Where

_Of = TypeVar("_Of")
TRAIN, TEST, VALIDATION = "train", "test", "validation"
ROWS, LABELS = "rows", "labels"
_SPLITS = {
    **dict.fromkeys(["train", "training", "trn", "tr"], TRAIN),
    **dict.fromkeys(["test", "testing", "t10k", "tst", "te"], TEST),
    **dict.fromkeys(["validation", "valid", "val", "dev"], VALIDATION),
}
_WHATS = {
    **dict.fromkeys(
        ["x", "images", "image", "img", "imgs", "data", "features", "inputs", "pixels"], ROWS
    ),
    **dict.fromkeys(["y", "labels", "label", "target", "targets"], LABELS),
}
_BETWEEN = re.compile(r"[-_.\s]+")
#: `xtrain`, `TrainLabels`: two words in one.
_TWO = re.compile(
    f"(?P<split>{'|'.join(_SPLITS)})(?P<what>{'|'.join(_WHATS)})"
    f"|(?P<what_>{'|'.join(_WHATS)})(?P<split_>{'|'.join(_SPLITS)})"
)
#: Names that are told.
_TOLD = 12
#: Of a file in parts: which part it is, of how many, and maybe what they have in common.
_PART = re.compile(r"of|part|shard|[0-9a-f]*\d[0-9a-f]*")


class Named(NamedTuple):
    """What something is, by its name.

    Args:
        set: the data set that it is of: whatever else its name says.
        split: `train`, `test` or `validation`; empty where the name says nothing of it.
        what: `rows` or `labels`; empty where the name says nothing of it.
    """

    set: str
    split: str
    what: str


class Set(NamedTuple):
    """A data set below a folder: there may be several, in one folder or in several.

    Args:
        home: the folder that it is in.
        name: whatever its files' names have in common; mostly nothing.
    """

    home: Where
    name: str


def named(name: str) -> Named:
    """Return what something is by its name, without its ending."""
    split = what = ""
    rest: list[str] = []
    for word in _BETWEEN.split(name):
        two, small = _TWO.fullmatch(word.lower()), word.lower()
        if two and not split:
            split, what = (
                _SPLITS[two["split"] or two["split_"]],
                _WHATS[two["what"] or two["what_"]],
            )
        elif small in _SPLITS and not split:
            split = _SPLITS[small]
        elif small in _WHATS and what != LABELS:  # of `data-labels` it is the labels
            what = _WHATS[small]
        elif small:
            rest.append(word)
    return Named("-".join(rest), split, what)


def table_named(name: str) -> Named:
    """Return what a file of rows and labels is: `train-00003-of-00010` is of no other set."""
    words = _BETWEEN.split(name)
    at = next((k for k, word in enumerate(words) if word.lower() in _SPLITS), None)
    if at is None:
        return Named(name, "", "")
    rest = [word for word in words[at + 1 :] if not _PART.fullmatch(word.lower())]
    return Named("-".join(words[:at] + rest), _SPLITS[words[at].lower()], "")


def table_key(name: str) -> tuple[str, ...]:
    """Return what is equal of names of one file: `train.csv.gz`, `TRAIN.csv`, `training.tsv`.

    Args:
        name: without its ending.
    """
    words = (word.lower() for word in _BETWEEN.split(name))
    return tuple(_SPLITS.get(word, word) for word in words)


def split_above(root: Where, file: Where) -> tuple[Where, str]:
    """Return the folder that holds a data set that a file is of, and the split by a folder's name.

    Args:
        root: the folder that was named; nothing above it counts.
        file: somewhere below it.
    """
    home = file.parent
    if home != root and (split := _SPLITS.get(home.name.lower())):
        return home.parent, split
    return home, ""


def told(arrays: Mapping[str, str]) -> str:
    """Return names with what they are, in a line that is not too long."""
    return safe_line(", ".join(f"{name} ({what})" for name, what in [*arrays.items()][:_TOLD])) + (
        f" and {len(arrays) - _TOLD:,} more" if len(arrays) > _TOLD else ""
    )


def nearest(where: Where, found: Mapping[Set, _Of], what: str) -> _Of:
    """Return what there is of the nearest data set below a folder.

    Args:
        where: the folder.
        found: of each data set.
        what: they are told by, in a word.

    Raises:
        DatasetNotFound: there are several.
    """
    near = min(len(each.home.parts) for each in found)
    sets = [each for each in found if len(each.home.parts) == near]
    if len(sets) > 1:
        names = sorted(str(each.home / each.name) for each in sets)
        raise DatasetNotFound(
            f"{where} holds {len(sets)} data sets, by the names of its {what}:"
            f" {safe_line(', '.join(names[:_TOLD]))}; give each a folder of its own"
        )
    return found[sets[0]]
