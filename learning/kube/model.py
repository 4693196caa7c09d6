"""KubeML's model: a network, its data set, and how it is trained, in the words of its user."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, SupportsFloat

import torch
from torch import nn

from loaders.torch import KubeDataset

from ..errors import LearningError

#: What users' models log by.
log = logging.getLogger("mnist.unit")

#: Models that were started while a unit is made; None: none is.
STARTED: ContextVar[list[KubeModel] | None] = ContextVar("started", default=None)
INIT, TRAIN, VALIDATE, INFER = "init", "train", "val", "infer"


@dataclass(frozen=True)
class KubeArgs:
    """What a model is told.

    Args:
        task: `init`, `train`, `val` or `infer`.
        batch_size: rows a step.
        lr: learning rate.
        epoch: the number of the pass, over all rounds, from 1.
    """

    task: str
    batch_size: int
    lr: float
    epoch: int


class KubeModel:
    """KubeML's model, to be subclassed.

    A subclass has `configure_optimizers`, `train` and `validate`, and may have `init` and `infer`.

    Args:
        network: that learns.
        dataset: whose rows it learns from.
        gpu: whether to compute on a GPU where there is one.

    Attributes:
        batch_size: rows a step; while the last batch is validated, the rows of that.
        lr: learning rate.
        epoch: the number of the pass, over all rounds, from 1.
        optimizer: what `configure_optimizers` returned.
        device: on which tensors arrive.
        task: `init`, `train`, `val` or `infer`.
        args: all that it was told.
        logger: for its user.
        platform: `gpu` or `cpu`, as was asked for.
    """

    args: KubeArgs
    task: str
    lr: float
    batch_size: int
    epoch: int

    def __init__(self, network: nn.Module, dataset: KubeDataset, gpu: bool = False) -> None:
        self._network, self._dataset = network, dataset
        self.platform = "gpu" if gpu else "cpu"
        self.device = torch.device("cpu")
        self.optimizer: Any = None
        self.logger = log

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the network makes of something."""
        return self._network(*args, **kwargs)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the network's parameters."""
        return self._network.parameters()

    def apply(self, function: Callable[[nn.Module], None]) -> KubeModel:
        """Apply a function to each module of the network."""
        self._network.apply(function)
        return self

    def start(self) -> KubeModel:
        """Return what a run needs of a unit.

        Raises:
            LearningError: no run has asked for it.
        """
        started = STARTED.get()
        if started is None:
            raise LearningError(
                f"{type(self).__name__} is trained by a run, which calls main by itself:"
                " mnist-main --learner FILE.py:main"
            )
        started.append(self)
        return self

    # For subclasses.

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Set the fresh network's weights, if that is wanted; may take the network."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return a fresh optimizer of the network's parameters."""
        self._lacks("configure_optimizers")

    def train(self, *args: Any, **kwargs: Any) -> object:
        """Take a step; return the loss.

        Its arguments are (x, y, batch_index) or (batch, batch_index).
        """
        self._lacks("train")

    def validate(self, *args: Any, **kwargs: Any) -> object:
        """Return accuracy and mean loss of a batch; arguments as for `train`."""
        self._lacks("validate")

    def infer(self, *args: Any, **kwargs: Any) -> object:
        """Return predictions, a tensor, an array or a list; takes (data) or (model, data)."""
        self._lacks("infer")

    def _lacks(self, method: str) -> NoReturn:
        raise LearningError(f"{type(self).__name__} has no {method}")


#: Without these nothing can be learned.
_NEEDED = "configure_optimizers", "train", "validate"


def check_model(model: KubeModel) -> None:
    """Raise unless a model has all that a run needs.

    Raises:
        LearningError: it lacks something, or it is another thing.
    """
    name = type(model).__name__
    lacking = [each for each in _NEEDED if getattr(type(model), each) is getattr(KubeModel, each)]
    if lacking:
        raise LearningError(f"{name} has no {', no '.join(lacking)}")
    network, dataset = getattr(model, "_network", None), getattr(model, "_dataset", None)
    if not isinstance(network, nn.Module):
        raise LearningError(
            f"{name}'s network is no torch.nn.Module, but {type(network).__name__}: its __init__"
            " calls super().__init__(network, dataset)"
        )
    if not isinstance(dataset, KubeDataset) or not hasattr(dataset, "name"):
        raise LearningError(
            f"{name}'s data set is no KubeDataset: its class is a subclass of that, and its"
            ' __init__ calls super().__init__("NAME")'
        )
    for method in ("init", "train", "validate"):
        Method(model, method)


_BATCH = {3: "x, y, batch_index", 2: "batch, batch_index"}
#: By how many parameters a method has, what they are.
_FORMS = {
    "init": {0: "", 1: "model"}, "train": _BATCH, "validate": _BATCH,
    "infer": {1: "data", 2: "model, data"},
}  # fmt: skip


class Method:
    """A method of a model in one of KubeML's forms, which are told apart by their parameters.

    Args:
        model: whose method it is.
        name: of it.

    Attributes:
        takes: how many arguments.

    Raises:
        LearningError: it has none of these forms.
    """

    def __init__(self, model: KubeModel, name: str) -> None:
        self._told = f"{type(model).__name__}'s {name}"
        self._call: Callable[..., object] = getattr(model, name)
        forms = _FORMS[name]
        parameters = _parameters(self._call, self._told)
        names = [each.name for each in parameters]
        if any(each.kind is each.VAR_POSITIONAL for each in parameters):
            self.takes = next(iter(forms))
        else:
            self.takes = sum(each.kind is not each.KEYWORD_ONLY for each in parameters)
        alone = [e for e in parameters if e.kind is e.KEYWORD_ONLY and e.default is e.empty]
        # KubeML's first form went through the data by itself.
        first = forms is _BATCH and names[1:] == ["dataset"]
        if self.takes not in forms or alone or first:
            wanted = " or ".join(f"({each})" for each in forms.values())
            raise LearningError(f"{self._told} takes ({', '.join(names)}); it has to take {wanted}")

    def __call__(self, *arguments: object) -> object:
        """Call it."""
        return self._call(*arguments)

    def of_batch(self, batch: object, index: int) -> object:
        """Call it with a batch and its number, in its form.

        Raises:
            LearningError: it takes a pair, and the batch is none.
        """
        if self.takes == 2:
            return self._call(batch, index)
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise LearningError(
                f"{self._told} takes x and y; the data set's __getitem__ returns no such pair"
            )
        return self._call(*batch, index)

    def number(self, value: object, what: str) -> float:
        """Return something that it returned, as a number.

        Raises:
            LearningError: it is none.
        """
        if isinstance(value, torch.Tensor):
            value = value.detach()
        if isinstance(value, SupportsFloat) and not isinstance(value, bool):
            with suppress(TypeError, ValueError, RuntimeError):  # of several numbers
                return float(value)
        raise LearningError(f"{self._told} returned {type(value).__name__}, no {what}")

    def pair(self, value: object) -> tuple[float, float]:
        """Return accuracy and loss that it returned.

        Raises:
            LearningError: it returned no such pair.
        """
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise LearningError(
                f"{self._told} returned {type(value).__name__}, no pair of accuracy and loss"
            )
        return self.number(value[0], "accuracy"), self.number(value[1], "loss")


def _parameters(method: Callable[..., object], told: str) -> list[inspect.Parameter]:
    try:
        every = inspect.signature(method).parameters.values()
    except (TypeError, ValueError) as error:
        raise LearningError(f"{told} is no method: {error}") from error
    return [each for each in every if each.kind is not each.VAR_KEYWORD]
