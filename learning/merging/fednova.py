"""The mean of ways that are as long as if all shards had taken equally many steps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from protocol.options import option

from .mean import MeanOptions, WeightedMean
from .strategy import NOTHING, Client, Merged

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution

#: What comes back of a shard: how many steps its job took.
_STEPS = "steps"


class _Number(Protocol):
    def __add__(self, other: object, /) -> _Number: ...
    def __mul__(self, other: object, /) -> _Number: ...


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NormalOptions(MeanOptions):
    """How shards take their steps."""

    momentum: float = option(
        0.9, "That shards descend with; that of neural, and of nets of your own, unless their"
        " optimizer has another.", least=0, most=0.999,
    )  # fmt: skip


class CountingClient(Client[T]):
    """Counts the steps of a job."""

    def __init__(self, shared: Arrays, own: Arrays) -> None:
        super().__init__(shared, own)
        self._steps = 0

    def correct(self, gradients: Mapping[str, T], weights: Mapping[str, T]) -> Mapping[str, T]:
        """Return the gradients as they are."""
        self._steps += 1
        return gradients

    def end(self) -> Mapping[str, T]:
        """Return how many steps there were."""
        before = cast("_Number", self.own[_STEPS])
        return {_STEPS: cast("T", before * 0 + self._steps)}


class _Normalised(Collection["Solution"]):
    """Solutions whose learned arrays go a part of their way, or more than all of it."""

    def __init__(
        self, solutions: Collection[Solution], before: Arrays, learned: Collection[str],
        parts: Collection[float],
    ) -> None:  # fmt: skip
        self._solutions, self._before = solutions, before
        self._learned, self._parts = learned, parts

    def __len__(self) -> int:
        return len(self._solutions)

    def __contains__(self, solution: object) -> bool:
        return any(each is solution for each in self)

    def __iter__(self) -> Iterator[Solution]:
        from ..ways import drawn_back

        for solution, part in zip(self._solutions, self._parts, strict=True):
            learned = {n: a for n, a in solution.arrays.items() if n in self._learned}
            (moved,) = drawn_back([replace(solution, arrays=learned)], self._before, [part])
            yield replace(solution, arrays={**solution.arrays, **moved.arrays})


class FedNova(WeightedMean):
    """The weighted mean of ways, each divided by what its job's steps add up to.

    Of shards that take different numbers of steps, as those of different sizes do, the mean is
    drawn to those that take more. Where all take as many, this is the mean. What of a model is not
    learned by gradients is the mean, too. Weight decay, a learning rate that falls and Nesterov's
    step ahead are not reckoned with.

    Source: Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous
    Federated Optimization", equations 6 and 9, with the momentum of its section 4.
    """

    name, options, client = "fednova", NormalOptions, CountingClient
    made: NormalOptions

    def begin(self, initial: Arrays) -> Arrays:
        """Return a zero by the name of each array that is learned."""
        import numpy as np

        return {n: np.zeros((), np.int8) for n, a in initial.items() if a.dtype.kind == "f"}

    def own(self, initial: Arrays) -> Arrays:
        """Return that a shard has taken no steps."""
        import numpy as np

        return {_STEPS: np.zeros((), np.int64)}

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the mean of what the solutions come to with equally many steps each.

        Raises:
            MergeError: no solution, no examples, or arrays that don't fit together.
        """
        told = [(each.examples, self.length(int(each.client[_STEPS]))) for each in solutions]
        total = sum(examples for examples, _ in told)
        # So far a mean step goes; who has taken none has gone no way, either.
        mean = sum(examples * length for examples, length in told) / max(1, total)
        if len({length for _, length in told}) == 1:  # not rounded: it is the mean, to the bit
            mean = told[0][1]
        parts = [mean / length if length else 1.0 for _, length in told]
        normalised = _Normalised(solutions, before, state.keys(), parts)
        return self.mean(normalised, before)._replace(state=state)

    def length(self, steps: int) -> float:
        """Return what the gradients of so many steps are multiplied by, all together."""
        momentum = self.made.momentum
        gone = (1 - momentum ** max(0, steps)) / (1 - momentum)
        return (max(0, steps) - momentum * gone) / (1 - momentum)
