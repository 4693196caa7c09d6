"""Training as a program on top of the main node: shard, send, merge, again; then say how good.

The main node merges and counts, and leaves everything that needs the learner's library to the
computing nodes: they predict the test set too, in the places that training leaves idle.

Whatever is done is in the run directory before it counts, so that a run that was cut short goes
on from there: what is there and good is not done again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from console.interrupts import Interrupts
from learning import Arrays, CountingMerger, DamagedFile, Form, Labels, Shard, Solution, merger
from learning.merging import sha256
from learning.metrics import Scores, score
from learning.model import Model
from learning.work import (
    Work,
    count_work,
    counted,
    digest,
    fit_work,
    fitted,
    predict_work,
    predicted,
)
from loaders import Dataset, load, shard
from protocol import AddressError, JobDataType, JobSolutionDataType
from protocol.machine.views import View
from protocol.wire.words import plural

from ..engine.local import LocalNodes
from ..errors import (
    ConfigError,
    DataChanged,
    JobFailed,
    NodeBusy,
    NodeError,
    NoNode,
    StorageError,
)
from ..futures import JobFuture
from ..node import AsyncMainNode
from ..store.database import RunDatabase
from ..store.directory import Kept, RunDirectory
from ..store.memory import Check, RunMemory
from .spec import MainConfig

#: The test set is predicted in so many jobs, whoever does them.
EVALUATION_JOBS = 4
LOOK_SECONDS = 0.25
#: A look at the nodes is skipped if it takes longer.
VIEW_SECONDS = 2.0
#: In a merged model's notes: the jobs that it was merged without.
_LEFT_OUT = "left_out"

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """How a run stands at one moment.

    Args:
        round: the one that is trained, from 0; -1 before the first; as many as there are
            rounds while only tests are left.
        done: jobs of it that are solved.
        view: what the nodes are doing.
        titles: what each job is, for people, by job id.
    """

    round: int
    done: int
    view: View
    titles: dict[int, str]


class Watcher(Protocol):
    """Somebody who looks on."""

    def say(self, text: str) -> None:
        """Take a line that is worth keeping."""

    def look(self, standing: Standing) -> None:
        """See how things stand; several times a second."""

    def merged(self, round_: int, means: Mapping[str, float]) -> None:
        """A round is merged; the means of what its jobs said of themselves, e.g. `loss`."""

    def evaluated(self, round_: int, scores: Scores) -> None:
        """A round's model has been tried on the test set."""


