"""All options of `mnist-main`, and the runs that go on with theirs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.formats import LaterFormat
from console.options import as_yaml, read_options, read_yaml
from learning import (
    LearnerOptions,
    LearningError,
    StrategyOptions,
    learner,
    merging,
    names,
    options_of,
)
from learning.registry import SHIPPED
from loaders import DataOptions, SourceOptions
from loaders.places import is_remote
from loaders.running import place_of
from loaders.sources import lasting, runs_code
from protocol.options import Option, at_home, declared, make
from protocol.wire.secrets import is_hidden, shown

from ..engine.local import EngineOptions
from ..errors import ConfigError, StorageError
from ..options import JobOptions, ListenOptions
from ..run import ending
from ..run.ending import EndOptions
from ..run.spec import CompanyOptions, MergeOptions, PlanOptions, RunSpec
from ..store.options import PublishOptions, StoreOptions
from ..views import every

if TYPE_CHECKING:
    from ..store.results import Result

#: What shapes every model.
_ALWAYS = (DataOptions, LearnerOptions, StrategyOptions, PlanOptions)
#: What shapes none.
FREE = (
    SourceOptions, MergeOptions, EndOptions, EngineOptions, CompanyOptions, ListenOptions,
    JobOptions, StoreOptions, PublishOptions, *(module.Options for module in every()),
)  # fmt: skip
#: Of the command itself, and of every command.
_COMMAND = (
    "config", "resume", "continue", "continues", "print_config", "version", "help", "format",
)  # fmt: skip


def _apart() -> tuple[dict[str, type], dict[str, str]]:
    """Return the options of learners, by their name, and those that can't be.

    An option has one meaning and one default, whoever takes it; those that ship come first.
    """
    taken: dict[str, object] = dict.fromkeys([*_COMMAND, *(f"--{name}" for name in _COMMAND)])
    for part in (*_ALWAYS, *FREE):
        taken |= {called: each for each in declared(part) for called in (each.flag, each.name)}
    parts, clashes = {}, {}
    for name in names():
        part = options_of(name)
        own = {each.flag: each for each in declared(part)}
        own |= {each.name: each for each in declared(part)}
        odd = [called for called, each in own.items() if taken.get(called, each) != each]
        if odd:
            clashes[name] = odd[0]
        else:
            parts[name] = part
            taken |= own
    return parts, clashes


#: Options of learners, and which of an unusable one's is already another's.
BROUGHT, CLASHES = _apart()
#: What shapes a model: it can't be given anew when a run goes on.
SHAPING = (*_ALWAYS, *BROUGHT.values())
PARTS = (SourceOptions, *SHAPING, *(part for part in FREE if part is not SourceOptions))
#: Every option, by name.
OPTIONS: dict[str, Option] = {each.name: each for part in PARTS for each in declared(part)}
#: Options of what learns: they may be given by `--set`, too.
SETTABLE = frozenset(each.name for part in BROUGHT.values() for each in declared(part))
#: The names of those that may be given anew.
MAY_CHANGE = frozenset(each.name for part in FREE for each in declared(part))


def _foreign(values: Mapping[str, Any]) -> set[str]:
    """Return the options of learners of others that a run has nothing to do with.

    They come and go with what is installed, so that no run's options are told by them.
    """
    chosen = str(values.get("learner"))
    kept: list[type] = [*_ALWAYS, *FREE]
    kept += [part for name, part in BROUGHT.items() if name == chosen or name in SHIPPED]
    return OPTIONS.keys() - {each.name for part in kept for each in declared(part)}


@dataclass(frozen=True)
class TrainOptions:
    """The options of one start of `mnist-main`.

    Args:
        values: of all of them, by name.
    """

    values: Mapping[str, Any]

    @classmethod
    def of(cls, **values: Any) -> TrainOptions:
        """Return the defaults, but for some."""
        return cls({**defaults(), **values})

    def part(self, kind: type) -> Any:
        """Return those that a dataclass declares."""
        return make(kind, self.values)

    @property
    def spec(self) -> RunSpec:
        """What the run is.

        Raises:
            LearningError: there is no such learner, or no such way to merge.
        """
        return RunSpec.of(dict(self.values))

    def check(self) -> None:
        """Raise unless a run could begin with them.

        Raises:
            ConfigError: two of them contradict each other.
            LearningError: there is no such learner, or no such way to merge.
        """
        for part in FREE:
            self.part(part)
        self.spec  # noqa: B018

    def resolved(self) -> dict[str, Any]:
        """Return them so that they mean the same in every folder."""
        foreign = _foreign(self.values)
        values = {name: self.values[name] for name in OPTIONS if name not in foreign}
        values["run_dir"] = str(Path(values["run_dir"]).absolute())
        if values["keys"] is not None:
            values["keys"] = str(Path(values["keys"]).absolute())
        if values["publish"] is not None and not is_remote(values["publish"]):
            values["publish"] = str(Path(values["publish"]).absolute())
        values["data"] = lasting(values["data"])
        place = place_of(values["learner"])
        values["learner"] = values["learner"] if place is None else place.lasting
        if values["merge"] is not None:
            values["merge"] = merging.lasting(values["merge"])
        return values

    def kept(self) -> str:
        """Return them as a file that a run keeps: an address in it has lost its secrets."""
        here = self.resolved()
        hidden = {name: shown(each) for name in ("data", "publish") if (each := here[name])}
        return as_yaml({**here, **hidden})

    def as_yaml(self) -> str:
        """Return them as a file that `--config` reads."""
        return as_yaml(self.resolved())


def defaults() -> dict[str, Any]:
    """Return every option's default, by name."""
    return {name: option.default for name, option in OPTIONS.items()}


