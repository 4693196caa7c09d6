"""What the neural learner does where nobody has said: by preset, rows, shards and form.

This needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..forms import Picture, Table, taken
from .shapes import HIDDEN, WIDTH

if TYPE_CHECKING:
    from loaders.rows import Form

    from .options import PresetOptions

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
        epochs: passes over its shard that each job makes, each round; below 1 a part of one.
        steps: steps that it makes instead; None: passes.
        batch_size: rows a step.
        lr: the highest learning rate.
        warm: part of the run in which it rises to that; then it falls to zero.
        width: channels after the first convolution, or units of each hidden layer of a table's
            net; 0: the net of the first release.
        shift: training pictures are moved by up to so many pixels, each by its own.
        flip: whether they are mirrored at random.
    """

    first: bool = False
    rounds: int
    epochs: float
    steps: int | None = None
    batch_size: int
    lr: float
    warm: float = 0.0
    width: int = 0
    shift: int = 0
    flip: bool = False

    @property
    def said_epochs(self) -> float | None:
        """Passes of a job, where it is told by them."""
        return self.epochs if self.steps is None else None

    def in_a_pass(self, rows: int) -> int:
        """Return how many batches so many rows are learned from in."""
        if self.first:
            return math.ceil(rows / self.batch_size)
        return max(1, round(rows / self.batch_size))

    def steps_of(self, rows: int) -> int:
        """Return how many steps a job makes, of a shard of so many rows."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * self.in_a_pass(rows)))

    def batches(self, rows: int) -> tuple[slice, ...]:
        """Return which of so many rows, in the order of a pass, are learned from together."""
        size = self.batch_size
        if self.first:
            return tuple(slice(first, first + size) for first in range(0, rows, size))
        # Of equal sizes, but for one row: of a few left over, mean and variance say little.
        count = self.in_a_pass(rows)
        bounds = [rows * each // count for each in range(count + 1)]
        return tuple(map(slice, bounds, bounds[1:]))

    def rate(self, done: float) -> float:
        """Return the learning rate when so much of the run, 0 to 1, is done."""
        if done < self.warm:
            return self.lr * done / self.warm
        return self.lr * ((1 - done) / (1 - self.warm))


def recipe_of(
    options: PresetOptions, form: Form, rows: int, shards: int, rounds: int | None
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
    else:
        found = _by_preset(options.preset, taken(form, "neural"), rows, shards)
    given: dict[str, Any] = {
        "epochs": options.epochs, "batch_size": options.batch_size, "lr": options.lr,
        "width": getattr(options, "width", None), "shift": options.shift, "flip": options.flip,
    }  # fmt: skip
    found = _said(found, given)
    if options.steps is not None:
        found = _by_steps(found, options.steps, math.ceil(rows / shards))
    return _said(found, {"rounds": rounds})


#: Passes over all rows where there are `_MANY`; of fewer rows more, by the root of how many fewer,
#: so that there are steps enough. Found on rows of MNIST and Fashion-MNIST that were kept aside.
_PASSES = {FAST: 4, STANDARD: 8, BEST: 16}
_MANY, _MOST_TIMES = 60_000, 20
_ROUNDS = {FAST: 4, STANDARD: 4, BEST: 8}
#: Of more shards, each is further from the others: they learn more, and of pictures they are merged
#: so many times a pass, by whether they are many, if that is no more than so many times; and as a
#: mean of many is calmer than each, at a higher rate. Found by `python -m benchmarks.plans`.
_FEW_SHARDS, _MANY_SHARDS, _MORE = 4, 8, 1.5
_A_PASS, _A_PASS_OF_MANY, _MOST_ROUNDS, _HIGHER, _HIGHEST = 2, 4, 32, 2.0, 0.4
#: From so many pixels a side on, pictures may be moved by one.
_MOVED = 8


def _by_preset(preset: str, found: Picture | Table, rows: int, shards: int) -> Recipe:
    """Return how to learn, by a preset, from so many rows in so many shards."""
    own, many = rows / shards, shards > _FEW_SHARDS
    more = _MORE if many else 1
    passes = more * _PASSES[preset] * min(math.sqrt(max(1, _MANY / max(1, rows))), _MOST_TIMES)
    rounds = round(more * _ROUNDS[preset])
    epochs: float = max(1, round(passes / rounds))
    if isinstance(found, Table):
        batch_size, lr, width, shift = 64 if own >= 4000 else 16, 0.1, HIDDEN, 0
        epochs = max(1, round(passes / 2 / rounds))
    else:
        batch_size, lr = (64, 0.3) if own >= 8000 else (32, 0.2) if own >= 64 else (16, 0.1)
        width, shift = WIDTH, int(min(found.height, found.width) >= _MOVED)
        if many:
            a_pass = _A_PASS_OF_MANY if shards > _MANY_SHARDS else _A_PASS
            rounds = max(rounds, min(_MOST_ROUNDS, round(passes * a_pass)))
            lr, epochs = min(_HIGHEST, _HIGHER * lr), round(passes / rounds, 2)
    return Recipe(
        rounds=rounds, epochs=epochs, batch_size=batch_size, lr=lr, warm=0.2, width=width,
        shift=shift,
    )  # fmt: skip


def _by_steps(recipe: Recipe, steps: int, own: int) -> Recipe:
    """Return one of so many steps a round, and in as many rounds as come to the same passes.

    Args:
        recipe: that says how many passes there are.
        steps: of each job, each round.
        own: rows of a shard.
    """
    wanted = recipe.rounds * recipe.steps_of(own)
    return replace(recipe, steps=steps, rounds=max(1, round(wanted / steps)))


def _said(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """Return it with what somebody has said."""
    return replace(recipe, **{name: each for name, each in values.items() if each is not None})
