"""Small files that people name: read whole, within a limit, and never waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_small(path: Path, most: int) -> bytes:
    """Return what is in a file, or what is written into a pipe like a shell's `<(command)`.

    Args:
        path: of the file.
        most: bytes that it may hold.

    Raises:
        OSError: it can't be read, holds more than that, or is a pipe that nobody writes to.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold us up
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        piped = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        content = file.read(most + 1)
        if piped and content == b"":
            raise OSError(errno.EPIPE, "it is a pipe that nobody writes to")
        os.set_blocking(descriptor, True)
        content = content or b""  # somebody has it open, and has written nothing yet
        while len(content) <= most and (more := file.read(most + 1 - len(content))):
            content += more
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it holds more than {most:,} bytes")
    return content
