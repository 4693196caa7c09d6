"""What strategies have in common that bear solutions which may be anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.options import Checked, option

from ..errors import MergeError
from .strategy import NOTHING, Merged, Strategy

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution

#: What is left out is told where it is more than so many times as far as the median solution.
FAR = 3.0


class Robust(Strategy):
    """Looks at all solutions side by side: all of a round are in memory at once.

    The model is the same in whatever order they come. One that learned from no example is left out.
    There is no state.
    """

    def choose(self, solutions: Sequence[Solution]) -> Merged:
        """Return what solutions come to, which are in an order of what they hold; no state."""
        raise NotImplementedError

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the model.

        Raises:
            MergeError: no examples, too few solutions, or arrays that don't fit together.
        """
        from ..columns import held

        there = held(solutions)
        if not there:
            raise MergeError("nothing to merge: no solution with any example")
        self.check_count(len(there))
        chosen = self.choose([each.solution for each in there])
        # In the order in which they came, with those that learned from nothing.
        taken = [0.0] * len(solutions)
        for each, part in zip(there, chosen.taken or [1.0] * len(there), strict=True):
            taken[each.place] = part
        odd = {there[n].place: chosen.odd[n] for n in sorted(chosen.odd)}
        return Merged(chosen.model, NOTHING, taken if min(taken) < 1 else (), odd)


@dataclass(frozen=True, kw_only=True)
class LiarsOptions(Checked):
    """How much is to be borne."""

    liars: int = option(1, "So many of the solutions may be anything.", least=0, most=100)


class Liars(Robust):
    """Bears so many solutions that may be anything, by how far they are from their neighbours."""

    options = LiarsOptions
    made: LiarsOptions

    def left(self, model: Arrays, kept: Collection[int], reach: Mapping[int, float]) -> Merged:
        """Return a model with what is to be said of those that are not in it.

        Args:
            model: of those that are kept.
            kept: their places.
            reach: how far each of all is from its neighbours, by place.
        """
        import numpy as np

        middle = float(np.median([*reach.values()]))
        odd = {
            place: f"was {far / middle:,.3g} times as far from its neighbours as the median one,"
            " and is left out"
            for place, far in reach.items() if place not in kept and far > FAR * middle > 0
        }  # fmt: skip
        return Merged(model, NOTHING, [float(place in kept) for place in sorted(reach)], odd)