@dataclass
class Clock:
    """Seconds spent in each phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _begun: float = field(default_factory=time.perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block as this phase's."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begun
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def read(self) -> dict[str, float]:
        """Return the seconds of each phase, and in all since this clock was made."""
        seconds = {"total": time.perf_counter() - self._begun, **self.seconds}
        return {name: round(value, 3) for name, value in seconds.items()}


class Training:
    """One run of distributed training; it listens from the moment it is made.

    Args:
        config: its options.
        watcher: told how it goes.
        directory: of a run to go on with; None: a new one.
        interrupts: signals that end it; None: there are none.

    Raises:
        LoaderError: the data.
        LearningError: no such learner, or it can't learn from such images.
        ConfigError: the run directory, or the data is not what the run began with.
        AddressError: the address to bind.
        StorageError: the run directory can't be written.
    """

    def __init__(
        self,
        config: MainConfig,
        watcher: Watcher,
        directory: RunDirectory | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self._config = config
        self._interrupts = interrupts or Interrupts()
        self._watcher = watcher
        self._clock = Clock()
        with self._clock.phase("setup"):
            self._merger = merger(config.learner)
            self._train = self._load("train", config.limit)
            self._test = self._load("test", None)
            height, width = self._train.images.shape[1:]
            self._form = Form(height, width, self._train.classes)
            self._merger.check_form(self._form)
            self._merger.check_data(self._train.images, self._train.labels, self._make)
            self._shards = self._cut()
            self._interrupts.hold()  # from here on, not in the middle of anything
            try:
                self._interrupts.check()
                self.directory = directory or RunDirectory.make(Path(config.run_dir))
            except BaseException:
                self._interrupts.let()
                raise
            try:
                self._remember(new=directory is None)
                self._node = self._listen()
            except BaseException:
                self._interrupts.let()
                self.let_go(forget=directory is None)
                raise
        self._company = _Company(config, self._node.address, watcher)
        self._locals: LocalNodes | None = None
        self._titles: dict[int, str] = {}
        #: What a round's model predicts for the parts of the test set; not scored yet.
        self._tests: dict[int, dict[str, JobFuture | None]] = {}
        self._scores: dict[int, Scores] = {}
        self._left_out: list[str] = []
        self._blind = False  # whether the last look got no answer

    def _load(self, split: str, limit: int | None) -> Dataset:
        """Return data; with a target digit, of two classes: 1 is the digit, 0 the rest."""
        data = load(self._config.data, split, limit, self._watcher.say)
        target = self._config.target_digit
        return data if target is None else data.one_against_rest(target)

    def _cut(self) -> list[Shard]:
        data, config = self._train, self._config
        cut = shard(data.labels, config.jobs, config.sharding, config.seed)
        return [Shard(data.images[rows], data.labels[rows], data.classes) for rows in cut]

    def _remember(self, new: bool) -> None:
        """Open the run's memory, and see that it is of the same data."""
        if new:
            self.directory.write_config(self._config.as_yaml())
        self._database = RunDatabase(self.directory.path / "run.db")
        damage = self._database.damage
        if damage or not (new or self._database.fact("main")):
            what = f"was damaged ({damage}) and is put aside" if damage else "is gone, or empty"
            self._watcher.say(f"run.db {what}: the run's history is lost, its solutions are not")
        began = self._database.fact("data")
        digest_ = f"{self._train.digest}+{self._test.digest}"
        if began not in (None, digest_):
            raise DataChanged(
                f"the data is not what run {self.directory.run_id} began with:"
                f" {self._config.data} has changed since; begin a new run"
            )
        options = self._database.fact("options")
        if options not in (None, self._config.shape()):
            raise ConfigError(
                f"{self.directory.path / 'config.yaml'} has been changed since the run began:"
                " its model would be another; change it back, or begin a new run"
            )
        self._memory = RunMemory(self.directory, self._database, self._watcher.say)
        self._database.state(data=digest_, options=self._config.shape())

    def _listen(self) -> AsyncMainNode:
        """Listen at the address of the options, or where nodes of the last start look for it."""
        address, before = self._config.bind, self._database.fact("address")
        if before is not None and address.endswith(":0"):
            try:
                return self._listen_at(before)
            except AddressError:
                self._watcher.say(f"{before}, where this run listened before, is taken")
        return self._listen_at(address)

    def _listen_at(self, address: str) -> AsyncMainNode:
        config = self._config
        node = AsyncMainNode(
            "main", config.domain, address=address, learners=(config.learner,),
            dead_seconds=config.silence_seconds, max_attempts=config.max_attempts,
            max_solution_bytes=self._largest(), keys=config.keys, insecure=config.insecure,
            announce=config.announce, journal=self._memory,
        )  # fmt: skip
        self._database.state(address=node.address)
        return node

    def _largest(self) -> int:
        """Return how many bytes the arrays of a solution have, at most."""
        return max(self._merger.largest(self._form), self._test.labels.nbytes)

    def _describe(self) -> str:
        """Return what is about to be done, and where, in two lines."""
        config = self._config
        return (
            f"{config.data}: {len(self._train):,} images, {plural(config.jobs, 'job')}"
            f" ({config.sharding}), {plural(config.rounds, 'round')} of {self._lesson()}\n"
            f"listening at {self._node.address}, run directory {self.directory.path}"
        )

    def _lesson(self) -> str:
        """Return what a job does in a round."""
        if self._config.learner == "algebraic":
            return plural(self._config.batches, "batch", "es")
        return plural(self._config.epochs, "epoch")

    def run(self) -> Metrics:
        """Train, merge and evaluate; leave everything in the run directory.

        Returns:
            What `--json` prints.

        Raises:
            JobFailed: a job failed for good.
            NoNode: no computing node in time.
            StorageError: the run directory can't be written.
            NodeError: local nodes end time and again.
            KeyboardInterrupt: a signal has come.
        """
        try:
            return self._see_through()
        finally:
            self._interrupts.let()

    def _see_through(self) -> Metrics:
        ending, dismiss, forget = "interrupted", True, True
        try:
            self._watcher.say(self._describe())
            result = self._run()
            ending = "done"
        except StorageError as error:
            ending, dismiss = f"failed: {error}", False
            raise
        except Exception as error:
            ending, forget = f"failed: {error}", isinstance(error, NoNode)
            raise
        except KeyboardInterrupt as interrupt:
            # Ctrl-C frees the nodes; a host that shuts down (SIGTERM) will be back.
            dismiss = "SIGTERM" not in interrupt.args
            raise
        finally:
            self._node.close(dismiss)
            if self._locals is not None:
                self._locals.stop()
            with suppress(StorageError):  # a full disk is told by what it broke
                self._database.state(ending=ending)
            self.let_go(forget and dismiss and ending != "done" and self._memory.starts == 1)
        return result

    def let_go(self, forget: bool) -> None:
        """Close the run directory, and remove it if that is wanted and no job left anything."""
        if hasattr(self, "_database"):
            self._database.close()
        if forget and self.directory.empty:
            self.directory.remove()
        self.directory.close()

    def _run(self) -> Metrics:
        config, clock = self._config, self._clock
        with clock.phase("setup"):
            self._gather()
        model: Arrays | None = None
        for round_ in range(config.rounds):
            merged = self._merged_before(round_)
            if merged is None:
                with clock.phase("training"):
                    names = self._fit(round_, model)
                with clock.phase("merging"):
                    merged = self._merge(round_, names, model)
            elif model is not None:
                self._test_model(round_ - 1, model)
            model = merged
        assert model is not None
        with clock.phase("evaluating"):
            self._evaluate(model)
        return self._finish(model)

    # Nodes.

    def _gather(self) -> None:
        """Start the local nodes, if any, and wait until there are enough nodes."""
        config = self._config
        if config.local_nodes:
            self._locals = LocalNodes(
                config.local_nodes, self._node.address, config.domain, config.log_level,
                self._watcher.say, self._node.invite(),
            )  # fmt: skip
        if config.local_nodes < config.min_nodes:
            self._watcher.say(self._company.invitation)
        while True:
            try:
                return self._node.wait_for_nodes(config.min_nodes, LOOK_SECONDS)
            except NoNode:
                self._look(-1, 0)

    def _look(self, round_: int, done: int) -> None:
        self._interrupts.check()
        if self._locals is not None:
            self._locals.check()
        try:
            view = self._node.view(VIEW_SECONDS)
        except NodeBusy as error:  # nothing is known, and so nothing is wrong
            if not self._blind:
                self._watcher.say(f"{error}; going on")
            self._blind = True
            return
        self._blind = False
        self._watcher.look(Standing(round_, done, view, self._titles))
        self._tell(round_, done)
        self._company.check(view, self._config.min_nodes if round_ < 0 else 1)

    def _tell(self, round_: int, done: int) -> None:
        """Say how the run stands to whoever watches the main node."""
        config = self._config
        about: dict[str, Any] = {"run": self.directory.run_id, "rounds": config.rounds}
        if 0 <= round_ < config.rounds:
            about |= {"round": round_ + 1, "round_done": done, "round_jobs": config.jobs}
        if self._scores:
            about["accuracy"] = self._scores[max(self._scores)].accuracy
        self._node.tell(**about)

    # Jobs.

    def _ask(self, name: str, work: Work) -> JobFuture | None:
        """Submit a job, unless there seems to be a solution of it on disk: then return None."""
        values, arrays = work
        if self._memory.has(name):
            return None
        config = self._config
        job = JobDataType(
            arrays, values, learner=config.learner, timeout_seconds=config.deadline_seconds,
            stall_seconds=config.stall_seconds, group=values["action"],
        )  # fmt: skip
        future = self._node.submit(job, name)
        self._titles[future.job_id] = _title(name)
        return future

    def _ask_all(
        self, works: Mapping[str, Callable[[], Work]], check_: Callable[[str], Check]
    ) -> dict[str, JobFuture | None]:
        """Submit the jobs of these names that are not solved on disk; first those that are not.

        A solution that is there but no good is said, and done again.
        """
        made: dict[str, Work] = {}
        for name, work in works.items():
            self._interrupts.check()
            made[name] = work()
        learner = self._config.learner
        self._memory.expect(
            {name: (digest(learner, work), check_(name)) for name, work in made.items()}
        )
        asked = {name: self._ask(name, work) for name, work in made.items()}
        for name in [name for name, future in asked.items() if future is None]:
            try:
                self._memory.solution(name)
            except DamagedFile as error:
                self._watcher.say(f"{error}; done again")
                self.directory.drop_solution(name)
                asked[name] = self._ask(name, made[name])
        return asked

    def _completed(self, futures: list[JobFuture], round_: int, done: int) -> Iterator[JobFuture]:
        """Yield futures as they complete, looking on meanwhile."""
        pending = set(futures)
        while pending:
            wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
            completed = {future for future in pending if future.done()}
            pending -= completed
            yield from completed
            self._look(round_, done + len(futures) - len(pending))
            self._score_what_is_there()

    # Rounds.

    def _notes(self, round_: int) -> dict[str, str]:
        return {
            "data": self._train.digest, "round": str(round_ + 1), "options": self._config.shape(),
        }  # fmt: skip

    def _merged_before(self, round_: int) -> Arrays | None:
        """Return a round's model if an earlier start of this run has merged it."""
        if self._memory.starts == 1:
            return None
        try:
            model = self.directory.merged(round_, self._notes(round_))
        except DamagedFile as error:
            self._watcher.say(f"{error}; merged again")
            return None
        if model is None:
            return None
        self._watcher.say(f"round {round_ + 1} of {self._config.rounds} was merged before")
        self._left_out += json.loads(model.notes[_LEFT_OUT])
        return model.arrays

    def _fit(self, round_: int, model: Arrays | None) -> list[str]:
        """Have every shard fitted; return the names of the solved jobs."""
        config = self._config
        make = {
            **self._make, "round": round_, "rounds": config.rounds, "initial_seed": config.seed,
        }  # fmt: skip
        works: dict[str, Callable[[], Work]] = {}
        checks: dict[str, Check] = {}
        for job, rows in enumerate(self._shards):
            seed = int(np.random.SeedSequence([config.seed, round_, job]).generate_state(1)[0])
            name = f"round-{round_ + 1:03d}-job-{job + 1:04d}"
            works[name] = partial(fit_work, make, rows, model, seed)
            checks[name] = partial(self._check_fit, len(rows.labels))
        asked = self._ask_all(works, checks.__getitem__)
        if model is not None:  # behind this round's jobs
            self._test_model(round_ - 1, model)
        futures = [future for future in asked.values() if future is not None]
        if len(futures) < len(asked):
            self._watcher.say(
                f"round {round_ + 1}: {plural(len(asked) - len(futures), 'job')} solved before"
            )
        failed = [
            future.name
            for future in self._completed(futures, round_, len(asked) - len(futures))
            if not self._has_come(future)
        ]
        return [name for name in asked if name not in failed]

    @property
    def _make(self) -> dict[str, Any]:
        """What a learner is made with, whatever the round."""
        return {name: getattr(self._config, name) for name in self._merger.options}

    def _check_fit(self, examples: int, solution: JobSolutionDataType) -> None:
        made = fitted(solution.metrics, solution.arrays)
        self._merger.check(made, self._form, examples, self._make)

    def _has_come(self, future: JobFuture) -> bool:
        """Whether a job was solved; raise if it was not and may not be left out."""
        try:
            _result_of(future)
        except JobFailed as error:
            if not self._config.partial:
                raise
            self._left_out.append(error.name)
            self._watcher.say(f"left out: {error}")
            return False
        return True

    def _merge(self, round_: int, names: list[str], before: Arrays | None) -> Arrays:
        if not names:
            raise NodeError(f"every job of round {round_ + 1} failed for good; see mnist-runs show")
        metrics: list[Mapping[str, float]] = []

        def noted() -> Iterator[Solution]:
            for name in names:
                self._interrupts.check()
                kept = self._kept(name)
                solution = fitted(kept.values, kept.arrays)
                metrics.append(solution.metrics)
                yield solution

        model = self._merger.merge(noted(), before)
        if isinstance(self._merger, CountingMerger):
            model = self._merger.weigh(model, self._count(self._merger, round_, model))
        left_out = [name for name in self._left_out if name.startswith(f"round {round_ + 1} ")]
        notes = {**self._notes(round_), _LEFT_OUT: json.dumps(left_out)}
        self.directory.write_merged(round_, self._model(model, notes))
        self._watcher.merged(round_, means(metrics))
        return model

    def _count(self, merger_: CountingMerger, round_: int, model: Arrays) -> npt.NDArray[np.int64]:
        """Return the sum of every shard's counts for a merged model."""
        if self._config.count == "main":
            return _sum(self._count_here(merger_, model, rows) for rows in self._shards)
        works: dict[str, Callable[[], Work]] = {}
        checks: dict[str, Check] = {}
        for job, rows in enumerate(self._shards):
            name = f"round-{round_ + 1:03d}-count-{job + 1:04d}"
            works[name] = partial(count_work, self._make, rows, model)
            checks[name] = partial(self._check_counts, merger_, model, len(rows.labels))
        asked = self._ask_all(works, checks.__getitem__)
        futures = [future for future in asked.values() if future is not None]
        here: set[str] = set()
        for future in self._completed(futures, round_, len(asked) - len(futures)):
            try:
                _result_of(future)
            except JobFailed as error:  # its shard is here too
                self._watcher.say(f"counted here: {error}")
                here.add(future.name)
        return _sum(
            self._count_here(merger_, model, rows)
            if name in here
            else self._kept(name).arrays["counts"]
            for name, rows in zip(asked, self._shards, strict=True)
        )

    def _count_here(
        self, merger_: CountingMerger, model: Arrays, rows: Shard
    ) -> npt.NDArray[np.int64]:
        self._interrupts.check()
        return merger_.count(model, rows)

    def _check_counts(
        self, merger_: CountingMerger, model: Arrays, rows: int, solution: JobSolutionDataType
    ) -> None:
        counted(solution.metrics, solution.arrays, merger_, model, rows)

    def _kept(self, name: str) -> Kept:
        """Return a solution that was on disk when it was accepted."""
        try:
            return self._memory.solution(name)
        except DamagedFile as error:
            raise StorageError(str(error)) from error

    def _model(self, arrays: Arrays, notes: Mapping[str, str]) -> Model:
        form = self._form
        target = self._config.target_digit
        of = {} if target is None else {"target": str(target)}
        size = (form.height, form.width)
        return Model(arrays, self._config.learner, size, form.classes, {**notes, **of})

    # Evaluation.

    def _test_model(self, round_: int, model: Arrays) -> None:
        """Have the test set predicted, while other things go on."""
        works: dict[str, Callable[[], Work]] = {}
        checks: dict[str, Check] = {}
        for part, images in enumerate(np.array_split(self._test.images, EVALUATION_JOBS), 1):
            if len(images):
                name = f"round-{round_ + 1:03d}-test-{part}"
                works[name] = partial(predict_work, self._make, model, images)
                checks[name] = partial(self._check_predicted, len(images))
        self._tests[round_] = self._ask_all(works, checks.__getitem__)

    def _check_predicted(self, rows: int, solution: JobSolutionDataType) -> Labels:
        return predicted(solution.metrics, solution.arrays, rows, self._form.classes)

    def _score_what_is_there(self) -> None:
        for round_, asked in list(self._tests.items()):
            if all(future is None or future.done() for future in asked.values()):
                del self._tests[round_]
                self._score(round_, asked)

    def _score(self, round_: int, asked: Mapping[str, JobFuture | None]) -> None:
        """Score a round's model by what was predicted: all of the test set, or with `partial` less.

        Raises:
            JobFailed: a part of it could not be predicted, or none of it.
        """
        truth = np.array_split(self._test.labels, EVALUATION_JOBS)
        labels, parts = [], []
        for name, true in zip(asked, truth, strict=False):
            future = asked[name]
            if future is None or self._has_come(future):
                labels.append(true)
                parts.append(self._kept(name).arrays["labels"])
            elif future is not None and len(labels) == 0 and name == list(asked)[-1]:
                _result_of(future)  # nothing is left to score
        if len(parts) < len(asked):
            rows = sum(map(len, labels))
            self._watcher.say(
                f"round {round_ + 1}: scored on {rows:,} of {len(self._test):,} test images"
            )
        none = [np.zeros(0, np.int64)]
        self._scores[round_] = score(
            np.concatenate(labels or none), np.concatenate(parts or none), self._test.classes
        )
        self._watcher.evaluated(round_, self._scores[round_])

    def _evaluate(self, model: Arrays) -> None:
        last = self._config.rounds - 1
        self._test_model(last, model)
        tests = [f for asked in self._tests.values() for f in asked.values() if f is not None]
        for _ in self._completed(tests, self._config.rounds, 0):
            continue
        self._score_what_is_there()

    def _finish(self, model: Arrays) -> Metrics:
        config, data = self._config, self._train
        path = self.directory.write_model(self._model(model, {}))
        last = self._scores[config.rounds - 1]
        metrics = {
            "run": self.directory.run_id,
            "data": {
                "source": config.data, "digest": data.digest, "rows": len(data),
                "sharding": config.sharding,
            },
            "target_digit": config.target_digit,
            "learner": config.learner, "jobs": config.jobs, "rounds": config.rounds,
            "nodes": self._database.solved_by(), "accuracy": last.accuracy,
            "macro_f1": last.macro_f1, "confusion": last.confusion,
            "examples": sum(len(rows.labels) for rows in self._shards),
            "accuracy_by_round": [self._scores[r].accuracy for r in range(config.rounds)],
            "seconds": self._clock.read(), "starts": self._memory.starts,
            "retries": self._database.failed_attempts(), "left_out": self._left_out,
            "model": str(path), "model_sha256": sha256(model),
            "model_parts": self._merger.describe(model),
        }  # fmt: skip
        self.directory.write_metrics(metrics)
        self._database.state(accuracy=last.accuracy)
        self._node.tell(
            run=self.directory.run_id, rounds=config.rounds, accuracy=last.accuracy, done=True
        )
        return metrics


