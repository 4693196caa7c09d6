"""Whom a main node with keys lets in: two folders of public keys, which may change at any moment.

What goes wrong with them keeps people out, never in: an entry that can't be read is skipped and
said, and while a list can't be read at all nobody new is let in.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from ..errors import KeysError
from ..wire.key import Key
from ..wire.words import safe_line, safe_name

KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
#: A file in a list that is larger is no key.
_MOST_BYTES = 1024


class AllowList:
    """Whom a main node lets in; it may change while the main node runs.

    Args:
        folder: with the lists.
    """

    def __init__(self, folder: Path) -> None:
        self._allowed = _Shelf(folder / "allowed", "it lets nobody in")
        self._revoked = _Shelf(folder / "revoked")
        self._said: set[str] = set()
        self.look()

    def look(self) -> bool:
        """Read the lists again if they have changed; return whether they had."""
        return any([self._revoked.look(), self._allowed.look()])

    @property
    def readable(self) -> bool:
        """Whether both lists could be read when they were looked at last."""
        return self._allowed.readable and self._revoked.readable

    def complaints(self) -> list[str]:
        """Return what is wrong with the lists and has not been returned before."""
        wrong = {*self._allowed.wrong, *self._revoked.wrong}
        new = sorted(wrong - self._said)
        self._said = wrong
        return new

    def names(self) -> list[str]:
        """Return the names of the nodes that are let in."""
        return sorted(
            name for key, name in self._allowed.names.items() if key not in self._revoked.names
        )

    def entries(self) -> list[tuple[bytes, str]]:
        """Return key and name of every file in the allow-list."""
        return self._allowed.entries

    def who(self, public: bytes) -> Key | None:
        """Return the key of a node that is connected, if it is let in, as far as is known."""
        if public in self._revoked.names:
            return None
        name = self._allowed.names.get(public)
        return None if name is None else Key(public, name)

    def admits(self, public: bytes) -> bool:
        """Whether somebody new with this key is let in: not while the list can't be read."""
        return self.readable and self.who(public) is not None

    def revoked(self, public: bytes) -> bool:
        """Whether a key was let in once, and is not any more."""
        return public in self._revoked.names

    def describe(self, public: bytes) -> str:
        """Return why a key is not let in, for people."""
        if public in self._revoked.names:
            return f"the key of {self._revoked.names[public]} was revoked"
        if self.who(public) is not None:
            return "the allow-list can't be read: nobody new is let in"
        return f"its key is not in the allow-list ({public[:8].decode()}...)"


class _Shelf:
    """The public keys in a folder, read again when it has changed.

    Args:
        folder: there may be none.
        without: what it means if there is none, where that is worth saying.

    Attributes:
        names: key -> name.
        entries: key and name of every file; one key may stand in several.
        wrong: what can't be read, and why, for people.
        readable: whether the folder itself could be read when it was looked at last; if not,
            `names` is as it was before.
    """

    def __init__(self, folder: Path, without: str = "") -> None:
        self._folder, self._without = folder, without
        self._stamp: object = None
        self.names: dict[bytes, str] = {}
        self.entries: list[tuple[bytes, str]] = []
        self.wrong: list[str] = []
        self.readable = False

    def look(self) -> bool:
        """Read what has changed; return whether something had."""
        before = (self.readable, self._stamp)
        try:
            self._stamp = _stamp(self._folder)
            if before != (True, self._stamp):
                self._read()
        except FileNotFoundError:
            self.names, self.entries, self._stamp, self.readable = {}, [], "none", True
            self.wrong = [f"{self._folder} is gone: {self._without}"] if self._without else []
        except OSError as error:  # too many open files, say
            self.readable = False
            self.wrong = [f"{self._folder} can't be read ({error.strerror}): nobody new is let in"]
        return before != (self.readable, self._stamp)

    def _read(self) -> None:
        entries: list[tuple[bytes, str]] = []
        wrong: list[str] = []
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".pub" and not path.name.startswith("."):
                try:
                    entries.append((read_entry(path), safe_name(path.stem)))
                except KeysError as error:
                    wrong.append(f"{error}: skipped")
        self.names = dict(reversed(entries))  # of two names for a key the first counts
        self.entries, self.wrong, self.readable = entries, wrong, True


def _stamp(folder: Path) -> object:
    """Return what changes whenever a file of a folder does.

    Raises:
        OSError: the folder can't be read.
    """
    with os.scandir(folder) as entries:
        return sorted((entry.name, *_state(entry)) for entry in entries)


def _state(entry: os.DirEntry[str]) -> tuple[int, ...]:
    """Return what changes when a file does; of a link, what it leads to."""
    try:
        state = entry.stat()
    except OSError:  # a link that leads nowhere
        try:
            state = entry.stat(follow_symlinks=False)
        except OSError:
            return (0,)
    return state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_mode


def read_entry(path: Path) -> bytes:
    """Return the key in a file of a list, whatever else may stand there.

    Raises:
        KeysError: there is none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold us up
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise KeysError(f"{_shown(path)} is no file")
            key = os.read(descriptor, _MOST_BYTES).strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # not the file's fault
            raise
        raise KeysError(f"{_shown(path)} can't be read ({error.strerror})") from error
    if not KEY.fullmatch(key):
        raise KeysError(f"{_shown(path)} holds no key")
    return key


def _shown(path: Path) -> str:
    return safe_line(str(path))
