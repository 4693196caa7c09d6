"""`mnist-merge`: merge finished models, without a run."""

from __future__ import annotations

import json as json_
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from console.exits import Exit, end
from console.options import homed, options
from protocol.options import Checked, option
from protocol.wire.secrets import shown
from protocol.wire.words import plural, safe_line

from ..errors import StorageError
from ..store.options import StoreOptions

if TYPE_CHECKING:
    from rich.table import Table

    from .joining import Joined

_end = partial(end, "mnist-merge")
_say = partial(click.echo, err=True)


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(Checked):
    """What strategies try models on."""

    validation: float = option(
        0.0, "For strategies that try models: keep this part of the training rows of --data aside"
        " for that, the same that runs keep.", least=0, most=0.9, metavar="FRACTION",
    )  # fmt: skip


def _warn(text: str) -> None:
    _say(f"mnist-merge: {text}")


def _out(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Return where the model is to be, if one can be: else it is known before all is read."""
    from loaders.places import is_remote

    path = Path(homed(context, parameter, value))
    if is_remote(value):
        raise click.BadParameter(f"{shown(value)}: it is written to a file on this machine")
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "a folder; name a file in it" if path.is_dir() else "there is no such folder for it"
        raise click.BadParameter(f"{path}: {what}")
    if path.exists() and not path.is_file():
        raise click.BadParameter(f"{path}: a pipe or a device, and no file")
    if path.exists() and not context.params.get("force"):
        raise click.BadParameter(
            f"{path}: it is there already; --force writes another in its place"
        )
    return path


def _weights(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return ()
    parts = [part.strip() for part in value.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,14}", part) for part in parts):
        raise click.BadParameter(
            f"{value!r}: a whole number from 1 on for each model, like 60000,1000"
        )
    return tuple(map(int, parts))


@click.command(context_settings={"show_default": True})
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", callback=homed)
@click.option(
    "-o", "--out", required=True, metavar="OUT", callback=_out, help="Where the merged model goes."
)
@click.option(
    "--merge", metavar="STRATEGY", show_default="the learner's own",
    help="How to merge: NAME, or NAME:option=value,... as mnist-main has it.",
)  # fmt: skip
@click.option(
    "--weights", metavar="N,N,...", callback=_weights, show_default="what each model says",
    help="How many examples each model is of, in their order.",
)  # fmt: skip
@click.option(
    "--start", metavar="MODEL", callback=homed,
    help="The model that all of them went on from: some strategies go on from it, too.",
)  # fmt: skip
@click.option(
    "--data", metavar="SOURCE", callback=homed,
    help="Say how good each model and the merged one are on its test set, named as mnist-main has"
    " it. Of algebraic models, count what of its training rows contradicts the atoms: of as many as"
    " the models are of, unless --limit says.",
)  # fmt: skip
@click.option("--label", metavar="COLUMN", help="Of a table, as --data: what says the class.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="ROWS",
    help="Of each part of --data, the first so many rows only.",
)  # fmt: skip
@click.option(
    "--learner", metavar="LEARNER",
    help="Of models of your own net or learner: FILE.py:NAME or package.module:NAME; it is run.",
)  # fmt: skip
@options(JudgeOptions, StoreOptions)
@click.option("--force", is_flag=True, is_eager=True, help="Write over what is there at OUT.")
@click.option("--json", is_flag=True, help="Print one JSON object, and only that.")
@click.version_option(package_name="mnist-merge", prog_name="mnist-merge")
def main(run_dir: str, force: bool, json: bool, **values: Any) -> None:
    """Merge finished MODELs into one, without a run.

    A MODEL is the model.safetensors of a run, the run's directory or its name in --run-dir, or
    where one was published: s3://bucket/prefix, https://host/model.safetensors. They are of one
    learner, of the same classes in the same order, and of one net; nets whose mean is to be worth
    something began alike, too: by one --seed. Use the merged one with mnist-predict.
    """
    from learning import LearningError
    from loaders import LoaderError

    from .joining import Asked, Joining

    asked = Asked(**values, runs=Path(run_dir))
    if len(asked.models) < 2:
        raise click.UsageError("name two models at least: one is merged already")
    if asked.weights and len(asked.weights) != len(asked.models):
        raise click.UsageError(
            f"--weights has {plural(len(asked.weights), 'number')} for"
            f" {plural(len(asked.models), 'model')}"
        )
    if asked.data is None and (asked.limit or asked.label):
        raise click.UsageError("--label and --limit are about --data; there is none")
    try:
        with ExitStack() as held:
            told = Joining(asked, held, _say, _warn).see_through()
    except LearningError as error:
        _end(Exit.USAGE, str(error))
    except LoaderError as error:
        _end(Exit.DATA, str(error))
    except StorageError as error:
        _end(Exit.STORAGE, str(error))
    except MemoryError:
        _end(Exit.USAGE, "models that there is not enough memory for")
    if json:
        click.echo(json_.dumps(told.as_values()))
    else:
        _print(told)
    if told.blind:
        _end(
            Exit.NOT_GOOD, f"{asked.out}: it takes every row of the test set for one class, though"
            " several are there",
        )  # fmt: skip


def _print(told: Joined) -> None:
    """Print how good the models are, what they were merged into, and how to use that."""
    from rich.console import Console
    from rich.text import Text

    from learning.model import sha256
    from learning.registry import described

    from ..views.ending.summary import private, whose

    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(_table(told))
    image, model = told.model.form.image is not None, told.model
    made_of = described(model.learner).made_of(told.parts)
    what = "IMAGE.png" if image else "ROWS.csv"
    lines = [
        ("merged by", told.strategy),
        *private(told.merged),
        ("model", made_of if told.counted else f"{made_of}, not counted"),
        ("model sha256", sha256(model.arrays)),
        ("use it", f"mnist-predict {quote(str(told.out))} {whose(model.learner)}{what}"),
    ]
    if told.tested:
        lines.insert(0, ("tried on", f"{told.tested:,} {'image' if image else 'row'}s"))
    for name, value in lines:
        console.print(Text(f"{name:>14}  ", "dim") + Text(safe_line(value, 400)), soft_wrap=True)


def _table(told: Joined) -> Table:
    """Return the models, and the merged one below them; a long name goes on in the next line."""
    from rich.table import Table
    from rich.text import Text

    from learning.joining import examples_of

    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("model", overflow="fold")
    for title in ("examples", "accuracy", "macro F1")[: 3 if told.scores else 1]:
        table.add_column(title, justify="right", no_wrap=True)
    rows = [(each.called, each.examples, "") for each in told.each]
    rows.append((str(told.out), examples_of(told.model), "bold"))
    for place, (name, examples, style) in enumerate(rows):
        cells = ["" if examples is None else f"{examples:,}"]
        if told.scores:
            scores = told.scores[place]
            cells += [f"{scores.accuracy:.2%}", f"{scores.macro_f1:.4f}"]
        table.add_row(Text(safe_line(name, 400)), *map(Text, cells), style=style)
    return table
