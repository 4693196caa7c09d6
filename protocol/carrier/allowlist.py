"""Whom a main node with keys lets in: two folders of public keys, which may change at any moment.

A file holds a key; in the allow-list a second line may say what it is let in for:

    roles: work, watch, control

What goes wrong with them keeps people out, never in: an entry that can't be read is skipped and
said. While a list can't be read at all, or what a key is let in for, nobody new is let in.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from ..errors import KeysError
from ..wire.key import DEFAULT_ROLES, NO_ROLES, Key, Roles, as_roles
from ..wire.words import safe_line, safe_name

KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
#: A file in a list that is larger is no key.
MOST_BYTES = 1024


class AllowList:
    """Whom a main node lets in; it may change while the main node runs.

    Args:
        folder: with the lists.
    """

    def __init__(self, folder: Path) -> None:
        self._allowed = _Shelf(folder / "allowed", "it lets nobody in", roles_in)
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

    def roles(self, public: bytes) -> Roles:
        """Return what a key is let in for; nothing where it is not."""
        if public in self._revoked.names:
            return NO_ROLES
        return self._allowed.roles.get(public, NO_ROLES)

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
        whole = self.readable and not self._allowed.garbled
        return whole and self.who(public) is not None

    def revoked(self, public: bytes) -> bool:
        """Whether a key was let in once, and is not any more."""
        return public in self._revoked.names

    def describe(self, public: bytes) -> str:
        """Return why a key is not let in, for people."""
        if public in self._revoked.names:
            return f"the key of {self._revoked.names[public]} was revoked"
        if self.who(public) is not None:
            what = "what a key there is let in for" if self._allowed.garbled else "the allow-list"
            return f"{what} can't be read: nobody new is let in"
        return f"its key is not in the allow-list ({public[:8].decode()}...)"


class _Shelf:
    """The public keys in a folder, read again when it has changed.

    Args:
        folder: there may be none.
        without: what it means if there is none, where that is worth saying.
        roles_in: reads what a key is let in for; None: that means nothing here.

    Attributes:
        names: key -> name.
        entries: key and name of every file; one key may stand in several.
        roles: key -> what it is let in for; of one that stands in several files, what all say.
        garbled: whether that can't be read of some key, which then is what it was before, and may
            control nothing.
        wrong: what can't be read, and why, for people.
        readable: whether the folder itself could be read when it was looked at last; if not,
            `names` is as it was before.
    """

    def __init__(
        self,
        folder: Path,
        without: str = "",
        roles_in: Callable[[list[bytes]], Roles] | None = None,
    ) -> None:
        self._folder, self._without, self._roles_in = folder, without, roles_in
        self._stamp: object = None
        self.names: dict[bytes, str] = {}
        self.entries: list[tuple[bytes, str]] = []
        self.roles: dict[bytes, Roles] = {}
        self.garbled = False
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
            self.roles, self.garbled = {}, False
            self.wrong = [f"{self._folder} is gone: {self._without}"] if self._without else []
        except OSError as error:  # too many open files, say
            self.readable = False
            self.wrong = [f"{self._folder} can't be read ({error.strerror}): nobody new is let in"]
        return before != (self.readable, self._stamp)

    def _read(self) -> None:
        entries: list[tuple[bytes, str]] = []
        roles: dict[bytes, Roles] = {}
        wrong: list[str] = []
        garbled: list[str] = []
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".pub" and not path.name.startswith("."):
                try:
                    key, said = read_entry(path)
                except KeysError as error:
                    wrong.append(f"{error}: skipped")
                    continue
                entries.append((key, safe_name(path.stem)))
                try:
                    own = NO_ROLES if self._roles_in is None else self._roles_in(said)
                except ValueError as error:
                    garbled.append(f"{_shown(path)}, line 2: {error}: nobody new is let in")
                    own = self.roles.get(key, DEFAULT_ROLES) & DEFAULT_ROLES
                roles[key] = roles.get(key, own) & own
        self.names = dict(reversed(entries))  # of two names for a key the first counts
        self.entries, self.wrong, self.readable = entries, wrong + garbled, True
        self.roles, self.garbled = roles, bool(garbled)


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


def read_entry(path: Path) -> tuple[bytes, list[bytes]]:
    """Return the key in a file of a list, and the lines that follow it.

    Raises:
        KeysError: there is none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold us up
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise KeysError(f"{_shown(path)} is no file")
            content = os.read(descriptor, MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # not the file's fault
            raise
        raise KeysError(f"{_shown(path)} can't be read ({error.strerror})") from error
    key, *said = content.strip().splitlines() or [b""]
    if len(content) > MOST_BYTES or not KEY.fullmatch(key.strip()):
        raise KeysError(f"{_shown(path)} holds no key")
    return key.strip(), said


def roles_in(said: list[bytes]) -> Roles:
    """Return what a key is let in for, by the lines that follow it in the allow-list.

    Raises:
        ValueError: that can't be read; the message says why.
    """
    if not said:
        return DEFAULT_ROLES
    name, _, roles = said[0].decode("ascii", "backslashreplace").partition(":")
    if len(said) > 1 or name.strip() != "roles":
        what = "more lines than that" if len(said) > 1 else f"{safe_line(name)!r:.40}"
        raise ValueError(f"what it is let in for is wanted, like 'roles: work, watch', not {what}")
    return as_roles(roles)


def _shown(path: Path) -> str:
    return safe_line(str(path))
