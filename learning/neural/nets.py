"""The nets of the neural learner, and how they are trained: all that needs torch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from loaders.rows import Array, Arrays, Form, Labels, Rows

from ..contract import Cancelled, Progress, Solution, Turn
from ..errors import ModelError
from ..forms import Picture, taken
from ..merging.strategy import Client
from ..whole import standardised
from .learner import DEVIATION, MEAN, STANDARDS, NeuralOptions
from .shapes import CONVOLVED, HIDDEN, Shape, shape_at_full_length, shape_of

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
#: Rows that are predicted together, and numbers of theirs, at most.
PREDICT_BATCH, PREDICT_NUMBERS = 500, 1 << 24


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
        shape: of a table's net.
        classes: how many there are.
    """

    last = "dense3.bias"

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(shape.features, HIDDEN)
        self.dense2 = nn.Linear(HIDDEN, HIDDEN)
        self.dense3 = nn.Linear(HIDDEN, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, classes), of rows, (n, columns)."""
        hidden = functional.relu(self.dense2(functional.relu(self.dense1(x))))
        logits: torch.Tensor = self.dense3(hidden)
        return logits


def _kind(shape: Shape) -> type[SmallNet] | type[DenseNet]:
    return SmallNet if shape.is_picture else DenseNet


def _shape(form: Form, model: Arrays) -> Shape:
    """Return the net that a model is of: maybe one of large pictures from an earlier release."""
    shape, full = shape_of(form), shape_at_full_length(form)
    weights = model.get("dense1.weight", np.zeros(0))
    return full if weights.shape[-1:] == (full.features,) else shape


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

    def initial(self, form: Form) -> Arrays:
        """Return the weights of a fresh net, and what standardises nothing."""
        shape = shape_of(form)
        torch.manual_seed(self._turn.initial_seed)
        return {**_arrays(_kind(shape)(shape, len(form.classes))), **_standards(form, shape, {})}

    def fit(
        self, rows: Rows, start: Arrays, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[torch.Tensor] | None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent with Nesterov momentum."""
        made, turn = self._made, self._turn
        net, take = self._net(start, rows.form), self._take(start, rows.form)
        optimizer = torch.optim.SGD(
            net.parameters(), lr=made.lr, momentum=MOMENTUM, nesterov=True,
            weight_decay=WEIGHT_DECAY,
        )  # fmt: skip
        if client is not None:
            client.begin(self._tensor)
        steps = made.epochs * math.ceil(len(rows) / made.batch_size)
        loss_sum = 0.0
        random, shifts = np.random.default_rng(seed), _shape(rows.form, start).shifts
        for step, (inputs, labels) in enumerate(self._batches(rows, random, shifts, take)):
            if cancelled():
                break
            done = step / steps
            optimizer.param_groups[0]["lr"] = made.lr * (1 - (turn.round + done) / turn.rounds)
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(net(inputs), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if client is not None:
                _correct(net, client)
            optimizer.step()
            if step % 16 == 0:  # reading the loss waits for the device
                loss_sum += loss.item()
                progress(done)
        mean_loss = loss_sum / max(1, math.ceil(steps / 16))
        own = {} if client is None else {n: _array(tensor) for n, tensor in client.end().items()}
        given = {name: start[name] for name in STANDARDS & start.keys()}
        return Solution({**_arrays(net), **given}, len(rows), {"loss": mean_loss}, own)

    def _net(self, model: Arrays, form: Form) -> nn.Module:
        """Return the net with a model's weights, for rows such as these."""
        shape = _shape(form, model)
        kind = _kind(shape)
        classes = max(1, model.get(kind.last, np.zeros(0)).size)
        with torch.device("meta"):  # a lying file asks for no memory
            _check(kind(shape, classes), model, _standards(form, shape, model))
        net = kind(shape, classes)
        weights = {name: array for name, array in model.items() if name not in STANDARDS}
        net.load_state_dict({name: self._tensor(array) for name, array in weights.items()})
        return net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _batches(
        self, rows: Rows, random: np.random.Generator, shifts: tuple[int, int], take: _Take
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches of every epoch, shifted."""
        for epoch in range(self._made.epochs):
            still = (self._turn.round == 0 and epoch == 0) or not any(shifts)
            for fields, labels in rows.batches(self._made.batch_size, random):
                (array,) = fields.values()
                array = take.prepared(array)
                if not still:
                    array = _shifted(array, shifts, random)
                yield take.tensor(array), torch.from_numpy(labels).to(self._device)

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self._device)

    def _take(self, model: Arrays, form: Form) -> _Take:
        return _Take(model, form, self._device)

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
        last = _kind(_shape(rows.form, model)).last
        if rows.labels.max(initial=0) >= len(model.get(last, ())):
            return self.predict(model, rows), math.inf
        for logits, labels in self._logits(model, rows):
            found.append(logits.argmax(1).cpu().numpy())
            truth = torch.tensor(labels).to(self._device)
            loss += functional.cross_entropy(logits.double(), truth, reduction="sum").item()
        return np.concatenate(found), loss / len(rows)

    def _logits(self, model: Arrays, rows: Rows) -> Iterator[tuple[torch.Tensor, Labels]]:
        """Yield the net's outputs, and what should be, a batch at a time."""
        net, take = self._net(model, rows.form).eval(), self._take(model, rows.form)
        (field,) = rows.form.fields.values()
        together = min(PREDICT_BATCH, max(1, PREDICT_NUMBERS // math.prod(field.shape)))
        with torch.inference_mode():
            for fields, labels in rows.batches(together):
                (array,) = fields.values()
                yield net(take.tensor(take.prepared(array))), labels


class _Take:
    """Makes rows what a net takes.

    Args:
        model: that knows mean and deviation, where numbers are standardised.
        form: of the rows.
        device: that computes.
    """

    def __init__(self, model: Arrays, form: Form, device: torch.device) -> None:
        self._model, self._device = model, device
        self._standardises = _standardises(form, model)

    def prepared(self, array: Array) -> Array:
        """Return rows as they can be shifted: what comes in then, 0, is black, or the mean."""
        if not self._standardises:
            return array
        return standardised(array, self._model[MEAN], self._model[DEVIATION])

    def tensor(self, array: Array) -> torch.Tensor:
        """Return prepared rows, float32: (n, columns) or (n, channels, height, width)."""
        writable = array if array.flags.writeable else array.copy()  # torch warns otherwise
        tensor = torch.from_numpy(np.ascontiguousarray(writable)).to(self._device)
        if tensor.ndim == 2:
            return tensor
        tensor = tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)
        if not self._standardises:
            tensor = tensor.float().div_(255)
        return tensor.contiguous(memory_format=torch.channels_last)


def _standardises(form: Form, model: Arrays) -> bool:
    """Whether numbers are standardised: all but pictures of bytes; of these, dim ones."""
    found = taken(form, "neural")
    return not (isinstance(found, Picture) and found.is_bytes) or model.keys() >= STANDARDS


def _standards(form: Form, shape: Shape, model: Arrays) -> dict[str, Array]:
    """Return the arrays that standardise rows of such a form, so that they stay as they are."""
    if not _standardises(form, model):
        return {}
    return {MEAN: np.zeros(shape.inputs), DEVIATION: np.ones(shape.inputs)}


def _shifted(images: Array, most: tuple[int, int], random: np.random.Generator) -> Array:
    """Return pictures, all moved by as many pixels, up to some; zeros come in."""
    height, width = images.shape[1:3]
    down, right = most
    if down == right:  # the first release drew them so
        y, x = random.integers(0, 2 * down + 1, 2)
    else:
        y, x = random.integers(0, [2 * down + 1, 2 * right + 1])
    wider = np.zeros(
        (len(images), height + 2 * down, width + 2 * right, *images.shape[3:]), images.dtype
    )
    wider[:, down : down + height, right : right + width] = images
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


def _check(net: nn.Module, model: Arrays, standards: Arrays) -> None:
    """Raise unless a model's arrays are the weights of such a net, and what standardises."""
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    own |= {name: array.shape for name, array in standards.items()}
    given = {name: array.shape for name, array in model.items()}
    if own != given:
        what = "images of this size" if isinstance(net, SmallNet) else "rows of so many columns"
        raise ModelError(f"the model does not fit {what}: {given}, not {own}")
    odd = [name for name, array in model.items() if array.dtype.kind != "f"]
    if odd:
        raise ModelError(f"array {odd[0]!r} of the model is {model[odd[0]].dtype}, no weights")
