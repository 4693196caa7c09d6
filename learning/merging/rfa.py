"""The model that is least far from all solutions together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.options import Checked, option

from ..errors import MergeError
from .robust import FAR, Robust
from .strategy import NOTHING, Merged

if TYPE_CHECKING:
    from ..contract import Solution


@dataclass(frozen=True, kw_only=True)
class GeometricOptions(Checked):
    """How near to it one comes."""

    iterations: int = option(
        4, "How often solutions are weighed anew by how far they are.", least=1, most=1000
    )
    smoothing: float = option(
        1e-6, "What is nearer than this weighs no more for it.", least=0, most=1e6, above=True
    )


class GeometricMedian(Robust):
    """The geometric median of the solutions, each as much as it has examples, by Weiszfeld's steps.

    Each step is a mean in which a solution weighs its examples, divided by how far it is. The first
    begins at the medians of all numbers, where the source leaves it open: so far as liars may be,
    they don't move that, and a few steps do. Whole numbers are medians.

    All solutions of a round are in memory at once.

    Source: Pillutla et al. 2022, "Robust Aggregation for Federated Learning", algorithm 2 (the
    smoothed Weiszfeld algorithm).
    """

    name, options = "rfa", GeometricOptions
    made: GeometricOptions

    def choose(self, solutions: Sequence[Solution]) -> Merged:
        """Return the model after so many steps."""
        import numpy as np

        from ..columns import by_column, median
        from ..nearness import check_far
        from ..ways import distance, moved

        check_far(solutions[0])
        model = by_column(solutions, median)
        far = np.zeros(0)
        for _ in range(self.made.iterations):
            far = np.array([distance(each.arrays, model) for each in solutions])
            if np.isinf(far).all():
                raise MergeError("solutions are too far from each other to have a median")
            weights = [each.examples for each in solutions] / np.maximum(far, self.made.smoothing)
            model = moved(model, solutions, list(weights / weights.sum()))
        nearest = np.maximum(far, self.made.smoothing)
        times = nearest / np.median(nearest)
        odd = {
            n: f"was {each:,.3g} times as far from the geometric median as the median one,"
            " and weighs so much less"
            for n, each in enumerate(times) if each > FAR
        }  # fmt: skip
        return Merged(model, NOTHING, [float(min(1.0, 1 / each)) for each in times], odd)
