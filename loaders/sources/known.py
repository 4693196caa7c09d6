"""Data sets that have a name, fetched where the cache has them not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fetching import fetch_mnist
from . import Asked, idx

if TYPE_CHECKING:
    from ..rows import ArraySource

WHAT = "a data set that is known by name"
ORDER = 0
NAMES = ("mnist",)


def knows(asked: Asked) -> bool:
    """Whether it is one of the names."""
    return asked.name in NAMES


def open_source(asked: Asked) -> ArraySource:
    """Return MNIST.

    Raises:
        DatasetNotFound: it could not be fetched.
    """
    return idx.read_folder(fetch_mnist(asked.say), asked.name)
