"""What the neural learner does where nobody has said: by preset, rows, shards and form.

This needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..forms import Table, taken

if TYPE_CHECKING:
    from loaders.rows import Form

    from .learner import NeuralOptions

FAST, STANDARD, BEST, FIRST = "fast", "standard", "best", "first"
PRESETS = FAST, STANDARD, BEST, FIRST


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a net is trained, in numbers.

    Args:
        first: whether it is as the first release did it: its small net, pictures of a batch moved
            alike from the second epoch on, the rate falls from the start, weights of all kinds
            decay.
        rounds: how often shards are merged.
        epochs: passes over its shard that each job makes, each round.
        batch_size: rows a step.
        lr: the highest learning rate.
        warm: part of the run in which it rises to that; then it falls to zero.
        width: channels after the first convolution; 0: the small net, or that of a table.
        shift: training pictures are moved by up to so many pixels, each by its own.
        flip: whether they are mirrored at random.
    """

    first: bool = False
    rounds: int
    epochs: int
    batch_size: int
    lr: float
    warm: float = 0.0
    width: int = 0
    shift: int = 0
    flip: bool = False

    def rate(self, done: float) -> float:
        """Return the learning rate when so much of the run, 0 to 1, is done."""
        if done < self.warm:
            return self.lr * done / self.warm
        return self.lr * ((1 - done) / (1 - self.warm))


def recipe_of(
    options: NeuralOptions, form: Form, rows: int, shards: int, rounds: int | None
) -> Recipe:
    """Return how to train, where options don't say, by preset, rows, shards and form.

    Args:
        options: of the learner.
        form: of the data.
        rows: that are learned from, in all.
        shards: that they are cut into.
        rounds: that somebody wants; None: nobody has said.
    """
    if options.preset == FIRST:
        found = Recipe(first=True, rounds=5, epochs=3, batch_size=16, lr=0.02)
    elif isinstance(taken(form, "neural"), Table):
        found = _of_table(options.preset, rows / shards)
    else:
        found = _of_pictures(options.preset, rows / shards)
    given: dict[str, Any] = {
        "rounds": rounds, "epochs": options.epochs, "batch_size": options.batch_size,
        "lr": options.lr, "width": options.width, "shift": options.shift, "flip": options.flip,
    }  # fmt: skip
    return _said(found, given)


#: Rows of a shard from which on it has many, and a step takes more of them.
_MANY = 2_000


def _of_pictures(preset: str, rows: float) -> Recipe:
    """Return how to learn pictures, from so many rows a shard."""
    many = rows >= _MANY
    batch_size, lr = (64, 0.3) if many else (32, 0.2)
    passes = {FAST: 4, STANDARD: 8, BEST: 24}[preset]
    steps = {FAST: 240, STANDARD: 600, BEST: 1200}[preset]
    passes = max(passes, math.ceil(steps / max(1.0, rows / batch_size)))
    rounds = 4 if preset != BEST else 8
    return Recipe(
        rounds=rounds, epochs=max(1, min(64, round(passes / rounds))), batch_size=batch_size,
        lr=lr, warm=0.2, width=48 if preset == BEST else 32, shift=1,
    )  # fmt: skip


def _of_table(preset: str, rows: float) -> Recipe:
    """Return how to learn a table, from so many rows a shard."""
    batch_size = 32 if rows >= _MANY else 16
    passes = {FAST: 10, STANDARD: 20, BEST: 40}[preset]
    steps = {FAST: 200, STANDARD: 400, BEST: 800}[preset]
    passes = max(passes, math.ceil(steps / max(1.0, rows / batch_size)))
    return Recipe(
        rounds=5, epochs=max(1, min(64, round(passes / 5))), batch_size=batch_size, lr=0.05,
        warm=0.2,
    )  # fmt: skip


def _said(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """Return it with what somebody has said."""
    return replace(recipe, **{name: each for name, each in values.items() if each is not None})
