"""Algebraic learning as a scikit-learn estimator."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import (
    check_array,
    check_is_fitted,
    check_random_state,
    column_or_1d,
    validate_data,
)

from loaders.rows import Array

from .compiling import prepare
from .course import Batch, Course, check_rows, embedded
from .embedding import LEVELS, MOST_LEVELS, ON, Embedding, ImageEmbedding, TableEmbedding, shifted
from .model import AlgebraicModel


class AlgebraicClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies by Sparse Crossing: rules that each class implies, learned from rows.

    Rows are images, shape (n, height, width), uint8; or a table, shape (n, columns), of numbers
    and, in arrays of objects, names.

    Args:
        batches: how many `fit` learns, and each `partial_fit`.
        levels: thresholds of a numeric column, or of grey; None: 16 of a column, one of grey.
        categorical: numbers of the columns whose values are names, though they may be numbers.
        shifts: images are also learned moved by up to so many pixels.
        target_digit: learn one class against the rest; labels are then True and False.
        validation_fraction: of the rows `fit` holds out, the last ones, to say how it goes in
            `history_`.
        random_state: seed of everything random: same seed and rows, same atoms.
        on_batch: called with each `Batch`.

    Attributes:
        classes_: the labels.
        model_: the `AlgebraicModel`.
        history_: a `Batch` for each batch.

    Source: Martin-Maroto and de Polavieja, arXiv 1803.05252. See docs/algebraic.md.
    """

    def __init__(
        self, *, batches: int = 50, levels: int | None = None, categorical: Sequence[int] = (),
        shifts: int = 0, target_digit: object = None, validation_fraction: float = 0.0,
        random_state: object = 0, on_batch: Callable[[Batch], object] | None = None,
    ) -> None:  # fmt: skip
        self.batches = batches
        self.levels = levels
        self.categorical = categorical
        self.shifts = shifts
        self.target_digit = target_digit
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.on_batch = on_batch

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> AlgebraicClassifier:
        """Learn from rows, forgetting what was learned before.

        Raises:
            ContradictionError: equal rows of different classes.
            ValueError: rows, labels or parameters that can't be learned from.
        """
        self._begin(X, y, None)
        return self._go_on(X, y)

    def partial_fit(
        self, X: npt.ArrayLike, y: npt.ArrayLike, classes: npt.ArrayLike | None = None
    ) -> AlgebraicClassifier:
        """Learn from more rows.

        The first call chooses what numbers are told apart (the thresholds of each column).

        Args:
            X, y: the rows and their labels.
            classes: every label that there will be; needed the first time.

        Raises:
            ContradictionError: equal rows of different classes.
            ValueError: rows, labels or parameters that can't be learned from.
        """
        if not hasattr(self, "model_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit")
            self._begin(X, y, classes)
        return self._go_on(X, y)

    def _begin(self, X: npt.ArrayLike, y: npt.ArrayLike, classes: npt.ArrayLike | None) -> None:
        if hasattr(self, "model_"):
            del self.model_  # what fails from here on leaves nothing that is half of this
        self._check_parameters()
        data = self._read(X, reset=True)
        labels = self._labels(y, len(data))
        self.classes_ = unique_labels(labels if classes is None else self._target(classes))
        if self.target_digit is not None and not labels.any() and classes is None:
            raise ValueError(f"target_digit {self.target_digit!r} is none of the labels")
        if len(self.classes_) < 2:
            raise ValueError(
                f"rows of one class only, {self.classes_.tolist()[0]!r}; the classifier needs two"
                " classes or more"
            )
        prepare(lambda text: print(text, file=sys.stderr))
        self.embedding_ = self._embedding(data, labels)
        seed = int(check_random_state(self.random_state).randint(2**31))
        self.course_ = Course(self.embedding_, len(self.classes_), seed)
        self.history_: list[Batch] = []
        self._seen = np.zeros((0, 0), np.uint64), np.zeros(0, np.int64)

    def _check_parameters(self) -> None:
        if self.batches < 1:
            raise ValueError(f"batches is {self.batches}; it must be 1 or more")
        if self.levels is not None and not self.levels >= 1:
            raise ValueError(f"levels is {self.levels}; it must be 1 or more, or None")
        if not 0 <= self.shifts <= 8:
            raise ValueError(f"shifts is {self.shifts}; it must be 0 to 8")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction is {self.validation_fraction}; it must be 0 or more, and"
                " below 1"
            )

    def _go_on(self, X: npt.ArrayLike, y: npt.ArrayLike) -> AlgebraicClassifier:
        data = self._read(X, reset=False)
        labels = self._labels(y, len(data))
        known = np.isin(labels, self.classes_)
        if not known.all():
            raise ValueError(f"labels that `classes` did not name: {np.unique(labels[~known])[:5]}")
        numbers = np.searchsorted(self.classes_, labels).astype(np.int64)
        classes = len(self.classes_)
        terms = embedded(self.embedding_, classes, data)
        seen = np.concatenate([self._seen[0].reshape(-1, terms.shape[1]), terms])
        truth = np.concatenate([self._seen[1], numbers])
        check_rows(seen, truth)  # counted over all calls
        held = int(len(terms) * self.validation_fraction)
        train = slice(0, len(terms) - held)
        variants = [
            embedded(self.embedding_, classes, moved)
            for moved in (shifted(data[train], self.shifts) if data.ndim == 3 else [])
        ]
        held_out = (terms[-held:], numbers[-held:]) if held else None
        course = self.course_
        for batch in course.learn(terms[train], numbers[train], self.batches, held_out, variants):
            self.history_.append(batch)
            if self.on_batch is not None:
                self.on_batch(batch)
        self._seen = seen, truth
        self.model_: AlgebraicModel = course.model(seen, truth)
        return self

    def _embedding(self, data: Array, labels: Array) -> Embedding:
        if data.ndim == 3:
            if data.max(initial=0) <= ON:
                raise ValueError(
                    f"the brightest pixel of these images is {data.max(initial=0)}; grey goes from"
                    " 0 to 255"
                )
            if (self.levels or 1) > MOST_LEVELS:
                raise ValueError(
                    f"levels is {self.levels}; of grey there are {MOST_LEVELS} at most"
                )
            return ImageEmbedding.of_levels(data.shape[1], data.shape[2], self.levels or 1)
        categorical = tuple(self.categorical)
        if any(not 0 <= column < data.shape[1] for column in categorical):
            raise ValueError(f"categorical is {categorical}; there are {data.shape[1]} columns")
        return TableEmbedding.of(data, labels, categorical, self.levels or LEVELS)

    def _read(self, X: npt.ArrayLike, reset: bool) -> Array:
        """Return rows as an array, checked as scikit-learn does."""
        if isinstance(X, np.ndarray) and X.ndim == 3:
            if reset:
                self.n_features_in_ = X.shape[1] * X.shape[2]
            images = np.asarray(check_array(X, allow_nd=True, dtype=None))
            low, high = images.min(initial=0), images.max(initial=0)
            if low < 0 or high > 255 or (images.dtype.kind == "f" and 0 < high <= 1):
                raise ValueError(f"images from {low:g} to {high:g}; grey goes from 0 to 255")
            return images
        names = getattr(X, "dtype", np.asarray(X).dtype).kind in "OUS"
        return np.asarray(validate_data(self, X, reset=reset, dtype=None if names else "numeric"))

    def _labels(self, y: npt.ArrayLike, rows: int) -> Array:
        if y is None:
            raise ValueError(
                "This AlgebraicClassifier estimator requires y to be passed, but the target y is"
                " None"
            )
        check_classification_targets(y)
        labels = self._target(column_or_1d(y, warn=True))
        if len(labels) != rows:
            raise ValueError(f"{rows} rows, but {len(labels)} labels")
        return labels

    def _target(self, labels: npt.ArrayLike) -> Array:
        labels = np.asarray(labels)
        return labels if self.target_digit is None else np.asarray(labels == self.target_digit)

    def decision_function(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return how little each row misses of each class's atoms.

        Returns:
            float64: minus the share that is missed, shape (n, classes); of two classes the
            second's less the first's, shape (n,).
        """
        check_is_fitted(self, "model_")
        misses = self.model_.misses(self._read(X, reset=False))
        if len(self.classes_) == 2:
            return np.asarray(misses[:, 0] - misses[:, 1])
        return -misses

    def score(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> float:
        """Return the share of rows that is classified right; y is as for `fit`.

        (For scikit-learn's own scoring, pass `y == digit` and no `target_digit`.)
        """
        labels = np.asarray(y)
        if labels.dtype != np.bool_:
            labels = self._target(labels)
        return float(super().score(X, labels, sample_weight))

    def rules(self, label: object, most: int = 10) -> list[str]:
        """Return strict rules of a class in words, the shortest first.

        Args:
            label: of the class, one of `classes_`.
            most: how many.
        """
        check_is_fitted(self, "model_")
        model = self.model_
        mine = model.of_class(int(np.flatnonzero(self.classes_ == label)[0]))
        strict = mine[model.strict[mine]]
        told = {
            f"{label!r} has " + ", or ".join(map(model.embedding.name, model.literals(int(atom))))
            for atom in strict
        }
        return sorted(told, key=lambda rule: (rule.count(", or "), rule))[:most]

    def predict(self, X: npt.ArrayLike) -> Array:
        """Return the label of each row: the class of whose atoms it misses least."""
        scores = self.decision_function(X)
        numbers = (scores > 0).astype(int) if scores.ndim == 1 else np.argmax(scores, axis=1)
        return np.asarray(self.classes_[numbers])
