"""What is not on this machine: what it is called, and what each way to such places can do."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from protocol.wire.secrets import shown

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Seconds until a connection is there; until the next byte comes.
CONNECT_SECONDS, READ_SECONDS = 5, 30
#: Files that are read at the same time; bytes of one that is looked at.
TOGETHER = 32


#: The process that has connected, and the file system.
_UNMADE: tuple[int, Any] = (0, None)
#: File systems of the process that this one was forked off. Who lets one go closes its connections,
#: and that takes them from what both processes wait on: the other one hears of nothing any more.
_INHERITED: list[Any] = []


class Seen(NamedTuple):
    """What is at a place.

    Args:
        is_folder: or what stands for one; else a file.
        size: of a file, bytes; None: it was not told.
    """

    is_folder: bool
    size: int | None = None


class Way(ABC):
    """How places of one kind are reached; made once for all of them.

    Paths are in the way's own form. What goes wrong is raised as it comes; `refusal` tells what
    would be no different the next time. A process that was forked off connects anew, and so does
    one that it was sent to.
    """

    scheme: str

    def __init__(self) -> None:
        self._made = _UNMADE

    @property
    def fs(self) -> Any:
        """The file system, connected by this process."""
        if self._made[0] != os.getpid():
            self.forget()
            self._made = os.getpid(), self._connect()
        return self._made[1]

    @property
    @abstractmethod
    def settings(self) -> object:
        """What it is reached by: with the same, a way that was made before will do."""

    def forget(self) -> None:
        """Connect anew, with whatever credentials there are then."""
        if self._made[0] not in (_UNMADE[0], os.getpid()):
            _INHERITED.append(self._made[1])
        self._made = _UNMADE

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_made": _UNMADE}

    @abstractmethod
    def _connect(self) -> Any:
        """Return a file system of fsspec's."""

    @abstractmethod
    def path(self, name: str) -> str:
        """Return the path that a name with its scheme is of."""

    @abstractmethod
    def name(self, path: str) -> str:
        """Return a path as users write it."""

    @abstractmethod
    def split(self, path: str) -> tuple[str, str]:
        """Return the path of the folder that something is in, and what it is called there."""

    @abstractmethod
    def join(self, folder: str, name: str) -> str:
        """Return the path of what is called so in a folder."""

    @abstractmethod
    def look(self, path: str) -> Seen | None:
        """Return what is there; None: nothing."""

    @abstractmethod
    def listing(self, folder: str, most: int) -> Iterator[tuple[str, Seen]]:
        """Yield what is in a folder, `most` at most: names, and what each is."""

    @abstractmethod
    def get(self, path: str, first: int | None = None) -> bytes:
        """Return a file's bytes: all of them, or the first ones."""

    @abstractmethod
    def ask(self, paths: Sequence[str]) -> Future[list[bytes | BaseException]]:
        """Ask for all bytes of each file; they come, or what went wrong with it, while others work.

        Who cancels what is returned lets go of the connections.
        """

    @abstractmethod
    def put(self, path: str, content: bytes) -> None:
        """Write a file, whole or not at all."""

    @abstractmethod
    def refusal(self, error: BaseException) -> str:
        """Return why it would be so the next time, too, in words; empty: it need not be."""


class _Unseen:
    """Nobody has looked yet."""


UNSEEN = _Unseen()


class Remote:
    """A place that is not on this machine, with what pathlib calls the parts of a path.

    universal_pathlib has all of pathlib's, at 0.3 ms a path: 20 s for MNIST as pictures.

    Args:
        way: to it.
        path: in the way's own form.
        seen: what is there, where that is known already; None: nothing.
    """

    __slots__ = ("path", "seen", "way")

    def __init__(self, way: Way, path: str, seen: Seen | _Unseen | None = UNSEEN) -> None:
        self.way, self.path, self.seen = way, path, seen

    def __str__(self) -> str:
        return shown(self.address)

    @property
    def address(self) -> str:
        """What it is reached by; `str` leaves out what is nobody else's business."""
        return self.way.name(self.path)

    def __repr__(self) -> str:
        return f"Remote({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Remote):
            return NotImplemented
        return self.path == other.path and self.way.scheme == other.way.scheme

    def __hash__(self) -> int:
        return hash(self.path)

    def __truediv__(self, name: str) -> Remote:
        return Remote(self.way, self.way.join(self.path, name)) if name else self

    @property
    def name(self) -> str:
        """What it is called in its folder."""
        return self.way.split(self.path)[1]

    @property
    def parent(self) -> Remote:
        """The folder that it is in; of a bucket, or a host, itself."""
        return Remote(self.way, self.way.split(self.path)[0])

    @property
    def suffix(self) -> str:
        """The end of its name, from the last dot on; empty without one."""
        stem, dot, end = self.name.rpartition(".")
        return dot + end if stem and end else ""

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return self.name.removesuffix(self.suffix) if self.suffix else self.name

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the folders that it is in, and its own."""
        return tuple(self.path.split("/"))

    def with_name(self, name: str) -> Remote:
        """Return what is called so in the same folder."""
        return self.parent / name
