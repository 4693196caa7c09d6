"""A small convolutional net, trained by stochastic gradient descent; needs torch.

On one kind of CPU, with one version of torch and one number of threads, equal shards, starts
and seeds give equal bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from .base import (
    Arrays,
    Cancelled,
    Images,
    Labels,
    Progress,
    Shard,
    Solution,
    check_parameters,
)
from .errors import ModelError
from .layout import pooled

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


class NeuralLearner:
    """The net as a learner; merged by the example-weighted mean.

    The learning rate falls in a straight line to zero over all rounds of the run, and images
    are shifted at random from the second epoch on (the first finds its feet without).

    Args:
        epochs: passes over the shard, each round.
        batch_size: rows a step.
        lr: learning rate at the run's first step.
        threads: of torch; part of the job, since another number gives other bits.
        round: which one this is, from 0.
        rounds: how many there are.
        initial_seed: of a fresh net's weights; one for the whole run.
    """

    name = "neural"

    def __init__(
        self, epochs: int = 3, batch_size: int = 16, lr: float = 0.02, threads: int = 1,
        round: int = 0, rounds: int = 1, initial_seed: int = 0,
    ) -> None:  # fmt: skip
        check_parameters(
            epochs=(epochs, 1, 10**9), batch_size=(batch_size, 1, 10**9), lr=(lr, 0.0, 1e6),
            threads=(threads, 1, 1024), rounds=(rounds, 1, 10**9), round=(round, 0, rounds - 1),
            initial_seed=(initial_seed, 0, 1 << 53),
        )  # fmt: skip
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.round = round
        self.rounds = rounds
        self.initial_seed = initial_seed
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def prepare(self) -> None:
        """Do nothing: torch was imported with this module."""

    def fit(
        self, shard: Shard, start: Arrays | None, *, seed: int, progress: Progress,
        cancelled: Cancelled,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent with Nesterov momentum."""
        net = self._net(shard, start)
        optimizer = torch.optim.SGD(
            net.parameters(), lr=self.lr, momentum=MOMENTUM, nesterov=True,
            weight_decay=WEIGHT_DECAY,
        )  # fmt: skip
        steps = self.epochs * math.ceil(len(shard.labels) / self.batch_size)
        loss_sum = 0.0
        for step, (images, labels) in enumerate(self._batches(shard, np.random.default_rng(seed))):
            if cancelled():
                break
            done = step / steps
            optimizer.param_groups[0]["lr"] = self.lr * (1 - (self.round + done) / self.rounds)
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % 16 == 0:  # reading the loss waits for the device
                loss_sum += loss.item()
                progress(done)
        mean_loss = loss_sum / max(1, math.ceil(steps / 16))
        return Solution(_arrays(net), len(shard.labels), {"loss": mean_loss})

    def _net(self, shard: Shard, start: Arrays | None) -> nn.Module:
        torch.manual_seed(self.initial_seed)
        _, height, width = shard.images.shape
        net = SmallNet(height, width, shard.classes)
        if start is not None:
            _load(net, start)
        return net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _batches(
        self, shard: Shard, random: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rows, (height, width) = len(shard.labels), shard.images.shape[1:]
        padded = np.pad(shard.images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
        for epoch in range(self.epochs):
            order = random.permutation(rows)
            still = self.round == 0 and epoch == 0
            for first in range(0, rows, self.batch_size):
                chosen = order[first : first + self.batch_size]
                y, x = (SHIFT, SHIFT) if still else random.integers(0, 2 * SHIFT + 1, 2)
                images = padded[chosen, y : y + height, x : x + width]
                yield self._tensor(images), torch.from_numpy(shard.labels[chosen]).to(self._device)

    def _tensor(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return grey images, (n, 1, height, width), float32, 0 to 1."""
        writable = images if images.flags.writeable else images.copy()  # torch warns otherwise
        tensor = torch.from_numpy(np.ascontiguousarray(writable)).to(self._device).unsqueeze(1)
        return tensor.float().div_(255).contiguous(memory_format=torch.channels_last)

    def predict(self, model: Arrays, images: Images) -> Labels:
        """Return the most likely class of each image."""
        labels = [logits.argmax(1).cpu().numpy() for logits in self._logits(model, images)]
        return np.concatenate(labels) if labels else np.zeros(0, np.int64)

    def evaluate(self, model: Arrays, images: Images, labels: Labels) -> tuple[Labels, float]:
        """Return the most likely class of each image, and the mean cross-entropy over them.

        It is infinite where a class is among them that the model knows nothing of.
        """
        found, loss = [], 0.0
        if labels.max() >= len(model.get("dense2.bias", ())):
            return self.predict(model, images), math.inf
        for first, logits in zip(count(0, PREDICT_BATCH), self._logits(model, images)):
            found.append(logits.argmax(1).cpu().numpy())
            truth = torch.tensor(labels[first : first + PREDICT_BATCH]).to(self._device)
            loss += functional.cross_entropy(logits.double(), truth, reduction="sum").item()
        return np.concatenate(found), loss / len(images)

    def _logits(self, model: Arrays, images: Images) -> Iterator[torch.Tensor]:
        """Yield the net's outputs, a batch at a time."""
        classes = len(model.get("dense2.bias", ()))
        _, height, width = images.shape
        net = SmallNet(height, width, max(1, classes))
        _load(net, model)
        net.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.inference_mode():
            for first in range(0, len(images), PREDICT_BATCH):
                yield net(self._tensor(images[first : first + PREDICT_BATCH]))


def _arrays(net: nn.Module) -> dict[str, npt.NDArray[Any]]:
    return {
        name: np.ascontiguousarray(tensor.detach().cpu().numpy())
        for name, tensor in net.state_dict().items()
    }


def _load(net: nn.Module, model: Arrays) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    given = {name: array.shape for name, array in model.items()}
    if own != given:
        raise ModelError(f"the model does not fit images of this size: {given}, not {own}")
    net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in model.items()})
