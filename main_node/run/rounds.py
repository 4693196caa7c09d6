"""The rounds of a run: shards are learned from, solutions merged, and the model goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from learning import DamagedFile, Layout, Solution, Turn, UnfitData
from learning import learner as learner_class
from learning.actions import TRIAL_ROWS, Action, Fit, Trial, performed
from learning.errors import told_of
from learning.layout import check_fresh, check_kept
from learning.merging import Merged, merge
from learning.model import Model
from learning.ways import distance
from loaders import Rows
from loaders.rows import Arrays
from protocol.wire.words import plural

from ..errors import JobFailed, NodeError, StorageError, TrialFailed
from ..store.directory import SOLUTIONS, RunDirectory
from .asking import Asked, Asking, has_failed, result_of
from .ending import Ending
from .evaluation import Evaluation
from .events import JobSolved, Listeners, RoundMerged, RoundWithdrawn
from .label import Label
from .leftout import LeftOut
from .progress import Progress
from .spec import RunSpec

#: In a merged model's notes: the jobs that it was merged without.
_LEFT_OUT = "left_out"
#: And the digest of the strategy's state beside it; and of what each shard goes on with: by part,
#: the round that it is of, and its digest.
_STATE, _CLIENTS = "state", "clients"
#: So begins what a node says where a learner can't learn from such data.
_UNFIT = f"{UnfitData.__name__}: "


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What is learned from, and how.

    Args:
        spec: of the run.
        rows: that it learns from.
        digests: what they are called by: by this release, and by the first.
        shards: what each job learns from.
    """

    spec: RunSpec
    rows: Rows
    digests: tuple[str, Callable[[], str]]
    shards: Sequence[Rows]

    def notes(self, round_: int) -> dict[str, str]:
        """Return what a round's model says of where it comes from."""
        return {"data": self.digests[0], "round": str(round_ + 1), "options": self.spec.text()}

    def is_of(self, round_: int, notes: Mapping[str, str]) -> bool:
        """Whether a model with such notes is that of a round."""
        this, first = self.digests
        same = notes.get("data") == this or notes.get("data") == first()
        return (
            same
            and notes.get("round") == str(round_ + 1)
            and self.spec.is_that_of(notes.get("options", ""))
        )

    def model(self, arrays: Arrays, notes: Mapping[str, str]) -> Model:
        """Return a merged model with what is needed to use it."""
        name = learner_class(self.spec.learner).name
        return Model(arrays, name, self.rows.form, self.spec.make, notes)


class _Round(NamedTuple):
    """What a round begins with.

    Args:
        number: from 0.
        model: to go on from.
        state: of the strategy.
    """

    number: int
    model: Arrays
    state: Arrays


