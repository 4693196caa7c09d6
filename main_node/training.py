"""Training as a program on top of the main node: shard, send, merge, again; then say how good.

The main node merges and counts, and leaves everything that needs the learner's library to the
computing nodes: they predict the test set too, in the places that training leaves idle.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from learning import Arrays, Shard, Solution, merger
from learning.merging import sha256
from learning.metrics import Scores, score
from learning.model import Model
from learning.work import Work, fit_work, fitted, predict_work, predicted
from loaders import load, shard
from protocol import JobDataType
from protocol.views import View

from .config import MainConfig
from .errors import NoNode
from .local import LocalNodes
from .node import AsyncMainNode, JobFuture
from .rundir import RunDirectory

#: The test set is predicted in so many jobs, whoever does them.
EVALUATION_JOBS = 4
LOOK_SECONDS = 0.25


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

    def merged(self, round_: int, loss: float) -> None:
        """A round is merged; the mean loss of its jobs."""

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


@dataclass(frozen=True)
class Result:
    """A finished run: what `--json` prints, and each round's accuracy for the curve."""

    metrics: dict[str, Any]
    curve: list[float]
    directory: Path


class Training:
    """One run of distributed training; it listens from the moment it is made.

    Args:
        config: its options.
        watcher: told how it goes.

    Raises:
        LoaderError: the data.
        LearningError: no such learner.
        ConfigError: the run directory.
        AddressError: the address to bind.
    """

    def __init__(self, config: MainConfig, watcher: Watcher) -> None:
        self._config = config
        self._watcher = watcher
        self._clock = Clock()
        with self._clock.phase("setup"):
            self._merger = merger(config.learner)
            self._train = load(config.data, "train", config.limit, watcher.say)
            self._test = load(config.data, "test", None, watcher.say)
            self._shards = self._cut()
            self._node = AsyncMainNode(
                "main", config.domain, address=config.bind, learners=(config.learner,)
            )
            self.directory = self._open_directory()
        self._company = _Company(config, self._node.address, watcher)
        self._locals: LocalNodes | None = None
        self._solved: Counter[str] = Counter()
        self._titles: dict[int, str] = {}
        self._tests: dict[int, list[JobFuture]] = {}  # by round, not scored yet
        self._scores: dict[int, Scores] = {}

    def _cut(self) -> list[Shard]:
        data, config = self._train, self._config
        cut = shard(data.labels, config.jobs, config.sharding, config.seed)
        return [Shard(data.images[rows], data.labels[rows], data.classes) for rows in cut]

    def _open_directory(self) -> RunDirectory:
        try:
            directory = RunDirectory(Path(self._config.run_dir))
            directory.write_config(self._config.as_yaml())
        except BaseException:
            self._node.close()
            raise
        return directory

    def describe(self) -> str:
        """Return what is about to be done, and where, in two lines."""
        config = self._config
        return (
            f"{config.data}: {len(self._train):,} images, {plural(config.jobs, 'job')}"
            f" ({config.sharding}), {plural(config.rounds, 'round')} of"
            f" {plural(config.epochs, 'epoch')}\n"
            f"listening at {self._node.address}, run directory {self.directory.path}"
        )

    def run(self) -> Result:
        """Train, merge and evaluate; leave everything in the run directory.

        Raises:
            JobFailed: a job failed for good.
            NoNode: no computing node in time.
            NodeError: local nodes end time and again.
        """
        try:
            return self._run()
        finally:
            self._node.close()
            if self._locals is not None:
                self._locals.stop()

    def _run(self) -> Result:
        config, clock = self._config, self._clock
        with clock.phase("setup"):
            self._gather()
        model: Arrays | None = None
        for round_ in range(config.rounds):
            with clock.phase("training"):
                self._fit(round_, model)
            with clock.phase("merging"):
                model = self._merge(round_)
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
                self._watcher.say,
            )  # fmt: skip
        if config.local_nodes < config.min_nodes:
            self._watcher.say(self._company.invitation)
        while True:
            try:
                return self._node.wait_for_nodes(config.min_nodes, LOOK_SECONDS)
            except NoNode:
                self._look(-1, 0)

    def _look(self, round_: int, done: int) -> None:
        view = self._node.view()
        self._watcher.look(Standing(round_, done, view, self._titles))
        if self._locals is not None:
            self._locals.check()
        self._company.check(len(view.nodes), self._config.min_nodes if round_ < 0 else 1)

    # Rounds.

    def _fit(self, round_: int, model: Arrays | None) -> None:
        """Have every shard fitted, and keep the solutions."""
        config = self._config
        make = {
            "threads": config.threads, "epochs": config.epochs, "batch_size": config.batch_size,
            "lr": config.lr, "round": round_, "rounds": config.rounds,
            "initial_seed": config.seed,
        }  # fmt: skip
        jobs: dict[JobFuture, int] = {}
        for job, rows in enumerate(self._shards):
            seed = int(np.random.SeedSequence([config.seed, round_, job]).generate_state(1)[0])
            title = f"round {round_ + 1} job {job + 1}"
            jobs[self._submit(title, fit_work(make, rows, model, seed))] = job
        if model is not None:  # behind this round's jobs
            self._test_model(round_ - 1, model)
        for future in self._completed(list(jobs), round_):
            solution = future.result()
            self.directory.write_solution(
                round_, jobs[future], fitted(solution.metrics, solution.arrays)
            )
            self._solved[future.server_id] += 1

    def _submit(self, title: str, work: Work) -> JobFuture:
        values, arrays = work
        future = self._node.submit(JobDataType(arrays, values, learner=self._config.learner))
        self._titles[future.job_id] = title
        return future

    def _completed(self, futures: list[JobFuture], round_: int) -> Iterator[JobFuture]:
        """Yield futures as they complete, looking on meanwhile."""
        pending = set(futures)
        while pending:
            wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
            done = {future for future in pending if future.done()}
            pending -= done
            yield from done
            self._look(round_, len(futures) - len(pending))
            self._score_what_is_there()

    def _merge(self, round_: int) -> Arrays:
        losses: list[float] = []

        def noted() -> Iterator[Solution]:
            for solution in self.directory.solutions(round_, self._config.jobs):
                losses.append(solution.metrics.get("loss", float("nan")))
                yield solution

        model = self._merger.merge(noted())
        self._watcher.merged(round_, float(np.mean(losses)))
        return model

    # Evaluation.

    def _test_model(self, round_: int, model: Arrays) -> None:
        """Have the test set predicted, while other things go on."""
        make = {"threads": self._config.threads}
        self._tests[round_] = [
            self._submit(f"round {round_ + 1} test", predict_work(make, model, images))
            for images in np.array_split(self._test.images, EVALUATION_JOBS)
            if len(images)
        ]

    def _score_what_is_there(self) -> None:
        for round_ in [r for r, futures in self._tests.items() if all(f.done() for f in futures)]:
            parts = [future.result().arrays for future in self._tests.pop(round_)]
            labels = predicted(parts, len(self._test))
            self._scores[round_] = score(self._test.labels, labels, self._test.classes)
            self._watcher.evaluated(round_, self._scores[round_])

    def _evaluate(self, model: Arrays) -> None:
        last = self._config.rounds - 1
        self._test_model(last, model)
        tests = [future for futures in self._tests.values() for future in futures]
        for _ in self._completed(tests, self._config.rounds):
            continue

    def _finish(self, model: Arrays) -> Result:
        config, data = self._config, self._train
        height, width = data.images.shape[1:]
        path = self.directory.write_model(
            Model(model, config.learner, (height, width), data.classes)
        )
        last = self._scores[config.rounds - 1]
        metrics = {
            "run": self.directory.run_id,
            "data": {
                "source": config.data, "digest": data.digest, "rows": len(data),
                "sharding": config.sharding,
            },
            "learner": config.learner, "jobs": config.jobs, "rounds": config.rounds,
            "nodes": dict(sorted(self._solved.items())), "accuracy": last.accuracy,
            "macro_f1": last.macro_f1, "confusion": last.confusion,
            "examples": sum(len(rows.labels) for rows in self._shards),
            "seconds": self._clock.read(), "retries": self._node.view().retries,
            "model": str(path), "model_sha256": sha256(model),
        }  # fmt: skip
        self.directory.write_metrics(metrics)
        curve = [self._scores[round_].accuracy for round_ in range(config.rounds)]
        return Result(metrics, curve, self.directory.path)


