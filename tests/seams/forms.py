"""Sources of every form that learners take: tables, small and colour pictures, other numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loaders import ArraySource, Field, Form, Numbered
from loaders.rows import Array, Labels
from loaders.sources import Asked

WHAT = "made-up data of every form"
_Data = tuple[Array, Labels, tuple[str, ...]]


def _sklearn(name: str) -> Callable[[], _Data]:
    def load() -> _Data:
        from sklearn import datasets

        found = getattr(datasets, f"load_{name}")()
        data = found.images.astype(np.uint8) * 15 if name == "digits" else found.data
        return data, found.target.astype(np.int64), tuple(map(str, found.target_names))

    return load


def _holes() -> _Data:
    """Return wine with a tenth of its numbers missing, a constant column, and one of nothing."""
    data, labels, names = _sklearn("wine")()
    data = np.where(np.random.default_rng(1).random(data.shape) < 0.1, np.nan, data)
    more = np.full((len(data), 2), [1e9 + 0.1, np.nan])
    return np.concatenate([data, more], axis=1), labels, names


def _endless() -> _Data:
    data, labels, names = _sklearn("iris")()
    data[7:20, 2] = np.inf
    return data, labels, names


def _photos() -> _Data:
    """Return 32 x 32 colour pictures of ten classes: stripes, that differ in slope and colour."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 10, 1000)
    y, x = np.mgrid[:32, :32]
    slopes, tints = np.linspace(0, np.pi, 10, endpoint=False), np.eye(3)[np.arange(10) % 3]
    slope = slopes[labels][:, None, None]
    wave = np.sin(0.8 * (np.cos(slope) * x + np.sin(slope) * y) + random.random((1000, 1, 1)) * 6)
    pixels = 110 + 60 * wave[..., None] * (0.4 + 0.6 * tints[labels][:, None, None])
    pixels += random.normal(0, 15, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), labels, ("plane", "car", *map(str, range(8)))


def _depths() -> _Data:
    """Return digits as numbers that are partly negative, of 32 bits."""
    data, labels, names = _sklearn("digits")()
    return data.astype(np.float32) / 100 - 1, labels, names


def _species() -> _Data:
    """Return 1,000 classes of 8 x 8 pictures: each is a number in dots."""
    random = np.random.default_rng(5)
    labels = np.tile(np.arange(1000), 8)
    codes = random.integers(0, 2, (1000, 8, 8)) * 255
    pixels = np.clip(codes[labels] + random.normal(0, 30, (len(labels), 8, 8)), 0, 255)
    return pixels.astype(np.uint8), labels, tuple(f"species number {n}" for n in range(1000))


_MADE = {
    "iris": _sklearn("iris"), "wine": _sklearn("wine"), "cancer": _sklearn("breast_cancer"),
    "eights": _sklearn("digits"), "holes": _holes, "endless": _endless, "photos": _photos,
    "depths": _depths, "species": _species,
}  # fmt: skip
NAMES = tuple(_MADE)
ORDER = 1


def knows(asked: Asked) -> bool:
    """Whether it is ours."""
    return asked.name in NAMES


def open_source(asked: Asked) -> ArraySource:
    """Return rows of which a quarter, drawn by class, is there for tests."""
    data, labels, names = _MADE[asked.name]()
    order = np.random.default_rng(2).permutation(len(data))
    order = order[np.argsort(labels[order], kind="stable")]
    test = np.zeros(len(data), bool)
    test[order[::4]] = True
    name = "image" if data.ndim > 2 else "row"
    numbered = names == tuple(map(str, range(len(names))))
    classes = Numbered(len(names)) if numbered else names
    form = Form({name: Field(data.dtype.name, data.shape[1:])}, classes)
    splits = {
        split: ({name: data[chosen]}, labels[chosen])
        for split, chosen in (("train", ~test), ("test", test))
    }
    return ArraySource(asked.name, form, splits)
