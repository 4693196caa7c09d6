"""Where files are: in a local folder, in an S3 bucket, behind HTTP; not what is in them.

A place is pathlib's path where it is local, and else a `Remote`, which calls its parts the same.
Whoever reads layouts asks `entries` and `read`, and need not know which.

    s3://bucket/prefix      needs mnist-merge[s3]; is reached as the AWS_... variables say
    https://host/data.npz   http:// as well; needs mnist-merge[http]
    file:///folder, folder
"""

from __future__ import annotations

import io
import os
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import unquote, urlsplit

from protocol.wire.secrets import shown
from protocol.wire.words import safe_line

from .errors import DatasetNotFound, LoaderError, SourceUnreachable
from .remote import UNSEEN, Remote, Seen, Way

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Where = Path | Remote

_Got = TypeVar("_Got")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
REMOTE = ("s3", "http", "https")
#: Until a server is given up that answers nothing: seconds between tries, and in all.
PAUSES, PATIENCE_SECONDS = (0.5, 1, 2, 4, 8), 30
#: Letters of what a server says that are told.
_MOST_SAID = 400
#: What is asked for together, and again before the first of it is handed out: files, bytes; what
#: one has that is not told.
_CHUNK, _CHUNK_BYTES, _UNTOLD_BYTES = 256, 1 << 25, 1 << 22
#: Local files that a thread reads one after the other.
_IN_A_ROW = 32


def is_remote(name: str) -> bool:
    """Whether a name is of something that is not on this machine: it has a scheme."""
    return _scheme(name) not in ("", "file")


def _scheme(name: str) -> str:
    found = _SCHEME.match(name)
    return found[1].lower() if found else ""


def at(name: str | Path) -> Where:
    """Return the place that a name is of; whether anything is there is not looked at.

    Raises:
        DatasetNotFound: there is no way to such places, or what is needed is not installed.
    """
    scheme = _scheme(str(name))
    if not scheme:
        return Path(name)
    if scheme == "file":
        named = urlsplit(str(name))
        if named.netloc not in ("", "localhost"):  # of file://photos/cat it would be /cat
            raise DatasetNotFound(
                f"{safe_line(str(name))}: file:// is followed by a whole path, file:///FOLDER; or"
                " name the folder alone"
            )
        return Path(unquote(named.path))
    if scheme not in REMOTE:
        ways = ", ".join(f"{each}://" for each in REMOTE)
        raise DatasetNotFound(
            f"{safe_line(shown(str(name)))}: {scheme}:// is no place that can be read from;"
            f" there are {ways} and local paths"
        )
    try:
        way = _way(scheme)
    except ImportError as error:
        raise DatasetNotFound(
            f"{shown(str(name))}: to read from {scheme}:// takes more than is installed"
            f" ({error.name or error}): pip install 'mnist-merge[{scheme.rstrip('s')}]'"
        ) from error
    return Remote(way, way.path(str(name)))


#: To connect to S3 takes a third of a second: ways by what they are reached by.
_WAYS: dict[object, Way] = {}


def _way(scheme: str) -> Way:
    if scheme == "s3":
        from .buckets import Buckets

        made: Way = Buckets()
    else:
        from .web import Web

        made = Web(scheme)
    return _WAYS.setdefault((scheme, made.settings), made)


@contextmanager
def reaching(where: Where) -> Iterator[None]:
    """Tell what goes wrong on the way to a place as an error of it.

    Raises:
        DatasetNotFound: nothing is there, or who asks may not have it.
        SourceUnreachable: nobody answers there; maybe later.
    """
    try:
        yield
    except (LoaderError, MemoryError):
        raise
    except Exception as error:
        if isinstance(where, Remote):
            raise _told(where, error) from error
        if isinstance(error, FileNotFoundError):
            raise DatasetNotFound(f"{safe_line(str(where))}: no such file") from error
        if isinstance(error, PermissionError):
            raise DatasetNotFound(
                f"{safe_line(str(where))}: may not be read: {_brief(error)}"
            ) from error
        raise


