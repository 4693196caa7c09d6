"""What a strategy of merging is: one class, in a file here, found by its `name`.

    class MyStrategy(Strategy):
        name = "mine"

        def merge(self, solutions, before, state): ...      # -> Merged(model, state)

What is large is imported where it is used: every command looks at what strategies there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from protocol.options import Checked, flat

from ..errors import MergeError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from loaders.rows import Array, Arrays

    from ..contract import Solution
    from ..own.code import Code

#: An array of the kind that a learner computes with; it can be added, multiplied, and so on.
T = TypeVar("T")
NOTHING: Mapping[str, Array] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class NoOptions(Checked):
    """A strategy that has none."""


class Client(Generic[T]):
    """The part of a strategy that has a word in each step of a learner, at a node.

    Args:
        shared: arrays that go with every job of a round.
        own: arrays of the shard, as they came back from its last job.
    """

    def __init__(self, shared: Arrays, own: Arrays) -> None:
        self._shared_as_told, self._own_as_told = shared, own
        self.shared: dict[str, T] = {}
        self.own: dict[str, T] = {}

    def begin(self, convert: Callable[[Array], T]) -> None:
        """Have the arrays as the learner computes with them."""
        self.shared = {name: convert(array) for name, array in self._shared_as_told.items()}
        self.own = {name: convert(array) for name, array in self._own_as_told.items()}

    def correct(self, gradients: Mapping[str, T], weights: Mapping[str, T]) -> Mapping[str, T]:
        """Return the gradients to take a step by.

        Args:
            gradients: of the loss, by name of the weight.
            weights: before the step.
        """
        return gradients

    def end(self) -> Mapping[str, T]:
        """Return the shard's arrays as they are to be kept for its next job."""
        return self.own


class Merged(NamedTuple):
    """What merging came to.

    Args:
        model: by name.
        state: for the next round.
        taken: how much of the way of each solution, from the model before, was taken: 1, as it
            came; 0, it was left out; none said: all as they came.
        odd: what a person is to be told of a solution, by its place among them: a sentence's end,
            behind "the solution of job 3 by NODE".
    """

    model: Arrays
    state: Arrays = NOTHING
    taken: Sequence[float] = ()
    odd: Mapping[int, str] = MappingProxyType({})


#: Says how good a model is: its accuracy on rows that were kept aside, 0 to 1.
Judge = Callable[["Arrays"], float]


class Strategy:
    """Merges the solutions of a round into one model.

    Args:
        made: the dataclass of its options; None: its defaults.
    """

    #: What it is called, and the dataclass of its options.
    name: ClassVar[str]
    options: ClassVar[type[DataclassInstance]] = NoOptions
    #: The code of a user's that it is, by which a node finds it; None: it is installed.
    code: ClassVar[Code | None] = None
    #: What the models are made of that it merges.
    parts: ClassVar[str] = "numbers"
    #: Its part in the learner's steps; None: it has none.
    client: ClassVar[type[Client[Any]] | None] = None
    #: Whether `judge` is to be asked: then a run has to keep rows aside.
    judges: ClassVar[bool] = False
    #: Whether it goes on from the model before, and can do nothing where there is none.
    goes_on: ClassVar[bool] = False

    def __init__(self, made: DataclassInstance | None = None) -> None:
        self.made: DataclassInstance = self.options() if made is None else made

    def check(self) -> None:
        """Raise unless it can merge here, at the main node; asked before a run begins.

        Raises:
            MergeError: it can't, and what to do.
        """

    @property
    def fewest(self) -> int:
        """How many solutions it can't do with fewer than."""
        return 1

    def check_count(self, count: int, of: str = "") -> None:
        """Raise unless so many solutions are enough.

        Args:
            count: how many there are.
            of: where that comes from, in words.

        Raises:
            MergeError: they are too few.
        """
        if count < self.fewest:
            made = ", ".join(f"{n}={v}" for n, v in flat(self.made).items() if v is not None)
            raise MergeError(
                f"merging by {self.name}{made and f' with {made}'} needs {self.fewest} solutions or"
                f" more; there {'is' if count == 1 else 'are'} {count}{of}"
            )

    def begin(self, initial: Arrays) -> Arrays:
        """Return the state that a run begins with.

        Args:
            initial: what of the fresh model is learned by gradients; what else a model holds, as
                means of activations, is told from that by its name being none of these.
        """
        return NOTHING

    def merge(
        self, solutions: Collection[Solution], before: Arrays, state: Arrays
    ) -> Merged | tuple[Arrays, Arrays]:
        """Merge solutions into one model.

        Args:
            solutions: of one round, in order; they may be gone through more than once, and are
                read one at a time.
            before: the model that the round began with.
            state: that the last round left; kept beside each round's model.

        Raises:
            MergeError: there is none, or they don't fit together.
        """
        raise NotImplementedError

    def merge_judged(
        self, solutions: Collection[Solution], before: Arrays, state: Arrays, judge: Judge
    ) -> Merged | tuple[Arrays, Arrays]:
        """Merge solutions into one model, as `merge`, which is not called where it `judges`."""
        raise NotImplementedError

    def tell(self, state: Arrays) -> Mapping[str, object]:
        """Return plain values about a run that has come to such a state; they are in its result."""
        return {}

    # Where there is a client part.

    def shared(self, state: Arrays) -> Arrays:
        """Return what goes with every job of a round."""
        return NOTHING

    def own(self, initial: Arrays) -> Arrays:
        """Return what a shard has before its first job; what comes back is laid out the same.

        Args:
            initial: as for `begin`.
        """
        return NOTHING
