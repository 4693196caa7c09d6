"""`mnist-runs`: what runs there are, how each ended, its pictures, and stopping one."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.exits import Exit, end
from console.formats import LaterFormat
from console.logs import set_up_logs
from console.options import options, told
from protocol.errors import AddressError, ControlRefused, KeysError, NoAnswer
from protocol.wire.words import from_json, safe_line

from ..errors import ConfigError, StorageError
from ..store.options import StoreOptions
from .options import defaults, find_run, read_config
from .stopping import StopOptions, stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

_end = partial(end, "mnist-runs")


@dataclass(frozen=True)
class Summary:
    """A run at a glance.

    Args:
        run: its name.
        state: running, done, interrupted, failed, or died: cut off without a word.
        ending: how it ended, in its own words.
        done: fitting jobs that are solved, of `jobs` in all rounds.
        accuracy: on the test set; None before the end.
        shortcoming: why the model is not good enough to be used, a sentence; empty where it may be.
        ended: why it was done before its last round, a sentence; empty where it was not.
        merge, sharding: how it is merged and cut, where that is not as by default.
    """

    run: str
    state: str
    ending: str
    learner: str
    data: str
    done: int
    jobs: int
    accuracy: float | None
    starts: int
    path: str
    shortcoming: str = ""
    ended: str = ""
    merge: str = ""
    sharding: str = ""

    @property
    def shown(self) -> str:
        """The state in a list, where a run with a shortcoming is not as good as another."""
        return "not good" if self.state == "done" and self.shortcoming else self.state


@dataclass(frozen=True)
class Story:
    """A run as its history tells it."""

    rounds: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    failed_attempts: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


def summarize(path: Path) -> Summary:
    """Return what a run's directory says, as far as it can be read."""
    from ..store.database import RunHistory
    from ..store.directory import locked

    done = len(list((path / "solutions").glob("*-job-*.safetensors")))
    if not (path / "config.yaml").is_file():  # nor is a pipe waited for
        return _damaged(path, f"{path / 'config.yaml'}: no such file", done)
    try:
        config = {**defaults(), **read_config(path / "config.yaml")}
    except LaterFormat as error:
        return _damaged(path, str(error), done, "too new")
    except ConfigError as error:
        return _damaged(path, str(error), done)
    accuracy: float | None = None
    starts, shortcoming, ended, rounds = 0, "", "", config["rounds"]
    try:
        history = RunHistory(path / "run.db")
    except LaterFormat as error:
        ending, state = str(error), "too new"
    except StorageError:
        ending, state = "its history can't be read", ""
    else:
        ending = history.facts.get("ending", "")
        state = ending.split(":")[0]
        accuracy, starts = history.accuracy, history.starts
        shortcoming = history.facts.get("shortcoming", "")
        rounds = rounds or _rounds_of(history.facts.get("options", ""))
        ended = history.facts.get("ended", "")
        rounds = _count(history.facts.get("rounds_done", "")) or rounds
    state = state or ("done" if (path / "metrics.json").exists() else "died")
    return Summary(
        path.name, "running" if locked(path) else state, ending, config["learner"], config["data"],
        done, config["jobs"] * (rounds or 0), accuracy, starts, str(path), shortcoming, ended,
        config["merge"] or "",
        "" if config["sharding"] == defaults()["sharding"] else config["sharding"],
    )  # fmt: skip


def _rounds_of(options: str) -> int:
    """Return how many rounds a run has that was begun without anybody's saying; 0: not known."""
    try:
        found = from_json(options)
    except ValueError:
        return 0
    rounds = found.get("rounds") if isinstance(found, dict) else None
    return rounds if isinstance(rounds, int) else 0


def _count(fact: str) -> int:
    """Return a fact that is a number; 0 where it is none."""
    return int(fact) if fact.isdecimal() and len(fact) < 12 else 0


def _damaged(path: Path, why: str, done: int = 0, state: str = "damaged") -> Summary:
    return Summary(path.name, state, safe_line(why), "", "", done, 0, None, 0, str(path))


def _at_a_glance(path: Path) -> Summary:
    """Return what is to be said of a run in a list: whatever is wrong with it, others are, too."""
    try:
        return summarize(path)
    except Exception as error:
        return _damaged(path, f"{type(error).__name__}: {error}")


