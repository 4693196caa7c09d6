"""Steps that are long where ways have been short so far, and short where they were long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.options import option

from .moving import ServerOptimizer, ServerOptions

if TYPE_CHECKING:
    from loaders.rows import Array, Arrays


@dataclass(frozen=True, kw_only=True)
class AdaptiveOptions(ServerOptions):
    """How far each number goes."""

    rate: float = option(
        0.01, "The learning rate of the main node; so far a number goes whose ways are all alike.",
        least=0, most=1e6, above=True,
    )  # fmt: skip
    tau: float = option(
        1e-3, "Ways that are much shorter than this are not made longer.", least=0, most=1e6,
        above=True,
    )  # fmt: skip


class Adaptive(ServerOptimizer):
    """Divides the mean way of each number by the root of what its ways were.

    Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2.
    """

    options, kept = AdaptiveOptions, ("way", "square")
    made: AdaptiveOptions

    def square(self, square: Array, new: Array) -> Array:
        """Return what the squares of ways come to, with those of this round."""
        raise NotImplementedError

    def rate(self, round_: int) -> float:
        """Return the learning rate of a round, counted from 1."""
        return self.made.rate

    @property
    def remembered(self) -> float:
        """How much of the mean way is of earlier rounds."""
        return 0.0

    def step(self, way: Array, kept: Mapping[str, Array], round_: int) -> tuple[Array, Arrays]:
        """Return the mean way, by the rate, divided by the root of the squares and tau."""
        import numpy as np

        remembered = self.remembered
        mean = remembered * kept["way"] + (1 - remembered) * way
        square = self.square(kept["square"], way * way)
        step = self.rate(round_) * mean / (np.sqrt(square) + self.made.tau)
        return step, {"way": mean, "square": square}


@dataclass(frozen=True, kw_only=True)
class AdaptiveMeanOptions(AdaptiveOptions):
    """How long ways and their squares are remembered."""

    beta1: float = option(
        0.9, "How much of the mean way is of earlier rounds.", least=0, most=0.9999
    )
    beta2: float = option(
        0.99, "How much of the mean square of ways is of earlier rounds.", least=0, most=0.9999
    )


class AdaptiveMean(Adaptive):
    """Remembers ways, too."""

    options = AdaptiveMeanOptions
    made: AdaptiveMeanOptions

    @property
    def remembered(self) -> float:
        """How much of the mean way is of earlier rounds."""
        return self.made.beta1
