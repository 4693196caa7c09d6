"""How good predictions are."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Labels


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Args:
        accuracy: the share that is right, 0 to 1.
        macro_f1: the mean over classes of the F1 score, 0 to 1.
        confusion: true class by predicted class, counts.
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
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score  # half a second

    every = range(classes)
    confusion = confusion_matrix(labels, predicted, labels=list(every)).tolist()
    return Scores(
        float(accuracy_score(labels, predicted)),
        float(f1_score(labels, predicted, labels=list(every), average="macro", zero_division=0)),
        tuple(map(tuple, confusion)),
    )
