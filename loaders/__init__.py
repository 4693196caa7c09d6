"""Every source of data, turned into one `Dataset` and cut into shards."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import CorruptDataset, DatasetNotFound, LoaderError
from .options import DataOptions, SourceOptions

if TYPE_CHECKING:
    from .dataset import Dataset
    from .mnist import MNIST
    from .sharding import SHARDINGS, shard
    from .sources import load

__all__ = [
    "MNIST",
    "SHARDINGS",
    "CorruptDataset",
    "DataOptions",
    "Dataset",
    "DatasetNotFound",
    "LoaderError",
    "SourceOptions",
    "load",
    "shard",
]

#: Imported when they are used: whoever asks for help need not wait for numpy.
_LATER = {
    "Dataset": "dataset", "MNIST": "mnist", "SHARDINGS": "sharding", "shard": "sharding",
    "load": "sources",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)
