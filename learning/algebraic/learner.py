"""The algebraic learner of the system: images in, atoms out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Cancelled, Images, Labels, Progress, Shard, Solution
from .embedding import ImageEmbedding, shifted
from .merger import HISTORY_COLUMNS
from .model import from_arrays, to_arrays

if TYPE_CHECKING:
    from .course import Batch

#: Of a shard's rows, this share is held out to show how learning goes, but so many at most.
HELD_OUT, MOST_HELD_OUT = 0.05, 500


class AlgebraicLearner:
    """Learns by Sparse Crossing.

    Args:
        batches: of a job, each round.
        levels: thresholds of grey.
        shifts: images are also learned moved by up to so many pixels up, down, left or right.
        round: which one this is, from 0.
        rounds, initial_seed: of no use here.
    """

    name = "algebraic"

    def __init__(
        self, batches: int = 30, levels: int = 1, shifts: int = 1, round: int = 0, rounds: int = 1,
        initial_seed: int = 0,
    ) -> None:  # fmt: skip
        self.batches = batches
        self.levels = levels
        self.shifts = shifts
        self.round = round

    def prepare(self) -> None:
        """Compile the kernels, or load them; says so on standard error where it takes long."""
        import sys

        from .course import prepare

        prepare(lambda text: print(text, file=sys.stderr, flush=True))

    def fit(
        self, shard: Shard, start: Arrays | None, *, seed: int, progress: Progress,
        cancelled: Cancelled,
    ) -> Solution:  # fmt: skip
        """Learn from one shard; return the atoms that `start` has not.

        Raises:
            ContradictionError: equal images of different classes.
        """
        from .course import Course, check_rows, embedded, prepare

        prepare(lambda text: progress(0.0, text))
        height, width = shard.images.shape[1:]
        embedding = ImageEmbedding.of_levels(height, width, self.levels)
        terms = embedded(embedding, shard.classes, shard.images)
        check_rows(terms, shard.labels)
        held = min(int(len(terms) * HELD_OUT), MOST_HELD_OUT)
        train, test = slice(0, len(terms) - held), slice(len(terms) - held, None)
        before = None if start is None else from_arrays(start)
        course = Course(embedding, shard.classes, seed, before, self.round * self.batches)
        history: list[Batch] = []
        held_out = (terms[test], shard.labels[test]) if held else None
        variants = [
            embedded(embedding, shard.classes, moved)
            for moved in shifted(shard.images[train], self.shifts)
        ]
        for batch in course.learn(
            terms[train], shard.labels[train], self.batches, held_out, variants
        ):
            history.append(batch)
            progress(len(history) / self.batches, _tell(batch, len(history), self.batches))
            if cancelled():
                break
        model = course.model(terms, shard.labels)
        last = history[-1]
        return Solution(
            {**to_arrays(model), "history": _table(history)}, len(shard.labels),
            {
                "atoms": len(model.atoms), "strict": int(model.strict.sum()),
                **({} if np.isnan(last.error) else {"error": last.error}),
            },
        )  # fmt: skip

    def predict(self, model: Arrays, images: Images) -> Labels:
        """Return the class of each image of whose atoms it misses least."""
        return from_arrays(model).predict(images)


def _tell(batch: Batch, done: int, batches: int) -> str:
    """Return how a batch went, for people."""
    error = "" if np.isnan(batch.error) else f", {batch.error:.1%} error"
    return f"batch {done}/{batches}, {batch.atoms:,} atoms, {batch.indicators:,} indicators{error}"


def _table(history: list[Batch]) -> npt.NDArray[np.float32]:
    """Return batches as numbers, float32, shape (batches, HISTORY_COLUMNS)."""
    rows = [(b.number, b.rows, b.atoms, b.union, b.indicators, b.error) for b in history]
    return np.array(rows, np.float32).reshape(-1, HISTORY_COLUMNS)
