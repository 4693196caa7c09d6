"""How accurate a merged model is while 2 of 8 nodes lie: strategy by attack, and by skew of labels.

Runs are gone through in this process, without nodes and messages, on some rows of MNIST: few, and
few rounds, so that the whole table takes some five minutes of CPU. What honest shards learn in the
first round is learned once.

Usage: python -m benchmarks.liars [ROWS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from itertools import product

import numpy as np
import torch

import loaders
from learning import Learner, Solution, Turn, create, merging
from loaders import ArraySource, Rows
from loaders.rows import Array, Arrays
from loaders.sharding import shard

from .common import machine

#: With this seed liars have about as many rows as others, where shards are skewed too.
JOBS, LIARS, ROUNDS, SEED = 8, 2, 4, 4
MADE = {"preset": "fast", "epochs": 2, "width": 8, "lr": 0.1, "batch_size": 32, "shift": 0}
SKEWS = ("disjoint", "dirichlet:0.3")
#: Bulyan bears one liar of eight at most.
STRATEGIES = (
    "mean:bound=0", "mean", "clipping", "median", "trimmed:trim=0.25", "rfa", "krum:liars=2",
    "multikrum:liars=2", "bulyan:liars=1",
)  # fmt: skip
NONE, FLIPPED = "none", "labels flipped"


def noise(array: Array, before: Array, random: np.random.Generator) -> Array:
    """Return anything."""
    return np.asarray(random.normal(0, 1, array.shape))


def turned(array: Array, before: Array, random: np.random.Generator) -> Array:
    """Return as long a way, in the other direction."""
    return np.asarray(2 * before - array)


def scaled(array: Array, before: Array, random: np.random.Generator) -> Array:
    """Return a way that is a hundred times as long."""
    return np.asarray(before + 100 * (array - before))


#: What becomes of each array of real numbers that a liar sends; of flipped labels it is learned.
ATTACKS: dict[str, Callable[[Array, Array, np.random.Generator], Array] | None] = {
    NONE: None, "noise": noise, "sign turned": turned, "scaled x100": scaled, FLIPPED: None,
}  # fmt: skip


def lied(attack: str, arrays: Arrays, before: Arrays, seed: int) -> Arrays:
    """Return what a liar sends in the place of arrays; of whole numbers the same."""
    how, random = ATTACKS[attack], np.random.default_rng(seed)
    if how is None:
        return arrays
    return {
        name: array if array.dtype.kind != "f" else how(
            array.astype(np.float64), before[name].astype(np.float64), random
        ).astype(array.dtype)
        for name, array in arrays.items()
    }  # fmt: skip


class Runs:
    """Runs over the same shards.

    Args:
        rows: how many are learned from.
        skew: how they are cut.
    """

    def __init__(self, rows: int, skew: str) -> None:
        source = loaders.open_source("mnist")
        every = Rows(source, "train")
        self._train, self._test = every.of(slice(0, rows)), Rows(source, "test")
        cut = shard(self._train.labels, JOBS, skew, SEED, 0.0)
        self._shards = [self._train.of(each) for each in cut]
        self._flipped = [self._as_flipped(each) for each in self._shards[:LIARS]]
        self._made: Mapping[str, object] = MADE
        made, _ = self._learner(0).suited(self._train.form, rows, JOBS, ROUNDS)
        self._made = {name: value for name, value in vars(made).items() if value is not None}
        learner = self._learner(0)
        self._fresh = learner.begin(learner.initial(self._train.form), self._train)
        self._first = cache(lambda part, flips: self._fit(0, part, flips, self._fresh))

    def _learner(self, round_: int) -> Learner:
        return create("neural", dict(self._made), Turn(round_, ROUNDS, SEED))

    def _as_flipped(self, rows: Rows) -> Rows:
        labels = len(rows.form.classes) - 1 - rows.labels
        return Rows(ArraySource("flipped", rows.form, {"all": (rows.arrays, labels)}), "all")

    def _fit(self, round_: int, part: int, flips: bool, start: Arrays) -> Solution:
        entropy = np.random.SeedSequence([SEED, round_, part])
        return self._learner(round_).fit(
            (self._flipped if flips else self._shards)[part], start,
            seed=int(entropy.generate_state(1)[0]), progress=lambda done, note="", /: None,
            cancelled=lambda: False,
        )  # fmt: skip

    def accuracy(self, how: str, attack: str) -> float:
        """Return the accuracy on the test set after the last round."""
        strategy, model = merging.parse(how), self._fresh
        learner = self._learner(0)
        state = strategy.begin(learner.learned(model))
        for number in range(ROUNDS):
            solutions = []
            for part in range(JOBS):
                lies = part < LIARS and attack != NONE
                flips = lies and attack == FLIPPED
                made = self._fit(number, part, flips, model) if number else self._first(part, flips)
                arrays = lied(attack, made.arrays, model, number * JOBS + part) if lies else None
                solutions.append(Solution(arrays or made.arrays, made.examples))
            merged = merging.merge(strategy, solutions, model, state)
            model, state = learner.settle(merged.model, lambda make: iter(())), merged.state
        with np.errstate(all="ignore"):
            return float((learner.predict(model, self._test) == self._test.labels).mean())


def main(rows: int) -> None:
    torch.set_num_threads(1)
    print(machine())
    for skew in SKEWS:
        runs = Runs(rows, skew)
        print(f"\n{rows:,} rows, {JOBS} shards ({skew}), {ROUNDS} rounds; accuracy in %\n")
        print("| strategy |", *(f"{attack} |" for attack in ATTACKS))
        print("|---|" + "---|" * len(ATTACKS), flush=True)
        cells: dict[str, list[str]] = {how: [] for how in STRATEGIES}
        for how, attack in product(STRATEGIES, ATTACKS):
            cells[how].append(f"{100 * runs.accuracy(how, attack):.1f}")
            if attack == tuple(ATTACKS)[-1]:
                print(f"| `{how}` |", *(f"{cell} |" for cell in cells[how]), flush=True)
    print(f"\n{time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["4000"])[0]))
