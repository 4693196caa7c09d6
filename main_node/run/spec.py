"""What a run is: all that shapes its model, and what a user says of how it goes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from learning import options_of
from loaders import DataOptions
from protocol.options import Checked, flat, make, option
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class PlanOptions(Checked):
    """How often shards are learned from and merged."""

    rounds: int = option(
        5, "How often to merge; the merged model starts the next round.", least=1, most=MAX_COUNT
    )
    seed: int = option(
        0, "Of everything random: same seed, data and jobs, same model.", least=0, most=MAX_COUNT
    )


@dataclass(frozen=True, kw_only=True)
class MergeOptions(Checked):
    """What is merged, and where its parts are counted."""

    count: str = option(
        "main",
        "algebraic: where to count what contradicts the merged atoms; the model is the same.",
        choices=("main", "nodes"),
    )
    partial: bool = option(
        False, "Merge what there is when a job fails for good, instead of ending."
    )


@dataclass(frozen=True, kw_only=True)
class CompanyOptions(Checked):
    """How many computing nodes a run wants, and for how long it waits for them."""

    min_nodes: int = option(
        1, "Begin when so many computing nodes are here.", least=1, most=MAX_COUNT
    )
    timeout_seconds: float | None = option(
        None, "Give up after so long without enough computing nodes.", flag="--timeout", least=0,
        most=1e9, metavar="SECONDS", unset="never",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """All that shapes a run's model: of equal ones, on equal data, the models are equal.

    Args:
        data: which rows, and how they are cut.
        learner: its name.
        made: what the learner is made with: the dataclass of its options.
        plan: of the rounds.
    """

    data: DataOptions
    learner: str
    made: Any
    plan: PlanOptions

    @classmethod
    def of(cls, values: dict[str, Any]) -> RunSpec:
        """Return the run that options by name describe.

        Raises:
            UnknownLearner: there is no such learner.
        """
        learner = values["learner"]
        return cls(
            data=make(DataOptions, values), learner=learner,
            made=make(options_of(learner), values), plan=make(PlanOptions, values),
        )  # fmt: skip

    @property
    def make(self) -> dict[str, Any]:
        """What the learner is made with, by name, whatever the round."""
        return flat(self.made)

    @property
    def shape(self) -> dict[str, Any]:
        """All of it by name."""
        return {**flat(self.data), "learner": self.learner, **self.make, **flat(self.plan)}

    def text(self) -> str:
        """Return all of it in one text."""
        return json.dumps(self.shape, sort_keys=True)

    def is_that_of(self, text: str) -> bool:
        """Whether a text of `text`, maybe an earlier release's, is of an equal run."""
        try:
            stored = json.loads(text)
        except ValueError:
            return False
        return isinstance(stored, dict) and self.shape.items() <= stored.items()
