"""The mean of models that were held back to where their round began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from protocol.options import option

from .mean import MeanOptions, WeightedMean
from .strategy import NOTHING, Client

if TYPE_CHECKING:
    from loaders.rows import Arrays

#: What goes with every job, and what comes back from those that were held.
_MU, _HELD = "mu", "held"


class _Number(Protocol):
    def __add__(self, other: object, /) -> _Number: ...
    def __sub__(self, other: object, /) -> _Number: ...
    def __mul__(self, other: object, /) -> _Number: ...


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ProximalOptions(MeanOptions):
    """How much shards are held back."""

    mu: float = option(
        0.01, "How strongly a shard's weights are pulled to where its job began; 0: not at all.",
        least=0, most=1e6,
    )  # fmt: skip


class ProximalClient(Client[T]):
    """Adds to each gradient that of mu / 2 times the squared way from where the job began."""

    def __init__(self, shared: Arrays, own: Arrays) -> None:
        super().__init__(shared, own)
        self._start: dict[str, _Number] = {}

    def correct(self, gradients: Mapping[str, T], weights: Mapping[str, T]) -> Mapping[str, T]:
        """Return the gradients, with the pull back."""
        pulled: dict[str, T] = {}
        for name, gradient in gradients.items():
            weight = cast("_Number", weights[name])
            if name not in self._start:  # nothing has moved it so far
                self._start[name] = weight + 0
            way = weight - self._start[name]
            pulled[name] = cast("T", way * self.shared[_MU] + gradient)
        return pulled


class FedProx(WeightedMean):
    """The weighted mean of models that a term in their loss holds back: for skewed shards.

    Source: Li et al. 2020, "Federated Optimization in Heterogeneous Networks", algorithm 2, with
    all shards in each round, weighted by their examples.
    """

    name, options, client = "fedprox", ProximalOptions, ProximalClient
    made: ProximalOptions

    def shared(self, state: Arrays = NOTHING) -> Arrays:
        """Return mu."""
        import numpy as np

        return {_MU: np.array(self.made.mu, np.float32)}

    def own(self, initial: Arrays) -> Arrays:
        """Return what a learner that has no ear for a client part does not bring back."""
        import numpy as np

        return {_HELD: np.ones((), np.int8)}
