"""What a command writes to: open whatever it was given, and able to take every letter.

Whoever starts a command may have closed its standard output, or put it on a disk that is full, or
in an encoding without our signs, or may leave before all is read. A run is worth more than its
lines.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import TextIO

#: What our signs are in an encoding that lacks them.
_PLAIN = {"●": "*", "○": "o", "✗": "x", "✓": "+", "·": ".", "…": "...", "→": "->", "━": "-"}
_READABLE = "console.readable"
#: ASCII by another name: what is called so click takes for a mistake, and writes UTF-8 there.
_ASCII = "console_ascii"


class OutputFailed(OSError):
    """Standard output takes no more: its reader has left, or its disk is full.

    It has no `errno`: click and rich would end the process by themselves, with 1.

    Attributes:
        unread: whether nobody reads it any more.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.unread = error.errno in (errno.EPIPE, errno.ECONNRESET)


class _Steady(io.RawIOBase):
    """A descriptor that fails once, or never, and is nowhere from then on.

    Args:
        descriptor: to write to.
        tells: whether it is told, once, that it failed.
    """

    def __init__(self, descriptor: int, tells: bool) -> None:
        self._descriptor, self._tells, self._failed = descriptor, tells, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write some of it; return how much.

        Raises:
            OutputFailed: it takes no more.
        """
        if self._failed:
            return len(data)
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever shares it has made it so
            os.set_blocking(self._descriptor, True)
            return self.write(data)
        except OSError as error:
            self._failed = True
            if not self._tells:
                return len(data)
            raise OutputFailed(error) from error


def take() -> None:
    """Make this process's standard streams such that anything can be written to them."""
    codecs.register_error(_READABLE, _readable)
    for descriptor in range(3):  # else what is opened next would be one of them
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0)  # noqa: SIM115
    if sys.stdout is sys.__stdout__:
        sys.stdout = _steady(sys.stdout, 1, tells=True)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _steady(sys.stderr, 2, tells=False)


def _steady(stream: TextIO | None, descriptor: int, tells: bool) -> TextIO:
    buffer = io.BufferedWriter(_Steady(descriptor, tells))  # type: ignore[type-var]
    if not isinstance(stream, io.TextIOWrapper):  # it was closed
        return io.TextIOWrapper(buffer, "utf-8", _READABLE)
    ascii_only = codecs.lookup(stream.encoding).name == "ascii"
    return io.TextIOWrapper(
        buffer, _ASCII if ascii_only else stream.encoding, _READABLE,
        line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip


def _found(name: str) -> codecs.CodecInfo | None:
    """Return the codec of this name, if it is one of ours."""
    if name != _ASCII:
        return None
    there = codecs.lookup("ascii")
    return codecs.CodecInfo(
        there.encode, there.decode, there.streamreader, there.streamwriter,
        there.incrementalencoder, there.incrementaldecoder, name,
    )  # fmt: skip


codecs.register(_found)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for letters that an encoding lacks."""
    if isinstance(error, UnicodeEncodeError):
        error.end = error.start + 1  # one at a time: it may be of several, letters and signs
        letter = error.object[error.start]
        if letter in _PLAIN:
            return _PLAIN[letter], error.end
    return codecs.lookup_error("backslashreplace")(error)
