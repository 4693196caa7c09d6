"""Options of a command: made from the dataclasses that declare them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from protocol.errors import ConfigError
from protocol.files import read_small
from protocol.options import Option, at_home, declared, fit, is_choice
from protocol.wire.limits import MAX_COUNT
from protocol.wire.words import safe_line

from .formats import check_format

#: Before the name of an option that has no flag of its own.
_SET = "--set "
Command = TypeVar("Command", bound=Callable[..., Any])

#: Of files with options. 1, where a file says none: what the first release wrote. 2: says so.
FORMAT = 2
_FORMAT = "format"
#: Behind the name of an option of a time, in files and in the environment.
_SECONDS = "_seconds"
#: Letters of what stands in a file that are shown where it is wrong.
_MOST_SHOWN = 200


class _Whole(click.IntRange):
    """A whole number in a range; the most that a message can carry is no bound to speak of."""

    name = "integer"

    def __init__(self, least: float | None, most: float | None) -> None:
        bound = None if most is None or most >= MAX_COUNT else int(most)
        super().__init__(None if least is None else int(least), bound)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = super().convert(value, param, ctx)
        if number > MAX_COUNT:
            self.fail(f"{value} is more than {MAX_COUNT:,}", param, ctx)
        return number


class _Finite(click.FloatRange):
    """A number in a range; Not-a-Number is in none."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = param is not None and param.metavar == "SECONDS"
        if seconds and re.fullmatch(r"[\d.]+ ?[smhd]\w*", str(value).strip(), re.IGNORECASE):
            self.fail(f"{value!r}: seconds are wanted, as a number alone, like 300", param, ctx)
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number to work with", param, ctx)
        return number


