"""The rounds of a run: shards are learned from, solutions merged, and the model goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from learning import Arrays, CountingMerger, DamagedFile, Form, Merger, Shard, Solution
from learning.model import Model
from learning.work import count_work, counted, fit_work, fitted
from protocol import JobSolutionDataType
from protocol.wire.words import plural

from ..errors import JobFailed, NodeError
from ..store.directory import RunDirectory
from .asking import Asked, Asking, Request, has_failed, result_of
from .evaluation import Evaluated, Evaluation
from .events import JobSolved, Listeners, RoundMerged, RoundWithdrawn
from .label import Label
from .leftout import LeftOut
from .progress import Progress
from .spec import RunSpec

#: In a merged model's notes: the jobs that it was merged without.
_LEFT_OUT = "left_out"


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What is learned from, and how.

    Args:
        spec: of the run.
        digest: of the data.
        form: of the images.
        shards: what each job learns from.
        merger: of the learner.
    """

    spec: RunSpec
    digest: str
    form: Form
    shards: Sequence[Shard]
    merger: Merger

    def notes(self, round_: int) -> dict[str, str]:
        """Return what a round's model says of where it comes from."""
        return {"data": self.digest, "round": str(round_ + 1), "options": self.spec.text()}

    def is_of(self, round_: int, notes: Mapping[str, str]) -> bool:
        """Whether a model with such notes is that of a round."""
        same = notes.get("data") == self.digest and notes.get("round") == str(round_ + 1)
        return same and self.spec.is_that_of(notes.get("options", ""))

    def model(self, arrays: Arrays, notes: Mapping[str, str]) -> Model:
        """Return a merged model with what is needed to use it."""
        target = self.spec.data.target_digit
        of = {} if target is None else {"target": str(target)}
        size = (self.form.height, self.form.width)
        return Model(arrays, self.spec.learner, size, self.form.classes, {**notes, **of})


