"""What a user says of how a net is trained by gradient descent, whoever has written the net."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class DescentOptions(Checked):
    """How a job trains a net; what nobody says, its learner knows."""

    epochs: int | None = option(
        None, "nets: passes over its shard that each job makes, each round.", least=1,
        most=MAX_COUNT, unset="the preset's",
    )  # fmt: skip
    batch_size: int | None = option(
        None, "nets: rows a step.", least=1, most=MAX_COUNT, unset="the preset's"
    )
    lr: float | None = option(
        None,
        "nets: the highest learning rate; it falls to zero over all rounds, but of a KubeModel.",
        least=0, most=1e6, above=True, unset="the preset's",
    )  # fmt: skip
    threads: int = option(
        1,
        "nets: threads of each job. Part of the job: another number gives another (equally good)"
        " model.",
        least=1, most=1024,
    )  # fmt: skip
