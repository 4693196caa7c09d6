"""The algebraic learner's own action: how often a shard contradicts each atom of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loaders.rows import Array, Arrays, Rows

from ..actions import Action, Answer, Values, Work, rows_in, under, within
from ..contract import Cancelled, Learner, Progress
from ..errors import UnfitSolution
from ..forms import only_field, taken
from .model import from_arrays, violations


@dataclass(frozen=True, kw_only=True)
class Count(Action):
    """Count the rows of a shard that contradict each atom of a model.

    Args:
        rows: the shard.
        model: by name.
    """

    name = "count"
    rows: Rows
    model: Arrays

    def pack(self) -> Work:
        """Return it as plain values and arrays."""
        return Work({}, under("start", self.model), self.rows)

    @classmethod
    def unpack(cls, values: Values, arrays: Arrays) -> Count:
        """Return what was packed."""
        return cls(rows=rows_in(values, arrays), model=within("start", arrays))

    def perform(self, learner: Learner, progress: Progress, cancelled: Cancelled) -> Answer:
        """Count."""
        taken(self.rows.form, "algebraic")
        made, data = from_arrays(self.model), only_field(self.rows)
        counts = violations(made.embedding, made.classes, made.atoms, data, self.rows.labels)
        return {}, {"counts": counts}

    def largest(self, learner: Learner) -> int:
        """Return how many bytes the counts have."""
        return 8 * self.model["sizes"].size

    def read(self, learner: Learner, values: Values, arrays: Arrays) -> Array:
        """Return the counts, int64, one for each atom."""
        if values or arrays.keys() != {"counts"}:
            raise UnfitSolution("not counts, and nothing else")
        counts = arrays["counts"]
        if counts.dtype != np.int64 or counts.shape != self.model["sizes"].shape:
            raise UnfitSolution("no count for each atom")
        if len(counts) and not 0 <= int(counts.min()) <= int(counts.max()) <= len(self.rows):
            raise UnfitSolution(f"counts outside of the {len(self.rows)} rows of the shard")
        return counts
