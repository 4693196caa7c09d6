"""Arrays in memory that two processes share, and a channel that passes them.

The memory is a file without a name in the system's memory, handed over as a descriptor: nothing is
copied, and nothing is left behind whoever dies. It is not in /dev/shm where that can be helped: a
container has 64 MB there.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import shutil
import socket
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from protocol.wire.messages import AnyArray

#: Arrays up to this size go through the channel itself.
SMALL_BYTES = 1 << 16
_PREFIX = struct.Struct("<IQ")  # header bytes, bytes of small arrays
_MAX_SHARED = 200  # descriptors in one message; the system takes at most 253
#: Where files go that can't be in the system's memory without a name.
_MEMORY = Path("/dev/shm")


class _Shared(mmap.mmap):
    """Memory that knows its file."""

    file: Any


def _map(file: Any, nbytes: int) -> _Shared:
    memory = _Shared(file.fileno(), nbytes)
    memory.file = file
    return memory


def allocate(nbytes: int) -> npt.NDArray[np.uint8]:
    """Return a flat uint8 array that can be shared; where it is not written it takes no memory.

    Raises:
        OSError: there can be none.
    """
    if nbytes == 0:
        return np.empty(0, np.uint8)
    file = _nameless(nbytes)
    file.truncate(nbytes)
    return np.frombuffer(_map(file, nbytes), np.uint8)


def _nameless(nbytes: int) -> Any:
    """Return an empty file without a name, where there is room for so many bytes.

    Raises:
        OSError: there is no such place.
    """
    try:
        return os.fdopen(os.memfd_create("mnist-arrays"), "r+b")
    except (AttributeError, OSError) as error:  # another system, or not allowed here
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise
    folders = [_MEMORY, Path(tempfile.gettempdir())]
    for folder in folders:
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= nbytes:
            return tempfile.TemporaryFile(dir=folder)
    raise OSError(
        errno.ENOSPC,
        f"no room for an array of {nbytes:,} bytes in {' or '.join(map(str, folders))};"
        " make one larger, or name another folder with TMPDIR",
    )


def reserve(array: AnyArray, start: int, stop: int) -> None:
    """Make sure that these bytes of an array that `allocate` made can be written.

    Raises:
        OSError: there is no room for them: an error here, not a crash later.
    """
    memory = _memory_of(array)
    if memory is not None and stop > start and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(memory.file.fileno(), start, stop - start)
        except OSError as error:
            what = f"no room for an array of {array.nbytes:,} bytes: {error.strerror}"
            raise OSError(error.errno, what) from error


class SharedMemory:
    """Where arrays arrive that a child will read."""

    def allocate(self, nbytes: int) -> AnyArray:
        """Return an array."""
        return allocate(nbytes)

    def reserve(self, array: AnyArray, start: int, stop: int) -> None:
        """Make sure that these bytes can be written."""
        reserve(array, start, stop)


def _memory_of(array: AnyArray) -> _Shared | None:
    """Return the shared memory that `array` is all of, or None."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    memory = base.obj if isinstance(base, memoryview) else base
    return memory if isinstance(memory, _Shared) and len(memory) == array.nbytes else None


def _share(array: AnyArray) -> _Shared:
    memory = _memory_of(array)
    if memory is None:
        copy = allocate(array.nbytes)
        reserve(copy, 0, array.nbytes)
        copy[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory = _memory_of(copy)
        assert memory is not None
    return memory


class Channel:
    """Plain values and arrays between two processes; each `send` is one `receive`.

    Args:
        end: one end of a socket pair (AF_UNIX, stream).
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)

    def send(self, values: Mapping[str, object], arrays: Mapping[str, AnyArray]) -> None:
        """Send values and arrays; large arrays are shared, not copied where they are already.

        Raises:
            EOFError: the other process is gone.
            OSError: there is no memory to share.
        """
        listed: list[list[Any]] = []
        small: list[bytes] = []
        shared: list[_Shared] = []
        for name, array in arrays.items():
            large = array.nbytes > SMALL_BYTES and len(shared) < _MAX_SHARED
            listed.append([name, array.dtype.name, array.shape, large])
            if large:
                shared.append(_share(array))
            else:
                small.append(np.ascontiguousarray(array).tobytes())
        header = msgpack.packb([dict(values), listed])
        content = b"".join(small)
        prefix = _PREFIX.pack(len(header), len(content))
        descriptors = [memory.file.fileno() for memory in shared]
        try:
            socket.send_fds(self._end, [prefix], descriptors)
            self._end.sendall(header)
            self._end.sendall(content)
        except (BrokenPipeError, ConnectionError) as error:
            raise EOFError("the other process is gone") from error

    def wait(self, seconds: float) -> bool:
        """Wait until there is something to receive; return False if there is not in time."""
        return bool(self._readable.poll(seconds * 1000))

    def receive(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return the next values and arrays (read-only).

        Raises:
            EOFError: the other process is gone.
        """
        try:
            prefix, descriptors, _, _ = socket.recv_fds(self._end, _PREFIX.size, _MAX_SHARED)
        except ConnectionError as error:  # killed before it had read what was sent
            raise EOFError("the other process is gone") from error
        files = [os.fdopen(descriptor, "r+b") for descriptor in descriptors]
        prefix += self._exactly(_PREFIX.size - len(prefix))
        header_bytes, content_bytes = _PREFIX.unpack(prefix)
        values, listed = msgpack.unpackb(self._exactly(header_bytes), strict_map_key=False)
        content = self._exactly(content_bytes)
        arrays: dict[str, AnyArray] = {}
        at = 0
        for name, dtype, shape, large in listed:
            nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            if large:
                flat = np.frombuffer(_map(files.pop(0), nbytes), np.uint8)
            else:
                flat = np.frombuffer(content, np.uint8, nbytes, at)
                at += nbytes
            array = flat.view(dtype).reshape(shape)
            arrays[name] = array if array.flags.aligned else array.copy()
        return values, arrays

    def _exactly(self, nbytes: int) -> bytes:
        parts: list[bytes] = []
        while nbytes:
            try:
                part = self._end.recv(min(nbytes, 1 << 20))
            except ConnectionError:
                part = b""
            if not part:
                raise EOFError("the other process is gone")
            parts.append(part)
            nbytes -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Let go; the other side's `receive` ends."""
        self._end.close()
