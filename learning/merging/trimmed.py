"""The mean of each number without its extremes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from protocol.options import Checked, option

from .robust import Robust
from .strategy import Merged

if TYPE_CHECKING:
    from ..contract import Solution


@dataclass(frozen=True, kw_only=True)
class TrimOptions(Checked):
    """What is cut."""

    trim: float = option(
        0.2, "So much of the solutions is left out at each end, of each number: at least the part"
        " that may be anything.", least=1e-6, most=0.49,
    )  # fmt: skip


class TrimmedMean(Robust):
    """The mean of what solutions have in the place of each number, without its extremes.

    `trim` times the number of solutions, rounded down, are left out at each end. Where that is none
    the strategy would bear nothing, and refuses. Examples weigh nothing.

    All solutions of a round are in memory at once.

    Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
    Rates", algorithm 1, option II.
    """

    name, options = "trimmed", TrimOptions
    made: TrimOptions

    @property
    def fewest(self) -> int:
        """As many as one is cut of at each end."""
        least = math.ceil(1 / self.made.trim)
        return least if self._cut(least) else least + 1

    def _cut(self, count: int) -> int:
        return int(self.made.trim * count)

    def choose(self, solutions: Sequence[Solution]) -> Merged:
        """Return the trimmed means."""
        from ..columns import by_column, middle

        return Merged(by_column(solutions, partial(middle, cut=self._cut(len(solutions)))))
