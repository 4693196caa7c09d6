"""The mean of ways none of which is longer than the others may be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.options import Checked, option

from ..errors import MergeError
from .robust import FAR
from .strategy import NOTHING, Merged, Strategy

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution


@dataclass(frozen=True, kw_only=True)
class NormOptions(Checked):
    """How far a solution may be from the model before."""

    norm: float | None = option(
        None, "What is further from the model before than this is drawn back to it.",
        least=0, above=True, most=1e300, unset="as far as the median one is",
    )  # fmt: skip


class Clipping(Strategy):
    """The mean of the solutions, weighted by their examples, none further than it may be.

    The way of each from the model before is drawn back to a norm, a fixed one or that of the
    median solution. That bounds what a liar does in a round, and does not end it: one that goes as
    far as honest ones in another direction is taken as it came. Whole numbers stay.

    Solutions are read one at a time, twice.

    Source: Sun et al. 2019, "Can You Really Backdoor Federated Learning?", section 4, norm
    thresholding; weighted as the federated mean that it is of. The median in the place of the norm
    needs nobody to know one.
    """

    name, options = "clipping", NormOptions
    goes_on = True
    made: NormOptions

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the mean; there is no state.

        Raises:
            MergeError: no examples, no model before, or arrays that don't fit together.
        """
        import numpy as np

        from ..sums import weighted_mean
        from ..ways import distances, drawn_back

        if not before:
            raise MergeError("merging by clipping needs the model that solutions went on from")
        ways = distances(solutions, before)
        if not len(ways):
            raise MergeError("nothing to merge: no solution")
        norm = float(np.median(ways)) if self.made.norm is None else self.made.norm
        taken = [1.0 if way <= norm else norm / float(way) for way in ways]
        odd = {
            place: f"was {way:,.3g} from the model before, and is drawn back to {norm:,.3g}"
            for place, way in enumerate(ways) if way > FAR * norm
        }  # fmt: skip
        model = weighted_mean(drawn_back(solutions, before, taken))
        return Merged(model, NOTHING, taken if min(taken) < 1 else (), odd)
