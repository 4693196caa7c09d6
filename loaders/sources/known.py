"""Data sets that have a name, fetched where the cache has them not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fetching import fetch_mnist
from . import Say, idx

if TYPE_CHECKING:
    from ..rows import ArraySource

WHAT = "a data set that is known by name"
NAMES = ("mnist",)


def knows(name: str) -> bool:
    """Whether it is one of the names."""
    return name in NAMES


def open_source(name: str, say: Say) -> ArraySource:
    """Return MNIST.

    Raises:
        DatasetNotFound: it could not be fetched.
    """
    return idx.read_folder(fetch_mnist(say), name)
