"""What a node can be asked: to fit, to predict, to try a learner out; a learner may bring more.

An action is made at the main node, packed into plain values and arrays that any transport can
carry, unpacked and performed at a node, and what came of it, from whomever, is read at the main
node again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import xxhash

from loaders.errors import CorruptDataset
from loaders.rows import Array, Arrays, ArraySource, Form, Labels, Rows, bytes_of
from protocol.options import carried

from . import merging
from .contract import Cancelled, Learner, Progress, Solution, Turn, check_parameters
from .errors import Diverged, LearningError, UnfitData, UnfitSolution
from .layout import OWN, Layout, check_fresh, check_kept
from .merging.strategy import Client, Strategy
from .own import kinds
from .own.code import Code
from .own.kinds import OWN_CODE, told_of_code
from .registry import create_carried, create_from

#: Plain values by name.
Values = Mapping[str, object]
Answer = tuple[dict[str, object], dict[str, Array]]
Self = TypeVar("Self", bound="Action")

#: Metrics of a solution; more, or such as can't be shown, are none.
_MOST_METRICS, _METRIC_LETTERS = 32, 64
_MOST = 1e300
#: The arrays in which a user's code travels with a job: the learner's, and the strategy's.
CODE, MERGE_CODE = "code", "merge_code"
#: Rows that a learner is tried out on.
TRIAL_ROWS = 16


class Work(NamedTuple):
    """An action as plain values and arrays.

    Args:
        values: by name.
        arrays: by name, but for those of rows.
        rows: that it is about.
        labels: whether the labels of the rows go with them.
    """

    values: Values
    arrays: Arrays
    rows: Rows
    labels: bool = True

    def told(self) -> dict[str, object]:
        """Return the values, and what the rows are."""
        return {**self.values, "form": self.rows.form.as_values(), "rows": self.rows.digest}

    def carried(self) -> dict[str, Array]:
        """Return all arrays, those of the rows read now."""
        fields = self.rows.read()
        labels = {"label": self.rows.labels} if self.labels else {}
        return {**under("row", fields), **labels, **self.arrays}


class Action:
    """One thing that a node can be asked."""

    name: ClassVar[str]

    @property
    def code(self) -> Code | None:
        """A user's code that it needs at a node, beside the learner's; None: it needs none."""
        return None

    def pack(self) -> Work:
        """Return it as plain values and arrays."""
        raise NotImplementedError

    @classmethod
    def unpack(cls: type[Self], values: Values, arrays: Arrays) -> Self:
        """Return what was packed, from whomever.

        Raises:
            LearningError: it is no such action.
            KeyError: something is missing.
        """
        raise NotImplementedError

    def perform(self, learner: Learner, progress: Progress, cancelled: Cancelled) -> Answer:
        """Do it, at a node; return what came of it.

        Raises:
            LearningError: the learner can't do it.
        """
        raise NotImplementedError

    def largest(self, learner: Learner) -> int | None:
        """Return how many bytes the arrays of an answer have, at most; None: nobody knows."""
        return None

    def read(self, learner: Learner, values: Values, arrays: Arrays) -> object:
        """Return what `perform` came to, from whomever.

        Raises:
            UnfitSolution: it is nothing that can have come of this.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Fit(Action):
    """Learn from a shard.

    Args:
        rows: the shard.
        start: the model to go on from.
        seed: of everything random.
        turn: where in the run it is.
        strategy: whose client part has a word; None: there is none.
        shared, own: the client part's arrays: of everybody, and of this shard.
        layout: of a fresh model that was begun; what comes back is checked by it.
    """

    name = "fit"
    rows: Rows
    start: Arrays
    seed: int
    turn: Turn
    strategy: Strategy | None = None
    shared: Arrays = field(default_factory=dict)
    own: Arrays = field(default_factory=dict)
    layout: Layout = field(default_factory=lambda: Layout({}))

    @property
    def code(self) -> Code | None:
        """The strategy's."""
        return None if self.strategy is None else self.strategy.code

    def pack(self) -> Work:
        """Return it as plain values and arrays."""
        values: dict[str, object] = {"seed": self.seed, "turn": asdict(self.turn)}
        if self.strategy is not None:
            values["merge"] = told(self.strategy)
        arrays = {
            **under("start", self.start), **under("shared", self.shared),
            **under("own", self.own),
        }  # fmt: skip
        return Work(values, arrays, self.rows)

    @classmethod
    def unpack(cls, values: Values, arrays: Arrays) -> Fit:
        """Return what was packed."""
        seed = values["seed"]
        check_parameters(seed=(seed, 0, 1 << 64))
        assert isinstance(seed, int)
        return cls(
            rows=rows_in(values, arrays), start=within("start", arrays), seed=seed,
            turn=turn(values), strategy=_strategy(values, arrays), shared=within("shared", arrays),
            own=within("own", arrays),
        )  # fmt: skip

    def perform(self, learner: Learner, progress: Progress, cancelled: Cancelled) -> Answer:
        """Have the learner learn."""
        return _answer(self._fit(learner, progress, cancelled))

    def _fit(self, learner: Learner, progress: Progress, cancelled: Cancelled) -> Solution:
        client: Client[object] | None = None
        if self.strategy is not None and self.strategy.client is not None:
            client = self.strategy.client(self.shared, self.own)
        solution: object = learner.fit(
            self.rows, self.start, seed=self.seed, progress=progress, cancelled=cancelled,
            client=client,
        )  # fmt: skip
        if not isinstance(solution, Solution):
            raise LearningError(
                f"the {learner.name} learner's fit returned {type(solution).__name__}, no Solution"
            )
        return solution

    def largest(self, learner: Learner) -> int:
        """Return how many bytes a solution has, at most."""
        return learner.largest(self.layout) + Layout(self.own).nbytes

    def read(self, learner: Learner, values: Values, arrays: Arrays) -> Solution:
        """Return the solution."""
        examples, metrics = _metrics(values)
        client = within("own", arrays)
        model = {name: a for name, a in arrays.items() if not name.startswith(OWN)}
        solution = Solution(model, examples, metrics, client, self.own, self.start)
        if examples != len(self.rows):
            raise UnfitSolution(f"it claims {examples} examples of a shard of {len(self.rows)}")
        learner.check(solution, self.layout, self.rows.form)
        if self.own and not client:
            raise UnfitSolution(
                "the learner has given the strategy no part in its steps: nothing of what that"
                " keeps of a shard has come back"
            )
        Layout(self.own).check(client, "what the strategy keeps of a shard")
        return solution


