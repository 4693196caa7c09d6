"""What a step of the neural learner costs, beside the same in plain torch: CPU milliseconds.

Both learn from the same rows in one process and one thread, in turns; the ratio is of the medians.

Usage: python -m benchmarks.steps [RUNS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

import loaders
from learning import Turn, create
from learning.neural.descent import Descent
from learning.neural.feeding import Course, Host, Take
from learning.neural.nets import net_of
from learning.neural.presets import recipe_of

from . import bare
from .common import HEAD, Row, alternate, machine

ROWS = 6_400


def _spent(work: Callable[[], object], steps: int) -> float:
    begun = time.thread_time()
    work()
    return 1e3 * (time.thread_time() - begun) / steps


class Ours:
    """A shard and the learner."""

    def __init__(self) -> None:
        self.rows = loaders.load("mnist").limited(ROWS)
        self._learner = create("neural", {"epochs": 1, "batch_size": bare.BATCH}, Turn(1, 4))
        self._start = self._learner.initial(self.rows.form)
        made = self._learner.made
        recipe = recipe_of(made, self.rows.form, ROWS, 1, 4)  # type: ignore[arg-type]
        course = Course.of(self.rows, recipe, first_round=False)
        self.steps = len(course.batches)
        take = Take(self._start, self.rows.form, torch.device("cpu"))
        self._feed = Host(self.rows, course, take)
        net = net_of(self._start, self.rows.form)
        self._net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._descent = Descent(self._net, as_first=False, fused=True)
        self._kept = list(self._batches())

    def _batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(map(self._feed.batch, self._feed.parts(np.random.default_rng(0))))

    def whole(self) -> float:
        """Return what a step costs as part of a job."""
        return _spent(
            lambda: self._learner.fit(
                self.rows, self._start, seed=0, progress=lambda done, note="": None,
                cancelled=lambda: False,
            ), self.steps,
        )  # fmt: skip

    def data(self) -> float:
        """Return what a batch costs."""
        return _spent(self._batches, self.steps)

    def forward(self) -> float:
        """Return what the net costs, forward."""

        def work() -> None:
            with torch.no_grad():
                for inputs, _ in self._kept:
                    self._net.train()(inputs)

        return _spent(work, self.steps)

    def both(self) -> float:
        """Return what the net costs, forward and backward."""

        def work() -> None:
            for inputs, labels in self._kept:
                self._descent.forget()
                loss = functional.cross_entropy(self._net.train()(inputs), labels)
                loss.backward()  # type: ignore[no-untyped-call]

        return _spent(work, self.steps)

    def descent(self) -> float:
        """Return what it costs to move the weights."""

        def work() -> None:
            for _ in range(self.steps):
                self._descent.step(1e-9)

        return _spent(work, self.steps)


class Bare:
    """The same in plain torch."""

    def __init__(self, rows: loaders.Rows) -> None:
        self._batches, self._net = bare.Batches(rows), bare.net().train()
        self._optimizer = bare.optimizer_of(self._net)
        self._steps = -(-len(rows) // bare.BATCH)

    def whole(self) -> float:
        """Return what a step costs."""

        def work() -> None:
            for inputs, labels in self._batches.epoch():
                bare.step(self._net, self._optimizer, inputs, labels)

        return _spent(work, self._steps)

    def data(self) -> float:
        """Return what a batch costs."""
        return _spent(lambda: list(self._batches.epoch()), self._steps)


def measure(runs: int = 7) -> list[Row]:
    torch.set_num_threads(1)
    ours = Ours()
    peer = Bare(ours.rows)
    for warm in (ours.whole, peer.whole):
        warm()
    took, plain, data, bare_data, forward, both, descent = alternate(
        runs, ours.whole, peer.whole, ours.data, peer.data, ours.forward, ours.both, ours.descent
    )
    limit = "ms: plain torch"
    return [
        Row(f"a step of {bare.BATCH} rows", took, "ms", plain, limit, 1.05 * plain),
        Row("... data", data, "ms", bare_data, limit, bare_data + 0.05 * plain),
        Row("... forward", forward, "ms", took, "ms: the step", took),
        Row("... backward", both - forward, "ms", took, "ms: the step", took),
        Row("... the weights moved", descent, "ms", took, "ms: the step", took),
    ]


if __name__ == "__main__":
    print(machine(), HEAD, *measure(*map(int, sys.argv[1:])), sep="\n")
