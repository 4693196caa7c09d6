"""Where this user keeps what can be had again: in a home, or without one."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

NAME = "mnist-merge"


def cache_folder() -> Path:
    """Return where fetched data sets are kept.

    It is `MNIST_CACHE`, or the system's cache folder, or for a user without a home one in TMPDIR.
    """
    from platformdirs import user_cache_dir  # as pooch does, whose import takes a tenth of a second

    named = os.environ.get("MNIST_CACHE")
    if named:
        return Path(os.path.expanduser(named))  # noqa: PTH111  # pathlib raises without a home
    try:
        folder = Path(user_cache_dir(NAME))
    except RuntimeError:  # no home; others return ~
        return homeless_folder()
    return folder if folder.is_absolute() else homeless_folder()


def has_home() -> bool:
    """Whether this user has a home: a service may be one that the system does not know."""
    return os.path.isabs(os.path.expanduser("~"))  # noqa: PTH111, PTH117


def homeless_folder() -> Path:
    """Return a folder for a user without a home, that nobody else can write to.

    Raises:
        OSError: there is no room for temporary files at all.
    """
    folder = Path(tempfile.gettempdir(), f"{NAME}-{os.getuid()}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.getuid()
            and not found.st_mode & 0o022
        ):
            return folder
    return Path(tempfile.mkdtemp(prefix=f"{NAME}-"))  # somebody has taken the name
