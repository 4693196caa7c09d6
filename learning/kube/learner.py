"""What is written for KubeML, as a learner; `training.py`, which nodes import, needs torch.

A **unit** is what makes a `KubeModel` without arguments: KubeML's `main`, or a class of models.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from protocol.errors import ConfigError

from ..contract import Cancelled, Learner, Progress, Solution
from ..descending import DescentOptions, passes
from ..devices import CPU, CUDA, MPS
from ..errors import LearningError, UnfitData, told_of

if TYPE_CHECKING:
    from loaders.rows import Array, Arrays, Form, Labels, Rows

    from ..merging.strategy import Client
    from .training import Training

Unit = Callable[[], object]

#: What KubeML's users say of a run, where nobody has.
EPOCHS, BATCH_SIZE, LR = 1, 64, 0.01


@dataclass(frozen=True, kw_only=True)
class KubeOptions(DescentOptions):
    """What a `KubeModel` is told; the learning rate is its `lr` as it stands, in every round."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None:
            raise ConfigError(
                f"--steps {self.steps}: a KubeModel is told which pass it makes, and makes whole"
                " ones; give --epochs"
            )
        if self.epochs is not None and not isinstance(self.epochs, int):
            raise ConfigError(f"--epochs {self.epochs}: a KubeModel makes whole passes")

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        return passes(self.epochs or EPOCHS)

    def whole(self) -> KubeOptions:
        """Return it with what nobody has said."""
        return replace(
            self,
            epochs=EPOCHS if self.epochs is None else self.epochs,
            batch_size=BATCH_SIZE if self.batch_size is None else self.batch_size,
            lr=LR if self.lr is None else self.lr,
        )


class KubeLearner(Learner):
    """Trains what a unit makes; a subclass says which unit.

    A model's arrays are the network's `state_dict`. A job makes the unit anew, with the job's rows
    in its data set, gives the network the arrays that it starts from, and has `train` called with
    each batch; the optimizer is a fresh one. Rows are predicted by the network's outputs, (rows,
    classes), of what the data set makes of them when `is_training()` is false.

    On one kind of CPU, with one version of torch and one number of threads, equal shards, starts
    and seeds give equal bits, as long as what the unit does hangs on nothing but its data and the
    random numbers of torch, numpy and Python. The unit itself is made with the same ones each time.
    """

    #: Makes the model, or returns what its `start()` returns; needs no arguments.
    unit: ClassVar[Unit]
    options = KubeOptions
    tells_loss = True
    devices = (CPU, CUDA, MPS)
    made: KubeOptions

    @property
    def _training(self) -> Training:
        from .training import Training

        return Training(type(self).unit, self.made.whole(), self.turn)

    def prepare(self) -> None:
        """Import torch."""
        _ = self._training

    def initial(self, form: Form) -> Arrays:
        """Return the state of the network after the model's `init`.

        Raises:
            UnfitData: rows have several fields.
            LearningError: the unit is none, or its network has arrays that can't be kept.
        """
        self.check_form(form)
        return self._training.initial(form)

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by the model's `train`.

        Raises:
            LearningError: the strategy wants a word in each step, or the unit is none.
        """
        if client is not None:
            raise LearningError(
                "a KubeModel's train takes its steps by itself, and this strategy has to change"
                " each of them: merge by another, mean for instance"
            )
        return self._training.fit(rows, start, seed, progress, cancelled)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the class of the network's highest output, of each row."""
        return self._training.predict(model, rows)

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the class of the highest output of each row, and the loss by `validate`.

        The loss is the mean over batches, weighted by their rows.
        """
        return self._training.evaluate(model, rows)

    def probabilities(self, model: Arrays, rows: Rows) -> Array:
        """Return the softmax of the network's outputs of each row, float64."""
        return self._training.probabilities(model, rows)

    def infer(self, model: Arrays, data: object) -> list[object]:
        """Return what the model's own `infer` says of data, whatever it is, as plain values."""
        return self._training.infer(model, data)

    # At the main node.

    def shaping(self) -> Mapping[str, object]:
        """Return nothing: the unit knows no options, and its arrays show which network it is."""
        return {}

    def data(self) -> str | None:
        """Return the first name that the unit gives to a data set; it is made for that."""
        with told_of(f"{self.name} can't be asked which data it names"):
            names = names_of(type(self).unit)
        return names[0] if names else None

    def check_form(self, form: Form) -> None:
        """Raise unless rows have one field, which the data set holds as `data`."""
        if len(form.fields) != 1:
            raise UnfitData(
                f"a KubeDataset holds rows of one field; a row of this data is {form.tell()}"
            )

    def suited(
        self, form: Form, rows: int, shards: int, rounds: int | None
    ) -> tuple[KubeOptions, int]:
        """Return what it is made with, whole, and how many rounds there are."""
        return self.made.whole(), self.rounds if rounds is None else rounds


def check_unit(unit: object) -> None:
    """Raise unless something can be called without arguments; this needs no torch.

    Raises:
        LearningError: it can't, and what can be done.
    """
    name = getattr(unit, "__name__", repr(unit))
    if not callable(unit):
        raise LearningError(f"{name:.80} is neither a KubeModel nor a function that makes one")
    try:
        inspect.signature(unit).bind()
    except TypeError as error:
        raise LearningError(
            f"{name} can't be made without arguments ({error}): name a function that makes it and"
            " returns its start(), FILE.py:main"
        ) from error
    except ValueError:  # of what was compiled: it will be seen
        return


def names_of(unit: Unit) -> tuple[str, ...]:
    """Return the names that a unit gives to its data sets, each once; no data is opened.

    What it raises before it has named one is raised.
    """
    from .training import names_of as names

    return names(unit)
