"""The net of the neural learner, and how it is trained: all that needs torch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from loaders.rows import Array, Arrays, Labels, Rows

from ..contract import Cancelled, Progress, Solution, Turn
from ..errors import ModelError
from ..merging.strategy import Client
from .learner import NeuralOptions, pooled

#: Training images move by up to so many pixels, each way: the margin of MNIST's digits.
SHIFT = 2
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
PREDICT_BATCH = 500


class SmallNet(nn.Module):
    """Two 5x5 convolutions with pooling, then two dense layers; 84,000 weights for MNIST.

    Args:
        height, width: of the images, 16 or more each.
        classes: how many there are.
    """

    def __init__(self, height: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.dense1 = nn.Linear(32 * pooled(height) * pooled(width), 128)
        self.dense2 = nn.Linear(128, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, classes), of grey images, (n, 1, height, width), 0 to 1."""
        x = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        x = functional.relu(functional.max_pool2d(self.conv2(x), 2))
        hidden = functional.relu(self.dense1(x.flatten(1)))
        logits: torch.Tensor = self.dense2(hidden)
        return logits


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

    def initial(self, height: int, width: int, classes: int) -> Arrays:
        """Return the weights of a fresh net."""
        torch.manual_seed(self._turn.initial_seed)
        return _arrays(SmallNet(height, width, classes))

    def fit(
        self, rows: Rows, start: Arrays, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[torch.Tensor] | None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent with Nesterov momentum."""
        made, turn = self._made, self._turn
        net = self._net(start, rows)
        optimizer = torch.optim.SGD(
            net.parameters(), lr=made.lr, momentum=MOMENTUM, nesterov=True,
            weight_decay=WEIGHT_DECAY,
        )  # fmt: skip
        if client is not None:
            client.begin(self._tensor)
        steps = made.epochs * math.ceil(len(rows) / made.batch_size)
        loss_sum = 0.0
        for step, (images, labels) in enumerate(self._batches(rows, np.random.default_rng(seed))):
            if cancelled():
                break
            done = step / steps
            optimizer.param_groups[0]["lr"] = made.lr * (1 - (turn.round + done) / turn.rounds)
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if client is not None:
                _correct(net, client)
            optimizer.step()
            if step % 16 == 0:  # reading the loss waits for the device
                loss_sum += loss.item()
                progress(done)
        mean_loss = loss_sum / max(1, math.ceil(steps / 16))
        own = {} if client is None else {n: _array(tensor) for n, tensor in client.end().items()}
        return Solution(_arrays(net), len(rows), {"loss": mean_loss}, own)

    def _net(self, model: Arrays, rows: Rows) -> nn.Module:
        """Return the net with a model's weights, for images such as these."""
        height, width = _images(rows).shape[1:]
        bias = model.get("dense2.bias", np.zeros(0))
        size = height, width, max(1, bias.size)
        with torch.device("meta"):  # a lying file asks for no memory
            _check(SmallNet(*size), model)
        net = SmallNet(*size)
        net.load_state_dict({name: self._tensor(array) for name, array in model.items()})
        return net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _batches(
        self, rows: Rows, random: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches of every epoch, shifted."""
        for epoch in range(self._made.epochs):
            still = self._turn.round == 0 and epoch == 0
            for fields, labels in rows.batches(self._made.batch_size, random):
                (images,) = fields.values()
                if not still:
                    images = _shifted(images, *random.integers(0, 2 * SHIFT + 1, 2))
                yield self._grey(images), torch.from_numpy(labels).to(self._device)

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self._device)

    def _grey(self, images: Array) -> torch.Tensor:
        """Return grey images, (n, 1, height, width), float32, 0 to 1."""
        writable = images if images.flags.writeable else images.copy()  # torch warns otherwise
        tensor = torch.from_numpy(np.ascontiguousarray(writable)).to(self._device).unsqueeze(1)
        return tensor.float().div_(255).contiguous(memory_format=torch.channels_last)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the most likely class of each image."""
        found = [logits.argmax(1).cpu().numpy() for logits, _ in self._logits(model, rows)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def probabilities(self, model: Arrays, rows: Rows) -> Array:
        """Return the net's softmax of each image, float64, shape (rows, classes)."""
        found = [each.double().softmax(1).cpu().numpy() for each, _ in self._logits(model, rows)]
        return np.concatenate(found) if found else np.zeros((0, 1))

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the most likely class of each image, and the mean cross-entropy over them."""
        found, loss = [], 0.0
        if rows.labels.max(initial=0) >= len(model.get("dense2.bias", ())):
            return self.predict(model, rows), math.inf
        for logits, labels in self._logits(model, rows):
            found.append(logits.argmax(1).cpu().numpy())
            truth = torch.tensor(labels).to(self._device)
            loss += functional.cross_entropy(logits.double(), truth, reduction="sum").item()
        return np.concatenate(found), loss / len(rows)

    def _logits(self, model: Arrays, rows: Rows) -> Iterator[tuple[torch.Tensor, Labels]]:
        """Yield the net's outputs, and what should be, a batch at a time."""
        net = self._net(model, rows).eval()
        with torch.inference_mode():
            for fields, labels in rows.batches(PREDICT_BATCH):
                (images,) = fields.values()
                yield net(self._grey(images)), labels


def _images(rows: Rows) -> Array:
    (images,) = rows.arrays.values()
    return images


def _shifted(images: Array, y: int, x: int) -> Array:
    """Return images moved by `SHIFT` less than y and x pixels; black comes in."""
    rows, height, width = images.shape
    wider = np.zeros((rows, height + 2 * SHIFT, width + 2 * SHIFT), images.dtype)
    wider[:, SHIFT : SHIFT + height, SHIFT : SHIFT + width] = images
    return wider[:, y : y + height, x : x + width]


def _correct(net: nn.Module, client: Client[torch.Tensor]) -> None:
    """Let a strategy change the gradients of a step."""
    weights = dict(net.named_parameters())
    gradients = {name: each.grad for name, each in weights.items() if each.grad is not None}
    with torch.no_grad():
        for name, gradient in client.correct(gradients, weights).items():
            weights[name].grad = gradient


def _array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().cpu().numpy(), order="C")


def _arrays(net: nn.Module) -> dict[str, Array]:
    return {name: _array(tensor) for name, tensor in net.state_dict().items()}


def _check(net: nn.Module, model: Arrays) -> None:
    """Raise unless a model's arrays are the weights of such a net."""
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    given = {name: array.shape for name, array in model.items()}
    if own != given:
        raise ModelError(f"the model does not fit images of this size: {given}, not {own}")
    odd = [name for name, array in model.items() if array.dtype.kind != "f"]
    if odd:
        raise ModelError(f"array {odd[0]!r} of the model is {model[odd[0]].dtype}, no weights")