class Rounds:
    """Sees a run through its rounds.

    Args:
        learning: what is learned from, and how.
        count: where a counting merger's counts are made: `main`, or `nodes`.
        left_out: the jobs that it goes on without.
        directory: keeps each round's model.
        resumed: whether an earlier start may have left some.
        asking: asks for jobs.
        evaluation: tries each round's model.
        progress: is told how far it is.
        listeners: are told what happens.
        check: called where the run may be interrupted; raises then.
        is_over: whether the run ends after a round whose model is worth this, asked once of each;
            never unless given.
    """

    def __init__(
        self,
        learning: Learning,
        count: str,
        left_out: LeftOut,
        directory: RunDirectory,
        resumed: bool,
        asking: Asking,
        evaluation: Evaluation,
        progress: Progress,
        listeners: Listeners,
        check: Callable[[], object],
        is_over: Callable[[int, Evaluated], bool] | None = None,
    ) -> None:
        self._learning, self._counts_at, self._left_out = learning, count, left_out
        self._directory, self._resumed = directory, resumed
        self._asking, self._evaluation, self._progress = asking, evaluation, progress
        self._listeners, self._check, self._is_over = listeners, check, is_over
        #: How many rounds the run had.
        self.done = 0
        #: What `is_over` said of each round: it is asked once.
        self._over: dict[int, bool] = {}
        #: Has the last round's model tried: in places that the next one's jobs leave idle.
        self._untried: Callable[[], None] | None = None

    def run(self, phase: Callable[[str], Any]) -> Arrays:
        """Go through the rounds, and try each model; return the last one's.

        Args:
            phase: returns a context whose time counts as that of a phase.
        """
        model: Arrays | None = None
        for round_ in range(self._learning.spec.plan.rounds):
            merged = self._merged_before(round_)
            if merged is None:
                with phase("training"):
                    names = self._fit(round_, model)
                if names is None:
                    break
                with phase("merging"):
                    merged = self._merge(round_, names, model)
            elif self._ended(round_ - 1, wait=True):
                break
            self._try_last()
            model, self.done = merged, round_ + 1
            self._progress.round, self._progress.done = self.done, 0
            self._untried = partial(self._evaluation.begin, round_, model, self._check)
            if self._is_over is not None:  # what it is worth decides
                self._try_last()
        assert model is not None
        with phase("evaluating"):
            self._progress.round = self._learning.spec.plan.rounds
            self._try_last()
            self._evaluation.wait()
        return model

    def _try_last(self) -> None:
        """Have the last round's model tried, unless it is."""
        if self._untried is not None:
            self._untried()
            self._untried = None

    def _ended(self, round_: int, wait: bool = False) -> bool:
        """Whether the run ends after a round, as far as that is known."""
        if self._is_over is None or round_ < 0:
            return False
        if wait:
            self._evaluation.wait()
        evaluated = self._evaluation.done.get(round_)
        if evaluated is not None and round_ not in self._over:
            self._over[round_] = self._is_over(round_, evaluated)
        return self._over.get(round_, False)

    def _merged_before(self, round_: int) -> Arrays | None:
        """Return a round's model if an earlier start of this run has merged it."""
        if not self._resumed:
            return None
        try:
            model = self._directory.merged(round_, partial(self._learning.is_of, round_))
        except DamagedFile as error:
            self._listeners.warn(f"{error}; merged again")
            return None
        if model is None:
            return None
        rounds = self._learning.spec.plan.rounds
        self._listeners.note(f"round {round_ + 1} of {rounds} was merged before")
        self._left_out.titles += json.loads(model.notes[_LEFT_OUT])
        return model.arrays

    def _fit(self, round_: int, model: Arrays | None) -> list[Label] | None:
        """Have every shard fitted; return the solved jobs, or None if the run is over before."""
        spec = self._learning.spec
        make = {
            **spec.make, "round": round_, "rounds": spec.plan.rounds,
            "initial_seed": spec.plan.seed,
        }  # fmt: skip
        requests = {}
        for part, rows in enumerate(self._learning.shards):
            entropy = np.random.SeedSequence([spec.plan.seed, round_, part])
            seed = int(entropy.generate_state(1)[0])
            requests[Label(round_, "job", part + 1)] = Request(
                partial(fit_work, make, rows, model, seed),
                partial(self._check_fit, len(rows.labels)),
            )
        asked = self._asking.ask(requests, self._check)
        self._try_last()
        before = sum(future is None for future in asked.values())
        if before:
            self._listeners.note(f"round {round_ + 1}: {plural(before, 'job')} solved before")
        self._progress.round, self._progress.done = round_, before
        failed = set()
        for label in self._asking.completed(asked):
            self._progress.done += 1
            if self._ended(round_ - 1, wait=has_failed(asked[label])):
                break  # whatever came of it
            if not self._has_come(label, asked):
                failed.add(label)
        if self._ended(round_ - 1, wait=True):  # the jobs of this round leave no trace
            self._asking.withdraw(asked)
            self._listeners.tell(RoundWithdrawn(round=round_))
            return None
        return [label for label in asked if label not in failed]

    def _check_fit(self, examples: int, solution: JobSolutionDataType) -> None:
        made = fitted(solution.metrics, solution.arrays)
        learning = self._learning
        learning.merger.check(made, learning.form, examples, learning.spec.make)

    def _has_come(self, label: Label, asked: Asked) -> bool:
        """Whether a job was solved; raise if it was not and may not be left out."""
        future = asked[label]
        assert future is not None
        try:
            node = result_of(label, future)
        except JobFailed as error:
            self._left_out.add(label, error)
            return False
        self._listeners.tell(JobSolved(label=label, node=node))
        return True

    def _merge(self, round_: int, labels: list[Label], before: Arrays | None) -> Arrays:
        if not labels:
            raise NodeError(f"every job of round {round_ + 1} failed for good; see mnist-runs show")
        metrics: list[Mapping[str, float]] = []
        learning = self._learning
        model = learning.merger.merge(self._solutions(labels, metrics), before)
        if isinstance(learning.merger, CountingMerger):
            model = learning.merger.weigh(model, self._count(learning.merger, round_, model))
        left_out = json.dumps(self._left_out.of(round_))
        notes = {**learning.notes(round_), _LEFT_OUT: left_out}
        self._directory.write_merged(round_, learning.model(model, notes))
        self._listeners.tell(RoundMerged(round=round_, means=MappingProxyType(means(metrics))))
        return model

    def _solutions(
        self, labels: list[Label], metrics: list[Mapping[str, float]]
    ) -> Iterator[Solution]:
        """Yield kept solutions; what they say of themselves is added to `metrics`."""
        for label in labels:
            self._check()
            kept = self._asking.kept(label)
            solution = fitted(kept.values, kept.arrays)
            metrics.append(solution.metrics)
            yield solution

    # What a counting merger wants.

    def _count(self, merger: CountingMerger, round_: int, model: Arrays) -> npt.NDArray[np.int64]:
        """Return the sum of every shard's counts for a merged model."""
        shards = self._learning.shards
        if self._counts_at == "main":
            return _sum(self._count_here(merger, model, rows) for rows in shards)
        requests = {
            Label(round_, "count", part): Request(
                partial(count_work, self._learning.spec.make, rows, model),
                partial(self._check_counts, merger, model, len(rows.labels)),
            )
            for part, rows in enumerate(shards, 1)
        }
        asked = self._asking.ask(requests, self._check)
        here: set[Label] = set()
        for label in self._asking.completed(asked):
            future = asked[label]
            assert future is not None
            try:
                result_of(label, future)
            except JobFailed as error:  # its shard is here too
                self._listeners.warn(f"counted here: {error}")
                here.add(label)
        return _sum(
            self._count_here(merger, model, rows)
            if label in here
            else self._asking.kept(label).arrays["counts"]
            for label, rows in zip(asked, shards, strict=True)
        )

    def _count_here(
        self, merger: CountingMerger, model: Arrays, rows: Shard
    ) -> npt.NDArray[np.int64]:
        self._check()
        return merger.count(model, rows)

    def _check_counts(
        self, merger: CountingMerger, model: Arrays, rows: int, solution: JobSolutionDataType
    ) -> None:
        counted(solution.metrics, solution.arrays, merger, model, rows)


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
