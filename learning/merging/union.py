"""The union of algebraic models."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from .strategy import NOTHING, Merged, Strategy

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution


class UnionOfAtoms(Strategy):
    """The union of all shards' atoms, those of the model before included.

    Source: arXiv 2502.19944 (models of one algebra add up).
    """

    name = "union"
    parts = "atoms"

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the union; nothing is known yet of what contradicts its atoms. There is no state.

        Raises:
            MergeError: no solution, or one that is of other data than the first.
        """
        from ..algebraic.model import union

        return Merged(union((solution.arrays for solution in solutions), before))
