"""The mean with momentum at the main node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.options import option

from .moving import ServerOptimizer, ServerOptions

if TYPE_CHECKING:
    from loaders.rows import Array, Arrays


@dataclass(frozen=True, kw_only=True)
class MomentumOptions(ServerOptions):
    """How much of the way of the rounds before is gone again."""

    momentum: float = option(
        0.5, "How much of the last rounds' way is gone again.", least=0, most=0.999
    )


class FedAvgM(ServerOptimizer):
    """Goes on in the direction of the rounds before: for many, or skewed, shards.

    Source: Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated
    Visual Classification".
    """

    name, options, kept = "fedavgm", MomentumOptions, ("momentum",)
    made: MomentumOptions

    def step(self, way: Array, kept: Mapping[str, Array], round_: int) -> tuple[Array, Arrays]:
        """Return the way with momentum, by the rate."""
        momentum = self.made.momentum * kept["momentum"] + way
        return self.made.rate * momentum, {"momentum": momentum}