@dataclass(frozen=True, kw_only=True)
class Trial(Action):
    """Make a fresh model and take one step from it: what fails, fails before anything is begun.

    Args:
        rows: a few.
        turn: the first.
        strategy: that merges; None: nodes need not know it.
    """

    name = "trial"
    rows: Rows
    turn: Turn
    strategy: Strategy | None = None

    @property
    def code(self) -> Code | None:
        """The strategy's."""
        return None if self.strategy is None else self.strategy.code

    def pack(self) -> Work:
        """Return it as plain values and arrays."""
        merge = {} if self.strategy is None else {"merge": told(self.strategy)}
        return Work({"turn": asdict(self.turn), **merge}, {}, self.rows)

    @classmethod
    def unpack(cls, values: Values, arrays: Arrays) -> Trial:
        """Return what was packed."""
        strategy = _strategy(values, arrays)
        return cls(rows=rows_in(values, arrays), turn=turn(values), strategy=strategy)

    def perform(self, learner: Learner, progress: Progress, cancelled: Cancelled) -> Answer:
        """Make a fresh model, begin it, learn for a step, merge, predict; return the fresh one.

        Raises:
            UnfitData: the learner says that it can't learn from such data.
            LearningError: something failed, and what.
        """
        with _trying(f"the {learner.name} learner's fresh model"):
            initial = learner.initial(self.rows.form)
            check_fresh(initial)
        with _trying(f"the {learner.name} learner's beginning"):
            begun = learner.begin(initial, self.rows)
            check_fresh(begun)
        if self.strategy is None:
            model = self._step(learner, self._fit(begun)).arrays
        else:
            model = self._merged(learner, begun, self.strategy)
        with _trying(f"the {learner.name} learner's prediction"):
            predict = Predict(rows=self.rows, model=model, loss=learner.tells_loss)
            predict.read(learner, *predict.perform(learner, progress, cancelled))
        return {}, dict(initial)

    def _judge(self, learner: Learner, model: Arrays) -> float:
        return float(np.mean(learner.predict(model, self.rows) == self.rows.labels))

    def _merged(self, learner: Learner, begun: Arrays, strategy: Strategy) -> Arrays:
        """Return what a step comes to, merged."""
        merging_ = f"merging by {strategy.name!r}"
        with _trying(merging_):
            learned = learner.learned(begun)
            state = strategy.begin(learned)
            shared, own = strategy.shared(state), strategy.own(learned)
            for arrays in (state, shared, own):
                check_kept(arrays)
        fit = self._fit(begun, strategy=strategy, shared=shared, own=own)
        solution = self._step(learner, fit)
        with _trying(merging_):
            judge = partial(self._judge, learner)
            solutions = [solution] * strategy.fewest
            merged = merging.merge(strategy, solutions, begun, state, judge)
            check_kept(merged.model)
            check_kept(merged.state)
        return merged.model

    def _fit(self, begun: Arrays, **more: Any) -> Fit:
        """Return what a first job would be."""
        return Fit(
            rows=self.rows, start=begun, seed=0, turn=self.turn, layout=Layout(begun), **more
        )

    @staticmethod
    def _step(learner: Learner, fit: Fit) -> Solution:
        """Return what a learner that is stopped after a step came to."""
        stepped: list[float] = []
        with _trying(f"the {learner.name} learner's first step"):
            told_ = fit._fit(
                learner, lambda done, note="", /: stepped.append(done), lambda: bool(stepped)
            )
            return fit.read(learner, *_answer(told_))

    def read(self, learner: Learner, values: Values, arrays: Arrays) -> Arrays:
        """Return the fresh model."""
        if values:
            raise UnfitSolution("more than a fresh model")
        check_fresh(arrays)
        return arrays


