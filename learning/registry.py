"""How a learner is found by name: what it takes, what learns, and what merges."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import UnknownLearner

if TYPE_CHECKING:
    from .base import Learner, Merger
    from .telling import Telling


@dataclass(frozen=True)
class _Entry:
    """Where the classes of a learner are; imported only when used."""

    learner: str
    merger: str
    options: str
    #: In words and pictures for people.
    telling: str
    #: Whether it can `evaluate`.
    loss: bool = False


_BUILT_IN = {
    "neural": _Entry(
        "learning.neural:NeuralLearner",
        "learning.layout:NeuralMerger",
        "learning.options:NeuralOptions",
        "learning.telling:Telling",
        loss=True,
    ),
    "algebraic": _Entry(
        "learning.algebraic.learner:AlgebraicLearner",
        "learning.algebraic.merger:AlgebraicMerger",
        "learning.options:AlgebraicOptions",
        "learning.algebraic.telling:AlgebraicTelling",
    ),
}


def names() -> tuple[str, ...]:
    """Return the names of the learners that come with this package."""
    return tuple(_BUILT_IN)


def create(name: str, parameters: Mapping[str, Any]) -> Learner:
    """Return a learner.

    Args:
        name: one of `names()`.
        parameters: what it is made with.

    Raises:
        UnknownLearner: no such learner, or it takes no such parameters.
    """
    made = _import(_entry(name).learner)
    try:
        learner: Learner = made(**parameters)
    except TypeError as error:
        raise UnknownLearner(
            f"learner {name!r} can't be made with {dict(parameters)}: {error}"
        ) from error
    return learner


def merger(name: str) -> Merger:
    """Return what merges the solutions of the learner of this name.

    Raises:
        UnknownLearner: no such learner.
    """
    merger_: Merger = _import(_entry(name).merger)()
    return merger_


def options_of(name: str) -> type[Any]:
    """Return the dataclass of what a learner is made with.

    Raises:
        UnknownLearner: no such learner.
    """
    part: type[Any] = _import(_entry(name).options)
    return part


def telling(name: str) -> Telling:
    """Return what tells of the models of a learner, in words and pictures.

    Raises:
        UnknownLearner: no such learner.
    """
    telling_: Telling = _import(_entry(name).telling)()
    return telling_


def tells_loss(name: str) -> bool:
    """Whether a learner says how much its models lose.

    Raises:
        UnknownLearner: no such learner.
    """
    return _entry(name).loss


def _entry(name: str) -> _Entry:
    if name not in _BUILT_IN:
        raise UnknownLearner(f"no learner {name!r}; there is {', '.join(_BUILT_IN)}")
    return _BUILT_IN[name]


def _import(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
