"""How a learner is found by its name.

Those that ship are here; a package that is installed brings more, by an entry point of the group
`mnist_merge.learners` that names its class:

    [options.entry_points]
    mnist_merge.learners =
        mine = my_package.my_learner:MyLearner
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path

from protocol.errors import ConfigError
from protocol.options import as_carried, declared, fit, make
from protocol.wire.entry import Entry
from protocol.wire.words import is_name, safe_line

from .contract import Learner, Turn
from .errors import UnknownLearner

log = logging.getLogger("mnist.learning")

SHIPPED = {
    "neural": "learning.neural.learner:NeuralLearner",
    "algebraic": "learning.algebraic.learner:AlgebraicLearner",
}
GROUP = "mnist_merge.learners"
_FLAG = re.compile(r"--(?:set )?[a-z][a-z0-9-]*")


@cache
def _classes() -> dict[str, type[Learner]]:
    """Return every learner's class; what can't be imported is said, and left out."""
    found = {}
    for name, place in {**_brought(), **SHIPPED}.items():
        try:
            found[name] = _usable(_import(place), name)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does
            if name in SHIPPED:
                raise
            told = safe_line(f"{type(error).__name__}: {error}")
            log.warning(Entry("learner.unusable", name=name, place=place, message=told))
            log.debug(Entry("learner.unusable", name=name), exc_info=True)
    return dict(sorted(found.items(), key=lambda each: each[0] not in SHIPPED))


def _brought() -> dict[str, str]:
    """Return where the learners of other packages are, by name."""
    if not any(map(_names_learners, sys.path)):
        return {}
    from importlib.metadata import entry_points

    found: dict[str, str] = {}
    for each in entry_points(group=GROUP):
        if found.setdefault(each.name, each.value) != each.value:
            log.warning(Entry("learner.twice", "another has it", name=each.name, place=each.value))
    return found


def _names_learners(folder: str) -> bool:
    """Whether a package that is installed in a folder brings learners.

    To import and ask `importlib.metadata` takes a quarter of the time that a command's help does.
    """
    with suppress(OSError, ValueError):
        for path in Path(folder or ".").glob("*-info/entry_points.txt"):
            if GROUP.encode() in path.read_bytes():
                return True
    return False


def _import(place: str) -> type[Learner]:
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, type):
        raise TypeError(f"{place} is no class")
    return found


def _usable(kind: type[Learner], name: str) -> type[Learner]:
    """Return a class; raise unless it says what every command needs to know of a learner."""
    if not issubclass(kind, Learner) or getattr(kind, "name", "") != name:
        raise TypeError(f"it is no Learner whose name is {name!r}")
    options = getattr(kind, "options", None)
    if not isinstance(options, type) or not is_dataclass(options):
        raise TypeError("its options are no dataclass")
    for each in declared(options):
        if not _FLAG.fullmatch(each.flag):
            raise TypeError(
                f"its option {each.name} has the flag {each.flag!r}; one looks like --so"
            )
        fit(each, each.default)
    if not is_name(name):
        raise TypeError("its name is too long")
    if not hasattr(options, "lesson"):
        raise TypeError("its options don't say what a job does: they have no lesson")
    return kind


def names() -> tuple[str, ...]:
    """Return the names of the learners that there are; those that ship come first."""
    return tuple(_classes())


def learner(name: str) -> type[Learner]:
    """Return the class of a learner.

    Raises:
        UnknownLearner: there is none of this name.
    """
    if name not in _classes():
        raise UnknownLearner(f"no learner {name!r}; there is {', '.join(names())}")
    return _classes()[name]


def create(name: str, parameters: Mapping[str, object], turn: Turn | None = None) -> Learner:
    """Return a learner.

    Args:
        name: one of `names()`.
        parameters: what it is made with, by name.
        turn: where in a run it is.

    Raises:
        UnknownLearner: no such learner, or it takes no such parameters.
    """
    kind = learner(name)
    try:
        odd = parameters.keys() - {each.name for each in declared(kind.options)}
        if odd:
            raise ConfigError(f"it takes no {min(odd)}")
        return kind(make(kind.options, parameters), turn)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's class does
        raise UnknownLearner(
            f"learner {name!r} can't be made with {dict(parameters)}: {error}"
        ) from error


def create_carried(
    name: str, parameters: Mapping[str, object], turn: Turn | None = None
) -> Learner:
    """Return a learner that was told by `carried`, maybe by an earlier release; as `create`."""
    return create(name, as_carried(options_of(name), parameters), turn)


def options_of(name: str) -> type:
    """Return the dataclass of what a learner is made with.

    Raises:
        UnknownLearner: no such learner.
    """
    return learner(name).options
