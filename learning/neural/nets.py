"""The nets of the neural learner, as torch has them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from loaders.rows import Array, Arrays, Form

from ..errors import ModelError
from ..forms import Table, taken
from .shapes import (
    CONVOLVED,
    DEVIATION,
    HIDDEN,
    MEAN,
    Normed,
    Shape,
    normed_of,
    shape_at_full_length,
    shape_of,
    standardises,
)

#: Of each batch in the running means and variances.
_NORM_MOMENTUM = 0.1
#: After so many batches `count` makes no difference any more.
SETTLED = 10


class SmallNet(nn.Module):
    """Two convolutions with pooling, then two dense layers; 80,000 weights for MNIST.

    Args:
        shape: of a picture's net.
        classes: how many there are.
    """

    last = "dense2.bias"

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        first, second = CONVOLVED
        padding = 0 if shape.kernel == 5 else 1
        self.conv1 = nn.Conv2d(shape.inputs, first, shape.kernel, padding=padding)
        self.conv2 = nn.Conv2d(first, second, shape.kernel, padding=padding)
        self.dense1 = nn.Linear(shape.features, HIDDEN)
        self.dense2 = nn.Linear(HIDDEN, classes)
        self._shorter, self._pools = shape.shorter, shape.pools

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, classes), of pictures, (n, channels, height, width)."""
        if self._shorter != (1, 1):
            x = functional.avg_pool2d(x, self._shorter)
        first, second = self._pools
        x = functional.relu(functional.max_pool2d(self.conv1(x), first))
        x = functional.relu(functional.max_pool2d(self.conv2(x), second))
        hidden = functional.relu(self.dense1(x.flatten(1)))
        logits: torch.Tensor = self.dense2(hidden)
        return logits


class DenseNet(nn.Module):
    """Three dense layers: the net of a table.

    Args:
        columns: of the table.
        hidden: units of each hidden layer.
        classes: how many there are.
        normed: whether batches are normalised after each of them.
    """

    last = "dense3.bias"

    def __init__(self, columns: int, hidden: int, classes: int, normed: bool) -> None:
        super().__init__()
        self.dense1 = nn.Linear(columns, hidden)
        self.dense2 = nn.Linear(hidden, hidden)
        self.dense3 = nn.Linear(hidden, classes)
        self.norm1, self.norm2 = (
            _unbiased(nn.BatchNorm1d(hidden)) if normed else nn.Identity() for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, classes), of rows, (n, columns)."""
        x = functional.relu(self.norm1(self.dense1(x)))
        x = functional.relu(self.norm2(self.dense2(x)))
        logits: torch.Tensor = self.dense3(x)
        return logits


class NormedNet(nn.Module):
    """Three convolutions with batch normalisation, and a dense layer; 62,538 weights for MNIST.

    Source of the normalisation: Ioffe and Szegedy 2015, arXiv 1502.03167. Pixels are folded into
    channels as in Shi et al. 2016, arXiv 1609.05158, the other way round.

    Args:
        shape: of it.
        classes: how many there are.
    """

    last = "dense.bias"

    def __init__(self, shape: Normed, classes: int) -> None:
        super().__init__()
        first, second, third = shape.channels
        sides = shape.height, shape.width
        inner, outer = zip(shape.height.paddings, shape.width.paddings, strict=True)
        self.conv1 = nn.Conv2d(shape.inputs * shape.fold**2, first, 3, padding=1, bias=False)
        self.norm1 = _unbiased(nn.BatchNorm2d(first))
        self.conv2 = nn.Conv2d(first, second, 3, padding=inner, bias=False)
        self.norm2 = _unbiased(nn.BatchNorm2d(second))
        self.conv3 = nn.Conv2d(second, third, 3, padding=outer, bias=False)
        self.norm3 = _unbiased(nn.BatchNorm2d(third))
        self.dense = nn.Linear(shape.features, classes)
        self._fold = shape.fold
        self._shorter = tuple(side.shorter for side in sides)
        self._margin = (0, shape.width.margin, 0, shape.height.margin)
        self._pool = tuple(side.pool for side in sides)
        self._last_pool = tuple(side.last_pool for side in sides)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, classes), of pictures, (n, channels, height, width)."""
        if self._shorter != (1, 1):
            x = functional.avg_pool2d(x, self._shorter)
        if any(self._margin):
            x = functional.pad(x, self._margin)
        if self._fold > 1:
            x = functional.pixel_unshuffle(x, self._fold)
        x = self.conv1(x)
        if self._pool != (1, 1):
            x = functional.max_pool2d(x, self._pool)
        x = functional.relu(self.norm1(x))
        x = functional.relu(self.norm2(self.conv2(x)))
        x = functional.relu(self.norm3(self.conv3(x)))
        if self._last_pool != (1, 1):
            x = functional.max_pool2d(x, self._last_pool)
        logits: torch.Tensor = self.dense(x.flatten(1))
        return logits


