"""Sources made of others, with other classes."""

from __future__ import annotations

import numpy as np

from .errors import LoaderError
from .rows import Arrays, Form, Labels, RowNumbers, Source


class OneAgainstRest:
    """The same rows of two classes: 1 is the target class, 0 every other.

    Args:
        source: of the rows.
        target: number of the class.

    Raises:
        LoaderError: there is no such class.
    """

    def __init__(self, source: Source, target: int) -> None:
        classes = source.form.classes
        if not 0 <= target < len(classes):
            raise LoaderError(f"no class {target}: {source.name} has 0 to {len(classes) - 1}")
        self._source, self._target = source, target
        self.name, self.splits = source.name, source.splits
        self.absent = getattr(source, "absent", {})
        self.form = Form(source.form.fields, against_rest(classes[target]))

    @property
    def digest(self) -> str:
        """The source's, and the class."""
        return f"{self._source.digest}-{self._target}"

    def labels(self, split: str) -> Labels:
        """Return 1 for each row of the class, 0 for each other."""
        return np.asarray(self._source.labels(split) == self._target, np.int64)

    def read(self, split: str, numbers: RowNumbers | slice) -> Arrays:
        """Return the fields of some rows, as they are."""
        return self._source.read(split, numbers)


def against_rest(name: str) -> tuple[str, str]:
    """Return what the two classes are called, of one against the rest: `not 3` and `3`."""
    return f"not {name}", name
