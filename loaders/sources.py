"""From the name of a source to a `Dataset`."""

from __future__ import annotations

from pathlib import Path

from .dataset import Dataset
from .errors import CorruptDataset, DatasetNotFound
from .fetching import MNIST_FILES, Say, fetch_mnist, log
from .mnist import MNIST

SPLITS = ("train", "test")


def load(
    source: str | Path = "mnist", split: str = "train", limit: int | None = None,
    say: Say = log.info,
) -> Dataset:  # fmt: skip
    """Return one split of a data set.

    Args:
        source: `mnist` (from the cache, else fetched), or a folder of IDX files.
        split: `train` or `test`.
        limit: the first so many rows; None: all.
        say: told what happens while it takes time, a line each.

    Raises:
        DatasetNotFound: no such source, or a file of it is missing.
        CorruptDataset: a file is damaged, or images and labels don't match.
        LoaderError: `limit` is not positive.
    """
    if split not in SPLITS:
        raise DatasetNotFound(f"no split {split!r}; there is {' and '.join(SPLITS)}")
    folder = fetch_mnist(say) if str(source) == "mnist" else _folder(source)
    reader = MNIST(folder)
    flat, labels = reader.load_training() if split == "train" else reader.load_testing()
    if not len(labels):
        raise CorruptDataset(f"{folder}: its {split} files hold no rows")
    images = flat.reshape(len(flat), *reader.image_shape)
    dataset = Dataset(images, labels, max(10, int(labels.max()) + 1), str(source))
    return dataset.limited(limit)


def _folder(source: str | Path) -> Path:
    folder = Path(source)
    if not folder.is_dir():
        raise DatasetNotFound(f"{source}: neither 'mnist' nor a folder of IDX files")
    names = [f"{name} (or .gz)" for name in MNIST_FILES if not _there(folder, name)]
    if names:
        what = "is empty; it needs" if not any(folder.iterdir()) else "lacks"
        raise DatasetNotFound(f"{folder} {what} {', '.join(names)}")
    return folder


def _there(folder: Path, name: str) -> bool:
    return (folder / name).exists() or (folder / f"{name}.gz").exists()
