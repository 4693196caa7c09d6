"""The normed net in plain torch, as somebody would write it who needs nothing else.

It is the peer of `steps.py` and `accuracy.py`: the same layers, batches, shifts and rates, one
process, torch's own optimizer.

Usage: python -m benchmarks.bare THREADS EPOCHS SEED
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import loaders

WIDTH, BATCH, RATE, WARM = 32, 64, 0.3, 0.2


def net() -> nn.Module:
    """Return the net of 28 x 28 grey pixels and ten classes."""
    wide = 2 * WIDTH
    made: nn.Module = nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(4, WIDTH, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.Conv2d(WIDTH, wide, 3, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
        nn.Conv2d(wide, wide, 3, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(9 * wide, 10),
    )
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def optimizer_of(model: nn.Module) -> torch.optim.SGD:
    """Return what moves its weights; only matrices decay."""
    weights = [each for each in model.parameters() if each.ndim > 1]
    others = [each for each in model.parameters() if each.ndim <= 1]
    return torch.optim.SGD(
        [{"params": weights, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}],
        lr=RATE, momentum=0.9, nesterov=True, fused=True,
    )  # fmt: skip


class Batches:
    """Batches of pictures, each moved by at most a pixel.

    Args:
        rows: of MNIST.
    """

    def __init__(self, rows: loaders.Rows) -> None:
        images = torch.tensor(rows.arrays["image"])
        padded = functional.pad(images, (1, 1, 1, 1))
        self._windows = padded.unfold(1, 28, 1).unfold(2, 28, 1)
        self._labels = torch.tensor(rows.labels)

    def epoch(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield them in random order."""
        for some in torch.split(torch.randperm(len(self._labels)), BATCH):
            down, right = torch.randint(0, 3, (2, len(some)))
            images = self._windows[some, down, right].unsqueeze(1)
            yield images.float().div_(255), self._labels[some]


def step(model: nn.Module, optimizer: torch.optim.SGD, inputs: Any, labels: Any) -> None:
    """Learn from a batch."""
    optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def train(rows: loaders.Rows, epochs: int) -> nn.Module:
    """Return a net that has learned from rows of MNIST."""
    model, batches = net().train(), Batches(rows)
    optimizer, steps = optimizer_of(model), epochs * -(-len(rows) // BATCH)
    number = 0
    for _ in range(epochs):
        for inputs, labels in batches.epoch():
            done = number / steps
            rate = RATE * (done / WARM if done < WARM else (1 - done) / (1 - WARM))
            for group in optimizer.param_groups:
                group["lr"] = rate
            step(model, optimizer, inputs, labels)
            number += 1
    return model


def main(threads: int, epochs: int, seed: int) -> None:
    begun = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    train_rows, test = loaders.load("mnist"), loaders.load("mnist", "test")
    model = train(train_rows, epochs).eval()
    images = torch.tensor(test.arrays["image"]).unsqueeze(1).float().div_(255)
    with torch.inference_mode():
        found = torch.cat([model(some).argmax(1) for some in torch.split(images, 500)])
    accuracy = (found == torch.tensor(test.labels)).float().mean().item()
    print(accuracy, time.perf_counter() - begun)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
