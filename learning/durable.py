"""Files written whole and synced, and arrays on disk that tell whether they are what was written.

A file is written aside, synced, and then renamed over the old one: whatever dies at whatever
moment, there is the old file, the new one, or none, and never a part of one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xxhash

from loaders.rows import Array, Arrays, bytes_of
from protocol.wire.words import safe_line

from .errors import DamagedFile

_CONTENT = "content"
#: What safetensors keeps.
DTYPES = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
     "float16", "float32", "float64"]
)  # fmt: skip
#: The same, as a safetensors file names them.
_KINDS = frozenset(
    "BOOL"
    if np.dtype(name).kind == "b"
    else f"{np.dtype(name).kind.upper()}{np.dtype(name).itemsize * 8}"
    for name in DTYPES
)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; after the block what is there becomes `path`, on disk for sure.

    Raises:
        OSError: it can't be written; nothing is left of it.
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # a link would lead to somebody's file
    try:
        yield part
        sync(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """See that a file or folder is on disk.

    Raises:
        OSError: it is not.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with written_whole(path) as part:
        part.write_text(text)


def write_arrays(path: Path, arrays: Arrays, notes: Mapping[str, str]) -> None:
    """Write named arrays and notes about them as a safetensors file, whole or not at all.

    Raises:
        ValueError: such arrays can't be kept.
        OSError: it can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    odd = {array.dtype.name for array in arrays.values()} - DTYPES
    if odd or "__metadata__" in arrays:
        raise ValueError("arrays of such names or types can't be kept")

    kept = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    notes = {**notes, _CONTENT: _checksum(kept, notes)}
    with written_whole(path) as part:
        part.unlink(missing_ok=True)  # of one that was killed
        part.touch()  # safetensors lets nobody else read what it makes; as others' files may be
        mode = part.stat().st_mode
        try:
            save_file(kept, part, notes)
        except SafetensorError as error:  # its way to say that the disk is full
            full = os.strerror(errno.ENOSPC)
            if full in str(error):
                raise OSError(errno.ENOSPC, full) from error
            raise OSError(errno.EIO, str(error)) from error
        part.chmod(mode & 0o777)


def read_arrays(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and notes of a file that `write_arrays` wrote.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it is not as it was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("a folder, a pipe or a device")
        with safe_open(path, framework="numpy") as file:
            notes = dict(file.metadata() or {})
            if _CONTENT not in notes:
                raise ValueError("a safetensors file, but not one that mnist-main wrote")
            names = list(file.keys())
            for name in names:
                _check_kind(name, file.get_slice(name).get_dtype())
            arrays = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise
    except SafetensorError as error:
        raise DamagedFile(
            f"{path}: not a file that can be read: no safetensors file, or a damaged one ({error})"
        ) from error
    except (OSError, ValueError, MemoryError) as error:
        raise DamagedFile(f"{path}: not a file that can be read: {error}") from error
    if notes.pop(_CONTENT) != _checksum(arrays, notes):
        raise DamagedFile(f"{path}: damaged: its content does not match its checksum")
    return arrays, notes


def _check_kind(name: str, kind: str) -> None:
    """Raise unless numpy has numbers of a kind that safetensors has."""
    if kind not in _KINDS:
        raise ValueError(
            f"array {safe_line(name, 80)!r} is of {safe_line(kind)}, which numpy lacks; convert it"
            " to F32"
        )


def _checksum(arrays: Arrays, notes: Mapping[str, str]) -> str:
    """Return xxh3-128 over names, types, shapes and bytes, in name order, in hexadecimal."""
    hash_ = xxhash.xxh3_128(repr(sorted(notes.items())).encode())
    for name in sorted(arrays):
        array = arrays[name]
        hash_.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        hash_.update(bytes_of(array))
    return hash_.hexdigest()
