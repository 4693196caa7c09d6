"""Sources made of others, with other classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xxhash

from .errors import LoaderError
from .rows import Arrays, Form, Labels, Numbered, RowNumbers, Source


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


class InClasses:
    """The same rows, their classes numbered as a model's are: classes are told by their names.

    Args:
        source: of the rows.
        classes: names, in order; those that only the source has come behind.
    """

    def __init__(self, source: Source, classes: Sequence[str]) -> None:
        self._source = source
        self.name, self.splits = source.name, source.splits
        self.absent = getattr(source, "absent", {})
        known = set(classes)
        more = [each for each in source.form.classes if each not in known]
        self.form = Form(source.form.fields, (*classes, *more) if more else classes)
        place = {name: number for number, name in enumerate(self.form.classes)}
        self._numbers = np.array([place[each] for each in source.form.classes], np.int64)

    @property
    def digest(self) -> str:
        """The source's, and the numbers of its classes."""
        hash_ = xxhash.xxh3_128(self._source.digest.encode())
        hash_.update(self._numbers.data)
        return hash_.hexdigest()

    def labels(self, split: str) -> Labels:
        """Return the labels of a whole split."""
        numbers: Labels = self._numbers[self._source.labels(split)]
        return numbers

    def read(self, split: str, numbers: RowNumbers | slice) -> Arrays:
        """Return the fields of some rows, as they are."""
        return self._source.read(split, numbers)


def in_classes(source: Source, classes: Sequence[str]) -> Source:
    """Return a source whose classes are numbered as these, and others behind them."""
    mine = source.form.classes
    numbers = isinstance(mine, Numbered) and isinstance(classes, Numbered)
    return source if numbers or mine == classes else InClasses(source, classes)


def against_rest(name: str) -> tuple[str, str]:
    """Return what the two classes are called, of one against the rest: `not 3` and `3`."""
    return f"not {name}", name