def _told(where: Remote, error: Exception) -> LoaderError:
    """Return what went wrong on the way to a place as an error of it."""
    refusal = where.way.refusal(error)
    if refusal:
        return DatasetNotFound(f"{safe_line(str(where))}: {safe_line(shown(refusal), _MOST_SAID)}")
    return SourceUnreachable(safe_line(str(where)), _brief(error))


def _brief(error: BaseException) -> str:
    told = shown(f"{error}".strip().partition("\n")[0])  # first: half a signature is none to see
    return safe_line(told[:200] or type(error).__name__)


def patiently(what: Callable[[], _Got], where: Where) -> _Got:
    """Return what comes of asking at a place; where nobody answers, for half a minute, again.

    Raises:
        DatasetNotFound, SourceUnreachable: as `reaching`.
    """
    begun = time.monotonic()
    for pause in (*PAUSES, None):
        try:
            with reaching(where):
                return what()
        except SourceUnreachable as error:
            spent = time.monotonic() - begun
            if pause is None or spent + pause > PATIENCE_SECONDS:
                tried = f"{error.reason} (tried for {spent:.0f} s)"
                raise SourceUnreachable(error.source, tried) from error
            time.sleep(pause)
    raise AssertionError  # the last try returns or raises


def entries(folder: Where, most: int) -> list[Where]:
    """Return what is in a folder, `most` at most, in no order; nothing where one may not look.

    What is elsewhere knows from then on whether it is a file, and its size.

    Raises:
        LoaderError: it can't be reached.
    """
    if isinstance(folder, Path):
        try:
            with os.scandir(folder) as found:
                return [Path(entry.path) for entry in islice(found, most)]
        except OSError:  # maybe somebody else's, below; of the one that is named it is said
            return []
    way, path = folder.way, folder.path
    told = patiently(lambda: list(way.listing(path, most)), folder)
    return [Remote(way, way.join(path, name), seen) for name, seen in told]


def _seen(where: Remote) -> Seen | None:
    """Return what is at a place: looked at once."""
    seen = where.seen
    if not (seen is None or isinstance(seen, Seen)):
        seen = where.seen = patiently(lambda: where.way.look(where.path), where)
    return seen


def is_closed(where: Where) -> bool:
    """Whether it is a folder of this machine that may not be looked into."""
    return isinstance(where, Path) and not os.access(where, os.R_OK | os.X_OK)


def is_folder(where: Where) -> bool:
    """Whether there is a folder, or what S3 has for one: names that go on behind a slash.

    Raises:
        LoaderError: it can't be reached, or who asks may not know.
    """
    if isinstance(where, Remote):
        seen = _seen(where)
        return seen is not None and seen.is_folder
    try:
        return where.is_dir()
    except (OSError, ValueError):  # too long, say
        return False


def is_file(where: Where) -> bool:
    """Whether there is a file.

    Raises:
        LoaderError: it can't be reached, or who asks may not know.
    """
    if isinstance(where, Remote):
        seen = _seen(where)
        return seen is not None and not seen.is_folder
    try:
        return where.is_file()
    except (OSError, ValueError):
        return False


def is_there(where: Where) -> bool:
    """Whether there is anything, file or folder or what else a machine has."""
    if isinstance(where, Remote):
        return _seen(where) is not None
    try:
        return where.exists()
    except (OSError, ValueError):
        return False


def size(where: Where) -> int | None:
    """Return how long a file is, in bytes; None: a server does not tell.

    Raises:
        LoaderError: there is none, or it can't be reached.
    """
    if isinstance(where, Path):
        with reaching(where):
            return where.stat().st_size
    seen = _seen(where)
    if seen is None:
        raise DatasetNotFound(f"{safe_line(str(where))}: no such file")
    return seen.size


def read(where: Where) -> bytes:
    """Return all bytes of a file: all or none.

    Raises:
        LoaderError: it can't be had.
    """
    if isinstance(where, Path):
        with reaching(where):
            return where.read_bytes()
    if isinstance(where, Coming) and (content := where.take()) is not None:
        return content
    return patiently(lambda: _whole(where, where.way.get(where.path)), where)


