"""What a user says of the learners."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class LearnerOptions(Checked):
    """What learns."""

    learner: str = option("neural", "What learns: neural, or algebraic.", may_be_empty=True)


@dataclass(frozen=True, kw_only=True)
class NeuralOptions(Checked):
    """How the neural learner is made."""

    epochs: int = option(
        3, "neural: passes over its shard that each job makes, each round.", least=1,
        most=MAX_COUNT,
    )  # fmt: skip
    batch_size: int = option(16, "neural: rows a step.", least=1, most=MAX_COUNT)
    lr: float = option(
        0.02, "neural: learning rate at the start; it falls to zero over all rounds.", least=0,
        most=1e6, above=True,
    )  # fmt: skip
    threads: int = option(
        1,
        "neural: of each job. Part of the job: another number gives another (equally good) model.",
        least=1, most=1024,
    )  # fmt: skip

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        from protocol.wire.words import plural

        return plural(self.epochs, "epoch")


@dataclass(frozen=True, kw_only=True)
class AlgebraicOptions(Checked):
    """How the algebraic learner is made."""

    batches: int = option(
        30, "algebraic: batches that each job learns, each round.", least=1, most=100_000
    )
    levels: int = option(
        1, "algebraic: thresholds of grey that a pixel is told by.", least=1, most=16
    )
    shifts: int = option(
        1, "algebraic: images are also learned moved by up to so many pixels.", least=0, most=8
    )

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        from protocol.wire.words import plural

        return plural(self.batches, "batch", "es")
