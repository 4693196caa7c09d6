"""Every source of data, turned into one `Dataset` and cut into shards."""

from .dataset import Dataset
from .errors import CorruptDataset, DatasetNotFound, LoaderError
from .mnist import MNIST
from .sharding import SHARDINGS, shard
from .sources import load

__all__ = [
    "MNIST",
    "SHARDINGS",
    "CorruptDataset",
    "Dataset",
    "DatasetNotFound",
    "LoaderError",
    "load",
    "shard",
]
