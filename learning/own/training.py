"""How a net of a user's is trained and used."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from loaders.rows import Arrays, Form, Rows

from ..contract import Turn
from ..durable import DTYPES
from ..errors import LearningError, ModelError, UnknownLearner
from ..merging.strategy import Client
from ..neural.descent import MOMENTUM, Descent
from ..neural.feeding import Take
from ..neural.nets import arrays_of
from ..neural.presets import Recipe
from ..neural.shapes import DEVIATION, MEAN, STANDARDS, standardises
from ..neural.steps import Feed, Loss, Moves, Steps
from ..neural.training import Training
from .net import OwnNetOptions, rate_of

#: For those that don't import torch.
Module = nn.Module
#: Rows that a net is tried with, where it makes its weights when it sees the first.
_FIRST_ROWS = 2


class OwnTraining(Training):
    """Trains a net of a user's and uses it.

    Args:
        made: what the learner is made with.
        turn: where in a run it is.
        make: returns a net, as its class makes it, for data of a form.
    """

    _layout = torch.contiguous_format  # for those that say `x.view(len(x), -1)`

    def __init__(self, made: OwnNetOptions, turn: Turn, make: Callable[[Form], nn.Module]) -> None:
        super().__init__(made, turn)
        self._own, self._make = made, make

    def initial(self, form: Form, recipe: Recipe) -> Arrays:
        """Return the weights of a fresh net, and what standardises nothing.

        Raises:
            LearningError: the net has what can't be merged or kept.
        """
        torch.manual_seed(self._turn.initial_seed)
        net = self._made_for(form)
        _check_state(net.state_dict())
        arrays = arrays_of(net)
        if not standardises(form, arrays.keys()):
            return arrays
        (field,) = form.fields.values()
        columns = field.shape[-1] if len(field.shape) != 2 else 1
        return {**arrays, MEAN: np.zeros(columns), DEVIATION: np.ones(columns)}

    def _made_for(self, form: Form) -> nn.Module:
        """Return a net whose weights are all there."""
        net = self._make(form)
        if any(nn.parameter.is_lazy(each) for each in _tensors(net)):
            (field,) = form.fields.values()
            rows = np.zeros((_FIRST_ROWS, *field.shape), field.dtype)
            standards = {MEAN: np.zeros(1), DEVIATION: np.ones(1)}
            take = Take(standards, form, torch.device("cpu"), self._layout)
            with torch.no_grad():
                net.eval()(take.tensor(take.prepared(rows)))
        return net

    def _net(self, model: Arrays, form: Form) -> nn.Module:
        """Return the net with a model's weights.

        Raises:
            ModelError: they are not such a net's.
        """
        net = self._made_for(form)
        state = net.state_dict()
        own = {name: tuple(tensor.shape) for name, tensor in state.items()}
        given = {name: model[name].shape for name in model.keys() - STANDARDS}
        if own != given:
            odd = sorted(own.items() ^ given.items())[0][0]
            raise ModelError(
                f"the model does not fit the net: {odd!r} is {given.get(odd, 'not there')} in it,"
                f" {own.get(odd, 'not there')} in the net"
            )
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(torch.from_numpy(np.array(model[name])))
        net.register_forward_hook(_look(len(form.classes)))
        return net.to(self._device)

    def _fit(self, rows: Rows, start: Arrays, seed: int, *rest: Any) -> Any:
        torch.manual_seed(seed)  # of what is dropped out, and the like
        return super()._fit(rows, start, seed, *rest)

    def _recipe(self, rows: Rows) -> Recipe:
        recipe = super()._recipe(rows)
        return replace(recipe, lr=rate_of(self._own))

    def _steps(
        self, net: nn.Module, recipe: Recipe, feed: Feed, client: Client[torch.Tensor] | None
    ) -> Steps:
        return Steps(net, _moves(net, self._own), feed, client, self._loss)

    def _begin_step(self, net: nn.Module, step: int) -> None:
        return

    def _rate(self, recipe: Recipe, done: float) -> float:
        return recipe.lr * _SCHEDULES[self._own.schedule](done, recipe.warm)

    def _classes(self, model: Arrays, form: Form) -> int:
        return len(form.classes)

    @property
    def _loss(self) -> Loss:
        return loss_of(self._own)


def loss_of(made: OwnNetOptions) -> Loss:
    """Return what is made small, by the name that torch.nn has for it.

    Raises:
        UnknownLearner: it has none.
    """
    found = getattr(nn, made.loss, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UnknownLearner(f"--set loss={made.loss}: torch.nn has no such class")
    try:
        loss: Loss = found()
    except TypeError as error:
        raise UnknownLearner(f"--set loss={made.loss}: {error}") from error
    return loss


def optimizer_of(made: OwnNetOptions) -> type[torch.optim.Optimizer]:
    """Return what moves weights, by the name that torch.optim has for it.

    Raises:
        UnknownLearner: it has none.
    """
    found = getattr(torch.optim, made.optimizer, None)
    base = torch.optim.Optimizer
    if not (isinstance(found, type) and issubclass(found, base) and found is not base):
        raise UnknownLearner(f"--set optimizer={made.optimizer}: torch.optim has no such class")
    return found


class _Moves:
    """Moves weights by one of torch's optimizers."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def forget(self) -> None:
        """Forget the gradients of the last step."""
        self._optimizer.zero_grad()

    def step(self, rate: float | torch.Tensor) -> None:
        """Move all weights by one step."""
        for group in self._optimizer.param_groups:
            group["lr"] = float(rate)
        self._optimizer.step()


