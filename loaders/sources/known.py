"""Data sets that have a name, fetched where the cache has them not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..known import CIFAR10, IDX, classes_of
from . import Asked, cifar, idx

if TYPE_CHECKING:
    from ..rows import ArraySource

WHAT = "a data set that is known by name"
ORDER = 0
NAMES = (*IDX, "cifar10", "digits")


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
    if name == "digits":
        return _digits(name)
    if name == "cifar10":
        return cifar.read_folder(fetch(name, CIFAR10, asked.say), name)
    known, begins = IDX[name]
    kept = "emnist" if name.startswith("emnist") else name
    return idx.read_folder(fetch(kept, known, asked.say), name, begins, *classes_of(name))


def _digits(name: str) -> ArraySource:
    """Return scikit-learn's 1,797 digits, 8 x 8: of grey from 0 to 16, here from 0 to 255.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", the test set.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    from ..rows import ArraySource, Field, Form, Numbered

    images, labels = load_digits().images, load_digits().target
    pixels = np.rint(images * (255 / 16)).astype(np.uint8)
    form = Form({"image": Field("uint8", (8, 8))}, Numbered(10))
    return ArraySource(name, form, {"train": ({"image": pixels}, labels.astype(np.int64))})
