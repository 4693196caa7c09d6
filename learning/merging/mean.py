"""The mean of all solutions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .strategy import NOTHING, Strategy

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution


class WeightedMean(Strategy):
    """The mean of the solutions' arrays, weighted by their examples.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", algorithm 1 (FederatedAveraging).
    """

    name = "mean"

    def merge(
        self, solutions: Iterable[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> tuple[Arrays, Arrays]:
        """Return the mean, each array in the type of the first solution's; there is no state.

        Raises:
            MergeError: no solution, no examples, or arrays that don't fit together.
        """
        from ..sums import weighted_mean

        return weighted_mean(solutions), NOTHING
