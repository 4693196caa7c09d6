"""Write the documentation of what programs import, as HTML, from its docstrings.

Whatever pdoc warns of is an error, and so is a public name without a docstring.

Usage: python scripts/api.py DIR
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pdoc
import pdoc.doc
import pdoc.render

PACKAGES = (
    "protocol", "loaders", "learning", "main_node", "computing_node", "relay_node", "status_node",
)  # fmt: skip
_FORMAT = inspect.formatannotation


def public() -> dict[str, list[str]]:
    """Return the public names of each package; they are in it from then on.

    Some are imported when they are first used, which pdoc doesn't do.
    """
    names = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        names[package] = list(module.__all__)
        for name in names[package]:
            value = vars(module)[name] = getattr(module, name)
            if hasattr(value, "_fields"):  # pdoc looks for a named tuple's annotations elsewhere
                value.__new__.__annotations__ = get_type_hints(value)
    values = [getattr(sys.modules[package], name) for package in names for name in names[package]]
    classes = [value for value in values if inspect.isclass(value)]
    for each in classes:
        _take_what_is_inherited(each, classes)
    return names


def _take_what_is_inherited(value: type, shown: list[type]) -> None:
    """Give a class what it has of bases of ours that no page shows: pdoc leaves that out."""
    for base in value.__mro__[1:]:
        if base in shown or base.__module__.partition(".")[0] not in PACKAGES:
            continue
        told = inspect.get_annotations(base)
        for name, member in vars(base).items():
            if name.startswith("_") or name in vars(value) or not (member.__doc__ or name in told):
                continue
            setattr(value, name, member)
            if name in told:
                value.__annotations__.setdefault(name, told[name])


def _in_few_words(annotation: Any, *more: Any, **others: Any) -> str:
    """Return a type as a reader wants it: an array's element type and shape are anything's."""
    text = _FORMAT(annotation, *more, **others)
    array = "numpy.ndarray[tuple[typing.Any, ...], numpy.dtype[typing.Any]]"
    return re.sub(r"\b(typing|collections\.abc)\.|~", "", text.replace(array, "numpy.ndarray"))


def undocumented() -> list[str]:
    """Return the public names that have no docstring of their own, with their package."""
    return [
        f"{package}.{name}"
        for package, names in public().items()
        for name in names
        for value in [getattr(sys.modules[package], name)]
        if (inspect.isclass(value) or inspect.isroutine(value)) and not value.__doc__
    ]


def write(folder: Path) -> None:
    """Write the pages of every package into a folder.

    Raises:
        UserWarning, RuntimeWarning: pdoc has something to say.
    """
    public()
    # What annotations name, and only type checkers have: pdoc wants it.
    typeshed = ModuleType("_typeshed")
    vars(typeshed)["DataclassInstance"] = Any
    sys.modules.setdefault("_typeshed", typeshed)
    # Parameters are written by inspect, what is returned by pdoc.
    vars(inspect)["formatannotation"] = vars(pdoc.doc)["formatannotation"] = _in_few_words
    pdoc.render.configure(docformat="google", show_source=False, search=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Only what a package makes public: what else is in it may change with any release.
        pdoc.pdoc(*PACKAGES, *(f"!{package}\\..*" for package in PACKAGES), output_directory=folder)


def main(folder: str) -> int:
    """Write everything into a folder; return how many public names have no docstring."""
    missing = undocumented()
    for name in missing:
        print(f"{name} has no docstring", file=sys.stderr)
    if not missing:
        write(Path(folder))
    return len(missing)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(bool(main(sys.argv[1])))
