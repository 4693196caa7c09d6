"""A user's own code: named `FILE.py:NAME` or `package.module:NAME`, imported, and run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from protocol.wire.words import safe_line

_PLACE = re.compile(
    r"(?:(?P<file>.+\.py)|(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*)):(?P<name>[^\W\d]\w*)"
)


class NotThere(LookupError):
    """There is no such file, module, or nothing of that name in it; it says so."""


class Place(NamedTuple):
    """Where something of a user's is.

    Args:
        module: the module's name; of a file, what it is called without `.py`.
        name: of what it has.
        file: that the module is; None: it is installed, or on PYTHONPATH.
    """

    module: str
    name: str
    file: Path | None

    def __str__(self) -> str:
        return f"{self.module if self.file is None else self.file}:{self.name}"

    @property
    def lasting(self) -> str:
        """The same, so that it means the same in every folder."""
        return str(self if self.file is None else self._replace(file=self.file.absolute()))


def place_of(text: str) -> Place | None:
    """Return what a text names, if it is so called; nothing is looked at."""
    found = _PLACE.fullmatch(text)
    if found is None or "://" in text:
        return None
    if found["file"] is None:
        return Place(found["module"], found["name"], None)
    file = Path(os.path.expanduser(found["file"]))  # noqa: PTH111  # which fails without a home
    return Place(file.stem, found["name"], file)


@contextmanager
def running(name: str, file: Path | None, error: type[Exception]) -> Iterator[None]:
    """Run a user's code: with its folder to import from, and never from the current one.

    Args:
        name: as the user has called it.
        file: in which it is, if it is in one.
        error: what is raised of whatever it raises; that, `NotThere` and `MemoryError` pass as
            they are.
    """
    before, arguments = [*sys.path], sys.argv
    # An empty entry is the current folder, whichever that is.
    sys.path[:] = [each for each in before if each not in ("", ".")]
    if file is not None:
        sys.path.insert(0, str(file.parent.absolute()))
    sys.argv = [name if file is None else str(file)]  # ours are none of what it may ask for
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no part of what a command prints
            yield
    except (error, NotThere, MemoryError):
        raise
    except (Exception, SystemExit) as raised:  # whatever a stranger's function does
        raise error(
            f"{name}: it raised {type(raised).__name__}: {safe_line(str(raised))}"
            f"{_line(raised, file)}{_advice(raised)}"
        ) from raised
    finally:
        sys.path[:], sys.argv = before, arguments


def _advice(error: BaseException) -> str:
    """Return what to do where a file was written to be run, or to be part of a package."""
    if isinstance(error, SystemExit):
        return (
            "; it is imported, not run as a program: what only that is to do belongs under"
            ' if __name__ == "__main__":'
        )
    if isinstance(error, ImportError) and "no known parent package" in str(error):
        return (
            "; a file of a package is named package.module:NAME, with the folder that the package"
            " is in on PYTHONPATH"
        )
    if isinstance(error, NameError) and error.name == "get_ipython":
        return "; get_ipython() is there in notebooks only: take the lines with it out"
    return ""


def _line(error: BaseException, file: Path | None) -> str:
    """Return in which line of a user's file something was raised, in words."""
    if file is None:
        return ""
    at, line = error.__traceback__, 0
    if isinstance(error, SyntaxError) and error.filename == str(file.absolute()):
        line = error.lineno or 0
    while at is not None:
        if Path(at.tb_frame.f_code.co_filename) == file.absolute():
            line = at.tb_lineno
        at = at.tb_next
    return f" (line {line:,} of {file})" if line else ""


def module_at(place: Place) -> ModuleType:
    """Return the module that a place names, run.

    Raises:
        NotThere: it is not there.
    """
    return _module(place.module) if place.file is None else _file(place.file)


def _file(file: Path) -> ModuleType:
    path = file.absolute()
    if not path.is_file():
        raise NotThere(f"{file}: no such file")
    # Under a name of its own, so that no two are taken for one, and none for a package.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NotThere(f"{file}: not a file of Python's")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and something that it imports is not
        raise NotThere(
            f"{name}: there is no module {error.name!r} that is installed or on PYTHONPATH; a file"
            " is named by its path: FILE.py:NAME"
        ) from error
