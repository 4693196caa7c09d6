"""A function of a user's that returns data: `FILE.py:FUNCTION`, or `package.module:FUNCTION`.

It takes no argument, and returns a source (of `loaders.from_arrays`, say); or arrays by split,
`{"train": (rows, labels), "test": (rows, labels)}`; or both pairs, as Keras' `load_data` does; or
one or two of torch's data sets.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocol.wire.words import safe_line

from ..errors import DatasetNotFound, LoaderError
from ..places import opened as open_file
from ..places import size
from . import Asked, some

if TYPE_CHECKING:
    from ..arrays import Given
    from ..rows import Source
    from . import Say

WHAT = "FILE.py:FUNCTION or package.module:FUNCTION, which returns data"
SHORT = "FILE.py:FUNCTION"
ORDER = 70
NAMES = ()
_PLACE = re.compile(
    r"(?:(?P<file>.+\.py)|(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*)):(?P<name>[^\W\d]\w*)"
)
#: Bytes of a file of Python's that is looked into; no larger one was written by anybody.
_MOST_CODE = 1 << 20
#: What a source has; see `loaders.rows.Source`.
_SOURCE = ("name", "form", "splits", "digest", "labels", "read")
_RETURNS = (
    'a source, as loaders.from_arrays(...) makes; {"train": (rows, labels), "test": (rows,'
    " labels)}; ((rows, labels), (rows, labels)); or one or two of torch's data sets"
)


def knows(asked: Asked) -> bool:
    """Whether it is called so, and no file or folder is."""
    return _PLACE.fullmatch(asked.name) is not None and "://" not in asked.name


def almost(asked: Asked) -> str:
    """Return what to do with a file of Python's: it is read, and not run; empty: it is none."""
    if not asked.is_file or asked.where.suffix != ".py" or (size(asked.where) or 0) > _MOST_CODE:
        return ""
    try:
        with warnings.catch_warnings(), open_file(asked.where) as file:
            warnings.simplefilter("ignore")
            read = ast.parse(file.read())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why, line = str(error), ""
        if isinstance(error, SyntaxError):
            why, line = error.msg, f", line {error.lineno:,}" if error.lineno else ""
        return f"as a file of Python's it can't be read{line}: {safe_line(why)}"
    functions = [
        each.name for each in read.body
        if isinstance(each, ast.FunctionDef) and each.name[0] != "_" and not _asks(each.args)
    ]  # fmt: skip
    if not functions:
        return "a file of Python's has a function that takes no argument and returns data; name it"
    named = some([f"{asked.name}:{each}" for each in functions])
    return f"name the function that returns data, it is run then: {named}"


def _asks(arguments: ast.arguments) -> bool:
    """Whether a function can't be called without any."""
    more = [*arguments.posonlyargs, *arguments.args]
    return len(more) > len(arguments.defaults) or None in arguments.kw_defaults


def open_source(asked: Asked) -> Source:
    """Return what a function returns, as a source.

    Raises:
        DatasetNotFound: there is no such file, module or function.
        CorruptDataset: what it returns are no rows and classes.
        LoaderError: it raises something, or returns something else.
    """
    found = _PLACE.fullmatch(asked.name)
    assert found is not None  # it is known
    file = None if found["file"] is None else Path(found["file"])
    with _running(asked.name, file):
        module = _module(found["module"]) if file is None else _file(file)
        function = getattr(module, found["name"], None)
        if not callable(function):
            raise DatasetNotFound(
                f"{asked.name}: it has no function {found['name']!r}; it has {_functions(module)}"
            )
        made = function()
        return _source(asked.name, made, asked.say)


def _functions(module: Any) -> str:
    names = [
        name
        for name, each in vars(module).items()
        if callable(each) and name[0] != "_" and getattr(each, "__module__", "") == module.__name__
    ]
    return some(names) or "none"


# How it is found.


@contextmanager
def _running(name: str, file: Path | None) -> Iterator[None]:
    """Run a user's code: with its folder to import from, and never from the current one.

    Raises:
        LoaderError: whatever it raises.
    """
    before = [*sys.path]
    # An empty entry is the current folder, whichever that is.
    sys.path[:] = [each for each in before if each not in ("", ".")]
    if file is not None:
        sys.path.insert(0, str(file.parent.absolute()))
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no part of what a command prints
            yield
    except (LoaderError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's function does
        raise LoaderError(
            f"{name}: it raised {type(error).__name__}: {safe_line(str(error))}{_line(error, file)}"
        ) from error
    finally:
        sys.path[:] = before


def _line(error: BaseException, file: Path | None) -> str:
    """Return in which line of a user's file something was raised, in words."""
    at, line = error.__traceback__, 0
    while at is not None:
        if file is not None and Path(at.tb_frame.f_code.co_filename) == file.absolute():
            line = at.tb_lineno
        at = at.tb_next
    return f" (line {line:,} of {file})" if line else ""


def _file(file: Path) -> Any:
    """Return the module that a file is."""
    path = file.absolute()
    if not path.is_file():
        raise DatasetNotFound(f"{file}: no such file")
    # Under a name of its own, so that no two are taken for one, and none for a package.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DatasetNotFound(f"{file}: not a file of Python's")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and something that it imports is not
        raise DatasetNotFound(
            f"{name}: there is no module {error.name!r} that is installed or on PYTHONPATH; a file"
            " is named by its path: FILE.py:FUNCTION"
        ) from error


# What it returns.


def _source(name: str, made: Any, say: Say) -> Source:
    """Return what a function returned as a source."""
    from ..arrays import from_torch, source_of

    if all(hasattr(made, each) for each in _SOURCE):
        source: Source = made
        return source
    splits = _splits(made)
    if splits is not None:
        return source_of(
            name, {split: _given(name, split, pair) for split, pair in splits.items()}, say=say
        )
    if isinstance(made, tuple) and len(made) == 2 and all(map(_has_items, made)):
        return from_torch(made[0], made[1], name=name)
    if _has_items(made):
        return from_torch(made, name=name)
    raise LoaderError(f"{name}: it returned a {type(made).__name__}; it may return {_RETURNS}")


def _splits(made: Any) -> Mapping[str, Any] | None:
    """Return pairs by split, if they are that."""
    if isinstance(made, Mapping):
        return made
    pairs = isinstance(made, tuple) and len(made) == 2
    if pairs and all(isinstance(each, tuple) and len(each) == 2 for each in made):
        return dict(zip(("train", "test"), made, strict=True))
    return None


def _has_items(made: Any) -> bool:
    """Whether something is like one of torch's data sets, and is no array."""
    many: Callable[..., bool] = lambda name: hasattr(made, name)  # noqa: E731
    return (many("__getitem__") or many("__iter__")) and not (
        isinstance(made, str | bytes | list | tuple) or many("dtype")
    )


def _given(name: str, split: str, pair: Any) -> Given:
    from ..arrays import Given, array_of

    if split not in ("train", "test"):
        raise LoaderError(f"{name}: it returned a split {split!r}; there are 'train' and 'test'")
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise LoaderError(
            f"{name}: its {split!r} is a {type(pair).__name__}, not a pair of rows and labels"
        )
    rows, labels = pair
    return Given(array_of(rows), array_of(labels), f"the rows of {split!r}",
                 f"the labels of {split!r}")  # fmt: skip
