"""The one form that every data source is turned into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import xxhash

from .errors import CorruptDataset, LoaderError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Labelled grey images.

    Args:
        images: uint8, shape (n, height, width).
        labels: int64, shape (n,), from 0 to classes - 1.
        classes: how many classes there are, in the whole source.
        name: what people call it.

    Raises:
        CorruptDataset: shapes or labels that don't fit together.
    """

    images: Images
    labels: Labels
    classes: int
    name: str = ""

    def __post_init__(self) -> None:
        if self.images.ndim != 3 or len(self.images) != len(self.labels):
            raise CorruptDataset(
                f"{self.name}: images of shape {self.images.shape} and"
                f" labels of shape {self.labels.shape} don't match"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise CorruptDataset(
                f"{self.name}: labels from {self.labels.min()} to {self.labels.max()}"
                f" where there are {self.classes} classes"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """xxh3-128 over shape, images and labels, in hexadecimal: equal data, equal digest."""
        hash_ = xxhash.xxh3_128(f"{self.images.shape} {self.classes}".encode())
        hash_.update(np.ascontiguousarray(self.images).data)
        hash_.update(np.ascontiguousarray(self.labels).data)
        return hash_.hexdigest()

    def limited(self, rows: int | None) -> Dataset:
        """Return the first `rows` rows (None: all), as views.

        Raises:
            LoaderError: `rows` is not positive.
        """
        if rows is None:
            return self
        if rows < 1:
            raise LoaderError(f"a limit of {rows} rows leaves nothing; give 1 or more")
        return Dataset(self.images[:rows], self.labels[:rows], self.classes, self.name)

    def one_against_rest(self, target: int) -> Dataset:
        """Return the same rows of two classes: 1 is the target class, 0 every other.

        Raises:
            LoaderError: there is no such class.
        """
        if not 0 <= target < self.classes:
            raise LoaderError(f"no class {target}: {self.name} has 0 to {self.classes - 1}")
        return Dataset(self.images, (self.labels == target).astype(np.int64), 2, self.name)