def tell(path: Path) -> Story:
    """Return a run's history.

    Raises:
        LaterFormat: a later release has written it.
        StorageError: it can't be read.
    """
    from ..store.database import RunHistory

    history = RunHistory(path / "run.db")
    rounds: Counter[str] = Counter()
    nodes: Counter[str] = Counter()
    for name, node in history.solved:
        if "-job-" in name:
            rounds[name[: name.index("-job-")]] += 1
            nodes[node] += 1
    attempts, events = [], []
    for at, kind, said in history.events:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))} {kind} {said}"
        events.append(line)
        if kind in ("attempt", "failed"):
            attempts.append(line)
    return Story(dict(rounds), dict(nodes), attempts, events)


@click.group()
@click.version_option(package_name="mnist-merge", prog_name="mnist-runs")
def main() -> None:
    """Show what runs there are, and how each ended, draw them, and stop those under way."""


_RUN_DIR = options(StoreOptions)
#: Of `mnist-runs list`, the most important first; which are numbers; letters to which a name may
#: be cut.
_COLUMNS = ("run", "state", "jobs", "accuracy", "starts", "learner", "data")
_NUMBERS = ("jobs", "accuracy", "starts")
_LEAST = {"run": 20, "learner": 9, "data": 5}
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and only that.")


@main.command("list")
@_RUN_DIR
@_JSON
@click.pass_context
def list_(context: click.Context, run_dir: str, as_json: bool) -> None:
    """List the runs, the oldest first."""
    from ..store.directory import runs_in

    folder = Path(run_dir)
    if "run_dir" in told(context) and not folder.is_dir():
        there = os.path.lexists(folder)
        _end(Exit.USAGE, f"{run_dir}: {'not a folder' if there else 'no such folder'}")
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        _end(Exit.STORAGE, f"{run_dir}: can't be read")
    runs = [_at_a_glance(path) for path in runs_in(folder)]
    if as_json:
        print(json.dumps([asdict(run) for run in runs]))
        return
    if not runs:
        print(f"no runs in {run_dir}")
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(_table(runs, console.width))


def _table(runs: Sequence[Summary], width: int) -> Table:
    """Return runs as a table for a terminal of some width; the last columns give way."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    rows = [
        (
            run.run, run.shown, f"{run.done}/{run.jobs}",
            "" if run.accuracy is None else f"{run.accuracy:.2%}", str(run.starts), run.learner,
            run.data,
        )
        for run in runs
    ]  # fmt: skip
    shown = [_COLUMNS, *(tuple(map(safe_line, row)) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    gap = 2 if sum(widths) + 4 * len(widths) <= width else 1
    least = [min(own, _LEAST.get(name, own)) for name, own in zip(_COLUMNS, widths, strict=True)]
    taken = [sum(least[: each + 1]) + 2 * gap * (each + 1) for each in range(len(least))]
    fitting = sum(each <= width for each in taken) or 1
    table = Table(box=None, padding=(0, gap), header_style="dim")
    left = width - taken[fitting - 1]
    for name, few, own in zip(_COLUMNS[:fitting], least, widths, strict=False):
        more = max(0, min(own - few, left))
        left -= more
        table.add_column(
            name, justify="right" if name in _NUMBERS else "left", no_wrap=True,
            overflow="ellipsis", width=few + more,
        )  # fmt: skip
    for line in shown[1:]:
        table.add_row(*map(Text, line[:fitting]))
    return table


def _found(run: str, run_dir: str) -> Path:
    """Return a run's directory, or end."""
    try:
        return find_run(run, Path(run_dir))
    except ConfigError as error:
        _end(Exit.USAGE, str(error))
    except StorageError as error:
        _end(Exit.STORAGE, str(error))


@main.command()
@click.argument("run")
@_RUN_DIR
@_JSON
@click.option("--events", is_flag=True, help="Show everything that happened.")
def show(run: str, run_dir: str, as_json: bool, events: bool) -> None:
    """Show one run.

    RUN is its directory, or its name in --run-dir.
    """
    from ..store.directory import solutions_in

    path = _found(run, run_dir)
    summary = summarize(path)
    try:
        story = tell(path)
    except (LaterFormat, StorageError):
        story = Story()
    if as_json:
        print(json.dumps({**asdict(summary), **asdict(story), "solutions": solutions_in(path)}))
        return
    print_story(summary, story, events)
    print_solutions(solutions_in(path))


