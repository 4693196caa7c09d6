"""What tells of a learner's models, in words and pictures; a learner may bring its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .base import Arrays
from .model import Model


class Telling:
    """Tells of any learner's models what can be told without knowing them."""

    #: Names of the files that `draw` writes.
    pictures: tuple[str, ...] = ()

    def made_of(self, parts: Mapping[str, Any]) -> str:
        """Return what a model is made of, as `Merger.describe` says, in words."""
        return ", ".join(f"{count:,} {name}" for name, count in parts.items())

    def draw(
        self, model: Model, solutions: Iterable[tuple[int, int, Arrays]], folder: Path
    ) -> None:
        """Draw the pictures into a folder.

        Args:
            model: that a run ended with.
            solutions: that it was merged from: round, from 0, number of the job, from 1, arrays.
            folder: where to.

        Raises:
            OSError: they can't be written.
            LearningError: the model can't be read.
        """
