"""`mnist-datasets`: what data there is by name, and what some data is like before it is used."""

from __future__ import annotations

import json as json_
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.exits import Exit, end
from console.options import Place, homed, options
from loaders.options import ReadingOptions
from protocol.options import make
from protocol.wire.secrets import shown

from ..run.spec import PlanOptions

if TYPE_CHECKING:
    from loaders import Concern, Examined, Form, Source

#: How wide a list is where nobody looks on.
WIDE = 160
_end = partial(end, "mnist-datasets")
_JSON = click.option("--json", is_flag=True, help="Print JSON, and only that.")


@click.group()
@click.version_option(package_name="mnist-merge", prog_name="mnist-datasets")
def main() -> None:
    """Show what data sets are known by name, and what any data is like before it is used."""


@main.command("list")
@_JSON
def list_(json: bool) -> None:
    """List the data sets that are known by name.

    Their rows, to train and to test on, whether they are on this machine, their licence, and where
    they are had from.
    """
    from dataclasses import asdict

    from loaders.sources import named

    known = named()
    if json:
        return click.echo(json_.dumps([asdict(each) for each in known]))
    from rich.console import Console

    from .examined import names_table

    looks_on = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if looks_on else WIDE)
    return console.print(names_table(known, console.width))


def _source(context: click.Context, parameter: click.Parameter, value: str) -> Any:
    if not value.strip():
        raise click.BadParameter("it is empty")
    return homed(context, parameter, value)


def _picture(context: click.Context, parameter: click.Parameter, value: Path | None) -> Any:
    """Return where a picture is to be, if one can be: else it is known before all is read."""
    if value is None:
        return None
    if value.suffix.lower() != ".png":
        raise click.BadParameter(f"{value}: it will be a PNG file; its name must end with .png")
    if value.is_dir() or not value.absolute().parent.is_dir():
        what = "a folder" if value.is_dir() else "there is no such folder to put it into"
        raise click.BadParameter(f"{value}: {what}")
    return value


@main.command()
@click.argument("source", callback=_source)
@options(ReadingOptions, PlanOptions, without=("contradictions", "rounds", "validate_every"))
@click.option(
    "--picture", type=Place(), metavar="FILE.png", callback=_picture,
    help="Draw ten training pictures of each class, of twenty classes at most, into this file.",
)  # fmt: skip
@_JSON
def check(source: str, picture: Path | None, json: bool, **values: Any) -> None:
    """Say what data is like, before anybody trains on it.

    Its form, its rows by class, equal rows within and across splits, contradictions, blank and
    broken rows, mean and deviation; and what stands against training.

    SOURCE is what --data of mnist-main is. Exit code 0: there are rows to train and to test on,
    whatever else is said of them; 3: there are none, or they can't be read.
    """
    from loaders import LoaderError, concerns, examine, open_source
    from loaders.splits import with_test

    reading, say = make(ReadingOptions, values), partial(click.echo, err=True)
    try:
        found = with_test(
            open_source(source, say, reading), reading.test_fraction, values["seed"], say
        )
        if picture is not None:
            _check_form(found.form)
        examined = examine(found)
        said = concerns(examined)
        drawn = picture is not None and "train" not in examined.absent
        trouble = _draw(found, examined, picture) if picture is not None and drawn else ""
        _show(examined, said, shown(source), reading, json)
    except LoaderError as error:
        _end(Exit.DATA, str(error))
    if trouble:
        _end(Exit.STORAGE, trouble)
    if drawn:
        say(f"drew {picture}")
    for each in said:
        if each.kind in ("no_train", "no_test"):
            _end(Exit.DATA, f"{each.what}; {each.advice}")


def _check_form(form: Form) -> None:
    """End unless the rows are pictures that can be drawn."""
    from .sheet import drawable

    if not drawable(form):
        _end(
            Exit.USAGE, "--picture draws rows that are pictures, grey or colour; these are"
            f" {form.tell()}",
        )  # fmt: skip


def _show(
    examined: Examined, said: list[Concern], source: str, reading: ReadingOptions, json: bool
) -> None:  # fmt: skip
    """Print what was found, for people or as JSON."""
    from loaders.sources import what_is

    what, where = what_is(source, reading), _where(source)
    if json:
        from .examined import as_values

        told = {"what": what, "where": where, **as_values(examined, said)}
        return click.echo(json_.dumps(told, allow_nan=False))
    from rich.console import Console

    from .examined import show

    return show(examined, said, what, where, Console())


def _draw(found: Source, examined: Examined, picture: Path) -> str:
    """Draw a contact sheet; return why it can't be written, or nothing."""
    from .sheet import draw

    try:
        draw(found, examined, picture)
    except OSError as error:
        return f"{picture}: can't be written: {error.strerror or error}"
    return ""


def _where(source: str) -> str:
    """Return where a source is: the cache's folder of a name, a path from / on, or an address."""
    from loaders.sources import is_name, lasting, named

    if is_name(source):
        return next((each.kept for each in named() if each.name == source), "")
    return lasting(source)
