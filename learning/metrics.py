"""How good predictions are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loaders.rows import Labels

#: Of more classes nobody reads a table, and it would not fit into memory.
MOST_TABLED = 1_000


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Args:
        accuracy: the share that is right, 0 to 1.
        macro_f1: the mean over classes of the F1 score, 0 to 1; of a class that is neither there
            nor predicted it is 0.
        confusion: true class by predicted class, counts; empty where there are too many classes.
    """

    accuracy: float
    macro_f1: float
    confusion: tuple[tuple[int, ...], ...]


def score(labels: Labels, predicted: Labels, classes: int) -> Scores:
    """Return the scores of predictions.

    Args:
        labels: the truth, int64, shape (n,).
        predicted: int64, shape (n,).
        classes: how many classes there are.
    """
    right = np.bincount(labels[labels == predicted], minlength=classes)
    there = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    f1 = np.divide(2 * right, there, out=np.zeros(len(there)), where=there > 0)
    table: tuple[tuple[int, ...], ...] = ()
    if classes <= MOST_TABLED:
        counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
        table = tuple(map(tuple, counts.reshape(classes, classes).tolist()))
    return Scores(float(np.mean(labels == predicted)), float(np.mean(f1)), table)
