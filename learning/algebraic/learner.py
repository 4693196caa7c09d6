"""The algebraic learner of the system: images in, atoms out.

Importing this needs neither numpy nor a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocol.options import Checked, option

from ..contract import (
    Ask,
    Cancelled,
    Learner,
    Progress,
    Solution,
    grey_form,
    grey_images,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from loaders.rows import Array, Arrays, Form, Labels, Rows

    from ..actions import Action
    from ..layout import Layout
    from ..merging.strategy import Client
    from ..model import Model
    from .course import Batch

#: Of a shard's rows, this share is held out to show how learning goes, but so many at most.
HELD_OUT, MOST_HELD_OUT = 0.05, 500
#: A batch leaves some thousand atoms, of some 15 bytes; this is beyond any that was seen.
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class AlgebraicOptions(Checked):
    """How the algebraic learner is made."""

    batches: int = option(
        30, "algebraic: batches that each job learns, each round.", least=1, most=100_000
    )
    levels: int = option(
        1, "algebraic: thresholds of grey that a pixel is told by.", least=1, most=16
    )
    shifts: int = option(
        1, "algebraic: images are also learned moved by up to so many pixels.", least=0, most=8
    )

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        from protocol.wire.words import plural

        return plural(self.batches, "batch", "es")


class AlgebraicLearner(Learner):
    """Learns by Sparse Crossing, from grey images.

    The union of all shards' atoms is the model; how often each is contradicted is summed over all
    shards. Every count is a sum and every set a set, so that no order of arrival can show.

    Source: Martin-Maroto and de Polavieja, arXiv 1803.05252; 2502.19944 (models of one algebra add
    up); the counts are ours.
    """

    name = "algebraic"
    options = AlgebraicOptions
    merging = "union"
    parts = "atoms"
    pictures = ("batches.png", "atoms.png")
    made: AlgebraicOptions

    def prepare(self) -> None:
        """Compile the kernels, or load them; says so on standard error where it takes long."""
        import sys

        from .compiling import prepare

        prepare(lambda text: print(text, file=sys.stderr, flush=True))

    def initial(self, form: Form) -> Arrays:
        """Return nothing: a fresh model has no atoms."""
        grey_form(form, self.name)
        return {}

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard; return the atoms that `start` has not.

        Raises:
            ContradictionError: equal images of different classes.
        """
        from .compiling import prepare
        from .course import Course, check_rows, embedded
        from .embedding import ImageEmbedding, shifted
        from .model import from_arrays, to_arrays

        prepare(lambda text: progress(0.0, text))
        images, labels, classes = grey_images(rows, self.name), rows.labels, rows.classes
        batches = self.made.batches
        embedding = ImageEmbedding.of_levels(images.shape[1], images.shape[2], self.made.levels)
        terms = embedded(embedding, classes, images)
        check_rows(terms, labels)
        held = min(int(len(terms) * HELD_OUT), MOST_HELD_OUT)
        train, test = slice(0, len(terms) - held), slice(len(terms) - held, None)
        before = from_arrays(start) if start else None
        course = Course(embedding, classes, seed, before, self.turn.round * batches)
        history: list[Batch] = []
        held_out = (terms[test], labels[test]) if held else None
        variants = [
            embedded(embedding, classes, moved)
            for moved in shifted(images[train], self.made.shifts)
        ]
        for batch in course.learn(terms[train], labels[train], batches, held_out, variants):
            history.append(batch)
            progress(len(history) / batches, _tell(batch, len(history), batches))
            if cancelled():
                break
        model = course.model(terms, labels)
        last = history[-1]
        return Solution(
            {**to_arrays(model), "history": _table(history)}, len(labels),
            {
                "atoms": len(model.atoms), "strict": int(model.strict.sum()),
                **({} if math.isnan(last.error) else {"error": last.error}),
            },
        )  # fmt: skip

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the class of each image of whose atoms it misses least."""
        from .model import from_arrays

        return from_arrays(model).predict(grey_images(rows, self.name))

    def actions(self) -> tuple[type[Action], ...]:
        """Return that shards can be counted."""
        from .counting import Count

        return (Count,)

    # At the main node.

    def check_form(self, form: Form) -> None:
        """Raise unless rows are grey images."""
        grey_form(form, self.name)

    def check_data(self, rows: Rows) -> None:
        """Raise if equal images, as far as the model can tell, are of different classes.

        Raises:
            ContradictionError: they are; it names them.
            UnfitData: nothing is on in any image.
        """
        from .checks import check_images

        check_images(grey_images(rows, self.name), rows.labels, self.made.levels)

    def seen(self, rows: Rows) -> Array:
        """Return the term of each image, packed: it sees no more."""
        import numpy as np

        from .embedding import ImageEmbedding

        images = grey_images(rows, self.name)
        height, width = images.shape[1:]
        embedding = ImageEmbedding.of_levels(height, width, self.made.levels)
        return np.packbits(embedding.bits(images), axis=1)

    def largest(self, layout: Layout) -> int:
        """Return how many bytes a solution has, at most."""
        return _MOST_BYTES

    def check(self, solution: Solution, layout: Layout, form: Form) -> None:
        """Raise unless a solution is atoms about such images."""
        from .checks import check_solution

        height, width = grey_form(form, self.name)
        check_solution(solution, height, width, len(form.classes), self.made.levels)

    def settle(self, model: Arrays, ask: Ask) -> Arrays:
        """Return a merged model with what contradicts its atoms; what is hopeless is dropped."""
        from .counting import Count
        from .model import weighed

        counts = ask(lambda rows: Count(rows=rows, model=model))
        total = next(counts).copy()
        for more in counts:
            total += more
        return weighed(model, total)

    def describe(self, model: Arrays) -> dict[str, object]:
        """Return how many atoms there are: in all, strict ones, of each class, by violations."""
        import numpy as np

        from .model import from_arrays

        made = from_arrays(model)
        return {
            "atoms": len(made.atoms), "strict": int(made.strict.sum()),
            "by_class": [len(made.of_class(class_)) for class_ in range(made.classes)],
            "by_violations": np.bincount(made.violations, minlength=1).tolist(),
            "bytes": int(model["sizes"].nbytes + model["gaps"].nbytes),
        }  # fmt: skip

    # For people.

    def made_of(self, parts: Mapping[str, object]) -> str:
        """Return how many atoms there are, and how many of them no example contradicts."""
        return f"{parts['atoms']:,} atoms, {parts['strict']:,} of them contradicted by no example"

    def draw(
        self, model: Model, solutions: Iterable[tuple[int, int, Arrays]], folder: Path
    ) -> None:
        """Draw the error by batch, and what the atoms ask for."""
        from .model import from_arrays
        from .telling import draw_atoms, draw_batches

        draw_batches(((job, arrays) for _, job, arrays in solutions), folder / "batches.png")
        names = list(model.form.classes)
        draw_atoms(from_arrays(model.arrays), folder / "atoms.png", names)


def _tell(batch: Batch, done: int, batches: int) -> str:
    """Return how a batch went, for people."""
    error = "" if math.isnan(batch.error) else f", {batch.error:.1%} error"
    return f"batch {done}/{batches}, {batch.atoms:,} atoms, {batch.indicators:,} indicators{error}"


def _table(history: list[Batch]) -> npt.NDArray[np.float32]:
    """Return batches as numbers, float32, shape (batches, HISTORY_COLUMNS)."""
    import numpy as np

    from .checks import HISTORY_COLUMNS

    rows = [(b.number, b.rows, b.atoms, b.union, b.indicators, b.error) for b in history]
    return np.array(rows, np.float32).reshape(-1, HISTORY_COLUMNS)
