"""Options as values: fields of frozen dataclasses that say what they mean and what they may be.

A part declares its options beside itself; the command line, files, the environment and the
documents are made from that (`console/options.py`).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class About:
    """What is to be known of an option beside its type and default.

    Args:
        help: for people; ends with a point.
        least, most: bounds of a number; both may be reached, but `above`.
        above: whether `least` itself may not be reached.
        choices: of a text.
        metavar: what stands for the value in a usage line: a unit, mostly.
        flag: on the command line, where that is not its name.
        unset: how the default is told, where the value does not tell it.
        size: whether it is a number of bytes, that may be given as `4GB`.
        may_be_empty: whether a text of spaces will do.
        this_start: whether it is of one start of a run, and not kept for the next.
    """

    help: str
    least: float | None = None
    most: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    metavar: str = ""
    flag: str = ""
    unset: str = ""
    size: bool = False
    may_be_empty: bool = False
    this_start: bool = False


def option(default: Any, help_: str, **about: Any) -> Any:
    """Return a field of a dataclass that is an option; `about` as for `About`."""
    return field(default=default, metadata={"about": About(help=help_, **about)})


@dataclass(frozen=True)
class Option:
    """An option as it was declared.

    Args:
        name: of the field.
        type: `int`, `float`, `str` or `bool`.
        optional: whether it may be None.
        several: whether it is a tuple of such values.
        default: its value unless given.
        about: the rest.
    """

    name: str
    type: type
    optional: bool
    several: bool
    default: Any
    about: About

    @property
    def flag(self) -> str:
        """How it is given on the command line."""
        return self.about.flag or "--" + self.name.replace("_", "-")


def declared(part: type[Any]) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order; those of its parts, too."""
    if part not in _DECLARED:
        _DECLARED[part] = tuple(_declared(part))
    return _DECLARED[part]


_DECLARED: dict[type[Any], tuple[Option, ...]] = {}


def _declared(part: type[Any]) -> Iterator[Option]:
    hints = typing.get_type_hints(part)
    for each in fields(part):
        hint = hints[each.name]
        if "about" not in each.metadata:
            yield from declared(hint)
            continue
        optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
        if optional:
            (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        several = typing.get_origin(hint) is tuple
        kind = typing.get_args(hint)[0] if several else hint
        yield Option(each.name, kind, optional, several, each.default, each.metadata["about"])


def make(part: type, values: Mapping[str, Any]) -> Any:
    """Return a dataclass of options, and its parts, from values by name; others have defaults."""
    hints = typing.get_type_hints(part)
    given = {}
    for each in fields(part):
        if "about" not in each.metadata:
            given[each.name] = make(hints[each.name], values)
        elif each.name in values:
            given[each.name] = values[each.name]
    return part(**given)


def flat(part: Any) -> dict[str, Any]:
    """Return the options in a dataclass and its parts by name."""
    values: dict[str, Any] = {}
    for each in fields(part):
        value = getattr(part, each.name)
        values |= {each.name: value} if "about" in each.metadata else flat(value)
    return values


_MEANT = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def fit(option_: Option, value: Any) -> Any:
    """Return a value, from whatever file, as an option has it.

    Raises:
        ConfigError: it is of another kind.
    """
    if value is None and option_.optional:
        return None
    if option_.several and isinstance(value, list | tuple):
        return tuple(_fit(option_, each) for each in value)
    return _fit(option_, value)


def _fit(option_: Option, value: Any) -> Any:
    kind = option_.type
    if kind is float and isinstance(value, str):  # YAML takes 1e-2 for a text
        with suppress(ValueError):
            value = float(value)
    fits = (int, float) if kind is float else (kind,)
    if not isinstance(value, fits) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{option_.name} is {value!r}, not {_MEANT[kind]}")
    return value