class Rounds:
    """Sees a run through its rounds.

    Args:
        learning: what is learned from, and how.
        here: whether shards are asked about a merged model at the main node.
        left_out: the jobs that it goes on without.
        directory: keeps each round's model.
        resumed: whether an earlier start may have left some.
        asking: asks for jobs.
        evaluation: tries each round's model.
        progress: is told how far it is.
        listeners: are told what happens.
        check: called where the run may be interrupted; raises then.
        ending: says whether the run ends after a round.
    """

    def __init__(
        self,
        learning: Learning,
        here: bool,
        left_out: LeftOut,
        directory: RunDirectory,
        resumed: bool,
        asking: Asking,
        evaluation: Evaluation,
        progress: Progress,
        listeners: Listeners,
        check: Callable[[], object],
        ending: Ending,
    ) -> None:
        self._learning, self._here, self._left_out = learning, here, left_out
        self._strategy = learning.spec.strategy
        self._directory, self._resumed = directory, resumed
        self._asking, self._evaluation, self._progress = asking, evaluation, progress
        self._listeners, self._check, self._ending = listeners, check, ending
        #: A fresh model, as a node made it and the whole data began it, and how it is laid out.
        self._fresh: Arrays = {}
        self.layout: Layout | None = None
        #: What each shard goes on with: by part, the round that it is of, and its digest.
        self._clients: dict[int, tuple[int, str]] = {}
        #: How many rounds the run had, and models of the one under way that were judged.
        self.done = self._judged = 0
        #: What was said of each round, whether it is the last: that is asked once.
        self._over: dict[int, bool] = {}
        #: The last round that is merged, and its model, unless that is being tried.
        self._untried: tuple[int, Arrays] | None = None
        #: What the strategy tells of the run, once that is through.
        self.told: Mapping[str, object] = {}

    def run(self, phase: Callable[[str], Any]) -> Arrays:
        """Go through the rounds, and try their models; return the last one's.

        Args:
            phase: returns a context whose time counts as that of a phase.
        """
        with phase("training"):
            model = self._fresh = self._begin(self._try_out())
            if self._merges_here:
                self._try_merging()
        state = self._strategy.begin(self._learned)
        for number in range(self._learning.spec.rounds):
            round_ = _Round(number, model, state)
            merged = self._merged_before(number)
            if merged is None:
                with phase("training"):
                    fits = self._fit(round_)
                if fits is None:
                    break
                with phase("merging"):
                    merged = self._merge(round_, fits)
            elif self._ended(number - 1, wait=True):
                break
            self._try_last()
            (model, state), self.done = merged, number + 1
            self._progress.round, self._progress.done = self.done, 0
            self._untried = number, model
            if self._ending.asks:  # what it is worth decides
                self._try_last()
        with phase("evaluating"):
            self._progress.round = self._learning.spec.rounds
            self._try_last(whichever=True)
            self._evaluation.wait()
            self._ended(self.done - 1)
        self.told = self._told_by(state)
        return model

    @property
    def best(self) -> int:
        """Which of the rounds that were tried has the best model; the first of equals."""
        done = self._evaluation.done
        return max(sorted(done), key=lambda round_: done[round_].scores.accuracy)

    def model_of(self, round_: int) -> Arrays:
        """Return the model of a round that is merged.

        Raises:
            StorageError: it is not on the disk any more.
        """
        why = "it is gone from the run directory"
        try:
            model = self._directory.merged(round_, partial(self._learning.is_of, round_))
        except DamagedFile as error:
            model, why = None, str(error)
        if model is None:
            raise StorageError(f"the model of round {round_ + 1}: {why}; go on: it is merged again")
        return model.arrays

    def _try_out(self) -> Arrays:
        """Have a node make a fresh model and take one step; return it.

        Raises:
            UnfitData: its learner says that it can't learn from such data.
            TrialFailed: it can't: nothing has been begun.
        """
        learning = self._learning
        some = learning.shards[0].of(slice(0, TRIAL_ROWS))
        label = Label(0, "trial", 1)
        strategy = None if self._merges_here else self._strategy
        trial = Trial(rows=some, turn=learning.spec.turn(0), strategy=strategy)
        asked = self._asking.ask({label: trial}, self._check)
        for _ in self._asking.completed(asked):
            continue
        future = asked[label]
        if future is not None:
            try:
                result_of(label, future)
            except JobFailed as error:
                _raise_if_unfit(error)
                raise TrialFailed(error.job_id, error.story, error.name) from error
        fresh: Arrays = self._asking.answer(label, trial)
        return fresh

    def _begin(self, fresh: Arrays) -> Arrays:
        """Return a fresh model with what the whole data says.

        Raises:
            LearningError: the learner can't say it.
            LoaderError: the data can't be read.
        """
        self._check()
        spec = self._learning.spec
        learner = spec.learner_at(spec.turn(0))
        with told_of(f"the {learner.name} learner can't begin with this data"):
            model = learner.begin(fresh, self._learning.rows)
            check_fresh(model)
        self.layout = Layout(model)
        return model

    @property
    def _merges_here(self) -> bool:
        """Whether the strategy is a user's own that nodes need not have."""
        return self._strategy.code is not None and self._strategy.client is None

    def _try_merging(self) -> None:
        """Merge the fresh model with itself, as if no shard had learned anything.

        Raises:
            LearningError: the strategy can't.
        """
        fresh, strategy = self._fresh, self._strategy
        solutions = [
            Solution(fresh, len(rows), start=fresh, part=part)
            for part, rows in enumerate(self._learning.shards, 1)
        ]
        with told_of(f"merging by {strategy.name!r}"):
            state = strategy.begin(self._learned)
            merged = merge(strategy, solutions, fresh, state, lambda model: 0.0)
            check_kept(merged.state)
            if strategy.parts == "numbers":
                Layout(fresh).check(merged.model)

    @property
    def _learned(self) -> Arrays:
        """What of the fresh model is learned, and not measured."""
        learner = self._learning.spec.learner_at(self._learning.spec.turn(0))
        with told_of(f"the {learner.name} learner can't say what of a model it learns"):
            return learner.learned(self._fresh)

    def _try_last(self, whichever: bool = False) -> None:
        """Have the last round's model tried, unless it is: in places that others leave idle.

        Args:
            whichever: whether it is tried though it is none of those that are to be.
        """
        if self._untried is None:
            return
        number, model = self._untried
        spec = self._learning.spec
        due = (number + 1) % spec.validate_every == 0 or number + 1 == spec.rounds
        if due or whichever:
            self._evaluation.begin(number, model, self._check)
            self._untried = None

    def _ended(self, round_: int, wait: bool = False) -> bool:
        """Whether the run ends after a round, as far as that is known."""
        if not self._ending.asks or round_ < 0:
            return False
        if wait:
            self._evaluation.wait()
        evaluated = self._evaluation.done.get(round_)
        if evaluated is not None and round_ not in self._over:
            self._over[round_] = self._ending.after(round_, evaluated)
        return self._over.get(round_, False)

    def _stops(self, round_: int) -> bool:
        """Whether a round is waited for no more."""
        return self._ended(round_ - 1) or self._ending.is_late(round_)

    def _merged_before(self, round_: int) -> tuple[Arrays, Arrays] | None:
        """Return a round's model, and the state, if an earlier start of this run has merged it."""
        if not self._resumed:
            return None
        state: Arrays = {}
        try:
            model = self._directory.merged(round_, partial(self._learning.is_of, round_))
            if model is not None and model.notes.get(_STATE):
                state = self._directory.state(round_, model.notes[_STATE])
            clients = {} if model is None else _clients(model.notes.get(_CLIENTS, "{}"))
            for part, (of, digest) in clients.items():
                if of == round_:  # those of earlier rounds have been looked at
                    self._directory.client(of, part, digest)
        except DamagedFile as error:
            self._listeners.warn(f"{error}; merged again")
            return None
        if model is None:
            return None
        rounds = self._learning.spec.rounds
        self._listeners.note(f"round {round_ + 1} of {rounds} was merged before")
        self._left_out.titles += json.loads(model.notes[_LEFT_OUT])
        self._clients = clients
        return model.arrays, state

    def _fit(self, round_: _Round) -> dict[Label, Fit] | None:
        """Have every shard fitted; return the solved jobs, or None if the run is over before."""
        fits = {
            Label(round_.number, "job", part): self._for_shard(round_, part, rows)
            for part, rows in enumerate(self._learning.shards, 1)
        }
        number = round_.number
        if self._ending.is_late(number):
            self._asking.forget(fits)
            self._ending.too_late()
            return None
        asked = self._asking.ask(fits, self._check)
        self._try_last()
        before = sum(future is None for future in asked.values())
        if before:
            self._listeners.note(f"round {number + 1}: {plural(before, 'job')} solved before")
        self._progress.round, self._progress.done = number, before
        failed = set()
        for label in self._asking.completed(asked, partial(self._stops, number)):
            self._progress.done += 1
            if self._ended(number - 1, wait=has_failed(asked[label])):
                break  # whatever came of it
            if not self._has_come(label, asked):
                failed.add(label)
        late = self._progress.done < len(asked) and not self._ended(number - 1)
        if late or self._ended(number - 1, wait=True):  # the jobs of this round leave no trace
            if late:
                self._ending.too_late()
            self._asking.withdraw(asked)
            self._listeners.tell(RoundWithdrawn(round=number))
            return None
        return {label: fit for label, fit in fits.items() if label not in failed}

    def _for_shard(self, round_: _Round, part: int, rows: Rows) -> Fit:
        """Return what is asked for of a shard, counted from 1."""
        assert self.layout is not None
        spec, strategy = self._learning.spec, self._strategy
        entropy = np.random.SeedSequence([spec.plan.seed, round_.number, part - 1])
        with_client = strategy.client is not None
        return Fit(
            rows=rows, start=round_.model, seed=int(entropy.generate_state(1)[0]),
            turn=spec.turn(round_.number), strategy=strategy if with_client else None,
            shared=strategy.shared(round_.state) if with_client else {},
            own=self._own(part) if with_client else {}, layout=self.layout,
        )  # fmt: skip

    def _own(self, part: int) -> Arrays:
        """Return what a strategy keeps of a shard, as its last job left it."""
        if part not in self._clients:  # it has had no job yet
            return self._strategy.own(self._learned)
        try:
            of, digest = self._clients[part]
            return self._directory.client(of, part, digest)
        except DamagedFile as error:
            raise StorageError(f"{error}; go on, and round {of + 1} is merged again") from error

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

    def _merge(self, round_: _Round, fits: dict[Label, Fit]) -> tuple[Arrays, Arrays]:
        """Return the model that a round comes to, and the state after it."""
        number, learning = round_.number, self._learning
        self._judged = 0
        if not fits:
            raise NodeError(f"every job of round {number + 1} failed for good; see mnist-runs show")
        solutions = _Solutions(self._asking, fits, self._check)
        strategy = self._strategy
        judge = partial(self._judge, number)
        with _told_of(f"round {number + 1} can't be merged by {strategy.name!r}"):
            merged = merge(strategy, solutions, round_.model, round_.state, judge)
        model, state = merged.model, merged.state
        learner = learning.spec.learner_at(learning.spec.turn(number))
        with _told_of(f"round {number + 1} can't be settled by the {learner.name} learner"):
            model = learner.settle(model, partial(self._ask_all, number))
            check_kept(model)
        merged = merged._replace(model=model)
        if strategy.client is not None:
            for label, solution in zip(fits, solutions, strict=True):
                digest = self._directory.write_client(number, label.part, solution.client)
                self._clients[label.part] = number, digest
        notes = {
            **learning.notes(number), _LEFT_OUT: json.dumps(self._left_out.of(number)),
            _STATE: self._directory.write_state(number, state) if state else "",
            _CLIENTS: json.dumps(self._clients),
            SOLUTIONS: json.dumps(self._told(merged, solutions)),
        }  # fmt: skip
        self._directory.write_merged(number, learning.model(model, notes))
        self._listeners.tell(
            RoundMerged(
                round=number, means=MappingProxyType(means(list(solutions.metrics.values())))
            )
        )
        return model, state

    def _told(self, merged: Merged, solutions: _Solutions) -> list[dict[str, object]]:
        """Return what became of each solution, and say what is odd about one.

        By job: the node that it is from, how far it is from the merged model, where models are
        numbers, and how much of its way was taken, where it is not all.
        """
        told = []
        for place, (label, solution) in enumerate(zip(solutions.labels, solutions, strict=True)):
            node = solutions.nodes[label]
            each: dict[str, object] = {"job": label.part, "node": node}
            if self._strategy.parts == "numbers":
                each["distance"] = distance(solution.arrays, merged.model)
            if len(merged.taken) and merged.taken[place] != 1:
                each["taken"] = float(merged.taken[place])
            if place in merged.odd:
                self._listeners.warn(
                    f"round {label.round + 1}: the solution of job {label.part} by {node}"
                    f" {merged.odd[place]}"
                )
            told.append(each)
        return told

    def _told_by(self, state: Arrays) -> dict[str, object]:
        """Return what the strategy tells of the run: nothing where it fails in that."""
        try:
            told: dict[str, object] = json.loads(json.dumps(dict(self._strategy.tell(state))))
        except Exception as error:  # a model is there, and worth more
            what = f"{type(error).__name__}: {error}"
            self._listeners.warn(f"merging by {self._strategy.name!r} can't tell of it: {what}")
            return {}
        return told

    def _judge(self, round_: int, model: Arrays) -> float:
        """Return the accuracy of a model that might be the round's, on the rows kept aside."""
        self._judged += 1
        return self._evaluation.judge(round_, self._judged, model, self._check)

    # What a learner asks of every shard once there is a merged model.

    def _ask_all(self, round_: int, make: Callable[[Rows], Action]) -> Iterator[Any]:
        """Yield what an action on every shard came to, in order."""
        if self._here:
            for rows in self._learning.shards:
                yield self._done_here(make(rows))
            return
        actions = {}
        for part, rows in enumerate(self._learning.shards, 1):
            action = make(rows)
            actions[Label(round_, action.name, part)] = action
        asked = self._asking.ask(actions, self._check)
        here: set[Label] = set()
        for label in self._asking.completed(asked):
            future = asked[label]
            assert future is not None
            try:
                result_of(label, future)
            except JobFailed as error:  # its shard is here too
                self._listeners.warn(f"{label.kind} of shard {label.part} done here: {error}")
                here.add(label)
        for label, action in actions.items():
            yield self._done_here(action) if label in here else self._asking.answer(label, action)

    def _done_here(self, action: Action) -> Any:
        self._check()
        return performed(self._learning.spec.learner_at(Turn()), action)