def _before() -> dict[str, Any]:
    """Return what every option was for runs that know nothing of it, by name."""
    return {name: option.before for name, option in OPTIONS.items()}


def read_config(path: Path) -> dict[str, Any]:
    """Return the options that a YAML file sets.

    Raises:
        LaterFormat: a later release has written it.
        ConfigError: it can't be read, or sets what is no option, or to what it can't be.
    """
    try:
        return read_options(path, OPTIONS)
    except LaterFormat:
        raise
    except ConfigError as error:
        named = _learner_in(path)
        if not isinstance(named, str) or named in names() or place_of(named):
            raise
        there = ", ".join(names())
        raise ConfigError(
            f"{path}: no learner {named!r:.80} here; there is {there}. Install the package that has"
            " it"
        ) from error


def _learner_in(path: Path) -> object:
    """Return the learner that a file names, whatever else is in it; None: none."""
    with suppress(ConfigError):
        found = read_yaml(path)
        return found.get("learner") if isinstance(found, dict) else None
    return None


def check_brought(values: Mapping[str, Any], given: set[str]) -> None:
    """Raise if an option is given that only another learner takes.

    Args:
        values: of all options, by name.
        given: names of those that stand on the command line.

    Raises:
        ConfigError: it is; or the learner can't be used with this command.
        LearningError: there is no such learner, or no such way to merge; or one of a user's own has
            an option that can't be given.
    """
    used = values["learner"]
    if place_of(used) is not None:
        _check_own(used)
    merging.parse(values["merge"] or learner(used).merging)
    if used in CLASHES:
        raise ConfigError(
            f"--learner {used} can't be: its option {CLASHES[used]} is already another's;"
            " whoever wrote it must call it otherwise"
        )
    part = BROUGHT[used] if used in BROUGHT else options_of(used)
    own = {each.name: each.flag for each in declared(part)}
    takes = ", ".join(sorted(own.values())) or "no option of its own"
    for name, other in BROUGHT.items():
        for each in declared(other):
            if each.name in given and each.name not in own:
                raise ConfigError(f"{each.flag} is for --learner {name}; {used} takes {takes}")


def _check_own(name: str) -> None:
    """Raise if a user's own learner has an option that is another's."""
    odd = [each.name for each in declared(options_of(name)) if OPTIONS.get(each.name, each) != each]
    if odd:
        raise ConfigError(
            f"--learner {name} can't be: its option {odd[0]} is already another's; call it"
            " otherwise"
        )


def find_run(name: str, runs: Path) -> Path:
    """Return the directory of a run that is named by its path, or by its name in `runs`.

    Raises:
        ConfigError: there is none.
        StorageError: who runs this may not look there.
    """
    from ..store.directory import is_run

    if not name.strip():
        raise ConfigError("name a run; `mnist-runs list` shows them")
    for path in (Path(at_home(name)), runs / name):
        if is_run(path):
            return path.absolute()
        try:
            path.stat()
        except PermissionError as error:
            raise StorageError(f"{path}: can't be looked at: {error.strerror}") from error
        except (OSError, ValueError):  # not there
            continue
    raise ConfigError(f"{name}: no run, neither here nor in {runs}; `mnist-runs list` shows them")


def cut_short(options: TrainOptions) -> Path | None:
    """Return the newest run with these options that was cut short, if there is one."""
    from ..store.directory import locked, runs_in
    from ..store.results import finished

    try:
        here, spec = options.resolved(), options.spec
    except (ConfigError, LearningError):  # which is said where a run is to begin
        return None
    for run in reversed(runs_in(Path(here["run_dir"]))):
        try:
            stored = TrainOptions({**_before(), **read_config(run / "config.yaml")})
            there = stored.resolved()
            same = _code_in(there) == _code_in(here) and stored.spec == spec  # which may run it
        except (ConfigError, LearningError):  # of another release, or damaged
            continue
        same = same and there["domain"] == here["domain"]
        same = same and shown(there["data"]) == shown(here["data"])
        if same and not locked(run) and finished(run) is None:
            return run
    return None