def _moves(net: nn.Module, made: OwnNetOptions) -> Moves:
    """Return what moves the weights, by the name that torch has for it."""
    if made.optimizer == "SGD":
        return Descent(net, as_first=False, fused=False, decay=made.weight_decay)
    found = optimizer_of(made)
    known = inspect.signature(found).parameters
    wanted = {"lr": 1.0, "weight_decay": made.weight_decay, "momentum": MOMENTUM}
    given: dict[str, Any] = {name: value for name, value in wanted.items() if name in known}
    weights = [each for each in net.parameters() if each.requires_grad]
    try:
        return _Moves(found(weights, **given))
    except (TypeError, ValueError) as error:
        raise UnknownLearner(f"--set optimizer={made.optimizer}: {error}") from error


def _one_cycle(done: float, warm: float) -> float:
    return done / warm if done < warm else (1 - done) / (1 - warm)


#: The rate, as a part of the highest, when so much of the run, 0 to 1, is done.
_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "OneCycleLR": _one_cycle,
    "CosineAnnealingLR": lambda done, warm: (1 + math.cos(math.pi * done)) / 2,
    "LinearLR": lambda done, warm: 1 - done,
    "ConstantLR": lambda done, warm: 1.0,
}


def _tensors(net: nn.Module) -> Iterable[torch.Tensor]:
    return [*net.parameters(), *net.buffers()]


def _check_state(state: Mapping[str, object]) -> None:
    """Raise unless all of a net's state can be merged and kept.

    Raises:
        LearningError: some can't.
    """
    for name, value in state.items():
        if name in STANDARDS:
            raise LearningError(f"its {name!r} has the name of what data is standardised by")
        if not isinstance(value, torch.Tensor):
            raise LearningError(f"its state has {name!r}, which is no tensor: it can't be merged")
        dtype = str(value.dtype).removeprefix("torch.")
        if value.is_sparse or value.is_quantized or dtype not in DTYPES:
            kind = "sparse" if value.is_sparse else dtype
            raise LearningError(f"its {name!r} is {kind}, which can't be merged: make it float32")


def _look(classes: int) -> Callable[[nn.Module, tuple[torch.Tensor, ...], object], None]:
    """Return what looks at all that a net returns."""

    def look(net: nn.Module, given: tuple[torch.Tensor, ...], found: object) -> None:
        rows = len(given[0])
        if not isinstance(found, torch.Tensor):
            raise LearningError(
                f"its forward returned a {type(found).__name__}; one tensor is wanted, of a number"
                f" for each class: ({rows}, {classes}) of {rows} rows"
            )
        if found.shape != (rows, classes):
            raise LearningError(
                f"its forward returned {tuple(found.shape)} of {rows} rows; a number for each"
                f" class is wanted: ({rows}, {classes})"
            )

    return look
