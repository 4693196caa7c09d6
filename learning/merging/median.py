"""The median of each number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .robust import Robust
from .strategy import Merged

if TYPE_CHECKING:
    from ..contract import Solution


class Median(Robust):
    """The median of what solutions have in each number's place.

    Of an even number it is the mean of the two in the middle. Examples weigh nothing: every
    solution has one voice. Where labels are skewed the median of what shards learned may be what
    none of them did: it harms there.

    All solutions of a round are in memory at once.

    Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
    Rates", algorithm 1, option I.
    """

    name = "median"

    def choose(self, solutions: Sequence[Solution]) -> Merged:
        """Return the medians."""
        from ..columns import by_column, median

        return Merged(by_column(solutions, median))
