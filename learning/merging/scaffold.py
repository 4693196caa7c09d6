"""Control variates against what skewed shards do to each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from .mean import WeightedMean
from .strategy import NOTHING, Client, Merged

if TYPE_CHECKING:
    from loaders.rows import Arrays

    from ..contract import Solution


#: In the state, beside the control variate: how many examples the shards have that were ever there,
#: and which these are; no model's arrays are called so.
_EXAMPLES, _PARTS = "own/examples", "own/parts"


class _Number(Protocol):
    def __add__(self, other: object, /) -> _Number: ...
    def __sub__(self, other: object, /) -> _Number: ...
    def __truediv__(self, other: object, /) -> _Number: ...


T = TypeVar("T")


class ScaffoldClient(Client[T]):
    """Moves each step by what all shards' gradients are, less what this one's are."""

    def __init__(self, shared: Arrays, own: Arrays) -> None:
        super().__init__(shared, own)
        self._sums: dict[str, _Number] = {}
        self._steps = 0

    def correct(self, gradients: Mapping[str, T], weights: Mapping[str, T]) -> Mapping[str, T]:
        """Return the gradients, less the shard's control variate, and with everybody's."""
        self._steps += 1
        corrected: dict[str, T] = {}
        for name, gradient in gradients.items():
            if name not in self.own:
                corrected[name] = gradient
                continue
            number = cast("_Number", gradient)
            self._sums[name] = number + self._sums[name] if name in self._sums else number + 0
            corrected[name] = cast("T", number - self.own[name] + self.shared[name])
        return corrected

    def end(self) -> Mapping[str, T]:
        """Return the shard's new control variate: the mean of its gradients on the way.

        That is option II of the source for plain steps, told without the learning rate.
        """
        means = {name: cast("T", total / self._steps) for name, total in self._sums.items()}
        return {**self.own, **means}


class Scaffold(WeightedMean):
    """The weighted mean of models that learned with control variates.

    Source: Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated
    Learning", algorithm 1, with a global step of 1 and shards weighted by their examples.
    """

    name = "scaffold"
    client = ScaffoldClient

    def begin(self, initial: Arrays) -> Arrays:
        """Return a control variate of zeros, and that no examples are known of."""
        import numpy as np

        parts = np.zeros(0, np.int64)
        return {**self.own(initial), _EXAMPLES: np.zeros((), np.int64), _PARTS: parts}

    def shared(self, state: Arrays) -> Arrays:
        """Return everybody's control variate."""
        return {name: array for name, array in state.items() if name not in (_EXAMPLES, _PARTS)}

    def own(self, initial: Arrays) -> Arrays:
        """Return a control variate of zeros, for what can be learned by gradients."""
        import numpy as np

        return {n: np.zeros(a.shape, a.dtype) for n, a in initial.items() if a.dtype.kind == "f"}

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the mean of the models, and the mean of all shards' control variates so far."""
        import numpy as np

        from ..sums import as_type

        mean = self.mean(solutions, before)
        variate, known = self.shared(state), int(state[_EXAMPLES])
        moved = {name: np.zeros(array.shape) for name, array in variate.items()}
        heard, parts = known, {int(part) for part in state.get(_PARTS, ())}
        for solution in solutions:
            # The state of an earlier release has no parts: there, who had a variate was heard.
            moved_before = any(array.any() for array in solution.given.values())
            if not moved_before and solution.part not in parts:
                heard += solution.examples
            if solution.part:
                parts.add(solution.part)
            for name, sum_ in moved.items():
                change = solution.client[name].astype(np.float64) - solution.given[name]
                np.add(sum_, change * solution.examples, out=sum_)
        # A shard that is left out has not moved; one that never was there counts for nothing.
        new = {
            name: as_type(
                (array.astype(np.float64) * known + moved[name]) / max(1, heard), array.dtype.name
            )
            for name, array in variate.items()
        }
        counts = {_EXAMPLES: np.array(heard, np.int64), _PARTS: np.array(sorted(parts), np.int64)}
        return mean._replace(state={**new, **counts})
