"""Data sets that have a name, fetched where the cache has them not."""

from __future__ import annotations

from importlib.metadata import distribution
from typing import TYPE_CHECKING

from ..known import CIFAR10, IDX, Known, classes_of
from . import About, Asked, cifar, idx

if TYPE_CHECKING:
    from ..rows import ArraySource

WHAT = "a data set that is known by name"
ORDER = 0
NAMES = (*IDX, "cifar10", "digits")
_DIGITS = "digits"
#: Rows to train on and to test on.
_ROWS = {
    "emnist-byclass": (697_932, 116_323), "emnist-bymerge": (697_932, 116_323),
    "emnist-balanced": (112_800, 18_800), "emnist-letters": (124_800, 20_800),
    "emnist-digits": (240_000, 40_000), "cifar10": (50_000, 10_000),
    "qmnist": (60_000, 60_000),
}  # fmt: skip
_MNISTS_ROWS = 60_000, 10_000


def knows(asked: Asked) -> bool:
    """Whether it is one of the names."""
    return asked.name in NAMES


def open_source(asked: Asked) -> ArraySource:
    """Return the data set of that name.

    Raises:
        DatasetNotFound: it could not be fetched.
    """
    from ..fetching import fetch

    name = asked.name
    if name == _DIGITS:
        return _digits(name)
    known, folder = _known(name)
    kept = fetch(folder, known, asked.say)
    if known is CIFAR10:
        return cifar.read_folder(kept, name)
    return idx.read_folder(kept, name, IDX[name][1], *classes_of(name))


def about(name: str) -> About:
    """Return what is known of a data set, and whether the cache has it."""
    from ..fetching import kept

    if name == _DIGITS:
        return About(
            name, "Optical Recognition of Handwritten Digits", "1,797", "8 x 8 grey", "CC BY 4.0",
            "scikit-learn", "with scikit-learn",
        )  # fmt: skip
    known, folder = _known(name)
    train, test = _ROWS.get(name, _MNISTS_ROWS)
    where = kept(folder, known)
    return About(
        name, known.title, f"{train:,} + {test:,}",
        "32 x 32 colour" if known is CIFAR10 else "28 x 28 grey", known.licence, known.mirrors[0],
        "" if where is None else str(where),
    )  # fmt: skip


def _known(name: str) -> tuple[Known, str]:
    """Return what a data set is, and its folder in the cache: all of EMNIST's have one."""
    if name == "cifar10":
        return CIFAR10, name
    return IDX[name][0], "emnist" if name.startswith("emnist") else name


def _digits(name: str) -> ArraySource:
    """Return scikit-learn's 1,797 digits, 8 x 8: of grey from 0 to 16, here from 0 to 255.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", the test set.
    """
    import numpy as np

    from ..rows import ArraySource, Field, Form, Numbered

    # The file itself: to import what reads it takes seconds, in every process that wants rows.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), np.int64, delimiter=",")
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    form = Form({"image": Field("uint8", (8, 8))}, Numbered(10))
    return ArraySource(name, form, {"train": ({"image": pixels}, table[:, -1].copy())})
