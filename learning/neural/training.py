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
from ..devices import CUDA
from ..merging.strategy import Client
from .descent import Descent
from .device import at_work, computing, wait
from .feeding import Course, Host, Resident, Take
from .nets import SETTLED, array_of, arrays_of, classes_of, count, fresh, net_of
from .options import PresetOptions
from .presets import Recipe, recipe_of
from .shapes import STANDARDS
from .steps import Feed, Loss, Steps, steps_of

#: The loss is kept of one in so many steps; a GPU is waited for once in as many of these, so that
#: what is told of the progress is true.
_READ = 16
#: Rows that are predicted together, and numbers of theirs, at most.
PREDICT_BATCH, PREDICT_NUMBERS = 500, 1 << 24


class Training:
    """Trains the net and uses it.

    Args:
        made: what the learner is made with.
        turn: where in a run it is.
    """

    def __init__(self, made: PresetOptions, turn: Turn) -> None:
        self._made, self._turn = made, turn
        torch.set_num_threads(made.threads)
        self._device = computing()

    def initial(self, form: Form, recipe: Recipe) -> Arrays:
        """Return the weights of a fresh net, and what standardises nothing."""
        torch.manual_seed(self._turn.initial_seed)
        return fresh(form, recipe.width)

    def fit(
        self, rows: Rows, start: Arrays, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[torch.Tensor] | None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent with Nesterov momentum."""
        with at_work(self._device):
            return self._fit(rows, start, seed, progress, cancelled, client)

    def _fit(
        self, rows: Rows, start: Arrays, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[torch.Tensor] | None,
    ) -> Solution:  # fmt: skip
        turn, device = self._turn, self._device
        on_gpu = device.type == CUDA
        recipe = self._recipe(rows)
        net = self._net(start, rows.form)
        if client is not None:
            client.begin(self._tensor)
        course = Course.of(rows, recipe, turn.round == 0)
        steps = course.steps
        take = Take(start, rows.form, device, self._layout)
        feed = Resident(rows, course, take) if on_gpu else Host(rows, course, take)
        walk = self._steps(net, recipe, feed, client)
        losses = torch.zeros(max(1, math.ceil(steps / _READ)), device=device)
        for step, part in enumerate(feed.parts(np.random.default_rng(seed))):
            if cancelled():
                break
            done = step / steps
            self._begin_step(net, step)
            loss = walk.take(part, self._rate(recipe, (turn.round + done) / turn.rounds))
            if step % _READ == 0:
                losses[step // _READ] = loss
            if step % (_READ**2 if on_gpu else _READ) == 0:
                wait(device)
                progress(done)
        mean_loss = math.fsum(losses.tolist()) / len(losses)
        own = {} if client is None else {n: array_of(tensor) for n, tensor in client.end().items()}
        given = {name: start[name] for name in STANDARDS & start.keys()}
        return Solution({**arrays_of(net), **given}, len(rows), {"loss": mean_loss}, own)

    # What another kind of net does otherwise.

    #: Of pictures in memory.
    _layout = torch.channels_last

    def _recipe(self, rows: Rows) -> Recipe:
        """Return how to learn from a shard."""
        return recipe_of(self._made, rows.form, len(rows), 1, self._turn.rounds)

    def _net(self, model: Arrays, form: Form) -> nn.Module:
        """Return the net with a model's weights, for rows such as these."""
        net = net_of(model, form)
        return net.to(self._device, memory_format=self._layout)  # type: ignore[call-overload, no-any-return]

    def _steps(
        self, net: nn.Module, recipe: Recipe, feed: Feed, client: Client[torch.Tensor] | None
    ) -> Steps:
        """Return what takes the steps."""
        on_gpu = self._device.type == CUDA
        descent = Descent(net, as_first=recipe.first, fused=on_gpu or not recipe.first)
        eager = SETTLED if self._turn.round == 0 else 0
        return steps_of(self._device, net, descent, feed, client, eager)

    def _begin_step(self, net: nn.Module, step: int) -> None:
        """See to what of a net is not as in later steps."""
        if self._turn.round == 0:
            count(net, step)

    def _rate(self, recipe: Recipe, done: float) -> float:
        """Return the learning rate when so much of the run, 0 to 1, is done."""
        return recipe.rate(done)

    def _classes(self, model: Arrays, form: Form) -> int:
        """Return how many classes a model tells apart."""
        return classes_of(model)

    @property
    def _loss(self) -> Loss:
        """What is made small, by rows with float64 outputs the mean."""
        return functional.cross_entropy

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self._device)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the most likely class of each row."""
        found = [logits.argmax(1).numpy() for logits, _ in self._logits(model, rows)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def probabilities(self, model: Arrays, rows: Rows) -> Array:
        """Return the net's softmax of each row, float64, shape (rows, classes)."""
        found = [each.double().softmax(1).numpy() for each, _ in self._logits(model, rows)]
        return np.concatenate(found) if found else np.zeros((0, 1))

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the most likely class of each row, and the mean cross-entropy over them."""
        found, loss = [], 0.0
        if rows.labels.max(initial=0) >= self._classes(model, rows.form):
            return self.predict(model, rows), math.inf
        for logits, labels in self._logits(model, rows):
            found.append(logits.argmax(1).numpy())
            truth = torch.tensor(labels)
            loss += self._loss(logits.double(), truth).item() * len(truth)
        return np.concatenate(found), loss / len(rows)

    def _logits(self, model: Arrays, rows: Rows) -> Iterator[tuple[torch.Tensor, Labels]]:
        """Yield the net's outputs, in the host's memory, and what should be, a batch at a time."""
        net = self._net(model, rows.form).eval()
        take = Take(model, rows.form, self._device, self._layout)
        (field,) = rows.form.fields.values()
        together = min(PREDICT_BATCH, max(1, PREDICT_NUMBERS // math.prod(field.shape)))
        with at_work(self._device), torch.inference_mode():
            for fields, labels in rows.batches(together):
                (array,) = fields.values()
                yield net(take.tensor(take.prepared(array))).cpu(), labels