class Predicted(NamedTuple):
    """What a model says of rows.

    Args:
        labels: of each row.
        loss: the mean over them; not a number where the learner tells none.
    """

    labels: Labels
    loss: float


@dataclass(frozen=True, kw_only=True)
class Predict(Action):
    """Predict the classes of rows.

    Args:
        rows: to be predicted.
        model: by name.
        loss: whether to say how much is lost, too.
    """

    name = "predict"
    rows: Rows
    model: Arrays
    loss: bool

    def pack(self) -> Work:
        """Return it as plain values and arrays."""
        return Work({"loss": self.loss}, under("start", self.model), self.rows, self.loss)

    @classmethod
    def unpack(cls, values: Values, arrays: Arrays) -> Predict:
        """Return what was packed."""
        loss = bool(values["loss"])
        return cls(rows=rows_in(values, arrays, loss), model=within("start", arrays), loss=loss)

    def perform(self, learner: Learner, progress: Progress, cancelled: Cancelled) -> Answer:
        """Have the learner predict."""
        if not self.loss:
            return {}, {"labels": learner.predict(self.model, self.rows)}
        labels, loss = learner.evaluate(self.model, self.rows)
        return {"loss": float(loss)} if math.isfinite(loss) else {}, {"labels": labels}

    def largest(self, learner: Learner) -> int:
        """Return how many bytes the labels have."""
        return 8 * len(self.rows)

    def read(self, learner: Learner, values: Values, arrays: Arrays) -> Predicted:
        """Return the labels, and the loss."""
        labels, rows, classes = arrays.get("labels"), len(self.rows), self.rows.classes
        if labels is None or labels.dtype != np.int64 or labels.shape != (rows,):
            was = "nothing" if labels is None else f"{labels.dtype} of shape {labels.shape}"
            raise UnfitSolution(f"no labels for {rows} rows, int64, but {was}")
        if values.keys() - {"loss"} or len(arrays) > 1:
            raise UnfitSolution("more than labels")
        if rows and not 0 <= labels.min() <= labels.max() < classes:
            raise UnfitSolution(f"labels outside of the {classes} classes")
        loss = values.get("loss", math.nan)
        if type(loss) is not float or abs(loss) > _MOST:
            raise UnfitSolution("the loss is no number, or none that can be")
        return Predicted(labels.astype(np.int64, copy=False), loss)


_EVERY: tuple[type[Action], ...] = (Fit, Trial, Predict)


def perform(
    learner: str, values: Values, arrays: Arrays, progress: Progress, cancelled: Cancelled
) -> Answer:
    """Do what a job asks for; return what came of it, as values and arrays.

    Raises:
        LearningError: it asks for nothing that this release knows, or the learner can't do it.
    """
    try:
        name, make = values["action"], values["make"]
        if not isinstance(make, Mapping):
            raise LearningError("a learner is made with options by name")
        when = turn(values) if "turn" in values else Turn()
        if learner == OWN_CODE:
            made = create_from(values["code"], arrays.get(CODE), make, when)
        else:
            made = create_carried(learner, make, when)
        for kind in (*_EVERY, *made.actions()):
            if kind.name == name:
                return kind.unpack(values, arrays).perform(made, progress, cancelled)
    except KeyError as error:
        raise LearningError(f"the job lacks {error}; are both sides of one release?") from error
    except CorruptDataset as error:
        raise LearningError(f"the rows of the job are none: {error}") from error
    raise LearningError(f"no action {name!r:.80}; are both sides of one release?")


