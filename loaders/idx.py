"""IDX files, the format of MNIST: a magic number, lengths, then bytes.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", file format section.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import CorruptDataset, DatasetNotFound

IMAGES_MAGIC = 0x0803  # unsigned bytes, three dimensions
LABELS_MAGIC = 0x0801  # unsigned bytes, one dimension
_MEANING = {IMAGES_MAGIC: "images", LABELS_MAGIC: "labels"}


def read_idx(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    """Return an IDX file's array, uint8, read-only; `.gz` files are decompressed.

    Args:
        path: the file.
        magic: `IMAGES_MAGIC` or `LABELS_MAGIC`, what it should be.

    Raises:
        DatasetNotFound: there is no such file.
        CorruptDataset: it can't be read, has another magic number, or is not as long as it says.

    Cost: some 20 ms for 47 MB that the system has in memory.
    """
    return parse_idx(_read(path), magic, path)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise DatasetNotFound(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptDataset(f"{path}: can't be read: {error}") from error


def parse_idx(content: bytes, magic: int, path: Path) -> npt.NDArray[np.uint8]:
    """Return the array in an IDX file's content; `path` is for error messages only.

    Raises:
        CorruptDataset: another magic number, or another length than its header says.
    """
    dimensions = magic & 0xFF
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise CorruptDataset(f"{path}: truncated: {len(content)} bytes, less than its header")
    found, *shape = struct.unpack_from(f">{dimensions + 1}I", content)
    if found != magic:
        hint = f" (those of {_MEANING[found]})" if found in _MEANING else ""
        raise CorruptDataset(
            f"{path}: magic number {found}{hint}, not {magic}: not an IDX file of {_MEANING[magic]}"
        )
    wanted = start + math.prod(shape)
    if len(content) != wanted:
        what = "truncated" if len(content) < wanted else "too long"
        raise CorruptDataset(
            f"{path}: {what}: {len(content)} bytes where its header"
            f" ({' x '.join(map(str, shape))}) makes {wanted}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
