"""What strategies have in common that go on from the mean: an optimizer at the main node."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protocol.options import option

from .mean import MeanOptions, WeightedMean
from .strategy import NOTHING, Merged

if TYPE_CHECKING:
    from loaders.rows import Array, Arrays

    from ..contract import Solution

#: In the state, beside the optimizer's arrays: how many rounds were merged.
_ROUNDS = "rounds"


@dataclass(frozen=True, kw_only=True)
class ServerOptions(MeanOptions):
    """How far a round goes."""

    rate: float = option(
        1.0, "The learning rate of the main node: 1 goes as far as the mean.", least=0, most=1e6,
        above=True,
    )  # fmt: skip


class ServerOptimizer(WeightedMean):
    """Takes the way from the model before to the mean for a gradient's, and makes a step of it.

    What of a model is not learned by gradients, as means of activations, is the mean.

    Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2, with shards weighted
    by their examples.
    """

    options: ClassVar[type[ServerOptions]] = ServerOptions
    goes_on = True
    made: ServerOptions
    #: What it keeps of each array from round to round, of the same shape, beginning with zeros.
    kept: ClassVar[tuple[str, ...]] = ()

    def step(self, way: Array, kept: Mapping[str, Array], round_: int) -> tuple[Array, Arrays]:
        """Return the step to take, and what is to be kept, all float64; of some numbers at a time.

        Args:
            way: from the model before to the mean.
            kept: by the names in `kept`.
            round_: counted from 1.
        """
        raise NotImplementedError

    def begin(self, initial: Arrays) -> Arrays:
        """Return zeros of everything that is kept, and that no round was merged.

        Of numbers of 16 bits as of 32: squares of theirs would be endless from 256 on.
        """
        import numpy as np

        moved = {name: array for name, array in initial.items() if array.dtype.kind == "f"}
        zeros = {
            f"{kept}/{name}": np.zeros(array.shape, np.promote_types(array.dtype, np.float32))
            for name, array in moved.items() for kept in self.kept
        }  # fmt: skip
        return {**zeros, _ROUNDS: np.zeros((), np.int64)}

    def _moved(
        self, mean: Array, before: Array, kept: Arrays, round_: int
    ) -> tuple[Array, dict[str, Array]]:
        """Return an array after the step, and what is kept of it, each in its type."""
        import numpy as np

        from ..layout import blocks

        model, after = np.empty_like(mean), {n: np.empty_like(each) for n, each in kept.items()}
        outs = zip(blocks(model), *map(blocks, after.values()), strict=True)
        every = zip(blocks(mean), blocks(before), *map(blocks, kept.values()), strict=True)
        for (moved, *new), (to, *wide) in zip(outs, every, strict=True):
            start, *old = (each.astype(np.float64) for each in wide)
            step, now = self.step(to - start, dict(zip(kept, old, strict=True)), round_)
            moved[:] = start + step
            for out, name in zip(new, after, strict=True):
                out[:] = now[name]
        return model, after

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the model after the step, and what is kept for the next one.

        Raises:
            MergeError: no solution, no examples, or arrays that don't fit together.
        """
        import numpy as np

        mean = self.mean(solutions, before)
        round_ = int(state[_ROUNDS]) + 1
        model, after = dict(mean.model), {_ROUNDS: np.array(round_, np.int64)}
        for name, array in mean.model.items():
            if not all(f"{kept}/{name}" in state for kept in self.kept):  # it is not learned
                continue
            kept = {kept: state[f"{kept}/{name}"] for kept in self.kept}
            model[name], now = self._moved(array, before[name], kept, round_)
            after |= {f"{kept}/{name}": each for kept, each in now.items()}
        return mean._replace(model=model, state=after)