def performed(learner: Learner, action: Action) -> object:
    """Return what an action comes to that is performed in this process."""
    values, arrays = action.perform(learner, lambda done, note="", /: None, lambda: False)
    return action.read(learner, values, arrays)


def digest(learner: str, make: Values, action: Action) -> str:
    """Return what tells an action from every other, in hexadecimal, however its rows travel."""
    work = action.pack()
    told_ = [learner, {**work.told(), "action": action.name, "make": dict(make)}]
    hash_ = xxhash.xxh3_128(json.dumps(told_, sort_keys=True).encode())
    for name in sorted(work.arrays):
        array = work.arrays[name]
        hash_.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        hash_.update(bytes_of(array))
    return hash_.hexdigest()


def told(strategy: Strategy) -> dict[str, object]:
    """Return a strategy as plain values."""
    made = carried(strategy.made)
    if strategy.code is not None:
        return {"code": told_of_code(strategy.code), "made": made}
    return {"name": strategy.name, "made": made}


def turn(values: Values) -> Turn:
    """Return where in a run a job is.

    Raises:
        LearningError: that is not told as it must be.
    """
    try:
        return Turn(**values["turn"])  # type: ignore[arg-type]
    except TypeError as error:
        raise LearningError(f"not a turn: {values['turn']!r:.80}") from error


def _strategy(values: Values, arrays: Arrays) -> Strategy | None:
    if "merge" not in values:
        return None
    merge = values["merge"]
    if not isinstance(merge, Mapping) or not isinstance(merge["made"], Mapping):
        raise LearningError(f"not a strategy: {merge!r:.80}")
    if "code" in merge:
        kind = kinds.finder.strategy(merge["code"], arrays.get(MERGE_CODE))
        return merging.create_of(kind, merge["made"])
    return merging.create(str(merge["name"]), merge["made"])


def rows_in(values: Values, arrays: Arrays, labels: bool = True) -> Rows:
    """Return the rows that came with a job, from whomever.

    Raises:
        CorruptDataset: they are none.
        KeyError: something is missing.
    """
    form, fields = Form.of_values(values["form"]), within("row", arrays)
    rows = max((len(array) for array in fields.values() if array.ndim), default=0)
    truth = arrays["label"] if labels else np.zeros(rows, np.int64)
    return Rows(ArraySource("the job", form, {"job": (fields, truth)}), "job")


def under(prefix: str, arrays: Arrays) -> dict[str, Array]:
    """Return arrays under names that `within` finds."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def within(prefix: str, arrays: Arrays) -> dict[str, Array]:
    """Return those arrays that were put `under` a name, as they were called."""
    prefix += "/"
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


@contextmanager
def _trying(what: str) -> Iterator[None]:
    """Say what failed where something does; that data can't be learned from says enough."""
    try:
        yield
    except MemoryError:  # which is the node's
        raise
    except UnfitData as error:
        raise UnfitData(str(error)) from error  # by this name whatever kind: the main node reads it
    except Exception as error:
        told = str(error)
        if not isinstance(error, LearningError):
            told = f"{type(error).__name__}: {told}"
        raise LearningError(f"{what}: {told}") from error


def _answer(solution: Solution) -> Answer:
    values: dict[str, object] = {name: float(value) for name, value in solution.metrics.items()}
    values["examples"] = int(solution.examples)
    return values, {**solution.arrays, **under("own", solution.client)}


def _metrics(values: Values) -> tuple[int, dict[str, float]]:
    """Return examples and metrics of a solution, from whomever."""
    examples = values.get("examples")
    if type(examples) is not int:
        raise UnfitSolution("a solution without a number of examples")
    numbers = {name: value for name, value in values.items() if name != "examples"}
    if len(numbers) > _MOST_METRICS:
        raise UnfitSolution(f"{len(numbers)} metrics, more than {_MOST_METRICS}")
    metrics = {}
    for name, value in numbers.items():
        if len(name) > _METRIC_LETTERS or not name.isprintable():
            raise UnfitSolution("a metric's name that can't be shown, or is too long")
        if type(value) not in (int, float) or not isinstance(value, int | float):
            raise UnfitSolution(f"metric {name!r} is no number")
        if _MOST < abs(value) < math.inf:
            raise UnfitSolution(f"metric {name!r} is no number that can be")
        if not math.isfinite(value):
            raise Diverged(
                f"metric {name!r} is not finite: its training diverged; try a smaller learning rate"
            )
        metrics[name] = float(value)
    return examples, metrics