@main.command()
@click.argument("run")
@_RUN_DIR
def draw(run: str, run_dir: str) -> None:
    """Draw a run that is done.

    RUN is its directory, or its name in --run-dir. One that was started with --json is not drawn
    at its end. Prints where the pictures are.
    """
    from learning import LearningError

    from ..store.results import finished
    from ..views.ending.pictures import draw as draw_
    from ..views.ending.pictures import pictures

    path = _found(run, run_dir)
    result = finished(path)
    if result is None:
        _end(Exit.USAGE, f"{path}: the run is not done; {summarize(path).state}")
    try:
        draw_(result, path)
    except (OSError, LearningError, ValueError, OverflowError) as error:
        _end(Exit.STORAGE, f"{path}: can't be drawn: {error}")
    click.echo("\n".join(str(path / name) for name in pictures(result)))


@main.command()
@click.argument("run", required=False)
@_RUN_DIR
@options(StopOptions)
def stop(run: str | None, run_dir: str, **values: Any) -> None:
    """Stop a run as Ctrl-C would.

    It is under way here, or wherever --connect leads. RUN is its directory, or its name in
    --run-dir; it may be left out where only one is under way, or with --connect. Its nodes are set
    free, and it can be resumed.
    """
    set_up_logs("error")
    try:
        click.echo(stopped(run, Path(run_dir), StopOptions(**values)))
    except NoAnswer as error:
        _end(Exit.NO_NODE, str(error))
    except ControlRefused as error:
        _end(Exit.REFUSED, str(error))
    except (ConfigError, StorageError, AddressError, KeysError) as error:
        _end(Exit.USAGE, str(error))
    except KeyboardInterrupt:
        _end(Exit.INTERRUPTED, "interrupted; whether the run was told to stop is not known")


#: Solutions of which it is told how far they are from the model.
_MOST_TOLD = 8


def print_solutions(rounds: dict[int, list[dict[str, Any]]]) -> None:
    """Print how far the solutions of the last round are from its model, the furthest first."""
    last = max(rounds, default=0)
    told = [each for each in rounds.get(last, []) if isinstance(each.get("distance"), float)]
    if not told:
        return
    told.sort(key=lambda each: -each["distance"])
    print(f"{'apart':>10}  how far the solutions of round {last} are from its model:")
    for each in told[:_MOST_TOLD]:
        taken = each.get("taken", 1)
        part = (
            "" if taken == 1 else ", left out" if not taken else f", {taken:.1%} of its way taken"
        )
        print(
            f"{'':10}  {each['distance']:9.4g}  job {each.get('job')} by"
            f" {safe_line(str(each.get('node')))}{part}"
        )
    if len(told) > _MOST_TOLD:
        print(f"{'':10}  and {len(told) - _MOST_TOLD} less far; --json tells all of every round")


def _by_round(rounds: dict[str, int]) -> list[tuple[str, str]]:
    """Return how many jobs of each round were solved, a line for rounds that are alike."""
    lines: list[tuple[str, str]] = []
    for done, group in groupby(rounds.items(), key=lambda each: each[1]):
        names = [name for name, _ in group]
        through = f", and so through {names[-1]}" if len(names) > 1 else ""
        lines.append((names[0], f"{done} jobs solved{through}"))
    return lines


def print_story(run: Summary, story: Story, events: bool) -> None:
    """Print a run and its history."""
    accuracy = "" if run.accuracy is None else f", accuracy {run.accuracy:.2%}"
    ended = run.ending.removeprefix(f"{run.state}: ") if run.state != "running" else ""
    short = [("not good", f"as a model: {run.shortcoming}")] if run.shortcoming else []
    lines = [
        ("run", run.run),
        ("state", run.state + (f" ({ended})" if ended not in ("", run.state) else "") + accuracy),
        *short,
        *[("ended", run.ended)] * bool(run.ended),
        ("learns", f"{run.learner} from {run.data}"),
        *[("cut by", run.sharding)] * bool(run.sharding),
        *[("merged by", run.merge)] * bool(run.merge),
        ("jobs", f"{run.done} of {run.jobs} solved"),
        ("started", f"{run.starts} time{'' if run.starts == 1 else 's'}"),
        ("directory", run.path),
    ]
    lines += _by_round(story.rounds)
    lines += [("solved by", f"{node}: {jobs}") for node, jobs in sorted(story.nodes.items())]
    lines += [("failed", attempt) for attempt in story.failed_attempts]
    if run.state in ("died", "interrupted", "failed"):
        lines.append(("go on with", f"mnist-main --resume {shlex.quote(run.path)}"))
    for name, value in lines:
        print(f"{name:>10}  {safe_line(value)}")
    if events:
        print(*story.events, sep="\n")
