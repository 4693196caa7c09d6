"""IDX files, the format of MNIST: what numbers there are, lengths, then the numbers.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", file format section. A file
says by its first bytes what it is, whatever it is called: packed or not, and of which numbers.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import CorruptDataset
from .places import opened, whole
from .signs import GZIP, tell

if TYPE_CHECKING:
    from .places import Joined, Where


class Kind(NamedTuple):
    """What a file should hold.

    Args:
        what: in a word.
        axes: how many its array may have.
    """

    what: str
    axes: tuple[int, ...]


IMAGES, LABELS = Kind("images", (3, 4)), Kind("labels", (1, 2))
#: Element types, by the third byte of a file.
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
#: Columns of QMNIST's labels; the class is the first.
_QMNIST_COLUMNS = 8
#: No class has a number as large as this; a damaged file of int32 may say so.
MOST_CLASSES = 1 << 20
#: Read to tell what a file is; read at once; bytes that an array may be said to have.
_HEAD, _CHUNK, _MOST = 512, 1 << 20, 1 << 53


def read_images(path: Where | Joined) -> npt.NDArray[np.uint8]:
    """Return the images of an IDX file: uint8, (n, height, width), or with colours behind.

    Whole numbers from 0 to 255 are taken as they are, whatever their type; fractions from 0 to 1
    are made 0 to 255.

    Raises:
        DatasetNotFound: there is no such file.
        CorruptDataset: it can't be read, or holds no images.
    """
    array = read_idx(path, IMAGES)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if len(array) and not array.size:
        raise CorruptDataset(f"{path}: images of no pixels ({_sizes(array.shape[1:])})")
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8, copy=False)
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        array = array * 255
    elif not (low >= 0 and high <= 255):  # neither are numbers that are none
        raise CorruptDataset(
            f"{path}: pixels from {low:g} to {high:g}; they should be from 0 to 255, or fractions"
            " from 0 to 1"
        )
    pixels: npt.NDArray[np.uint8] = np.rint(array).astype(np.uint8)
    return pixels


def read_labels(path: Where | Joined) -> npt.NDArray[np.int64]:
    """Return the labels of an IDX file, int64 (n,): of whole numbers, or QMNIST's.

    Raises:
        DatasetNotFound: there is no such file.
        CorruptDataset: it can't be read, or holds no labels.
    """
    array = read_idx(path, LABELS)
    if array.ndim == 2:
        if array.dtype != ">i4" or array.shape[1] != _QMNIST_COLUMNS:
            raise CorruptDataset(
                f"{path}: {_sizes(array.shape)} numbers where there should be a label a row"
            )
        array = array[:, 0]
    if array.size:
        low, high = array.min(), array.max()
        fits = low >= 0 and high < MOST_CLASSES  # numbers that are none don't
        if not fits or (array.dtype.kind == "f" and (array % 1).any()):
            raise CorruptDataset(
                f"{path}: labels from {low:g} to {high:g}; they should be whole numbers from 0 on"
            )
    return array.astype(np.int64)


def read_idx(path: Where | Joined, kind: Kind) -> npt.NDArray[Any]:
    """Return an IDX file's array, in its own type.

    Args:
        path: the file, compressed by gzip or not.
        kind: `IMAGES` or `LABELS`, what it should be.

    Raises:
        DatasetNotFound: there is no such file.
        CorruptDataset: it can't be read, is something else, or is not as long as it says.

    Cost: some 20 ms for 47 MB that the system has in memory; no memory for what a header says and
    the file has not.
    """
    try:
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise CorruptDataset(f"{path}: not a file")  # a pipe would keep us waiting
        if not isinstance(path, Path):
            content = whole(path)
            if content[:2] != GZIP:
                return _read(content, path, kind)
        with opened(path) if isinstance(path, Path) else io.BytesIO(content) as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            if not packed:
                return _read(file, path, kind)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, path, kind)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise CorruptDataset(f"{path}: can't be read: {error}") from error


def _read(
    file: BinaryIO | gzip.GzipFile | memoryview, path: Where | Joined, kind: Kind
) -> npt.NDArray[Any]:
    """Return the array of an open file, or of what has been read of one: taken as it lies."""
    head = bytes(file[:_HEAD]) if isinstance(file, memoryview) else file.read(_HEAD)
    dtype, shape = _header(head, path, kind)
    start, wanted = 4 + 4 * len(shape), math.prod(shape) * dtype.itemsize
    body: bytearray | memoryview
    if isinstance(file, memoryview):
        body = file[start : start + wanted + 1]
    else:
        body = bytearray(head[start:])
        while len(body) <= wanted and (more := file.read(min(_CHUNK, wanted + 1 - len(body)))):
            body += more
    if len(body) != wanted:
        short = len(body) < wanted
        found = f"truncated: {start + len(body)} bytes" if short else "too long: more bytes"
        end = f"where its header ({_sizes(shape)}) makes {start + wanted}"
        raise CorruptDataset(f"{path}: {found} {end}")
    return np.frombuffer(body, dtype).reshape(shape)


def _header(head: bytes, path: Where | Joined, kind: Kind) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return element type and shape, as the first bytes of a file tell them."""
    is_idx = len(head) < 4 or (head[:2] == b"\0\0" and head[2] in _TYPES)
    if not is_idx:
        raise CorruptDataset(f"{path}: {tell(head)}")
    if len(head) < 4 or len(head) < 4 + 4 * head[3] <= _HEAD:
        raise CorruptDataset(f"{path}: truncated: {len(head)} bytes, less than its header")
    axes = head[3]
    if axes not in kind.axes:
        named = [each.what for each in (IMAGES, LABELS) if axes in each.axes]
        hint = f" ({named[0]} have so many)" if named else ""
        raise CorruptDataset(
            f"{path}: not an IDX file of {kind.what}: its array has {axes} axes{hint},"
            f" not {kind.axes[0]}"
        )
    dtype, shape = np.dtype(_TYPES[head[2]]), struct.unpack_from(f">{axes}I", head, 4)
    if math.prod(max(1, length) for length in shape) * dtype.itemsize > _MOST:
        raise CorruptDataset(f"{path}: its header makes {_sizes(shape)} numbers, which can't be")
    return dtype, shape


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
