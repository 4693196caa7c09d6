"""What a user says of how the neural learner, or a net of their own, is trained."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import option
from protocol.wire.words import plural

from ..descending import DescentOptions, passes
from .presets import FIRST, PRESETS, STANDARD


@dataclass(frozen=True, kw_only=True)
class PresetOptions(DescentOptions):
    """How a net is trained; what nobody says follows from preset, rows and shards."""

    preset: str = option(
        STANDARD,
        "nets: how much to learn. On MNIST's 60,000 rows in 4 shards fast (4 passes) comes to"
        " 99.3 %, standard (8) to 99.4 in less than twice the time, best (16) to 99.5; the fewer"
        " rows, the more passes. first is what the first release did (15 passes, 99.3 %, in four"
        " times the time of fast).",
        choices=PRESETS, added=True, before=FIRST,
    )  # fmt: skip
    shift: int | None = option(
        None, "nets: training pictures are moved by up to so many pixels, each by its own.",
        least=0, most=64, set=True, added=True, unset="the preset's",
    )  # fmt: skip
    flip: bool | None = option(
        None, "nets: mirror training pictures at random, left to right: not for what is read.",
        set=True, added=True, unset="false",
    )  # fmt: skip

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        if self.steps is not None:
            return f"{plural(self.steps, 'step')} ({self.preset})"
        return f"{passes(self.epochs or 1)} ({self.preset})"


@dataclass(frozen=True, kw_only=True)
class NeuralOptions(PresetOptions):
    """How the neural learner is made."""

    width: int | None = option(
        None,
        "neural: channels after the first convolution, half of those after the others; of a table,"
        " units of each hidden layer.",
        least=1, most=1024, set=True, added=True, unset="the preset's",
    )  # fmt: skip
