"""The mean of the solutions that are nearest to the others."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import option

from .krum import Krum
from .robust import LiarsOptions


@dataclass(frozen=True, kw_only=True)
class KeepOptions(LiarsOptions):
    """How many are merged."""

    keep: int | None = option(
        None, "So many solutions are merged.", least=1, most=1000,
        unset="all but `liars` and two more",
    )  # fmt: skip


class MultiKrum(Krum):
    """The mean of the solutions that Krum likes best; examples weigh nothing.

    All solutions of a round are in memory at once.

    Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
    Descent", section 5, each scored among all. That n - f - 2 may be kept: Damaskinos et al. 2019,
    "AggregaThor: Byzantine Machine Learning via Robust Gradient Aggregation".
    """

    name, options = "multikrum", KeepOptions
    made: KeepOptions

    @property
    def fewest(self) -> int:
        """As Krum needs, and as many as are kept."""
        return max(super().fewest, self.made.keep or 0)

    def kept(self, count: int) -> int:
        """Return how many of so many solutions are kept."""
        return self.made.keep or count - self.made.liars - 2
