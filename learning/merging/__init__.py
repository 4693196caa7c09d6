"""Ways to merge solutions into one model: a file each, found by the `name` of its `Strategy`.

One is called by its name, or by the place of a user's own, with options behind it where they are
not to be as they are by default:

    mean
    fedavgm:momentum=0.5,rate=1
    FILE.py:NAME:hold=2
    package.module:NAME
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from loaders.running import place_of
from protocol.errors import ConfigError
from protocol.options import declared, flat, from_text, make
from protocol.wire.words import safe_line

from ..errors import MergeError, UnknownStrategy
from ..own.kinds import is_place, strategy_at
from .mean import WeightedMean
from .strategy import Client, Judge, Merged, Strategy

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution

__all__ = [
    "Client", "Judge", "Merged", "Strategy", "WeightedMean", "create", "create_of", "is_own",
    "kind_of", "lasting", "merge", "names", "parse", "split", "strategy", "told",
]  # fmt: skip

#: A name, and behind the last colon options, if any: a name may have colons of its own.
_CALLED = re.compile(r"(?P<name>.*?)(?::\s*(?P<options>[A-Za-z_][\w-]*\s*=.*))?", re.DOTALL)


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
    """Return the class of a strategy; what a user has named by its place is run.

    Args:
        name: one of `names()`, `FILE.py:NAME` or `package.module:NAME`.

    Raises:
        UnknownStrategy: there is none of this name, or it can't be used.
    """
    if is_place(name) and name.partition(":")[0] not in _strategies():
        return strategy_at(name)
    if name not in _strategies():
        near = get_close_matches(name, _strategies(), 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        if name.partition(":")[0] in _strategies():
            meant = f" (options stand as {name.partition(':')[0]}:NAME=VALUE)"
        if name.endswith(".py"):
            meant = f" (name the class in it, too: {name}:NAME)"
        raise UnknownStrategy(
            f"no way to merge is called {name!r}{meant}; there is {', '.join(names())}"
        )
    return _strategies()[name]


def kind_of(text: str) -> type[Strategy]:
    """Return the class of the strategy that a text names, whatever options stand there.

    Raises:
        UnknownStrategy: there is none of this name.
    """
    return strategy(split(text)[0])


def is_own(text: str) -> bool:
    """Whether a text names a strategy of a user's own; nothing is looked at."""
    return is_place(split(text)[0])


def lasting(text: str) -> str:
    """Return a text that names the same strategy in every folder."""
    name, options = split(text)
    place = place_of(name)
    called = name if place is None else place.lasting
    return f"{called}:{options}" if options else called


def parse(text: str) -> Strategy:
    """Return the strategy that a text names: `NAME`, or `NAME:option=value,...`.

    Raises:
        UnknownStrategy: there is none of this name, or it has no such options.
    """
    kind, options = kind_of(text), split(text)[1]
    own = {each.name: each for each in declared(kind.options)}
    values: dict[str, object] = {}
    for part in options.split(",") if options else ():
        told_, equals, value = part.partition("=")
        name = told_.strip().replace("-", "_")
        if not equals or name not in own:
            has = f"it has {', '.join(own)}" if own else "it has none"
            raise UnknownStrategy(
                f"--merge {safe_line(text, 80)}: {kind.name} has no option"
                f" {safe_line(told_.strip(), 40)!r}; {has}"
            )
        if name in values:
            raise UnknownStrategy(f"--merge {safe_line(text, 80)}: {name} is there twice")
        try:
            values[name] = from_text(own[name], value.strip())
        except ConfigError as error:
            raise UnknownStrategy(f"--merge {safe_line(text, 80)}: {error}") from error
    return create_of(kind, values)


def split(text: str) -> tuple[str, str]:
    """Return the name, or place, and the options of what a text names; nothing is looked at."""
    found = _CALLED.fullmatch(text)
    assert found is not None
    return found["name"], found["options"] or ""


def told(strategy_: Strategy) -> str:
    """Return the text by which `parse` makes a strategy: options that are as by default are none.

    So one that gets an option more, with a default that is what it did, is called as before. Of a
    user's own it says the module, and not where that is.
    """
    default = flat(strategy_.options())
    own = {n: v for n, v in flat(strategy_.made).items() if v != default[n] and v is not None}
    more = ",".join(f"{name}={_written(own[name])}" for name in sorted(own))
    return f"{strategy_.name}:{more}" if more else strategy_.name


def merge(
    strategy_: Strategy, solutions: Collection[Solution], before: Arrays, state: Arrays,
    judge: Judge | None = None,
) -> Merged:  # fmt: skip
    """Have a strategy merge solutions; as `Strategy.merge`.

    Args:
        strategy_: that merges.
        solutions, before, state: as for it.
        judge: is asked where it judges.

    Raises:
        MergeError: it judges, and there is nothing to judge by; or what it comes to is not finite,
            or says nothing of some solutions.
    """
    import numpy as np

    from ..layout import endless

    if not strategy_.judges:
        merged = Merged(*strategy_.merge(solutions, before, state))
    elif judge is not None:
        merged = Merged(*strategy_.merge_judged(solutions, before, state, judge))
    else:
        raise MergeError(f"merging by {strategy_.name} needs rows that are kept aside")
    if endless({n: a for n, a in merged.model.items() if isinstance(a, np.ndarray | np.generic)}):
        raise MergeError("the merged model holds numbers that are not finite")
    if len(merged.taken) not in (0, len(solutions)):
        raise MergeError(
            f"it says of {len(merged.taken)} solutions how much was taken; there are"
            f" {len(solutions)}"
        )
    return merged


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def create(name: str, parameters: Mapping[str, object]) -> Strategy:
    """Return a strategy.

    Args:
        name: as for `strategy`.
        parameters: its options, by name.

    Raises:
        UnknownStrategy: there is none of this name, or it has no such options.
    """
    return create_of(strategy(name), parameters)


def create_of(kind: type[Strategy], parameters: Mapping[str, object]) -> Strategy:
    """Return a strategy of a class; as `create`."""
    try:
        odd = parameters.keys() - {each.name for each in declared(kind.options)}
        if odd:
            raise ConfigError(f"it takes no {min(odd, key=str)}")
        return kind(make(kind.options, parameters))
    except (ConfigError, TypeError) as error:
        raise UnknownStrategy(
            f"merging by {kind.name!r} can't be with {dict(parameters)}: {error}"
        ) from error
