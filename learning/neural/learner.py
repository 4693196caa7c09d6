"""A small net as a learner; `nets.py`, which nodes import, needs torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..forms import Table, taken
from .options import NeuralOptions
from .presets import recipe_of
from .shapes import check_weights
from .trained import TrainedNet

if TYPE_CHECKING:
    from loaders.rows import Arrays, Form

    from .training import Training


class NeuralLearner(TrainedNet):
    """A small net, of pictures or of tables; its solutions have a mean.

    Pictures go through three convolutions with batch normalisation and a dense layer, rows of a
    table through three dense layers (`shapes.py`); where options don't say how they are learned,
    preset, rows and shards do (`presets.py`). Grey and colours of bytes are taken as 0 to 1, as
    parts of 255, or of the most that the training set has where that is below half of it; all other
    numbers in deviations from their mean over the whole training set, and what is missing in a
    table as the mean. These means and deviations (of dim pictures 0, and the most) are arrays of
    the model.

    The learning rate rises over the first fifth of the run and then falls in a straight line to
    zero, over all rounds; pictures are shifted at random, each by its own.

    On one kind of CPU, with one version of torch and one number of threads, equal shards, starts
    and seeds give equal bits; so they do on GPUs of one model.
    """

    name = "neural"
    options = NeuralOptions
    made: NeuralOptions

    @property
    def _training(self) -> Training:
        from .training import Training

        return Training(self.made, self.turn)

    def prepare(self) -> None:
        """Import torch and learn from two rows: the first step prepares more than that."""
        import numpy as np

        from loaders.rows import ArraySource, Field, Form, Numbered, Rows

        form = Form({"image": Field("uint8", (28, 28))}, Numbered(2))
        two = np.zeros((2, 28, 28), np.uint8), np.arange(2)
        rows = Rows(ArraySource("none", form, {"all": ({"image": two[0]}, two[1])}), "all")
        start = self.initial(form)
        self.fit(rows, start, seed=0, progress=lambda done, note="", /: None, cancelled=bool)

    def initial(self, form: Form) -> Arrays:
        """Return a fresh net's weights; where numbers are standardised, as if they were already."""
        recipe = recipe_of(self.made, form, 1, 1, None)  # the net does not hang on the others
        return self._training.initial(form, recipe)

    # At the main node.

    def check_form(self, form: Form) -> None:
        """Raise unless rows are pictures or a table, and no net for them would be too large."""
        check_weights(form, recipe_of(self.made, form, 1, 1, None).width)

    def suited(
        self, form: Form, rows: int, shards: int, rounds: int | None
    ) -> tuple[NeuralOptions, int]:
        """Return what it is made with, whole, and how many rounds there are: the preset's."""
        found = recipe_of(self.made, form, rows, shards, rounds)
        own: dict[str, Any] = {
            "epochs": found.said_epochs, "batch_size": found.batch_size, "lr": found.lr,
            "width": found.width, "shift": found.shift, "flip": found.flip,
        }  # fmt: skip
        pictures = {"shift", "flip"} if isinstance(taken(form, self.name), Table) else set()
        unknown = {"width", "shift", "flip"} if found.first else pictures
        own = {name: each for name, each in own.items() if name not in unknown}
        return replace(self.made, **own), found.rounds
