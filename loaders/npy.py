"""NumPy's arrays on disk: `.npy` files, and archives of them, `.npz`. Nothing is ever unpickled.

A header says what an array is; whether there is as much of it is asked before memory is.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy

from protocol.wire.words import safe_line

from .errors import CorruptDataset
from .places import opened
from .rows import Array
from .signs import HEAD, tell

if TYPE_CHECKING:
    from .places import Where

MAGIC = b"\x93NUMPY"
#: Read at once; letters of a header; members that an archive may have.
_CHUNK, _MOST_HEADER, _MOST_MEMBERS = 1 << 20, 10_000, 10_000
#: The least that deflate makes of bytes, and what else a member has around it: 1032 to 1.
_MOST_DEFLATED = 1032
#: By version: bytes of a header's length, and what reads it.
_HEADERS = {(1, 0): (2, npy.read_array_header_1_0), (2, 0): (4, npy.read_array_header_2_0)}


class Header(NamedTuple):
    """What an array is, as its header says.

    Args:
        shape: of it.
        fortran: whether its first axis lies together.
        dtype: of its elements.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]

    def __str__(self) -> str:
        dtype = "objects" if self.dtype.hasobject else self.dtype.name
        return f"{dtype} {' x '.join(map(str, self.shape)) or 'alone'}"


@contextmanager
def _reading(what: object) -> Iterator[None]:
    try:
        yield
    except (
        OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError,
        struct.error, zlib.error, zipfile.BadZipFile, SyntaxError, MemoryError,
    ) as error:  # fmt: skip
        told = safe_line(str(error).partition("\n")[0]) or type(error).__name__
        raise CorruptDataset(f"{what}: can't be read: {told}") from error


def read_npy(where: Where) -> Array:
    """Return the array of a file.

    Raises:
        DatasetNotFound: there is no such file.
        CorruptDataset: it can't be read, is something else, or is not as long as it says.
    """
    with opened(where) as file, _reading(where):
        head = file.read(HEAD)
        if not head.startswith(MAGIC):
            raise CorruptDataset(f"{where}: {tell(head, 'an array of NumPy (.npy)')}")
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return _read(file, size, str(where))


def _header(file: IO[bytes]) -> Header:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version[0]}.{version[1]} of the format")
    size, read = _HEADERS[version]
    told = file.read(size)
    length = int.from_bytes(told, "little")
    if length > _MOST_HEADER:  # numpy reads all of it first: 4 GiB out of some packed megabytes
        raise ValueError(f"its header says that it has {length:,} letters")
    return Header(*read(io.BytesIO(told + file.read(length)), _MOST_HEADER))


def _read(file: IO[bytes], size: int, what: str) -> Array:
    """Return the array of an open file of so many bytes."""
    header = _header(file)
    shape, fortran, dtype = header
    if dtype.hasobject:
        raise CorruptDataset(
            f"{what}: it holds Python's objects, which only unpickling could read, and that may run"
            " anything: save numbers or texts, for example with array.astype(str)"
        )
    if any(length < 0 for length in shape):
        raise ValueError(f"its header says {header}")
    there, wanted = size - file.tell(), math.prod(shape) * dtype.itemsize
    if there != wanted:
        wrong = "truncated" if there < wanted else "too long"
        raise CorruptDataset(
            f"{what}: {wrong}: {there:,} bytes where its header ({header}) makes {wanted:,}"
        )
    if isinstance(file, io.BytesIO) and wanted:  # it has been read: taken as it lies
        array = np.frombuffer(file.getvalue(), dtype, offset=file.tell())
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    array = np.empty(math.prod(shape), dtype)
    view, at = array.view(np.uint8).data if wanted else memoryview(b""), 0
    while at < wanted and (count := cast(Any, file).readinto(view[at : at + _CHUNK])):
        at += count
    if at < wanted:
        raise CorruptDataset(f"{what}: truncated: {at:,} bytes of {wanted:,}")
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


class Archive:
    """An archive of arrays, open for reading.

    Args:
        where: it is.
        file: it is open in; closed by whoever opened it.

    Raises:
        CorruptDataset: it is none.
    """

    def __init__(self, where: Where, file: IO[bytes]) -> None:
        self._where = where
        head = file.read(HEAD)
        if not head.startswith(b"PK"):
            raise CorruptDataset(f"{where}: {tell(head, 'an archive of NumPy (.npz)')}")
        with _reading(where):
            self._size = file.seek(0, os.SEEK_END)
            self._zip = zipfile.ZipFile(file)
            members = self._zip.infolist()
        if len(members) > _MOST_MEMBERS:
            raise CorruptDataset(f"{where}: an archive of {len(members):,} files, not of arrays")
        self._members = {
            each.filename.removesuffix(".npy"): each
            for each in members
            if each.filename.endswith(".npy")
        }

    def headers(self) -> Mapping[str, Header]:
        """Return what each array is, by its name.

        Raises:
            CorruptDataset: one can't be read.
        """
        found = {}
        for name, member in self._members.items():
            with _reading(self._of(name)), self._zip.open(member) as file:
                found[name] = _header(file)
        return found

    def read(self, name: str) -> Array:
        """Return an array.

        Raises:
            CorruptDataset: it can't be read.
        """
        member, what = self._members[name], self._of(name)
        # What an archive says of its members may be a lie as well.
        if member.file_size > _MOST_DEFLATED * self._size:
            raise CorruptDataset(
                f"{what}: {member.file_size:,} bytes, which can't be in an archive of"
                f" {self._size:,}"
            )
        with _reading(what), self._zip.open(member) as file:
            array = _read(file, member.file_size, what)
            file.read(1)  # to its end, so that its checksum is looked at
            return array

    def _of(self, name: str) -> str:
        return f"{self._where}: {safe_line(name, 80)}"
