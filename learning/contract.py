"""What a learner is: one class, in a file that needs no more than what its users have.

The main node makes it too, and has no learner's library: what needs that is imported in the
methods that nodes call.

    class MyLearner(Learner):
        name, options = "mine", MyOptions

        def initial(self, form): ...
        def fit(self, rows, start, *, seed, progress, cancelled, client=None): ...
        def predict(self, model, rows): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .errors import UnknownLearner

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance

    from loaders.rows import Array, Arrays, Form, Labels, Rows

    from .actions import Action
    from .layout import Layout
    from .merging.strategy import Client
    from .model import Model
    from .own.code import Code


class Progress(Protocol):
    """Told how far a piece of work is."""

    def __call__(self, fraction: float, note: str = "", /) -> object:
        """Take the fraction done, 0 to 1, and what there is to say about it, in a line."""


#: Says whether to stop.
Cancelled = Callable[[], bool]
#: Has an action performed on every shard, and yields what came of each, checked, in order.
Ask = Callable[[Callable[["Rows"], "Action"]], Iterator[Any]]


@dataclass(frozen=True)
class Turn:
    """Where in a run a learner is to learn.

    Args:
        round: which one, from 0.
        rounds: how many there are.
        initial_seed: of a fresh model; one for the whole run.
    """

    round: int = 0
    rounds: int = 1
    initial_seed: int = 0

    def __post_init__(self) -> None:
        check_parameters(
            rounds=(self.rounds, 1, 10**9), round=(self.round, 0, self.rounds - 1),
            initial_seed=(self.initial_seed, 0, 1 << 53),
        )  # fmt: skip


@dataclass(frozen=True)
class Solution:
    """What a learner made of one shard.

    Args:
        arrays: the model, by name.
        examples: rows that it was made from: its weight when merged.
        metrics: plain values about the making, e.g. `loss`.
        client: the shard's arrays as a strategy's client part returned them, by name.
        given: the same as they went with the job; the main node fills them in.
        start: the model that the job went on from, by name; the main node fills it in.
        part: which shard it is of, counted from 1; the main node fills it in.
    """

    arrays: Arrays
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    client: Arrays = field(default_factory=dict)
    given: Arrays = field(default_factory=dict)
    start: Arrays = field(default_factory=dict, repr=False, compare=False)
    part: int = 0


class Learner:
    """Learns from shards, apart from each other, in a way whose results can be merged.

    Args:
        made: what it is made with.
        turn: where in a run it is.
    """

    #: What it is called, and the dataclass of what it is made with.
    name: ClassVar[str]
    options: ClassVar[type[DataclassInstance]]
    #: What nodes say that they solve jobs of; empty: its name.
    kind: ClassVar[str] = ""
    #: The code of a user's that it is, by which a node finds it; None: it is installed.
    code: ClassVar[Code | None] = None
    #: The strategy that merges its solutions, unless another is asked for; as `--merge` names it.
    merging: ClassVar[str] = "mean"
    #: What its models are made of; a strategy merges what it knows.
    parts: ClassVar[str] = "numbers"
    #: How often shards are learned from and merged, unless somebody says.
    rounds: ClassVar[int] = 5
    #: Whether `evaluate` says how much a model loses.
    tells_loss: ClassVar[bool] = False
    #: Whether a process in which it is prepared may be forked: False where it then has what can't
    #: be shared, a connection say. Where it has threads, or an accelerator open, none is.
    forks: ClassVar[bool] = True
    #: The kinds of devices that it can compute on (`devices.py`); the processor is always one.
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    #: Names of the files that `draw` writes.
    pictures: ClassVar[tuple[str, ...]] = ()

    def __init__(self, made: DataclassInstance | None = None, turn: Turn | None = None) -> None:
        self.made: DataclassInstance = self.options() if made is None else made
        self.turn = turn or Turn()

    @property
    def identity(self) -> str:
        """What tells it from every other: its name, and of a user's code the digest."""
        return self.name if self.code is None else f"{self.name}@{self.code.digest}"

    # At nodes.

    def prepare(self) -> None:
        """Do what takes long before the first job; called once in a process that will solve.

        Or in one from which others are forked that will: what is done here is done once for all
        places of a node.
        """

    def initial(self, form: Form) -> Arrays:
        """Return a fresh model for such data, the same for every shard and at every node.

        Raises:
            UnfitData: it can't learn from such data.
        """
        raise NotImplementedError

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard.

        Args:
            rows: the shard.
            start: the model to go on from.
            seed: of the order of rows and everything else that is random.
            progress: called now and then.
            cancelled: asked now and then; return early where it says so.
            client: the part of the strategy that has a word in each step; None: there is none.
        """
        raise NotImplementedError

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return a label for each row.

        Raises:
            ModelError: the model is not for such data.
        """
        raise NotImplementedError

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return a label for each row, and the mean loss; infinite if it has none.

        Raises:
            ModelError: the model is not for such data.
        """
        raise NotImplementedError

    def probabilities(self, model: Arrays, rows: Rows) -> Array | None:
        """Return how likely each class is for each row; None: it can't say.

        Returns:
            float64, shape (rows, classes), 0 to 1; the most likely is what `predict` says.

        Raises:
            ModelError: the model is not for such data.
        """
        return None

    def actions(self) -> tuple[type[Action], ...]:
        """Return what can be asked of nodes beside what every learner can do."""
        return ()

    # At the main node, where the learner's library may not be.

    def suited(
        self, form: Form, rows: int, shards: int, rounds: int | None
    ) -> tuple[DataclassInstance, int]:
        """Return what it is to be made with for some data, and how many rounds there are to be.

        What somebody has said stays as it is; asked again of what it returned, it returns that.

        Args:
            form: of the data.
            rows: that are learned from, in all.
            shards: that they are cut into.
            rounds: that somebody wants; None: nobody has said.

        Raises:
            LearningError: it can't learn from such data.
        """
        return self.made, self.rounds if rounds is None else rounds

    def data(self) -> str | None:
        """Return the data set that it names itself, as `--data` does; None: none."""
        return None

    def check_form(self, form: Form) -> None:
        """Raise unless it can learn from data of such a form.

        Raises:
            LearningError: it can't.
        """

    def check_data(self, rows: Rows) -> None:
        """Raise unless it can learn from the whole of some data.

        Raises:
            UnfitData: it can't; the rows are named.
        """

    def seen(self, rows: Rows) -> Array:
        """Return what it sees of each row, (n, anything): equal if it can't tell two apart."""
        import numpy as np

        fields = [rows.arrays[name] for name in sorted(rows.form.fields)]
        flat = [np.ascontiguousarray(each.reshape(len(rows), -1)) for each in fields]
        return np.concatenate([each.view(np.uint8) for each in flat], axis=1)

    def begin(self, model: Arrays, rows: Rows) -> Arrays:
        """Return a fresh model with what the whole data says; called once, before the first round.

        What it says, e.g. mean and deviation of each column, are arrays of the model like others:
        every job gets them, and a strategy merges them (the mean of equal arrays is equal to the
        bit). A run that is resumed asks again: equal rows must come to equal arrays. In the trial
        a node calls it with the trial's few rows.

        Args:
            model: fresh, as `initial` made it at a node.
            rows: all that the run learns from; read them some at a time where there may be many.

        Returns:
            What the first round goes on from; what solutions look like is taken from it.

        Raises:
            UnfitData: it can't learn from them.
        """
        return model

    def begun(self, model: Arrays) -> Arrays:
        """Return those of a model's arrays that `begin` has made of the whole data.

        Models of several runs are merged only where these are equal to the bit.
        """
        return {}

    def shaping(self) -> Mapping[str, object]:
        """Return the options that say what a model of it is, and not only how it learns.

        Models of several runs are merged only where these are equal; what arrays show needs not be
        among them. All of them, unless it says other.
        """
        from protocol.options import flat

        return flat(self.made)

    def learned(self, model: Arrays) -> Arrays:
        """Return those of a model's arrays that are learned, and not measured, as means are.

        A strategy that goes on beyond the mean does so with these, and takes the mean of the rest.
        """
        return model

    def largest(self, layout: Layout) -> int:
        """Return how many bytes the arrays of a solution have, at most, by a begun one's layout."""
        return layout.nbytes

    def check(self, solution: Solution, layout: Layout, form: Form) -> None:
        """Raise unless the arrays of a solution, from whomever, are a model's of such data.

        Args:
            solution: whatever came; how many examples it is of has been looked at.
            layout: of a fresh model that was begun.
            form: of the data.

        Raises:
            UnfitSolution: they are not, in words.
            Diverged: they are not finite.
        """
        layout.check(solution.arrays)

    def settle(self, model: Arrays, ask: Ask) -> Arrays:
        """Return a merged model as it is to be, with what the shards say of it.

        Args:
            model: as it was merged.
            ask: has one of `actions` performed on every shard.
        """
        return model

    def describe(self, model: Arrays) -> dict[str, object]:
        """Return plain values that say what a merged model is made of."""
        return {"weights": sum(array.size for array in model.values())}

    # For people.

    def made_of(self, parts: Mapping[str, object]) -> str:
        """Return what a model is made of, as `describe` says, in words."""
        return ", ".join(f"{count:,} {name}" for name, count in parts.items())

    def draw(
        self, model: Model, solutions: Iterable[tuple[int, int, Arrays]], folder: Path
    ) -> None:
        """Draw the `pictures` into a folder.

        Args:
            model: that a run ended with.
            solutions: that it was merged from: round, from 0, number of the job, from 1, arrays.
            folder: where to.

        Raises:
            OSError: they can't be written.
            LearningError: the model can't be read.
        """


def check_parameters(**bounds: tuple[object, float, float]) -> None:
    """Raise unless each value is a number from its least to its most.

    Args:
        bounds: by name: the value, and its bounds; whole ones where a whole number is wanted.

    Raises:
        UnknownLearner: one is not.
    """
    for name, (value, least, most) in bounds.items():
        kinds = (int,) if isinstance(least, int) else (int, float)
        fits = type(value) in kinds and isinstance(value, int | float) and least <= value <= most
        if not fits:
            raise UnknownLearner(f"{name} is {value!r:.40}; from {least} to {most} is possible")
