"""For programs that train with torch by themselves: data sets of torch's, over places.

    make_dataset("train", "s3://datasets/mnist")        # all of it, as tensors
    S3ImageFolder("bucket", "imagenet/train")           # pictures by class, read when wanted
    S3Stream(["s3://bucket/imagenet/"]).shuffle().sharding_filter().map(function)
    KubeDataset("mnist")                                # this worker's minibatches

Whatever they read is reached as a run's data is: `loaders/places.py`. Each connects in the process
that reads, so that a DataLoader may fork its workers or spawn them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset, get_worker_info

from . import places
from .errors import CorruptDataset, DatasetNotFound, LoaderError
from .rows import Array, Labels, Rows
from .sources import load, open_source, rows_of

#: Rows of a minibatch, as KubeML cuts data sets.
MINIBATCH = 64
#: Entries of a folder that are looked at.
_MOST = 1 << 31
_Self = TypeVar("_Self", bound="_Stream")
#: What a program makes of a picture or an item; that, or a picture, and its class.
Function = Callable[[Any], Any]
Sample = tuple[Any, int]


def make_dataset(split: str, source: str | None = None) -> TensorDataset:
    """Return the images and labels of one split as tensors.

    Images are float32 from 0 to 1, shape (n, 1, height, width), or (n, 3, height, width) of colour;
    labels are int64, shape (n,).

    Args:
        split: `train` or `test`.
        source: whatever `mnist-main --data` takes; S3_PREFIX of the environment unless given.

    Raises:
        LoaderError: there is no such data, or it can't be read, or it is no images.
    """
    source = source or os.environ.get("S3_PREFIX")
    if not source:
        raise DatasetNotFound("no source: name one, or set S3_PREFIX, e.g. to s3://datasets/mnist")
    rows = load(source, split)
    image = rows.form.image
    if image is None or image.dtype != "uint8":
        raise LoaderError(f"{source}: rows of {rows.form.tell()}, which are no images of uint8")
    (pixels,) = rows.arrays.values()
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).div_(255)
    return TensorDataset(images, torch.from_numpy(np.array(rows.labels)))


# Pictures by class.


class S3ImageFolder(Dataset[Sample]):
    """Pictures in a bucket, a folder for each class; read when they are wanted.

    The names of the classes are in order; a batch that a DataLoader asks for is read all at once.

    Args:
        bucket_name: of the bucket.
        prefix: of the folders.
        transform: what is made of each picture (PIL's, RGB); None: nothing.

    Attributes:
        classes: their names.
        class_to_idx: number of a class, by its name.
        samples: `bucket/key` and number of the class, of each picture.

    Raises:
        LoaderError: there are none, or they can't be reached.
    """

    def __init__(self, bucket_name: str, prefix: str, transform: Function | None = None) -> None:
        self.bucket_name, self.prefix, self.transform = bucket_name, prefix, transform
        top = places.at(f"s3://{bucket_name}/{prefix}")
        there = sorted(places.entries(top, _MOST), key=lambda each: each.name)
        folders = [each for each in there if places.is_folder(each)]
        if not folders:
            raise DatasetNotFound(f"{top}: no folders in it, one for each class")
        self.classes = [each.name for each in folders]
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self._files: list[places.Where] = []
        self.samples: list[tuple[str, int]] = []
        for number, folder in enumerate(folders):
            for file in sorted(places.entries(folder, _MOST), key=lambda each: each.name):
                if places.is_file(file):
                    self._files.append(file)
                    self.samples.append((str(file).removeprefix("s3://"), number))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """Return a picture and the number of its class.

        Raises:
            LoaderError: it can't be read.
        """
        return self._made(index, places.read(self._files[index]))

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return pictures and the numbers of their classes: what a DataLoader calls for a batch.

        Raises:
            LoaderError: one can't be read.
        """
        read = places.read_each(self._files[each] for each in indices)
        return [self._made(*each) for each in zip(indices, read, strict=True)]

    def _made(self, index: int, content: bytes) -> Sample:
        from PIL import Image

        try:
            picture = Image.open(io.BytesIO(content)).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CorruptDataset(f"{self._files[index]}: no picture: {error}") from error
        made = picture if self.transform is None else self.transform(picture)
        return made, self.samples[index][1]


# Streams.


class _Stream(IterableDataset[Any]):
    """Addresses, in an order, cut into shards, and what is made of each.

    Args:
        urls: of files, and with a slash at their ends of folders.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self._urls = list(urls)
        self._below: dict[str, list[places.Where]] = {}
        self._listed, self._shuffled, self._sharded = False, False, False
        self._seed: int | None = None
        self._epoch = 0
        self._functions: tuple[Function, ...] = ()

    def _but(self: _Self, **changes: object) -> _Self:
        made = copy(self)
        for name, value in changes.items():
            setattr(made, f"_{name}", value)
        return made

    def _list(self) -> None:
        """Look what is in the folders, once for all workers: these have the same files then."""
        folders = [url for url in self._urls if url.endswith("/") and url not in self._below]
        self._below = {**self._below, **{url: _below(places.at(url)) for url in folders}}

    def shuffle(self: _Self, seed: int | None = None) -> _Self:
        """Return it in random order, the same for all workers and nodes.

        Args:
            seed: of the order; None: another with each epoch, as torch draws it; where there are
                several nodes, 0.
        """
        return self._but(shuffled=True, seed=seed)

    def sharding_filter(self: _Self) -> _Self:
        """Return it for one of several nodes, as torch.distributed or RANK and WORLD_SIZE say.

        Each address is then at one node. Workers of a DataLoader share what there is in any case.
        """
        return self._but(sharded=True)

    def map(self: _Self, function: Function) -> _Self:
        """Return it with each item made into another."""
        return self._but(functions=(*self._functions, function))

    def set_epoch(self, epoch: int) -> None:
        """Have `shuffle` with a seed draw another order, as torch's DistributedSampler does."""
        self._epoch = epoch

    def _mine(self) -> list[places.Where]:
        """Return the places of this worker, in order."""
        urls: list[places.Where] = []
        for url in self._urls:
            folder = self._listed and url.endswith("/")
            urls += self._below[url] if folder else [places.at(url)]
        rank, world = _node() if self._sharded else (0, 1)
        worker = get_worker_info()
        if self._shuffled:
            # DataLoader draws a seed for each epoch, and adds the worker's number.
            of_epoch = None if worker is None else int(worker.seed - worker.id)
            order = np.random.default_rng([self._drawn(world, of_epoch), self._epoch])
            urls = [urls[each] for each in order.permutation(len(urls))]
        mine = urls[rank::world]
        return mine if worker is None else mine[worker.id :: worker.num_workers]

    def _drawn(self, world: int, of_epoch: int | None) -> int:
        if self._seed is not None:
            return self._seed
        if world > 1:  # nobody draws for all of them
            return 0
        if of_epoch is not None:
            return of_epoch
        return int(torch.empty((), dtype=torch.int64).random_().item())


def _through(functions: Iterable[Function], item: object) -> Any:
    for function in functions:
        item = function(item)
    return item


class S3Stream(_Stream):
    """Files, one after the other, each once.

    An item is (address, file open for reading), or what `map` makes of it. Files are read ahead, as
    many together as 32 MB hold, and the next ones.

    Args:
        urls: of files, of folders with a slash at their ends: `s3://bucket/prefix/`; or an
            `IterableWrapper`.

    Folders are listed when it is made, once for all workers and epochs.

    Raises:
        LoaderError: a folder can't be listed; when it is gone through: a file can't be had.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        super().__init__(() if isinstance(urls, _Stream) else urls)
        self._named: tuple[Function, ...] = ()
        if isinstance(urls, _Stream):
            self.__dict__ |= {**urls.__dict__, "_named": urls._functions, "_functions": ()}
        self._listed = True
        self._list()

    def __iter__(self) -> Iterator[Any]:
        mine = self._mine()
        if self._named:
            mine = [places.at(_through(self._named, places.address(each))) for each in mine]
        for where, content in zip(mine, places.read_each(mine), strict=True):
            file: BinaryIO = io.BytesIO(content)
            yield _through(self._functions, (places.address(where), file))


class IterableWrapper(_Stream):
    """Addresses, by the name that torchdata had for them; `S3FileLoader` reads what they are of."""

    def list_files_by_s3(self) -> IterableWrapper:
        """Return it with every folder (with a slash at its end) taken for the files below it."""
        made = self._but(listed=True)
        made._list()
        return made

    def load_files_by_s3(self) -> S3Stream:
        """Return the files."""
        return S3Stream(self)

    def __iter__(self) -> Iterator[Any]:
        for where in self._mine():
            yield _through(self._functions, places.address(where))


#: torchdata's name for it.
S3FileLoader = S3Stream


def _below(folder: places.Where) -> list[places.Where]:
    """Return all files below a folder, in the order of their names."""
    found: list[places.Where] = []
    for entry in sorted(places.entries(folder, _MOST), key=lambda each: each.name):
        if places.is_folder(entry):
            found += _below(entry)
        else:
            found.append(entry)
    return found


def _node() -> tuple[int, int]:
    """Return which of how many nodes this is."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    told = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, world = map(int, told)
    except ValueError:
        rank, world = -1, 0
    if not 0 <= rank < world:
        raise LoaderError(
            f"RANK={told[0]} WORLD_SIZE={told[1]}: no node of so many; RANK is from 0"
        )
    return rank, world


# KubeML's form.


class _Held(NamedTuple):
    """What data sets hold that are made now, and the names that they were made with."""

    rows: Rows
    training: bool
    names: list[str]


_held: ContextVar[_Held | None] = ContextVar("held", default=None)


@contextmanager
def holding(rows: Rows, training: bool) -> Iterator[list[str]]:
    """Have each `KubeDataset` made inside hold some rows, whatever its name; none is opened.

    Args:
        rows: a job's.
        training: whether they are learned from.

    Returns:
        The names that data sets were made with so far.
    """
    held = _Held(rows, training, [])
    token = _held.set(held)
    try:
        yield held.names
    finally:
        _held.reset(token)


class KubeDataset(Dataset[tuple[object, object]]):
    """KubeML's data set: those minibatches of 64 rows that this worker trains on.

    Which worker it is, torch.distributed or RANK and WORLD_SIZE say; each has as many minibatches
    as any other, or one more. In a job of a `learning.KubeModel` it has the rows of the job,
    whatever it is called.

    Args:
        name: of the data set: whatever `mnist-main --data` takes.
        split: `train` or `test`.
        k: so many minibatches are in memory at a time, those of a period; None: all of them.

    Attributes:
        data: the rows, numpy, shape (n, ...).
        labels: their classes, int64, shape (n,).
        periods: how many times `k` minibatches there are.
        dataset: the name.

    Raises:
        DatasetNotFoundError: no such data set.
        LoaderError: it can't be read.
    """

    data: Array
    labels: Labels

    def __init__(self, name: str, split: str = "train", k: int | None = None) -> None:
        self.name = self.dataset = name
        held = _held.get()
        if held is None:
            self._training, self._copies = split == "train", False
            self._rows = _of_worker(_of_one_field(rows_of(open_source(name), split), name))
        else:
            held.names.append(name)
            # A job's rows are others' too, and can't be written to.
            self._training, self._copies = held.training, True
            self._rows = _of_one_field(held.rows, name)
        self._together = MINIBATCH * (k or max(1, _minibatches(self._rows)))
        self.periods = max(1, -(-len(self._rows) // self._together))
        self.load(0)

    def load(self, period: int) -> None:
        """Have `data` and `labels` hold the minibatches of a period, counted from 0."""
        part = self._rows.of(slice(period * self._together, (period + 1) * self._together))
        (self.data,), self.labels = part.read().values(), part.labels
        if self._copies:
            self.data, self.labels = np.array(self.data), np.array(self.labels)

    def is_training(self) -> bool:
        """Whether its rows are learned from, and not predicted."""
        return self._training

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[object, object]:
        """Return a row and its class."""
        return self.data[index], self.labels[index]


def _of_one_field(rows: Rows, name: str) -> Rows:
    """Return rows; raise unless they have one field."""
    if len(rows.form.fields) != 1:
        raise LoaderError(f"{name}: rows of {rows.form.tell()}; they must be of one field")
    return rows


def _minibatches(rows: Rows) -> int:
    return -(-len(rows) // MINIBATCH)


def _of_worker(rows: Rows) -> Rows:
    """Return the minibatches of this worker."""
    rank, world = _node()
    mine = np.array_split(np.arange(_minibatches(rows)), world)[rank]
    first = int(mine[0]) if len(mine) else 0
    return rows.of(slice(first * MINIBATCH, (first + len(mine)) * MINIBATCH))
