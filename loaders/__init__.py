"""Data, whatever it came from: sources, their rows, and ways to cut these into shards."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import (
    CorruptDataset,
    DatasetNotFound,
    DatasetNotFoundError,
    LoaderError,
    SourceUnreachable,
)
from .options import DataOptions, ReadingOptions, SourceOptions

if TYPE_CHECKING:
    from .arrays import from_arrays, from_torch
    from .classes import OneAgainstRest
    from .examining import Examined, examine
    from .mnist import MNIST
    from .rows import ArraySource, Field, Form, Numbered, Rows, Source
    from .sharding import SHARDINGS, shard
    from .sources import load, open_source, rows_of
    from .torch import (
        IterableWrapper,
        KubeDataset,
        S3FileLoader,
        S3ImageFolder,
        S3Stream,
        make_dataset,
    )
    from .verdict import Concern, concerns

__all__ = [
    "MNIST",
    "SHARDINGS",
    "ArraySource",
    "Concern",
    "CorruptDataset",
    "DataOptions",
    "DatasetNotFound",
    "DatasetNotFoundError",
    "Examined",
    "Field",
    "Form",
    "IterableWrapper",
    "KubeDataset",
    "LoaderError",
    "Numbered",
    "OneAgainstRest",
    "ReadingOptions",
    "Rows",
    "S3FileLoader",
    "S3ImageFolder",
    "S3Stream",
    "Source",
    "SourceOptions",
    "SourceUnreachable",
    "concerns",
    "examine",
    "from_arrays",
    "from_torch",
    "load",
    "make_dataset",
    "open_source",
    "rows_of",
    "shard",
]

#: Imported when they are used: whoever asks for help need not wait for numpy.
_LATER = {
    "MNIST": "mnist", "OneAgainstRest": "classes", "SHARDINGS": "sharding", "shard": "sharding",
    "from_arrays": "arrays", "from_torch": "arrays",
    "Concern": "verdict", "concerns": "verdict", "Examined": "examining", "examine": "examining",
    "load": "sources", "open_source": "sources", "rows_of": "sources",
    **dict.fromkeys(["ArraySource", "Field", "Form", "Numbered", "Rows", "Source"], "rows"),
    **dict.fromkeys(["IterableWrapper", "KubeDataset", "S3FileLoader", "S3ImageFolder"], "torch"),
    **dict.fromkeys(["S3Stream", "make_dataset"], "torch"),
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)
