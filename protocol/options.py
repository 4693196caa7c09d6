"""Options as values: fields of frozen dataclasses that say what they mean and what they may be.

A part declares its options beside itself; the command line, files, the environment and the
documents are made from that (`console/options.py`).
"""

from __future__ import annotations

import math
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class About:
    """What is to be known of an option beside its type and default.

    Args:
        help: for people; ends with a point.
        least, most: bounds of a number; both may be reached, but `above`.
        above: whether `least` itself may not be reached.
        choices: of a text; of one such as `dirichlet:ALPHA`, a number above 0 stands behind it.
        metavar: what stands for the value in a usage line: a unit, mostly.
        flag: on the command line, where that is not its name.
        unset: how the default is told, where the value does not tell it.
        size: whether it is a number of bytes, that may be given as `4GB`.
        may_be_empty: whether a text of spaces will do.
        this_start: whether it is of one start of a run, and not kept for the next.
        path: whether it names a file or folder: `~` is somebody's home there.
        added: whether runs of earlier releases know nothing of it.
        before: what those had instead, where that is not its default.
        set: whether it is given by `--set NAME=VALUE`, and has no flag of its own.
        others: of one that a file may give as a mapping, whose `name` it is then: the option of
            several `NAME=VALUE` that takes what else is in it.
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
    path: bool = False
    added: bool = False
    before: str | int = ""
    set: bool = False
    others: str = ""


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
    default: object
    about: About

    @property
    def flag(self) -> str:
        """How it is given on the command line."""
        name = self.name.replace("_", "-")
        return self.about.flag or (f"--set {name}" if self.about.set else f"--{name}")

    @property
    def before(self) -> object:
        """What runs had that know nothing of it."""
        return self.about.before or self.default


def declared(part: type) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order; those of its parts, too."""
    if part not in _DECLARED:
        _DECLARED[part] = tuple(_declared(part))
    return _DECLARED[part]


_DECLARED: dict[type, tuple[Option, ...]] = {}


def _declared(part: type) -> Iterator[Option]:
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


def make(part: type, values: Mapping[str, object]) -> Any:
    """Return a dataclass of options, and its parts, from values by name; others have defaults."""
    hints = typing.get_type_hints(part)
    given = {}
    for each in fields(part):
        if "about" not in each.metadata:
            given[each.name] = make(hints[each.name], values)
        elif each.name in values:
            given[each.name] = values[each.name]
    return part(**given)


def flat(part: DataclassInstance) -> dict[str, object]:
    """Return the options in a dataclass and its parts by name."""
    values: dict[str, object] = {}
    for each in fields(part):
        value = getattr(part, each.name)
        values |= {each.name: value} if "about" in each.metadata else flat(value)
    return values


def carried(part: DataclassInstance) -> dict[str, object]:
    """Return the options by name, but for added ones that are as they were before there were any.

    So an earlier release's run, and its jobs, are told as that told them; `as_carried` reads it.
    """
    added = {each.name: each.before for each in declared(type(part)) if each.about.added}
    values = flat(part)
    return {name: v for name, v in values.items() if name not in added or v != added[name]}


def as_carried(part: type, values: Mapping[str, object]) -> dict[str, object]:
    """Return options by name, whole, from what `carried` left of them."""
    return {
        **{each.name: each.before for each in declared(part) if each.about.added}, **values
    }  # fmt: skip


class Checked:
    """A dataclass of options that is never made of values that they can't have.

    Raises:
        ConfigError: a value is of another kind, or out of bounds.
    """

    def __post_init__(self) -> None:
        for option_ in declared(type(self)):
            if not hasattr(self, option_.name):  # of a part, which has looked at its own
                continue
            value = getattr(self, option_.name)
            if option_.several and isinstance(value, list):  # as JSON has it
                value = tuple(value)
                object.__setattr__(self, option_.name, value)
            for each in value if option_.several and isinstance(value, tuple) else (value,):
                _check(option_, each)


