"""A learner: one layer, of whatever rows, learned by gradient descent with nothing but numpy.

It takes the place of the net wherever that is not what a test is about: a process is there, and has
learned, in a tenth of the time. Its model has an array that is a lone whole number, and one that is
empty.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from learning import Client, Learner, Solution
from learning.contract import Cancelled, Progress
from loaders.rows import Array, Arrays, Form, Labels, Rows
from protocol.options import Checked, option

#: A folder: from the second round on one job passes, the others wait until there is `open` in it.
GATE = "LINEAR_GATE"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LinearOptions(Checked):
    """How the linear learner is made."""

    descents: int = option(8, "linear: steps that each job makes, each round.", least=1, most=1e6)
    stride: float = option(1.0, "linear: length of a step.", least=0, above=True, most=1e3)
    pause: float = option(
        0.0, "linear: seconds that each step takes at least, so that a job can be met at work.",
        least=0, most=1e3,
    )  # fmt: skip

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        return f"{self.descents} steps"


class LinearLearner(Learner):
    """A class is the one whose weights a row fits best."""

    name, options = "linear", LinearOptions
    tells_loss = True
    made: LinearOptions

    def initial(self, form: Form) -> Arrays:
        """Return small weights, drawn with the run's seed."""
        features = sum(int(np.prod(each.shape)) for each in form.fields.values())
        random = np.random.default_rng(self.turn.initial_seed)
        weights = random.normal(0, 0.01, (features, len(form.classes)))
        return {
            "layer.weights": weights.astype(np.float32),
            "layer.bias": np.zeros(len(form.classes), np.float32),
            "steps": np.array(0, np.int64),
            "nothing": np.zeros((0, 3), np.float32),
        }

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Take steps, each along the gradients of the whole shard."""
        _wait_at_gate(self.turn.round, cancelled)
        inputs, truth = _inputs(rows), rows.labels
        weights = {name: np.array(start[name]) for name in ("layer.weights", "layer.bias")}
        taken, loss = int(start["steps"]), 0.0
        if client is not None:
            client.begin(np.array)
        for step in range(self.made.descents):
            time.sleep(self.made.pause)
            if cancelled():
                break
            shares = _shares(weights, inputs)
            loss = float(-np.log(shares[np.arange(len(truth)), truth] + 1e-12).mean())
            shares[np.arange(len(truth)), truth] -= 1
            gradients: Arrays = {
                "layer.weights": (inputs.T @ shares / len(truth)).astype(np.float32),
                "layer.bias": shares.mean(0).astype(np.float32),
            }
            if client is not None:
                gradients = client.correct(gradients, weights)
            for name, gradient in gradients.items():
                weights[name] = (weights[name] - self.made.stride * gradient).astype(np.float32)
            taken += 1
            progress((step + 1) / self.made.descents, f"loss {loss:.3f}")
        arrays = {**weights, "steps": np.array(taken), "nothing": start["nothing"]}
        own = {} if client is None else {n: np.asarray(a) for n, a in client.end().items()}
        return Solution(arrays, len(rows), {"loss": loss}, own)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the class that fits best."""
        return np.asarray(_shares(model, _inputs(rows)).argmax(1), np.int64)

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the class that fits best, and the mean cross-entropy."""
        shares = _shares(model, _inputs(rows))
        right = shares[np.arange(len(rows)), rows.labels]
        return np.asarray(shares.argmax(1), np.int64), float(-np.log(right + 1e-12).mean())


def _inputs(rows: Rows) -> Floats:
    columns = []
    for name, array in sorted(rows.arrays.items()):
        top = 255 if rows.form.fields[name].dtype == "uint8" else 1
        columns.append(array.reshape(len(rows), -1).astype(np.float64) / top)
    return np.concatenate(columns, 1)


def _shares(model: Arrays, inputs: Floats) -> Floats:
    scores: Array = inputs @ model["layer.weights"] + model["layer.bias"]
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(scores / scores.sum(1, keepdims=True), np.float64)


def _wait_at_gate(round_: int, cancelled: Cancelled) -> None:
    if GATE not in os.environ or round_ == 0:
        return
    gate = Path(os.environ[GATE])
    try:
        (gate / "passed").touch(exist_ok=False)
    except FileExistsError:
        while not (gate / "open").exists() and not cancelled():
            time.sleep(0.02)
