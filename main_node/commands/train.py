"""`mnist-main`: train a model on a data set with any number of computing nodes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.exits import Exit, end
from console.interrupts import Interrupts
from console.logs import say, speak
from console.options import Setting, defaults_from, given, options, told
from console.streams import OutputFailed
from loaders import SourceOptions
from loaders.running import place_of
from protocol import AddressError, KeysError
from protocol.wire.entry import Entry

from ..engine.local import EngineOptions, LocalNodes
from ..errors import ConfigError, DataChanged, JobFailed, NodeError, NoNode, StorageError
from ..options import JobOptions, ListenOptions
from ..run.ending import EndOptions
from ..run.spec import CompanyOptions, MergeOptions
from ..store.options import PublishOptions, StoreOptions
from ..views import opened
from ..views.terminal import Options as ViewOptions
from .options import (
    MAY_CHANGE,
    OPTIONS,
    PARTS,
    SETTABLE,
    TrainOptions,
    check_brought,
    check_data,
    cut_short,
    find_run,
    goes_on,
    resumed,
)

if TYPE_CHECKING:
    from protocol.options import Option

    from ..run.opening import Plan
    from ..store.results import Result

_end = partial(end, "mnist-main")


#: Whose options are told with --help, by the flag that names it.
_NAMED = {"--learner": "mnist.learner", "--merge": "mnist.merge"}


class _Command(Setting):
    settable = SETTABLE
    takes_others = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember what is named that has options of its own: --help tells them."""
        ctx.meta.update({key: _named_in(args, flag) for flag, key in _NAMED.items()})
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what --help says of options; those of what is named with it apart."""
        super().format_options(ctx, formatter)
        for flag, key in _NAMED.items():
            if ctx.meta.get(key) is not None:
                _tell_options(flag, ctx.meta[key], formatter)


@click.command(cls=_Command, context_settings={"show_default": True})
@options(*PARTS)
@click.option(
    "--config", type=click.Path(), callback=defaults_from(OPTIONS), is_eager=True,
    expose_value=False, metavar="FILE", envvar="MNIST_CONFIG",
    help="Take options from this YAML file, e.g. a run's config.yaml.",
)  # fmt: skip
@click.option(
    "--resume", metavar="RUN", envvar="MNIST_RESUME",
    help="Go on with a run that was cut short: its directory, or its name in --run-dir. Nothing"
    " else is needed; of the options, those that shape the model can't change.",
)  # fmt: skip
@click.option(
    "--continue", "continues", is_flag=True, envvar=["MNIST_CONTINUE", "MNIST_CONTINUES"],
    help="Go on with the newest run in --run-dir that has these options and was cut short; begin a"
    " new one if there is none. So the same command can be started again and again.",
)  # fmt: skip
@click.option("--print-config", is_flag=True, help="Print all options as --config reads them.")
@click.version_option(package_name="mnist-merge", prog_name="mnist-main")
@click.pass_context
def main(
    context: click.Context,
    /,
    resume: str | None,
    continues: bool,
    print_config: bool,
    **values: Any,
) -> None:
    """Cut a data set into jobs, have computing nodes train on them, and merge what they learn.

    It ends when every job of every round has reported. What is solved is in the run directory
    before it counts: whatever dies, --resume goes on from there.

    Options come from the command line, else
    from the environment (MNIST_JOBS for --jobs, and so on), else from --config, else from the
    defaults below.
    """
    start = TrainOptions(values)
    speak(start.part(ViewOptions).log_format)
    if print_config and (resume is not None or continues):
        raise click.UsageError("--print-config is for a new run; a run's own is its config.yaml")
    if resume is None and "data" not in told(context):
        start = _with_own_data(start)
    if print_config:
        return _print_config(start, given(context))
    interrupts = Interrupts()
    interrupts.install()
    if sys.stderr is None:  # closed by whoever started this; print would take standard output
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    by_hand = given(context)
    found = by_hand
    if continues:
        if resume is not None:
            raise click.UsageError("--resume names a run, --continue looks for one; give one")
        path = cut_short(start)
        if path is not None:
            resume, found = str(path), set(MAY_CHANGE)
    try:
        return _run(start, resume, found, interrupts)
    except DataChanged as error:
        if not continues:
            _end(Exit.USAGE, str(error))
        entry = Entry("run.begun_anew", f"{error}: beginning one", command="mnist-main")
        say(entry, f"mnist-main: {error}: beginning one")
    return _run(start, None, by_hand, interrupts)


def _named_in(args: list[str], flag: str) -> str | None:
    """Return what stands behind a flag on a command line, whatever else does."""
    for arg, following in pairwise([*args, ""]):
        told, equals, value = arg.partition("=")
        if told == flag:
            return value if equals else following
    return None


def _tell_options(flag: str, named: str, formatter: click.HelpFormatter) -> None:
    """Write the options of a learner, or of a strategy."""
    from learning import LearningError, merging, options_of
    from protocol.options import declared

    try:
        if flag == "--merge":
            kind = merging.kind_of(named)
            part, title = kind.options, f"--merge {kind.name}:NAME=VALUE,..."
        else:
            part, title = options_of(named), f"Options of {named}, by --set NAME=VALUE"
    except LearningError as error:
        raise click.UsageError(str(error)) from error
    lines = [(f"{each.name}={_KINDS[each.type]}", _about(each)) for each in declared(part)]
    with formatter.section(title):
        formatter.write_dl(lines or [("none", "It takes none.")])


_KINDS = {int: "INTEGER", float: "NUMBER", bool: "BOOLEAN", str: "TEXT"}


def _about(option: Option) -> str:
    default = option.about.unset or option.default
    choices = f" One of {', '.join(option.about.choices)}." if option.about.choices else ""
    return f"{option.about.help}{choices}  [default: {'none' if default is None else default}]"


def _with_own_data(start: TrainOptions) -> TrainOptions:
    """Return options with the data that a learner names, where nobody has said another."""
    from learning import LearningError, create

    if place_of(start.values["learner"]) is None:
        return start
    try:
        data = create(start.values["learner"], {}).data()
    except LearningError as error:
        _end(Exit.USAGE, str(error))
    return start if data is None else TrainOptions({**start.values, "data": data})


def _print_config(start: TrainOptions, by_hand: set[str]) -> None:
    """Print options that a run could begin with."""
    from learning import LearningError

    try:
        check_brought(start.values, by_hand)
        start.check()
    except (ConfigError, LearningError) as error:
        _end(Exit.USAGE, str(error))
    click.echo(start.as_yaml(), nl=False)


def _run(
    start: TrainOptions, resume: str | None, by_hand: set[str], interrupts: Interrupts
) -> None:
    from learning import LearningError, UnfitData
    from loaders import DatasetNotFound, LoaderError

    from ..run.opening import open_run
    from ..store.directory import RunDirectory
    from ..store.results import finished

    path: Path | None = None  # of the run, once there is something to go on with
    try:
        if resume is not None:
            path = find_run(resume, Path(start.part(StoreOptions).run_dir))
            as_json, start = start.part(ViewOptions).json, resumed(start, by_hand, path)
            result = finished(path)
            if result is not None and not goes_on(result, start, path):
                told = f"run {path.name} is done already"
                say(Entry("run.done_already", told, run=path.name), told)
                return _show(result, path, as_json, start.part(PublishOptions).publish)
            check_data(start, by_hand, path)
        publish, plan = start.part(PublishOptions).publish, _plan(start, by_hand)
        directory = None if path is None else RunDirectory(path, new=False)
        with opened(start.part) as views:  # closed before anything below is said
            run = open_run(plan, views, directory, interrupts)
            path = run.directory.path
            result = run.see_through()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(Exit.INTERRUPTED, f"{interrupts.told}; {_how_to_go_on(path)}")
    except (LoaderError, UnfitData) as error:
        gone = resume is not None and "data" not in by_hand and isinstance(error, DatasetNotFound)
        _end(Exit.DATA, f"{error}{_where_it_is_now(resume) if gone and resume else ''}")
    except DataChanged:  # another run may be meant
        raise
    except (ConfigError, AddressError, KeysError, LearningError) as error:
        _end(Exit.USAGE, str(error))
    except StorageError as error:
        then = "start it again" if path is None else _how_to_go_on(path)
        _end(Exit.STORAGE, f"{error}\nonce that is mended: {then}")
    except JobFailed as error:
        more = _more_time(error, start.part(JobOptions))
        story = [str(error), error.tell(), _how_to_go_on(path, more)]
        _end(Exit.JOB_FAILED, "\n".join(filter(None, story)))
    except NoNode as error:
        _end(Exit.NO_NODE, str(error))
    except NodeError as error:
        _end(Exit.JOB_FAILED, f"{error}\n{_how_to_go_on(path)}")
    _show(result, path, start.part(ViewOptions).json, publish)
    return None


def _where_it_is_now(run: str) -> str:
    """Return how to go on with a run whose data is not where it was."""
    return (
        "\nif the data lies elsewhere now, say where; its rows have to be the same:"
        f" mnist-main --resume {shlex.quote(run)} --data SOURCE"
    )


def _plan(start: TrainOptions, by_hand: set[str]) -> Plan:
    """Return all that a run is to be told.

    Raises:
        ConfigError, LearningError: it can't be so.
        StorageError: nothing can be published where it is to be.
    """
    from ..run.opening import Plan
    from ..store.publishing import check_place

    check_brought(start.values, by_hand)
    publish = start.part(PublishOptions).publish
    if publish is not None:
        check_place(publish)
    nodes, shown = start.part(EngineOptions).local_nodes, start.part(ViewOptions)
    job = start.part(JobOptions)
    spec = start.spec
    roots = [str(code.root) for code in spec.codes if not code.is_installed]
    local = LocalNodes(
        nodes, shown.log_level, shown.log_format, job.device,
        folders=list(dict.fromkeys(roots)), files=spec.files,
    )  # fmt: skip
    return Plan(
        spec=spec, source=start.part(SourceOptions), merge=start.part(MergeOptions),
        company=start.part(CompanyOptions), listen=start.part(ListenOptions),
        job=job, runs=Path(start.part(StoreOptions).run_dir),
        config=start.kept(), end=start.part(EndOptions),
        engine=local if nodes else None,
    )  # fmt: skip


def _show(result: Result, path: Path, as_json: bool, publish: str | None) -> None:
    """Print a result; draw it, unless it is drawn, where a person sees to it; publish it.

    A model that is not good enough ends the command so.
    """
    from rich.console import Console

    from ..views.ending.summary import print_summary

    unprinted = ""
    try:
        if as_json:
            print(json.dumps(result.as_json()), flush=True)
        else:
            print_summary(result, Console())
            sys.stdout.flush()
    except OutputFailed as error:
        if not error.unread:
            unprinted = f"can't be printed: {error}; see {path / 'metrics.json'}"
    if not (as_json or _is_drawn(result, path)):
        _draw(result, path)  # for programs `mnist-runs draw` does it when they are wanted
    if publish is not None and not result.shortcoming:
        _publish(path, publish)
    if unprinted:
        _end(Exit.STORAGE, unprinted)
    if result.shortcoming:
        told = f"the run is done, but its model is not good enough: {result.shortcoming}"
        told += "; it is not published" if publish is not None else ""
        _end(Exit.NOT_GOOD, f"{told}; let it learn for longer, or in smaller steps")


def _is_drawn(result: Result, path: Path) -> bool:
    """Whether there are pictures of this result, not of an earlier one that it went on from."""
    from ..views.ending.pictures import pictures

    try:
        since = (path / "metrics.json").stat().st_mtime
        return all((path / name).stat().st_mtime >= since for name in pictures(result))
    except OSError:
        return False


def _draw(result: Result, path: Path) -> None:
    from learning import LearningError

    from ..views.ending.pictures import draw

    try:
        draw(result, path)
    except KeyboardInterrupt:
        _end(Exit.INTERRUPTED, f"interrupted; the run is done, but not drawn: {path}")
    except (OSError, LearningError, ValueError, OverflowError) as error:
        _end(Exit.STORAGE, f"the run is done, but can't be drawn: {error}")


def _publish(path: Path, place: str) -> None:
    """Write model and metrics to a place; say how to do it again where that fails."""
    from ..store.publishing import publish

    again = f"mnist-main --resume {shlex.quote(str(path))} --publish {shlex.quote(place)}"
    try:
        publish(path, place)
    except KeyboardInterrupt:
        _end(Exit.INTERRUPTED, f"interrupted; the run is done, but not published: {again}")
    except StorageError as error:
        _end(
            Exit.STORAGE,
            f"the run is done, but can't be published: {error}\nnothing is lost; publish it again:"
            f" {again}",
        )
    told = f"published at {place}"
    say(Entry("run.published", told, run=path.name, place=place), told)


def _more_time(error: JobFailed, options: JobOptions) -> str:
    """Return the options that give a job twice the time where it ran out of it; or nothing."""
    limits = {
        "deadline": ("--deadline", options.deadline_seconds),
        "stalled": ("--stall", options.stall_seconds),
    }
    kinds = {attempt.kind for attempt in error.story}
    found = [limits[kind] for kind in sorted(kinds & limits.keys())]
    return "".join(f" {flag} {2 * seconds:g}" for flag, seconds in found if seconds is not None)


def _how_to_go_on(path: Path | None, more: str = "") -> str:
    """Return what to do, in words.

    Args:
        path: of the run, if there is one.
        more: options without which the same would happen again.
    """
    if path is None or not path.exists():
        return "before any job was done; start it again"
    how = f"go on with: mnist-main --resume {shlex.quote(str(path))}{more}"
    return f"{how} (a job had too little time)" if more else how
