"""A strategy with a state and a part in each step: shards are held back to where they ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from learning import Client, Solution, Strategy
from learning.merging.sums import weighted_mean
from loaders.rows import Arrays
from protocol.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class TetherOptions(Checked):
    """How much shards are held back."""

    hold: float = option(0.1, "tether: how much a shard is held back.", least=0, most=10)


class TetherClient(Client[Any]):
    """Adds to each gradient what pulls to where the shard ended last time, and everybody."""

    def correct(self, gradients: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
        """Return the gradients, with the pull."""
        self._weights = weights
        hold = self.shared["hold"] * (self.own["times"] > 0)
        return {
            name: gradient + hold * (weights[name] - (self.own[name] + self.shared[name]) / 2)
            for name, gradient in gradients.items()
        }

    def end(self) -> dict[str, Any]:
        """Return where the shard ended, and how often it has."""
        ended = {name: np.array(self._weights[name]) for name in self.own if name != "times"}
        return {**ended, "times": self.own["times"] + 1}


class Tether(Strategy):
    """The weighted mean of models that were held back."""

    name, options, client = "tether", TetherOptions, TetherClient
    made: TetherOptions

    def begin(self, initial: Arrays) -> Arrays:
        """Return where everybody begins."""
        return self.own(initial)

    def shared(self, state: Arrays) -> Arrays:
        """Return where everybody ended on the whole, and how much to hold back."""
        return {**state, "hold": np.array(self.made.hold, np.float32)}

    def own(self, initial: Arrays) -> Arrays:
        """Return that a shard has been nowhere yet."""
        nowhere = {n: np.zeros_like(a) for n, a in initial.items() if n.startswith("layer.")}
        return {**nowhere, "times": np.array(0, np.int32)}

    def merge(
        self, solutions: Iterable[Solution], before: Arrays, state: Arrays
    ) -> tuple[Arrays, Arrays]:
        """Return the mean; the state: the mean of where shards ended, gone through once more."""
        model = weighted_mean(solutions)
        ended = [solution.client for solution in solutions]
        means = {
            n: np.mean([each[n] for each in ended], 0).astype(a.dtype) for n, a in state.items()
        }
        assert {int(each["times"]) for each in ended} == {int(state["times"]) + 1}
        return model, means