def _code_in(values: Mapping[str, Any]) -> dict[str, str]:
    """Return those options that name a user's own code."""
    named = {name: str(values[name] or "") for name in ("learner", "merge")}
    return {name: text for name, text in named.items() if merging.is_own(text)}


def _has_moved(here: str | None, before: str | None) -> bool:
    """Whether two places are of one thing; that the files are equal is looked at later."""
    (now, options), (then, others) = merging.split(here or ""), merging.split(before or "")
    at, was = place_of(now), place_of(then)
    return at is not None and was is not None and at[:2] == was[:2] and options == others


def goes_on(result: Result, options: TrainOptions, path: Path) -> bool:
    """Whether a run that is done is to go on: it ended early by what it is told otherwise now.

    Args:
        result: of the run.
        options: to go on with.
        path: directory of the run.

    Raises:
        ConfigError: its own options can't be read.
    """
    name = {
        ending.GOAL: "goal_accuracy", ending.PATIENCE: "patience", ending.TIME: "max_run_seconds"
    }.get(result.ended_by)  # fmt: skip
    if name is None:
        return False
    return bool(options.values[name] != read_config(path / "config.yaml").get(name))


def check_data(options: TrainOptions, given: set[str], path: Path) -> None:
    """Raise if a run can't go on by what its own options say of data and learner, or should not.

    Args:
        options: to go on with.
        given: names of those that stand on the command line.
        path: directory of the run.

    Raises:
        ConfigError: the address of its data has lost its secrets; or the data is what somebody
            else's code returns, in a run that is somebody else's.
    """
    data = str(options.values["data"])
    for name, own in _code_in(options.values).items():
        if name not in given and not _is_own(path / "config.yaml"):
            what = "what merges in" if name == "merge" else "the learner of"
            raise ConfigError(
                f"{what} this run is {own}, and whoever else may write {path / 'config.yaml'}"
                f" has said so: to have it run, name it yourself, with --{name}"
            )
    if "data" in given:
        return
    if is_hidden(data):
        raise ConfigError(
            f"the data of this run is at {data}; its password or signature is not kept: give it"
            " again, with --data"
        )
    if runs_code(data) and not _is_own(path / "config.yaml"):
        raise ConfigError(
            f"the data of this run is what {data} returns, and whoever else may write"
            f" {path / 'config.yaml'} has said so: to have it run, name it yourself, with --data"
        )


def _is_own(file: Path) -> bool:
    """Whether nobody but this user, and root, decides what a file and its folder hold."""
    every = [each.stat() for each in (file, file.parent)]
    mine = all(each.st_uid in (os.geteuid(), 0) for each in every)
    return mine and not any(each.st_mode & stat.S_IWOTH for each in every)


def _merge_alike(*options: Mapping[str, Any]) -> bool:
    """Whether strategies are one, whichever way their options are written; a user's is not run."""
    if any(merging.is_own(str(each["merge"])) for each in options):
        return False
    return len({RunSpec.of(dict(each)).merge for each in options}) == 1


def resumed(options: TrainOptions, given: set[str], path: Path) -> TrainOptions:
    """Return the options to go on with a run: its own, but for free ones that are given anew.

    Args:
        options: of the command.
        given: names of those that stand on the command line.
        path: directory of the run.

    Raises:
        ConfigError: its own can't be read, or one that is given would change the model.
    """
    config = path / "config.yaml"
    if not config.exists():
        raise ConfigError(
            f"{config}: no such file; it says what the run's options are. Write it anew, with those"
            " that it began with: `mnist-main --print-config` writes one"
        )
    stored = {**read_config(config), "run_dir": str(path.parent)}
    added = {name for name, each in OPTIONS.items() if each.about.added}
    missing = OPTIONS.keys() - stored.keys() - MAY_CHANGE - added - _foreign(stored)
    if missing:
        raise ConfigError(f"{config}: not whole: no {', '.join(sorted(missing)[:3])}")
    stored = {**_before(), **stored}
    here = {**options.values, **options.resolved()}
    stored |= {name: here[name] for name, each in OPTIONS.items() if each.about.this_start}
    for name in sorted(given & OPTIONS.keys()):
        if name == "run_dir":
            continue
        if name in MAY_CHANGE or (
            name in ("learner", "merge") and _has_moved(here[name], stored[name])
        ):
            stored[name] = here[name]
        elif here[name] != stored[name] and not (name == "merge" and _merge_alike(here, stored)):
            raise ConfigError(
                f"{OPTIONS[name].flag} {here[name]} can't be: run {path.name} began with"
                f" {stored[name]}, and its model would be another; leave it out, or begin a new run"
            )
    return TrainOptions(stored)
