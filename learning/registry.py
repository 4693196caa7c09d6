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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import ConfigError
from protocol.options import as_carried, declared, fit, from_text, make
from protocol.wire.entry import Entry
from protocol.wire.words import is_name, safe_line

from .contract import Learner, Turn
from .errors import UnknownLearner
from .own import kinds as kinds_
from .own.code import classes_in
from .own.kinds import OWN_CODE, is_place, learner_at

if TYPE_CHECKING:
    from loaders.rows import Array

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
    """Return the class of a learner; what a user has named by its place is run.

    Args:
        name: one of `names()`, `FILE.py:NAME` or `package.module:NAME`.

    Raises:
        UnknownLearner: there is none of this name, or it can't be used.
    """
    if is_place(name):
        return learner_at(name)
    if name.endswith(".py"):
        found = classes_in(Path(name)) or ["NAME"]
        named = ", ".join(f"{name}:{each}" for each in found)
        raise UnknownLearner(f"--learner {name}: name what learns in it, too: {named}")
    if name not in _classes():
        raise UnknownLearner(
            f"no learner {name!r}; there is {', '.join(names())}, and your own: FILE.py:NAME or"
            " package.module:NAME"
        )
    return _classes()[name]


def kind_of(name: str) -> str:
    """Return what jobs of a learner are called where nodes say what they take; nothing is run."""
    return OWN_CODE if is_place(name) else name


def kinds() -> tuple[str, ...]:
    """Return what a node may say that it solves jobs of: every learner, and users' own."""
    return (*names(), OWN_CODE)


def prepare(kind: str) -> None:
    """Do what takes long before the first job of a kind; of users' own: what most are built on."""
    create("neural" if kind == OWN_CODE else kind, {}).prepare()


def forks(kind: str) -> bool:
    """Whether a process that is prepared for jobs of a kind may be forked."""
    return kind == OWN_CODE or learner(kind).forks


def described(name: str) -> Learner:
    """Return what knows how to tell of a learner's models, also where its code is not here."""
    return _Told() if is_place(name) else learner(name)()


@dataclass(frozen=True)
class _Nothing:
    """No options."""


class _Told(Learner):
    name, options = "", _Nothing


def create(name: str, parameters: Mapping[str, object], turn: Turn | None = None) -> Learner:
    """Return a learner.

    Args:
        name: one of `names()`.
        parameters: what it is made with, by name.
        turn: where in a run it is.

    Raises:
        UnknownLearner: no such learner, or it takes no such parameters.
    """
    return create_of(learner(name), parameters, turn)


def create_of(
    kind: type[Learner], parameters: Mapping[str, object], turn: Turn | None = None
) -> Learner:
    """Return a learner of a class; as `create`."""
    try:
        odd = parameters.keys() - {each.name for each in declared(kind.options)}
        if odd:
            raise ConfigError(f"it takes no {min(odd)}")
        return kind(make(kind.options, parameters), turn)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's class does
        raise UnknownLearner(
            f"learner {kind.name!r} can't be made with {dict(parameters)}: {error}"
        ) from error


def create_carried(
    name: str, parameters: Mapping[str, object], turn: Turn | None = None
) -> Learner:
    """Return a learner that was told by `carried`, maybe by an earlier release; as `create`."""
    return create_of(*_carried(learner(name), parameters), turn)


def create_from(
    code: object, shipped: Array | None, parameters: Mapping[str, object], turn: Turn | None = None
) -> Learner:
    """Return a learner that is a user's code, at a node, as `create_carried`.

    Args:
        code: what a job says of it, from whomever.
        shipped: its files, if they came with the job.
        parameters, turn: as for `create`.

    Raises:
        SourceUnreachable: this node has not that code, or not that version of it.
    """
    return create_of(*_carried(kinds_.finder.learner(code, shipped), parameters), turn)


def _carried(
    kind: type[Learner], parameters: Mapping[str, object]
) -> tuple[type[Learner], dict[str, object]]:
    return kind, as_carried(kind.options, parameters)


def settings_of(kind: type[Learner], texts: Iterable[str]) -> dict[str, object]:
    """Return options of a learner that were written as `NAME=VALUE`.

    Raises:
        UnknownLearner: it has none of that name, or not of that value.
    """
    own = {each.name: each for each in declared(kind.options)}
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in own:
            near = get_close_matches(name, own, 1)
            meant = f" (did you mean {near[0]}?)" if near else f"; it has {', '.join(sorted(own))}"
            raise UnknownLearner(
                f"--set {safe_line(text, 80)}: {kind.name} has no such option{meant}"
            )
        try:
            found[name] = from_text(own[name], value.strip())
        except ConfigError as error:
            raise UnknownLearner(f"--set {name}: {error}") from error
    return found


def options_of(name: str) -> type:
    """Return the dataclass of what a learner is made with.

    Raises:
        UnknownLearner: no such learner.
    """
    return learner(name).options
