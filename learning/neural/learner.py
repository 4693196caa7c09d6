"""A small convolutional net as a learner; `nets.py`, which nodes import, needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT

from ..contract import Cancelled, Learner, Progress, Solution, grey_form
from ..errors import ModelError

if TYPE_CHECKING:
    from loaders.rows import Array, Arrays, Form, Labels, Rows

    from ..merging.strategy import Client
    from .nets import Training


@dataclass(frozen=True, kw_only=True)
class NeuralOptions(Checked):
    """How the neural learner is made."""

    epochs: int = option(
        3, "neural: passes over its shard that each job makes, each round.", least=1,
        most=MAX_COUNT,
    )  # fmt: skip
    batch_size: int = option(16, "neural: rows a step.", least=1, most=MAX_COUNT)
    lr: float = option(
        0.02, "neural: learning rate at the start; it falls to zero over all rounds.", least=0,
        most=1e6, above=True,
    )  # fmt: skip
    threads: int = option(
        1,
        "neural: of each job. Part of the job: another number gives another (equally good) model.",
        least=1, most=1024,
    )  # fmt: skip

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        from protocol.wire.words import plural

        return plural(self.epochs, "epoch")


class NeuralLearner(Learner):
    """Two convolutions and two dense layers, of grey images; its solutions have a mean.

    The learning rate falls in a straight line to zero over all rounds of the run, and images
    are shifted at random from the second epoch on (the first finds its feet without).

    On one kind of CPU, with one version of torch and one number of threads, equal shards, starts
    and seeds give equal bits.
    """

    name = "neural"
    options = NeuralOptions
    tells_loss = True
    made: NeuralOptions

    @property
    def _training(self) -> Training:
        from .nets import Training

        return Training(self.made, self.turn)

    def prepare(self) -> None:
        """Import torch."""
        _ = self._training

    def initial(self, form: Form) -> Arrays:
        """Return a fresh net's weights."""
        height, width = _size(form)
        return self._training.initial(height, width, len(form.classes))

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent with Nesterov momentum."""
        _size(rows.form)
        return self._training.fit(rows, start, seed, progress, cancelled, client)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the most likely class of each image."""
        _size(rows.form)
        return self._training.predict(model, rows)

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the most likely class of each image, and the mean cross-entropy over them.

        It is infinite where a class is among them that the model knows nothing of.
        """
        _size(rows.form)
        return self._training.evaluate(model, rows)

    def probabilities(self, model: Arrays, rows: Rows) -> Array:
        """Return how likely each class is for each image, as the net has it."""
        _size(rows.form)
        return self._training.probabilities(model, rows)

    def check_form(self, form: Form) -> None:
        """Raise unless rows are grey images that are large enough for the net."""
        _size(form)


def _size(form: Form) -> tuple[int, int]:
    """Return height and width of images that the net takes."""
    height, width = grey_form(form, "neural")
    for length in (height, width):
        pooled(length)
    return height, width


def pooled(length: int) -> int:
    """Return what two valid 5-convolutions, each pooled by 2, leave of a length in pixels.

    Raises:
        ModelError: nothing.
    """
    left = ((length - 4) // 2 - 4) // 2
    if left < 1:
        raise ModelError(f"images of {length} pixels a side are too small for the net; 16 or more")
    return left
