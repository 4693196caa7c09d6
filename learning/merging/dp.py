"""The mean of clipped ways with noise: what a model says of any one shard is bounded."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from protocol.options import Checked, option

from ..errors import MergeError
from .strategy import NOTHING, Merged, Strategy

if TYPE_CHECKING:
    import numpy as np

    from loaders.rows import Array, Arrays

    from ..contract import Solution

#: In the state: what noise is drawn with, and how many rounds were merged.
_KEY, _ROUNDS, _KEY_BYTES = "key", "rounds", 32


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions(Checked):
    """How much of a shard's way counts, and how much noise there is."""

    clip: float = option(
        1.0, "A solution that is further than this from the model before is drawn back to that.",
        least=0, most=1e9, above=True,
    )  # fmt: skip
    noise: float = option(
        1.0, "Deviation of the noise on the sum of the ways, in clips.", least=0, most=1e9,
        above=True,
    )  # fmt: skip
    delta: float = option(
        1e-5, "How likely epsilon may not hold; far less than one in the number of shards.",
        least=0, most=0.5, above=True,
    )  # fmt: skip


class DifferentialPrivacy(Strategy):
    """The mean of ways that are no longer than `clip`, each shard's counted once, with noise.

    Whoever has all the rounds' models, and knows all shards but one, learns little of whether that
    one was there: what epsilon and delta say is about a shard, all rows of a job together, that is
    there in every round or in none. Where it may be another in its place, the noise has to be twice
    as much for the same epsilon. All shards are in each round: none is hidden by chance.

    Every array of floats has noise, means of activations too, that a solution has moved; what none
    has moved is what the learner said of the whole data before the first round, as means of a
    table's columns: nothing hides that, nor rows that are in every shard (`--shared-rows`). Whole
    numbers stay as they began. What stands in the run's directory, solutions among it, is for its
    owner only.

    The noise is drawn with a key that the system gave, and not the run's seed: who knows that could
    take the noise off again. The key is in the state beside the rounds' models, so that a run that
    is resumed is the same run; it is never published. The noise is numpy's, in floating point:
    against who makes models for the purpose of an attack on their last bits (Mironov 2012, "On
    significance of the least significant bits for differential privacy") it does not stand.

    Source: McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models",
    algorithm 1, with all shards in each round and flat clipping; epsilon: Balle and Wang 2018,
    "Improving the Gaussian Mechanism for Differential Privacy", theorem 8, as Google's
    dp-accounting has it: so many rounds are one, with noise that is less by the root of them.
    """

    name, options, goes_on = "dp", PrivacyOptions, True
    made: PrivacyOptions

    def check(self) -> None:
        """Raise unless it can be said how private a model is.

        Raises:
            MergeError: the library that does is missing.
        """
        if find_spec("dp_accounting") is None:
            raise MergeError(
                "--merge dp says how private a model is by Google's dp-accounting, which is not"
                " installed here: pip install 'mnist-merge[privacy]'"
            )

    def begin(self, initial: Arrays) -> Arrays:
        """Return a key that nobody can guess, and that no round was merged."""
        import secrets

        import numpy as np

        key = np.frombuffer(secrets.token_bytes(_KEY_BYTES), np.uint8)
        return {_KEY: key, _ROUNDS: np.zeros((), np.int64)}

    def merge(
        self, solutions: Collection[Solution], before: Arrays = NOTHING, state: Arrays = NOTHING
    ) -> Merged:
        """Return the model before, moved by the mean of the clipped ways, and noise.

        Raises:
            MergeError: no solution, arrays that don't fit together, or that are complex.
        """
        import numpy as np

        from ..sums import as_type, checked
        from ..ways import distance, part_of_way

        sums = {n: np.zeros(a.shape) for n, a in before.items() if a.dtype.kind == "f"}
        odd = [name for name, array in before.items() if array.dtype.kind == "c"]
        if odd:
            raise MergeError(f"array {odd[0]!r} is complex: no noise is known for it")
        taken, moved = [], set[str]()
        for solution in checked(solutions):
            far = distance(solution.arrays, before)
            taken.append(min(1.0, self.made.clip / far) if far else 1.0)
            for name, sum_ in sums.items():
                if (solution.arrays[name] != before[name]).any():
                    moved.add(name)
                    way = part_of_way(solution.arrays[name], before[name], taken[-1])
                    np.add(sum_, way, out=sum_)
        if not taken:
            raise MergeError("nothing to merge: no solution")
        round_, model = int(state[_ROUNDS]) + 1, dict(before)
        noise = _drawn(state[_KEY], round_)
        for name in sorted(moved):
            deviation = self.made.noise * self.made.clip
            sums[name] += noise.normal(0.0, deviation, sums[name].shape)
            step = sums.pop(name) / len(taken)
            model[name] = as_type(before[name] + step, before[name].dtype.name)
        after = {_KEY: state[_KEY], _ROUNDS: np.array(round_, np.int64)}
        return Merged(model, after, taken)

    def tell(self, state: Arrays) -> Mapping[str, object]:
        """Return epsilon, and the delta that it is for."""
        import dp_accounting

        rounds = int(state[_ROUNDS])
        epsilon = dp_accounting.get_epsilon_gaussian(
            self.made.noise / math.sqrt(rounds), self.made.delta
        )
        return {"epsilon": float(epsilon), "delta": self.made.delta, "by": "shard"}


def _drawn(key: Array, round_: int) -> np.random.Generator:
    """Return what draws the noise of a round."""
    import numpy as np

    entropy = np.random.SeedSequence(int.from_bytes(key.tobytes(), "little"), spawn_key=(round_,))
    return np.random.Generator(np.random.Philox(entropy))