class _Company:
    """Sees to it that a run without computing nodes says so, and does not wait for ever."""

    def __init__(self, config: MainConfig, address: str, watcher: Watcher) -> None:
        self.invitation = invitation(address, config.domain)
        self._limit = config.timeout_seconds
        self._watcher = watcher
        self._alone_since: float | None = None
        self._begun = False

    def check(self, nodes: int, wanted: int) -> None:
        now = time.monotonic()
        if nodes >= wanted:
            self._alone_since = None
            self._begun = True
            return
        if self._alone_since is None:
            self._alone_since = now
            if self._begun:
                self._watcher.say(f"no computing node is left; {self.invitation}")
        if self._limit is not None and now - self._alone_since >= self._limit:
            raise NoNode(
                f"{nodes} of {wanted} computing nodes after {self._limit:g} s; {self.invitation}"
            )


def plural(count: int, noun: str) -> str:
    """Return `3 jobs`, or `1 job`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def invitation(address: str, domain: int) -> str:
    """Return the sentence that says how to start computing nodes for a main node."""
    import socket

    host, _, port = address.removeprefix("tcp://").rpartition(":")
    flag = f" --domain {domain}" if domain else ""
    if host in ("0.0.0.0", "[::]", "*"):
        address = f"tcp://{socket.gethostname()}:{port}"
    sentence = f"start computing nodes: mnist-compute --connect {address}{flag}"
    if host in ("127.0.0.1", "[::1]", "localhost"):
        sentence += f" (on this machine; for other hosts --bind tcp://0.0.0.0:{port})"
    return sentence
