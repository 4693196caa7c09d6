"""`mnist-main`: train a model on a data set with any number of computing nodes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import click

from console.exits import Exit
from console.logs import LOG_LEVELS, set_up_logs
from console.interrupts import Interrupts
from protocol import AddressError, KeysError
from protocol.wire.limits import MAX_COUNT

from ..errors import ConfigError, DataChanged, JobFailed, NodeError, NoNode, StorageError
from ..run.spec import FREE, MainConfig, cut_short, find_run, read_config, resumed

if TYPE_CHECKING:
    from ..run.training import Metrics

_DEFAULT = MainConfig()
_AT_LEAST_1 = click.IntRange(1, MAX_COUNT)
_NATURAL = click.IntRange(0, MAX_COUNT)


class _Finite(click.FloatRange):
    """A number in a range; Not-a-Number is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number to work with", param, ctx)
        return number


def _not_empty(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("it is empty")
    return value


def _read_config(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Make a file's values the defaults of every other option."""
    if path is None:
        return
    try:
        values = read_config(Path(path))
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error
    context.default_map = {**(context.default_map or {}), **values}


@click.command(context_settings={"auto_envvar_prefix": "MNIST", "show_default": True})
@click.option("--jobs", default=_DEFAULT.jobs, type=_AT_LEAST_1, help="Shards of the data.")
@click.option(
    "--data",
    default=_DEFAULT.data,
    metavar="SOURCE",
    callback=_not_empty,
    help="'mnist', or a folder of IDX files.",
)
@click.option(
    "--limit", type=_AT_LEAST_1, metavar="ROWS",
    help="Train on the first so many rows only.  [default: all]",
)  # fmt: skip
@click.option(
    "--sharding",
    default=_DEFAULT.sharding,
    type=click.Choice(["disjoint", "sample", "labels"]),
    help="disjoint: each row in one job; sample: each job its own random rows/jobs; labels:"
    " disjoint and skewed, a few classes a job.",
)
@click.option(
    "--learner", default=_DEFAULT.learner, help="What learns: neural, or algebraic.",
)  # fmt: skip
@click.option(
    "--rounds", default=_DEFAULT.rounds, type=_AT_LEAST_1,
    help="How often to merge; the merged model starts the next round.",
)  # fmt: skip
@click.option(
    "--epochs", default=_DEFAULT.epochs, type=_AT_LEAST_1,
    help="neural: passes over its shard that each job makes, each round.",
)  # fmt: skip
@click.option(
    "--batch-size", default=_DEFAULT.batch_size, type=_AT_LEAST_1, help="neural: rows a step.",
)  # fmt: skip
@click.option(
    "--lr", default=_DEFAULT.lr, type=_Finite(0, 1e6, min_open=True),
    help="neural: learning rate at the start; it falls to zero over all rounds.",
)  # fmt: skip
@click.option(
    "--batches", default=_DEFAULT.batches, type=click.IntRange(1, 100_000),
    help="algebraic: batches that each job learns, each round.",
)  # fmt: skip
@click.option(
    "--levels", default=_DEFAULT.levels, type=click.IntRange(1, 16),
    help="algebraic: thresholds of grey that a pixel is told by.",
)  # fmt: skip
@click.option(
    "--shifts", default=_DEFAULT.shifts, type=click.IntRange(0, 8),
    help="algebraic: images are also learned moved by up to so many pixels.",
)  # fmt: skip
@click.option(
    "--target-digit", type=_NATURAL, metavar="CLASS",
    help="Learn this class against the rest, as class 1 against 0.  [default: every class]",
)  # fmt: skip
@click.option(
    "--count", default=_DEFAULT.count, type=click.Choice(["main", "nodes"]),
    help="algebraic: where to count what contradicts the merged atoms; the model is the same.",
)  # fmt: skip
@click.option(
    "--seed", default=_DEFAULT.seed, type=_NATURAL,
    help="Of everything random: same seed, data and jobs, same model.",
)  # fmt: skip
@click.option(
    "--threads",
    default=_DEFAULT.threads,
    type=click.IntRange(1, 1024),
    help="neural: of each job. Part of the job: another number gives another (equally good) model.",
)
@click.option(
    "--local-nodes", default=_DEFAULT.local_nodes, type=click.IntRange(0, 1024),
    help="Start so many computing nodes on this machine.",
)  # fmt: skip
@click.option(
    "--min-nodes", default=_DEFAULT.min_nodes, type=_AT_LEAST_1,
    help="Begin when so many computing nodes are here.",
)  # fmt: skip
@click.option(
    "--bind", default=_DEFAULT.bind, metavar="ADDRESS",
    help="Where to listen; port 0 takes a free one and says which.",
)  # fmt: skip
@click.option(
    "--keys", metavar="DIR",
    help="This main node's keys and whom it lets in, as mnist-keys makes them: for any address"
    " but this machine's own.",
)  # fmt: skip
@click.option(
    "--insecure", is_flag=True,
    help="Listen without keys where others can reach it: in a network where you trust everybody.",
)  # fmt: skip
@click.option(
    "--announce", is_flag=True,
    help="Let computing nodes in this network find this main node (mnist-compute --discover).",
)  # fmt: skip
@click.option(
    "--domain", default=_DEFAULT.domain, type=_NATURAL,
    help="Work with computing nodes of this domain only.",
)  # fmt: skip
@click.option(
    "--run-dir",
    default=_DEFAULT.run_dir,
    metavar="DIR",
    callback=_not_empty,
    help="Where runs are kept.",
)
@click.option(
    "--timeout", "timeout_seconds", type=_Finite(0, 1e9), metavar="SECONDS",
    help="Give up after so long without enough computing nodes.  [default: never]",
)  # fmt: skip
@click.option(
    "--deadline", "deadline_seconds", type=_Finite(0, 1e9, min_open=True), metavar="SECONDS",
    help="Of one attempt of a job: then it is stopped, and tried at another node."
    "  [default: never]",
)  # fmt: skip
@click.option(
    "--stall", "stall_seconds", type=_Finite(0, 1e9, min_open=True), metavar="SECONDS",
    default=_DEFAULT.stall_seconds,
    help="The same for an attempt that makes no progress for so long.",
)  # fmt: skip
@click.option(
    "--silence", "silence_seconds", type=_Finite(2, 1e9), metavar="SECONDS",
    default=_DEFAULT.silence_seconds,
    help="A computing node that is silent for so long is given up, until it is heard again.",
)  # fmt: skip
@click.option(
    "--max-attempts", default=_DEFAULT.max_attempts, type=_AT_LEAST_1,
    help="A job that fails so often, at different nodes where there are any, fails for good.",
)  # fmt: skip
@click.option(
    "--partial", is_flag=True,
    help="Merge what there is when a job fails for good, instead of ending.",
)  # fmt: skip
@click.option("--json", is_flag=True, help="Print the result as one JSON object, and only that.")
@click.option("--quiet", is_flag=True, help="Show nothing while it runs.")
@click.option(
    "--log-level", default=_DEFAULT.log_level, type=click.Choice(LOG_LEVELS),
    help="Log things of this importance and above, on standard error.",
)  # fmt: skip
@click.option(
    "--config", type=click.Path(), callback=_read_config, is_eager=True, expose_value=False,
    metavar="FILE", help="Take options from this YAML file, e.g. a run's config.yaml.",
)  # fmt: skip
@click.option(
    "--resume", metavar="RUN",
    help="Go on with a run that was cut short: its directory, or its name in --run-dir. Nothing"
    " else is needed; of the options, those that shape the model can't change.",
)  # fmt: skip
@click.option(
    "--continue", "continues", is_flag=True,
    help="Go on with the newest run in --run-dir that has these options and was cut short; begin a"
    " new one if there is none. So the same command can be started again and again.",
)  # fmt: skip
@click.version_option(package_name="mnist-merge", prog_name="mnist-main")
@click.pass_context
def main(context: click.Context, /, resume: str | None, continues: bool, **options: Any) -> None:
    """Cut a data set into jobs, have computing nodes train on them, and merge what they learn.

    It ends when every job of every round has reported. What is solved is in the run directory
    before it counts: whatever dies, --resume goes on from there.

    Options come from the command line, else
    from the environment (MNIST_JOBS for --jobs, and so on), else from --config, else from the
    defaults below.
    """
    config = MainConfig(**options)
    interrupts = Interrupts()
    interrupts.install()
    if sys.stderr is None:  # closed by whoever started this; print would take standard output
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    given = _given(context)
    found = given
    if continues:
        if resume is not None:
            raise click.UsageError("--resume names a run, --continue looks for one; give one")
        path = cut_short(config)
        if path is not None:
            resume, found = str(path), set(FREE)
    try:
        return _run(config, resume, found, interrupts)
    except DataChanged as error:
        if not continues:
            _end(Exit.USAGE, str(error))
        click.echo(f"mnist-main: {error}: beginning one", err=True)
    return _run(config, None, given, interrupts)


def _given(context: click.Context) -> set[str]:
    """Return the names of the options that stand on the command line."""
    by_hand = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is by_hand}


def _end(code: Exit, message: str) -> NoReturn:
    with contextlib.suppress(OSError):
        click.echo(f"mnist-main: {message}", err=True)
    sys.exit(code)


def _run(config: MainConfig, resume: str | None, given: set[str], interrupts: Interrupts) -> None:
    # Imported here: --help must not wait for numpy.
    from rich.console import Console

    from learning import LearningError, UnfitData
    from loaders import LoaderError

    from ..run.training import Training
    from ..store.directory import RunDirectory, finished
    from ..views.screen import ConsoleStream, Lines, Quiet, Screen

    directory: RunDirectory | None = None
    path: Path | None = None  # of the run, once there is something to go on with
    try:
        if resume is not None:
            path = find_run(resume, Path(config.run_dir))
            as_json, config = config.json, resumed(config, given, path)
            metrics = finished(path)
            if metrics is not None:
                click.echo(f"run {path.name} is done already", err=True)
                return _show(metrics, path, as_json)
            _check_values(config, path)
            directory = RunDirectory(path, new=False)
        _check_learners(config, given)
        stderr = Console(stderr=True)
        screen = stderr.is_terminal and not config.quiet
        set_up_logs(config.log_level, cast(IO[str], ConsoleStream(stderr)) if screen else None)
        watcher = (
            Screen(config, stderr)
            if screen
            else (Quiet if config.quiet else Lines)(config, sys.stderr)
        )
        with watcher:  # which must have ended before anything below is said
            training = Training(config, watcher, directory, interrupts)
            path = training.directory.path
            metrics = training.run()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(Exit.INTERRUPTED, f"interrupted; {_how_to_go_on(path)}")
    except (LoaderError, UnfitData) as error:
        _end(Exit.DATA, str(error))
    except DataChanged:  # another run may be meant
        raise
    except (ConfigError, AddressError, KeysError, LearningError) as error:
        _end(Exit.USAGE, str(error))
    except StorageError as error:
        _end(Exit.STORAGE, f"{error}\nonce that is mended: {_how_to_go_on(path)}")
    except JobFailed as error:
        _end(Exit.JOB_FAILED, f"{error}\n{error.tell()}\n{_how_to_go_on(path)}")
    except NoNode as error:
        _end(Exit.NO_NODE, str(error))
    except NodeError as error:
        _end(Exit.JOB_FAILED, f"{error}\n{_how_to_go_on(path)}")
    _show(metrics, path, config.json)
    return None


def _check_learners(config: MainConfig, given: set[str]) -> None:
    """Raise if an option stands on the command line that only another learner takes."""
    from learning import merger, names

    own = set(merger(config.learner).options)
    for name in names():
        for option in sorted(given & (set(merger(name).options) - own)):
            raise ConfigError(
                f"--{option.replace('_', '-')} is for --learner {name}; {config.learner} takes"
                f" {', '.join('--' + o.replace('_', '-') for o in sorted(own))}"
            )


def _check_values(config: MainConfig, path: Path) -> None:
    """Raise unless the options of a run that goes on are within the command's bounds."""
    context = click.Context(main)
    for parameter in main.params:
        value = getattr(config, parameter.name or "", None)
        if value is not None:
            try:
                parameter.type_cast_value(context, value)
            except click.BadParameter as error:
                raise ConfigError(f"{path / 'config.yaml'}: {parameter.name}: {error}") from error


def _show(metrics: Metrics, path: Path, as_json: bool) -> None:
    """Print a result, and draw it unless it is drawn."""
    from rich.console import Console

    from learning import LearningError

    from ..views.summary import draw, drawn, print_summary

    try:
        if as_json:
            print(json.dumps(metrics), flush=True)
        else:
            print_summary(metrics, Console())
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # nobody flushes it at the end
        _end(Exit.STORAGE, f"can't be printed: {error.strerror}; see {path / 'metrics.json'}")
    try:
        if not drawn(metrics, path):
            draw(metrics, path)
    except KeyboardInterrupt:
        _end(Exit.INTERRUPTED, f"interrupted; the run is done, but not drawn: {path}")
    except (OSError, LearningError, ValueError, OverflowError) as error:
        _end(Exit.STORAGE, f"the run is done, but can't be drawn: {error}")


def _how_to_go_on(path: Path | None) -> str:
    if path is None or not path.exists():
        return "before any job was done; start it again"
    return f"go on with: mnist-main --resume {shlex.quote(str(path))}"
