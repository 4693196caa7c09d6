"""A folder of CIFAR's binary batches: a label or two, and a colour picture, a record each.

Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CorruptDataset, DatasetNotFound
from ..places import naturally, read, read_each
from . import Asked, ordered

if TYPE_CHECKING:
    from ..places import Where
    from ..rows import Array, ArraySource, Labels

WHAT = "a folder of CIFAR's binary batches"
ORDER = 15
NAMES = ()
SIDE = 32
_PIXELS = 3 * SIDE * SIDE
#: Names of the files of CIFAR-10, and of CIFAR-100; of the latter, the second label is the class.
_TEN = ("data_batch_", "test_batch", "batches.meta.txt", 1)
_HUNDRED = ("train.", "test.", "fine_label_names.txt", 2)
_MOST_ENTRIES = 1000


def knows(asked: Asked) -> bool:
    """Whether there are CIFAR's files, or a folder of them."""
    return _home(asked) is not None


def open_source(asked: Asked) -> ArraySource:
    """Return the data set in a folder.

    Raises:
        DatasetNotFound: a file is missing, or these are Python's.
        CorruptDataset: one is damaged.
    """
    home = _home(asked)
    assert home is not None
    return read_folder(home, asked.name)


def _home(asked: Asked) -> Where | None:
    """Return the folder that holds the files."""
    for file in asked.files:
        if file.name in ("data_batch_1.bin", "fine_label_names.txt", "data_batch_1"):
            return file.parent
    return None


def read_folder(folder: Where, name: str) -> ArraySource:
    """Return what is in a folder with CIFAR's files, as a source of this name.

    Raises:
        DatasetNotFound: a file is missing.
        CorruptDataset: one is damaged.
    """
    from ..rows import ArraySource, Field, Form

    there = {file.name: file for file in ordered(folder, _MOST_ENTRIES)}
    train, test, names, labels = _TEN if _TEN[2] in there else _HUNDRED
    if names not in there:
        raise DatasetNotFound(
            f"{folder} lacks {_TEN[2]} or {_HUNDRED[2]}: CIFAR's binary version has it; that for"
            " Python is pickled, which is not read: anything may be in it"
        )
    classes = tuple(read(there[names]).decode("utf-8", "replace").split())
    form = Form({"image": Field("uint8", (SIDE, SIDE, 3))}, classes)
    splits = {}
    for split, begins in (("train", train), ("test", test)):
        files = [each for each in there.values() if each.name.startswith(begins)]
        files = [each for each in files if each.suffix == ".bin"]
        if not files:
            raise DatasetNotFound(f"{folder} lacks {begins}*.bin")
        images, truth = _records(sorted(files, key=naturally), labels)
        splits[split] = {"image": images}, truth
    return ArraySource(name, form, splits)


def _records(files: list[Where], labels: int) -> tuple[Array, Labels]:
    """Return pictures, uint8 (n, 32, 32, 3), and labels, int64 (n,), of some files."""
    import numpy as np

    found = []
    for file, content in zip(files, read_each(files), strict=True):
        size = labels + _PIXELS
        if not content or len(content) % size:
            raise CorruptDataset(
                f"{file}: {len(content):,} bytes, no whole number of records of {size:,}"
            )
        found.append(np.frombuffer(content, np.uint8).reshape(-1, size))
    records = np.concatenate(found)
    images = records[:, labels:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, labels - 1].astype(np.int64)