def _raise_if_unfit(error: JobFailed) -> None:
    """Raise that data can't be learned from, if that is why a job failed wherever it was tried.

    Raises:
        UnfitData: it is; in the words of the learner.
    """
    told = [attempt.message for attempt in error.story]
    if all(message.startswith(_UNFIT) for message in told):
        raise UnfitData(told[-1].removeprefix(_UNFIT)) from error


def _clients(note: str) -> dict[int, tuple[int, str]]:
    return {int(part): (int(of), str(digest)) for part, (of, digest) in json.loads(note).items()}


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    """Tell what a strategy or a learner raises, whatever it is, with what it was about.

    Raises:
        NodeError: something was raised.
    """
    try:
        yield
    except (NodeError, MemoryError):
        raise
    except Exception as error:
        raise NodeError(f"{what}: {type(error).__name__}: {error}") from error


class _Solutions(Collection[Solution]):
    """The kept solutions of a round, read one at a time, as often as they are gone through."""

    def __init__(
        self, asking: Asking, fits: Mapping[Label, Fit], check: Callable[[], object]
    ) -> None:
        self._asking, self._fits, self._check = asking, fits, check
        #: What they say of themselves, as far as they have been read, and who they are from.
        self.metrics: dict[Label, Mapping[str, float]] = {}
        self.nodes: dict[Label, str] = {}

    @property
    def labels(self) -> tuple[Label, ...]:
        """Of which jobs they are, in order."""
        return tuple(self._fits)

    def __len__(self) -> int:
        return len(self._fits)

    def __contains__(self, solution: object) -> bool:
        return any(each is solution for each in self)

    def __iter__(self) -> Iterator[Solution]:
        for label, fit in self._fits.items():
            self._check()
            solution, self.nodes[label] = self._asking.told(label, fit)
            self.metrics[label] = solution.metrics
            yield replace(solution, part=label.part)


def means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number that every one of some solutions has."""
    shared = [name for name in metrics[0] if all(name in each for each in metrics)]
    return {name: float(np.mean([each[name] for each in metrics])) for name in shared}
