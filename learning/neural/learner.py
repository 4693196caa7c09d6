"""A small net as a learner; `nets.py`, which nodes import, needs torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..contract import Cancelled, Learner, Progress, Solution
from ..devices import CPU, CUDA, MPS
from ..forms import Table, taken
from .options import NeuralOptions
from .presets import recipe_of
from .shapes import DEVIATION, MEAN, STANDARDS, VARIANCE, check_weights

if TYPE_CHECKING:
    from loaders.rows import Array, Arrays, Form, Labels, Rows

    from ..layout import Layout
    from ..merging.strategy import Client
    from .training import Training


class NeuralLearner(Learner):
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
    tells_loss = True
    devices = (CPU, CUDA, MPS)
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

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent with Nesterov momentum."""
        return self._training.fit(rows, start, seed, progress, cancelled, client)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the most likely class of each row."""
        return self._training.predict(model, rows)

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the most likely class of each row, and the mean cross-entropy over them.

        It is infinite where a class is among them that the model knows nothing of.
        """
        return self._training.evaluate(model, rows)

    def probabilities(self, model: Arrays, rows: Rows) -> Array:
        """Return how likely each class is for each row, as the net has it."""
        return self._training.probabilities(model, rows)

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

    def check_data(self, rows: Rows) -> None:
        """Raise unless all numbers can be computed with; missing ones are those of a table only."""
        from ..whole import check_numbers

        found = taken(rows.form, self.name)
        check_numbers(rows, found if isinstance(found, Table) else None)

    def begin(self, model: Arrays, rows: Rows) -> Arrays:
        """Return a fresh net with mean and deviation of all rows, where it takes numbers so."""
        return begun(model, rows)

    def check(self, solution: Solution, layout: Layout, form: Form) -> None:
        """Raise unless the arrays of a solution are such a net's, and standardise as it began."""
        super().check(solution, layout, form)
        check_standards(solution)

    def describe(self, model: Arrays) -> dict[str, object]:
        """Return how many weights there are."""
        return super().describe({n: a for n, a in model.items() if n not in STANDARDS})


def begun(model: Arrays, rows: Rows) -> Arrays:
    """Return a fresh net's arrays with mean and deviation of all rows, if it takes numbers so."""
    from ..whole import moments

    if not model.keys() >= STANDARDS:
        dim = _of_dim(rows)
        return {**model, **dim} if dim else model
    return {**model, **dict(zip((MEAN, DEVIATION), moments(rows), strict=True))}


def check_standards(solution: Solution) -> None:
    """Raise unless a net standardises as it began, and its variances are some.

    Raises:
        UnfitSolution: it does not.
    """
    from loaders.rows import bytes_of

    from ..errors import UnfitSolution

    for name in STANDARDS & solution.start.keys():
        if bytes_of(solution.arrays[name]) != bytes_of(solution.start[name]):
            raise UnfitSolution(f"its {name} of the data is not what it began with")
    for name in solution.arrays:
        if name.endswith(VARIANCE) and (solution.arrays[name] < 0).any():
            raise UnfitSolution(f"its {name} has a variance below zero")


def _of_dim(rows: Rows) -> Arrays:
    """Return what makes dim pictures of bytes 0 to 1; of others nothing: 255 does that."""
    import numpy as np

    from ..whole import WHITE, white_of

    found, white = taken(rows.form, NeuralLearner.name), white_of(rows)
    if isinstance(found, Table) or white == WHITE:
        return {}
    return {MEAN: np.zeros(found.channels), DEVIATION: np.full(found.channels, float(white))}