def check_value(
    name: str, value: object, kind: type, *, optional: bool = False, **about: Any
) -> None:
    """Raise unless an argument that is no option is what it can be; the rest as for `About`.

    Raises:
        ConfigError: it is of another kind, or out of bounds.
    """
    _check(Option(name, kind, optional, False, None, About(help="", **about)), value)


def check_names(name: str, value: Iterable[object]) -> None:
    """Raise unless an argument is names, one beside the other; a text would be its letters.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{name} is {value!r:.80}, not a tuple of names")


def misfit(about: About, value: str | float) -> str:
    """Return why a value of the right kind can't be an option's: `less than 1`; nothing if it can.

    Args:
        about: the option.
        value: a number, a text, or true or false.
    """
    if isinstance(value, str):
        if about.choices and not is_choice(about.choices, value):
            return f"not one of {', '.join(about.choices)}"
        return "" if value.strip() or about.may_be_empty else "which is empty"
    if isinstance(value, float) and not math.isfinite(value):
        return "not a number to work with"
    if about.least is not None and (value < about.least or (about.above and value == about.least)):
        return f"{'not more' if about.above else 'less'} than {about.least:,g}"
    if about.most is not None and value > about.most:
        return f"more than {about.most:{',g' if about.most % 1 else ',.0f'}}"
    return ""


def is_choice(choices: Iterable[str], value: str) -> bool:
    """Whether a text is one of some choices, or one with a number behind it."""
    before, colon, number = value.partition(":")
    if not colon:
        return value in choices
    with suppress(ValueError):
        fits = 0 < float(number) < math.inf
        return fits and any(each.startswith(f"{before}:") for each in choices)
    return False


def fit(option_: Option, value: object) -> object:
    """Return a value, from whatever file, as an option has it.

    Raises:
        ConfigError: it is of another kind, or out of bounds.
    """
    if option_.several and isinstance(value, list | tuple):
        return tuple(fit(replace(option_, several=False), each) for each in value)
    if option_.type is float and isinstance(value, str):  # some take 1e-2 for a text
        with suppress(ValueError):
            value = float(value)
    if option_.type is bool and isinstance(value, str):  # some take yes for one
        value = _SWITCHES.get(value.lower(), value)
    _check(option_, value)
    return at_home(value) if option_.about.path and isinstance(value, str) else value


def at_home(path: str) -> str:
    """Return a path with the home that a `~`, or a `~name`, at its beginning means.

    Raises:
        ConfigError: whoever runs this has no home.
    """
    whole = os.path.expanduser(path)  # noqa: PTH111  # pathlib drops a ./ before a ~
    if whole == "~" or whole.startswith("~/"):
        raise ConfigError(f"{path}: this user has no home; give the path from / on, or set HOME")
    return whole


def path_at_home(path: str | Path) -> Path:
    """Return a path that a program has given, as one that a person has; errors as `at_home`."""
    return Path(at_home(str(path)))


def from_text(option_: Option, text: str) -> object:
    """Return a value, as it was written on a command line, as an option has it.

    Raises:
        ConfigError: it is of another kind, or out of bounds.
    """
    value: object = text
    with suppress(ValueError):
        value = option_.type(text) if option_.type in (int, float) else text
    return fit(option_, value)


_SWITCHES = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
_MEANT = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _check(option_: Option, value: object) -> None:
    """Raise unless a value is what an option can be."""
    if value is None and option_.optional:
        return
    kind = (int, float) if option_.type is float else (option_.type,)
    odd = isinstance(value, bool) and option_.type is not bool
    if odd or not isinstance(value, kind) or not isinstance(value, str | int | float):
        why = f"not {_MEANT[option_.type]}"
    else:
        why = misfit(option_.about, value)
    if why:
        raise ConfigError(f"{option_.name} is {value!r:.80}, {why}")
