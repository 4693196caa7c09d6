"""The mean of those solutions that make it better."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from .strategy import NOTHING, Judge, Merged, Strategy

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution


class Soup(Strategy):
    """The weighted mean of solutions that are taken one by one, if it is no worse with them.

    The best comes first. How good one is, and the mean, is said by rows that are kept aside: each
    round costs twice as many tries of them as there are solutions.

    Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models
    improves accuracy without increasing inference time", recipe 1 (greedy soup), with solutions
    weighted by their examples.
    """

    name = "soup"
    judges = True

    def merge_judged(
        self, solutions: Collection[Solution], before: Arrays, state: Arrays, judge: Judge
    ) -> Merged:
        """Return the mean of what is taken.

        Raises:
            MergeError: no solution, no examples, or arrays that don't fit together.
        """
        from ..sums import checked, weighted_mean

        alone = {
            place: judge(each.arrays)
            for place, each in enumerate(checked(solutions)) if each.examples
        }  # fmt: skip
        order = sorted(alone, key=lambda place: -alone[place])  # of equals the first

        def mean(places: Collection[int]) -> Arrays:
            return weighted_mean(_those(solutions, places))

        taken = order[:1]
        model, best = mean(taken), alone[order[0]] if order else 0.0
        for place in order[1:]:
            more = mean([*taken, place])
            accuracy = judge(more)
            if accuracy >= best:
                taken, model, best = [*taken, place], more, accuracy
        odd = {
            place: f"is left out, {accuracy:.2%} of the rows kept aside right: with it the mean is"
            " worse"
            for place, accuracy in alone.items() if place not in taken
        }  # fmt: skip
        parts = [float(place in taken) for place in range(len(solutions))]
        return Merged(model, NOTHING, parts, odd)


def _those(solutions: Collection[Solution], places: Collection[int]) -> Iterator[Solution]:
    """Yield the solutions at some places, in their own order."""
    return (each for place, each in enumerate(solutions) if place in places)
