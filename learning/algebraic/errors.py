"""What can go wrong in algebraic learning."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import UnfitData


class ContradictionError(UnfitData):
    """Data that no algebra satisfies: equal rows of different classes.

    Args:
        message: which rows.
        left, right: numbers of the terms of the negative that can't hold, where known.
    """

    def __init__(self, message: str, left: int = -1, right: int = -1) -> None:
        super().__init__(message)
        self.left, self.right = left, right


def check_equal_rows(first: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> None:
    """Raise if equal rows are of different classes.

    Args:
        first: for each row, the number of the first one that equals it.
        labels: of the rows.

    Raises:
        ContradictionError: they are; it names them.
    """
    bad = np.flatnonzero(labels != labels[first])
    if len(bad):
        row, other = int(bad[0]), int(first[bad[0]])
        more = f", and {len(bad) - 1} more such rows" if len(bad) > 1 else ""
        raise ContradictionError(
            f"rows {other} and {row} (counted from 0) are the same to the model, but of classes"
            f" {labels[other]} and {labels[row]}{more}; remove one of each, or, where they differ"
            " in grey or in number, tell more values apart (--levels)",
            int(labels[other]), row,
        )  # fmt: skip
