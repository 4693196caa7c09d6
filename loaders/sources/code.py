"""A function of a user's that returns data: `FILE.py:FUNCTION`, or `package.module:FUNCTION`.

It takes no argument, and returns a source (of `loaders.from_arrays`, say); or arrays by split,
`{"train": (rows, labels), "test": (rows, labels)}`; or both pairs, as Keras' `load_data` does; or
one or two of torch's data sets.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from protocol.wire.words import safe_line

from ..errors import DatasetNotFound, LoaderError
from ..places import opened as open_file
from ..places import size
from ..running import NotThere, module_at, place_of, running
from . import Asked, some

if TYPE_CHECKING:
    from ..arrays import Given
    from ..rows import Source
    from . import Say

WHAT = "FILE.py:FUNCTION or package.module:FUNCTION, which returns data"
SHORT = "FILE.py:FUNCTION"
ORDER = 70
NAMES = ()
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
    return place_of(asked.name) is not None


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
    place = place_of(asked.name)
    assert place is not None  # it is known
    with running(asked.name, place.file, LoaderError):
        try:
            module = module_at(place)
        except NotThere as error:
            raise DatasetNotFound(str(error)) from error
        function = getattr(module, place.name, None)
        if not callable(function):
            raise DatasetNotFound(
                f"{asked.name}: it has no function {place.name!r}; it has {_functions(module)}"
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
