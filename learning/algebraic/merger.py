"""Merging by union of atoms. Numpy alone: a main node has no compiler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Form, Images, Labels, Shard, Solution
from ..errors import MergeError, ModelError, UnfitData, UnfitSolution
from ..merging import check_examples
from .atoms import distinct, joined
from .embedding import ON, ImageEmbedding
from .errors import check_equal_rows
from .model import MOST_VIOLATIONS, AlgebraicModel, from_arrays, to_arrays, violations

#: Numbers of a batch in `history`: batch, rows, atoms, union, indicators, error.
HISTORY_COLUMNS = 6
#: A batch leaves some thousand atoms, of some 15 bytes; this is beyond any that was seen.
_MOST_BYTES = 64 << 20
#: A shard has no million atoms; what is merged may have some.
_MOST_CELLS = 1 << 26
_MOST_BATCHES = 100_000
_NAMES = frozenset(["sizes", "gaps", "violations", "epochs", "image", "thresholds", "history"])


class AlgebraicMerger:
    """The union of all shards' atoms; how often each is contradicted is summed over all shards.

    Every count is a sum and every set a set, so that no order of arrival can show.

    Source: 2502.19944 (models of one algebra add up); the counts are ours.
    """

    def check_data(self, images: Images, labels: Labels, make: Mapping[str, Any]) -> None:
        """Raise if equal images, as far as the model can tell, are of different classes.

        Raises:
            ContradictionError: they are; it names them.
            UnfitData: nothing is on in any image.
        """
        if images.max(initial=0) <= ON:
            raise UnfitData(
                f"the brightest pixel of these images is {images.max(initial=0)}, and none is on:"
                " grey goes from 0 to 255"
            )
        _, height, width = images.shape
        embedding = ImageEmbedding.of_levels(height, width, make["levels"])
        parts = [
            np.packbits(embedding.bits(images[first : first + 4096]), axis=1)
            for first in range(0, len(images), 4096)
        ]
        rows = np.concatenate(parts)
        keys = rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        check_equal_rows(first[which], labels)

    def largest(self, form: Form) -> int:
        """Return how many bytes a solution has, at most."""
        return _MOST_BYTES

    def check_form(self, form: Form) -> None:
        """Every image will do."""

    def describe(self, model: Arrays) -> dict[str, Any]:
        """Return how many atoms there are: in all, strict ones, of each class, by violations."""
        made = from_arrays(model)
        return {
            "atoms": len(made.atoms), "strict": int(made.strict.sum()),
            "by_class": [len(made.of_class(class_)) for class_ in range(made.classes)],
            "by_violations": np.bincount(made.violations, minlength=1).tolist(),
            "bytes": int(model["sizes"].nbytes + model["gaps"].nbytes),
        }  # fmt: skip

    def check(self, solution: Solution, form: Form, examples: int, make: Mapping[str, Any]) -> None:
        """Raise unless a solution is atoms over the constants of such images."""
        check_examples(solution, examples)
        if solution.arrays.keys() - _NAMES:
            raise UnfitSolution("it has more arrays than a solution has")
        history = solution.arrays.get("history")
        if history is None or history.dtype != np.float32 or history.ndim != 2:
            raise UnfitSolution("it has no history of its batches")
        if len(history) > _MOST_BATCHES:
            raise UnfitSolution(f"a history of {len(history)} batches")
        if history.shape[1] != HISTORY_COLUMNS or not np.isfinite(history[:, :-1]).all():
            raise UnfitSolution(f"its history is not {HISTORY_COLUMNS} numbers for each batch")
        model = _read(solution)
        wanted = ImageEmbedding.of_levels(form.height, form.width, make["levels"])
        if model.embedding != wanted or model.classes != form.classes:
            raise UnfitSolution("its atoms are of other images, thresholds or classes")

    def merge(self, solutions: Iterable[Solution], before: Arrays | None = None) -> Arrays:
        """Return the union of the atoms, those of the model before it included.

        Nothing is known yet of what contradicts them.
        """
        models = [] if before is None else [from_arrays(before)]
        first: AlgebraicModel | None = models[0] if models else None
        atoms = [model.atoms for model in models]
        epochs = [model.epochs for model in models]
        solved = 0
        for number, solution in enumerate(solutions, 1):
            model = _read(solution)
            first = first or model
            if (model.embedding, model.classes) != (first.embedding, first.classes):
                raise MergeError(f"solution {number} does not fit the first: other images")
            atoms.append(model.atoms)
            epochs.append(model.epochs)
            solved += 1
        if first is None or not solved:
            raise MergeError("nothing to merge: no solution")
        union, which = distinct(joined(atoms))
        born = np.full(len(union), np.iinfo(np.int64).max)
        np.minimum.at(born, which, np.concatenate(epochs))
        unknown = np.zeros(len(union), np.int64)
        return to_arrays(AlgebraicModel(first.embedding, first.classes, union, unknown, born))

    def count(self, model: Arrays, shard: Shard) -> npt.NDArray[np.int64]:
        """Return how many rows of a shard contradict each atom of a merged model."""
        made = from_arrays(model)
        return violations(made.embedding, made.classes, made.atoms, shard.images, shard.labels)

    def check_counts(self, counts: Any, model: Arrays, examples: int) -> None:
        """Raise unless these can be what `count` returned for a shard of so many rows."""
        if counts is None or counts.dtype != np.int64 or counts.shape != model["sizes"].shape:
            raise UnfitSolution("no count for each atom")
        if len(counts) and not 0 <= counts.min() <= counts.max() <= examples:
            raise UnfitSolution(f"counts outside of the {examples} rows of the shard")

    def weigh(self, model: Arrays, counts: npt.NDArray[np.int64]) -> Arrays:
        """Return a merged model with the sums of all counts; what is hopeless is dropped."""
        made = from_arrays(model)
        kept = counts <= MOST_VIOLATIONS
        return to_arrays(
            AlgebraicModel(
                made.embedding, made.classes, made.atoms[kept], counts[kept], made.epochs[kept]
            )
        )


def _read(solution: Solution) -> AlgebraicModel:
    try:
        return from_arrays(solution.arrays, _MOST_CELLS)
    except ModelError as error:
        raise UnfitSolution(str(error)) from error
