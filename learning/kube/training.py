"""How a job makes a unit, and trains and uses its model."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from loaders.rows import Array, Arrays, ArraySource, Field, Form, Labels, Numbered, Rows
from loaders.torch import holding

from ..contract import Cancelled, Progress, Solution, Turn
from ..durable import DTYPES
from ..errors import LearningError, ModelError
from ..neural.device import at_work, computing
from ..neural.nets import array_of
from .learner import KubeOptions, Unit, check_unit
from .model import INFER, INIT, STARTED, TRAIN, VALIDATE, KubeArgs, KubeModel, Method, check_model

log = logging.getLogger("mnist.compute")

#: Rows of nothing that a network is shown which has yet to learn how many inputs it has.
_SHOWN = 2
#: What data is like that nobody has opened.
_UNKNOWN = Form({"image": Field("uint8", (28, 28))}, Numbered(10))


class Training:
    """Makes a unit, trains it and uses it.

    Args:
        unit: makes a `KubeModel`.
        made: what the learner is made with, whole.
        turn: where in a run it is.
    """

    def __init__(self, unit: Unit, made: KubeOptions, turn: Turn) -> None:
        self._unit, self._turn = unit, turn
        assert made.epochs is not None and made.batch_size is not None and made.lr is not None
        self._epochs, self._batch_size, self._lr = int(made.epochs), made.batch_size, made.lr
        torch.set_num_threads(made.threads)

    # What is made.

    def initial(self, form: Form) -> Arrays:
        """Return the state of a fresh network."""
        with _seeded(self._turn.initial_seed):
            model = self._made(blank(form, 0), INIT, training=True)
            if any(map(is_lazy, model._network.state_dict().values())):
                model = self._shown(form)
            init = Method(model, "init")
            init(*[model._network] * init.takes)
        return _arrays_of(model._network)

    def _shown(self, form: Form) -> KubeModel:
        """Return a fresh model whose network has seen rows of nothing, and knows its inputs."""
        model = self._made(blank(form, _SHOWN), INIT, training=False)
        model._network.eval()
        with torch.no_grad():
            for batch in _loaded(model, [[*range(_SHOWN)]]):
                model(*_inputs(batch))
        return model

    def _made(self, rows: Rows, task: str, training: bool) -> KubeModel:
        """Return the unit's model, with some rows in its data set."""
        model = made(self._unit, rows, training)
        model.task, model.lr, model.batch_size = task, self._lr, self._batch_size
        self._count(model, 0)
        return model

    def _count(self, model: KubeModel, epoch: int) -> None:
        """Tell a model which pass of a job this is, from 0."""
        model.epoch = self._turn.round * self._epochs + epoch + 1
        model.args = KubeArgs(model.task, self._batch_size, self._lr, model.epoch)

    def _ready(self, arrays: Arrays, rows: Rows, task: str) -> KubeModel:
        """Return the unit's model with some arrays and rows, and its device chosen."""
        # What is no part of the arrays, and random, is the same in each job.
        with _seeded(0):
            model = self._made(rows, task, training=task == TRAIN)
        _give(model._network, arrays)
        model.device = _device(model)
        return model

    # What is done.

    def fit(
        self, rows: Rows, start: Arrays, seed: int, progress: Progress, cancelled: Cancelled
    ) -> Solution:
        """Learn from one shard."""
        model = self._ready(start, rows, TRAIN)
        with _at_work(model, seed), _told_of_outputs(model._network, rows.classes):
            loss = self._fit(model, np.random.default_rng(seed), progress, cancelled)
        metrics = {} if loss is None else {"loss": loss}
        return Solution(_arrays_of(model._network), len(rows), metrics)

    def _fit(
        self, model: KubeModel, order: np.random.Generator, progress: Progress, cancelled: Cancelled
    ) -> float | None:
        """Have a model trained; return the mean loss of all batches; None: there was none."""
        optimizer: object = model.configure_optimizers()
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise LearningError(
                f"{_name(model)}'s configure_optimizers returned {type(optimizer).__name__}, no"
                " optimizer of torch"
            )
        model.optimizer, train = optimizer, Method(model, "train")
        rows = _length(model)
        losses: list[float] = []
        steps = self._epochs * len(_parts(np.arange(rows), self._batch_size))
        for epoch in range(self._epochs):
            self._count(model, epoch)
            model._network.train()
            parts = _parts(order.permutation(rows), self._batch_size)
            for index, batch in enumerate(_loaded(model, parts)):
                if cancelled():
                    return _mean(losses)
                losses.append(train.number(train.of_batch(batch, index), "loss"))
                progress((len(losses) - 1) / steps)
        return _mean(losses)

    def predict(self, arrays: Arrays, rows: Rows) -> Labels:
        """Return the class of the highest output of each row."""
        found = [each.argmax(1).numpy() for each in self._outputs(arrays, rows)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def probabilities(self, arrays: Arrays, rows: Rows) -> Array:
        """Return the softmax of the outputs of each row, float64, shape (rows, classes)."""
        found = [each.double().softmax(1).numpy() for each in self._outputs(arrays, rows)]
        return np.concatenate(found) if found else np.zeros((0, rows.classes))

    def _outputs(self, arrays: Arrays, rows: Rows) -> Iterator[torch.Tensor]:
        with self._predicting(arrays, rows) as (model, batches):
            for batch, count in batches:
                yield _checked(model(*_inputs(batch)), count, rows.classes)

    def evaluate(self, arrays: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the class of the highest output of each row, and the mean loss by `validate`."""
        found, loss = [], 0.0
        with self._predicting(arrays, rows) as (model, batches):
            validate = Method(model, "validate")
            for index, (batch, count) in enumerate(batches):
                inputs = _inputs(batch)
                model.batch_size = count  # by which users divide
                with _heard(model._network, inputs) as outputs:
                    _, mean = validate.pair(validate.of_batch(batch, index))
                output = outputs[0] if outputs else model(*inputs)
                found.append(_checked(output, count, rows.classes).argmax(1).numpy())
                loss += mean * count
        if not found:
            return np.zeros(0, np.int64), math.inf
        return np.concatenate(found), loss / len(rows)

    @contextmanager
    def _predicting(
        self, arrays: Arrays, rows: Rows
    ) -> Iterator[tuple[KubeModel, Iterator[tuple[object, int]]]]:
        """Give the model, ready to predict, and all batches of rows in order, with their sizes."""
        model = self._ready(arrays, rows, VALIDATE)
        if _length(model) != len(rows):
            raise LearningError(
                f"{_name(model)}'s data set makes {_length(model)} of {len(rows)} rows: to predict"
                " them, each has to be one"
            )
        size = self._batch_size
        parts = [
            [*range(first, min(first + size, len(rows)))] for first in range(0, len(rows), size)
        ]
        with _at_work(model, 0), torch.no_grad():
            model._network.eval()
            yield model, zip(_loaded(model, parts), map(len, parts), strict=True)

    def infer(self, arrays: Arrays, data: object) -> list[object]:
        """Return what the model's own `infer` says of data, as plain values."""
        model = self._ready(arrays, blank(_UNKNOWN, 0), INFER)
        infer = Method(model, "infer")
        with _at_work(model, 0), torch.no_grad():
            model._network.eval()
            given = (model._network, data)[-infer.takes :]
            found = infer(*given)
        if isinstance(found, torch.Tensor):
            found = array_of(found)
        if isinstance(found, np.ndarray):
            return list(np.atleast_1d(found).tolist())
        if not isinstance(found, list):
            raise LearningError(
                f"{_name(model)}'s infer returned {type(found).__name__}, no tensor, array or list"
            )
        return found


def made(unit: Unit, rows: Rows, training: bool) -> KubeModel:
    """Return the model that a unit makes.

    Args:
        unit: makes it.
        rows: that its data sets hold.
        training: whether they are learned from.

    Raises:
        LearningError: it makes none.
    """
    check_unit(unit)
    if isinstance(unit, KubeModel):
        raise LearningError(
            f"{_name(unit)} is made already, with other rows: name the function that makes it, or"
            " its class"
        )
    with _making(rows, training) as (started, _):
        found = unit()
    if not isinstance(found, KubeModel):
        if len(started) != 1:
            raise LearningError(
                f"{getattr(unit, '__name__', 'the unit')} returned {type(found).__name__}, no"
                " KubeModel: it returns what the model's start() returns"
            )
        (found,) = started  # and whoever wrote it forgot to return it
    check_model(found)
    return found


def names_of(unit: Unit) -> tuple[str, ...]:
    """Return the names that a unit gives to its data sets, each once; no data is opened."""
    check_unit(unit)
    with _seeded(0), _making(blank(_UNKNOWN, 0), training=True) as (_, names):
        try:
            unit()
        except Exception:
            if not names:  # else it is of data that is not there
                raise
    return tuple(dict.fromkeys(names))


@contextmanager
def _making(rows: Rows, training: bool) -> Iterator[tuple[list[KubeModel], list[str]]]:
    """Have a unit made inside; give the models that it starts, and the names of its data sets."""
    started: list[KubeModel] = []
    token = STARTED.set(started)
    try:
        with holding(rows, training) as names:
            yield started, names
    finally:
        STARTED.reset(token)


def blank(form: Form, count: int) -> Rows:
    """Return so many rows of zeros."""
    fields = {
        name: np.zeros((count, *each.shape), each.dtype) for name, each in form.fields.items()
    }
    source = ArraySource("nothing", form, {"all": (fields, np.zeros(count, np.int64))})
    return Rows(source, "all")


@contextmanager
def _seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Have everything random inside follow from a seed; what others draw stays theirs."""
    of_torch, of_numpy, of_python = np.random.SeedSequence(seed).generate_state(3)
    gpus = [device] if device is not None and device.type == "cuda" else []
    numpys, pythons = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(gpus):
        torch.manual_seed(int(of_torch))
        np.random.seed(of_numpy)
        random.seed(int(of_python))
        try:
            yield
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)


@contextmanager
def _at_work(model: KubeModel, seed: int) -> Iterator[None]:
    """Have what is done inside be done on the model's device, and follow from a seed."""
    with at_work(model.device), _seeded(seed, model.device):
        model._network.to(model.device)
        yield


def _device(model: KubeModel) -> torch.device:
    """Return what a model computes on: the job's device, where it has asked for a GPU."""
    if model.platform == "cpu":
        return torch.device("cpu")
    device = computing()
    if device.type == "cpu":
        _say_that_there_is_no_gpu(_name(model))
    return device


@cache  # once
def _say_that_there_is_no_gpu(name: str) -> None:
    log.warning("%s wants a GPU, and this job has none: it computes on the processor", name)


def _name(model: KubeModel) -> str:
    return type(model).__name__


def _length(model: KubeModel) -> int:
    return len(model._dataset)


def _parts(order: Array, size: int) -> list[list[int]]:
    """Return an order in parts of so many rows; of one row alone no variance could be had."""
    parts = [part.tolist() for part in np.split(order, range(size, len(order), size))]
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [parts[-2] + parts[-1]]
    return parts if len(order) else []


def _loaded(model: KubeModel, parts: Sequence[list[int]]) -> Iterator[object]:
    """Yield the data set's batches of some rows, on the device."""
    loader: DataLoader[object] = DataLoader(model._dataset, batch_sampler=parts)
    for batch in loader:
        yield _moved(batch, model.device)


def _moved(batch: object, device: torch.device) -> object:
    """Return what a loader made of rows, on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: _moved(each, device) for name, each in batch.items()}
    if not isinstance(batch, list | tuple):
        return batch
    moved = [_moved(each, device) for each in batch]
    make = getattr(type(batch), "_make", type(batch))  # of a named tuple
    return make(moved)


def _inputs(batch: object) -> Sequence[object]:
    """Return what of a batch a network takes: all but the classes, which are last."""
    return batch[:-1] if isinstance(batch, list | tuple) and len(batch) > 1 else (batch,)


def _mean(losses: list[float]) -> float | None:
    return math.fsum(losses) / len(losses) if losses else None


@contextmanager
def _heard(network: nn.Module, inputs: Sequence[object]) -> Iterator[list[object]]:
    """Give what a network makes of just these inputs meanwhile: nobody need ask it twice."""
    outputs: list[object] = []

    def hear(_: nn.Module, given: tuple[object, ...], output: object) -> None:
        if len(given) == len(inputs) and all(map(lambda a, b: a is b, given, inputs)):
            outputs.append(output)

    handle = network.register_forward_hook(hear)
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _told_of_outputs(network: nn.Module, classes: int) -> Iterator[None]:
    """Where something is raised, say of a network whose outputs are not of the classes that it is.

    Loss functions raise then what says little; and so might they for other reasons.
    """
    last: list[torch.Size] = []

    def keep(_: nn.Module, given: tuple[object, ...], output: object) -> None:
        last[:] = [output.shape] if isinstance(output, torch.Tensor) else []

    handle = network.register_forward_hook(keep)
    try:
        yield
    except (IndexError, RuntimeError, ValueError) as error:
        if last and (len(last[0]) != 2 or last[0][1] != classes):
            raise ModelError(_odd(last[0], (*last[0][:1], classes))) from error
        raise
    finally:
        handle.remove()


def _checked(output: object, rows: int, classes: int) -> torch.Tensor:
    """Return a network's output, in the host's memory.

    Raises:
        ModelError: it is not a number for each class of each row.
    """
    if not isinstance(output, torch.Tensor):
        raise ModelError(f"the network makes {type(output).__name__} of rows, no tensor")
    if tuple(output.shape) != (rows, classes):
        raise ModelError(_odd(output.shape, (rows, classes)))
    return output.detach().cpu()


def _odd(shape: Sequence[int], wanted: tuple[int, ...]) -> str:
    return (
        f"the network's outputs are of shape {tuple(shape)}, not {wanted}: a number for each class"
        " of each row"
    )


# Arrays.


def _arrays_of(network: nn.Module) -> dict[str, Array]:
    """Return a network's state, by name.

    Raises:
        LearningError: it is of what can't be kept.
    """
    return {name: _array_of(name, each) for name, each in network.state_dict().items()}


def _array_of(name: str, tensor: object) -> Array:
    if not isinstance(tensor, torch.Tensor):
        raise LearningError(f"the network's {name} is {type(tensor).__name__}, no tensor")
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind not in DTYPES or tensor.layout != torch.strided:
        raise LearningError(
            f"the network's {name} is of {kind}, {str(tensor.layout).removeprefix('torch.')}, which"
            " can't be sent: make it dense and float32"
        )
    return array_of(tensor)


def _give(network: nn.Module, arrays: Arrays) -> None:
    """Give a network a model's arrays.

    Raises:
        ModelError: they are not its.
    """
    own = network.state_dict()
    odd = sorted(own.keys() ^ arrays.keys())
    if odd:
        raise ModelError(f"the model's arrays are not those of this network: {', '.join(odd[:5])}")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    for name, tensor in tensors.items():
        mine = own[name]
        if not is_lazy(mine) and (tensor.shape, tensor.dtype) != (mine.shape, mine.dtype):
            raise ModelError(
                f"the model's {name} is {tensor.dtype} of {tuple(tensor.shape)}, this network's"
                f" {mine.dtype} of {tuple(mine.shape)}"
            )
    network.load_state_dict(tensors)
