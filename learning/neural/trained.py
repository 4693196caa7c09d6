"""What learners have in common that train a net by gradient descent, whoever has written it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..contract import Ask, Cancelled, Learner, Progress, Solution
from ..devices import CPU, CUDA, MPS
from ..forms import Table, taken
from .shapes import DEVIATION, MEAN, MEASURED, STANDARDS, VARIANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loaders.rows import Array, Arrays, Form, Labels, Rows

    from ..layout import Layout
    from ..merging.strategy import Client
    from .training import Training


class TrainedNet(Learner):
    """A net that is trained by `training.py`; its solutions have a mean.

    Numbers that are not bytes of pictures, and dim pictures, are standardised by what the whole
    training set says, which are arrays of the model.
    """

    tells_loss = True
    devices = (CPU, CUDA, MPS)

    @property
    def _training(self) -> Training:
        """What trains it, and needs torch."""
        raise NotImplementedError

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard by gradient descent."""
        return self._training.fit(rows, start, seed, progress, cancelled, client)

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the most likely class of each row."""
        return self._training.predict(model, rows)

    def evaluate(self, model: Arrays, rows: Rows) -> tuple[Labels, float]:
        """Return the most likely class of each row, and the mean loss over them.

        It is infinite where a class is among them that the model knows nothing of.
        """
        return self._training.evaluate(model, rows)

    def probabilities(self, model: Arrays, rows: Rows) -> Array:
        """Return how likely each class is for each row, as the net has it."""
        return self._training.probabilities(model, rows)

    # At the main node.

    def check_data(self, rows: Rows) -> None:
        """Raise unless all numbers can be computed with; missing ones are those of a table only."""
        from ..whole import check_numbers

        found = taken(rows.form, self.name)
        check_numbers(rows, found if isinstance(found, Table) else None)

    def begin(self, model: Arrays, rows: Rows) -> Arrays:
        """Return a fresh net with mean and deviation of all rows, where it takes numbers so."""
        from ..whole import moments

        if not model.keys() >= STANDARDS:
            dim = self._of_dim(rows)
            return {**model, **dim} if dim else model
        return {**model, **dict(zip((MEAN, DEVIATION), moments(rows), strict=True))}

    def check(self, solution: Solution, layout: Layout, form: Form) -> None:
        """Raise unless the arrays of a solution are such a net's, and standardise as it began."""
        from loaders.rows import bytes_of

        from ..errors import UnfitSolution

        super().check(solution, layout, form)
        for name in STANDARDS & solution.start.keys():
            if bytes_of(solution.arrays[name]) != bytes_of(solution.start[name]):
                raise UnfitSolution(f"its {name} of the data is not what it began with")
        for name in solution.arrays:
            if name.endswith(VARIANCE) and (solution.arrays[name] < 0).any():
                raise UnfitSolution(f"its {name} has a variance below zero")

    def begun(self, model: Arrays) -> Arrays:
        """Return what numbers are standardised by, where they are."""
        return {name: array for name, array in model.items() if name in STANDARDS}

    def shaping(self) -> Mapping[str, object]:
        """Return nothing: the arrays show which net it is."""
        return {}

    def learned(self, model: Arrays) -> Arrays:
        """Return the weights: neither what standardises nor means and variances on the way."""
        return {
            name: array for name, array in model.items()
            if array.dtype.kind == "f" and name not in STANDARDS and not name.endswith(MEASURED)
        }  # fmt: skip

    def settle(self, model: Arrays, ask: Ask) -> Arrays:
        """Return a merged net of which no variance is below zero, whatever has moved it."""
        return {
            name: array.clip(0) if name.endswith(VARIANCE) and (array < 0).any() else array
            for name, array in model.items()
        }

    def describe(self, model: Arrays) -> dict[str, object]:
        """Return how many weights there are."""
        return super().describe({n: a for n, a in model.items() if n not in STANDARDS})

    def _of_dim(self, rows: Rows) -> Arrays:
        """Return what makes dim pictures of bytes 0 to 1; of others nothing: 255 does that."""
        import numpy as np

        from ..whole import WHITE, white_of

        found, white = taken(rows.form, self.name), white_of(rows)
        if isinstance(found, Table) or white == WHITE:
            return {}
        return {MEAN: np.zeros(found.channels), DEVIATION: np.full(found.channels, float(white))}