Norm = TypeVar("Norm", nn.BatchNorm1d, nn.BatchNorm2d)


def _unbiased(norm: Norm) -> Norm:
    norm.num_batches_tracked = None  # how many there were is no part of a model
    return norm


def count(net: nn.Module, step: int) -> None:
    """Say how many batches the running means and variances are of, in a net that was fresh.

    Of the first ones they are plain means: what they begin with, 0 and 1, counts for nothing, and
    a net that makes few steps is normalised as it learned.
    """
    for norm in net.children():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.momentum = max(_NORM_MOMENTUM, 1 / (step + 1))


Net = SmallNet | DenseNet | NormedNet


def fresh(form: Form, width: int) -> Arrays:
    """Return the arrays of a fresh net, and what standardises nothing.

    Args:
        form: of the data.
        width: of the normed net, as a `Recipe` has it; 0: the net of the first release.
    """
    classes, small = len(form.classes), shape_of(form)
    net: Net
    if isinstance(taken(form, "neural"), Table):
        net = DenseNet(small.inputs, width or HIDDEN, classes, normed=bool(width))
    else:
        net = NormedNet(normed_of(form, width), classes) if width else SmallNet(small, classes)
    return {**arrays_of(net), **_standards(form, small.inputs, {})}


def net_of(model: Arrays, form: Form) -> Net:
    """Return the net with a model's arrays, for rows of such a form.

    Raises:
        ModelError: the model is not for such rows.
    """
    with torch.device("meta"):  # a lying file asks for no memory
        net, inputs = _kind(model, form)
        _check(net, model, _standards(form, inputs, model))
    net, _ = _kind(model, form)
    for name, tensor in net.state_dict().items():  # which shares the net's memory
        tensor.copy_(torch.from_numpy(np.array(model[name])))
    return net


def classes_of(model: Arrays) -> int:
    """Return how many classes a model tells apart; 0: it is none of these nets."""
    biases = (model.get(kind.last) for kind in (NormedNet, DenseNet, SmallNet))
    return next((bias.size for bias in biases if bias is not None), 0)


def _kind(model: Arrays, form: Form) -> tuple[Net, int]:
    """Return a net such as a model is of, as it begins, and how many inputs it has."""
    classes, width = max(1, classes_of(model)), model.get("norm1.weight", np.zeros(0)).size
    small, full = shape_of(form), shape_at_full_length(form)
    if isinstance(taken(form, "neural"), Table):
        hidden = model.get("dense1.bias", np.zeros(HIDDEN)).size
        return DenseNet(small.inputs, hidden, classes, normed=width > 0), small.inputs
    if width:
        return NormedNet(normed_of(form, width), classes), small.inputs
    weights = model.get("dense1.weight", np.zeros(0))
    if weights.shape[-1:] == (full.features,):  # of large pictures, from the first release
        small = full
    return SmallNet(small, classes), small.inputs


def _standards(form: Form, inputs: int, model: Arrays) -> dict[str, Array]:
    """Return the arrays that standardise rows of such a form, so that they stay as they are."""
    if not standardises(form, model.keys()):
        return {}
    return {MEAN: np.zeros(inputs), DEVIATION: np.ones(inputs)}


def arrays_of(net: nn.Module) -> dict[str, Array]:
    """Return what is learned of a net, by name."""
    return {name: array_of(tensor) for name, tensor in net.state_dict().items()}


def array_of(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array, in order."""
    return np.asarray(tensor.detach().cpu().numpy(), order="C")


def _check(net: nn.Module, model: Arrays, standards: Arrays) -> None:
    """Raise unless a model's arrays are the weights of such a net, and what standardises."""
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    own |= {name: array.shape for name, array in standards.items()}
    given = {name: array.shape for name, array in model.items()}
    if own != given:
        what = "rows of so many columns" if isinstance(net, DenseNet) else "images of this size"
        raise ModelError(f"the model does not fit {what}: {given}, not {own}")
    odd = [name for name, array in model.items() if array.dtype.kind != "f"]
    if odd:
        raise ModelError(f"array {odd[0]!r} of the model is {model[odd[0]].dtype}, no weights")
