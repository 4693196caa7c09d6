"""Ways to merge solutions into one model: a file each, found by the `name` of its `Strategy`."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from protocol.errors import ConfigError
from protocol.options import declared, make

from ..errors import UnknownStrategy
from .mean import WeightedMean
from .strategy import Client, Strategy

__all__ = ["Client", "Strategy", "WeightedMean", "create", "names", "strategy"]


@cache
def _strategies() -> dict[str, type[Strategy]]:
    found = {}
    for each in pkgutil.iter_modules(__path__):
        module = import_module(f".{each.name}", __name__)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Strategy) and "name" in vars(value):
                found[value.name] = value
    return dict(sorted(found.items()))


def names() -> tuple[str, ...]:
    """Return the names of the strategies that there are."""
    return tuple(_strategies())


def strategy(name: str) -> type[Strategy]:
    """Return the class of a strategy.

    Raises:
        UnknownStrategy: there is none of this name.
    """
    if name not in _strategies():
        raise UnknownStrategy(f"no way to merge is called {name!r}; there is {', '.join(names())}")
    return _strategies()[name]


def create(name: str, parameters: Mapping[str, object]) -> Strategy:
    """Return a strategy.

    Args:
        name: one of `names()`.
        parameters: its options, by name.

    Raises:
        UnknownStrategy: there is none of this name, or it has no such options.
    """
    kind = strategy(name)
    try:
        odd = parameters.keys() - {each.name for each in declared(kind.options)}
        if odd:
            raise ConfigError(f"it takes no {min(odd, key=str)}")
        return kind(make(kind.options, parameters))
    except (ConfigError, TypeError) as error:
        raise UnknownStrategy(
            f"merging by {name!r} can't be with {dict(parameters)}: {error}"
        ) from error
