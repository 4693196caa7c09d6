"""The solution that is nearest to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .robust import Liars
from .strategy import Merged

if TYPE_CHECKING:
    from ..contract import Solution


class Krum(Liars):
    """The one solution that is nearest to so many others as honest ones there must be.

    Of n solutions, f of which may be anything, it is the one with the least sum of squared
    distances to the n - f - 2 that are nearest to it. What the other honest ones have learned is
    not merged: it costs accuracy, the more the more shards differ. Examples weigh nothing.

    All solutions of a round are in memory at once.

    Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
    Descent", section 4, which needs n >= 2 f + 3.
    """

    name = "krum"

    @property
    def fewest(self) -> int:
        """As the source needs."""
        return 2 * self.made.liars + 3

    def kept(self, count: int) -> int:
        """Return how many of so many solutions are kept."""
        return 1

    def choose(self, solutions: Sequence[Solution]) -> Merged:
        """Return the mean of those that are nearest to others."""
        from ..nearness import Nearness
        from ..sums import alike_mean

        reach = Nearness(solutions).reach(range(len(solutions)), self.made.liars)
        kept = sorted(sorted(reach, key=reach.__getitem__)[: self.kept(len(solutions))])
        return self.left(alike_mean([solutions[n] for n in kept]), kept, reach)
