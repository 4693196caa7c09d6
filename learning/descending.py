"""What a user says of how a net is trained by gradient descent, whoever has written the net."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import ConfigError
from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT
from protocol.wire.words import plural


@dataclass(frozen=True, kw_only=True)
class DescentOptions(Checked):
    """How a job trains a net; what nobody says, its learner knows."""

    epochs: float | None = option(
        None, "nets: passes over its shard that each job makes, each round; 0.5: half a pass.",
        least=0, above=True, most=1e9, unset="the preset's",
    )  # fmt: skip
    steps: int | None = option(
        None,
        "nets: steps of gradient descent that each job makes, each round, instead of passes."
        " Where nobody says --rounds, there are as many as make the preset's passes.",
        least=1, most=MAX_COUNT, added=True, unset="--epochs says how long",
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.epochs, float) and self.epochs.is_integer():  # as it was always told
            object.__setattr__(self, "epochs", int(self.epochs))
        if self.steps is not None and self.epochs is not None:
            raise ConfigError(
                f"--steps {self.steps} and --epochs {self.epochs}: a job makes so many steps or so"
                " many passes; give one of them"
            )


def passes(epochs: float) -> str:
    """Return `2 epochs`, `1 epoch` or `0.5 epochs`."""
    return plural(int(epochs), "epoch") if epochs == int(epochs) else f"{epochs:g} epochs"
