"""Formats of files: a file says the number of its own; older ones are read, later ones named."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import ConfigError


class LaterFormat(ConfigError):
    """A file is of a later format than this release reads."""


def check_format(path: Path, number: int, newest: int) -> None:
    """Raise where this release can't read a file's format.

    Args:
        path: of the file.
        number: of its format.
        newest: that this release reads, and every one before.

    Raises:
        LaterFormat: it is a later one.
    """
    if number > newest:
        raise LaterFormat(
            f"{path}: its format is {number}, a later release's; this one reads those up to"
            f" {newest}: use the release that wrote it, or a later one"
        )
