"""The mean of all solutions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.options import Checked, option

from .strategy import NOTHING, Merged, Strategy

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution

#: Of the median solution's way from the model before: what is further is drawn back to that.
BOUND = 3.0


@dataclass(frozen=True, kw_only=True)
class MeanOptions(Checked):
    """How far a solution may be from the model before."""

    bound: float = option(
        BOUND, "A solution that is more than so many times as far from the model before as the"
        " median one is drawn back to that; 0: none is.", least=0, most=1e9,
    )  # fmt: skip


class WeightedMean(Strategy):
    """The mean of the solutions' arrays, weighted by their examples.

    A solution that is much further from the model before than the others is drawn back, as one
    that diverged, or that somebody made up, would be the mean alone; where none is, not a bit
    changes.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", algorithm 1 (FederatedAveraging). The bound: Sun et al. 2019, "Can You
    Really Backdoor Federated Learning?", with the median in the place of a fixed norm.
    """

    name, options = "mean", MeanOptions
    made: MeanOptions

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the mean, each array in the type of the first solution's; there is no state.

        Raises:
            MergeError: no solution, no examples, or arrays that don't fit together.
        """
        return self.mean(solutions, before)

    def mean(self, solutions: Collection[Solution], before: Arrays) -> Merged:
        """Return the mean; of a strategy that goes on from there, too."""
        from ..sums import weighted_mean
        from ..ways import drawn_back, shortened

        ways = shortened(solutions, before, self.made.bound)
        if not ways:
            return Merged(weighted_mean(solutions))
        taken = [each.taken for each in ways]
        odd = {
            place: f"was {each.times:,.3g} times as far from the model before as the median one,"
            f" and is drawn back to {self.made.bound:g} times"
            for place, each in enumerate(ways) if each.taken < 1
        }  # fmt: skip
        return Merged(weighted_mean(drawn_back(solutions, before, taken)), NOTHING, taken, odd)