def _whole(where: Remote, content: bytes) -> bytes:
    """Return what came of a file, if that is all of it, as far as that is known."""
    seen = where.seen
    if isinstance(seen, Seen) and seen.size not in (None, len(content)):
        where.seen = UNSEEN  # it may be another by now
        raise EOFError(f"{len(content):,} of {seen.size:,} bytes came")
    return content


def read_each(wheres: Iterable[Where]) -> Generator[bytes, None, None]:
    """Yield all bytes of each file, in their order: many are read at a time, few are in memory.

    The next ones come while the first are worked on.

    Raises:
        LoaderError: one can't be had.
    """
    from concurrent.futures import ThreadPoolExecutor

    lots: list[_Lot] = []
    with ThreadPoolExecutor(_CHUNK // _IN_A_ROW) as threads:
        try:
            for some in _chunks(wheres):
                lots.append(_Lot(some, threads))
                if len(lots) > 1:
                    yield from lots[0].come()
                    del lots[0]
            for lot in lots:
                yield from lot.come()
        finally:
            for lot in lots:
                lot.give_up()


def _chunks(wheres: Iterable[Where]) -> Iterator[list[Where]]:
    """Yield places, as many together as may be in memory at a time."""
    chunk: list[Where] = []
    held = 0
    for where in wheres:
        nbytes = _expected(where)
        if chunk and (len(chunk) >= _CHUNK or held + nbytes > _CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(where)
        held += nbytes
    if chunk:
        yield chunk


def _expected(where: Where) -> int:
    """Return how long a file is as far as that is known without asking anybody."""
    if isinstance(where, Path):
        try:
            return where.stat().st_size
        except OSError:
            return 0  # said when it is read
    known = where.seen.size if isinstance(where.seen, Seen) else None
    return _UNTOLD_BYTES if known is None else known


class _Lot:
    """Files that have been asked for together.

    Args:
        wheres: they are.
        threads: that read those of this machine.
    """

    def __init__(self, wheres: Sequence[Where], threads: ThreadPoolExecutor) -> None:
        self._wheres = wheres
        by_way: dict[Way, list[str]] = {}
        for where in wheres:
            if isinstance(where, Remote):
                by_way.setdefault(where.way, []).append(where.path)
        self._coming = {way: way.ask(paths) for way, paths in by_way.items()}
        self._here = _read_here([each for each in wheres if isinstance(each, Path)], threads)

    def come(self) -> Iterator[bytes]:
        """Yield all bytes of each file; nothing is held that was handed out."""
        came: dict[Way, list[bytes | BaseException]] = {}
        for where in self._wheres:
            if isinstance(where, Path):
                yield next(self._here)
                continue
            if where.way not in came:
                came[where.way] = self._coming[where.way].result()
                came[where.way].reverse()
            yield _came(where, came[where.way].pop())

    def give_up(self) -> None:
        """Have nothing come that nobody waits for any more."""
        for each in self._coming.values():
            each.cancel()


def _read_here(paths: Sequence[Path], threads: ThreadPoolExecutor) -> Iterator[bytes]:
    """Return all bytes of each file; a thread has some, for what they cost by themselves."""
    some = [paths[first : first + _IN_A_ROW] for first in range(0, len(paths), _IN_A_ROW)]
    return chain.from_iterable(threads.map(lambda each: [read(path) for path in each], some))


def _came(where: Remote, first: bytes | BaseException) -> bytes:
    """Return all bytes of a file, of which something came with others, or nothing."""
    try:
        if isinstance(first, bytes | bytearray | memoryview):
            return _whole(where, bytes(first))
    except EOFError:
        pass
    return read(where)


def write(where: Where, content: bytes) -> None:
    """Write a file, whole or not at all; over one that is there.

    Raises:
        LoaderError: it can't be written.
    """
    if isinstance(where, Remote):
        return patiently(lambda: where.way.put(where.path, content), where)
    import tempfile

    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=where.parent, prefix=".", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o666 & ~_umask())
                Path(file.name).replace(where)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise LoaderError(f"{safe_line(str(where))}: can't be written: {_brief(error)}") from error
    return None


def _umask() -> int:
    """Return what this user takes away from others; asking sets it, for a moment to the safest."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


#: What some servers keep beside a file, and is none of its parts.
_NO_PARTS = ("xl.meta",)
_DIGITS = re.compile(r"(\d+)")


def naturally(where: Where) -> tuple[object, ...]:
    """Return what to sort by so that numbers in names come in their order: part-2, part-10."""
    pieces = _DIGITS.split(where.name)
    return tuple((int(each), each) if k % 2 else each for k, each in enumerate(pieces))


def _is_empty(where: Where) -> bool:
    """Whether a file is empty, as far as that is known: what has no bytes adds none to others."""
    if isinstance(where, Path):
        return size(where) == 0
    return isinstance(where.seen, Seen) and where.seen.size == 0


class Joined(NamedTuple):
    """A file in parts, in a folder of its name.

    Args:
        folder: that holds them.
        parts: in order.
    """

    folder: Where
    parts: tuple[Where, ...]

    @classmethod
    def of(cls, folder: Where, files: Iterable[Where]) -> Joined:
        """Return the parts among files, in the order of the numbers in their names."""
        parts = [each for each in files if each.name not in _NO_PARTS and not _is_empty(each)]
        return cls(folder, tuple(sorted(parts, key=naturally)))

    @property
    def scrambled(self) -> bool:
        """Whether the order of letters is another."""
        return list(self.parts) != sorted(self.parts, key=lambda each: each.name)

    def __str__(self) -> str:
        return str(self.folder)


_File = TypeVar("_File", bound="Where | Joined")


class Coming(Remote):
    """A place whose bytes have been asked for, for whoever opens it in its turn."""

    __slots__ = ("_queue",)

    def __init__(self, where: Remote, queue: _Queue) -> None:
        super().__init__(where.way, where.path, where.seen)
        self._queue = queue

    def take(self) -> bytes | None:
        """Return its bytes, once; None: it is not its turn, and they have to be asked for again.

        Raises:
            LoaderError: it can't be had.
        """
        if not self._queue.places or self._queue.places[0] is not self:
            return None
        self._queue.places.popleft()
        return next(self._queue.contents, None)


class _Queue:
    """Places, and what comes from them, in this order."""

    def __init__(self) -> None:
        self.places: deque[Coming] = deque()
        self.contents: Iterator[bytes] = iter(())


@contextmanager
def ahead(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Have files that are elsewhere come before they are opened, some at a time, in their order.

    Who opens what this returns, one after the other, need not wait for each; else, files are read
    as ever.
    """
    queue = _Queue()

    def coming(where: Where) -> Where:
        if isinstance(where, Path):
            return where
        queue.places.append(Coming(where, queue))
        return queue.places[-1]

    made = [
        Joined(each.folder, (*map(coming, each.parts),)) if isinstance(each, Joined)
        else coming(each)
        for each in files
    ]  # fmt: skip
    with closing(read_each([*queue.places])) as contents:
        queue.contents = contents
        yield cast("list[_File]", made)


def opened(where: Where) -> BinaryIO:
    """Return a file, open for reading; one that is elsewhere has been read as a whole.

    Raises:
        LoaderError: it can't be had.
    """
    if isinstance(where, Path):
        with reaching(where):
            return where.open("rb")
    return io.BytesIO(read(where))


def whole(where: Remote | Joined) -> memoryview:
    """Return all bytes of a file that is elsewhere, or in parts.

    Raises:
        LoaderError: it can't be had.
    """
    if isinstance(where, Remote):
        return memoryview(read(where))
    import numpy as np

    coming = all(isinstance(each, Coming) for each in where.parts)
    contents = [b"", *(map(read, where.parts) if coming else read_each(where.parts))]
    # In a quarter of the time that bytes take: numpy asks the system for large pages.
    return np.concatenate([np.frombuffer(each, np.uint8) for each in contents]).data


def address(where: Where) -> str:
    """Return what a place is reached by: with password and signature, where it has some."""
    return where.address if isinstance(where, Remote) else str(where)


def head(where: Where, size: int) -> bytes:
    """Return the first bytes of a file, which tell what it is.

    Raises:
        LoaderError: it can't be had.
    """
    if isinstance(where, Path):
        with reaching(where), where.open("rb") as file:
            return file.read(size)
    return patiently(lambda: where.way.get(where.path, size)[:size], where)
