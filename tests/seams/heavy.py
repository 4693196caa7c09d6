"""A strategy with a state: the mean of the solutions, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from learning import Solution, Strategy
from learning.sums import as_type, weighted_mean
from loaders.rows import Arrays
from protocol.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class HeavyOptions(Checked):
    """How much of the last move is made again."""

    inertia: float = option(0.5, "heavy: share of the last move that is made again.", least=0,
                            most=1)  # fmt: skip


class Heavy(Strategy):
    """Moves on as the mean does, and as it moved before.

    Source: Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution".
    """

    name, options = "heavy", HeavyOptions
    made: HeavyOptions

    def merge(
        self, solutions: Iterable[Solution], before: Arrays, state: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Return the model, and how it moved; a run begins with nothing that it could be."""
        mean, moved, model = weighted_mean(solutions), {}, {}
        for name, array in mean.items():
            move = array.astype(np.float64) - before[name]
            if name in state:
                move += self.made.inertia * state[name]
            moved[name] = np.asarray(move)
            model[name] = as_type(np.asarray(before[name] + move), array.dtype.name)
        return model, moved
