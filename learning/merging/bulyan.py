"""What Krum likes, and of that what is near the median of each number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from .robust import Liars
from .strategy import Merged

if TYPE_CHECKING:
    from ..contract import Solution


class Bulyan(Liars):
    """The mean of those numbers that are nearest to the median of what Krum chose, one by one.

    Of n solutions, f of which may be anything, Krum chooses one and is asked again of the rest,
    n - 2 f times; of each number the n - 4 f that are nearest to its median are averaged, and of
    two that are as near the lesser one is taken. So nothing that is odd in a few numbers only,
    which a distance does not show, gets through. Examples weigh nothing.

    All solutions of a round are in memory at once.

    Source: El Mhamdi et al. 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium",
    section 4, which needs n >= 4 f + 3.
    """

    name = "bulyan"

    @property
    def fewest(self) -> int:
        """As the source needs."""
        return 4 * self.made.liars + 3

    def choose(self, solutions: Sequence[Solution]) -> Merged:
        """Return the means of what is near the medians."""
        from ..columns import by_column, nearest_median
        from ..nearness import Nearness

        nearness, liars = Nearness(solutions), self.made.liars
        rest, kept = list(range(len(solutions))), []
        for _ in range(len(solutions) - 2 * liars):
            reach = nearness.reach(rest, liars)
            kept.append(min(rest, key=reach.__getitem__))
            rest.remove(kept[-1])
        near = partial(nearest_median, count=len(kept) - 2 * liars)
        model = by_column([solutions[n] for n in sorted(kept)], near)
        return self.left(model, kept, nearness.reach(range(len(solutions)), liars))
