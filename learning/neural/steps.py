"""Steps of descent: one after the other, or captured as a CUDA graph and played again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.nn import functional

from ..devices import CUDA
from ..merging.strategy import Client
from .descent import Descent

log = logging.getLogger("mnist.compute")

#: Whether steps are captured where they can be: the bits are equal (`scripts/gpu-check` looks).
GRAPHS = True
#: So many batches of a size are learned from before the next one is captured: libraries choose and
#: allocate then.
_EAGER = 3

Batch = tuple[torch.Tensor, torch.Tensor]
#: Of what a net returns and of labels.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Moves(Protocol):
    """Moves the weights of a net along their gradients (`descent.py`)."""

    def forget(self) -> None:
        """Forget the gradients of the last step."""

    def step(self, rate: float | torch.Tensor) -> None:
        """Move all weights by one step."""


class Feed(Protocol):
    """Makes batches of what it was drawn for them (`feeding.py`)."""

    def batch(self, part: Any) -> Batch:
        """Return inputs and labels of a batch, on the device."""


class Steps:
    """Takes steps, one after the other.

    Args:
        net: that learns.
        descent: moves its weights.
        feed: makes batches.
        client: the strategy's part, which has a word in each step; None: there is none.
        loss: what is made small.
    """

    def __init__(
        self, net: nn.Module, descent: Moves, feed: Feed, client: Client[torch.Tensor] | None,
        loss: Loss = functional.cross_entropy,
    ) -> None:  # fmt: skip
        self._net, self._descent, self._feed, self._client = net, descent, feed, client
        self._loss = loss

    def take(self, part: Any, rate: float) -> torch.Tensor:
        """Take a step; return the loss before it.

        Args:
            part: of the feed.
            rate: the learning rate.
        """
        return self._learn(part, rate)

    def _learn(self, part: Any, rate: float | torch.Tensor) -> torch.Tensor:
        inputs, labels = self._feed.batch(part)
        self._net.train(len(labels) > 1)  # one row has no variance: it is normalised as later
        self._descent.forget()
        loss = self._loss(self._net(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._client is not None:
            _correct(self._net, self._client)
        self._descent.step(rate)
        return loss.detach()


class OnGpu(Steps):
    """The same on a GPU, where the learning rate lies too."""

    def __init__(
        self, net: nn.Module, descent: Descent, feed: Feed, client: Client[torch.Tensor] | None
    ) -> None:
        super().__init__(net, descent, feed, client)
        self._rate = torch.zeros((), device=next(net.parameters()).device)

    def take(self, part: torch.Tensor, rate: float) -> torch.Tensor:
        """Take a step; return the loss before it, which the next step may overwrite."""
        self._rate.fill_(rate)
        return self._learn(part, self._rate)


class _Graph(NamedTuple):
    """A captured step: what it is made from, and where its loss is then."""

    graph: torch.cuda.CUDAGraph
    part: torch.Tensor
    loss: torch.Tensor


class Captured(OnGpu):
    """The same as CUDA graphs, one for each size of batch; all on one stream that is not torch's.

    A step that is captured has the addresses of weights, momenta and rate in it: they stay.

    Args:
        eager: steps before the first is captured, at least.
    """

    def __init__(self, net: nn.Module, descent: Descent, feed: Feed, eager: int = 0) -> None:
        super().__init__(net, descent, feed, None)
        self._eager = eager
        self._graphs: dict[int, _Graph] = {}
        self._taken: Counter[int] = Counter()
        self._fails = False

    def take(self, part: torch.Tensor, rate: float) -> torch.Tensor:
        """Take a step; return the loss before it, which the next step overwrites."""
        size = part.shape[-1]
        graph = self._graphs.get(size)
        if graph is None and self._may_capture(size):
            graph = self._capture(part)
        if graph is None:
            self._taken[size] += 1
            return super().take(part, rate)
        self._rate.fill_(rate)
        graph.part.copy_(part)
        graph.graph.replay()
        return graph.loss

    def _may_capture(self, size: int) -> bool:
        enough = self._taken[size] >= _EAGER and sum(self._taken.values()) >= self._eager
        return enough and not self._fails

    def _capture(self, part: torch.Tensor) -> _Graph | None:
        """Capture a step for batches of such a size, without taking it; None: it can't be."""
        mine = part.clone()
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                loss = self._learn(mine, self._rate)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._fails = True
            log.warning("steps are not captured as a CUDA graph, and take longer: %s", error)
            return None
        self._graphs[part.shape[-1]] = found = _Graph(graph, mine, loss)
        return found


def steps_of(
    device: torch.device, net: nn.Module, descent: Descent, feed: Feed,
    client: Client[torch.Tensor] | None, eager: int = 0,
) -> Steps:  # fmt: skip
    """Return what takes the steps on a device; a strategy's part in them can't be captured.

    Args:
        device: that computes.
        net, descent, feed, client: as for `Steps`.
        eager: steps that differ from later ones by more than rows and rate: none is captured.
    """
    if device.type != CUDA:
        return Steps(net, descent, feed, client)
    if client is not None or not GRAPHS:
        return OnGpu(net, descent, feed, client)
    return Captured(net, descent, feed, eager)


def _correct(net: nn.Module, client: Client[torch.Tensor]) -> None:
    """Let a strategy change the gradients of a step."""
    weights = dict(net.named_parameters())
    gradients = {name: each.grad for name, each in weights.items() if each.grad is not None}
    with torch.no_grad():
        for name, gradient in client.correct(gradients, weights).items():
            weights[name].grad = gradient
