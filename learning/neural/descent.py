"""Gradient descent with Nesterov momentum."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim.sgd import sgd

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


@dataclass
class _Group:
    """Weights that decay alike."""

    weights: list[torch.Tensor]
    decay: float
    momenta: list[torch.Tensor | None] = field(init=False)

    def __post_init__(self) -> None:
        self.momenta = [None] * len(self.weights)


class Descent:
    """Moves the weights of a net along their gradients.

    To make one of torch's optimizers imports torch's compiler, which takes a second and more and is
    not used; the function behind them does the same to the bit.

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep
    learning".

    Args:
        net: whose weights.
        as_first: whether weights of all kinds decay; else the matrices do, and neither what is
            added nor what scales.
        fused: whether one kernel moves all of them, which may take the rate as a tensor.
    """

    def __init__(self, net: nn.Module, as_first: bool, fused: bool) -> None:
        every: list[torch.Tensor] = list(net.parameters())
        self._fused = fused
        self._groups = [_Group(every, WEIGHT_DECAY)] if as_first else [
            _Group([each for each in every if each.ndim > 1], WEIGHT_DECAY),
            _Group([each for each in every if each.ndim <= 1], 0.0),
        ]  # fmt: skip

    def forget(self) -> None:
        """Forget the gradients of the last step."""
        for group in self._groups:
            for weight in group.weights:
                weight.grad = None

    def step(self, rate: float | torch.Tensor) -> None:
        """Move all weights by one step.

        Args:
            rate: the learning rate; a tensor where it is not to be known before: in a graph.
        """
        with torch.no_grad():
            for group in self._groups:
                gradients = [each.grad for each in group.weights if each.grad is not None]
                sgd(
                    group.weights, gradients, group.momenta,
                    fused=self._fused, foreach=False, weight_decay=group.decay, momentum=MOMENTUM,
                    lr=rate,  # type: ignore[arg-type]  # of a tensor its stubs don't know
                    dampening=0.0, nesterov=True, maximize=False, has_sparse_grad=False,
                )  # fmt: skip