class _Choice(click.Choice[str]):
    """One of some words, in whatever letters; behind one such as `dirichlet:ALPHA`, a number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).lower()
        return (
            text
            if ":" in text and is_choice(self.choices, text)
            else super().convert(value, param, ctx)
        )


class _Switch(click.types.BoolParamType):
    """True or false."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither true nor false", param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes: 500MB, 4GB, 1.5GiB.

    Args:
        least: below that it is too little for anything.
    """

    name = "size"
    _UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
              "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}  # fmt: skip

    def __init__(self, least: float) -> None:
        self._least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?I?)B?", str(value).strip().upper())
        if match is None or match[2] not in self._UNITS:
            self.fail(f"{value!r} is no size; one looks like 500MB or 4GB", param, ctx)
        nbytes = int(float(match[1]) * self._UNITS[match[2]])
        if not self._least <= nbytes <= MAX_COUNT:
            few = nbytes < self._least
            why = "too little for any job: 100MB is enough for small ones" if few else "no memory's"
            self.fail(f"{value!r} is {why}", param, ctx)
        return nbytes


class Place(click.ParamType[Path]):
    """A file or folder; `~` is somebody's home."""

    name = "path"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """Return its path."""
        try:
            return Path(at_home(str(value)))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def homed(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the text of an option with the home that `~` means; for a callback."""
    try:
        if isinstance(value, tuple):
            return tuple(map(at_home, value))
        return value if value is None else at_home(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


class _Told(click.Option):
    """An option whose errors name what was written: the flag, or the variable."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        found = super().get_help_record(ctx)
        if found is None or not self.opts[0].startswith(_SET):
            return found
        told, _, kind = found[0].removeprefix(_SET).partition(" ")
        return f"{_SET}{told}={kind}", found[1]

    def process_value(self, ctx: click.Context, value: object) -> object:
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            of = click.core.ParameterSource.ENVIRONMENT
            if ctx.get_parameter_source(self.name or "") is of:
                names = [self.envvar] if isinstance(self.envvar, str) else self.envvar or ()
                error.param_hint = next(name for name in names if os.environ.get(name))
            raise


class Setting(click.Command):
    """A command whose options of parts are given by `--set NAME=VALUE`, too."""

    #: Names of the options that may be given so.
    settable: Iterable[str] = ()
    #: Whether others may be given so, too, by an option that is called just that.
    takes_others = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `--set NAME=VALUE` for what it means, and the rest as ever."""
        return super().parse_args(ctx, list(self._meant(ctx, args)))

    def _meant(self, ctx: click.Context, args: list[str]) -> Iterator[str]:
        flags = {
            each.name: each for each in self.params
            if isinstance(each, click.Option) and each.name in set(self.settable)
        }  # fmt: skip
        rest = iter(args)
        for arg in rest:
            if arg != _SET.strip() and not arg.startswith(f"{_SET.strip()}="):
                yield arg
                if arg == "--":
                    yield from rest
                continue
            setting = arg.partition("=")[2] or next(rest, "")
            name, equals, value = setting.partition("=")
            name = name.strip().replace("-", "_")
            if not equals:
                raise click.UsageError(f"--set takes NAME=VALUE; {setting!r:.80} is none", ctx)
            if name not in flags and self.takes_others:
                yield from (_SET.strip(), setting)
                continue
            if name not in flags:
                there = ", ".join(sorted(flags))
                raise click.UsageError(
                    f"--set {name:.80}: no such option{meant(name, flags)}; there is {there}", ctx
                )
            if not flags[name].is_flag:
                yield from (flags[name].opts[0], value)
            elif _Switch().convert(value, flags[name], ctx):
                yield flags[name].opts[0]


def _not_empty(context: click.Context, parameter: click.Parameter, value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise click.BadParameter("it is empty")
    return value


def _path(context: click.Context, parameter: click.Parameter, value: object) -> object:
    return homed(context, parameter, _not_empty(context, parameter, value))


def _type(option: Option) -> click.ParamType[Any] | type[str]:
    about = option.about
    if about.size:
        return Size(about.least or 0)
    if option.type is bool:
        return _Switch()
    if about.choices:
        return _Choice(about.choices, case_sensitive=False)
    if option.type is int:
        return _Whole(about.least, about.most)
    if option.type is float:
        return _Finite(about.least, about.most, min_open=about.above)
    return str


def _click(option: Option, prefix: str) -> Callable[[Command], Command]:
    about = option.about
    flag = option.flag.removeprefix(_SET).removeprefix("--")
    names = (flag.replace("-", "_"), option.name)
    variables = [f"{prefix}_{name.upper()}" for name in dict.fromkeys(names)]
    told = about.help + (f"  [default: {about.unset}]" if about.unset else "")
    if option.type is bool and not about.set:
        return click.option(
            option.flag,
            option.name,
            cls=_Told,
            type=_Switch(),
            is_flag=True,
            help=told,
            envvar=variables,
        )
    return click.option(
        option.flag, option.name, cls=_Told, type=_type(option), multiple=option.several, help=told,
        envvar=variables, default=option.default, metavar=about.metavar or None,
        callback=_path if about.path else None if about.may_be_empty else _not_empty,
        show_default=not about.unset and option.default is not None,
    )  # fmt: skip


def options(
    *parts: type, prefix: str = "MNIST", without: Iterable[str] = ()
) -> Callable[[Command], Command]:
    """Give a command the options that dataclasses declare; it is called with them by name.

    Args:
        parts: the dataclasses.
        prefix: of the variables of the environment that set them, too.
        without: names of options that mean nothing to this command.
    """

    def decorate(command: Command) -> Command:
        each = {option.name: option for part in reversed(parts) for option in declared(part)[::-1]}
        each = {name: option for name, option in each.items() if name not in without}
        for option in each.values():
            command = _click(option, prefix)(command)
        return command

    return decorate


def given(context: click.Context) -> set[str]:
    """Return the names of the options that stand on the command line."""
    by_hand = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is by_hand}


def told(context: click.Context) -> set[str]:
    """Return the names of the options that somebody set, wherever: they have no default."""
    default = click.core.ParameterSource.DEFAULT
    return {name for name in context.params if context.get_parameter_source(name) is not default}


# Files.


def read_options(path: Path, options_: Mapping[str, Option]) -> dict[str, object]:
    """Return the options that a YAML file sets.

    Args:
        path: of the file.
        options_: those that there are, by name.

    Raises:
        LaterFormat: a later release has written it.
        ConfigError: it can't be read, or sets what is no option, or to what it can't be.
    """
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not options by name, one a line, like 'jobs: 4'")
    number = values.pop(_FORMAT, 1)
    if type(number) is not int or number < 1:
        raise ConfigError(f"{path}: {_FORMAT} is {number!r:.40}, not the number of one")
    check_format(path, number, FORMAT)
    read: dict[str, object] = {}
    for told, value in _unfolded(path, values, options_).items():
        name = _name(str(told), options_)
        if name is None:
            shown = safe_line(str(told), _MOST_SHOWN)
            raise ConfigError(f"{path}: no such option: {shown}{meant(shown, options_)}")
        if name in read:
            raise ConfigError(f"{path}: {told} is there twice, by another name; leave one out")
        try:
            read[name] = fit(options_[name], value)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return read


def _unfolded(
    path: Path, values: Mapping[object, object], options_: Mapping[str, Option]
) -> dict[object, object]:
    """Return what a file sets, of options that stand there as a mapping with others of theirs."""
    found = dict(values)
    for told, value in values.items():
        option = options_.get(_name(str(told), options_) or "")
        if option is not None and option.about.others and isinstance(value, dict):
            others = {**value}
            if "name" not in others:
                raise ConfigError(f"{path}: {told} has no name; it is wanted beside its options")
            found[told] = others.pop("name")
            more = [f"{name}={_written(each)}" for name, each in others.items()]
            before = found.get(option.about.others, [])
            found[option.about.others] = [*(before if isinstance(before, list) else []), *more]
    return found


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_yaml(path: Path) -> object:
    """Return what a YAML file says.

    Raises:
        ConfigError: it can't be read.
    """
    import yaml

    from .yaml12 import MAX_BYTES, load

    try:
        return load(read_small(path, MAX_BYTES).decode())
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        own = path / "config.yaml"
        meant = f"; it holds {own}" if own.is_file() else ""
        raise ConfigError(f"{path}: a folder, not a file{meant}") from error
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = safe_line(str(getattr(error, "problem", None) or error), _MOST_SHOWN)
        raise ConfigError(f"{path}{where}: not YAML: {what}") from error


def _name(told: str, options_: Mapping[str, Option]) -> str | None:
    """Return the name of an option as a file may call it: as it is, or as its flag is."""
    told = told.replace("-", "_")
    for name in (told, told + _SECONDS):
        if name in options_:
            return name
    return None


def meant(told: str, names: Iterable[str], prefix: str = "") -> str:
    """Return ` (did you mean jobs?)` where a name is nearly one of those that there are.

    Args:
        told: the name.
        names: those that there are.
        prefix: of all of them, and of it: left out, it makes none more like another.
    """
    from difflib import get_close_matches

    told, *each = (name.removeprefix(prefix) for name in (told.replace("-", "_"), *names))
    found = get_close_matches(told, each, 1, cutoff=0.7)
    return f" (did you mean {prefix}{found[0]}?)" if found else ""


def as_yaml(values: Mapping[str, object]) -> str:
    """Return options as a file that `read_options` reads."""
    from .yaml12 import dump

    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    return dump({_FORMAT: FORMAT, **plain})


def defaults_from(options_: Mapping[str, Option]) -> Callable[..., None]:
    """Return what `--config FILE` calls: the file's values become the others' defaults."""

    def read(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
        if path is None:
            return
        try:
            values = read_options(Path(at_home(path)), options_)
        except ConfigError as error:
            raise click.BadParameter(str(error)) from error
        context.default_map = {**(context.default_map or {}), **values}

    return read
