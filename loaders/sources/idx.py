"""A folder of MNIST's four IDX files: grey images, and a byte for each label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DatasetNotFound
from ..fetching import MNIST_FILES
from . import Say

if TYPE_CHECKING:
    from ..rows import ArraySource

WHAT = "a folder of IDX files"
NAMES = ()
#: Labels are digits unless there are more: a file with few of them is of ten classes, too.
LEAST_CLASSES = 10


def knows(name: str) -> bool:
    """Whether it is a folder."""
    try:
        return Path(name).is_dir()
    except OSError:  # too long, say
        return False


def open_source(name: str, say: Say) -> ArraySource:
    """Return what is in a folder.

    Raises:
        DatasetNotFound: a file is missing.
        CorruptDataset: one is damaged, or two don't match.
    """
    folder = Path(name)
    names = [f"{each} (or .gz)" for each in MNIST_FILES if not _there(folder, each)]
    if names:
        what = "is empty; it needs" if not any(folder.iterdir()) else "lacks"
        raise DatasetNotFound(f"{folder} {what} {', '.join(names)}")
    return read_folder(folder, name)


def read_folder(folder: Path, name: str) -> ArraySource:
    """Return what is in a folder that has all four files, as a source of this name."""
    import numpy as np

    from ..errors import CorruptDataset
    from ..mnist import MNIST
    from ..rows import ArraySource, Field, Form, Numbered

    reader, splits, sizes = MNIST(folder), {}, set()
    for split, read in (("train", reader.load_training), ("test", reader.load_testing)):
        flat, labels = read()
        splits[split] = {"image": flat.reshape(len(flat), *reader.image_shape)}, labels
        if len(labels):
            sizes.add(tuple(reader.image_shape))
    if len(sizes) > 1:
        raise CorruptDataset(
            f"{folder}: images of {' and of '.join(f'{h} x {w}' for h, w in sorted(sizes))} pixels"
        )
    size = sizes.pop() if sizes else (0, 0)
    most = max((int(labels.max(initial=0)) for _, labels in splits.values()), default=0)
    form = Form({"image": Field("uint8", size)}, Numbered(max(LEAST_CLASSES, most + 1)))
    for split, (_, labels) in splits.items():
        if not len(labels):  # which is said where it is asked for; its images may be of any size
            splits[split] = {"image": np.zeros((0, *size), np.uint8)}, labels
    return ArraySource(name, form, splits)


def _there(folder: Path, name: str) -> bool:
    return (folder / name).exists() or (folder / f"{name}.gz").exists()
