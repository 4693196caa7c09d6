"""What a strategy of merging is: one class, in a file here, found by its `name`.

    class MyStrategy(Strategy):
        name = "mine"

        def merge(self, solutions, before, state): ...      # -> model, state

What is large is imported where it is used: every command looks at what strategies there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from protocol.options import Checked

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from loaders.rows import Array, Arrays

    from ..contract import Solution

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


class Strategy:
    """Merges the solutions of a round into one model.

    Args:
        made: the dataclass of its options; None: its defaults.
    """

    #: What it is called, and the dataclass of its options.
    name: ClassVar[str]
    options: ClassVar[type[DataclassInstance]] = NoOptions
    #: What the models are made of that it merges.
    parts: ClassVar[str] = "numbers"
    #: Its part in the learner's steps; None: it has none.
    client: ClassVar[type[Client[Any]] | None] = None

    def __init__(self, made: DataclassInstance | None = None) -> None:
        self.made: DataclassInstance = self.options() if made is None else made

    def begin(self, initial: Arrays) -> Arrays:
        """Return the state that a run begins with; `initial`: the fresh model."""
        return NOTHING

    def merge(
        self, solutions: Iterable[Solution], before: Arrays, state: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Merge solutions into one model; return it, and the state for the next round.

        Args:
            solutions: of one round, in order; they may be gone through more than once, and are
                read one at a time.
            before: the model that the round began with.
            state: that the last round left; kept beside each round's model.

        Raises:
            MergeError: there is none, or they don't fit together.
        """
        raise NotImplementedError

    # Where there is a client part.

    def shared(self, state: Arrays) -> Arrays:
        """Return what goes with every job of a round."""
        return NOTHING

    def own(self, initial: Arrays) -> Arrays:
        """Return what a shard has before its first job; what comes back is laid out the same."""
        return NOTHING
