"""A folder for what comes with jobs, which goes with its node, or with the next one after that."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "mnist-code-"


class Scratch:
    """A new folder of this node's; those that killed nodes have left are removed first.

    It is locked for as long as this process lives, however that ends: what is not locked is
    nobody's.

    Attributes:
        path: of the folder.
    """

    def __init__(self) -> None:
        above = Path(tempfile.gettempdir())
        for left in above.glob(f"{_PREFIX}*"):
            _remove_if_left(left)
        while True:  # another node may have taken it for one that was left, before it was locked
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=above))
            with contextlib.suppress(FileNotFoundError):
                self._locked = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(self._locked, fcntl.LOCK_EX)
                if self.path.exists():
                    return
                os.close(self._locked)

    def part(self) -> str:
        """Return a new folder in it, for one child."""
        return tempfile.mkdtemp(dir=self.path)

    def close(self) -> None:
        """Remove it; may be called again."""
        if self._locked >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._locked)
            self._locked = -1


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that is this user's, and no living node's."""
    with contextlib.suppress(OSError):  # it is locked, gone, or somebody else's
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid == os.getuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
