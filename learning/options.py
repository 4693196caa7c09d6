"""What a user says of what learns, and how its solutions are merged."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class LearnerOptions(Checked):
    """What learns."""

    learner: str = option(
        "neural",
        "What learns: neural, algebraic, what an installed package brings, or your own net or"
        " learner: FILE.py:NAME or package.module:NAME, which is run.",
        metavar="LEARNER", may_be_empty=True, others="settings",
    )  # fmt: skip
    settings: tuple[str, ...] = option(
        (),
        "Any option of what learns by its name; one of your own learner has no other way. Repeat it"
        " for several; --learner LEARNER --help tells them.",
        flag="--set", metavar="NAME=VALUE", unset="none", added=True,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StrategyOptions(Checked):
    """How solutions are merged."""

    merge: str | None = option(
        None,
        "How solutions are merged, with options behind it: mean, fedavgm:momentum=0.5, scaffold, or"
        " your own, FILE.py:NAME or package.module:NAME, which is run. --merge NAME --help tells"
        " the options of one; docs/merging.md has all, and when which is right.",
        metavar="STRATEGY[:NAME=VALUE,...]", unset="the learner's own: mean, or union", added=True,
    )  # fmt: skip
