"""How the nets of the neural learner are trained and used."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from loaders.rows import Array, Arrays, Form, Labels, Rows

from ..contract import Cancelled, Progress, Solution, Turn
from ..merging.strategy import Client
from .descent import Descent
from .feeding import Course, Host, Take
from .learner import NeuralOptions
from .nets import array_of, arrays_of, classes_of, count, fresh, net_of
from .presets import Recipe, recipe_of
from .shapes import STANDARDS

#: The loss is read once in so many steps: to read it waits for the device.
_READ = 16
#: Rows that are predicted together, and numbers of theirs, at most.
PREDICT_BATCH, PREDICT_NUMBERS = 500, 1 << 24


class Training:
    """Trains the net and uses it.

    Args:
        made: what the learner is made with.
        turn: where in a run it is.
    """

    def __init__(self, made: NeuralOptions, turn: Turn) -> None:
        self._made, self._turn = made, turn
        torch.set_num_threads(made.threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def initial(self, form: Form, recipe: Recipe) -> Arrays:
        """Return the weights of a fresh net, and what standardises nothing."""
        torch.manual_seed(self._turn.initial_seed)
        return fresh(form, recipe.width)

    def fit(
        self, rows: Rows, start: Arrays, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[torch.Tensor] | None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent with Nesterov momentum."""
        turn = self._turn
        recipe = recipe_of(self._made, rows.form, len(rows), 1, turn.rounds)
        net = self._net(start, rows.form)
        descent = Descent(net, as_first=recipe.first)
        if client is not None:
            client.begin(self._tensor)
        loss_sum = 0.0
        course = Course.of(rows, recipe, turn.round == 0)
        steps = recipe.epochs * len(course.batches)
        feed = Host(rows, course, Take(start, rows.form, self._device))
        for step, (inputs, labels) in enumerate(feed.batches(np.random.default_rng(seed))):
            if cancelled():
                break
            done = step / steps
            if turn.round == 0:
                count(net, step)
            net.train(len(labels) > 1)  # one row has no variance: it is normalised as later
            descent.forget()
            loss = functional.cross_entropy(net(inputs), labels.to(self._device))
            loss.backward()  # type: ignore[no-untyped-call]
            if client is not None:
                _correct(net, client)
            descent.step(recipe.rate((turn.round + done) / turn.rounds))
            if step % _READ == 0:
                loss_sum += loss.item()
                progress(done)
        mean_loss = loss_sum / max(1, math.ceil(steps / _READ))
        own = {} if client is None else {n: array_of(tensor) for n, tensor in client.end().items()}
        given = {name: start[name] for name in STANDARDS & start.keys()}
        return Solution({**arrays_of(net), **given}, len(rows), {"loss": mean_loss}, own)

    def _net(self, model: Arrays, form: Form) -> nn.Module:
        """Return the net with a model's weights, for rows such as these."""
        net = net_of(model, form)
        return net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self._device)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the most likely class of each row."""
        found = [logits.argmax(1).cpu().numpy() for logits, _ in self._logits(model, rows)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def probabilities(self, model: Arrays, rows: Rows) -> Array:
        """Return the net's softmax of each row, float64, shape (rows, classes)."""
        found = [each.double().softmax(1).cpu().numpy() for each, _ in self._logits(model, rows)]
        return np.concatenate(found) if found else np.zeros((0, 1))

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the most likely class of each row, and the mean cross-entropy over them."""
        found, loss = [], 0.0
        if rows.labels.max(initial=0) >= classes_of(model):
            return self.predict(model, rows), math.inf
        for logits, labels in self._logits(model, rows):
            found.append(logits.argmax(1).cpu().numpy())
            truth = torch.tensor(labels).to(self._device)
            loss += functional.cross_entropy(logits.double(), truth, reduction="sum").item()
        return np.concatenate(found), loss / len(rows)

    def _logits(self, model: Arrays, rows: Rows) -> Iterator[tuple[torch.Tensor, Labels]]:
        """Yield the net's outputs, and what should be, a batch at a time."""
        net, take = self._net(model, rows.form).eval(), Take(model, rows.form, self._device)
        (field,) = rows.form.fields.values()
        together = min(PREDICT_BATCH, max(1, PREDICT_NUMBERS // math.prod(field.shape)))
        with torch.inference_mode():
            for fields, labels in rows.batches(together):
                (array,) = fields.values()
                yield net(take.tensor(take.prepared(array))), labels


def _correct(net: nn.Module, client: Client[torch.Tensor]) -> None:
    """Let a strategy change the gradients of a step."""
    weights = dict(net.named_parameters())
    gradients = {name: each.grad for name, each in weights.items() if each.grad is not None}
    with torch.no_grad():
        for name, gradient in client.correct(gradients, weights).items():
            weights[name].grad = gradient
