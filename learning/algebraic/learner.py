"""The algebraic learner of the system: images or rows of a table in, atoms out.

Importing this needs neither numpy nor a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protocol.options import Checked, option

from ..contract import Ask, Cancelled, Learner, Progress, Solution
from ..forms import Picture, Table, only_field, taken

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
    from .embedding import Embedding

#: Of a shard's rows, this share is held out to show how learning goes, but so many at most.
HELD_OUT, MOST_HELD_OUT = 0.05, 500
#: A batch leaves some thousand atoms, of some 15 bytes; this is beyond any that was seen.
_MOST_BYTES = 64 << 20
#: Classes and pixels a side, at most, as models tell them; constants of a table.
_MOST_TOLD, _MOST_CONSTANTS = 0xFFFF, 1 << 20


@dataclass(frozen=True, kw_only=True)
class AlgebraicOptions(Checked):
    """How the algebraic learner is made."""

    batches: int = option(
        30, "algebraic: batches that each job learns, each round.", least=1, most=100_000
    )
    levels: int = option(
        1,
        "algebraic: thresholds of grey that a pixel is told by; a column of a table by 16 times as"
        " many.",
        least=1, most=16,
    )  # fmt: skip
    shifts: int = option(
        1, "algebraic: images are also learned moved by up to so many pixels.", least=0, most=8
    )

    @property
    def lesson(self) -> str:
        """What a job does in a round, in words."""
        from protocol.wire.words import plural

        return plural(self.batches, "batch", "es")


class AlgebraicLearner(Learner):
    """Learns by Sparse Crossing, from images or tables of numbers.

    Grey and colours of bytes have thresholds of their own; those of all other numbers come from the
    whole training set, and are arrays of the model.

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
        self.check_form(form)
        return {}

    def fit(
        self, rows: Rows, start: Arrays, *, seed: int, progress: Progress, cancelled: Cancelled,
        client: Client[Any] | None = None,
    ) -> Solution:  # fmt: skip
        """Learn from one shard; return the atoms that `start` has not.

        Raises:
            ContradictionError: equal rows of different classes.
        """
        from .compiling import prepare
        from .course import Course, check_rows, embedded
        from .model import from_arrays, to_arrays

        prepare(lambda text: progress(0.0, text))
        data, labels, classes = only_field(rows), rows.labels, rows.classes
        batches = self.made.batches
        embedding = self._embedding(rows.form, start)
        terms = embedded(embedding, classes, data)
        check_rows(terms, labels)
        held = min(int(len(terms) * HELD_OUT), MOST_HELD_OUT)
        train, test = slice(0, len(terms) - held), slice(len(terms) - held, None)
        before = from_arrays(start) if start else None
        course = Course(embedding, classes, seed, before, self.turn.round * batches)
        history: list[Batch] = []
        held_out = (terms[test], labels[test]) if held else None
        variants = [
            embedded(embedding, classes, moved) for moved in self._moved(data[train], rows.form)
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

    def _moved(self, data: Array, form: Form) -> list[Array]:
        """Return rows in the other forms that they are also learned in: images, moved."""
        from .embedding import shifted

        found = taken(form, self.name)
        if isinstance(found, Table) or not data.size:
            return []
        return shifted(data, self.made.shifts, 0 if found.is_bytes else data.min())

    def _embedding(self, form: Form, start: Arrays) -> Embedding:
        """Return what rows of such a form are told by: `start` knows, where the form does not."""
        from .embedding import ImageEmbedding
        from .model import from_arrays

        found = taken(form, self.name)
        if isinstance(found, Picture) and found.is_bytes:
            size, own = (found.height, found.width), start.get("thresholds")
            if own is None:
                return ImageEmbedding.of_levels(*size, self.made.levels, found.channels)
            return ImageEmbedding(*size, tuple(own.tolist()), found.channels)
        return from_arrays(start).embedding

    def predict(self, model: Arrays, rows: Rows) -> Labels:
        """Return the class of each row of whose atoms it misses least."""
        from .model import from_arrays

        taken(rows.form, self.name)
        return from_arrays(model).predict(only_field(rows))

    def actions(self) -> tuple[type[Action], ...]:
        """Return that shards can be counted."""
        from .counting import Count

        return (Count,)

    # At the main node.

    def check_form(self, form: Form) -> None:
        """Raise unless rows are images or of a table, and not too large or of too many classes."""
        from ..errors import UnfitData
        from .embedding import LEVELS

        found = taken(form, self.name)
        if len(form.classes) > _MOST_TOLD:
            raise UnfitData(
                f"the algebraic learner takes up to {_MOST_TOLD:,} classes; this data has"
                f" {len(form.classes):,}"
            )
        if isinstance(found, Picture) and max(found.height, found.width) > _MOST_TOLD:
            raise UnfitData(f"the algebraic learner takes images of up to {_MOST_TOLD:,} a side")
        if isinstance(found, Table):
            constants = 2 * LEVELS * self.made.levels * len(found.columns)
            if constants > _MOST_CONSTANTS:
                raise UnfitData(
                    f"the algebraic learner would tell a row of {len(found.columns):,} columns by"
                    f" {constants:,} constants; {_MOST_CONSTANTS:,} is the most"
                )

    def begun(self, model: Arrays) -> Arrays:
        """Return what the constants mean: they are told by arrays of every model."""
        atoms = ("sizes", "gaps", "violations", "epochs", "history")
        return {name: array for name, array in model.items() if name not in atoms}

    def shaping(self) -> Mapping[str, object]:
        """Return by how many thresholds rows are told: that is what its constants are."""
        return {"levels": self.made.levels}

    def check_data(self, rows: Rows) -> None:
        """Raise if equal rows, as far as the model can tell, are of different classes.

        Raises:
            ContradictionError: they are; it names them.
            UnfitData: nothing is on in any image, or numbers can't be told apart, or are not
                finite.
        """
        from .checks import check_bytes, check_rows_apart

        found = taken(rows.form, self.name)
        if isinstance(found, Picture) and found.is_bytes:
            check_bytes(only_field(rows))
        check_rows_apart(self._fitting(rows), only_field(rows), rows.labels)

    def seen(self, rows: Rows) -> Array:
        """Return the term of each row, packed: it sees no more."""
        from .embedding import packed

        return packed(self._fitting(rows), only_field(rows))

    def begin(self, model: Arrays, rows: Rows) -> Arrays:
        """Return a model without atoms, with thresholds that fit all rows; of bytes, nothing yet.

        Of dim ones (`whole.DIM`) there are some: these are no parts of 255.

        Raises:
            UnfitData: numbers can't be told apart.
        """
        import numpy as np

        from ..whole import WHITE, white_of
        from .atoms import joined
        from .model import AlgebraicModel, to_arrays

        found = taken(rows.form, self.name)
        if isinstance(found, Picture) and found.is_bytes and white_of(rows) == WHITE:
            return model
        none = np.zeros(0, np.int64)
        return to_arrays(AlgebraicModel(self._fitting(rows), rows.classes, joined([]), none, none))

    def _fitting(self, rows: Rows) -> Embedding:
        """Return what rows are told by, going by all of them where the form does not say it.

        Raises:
            UnfitData: their numbers are not finite, or can't be told apart.
        """
        from ..errors import UnfitData
        from ..whole import WHITE, bounds, check_numbers, white_of
        from .embedding import LEVELS, ImageEmbedding, TableEmbedding

        found, levels = taken(rows.form, self.name), self.made.levels
        check_numbers(rows, found if isinstance(found, Table) else None)
        if isinstance(found, Table):
            embedding = TableEmbedding.of(
                only_field(rows), rows.labels, levels=LEVELS * levels, names=found.columns,
                missing=True,
            )  # fmt: skip
            if not embedding.constants:
                raise UnfitData("every column has one value only: there is nothing to learn from")
            return embedding
        if found.is_bytes and (white := white_of(rows)) == WHITE:
            return self._embedding(rows.form, {})
        try:
            shape = found.height, found.width, found.channels
            low, high = (0, white) if found.is_bytes else bounds(rows)
            return ImageEmbedding.of_range(shape, levels, low, high)
        except ValueError as error:
            raise UnfitData(f"the pixels of these images are {error}") from error

    def largest(self, layout: Layout) -> int:
        """Return how many bytes a solution has, at most."""
        return _MOST_BYTES

    def check(self, solution: Solution, layout: Layout, form: Form) -> None:
        """Raise unless a solution is atoms about such data."""
        from .checks import check_solution

        check_solution(solution, self._embedding(form, solution.start), len(form.classes))

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
        found, names = taken(model.form, self.name), list(model.form.classes)
        columns = found.columns if isinstance(found, Table) else ()
        draw_atoms(from_arrays(model.arrays, names=columns), folder / "atoms.png", names)


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
