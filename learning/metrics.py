"""How good predictions are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loaders.rows import Labels

#: Of more classes nobody reads a table, and it would not fit into memory.
MOST_TABLED = 1_000
#: Rows of other classes that are all missed where everything is taken for one class: fewer may be
#: by chance. A model that knows half of them misses ten of ten in one case of a thousand.
_LEAST_MISSED = 10


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Args:
        accuracy: the share that is right, 0 to 1.
        macro_f1: the mean of the F1 score, 0 to 1, over the classes that are there or predicted (as
            scikit-learn has it).
        confusion: true class by predicted class, counts; empty where there are too many classes.
        blind: whether every row was taken for one class, though several are there; of very few rows
            nobody can tell.
    """

    accuracy: float
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    blind: bool = False


def score(labels: Labels, predicted: Labels, classes: int) -> Scores:
    """Return the scores of predictions.

    Args:
        labels: the truth, int64, shape (n,).
        predicted: int64, shape (n,).
        classes: how many classes there are.
    """
    right = np.bincount(labels[labels == predicted], minlength=classes)
    true, told = (np.bincount(each, minlength=classes) for each in (labels, predicted))
    there = true + told > 0
    f1 = 2 * right[there] / (true + told)[there] if there.any() else np.zeros(1)
    table: tuple[tuple[int, ...], ...] = ()
    if classes <= MOST_TABLED:
        counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
        table = tuple(map(tuple, counts.reshape(classes, classes).tolist()))
    one, several = np.count_nonzero(told) == 1, np.count_nonzero(true) > 1
    blind = bool(one and several and np.count_nonzero(labels != predicted) >= _LEAST_MISSED)
    return Scores(float(np.mean(labels == predicted)), float(np.mean(f1)), table, blind)
