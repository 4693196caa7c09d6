"""The contract of a learner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .errors import UnknownLearner

Arrays = Mapping[str, npt.NDArray[Any]]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
#: Name of an array -> its element type and shape.
Layout = Mapping[str, tuple[str, tuple[int, ...]]]


class Progress(Protocol):
    """Told how far a piece of work is."""

    def __call__(self, fraction: float, note: str = "", /) -> object:
        """Take the fraction done, 0 to 1, and what there is to say about it, in a line."""


#: Says whether to stop.
Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Shard:
    """The rows of one job.

    Args:
        images: uint8, shape (n, height, width).
        labels: int64, shape (n,).
        classes: how many classes the whole data set has.
    """

    images: Images
    labels: Labels
    classes: int


@dataclass(frozen=True)
class Form:
    """What the images of a data set are like.

    Args:
        height, width: in pixels.
        classes: how many there are.
    """

    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class Solution:
    """What a learner made of one shard.

    Args:
        arrays: the model, by name.
        examples: rows that it was made from: its weight when merged.
        metrics: plain values about the making, e.g. `loss`.
    """

    arrays: Arrays
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """Learns from shards, apart from each other, in a way whose results can be merged."""

    name: str

    def prepare(self) -> None:
        """Do what takes long before the first job; called once in a process that will solve."""

    def fit(
        self, shard: Shard, start: Arrays | None, *, seed: int, progress: Progress,
        cancelled: Cancelled,
    ) -> Solution:  # fmt: skip
        """Learn from one shard, on a computing node.

        Args:
            shard: the rows.
            start: the model to go on from; None: a fresh one, the same for every shard.
            seed: of the order of rows and everything else that is random.
            progress: called now and then.
            cancelled: asked now and then; return early where it says so.
        """

    def predict(self, model: Arrays, images: Images) -> Labels:
        """Return a label for each image.

        Raises:
            ModelError: the model is not for images of this size.
        """


@runtime_checkable
class LossLearner(Learner, Protocol):
    """A learner that says how much its models lose."""

    def evaluate(self, model: Arrays, images: Images, labels: Labels) -> tuple[Labels, float]:
        """Return a label for each image, and the mean loss over them; infinite if it has none.

        Args:
            model: by name.
            images: uint8, shape (n, height, width); n is at least 1.
            labels: the truth, maybe of classes that the model does not know, int64, shape (n,).

        Raises:
            ModelError: the model is not for images of this size.
        """


class Merger(Protocol):
    """The part of a learner that a main node needs; it must not need the learner's library."""

    def merge(self, solutions: Iterable[Solution], before: Arrays | None = None) -> Arrays:
        """Merge solutions, read one at a time and in order, into one model.

        Args:
            solutions: of one round.
            before: the merged model that the round began with.

        Raises:
            MergeError: there is none, or they don't fit together.
        """

    def check_form(self, form: Form) -> None:
        """Raise unless the learner can learn from such images.

        Raises:
            ModelError: it can't.
        """

    def check_data(self, images: Images, labels: Labels, make: Mapping[str, Any]) -> None:
        """Raise unless the learner, made so, can learn from the whole of some data.

        Raises:
            UnfitData: it can't; the rows are named.
        """

    def largest(self, form: Form) -> int:
        """Return how many bytes the arrays of a solution have, at most."""

    def describe(self, model: Arrays) -> dict[str, Any]:
        """Return plain values that say what a merged model is made of."""

    def check(self, solution: Solution, form: Form, examples: int, make: Mapping[str, Any]) -> None:
        """Raise unless a solution, from whomever, is one of a shard of such images.

        Args:
            solution: whatever came.
            form: of the images.
            examples: rows of the shard.
            make: what the learner was made with.

        Raises:
            UnfitSolution: it is not, in words.
        """


@runtime_checkable
class CountingMerger(Merger, Protocol):
    """A merger whose models say how the rows of every shard count for or against their parts.

    The counts of the shards are summed, so each can be made where the shard's rows are.
    """

    def count(self, model: Arrays, shard: Shard) -> npt.NDArray[np.int64]:
        """Return a shard's counts for a merged model."""

    def check_counts(self, counts: Any, model: Arrays, examples: int) -> None:
        """Raise unless counts, from whomever, can be those of a shard of so many rows.

        Raises:
            UnfitSolution: they can't.
        """

    def weigh(self, model: Arrays, counts: npt.NDArray[np.int64]) -> Arrays:
        """Return a merged model with the sum of all shards' counts in it."""


def check_parameters(**bounds: tuple[Any, float, float]) -> None:
    """Raise unless each value is a number from its least to its most.

    Args:
        bounds: by name: the value, and its bounds; whole ones where a whole number is wanted.

    Raises:
        UnknownLearner: one is not.
    """
    for name, (value, least, most) in bounds.items():
        kinds = (int,) if isinstance(least, int) else (int, float)
        if type(value) not in kinds or not least <= value <= most:
            raise UnknownLearner(f"{name} is {value!r:.40}; from {least} to {most} is possible")
