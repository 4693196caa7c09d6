"""Where files are: in a local folder, in an S3 bucket, behind HTTP; not what is in them.

A place is a path with pathlib's methods: pathlib's own for what is local, universal_pathlib's for
what is not, over fsspec. Whoever reads layouts asks `entries` and `read`, and need not know which.

    s3://bucket/prefix      needs mnist-merge[s3]; is reached as the AWS_... variables say
    https://host/data.npz   http:// as well
    file:///folder, folder
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from protocol.wire.words import safe_line

from .errors import DatasetNotFound, LoaderError, SourceUnreachable

if TYPE_CHECKING:
    from upath import UPath

    Where = Path | UPath

_Got = TypeVar("_Got")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
REMOTE = ("s3", "http", "https")
#: Until a server is given up that answers nothing: seconds between tries, and of one try.
PAUSES = (0.5, 1, 2, 4, 8)
CONNECT_SECONDS, READ_SECONDS = 5, 60
REGION = "us-east-1"


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
        return Path(unquote(urlsplit(str(name)).path))
    if scheme not in REMOTE:
        ways = ", ".join(f"{each}://" for each in REMOTE)
        raise DatasetNotFound(
            f"{safe_line(str(name))}: {scheme}:// is no place that can be read from; there are"
            f" {ways} and local paths"
        )
    try:
        return _upath(str(name), scheme)
    except ImportError as error:
        raise DatasetNotFound(
            f"{name}: to read from {scheme}:// takes more than is installed"
            f" ({error.name or error}): pip install 'mnist-merge[{scheme.rstrip('s')}]'"
        ) from error


def _upath(name: str, scheme: str) -> UPath:
    from upath import UPath

    # One look at a folder holds for as long as it is opened, and no longer.
    options: dict[str, Any] = {"skip_instance_cache": True}
    if scheme == "s3":
        import s3fs  # noqa: F401  # or say that it is not there

        options |= _s3_options()
    found: UPath = UPath(name, **options)
    return found


def _s3_options() -> dict[str, Any]:
    """Return how a bucket is reached, by the AWS_... variables; in MinIO's way at an endpoint."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or REGION
    config: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS,
        "retries": {"max_attempts": 1},
    }  # fmt: skip
    if endpoint:
        config["s3"] = {"addressing_style": "path"}
    return {
        "endpoint_url": endpoint or None, "client_kwargs": {"region_name": region},
        "config_kwargs": config,
    }  # fmt: skip


@contextmanager
def reaching(where: Where) -> Iterator[None]:
    """Tell what goes wrong on the way to a place as an error of it.

    Raises:
        DatasetNotFound: nothing is there, or who asks may not have it.
        SourceUnreachable: nobody answers there.
    """
    try:
        yield
    except (LoaderError, MemoryError):
        raise
    except FileNotFoundError as error:
        why = "no such file" if isinstance(where, Path) else f"nothing is there: {_brief(error)}"
        raise DatasetNotFound(f"{safe_line(str(where))}: {why}") from error
    except PermissionError as error:
        hint = "" if isinstance(where, Path) else "; look at AWS_ACCESS_KEY_ID and its secret"
        raise DatasetNotFound(
            f"{safe_line(str(where))}: may not be read: {_brief(error)}{hint}"
        ) from error
    except Exception as error:
        if isinstance(where, Path):
            raise
        raise SourceUnreachable(safe_line(str(where)), _brief(error)) from error


def _brief(error: BaseException) -> str:
    return safe_line(f"{error}".strip().partition("\n")[0][:200] or type(error).__name__)


def patiently(what: Callable[[], _Got], where: Where) -> _Got:
    """Return what comes of asking at a place; where nobody answers, for half a minute, again.

    Raises:
        DatasetNotFound, SourceUnreachable: as `reaching`.
    """
    for pause in (*PAUSES, None):
        try:
            with reaching(where):
                return what()
        except SourceUnreachable:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError  # the last try returns or raises


def entries(folder: Where, most: int) -> list[Where]:
    """Return what is in a folder, `most` at most, in no order; nothing where one may not look.

    Raises:
        LoaderError: it can't be reached.
    """
    if isinstance(folder, Path):
        try:
            with os.scandir(folder) as found:
                return [Path(entry.path) for entry in islice(found, most)]
        except OSError:  # maybe somebody else's, below; of the one that is named it is said
            return []
    return patiently(lambda: list(islice(folder.iterdir(), most)), folder)


def is_closed(where: Where) -> bool:
    """Whether it is a folder of this machine that may not be looked into."""
    return isinstance(where, Path) and not os.access(where, os.R_OK | os.X_OK)


def is_folder(where: Where) -> bool:
    """Whether there is a folder, or what S3 has for one: names that go on behind a slash."""
    try:
        return where.is_dir() if isinstance(where, Path) else patiently(where.is_dir, where)
    except (OSError, ValueError):  # too long, say
        return False


def is_file(where: Where) -> bool:
    """Whether there is a file."""
    try:
        return where.is_file() if isinstance(where, Path) else patiently(where.is_file, where)
    except (OSError, ValueError):
        return False


def is_there(where: Where) -> bool:
    """Whether there is anything, file or folder or what else a machine has."""
    try:
        return where.exists() if isinstance(where, Path) else patiently(where.exists, where)
    except (OSError, ValueError):
        return False


def read(where: Where) -> bytes:
    """Return all bytes of a file: all or none.

    Raises:
        LoaderError: it can't be had.
    """
    if isinstance(where, Path):
        with reaching(where):
            return where.read_bytes()
    return patiently(lambda: _whole(where), where)


def _whole(where: UPath) -> bytes:
    content: bytes = where.fs.cat_file(where.path)
    wanted = where.stat().st_size
    if wanted is not None and len(content) != wanted:
        raise EOFError(f"{len(content):,} of {wanted:,} bytes came")
    return content


#: What some servers keep beside a file, and is none of its parts.
_NO_PARTS = ("xl.meta",)
_DIGITS = re.compile(r"(\d+)")


def naturally(where: Where) -> tuple[object, ...]:
    """Return what to sort by so that numbers in names come in their order: part-2, part-10."""
    pieces = _DIGITS.split(where.name)
    return tuple((int(each), each) if k % 2 else each for k, each in enumerate(pieces))


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
        parts = [each for each in files if each.name not in _NO_PARTS and each.stat().st_size]
        return cls(folder, tuple(sorted(parts, key=naturally)))

    @property
    def scrambled(self) -> bool:
        """Whether the order of letters is another."""
        return list(self.parts) != sorted(self.parts, key=lambda each: each.name)

    def __str__(self) -> str:
        return str(self.folder)


def opened(where: Where | Joined) -> BinaryIO:
    """Return a file, open for reading; one that is elsewhere has been read as a whole.

    Raises:
        LoaderError: it can't be had.
    """
    if isinstance(where, Joined):
        return io.BytesIO(b"".join(map(read, where.parts)))
    if isinstance(where, Path):
        with reaching(where):
            return where.open("rb")
    return io.BytesIO(read(where))


def head(where: Where, size: int) -> bytes:
    """Return the first bytes of a file, which tell what it is.

    Raises:
        LoaderError: it can't be had.
    """
    if isinstance(where, Path):
        with reaching(where), where.open("rb") as file:
            return file.read(size)
    return patiently(lambda: bytes(where.fs.cat_file(where.path, 0, size)), where)
