"""What a run is: all that shapes its model, and what a user says of how it goes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from learning import options as learner_options
from loaders import DataOptions
from protocol.options import flat, make, option
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How often shards are learned from and merged."""

<<<<<<< HEAD
    jobs: int = 4
    data: str = "mnist"
    limit: int | None = None
    sharding: str = "disjoint"
    learner: str = "neural"
    rounds: int = 5
    epochs: int = 3
    batch_size: int = 16
    lr: float = 0.02
    batches: int = 30
    levels: int = 1
    shifts: int = 1
    target_digit: int | None = None
    count: str = "main"
    seed: int = 0
    threads: int = 1
    local_nodes: int = 0
    min_nodes: int = 1
    bind: str = DEFAULT_ADDRESS
    keys: str | None = None
    insecure: bool = False
    announce: bool = False
    domain: int = 0
    run_dir: str = "runs"
    timeout_seconds: float | None = None
    deadline_seconds: float | None = None
    stall_seconds: float | None = 120.0
    silence_seconds: float = 10.0
    max_attempts: int = 3
    partial: bool = False
    json: bool = False
    quiet: bool = False
    log_level: str = "warning"

    def resolved(self) -> dict[str, Any]:
        """Return the options by name, so that they mean the same in every folder."""
        values = asdict(self)
        values["run_dir"] = str(Path(self.run_dir).absolute())
        if self.keys is not None:
            values["keys"] = str(Path(self.keys).absolute())
        if self.data not in NAMES and _is_folder(self.data):
            values["data"] = str(Path(self.data).absolute())
        return values

    def shape(self) -> str:
        """Return the options that shape the model, in one text: equal models have equal ones."""
        values = {name: value for name, value in asdict(self).items() if name not in FREE}
        return json.dumps(values, sort_keys=True)

    def as_yaml(self) -> str:
        """Return the options as a file that `--config` reads."""
        import yaml

        return yaml.safe_dump(self.resolved(), sort_keys=False)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # too long, say
        return False


#: What may be given anew when a run goes on: nothing of it shows in the model.
FREE = frozenset(
    ["count", "data", "run_dir", "local_nodes", "min_nodes", "bind", "domain", "timeout_seconds",
     "deadline_seconds", "stall_seconds", "silence_seconds", "max_attempts", "partial", "json",
     "quiet", "log_level", "keys", "insecure", "announce"]
)  # fmt: skip
=======
    rounds: int = option(
        5, "How often to merge; the merged model starts the next round.", least=1, most=MAX_COUNT
    )
    seed: int = option(
        0, "Of everything random: same seed, data and jobs, same model.", least=0, most=MAX_COUNT
    )


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """What is merged, and where its parts are counted."""

    count: str = option(
        "main",
        "algebraic: where to count what contradicts the merged atoms; the model is the same.",
        choices=("main", "nodes"),
    )
    partial: bool = option(
        False, "Merge what there is when a job fails for good, instead of ending."
    )
>>>>>>> bf78752 (WIP 14: options as dataclasses (not used yet))


@dataclass(frozen=True, kw_only=True)
class CompanyOptions:
    """How many computing nodes a run wants, and for how long it waits for them."""

    min_nodes: int = option(
        1, "Begin when so many computing nodes are here.", least=1, most=MAX_COUNT
    )
    timeout_seconds: float | None = option(
        None, "Give up after so long without enough computing nodes.", flag="--timeout", least=0,
        most=1e9, metavar="SECONDS", default="never",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """All that shapes a run's model: of equal ones, on equal data, the models are equal.

    Args:
        data: which rows, and how they are cut.
        learner: its name.
        made: what the learner is made with: the dataclass of its options.
        plan: of the rounds.
    """

    data: DataOptions
    learner: str
    made: Any
    plan: PlanOptions

    @classmethod
    def of(cls, values: dict[str, Any]) -> RunSpec:
        """Return the run that options by name describe.

        Raises:
            UnknownLearner: there is no such learner.
        """
        learner = values["learner"]
        return cls(
            data=make(DataOptions, values), learner=learner,
            made=make(learner_options(learner), values), plan=make(PlanOptions, values),
        )  # fmt: skip

<<<<<<< HEAD
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is none; it says what the options are. That of a run can be written"
            " anew, with the options that it began with"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # and its dates
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not options by name, one a line, like 'jobs: 4'")
    return dict(_option(path, str(name), value) for name, value in values.items())
=======
    @property
    def make(self) -> dict[str, Any]:
        """What the learner is made with, by name, whatever the round."""
        return flat(self.made)
>>>>>>> bf78752 (WIP 14: options as dataclasses (not used yet))

    @property
    def shape(self) -> dict[str, Any]:
        """All of it by name."""
        return {**flat(self.data), "learner": self.learner, **self.make, **flat(self.plan)}

    def text(self) -> str:
        """Return all of it in one text."""
        return json.dumps(self.shape, sort_keys=True)

    def is_that_of(self, text: str) -> bool:
        """Whether a text of `text`, maybe an earlier release's, is of an equal run."""
        try:
            stored = json.loads(text)
        except ValueError:
            return False
        return isinstance(stored, dict) and self.shape.items() <= stored.items()