def _result_of(future: JobFuture) -> None:
    """See that a job was solved.

    Raises:
        JobFailed: it was not, told in people's words.
    """
    try:
        future.result()
    except JobFailed as error:
        raise JobFailed(error.job_id, error.story, _title(future.name)) from None


def _sum(counts: Iterable[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return the sum of arrays, one of them in memory at a time."""
    each = iter(counts)
    total = next(each).copy()
    for more in each:
        total += more
    return total


def means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number that every one of some solutions has."""
    shared = [name for name in metrics[0] if all(name in each for each in metrics)]
    return {name: float(np.mean([each[name] for each in metrics])) for name in shared}


def _title(name: str) -> str:
    """Return `round 1 job 2` for `round-001-job-0002`."""
    words = name.split("-")
    return " ".join(word.lstrip("0") or word for word in words)


class _Company:
    """Sees to it that a run without computing nodes says so, and does not wait for ever."""

    def __init__(self, config: MainConfig, address: str, watcher: Watcher) -> None:
        self.invitation = invitation(address, config.domain, config.keys, config.announce)
        self._limit = config.timeout_seconds
        self._watcher = watcher
        self._alone_since: float | None = None
        self._begun = False
        self._misfit = ""

    def check(self, view: View, wanted: int) -> None:
        now, nodes = time.monotonic(), len(view.nodes)
        if view.misfit != self._misfit:
            self._misfit = view.misfit
            if view.misfit:
                self._watcher.say(f"no computing node here takes what is left: {view.misfit}")
        if nodes >= wanted and not view.misfit:
            self._alone_since = None
            self._begun = True
            return
        if self._alone_since is None:
            self._alone_since = now
            if self._begun and not nodes:
                self._watcher.say(f"no computing node is left; {self.invitation}")
        if self._limit is not None and now - self._alone_since >= self._limit:
            missing = view.misfit or f"{nodes} of {wanted} computing nodes"
            raise NoNode(f"{missing} after {self._limit:g} s; {self.invitation}")


def invitation(address: str, domain: int, keys: str | None = None, announced: bool = False) -> str:
    """Return the sentence that says how to start computing nodes for a main node."""
    import socket

    host, _, port = address.removeprefix("tcp://").rpartition(":")
    flag = f" --domain {domain}" if domain else ""
    if keys is not None:
        flag += " --keys DIR"
    if host in ("0.0.0.0", "[::]", "*"):
        address = f"tcp://{socket.gethostname()}:{port}"
    way = "--discover" if announced else f"--connect {address}"
    sentence = f"start computing nodes: mnist-compute {way}{flag}"
    if announced and keys is None and host not in ("127.0.0.1", "[::1]", "localhost"):
        sentence += f" --insecure (or --connect {address})"
    elif host in ("127.0.0.1", "[::1]", "localhost"):
        sentence += f" (on this machine; for other hosts --bind tcp://0.0.0.0:{port} --keys DIR)"
    elif keys is not None:
        sentence += f" (DIR: a copy of {Path(keys) / 'nodes'}/NAME)"
    return sentence
