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
        decay: of the weights that do.
    """

    def __init__(
        self, net: nn.Module, as_first: bool, fused: bool, decay: float = WEIGHT_DECAY
    ) -> None:
        every: list[torch.Tensor] = [each for each in net.parameters() if each.requires_grad]
        self._fused = fused
        self._groups = [_Group(every, decay)] if as_first else [
            _Group([each for each in every if each.ndim > 1], decay),
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
                # What a step has made no use of stays as it is, and has no momentum.
                used = [n for n, each in enumerate(group.weights) if each.grad is not None]
                weights = [group.weights[n] for n in used]
                gradients = [each.grad for each in weights if each.grad is not None]
                momenta = [group.momenta[n] for n in used]
                sgd(
                    weights, gradients, momenta,
                    fused=self._fused, foreach=False, weight_decay=group.decay, momentum=MOMENTUM,
                    lr=rate,  # type: ignore[arg-type]  # of a tensor its stubs don't know
                    dampening=0.0, nesterov=True, maximize=False, has_sparse_grad=False,
                )  # fmt: skip
                for n, momentum in zip(used, momenta, strict=True):
                    group.momenta[n] = momentum
