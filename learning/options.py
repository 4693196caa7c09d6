"""What a user says of what learns, and how its solutions are merged."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class LearnerOptions(Checked):
    """What learns."""

    learner: str = option(
        "neural",
        "What learns: neural, algebraic, or what an installed package brings.",
        may_be_empty=True,
    )


@dataclass(frozen=True, kw_only=True)
class StrategyOptions(Checked):
    """How solutions are merged."""

    merge: str | None = option(
        None,
        "How solutions are merged: mean, weighted by rows; scaffold, which corrects each step"
        " where shards differ; union, for algebraic.",
        metavar="STRATEGY", unset="the learner's own: mean, or union", added=True,
    )  # fmt: skip
