"""A course of batches over labelled rows, and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import UnfitData
from . import kernels
from .atoms import (
    MOST_CONSTANTS,
    Atoms,
    BitRows,
    Counts,
    distinct,
    joined,
    pack,
    padded,
    rows_of,
    unpack,
)
from .embedding import Embedding
from .errors import ContradictionError, check_equal_rows
from .model import MOST_VIOLATIONS, AlgebraicModel, weights_of
from .sparse import Duples, SparseCrossing, meets, seeded, singletons

Labels = npt.NDArray[np.int64]

#: Batches draw rows with a generator of their own.
_DRAWING = 0x5EED


@dataclass(frozen=True)
class BatchSizes:
    """How large batches are: of `first` rows, then each of so many more, but `most` at most."""

    first: int = 500
    more: int = 100
    most: int = 8000

    def rows(self, number: int) -> int:
        """Return how many rows batch `number`, from 0, has."""
        return min(self.first + self.more * number, self.most)


USUAL = BatchSizes()


@dataclass(frozen=True)
class Batch:
    """How things stand after a batch.

    Args:
        number: of the batch, from 0.
        rows: it was made of.
        atoms: of the master.
        union: of the union model.
        indicators: that were kept.
        error: the share of the held-out rows that is classified wrong, 0 to 1; not a number
            where none are held out.
    """

    number: int
    rows: int
    atoms: int
    union: int
    indicators: int
    error: float


def embedded(embedding: Embedding, classes: int, data: npt.NDArray[np.generic]) -> BitRows:
    """Return data as terms, rows of bits; classes' constants are in none."""
    parts = [
        pack(np.pad(embedding.bits(data[first : first + 4096]), ((0, 0), (0, classes))))
        for first in range(0, max(1, len(data)), 4096)
    ]
    return np.concatenate(parts)


def check_rows(terms: BitRows, labels: Labels) -> None:
    """Raise unless rows can be learned from.

    Raises:
        ContradictionError: equal ones are of different classes; it names them.
        UnfitData: one has nothing that the model knows.
    """
    empty = np.flatnonzero(~terms.any(axis=1))
    if len(empty):
        raise UnfitData(
            f"row {empty[0]} (counted from 0) has no value that the model knows: its columns have"
            " one value only, or names that were not there before"
        )
    check_equal_rows(kernels.first_equal(terms), labels)


def _without_clashes(forms: Sequence[BitRows], labels: Labels) -> BitRows:
    """Return all forms of some rows, (forms, rows, words); one that is another class's is undone.

    A row's first form is what it is; the others may happen to be a row of another class.
    """
    stacked = np.stack(forms)
    if len(forms) > 1:
        first = kernels.first_equal(stacked.reshape(-1, stacked.shape[2]))
        classes = np.tile(labels, len(forms))
        clash = (classes != classes[first]).reshape(len(forms), -1)
        form, row = np.nonzero(clash)
        stacked[form, row] = stacked[0, row]
    return stacked


class Course:
    """Learning from rows, batch by batch.

    Args:
        embedding: of the rows.
        classes: how many there are.
        seed: of everything random.
        start: a model to go on from: its strict atoms are the union model to begin with.
            Atoms of that are not returned again.
        first_batch: the number that the first batch has.
        sizes: how large batches are.
    """

    def __init__(
        self, embedding: Embedding, classes: int, seed: int, start: AlgebraicModel | None = None,
        first_batch: int = 0, sizes: BatchSizes = USUAL,
    ) -> None:  # fmt: skip
        self._embedding, self._classes = embedding, classes
        self._constants = embedding.constants + classes
        self._start = start
        self._sizes = sizes
        union = None if start is None else rows_of(start.atoms[start.strict], self._constants)
        self._crossing = SparseCrossing(self._constants, seed, union)
        self._random = seeded(seed ^ _DRAWING)
        self._number = first_batch
        self._lefts = singletons(
            embedding.constants + np.arange(classes), (self._constants + 63) >> 6
        )
        self._made: list[tuple[BitRows, int]] = []

    def learn(
        self, terms: BitRows, labels: Labels, batches: int,
        held_out: tuple[BitRows, Labels] | None = None, variants: Sequence[BitRows] = (),
    ) -> Iterator[Batch]:  # fmt: skip
        """Learn some batches, each drawn from these rows; all are seen before one is again.

        Args:
            terms: rows of bits, from `embedded`.
            labels: int64, 0 to classes - 1.
            batches: how many.
            held_out: rows to be tried after each batch.
            variants: other terms of the same rows, e.g. of shifted images: each time that a row
                is drawn, it or one of them is taken at random.

        Raises:
            ContradictionError: equal rows of different classes.
        """
        check_rows(terms, labels)
        tally = None if held_out is None else _Tally(self, terms, labels, *held_out)
        forms = _without_clashes([terms, *variants], labels)
        queue = np.zeros(0, np.int64)
        for _ in range(batches):
            size = min(len(terms), self._sizes.rows(self._number))
            while len(queue) < size:
                queue = np.concatenate([queue, kernels.shuffled(len(terms), self._random)])
            chosen, queue = np.unique(queue[:size]), queue[size:]
            form = kernels.shuffled(len(chosen), self._random) % len(forms)
            try:
                batch = self._batch(forms[form, chosen], labels[chosen], tally)
            except ContradictionError as clash:
                row = int(chosen[clash.right])
                raise ContradictionError(
                    f"row {row} (counted from 0), of class {labels[row]}, contradicts rows that"
                    f" were learned before: it would have to be of class {clash.left} too",
                    clash.left, row,
                ) from clash  # fmt: skip
            yield batch

    def _batch(self, terms: BitRows, labels: Labels, tally: _Tally | None) -> Batch:
        new = kernels.first_equal(terms) == np.arange(len(terms))
        terms, labels = terms[new], labels[new]
        rows = np.arange(len(terms))
        positives = np.stack([labels, rows], axis=1)
        class_, row = np.meshgrid(np.arange(self._classes), rows, indexing="ij")
        other = class_ != labels
        negatives = np.stack([class_[other], row[other]], axis=1)
        try:
            counts = self._crossing.enforce(Duples(self._lefts, terms, positives, negatives))
        except ContradictionError as clash:
            clash.right = int(np.flatnonzero(new)[clash.right])
            raise
        self._made.append((self._crossing.new, self._number))
        error = float("nan") if tally is None else tally.error(self._crossing.new)
        self._number += 1
        return Batch(
            self._number - 1, len(terms), counts.atoms, counts.union, counts.indicators, error
        )

    def made(self) -> tuple[Atoms, Counts]:
        """Return every atom that was made, in lexical order, and the first batch that made it."""
        parts, numbers = [], []
        for rows, number in self._made:
            short = rows[np.bitwise_count(rows).sum(axis=1) <= MOST_CONSTANTS]
            parts.append(padded(*kernels.listed(short)))
            numbers.append(np.full(len(short), number, np.int64))
        atoms, which = distinct(joined(parts))
        epochs = np.full(len(atoms), np.iinfo(np.int64).max)
        if len(atoms):
            np.minimum.at(epochs, which, np.concatenate(numbers))
        return atoms, epochs

    def model(self, terms: BitRows, labels: Labels) -> AlgebraicModel:
        """Return the model: every atom that was made and is not contradicted too often.

        Args:
            terms, labels: the rows that may contradict it.
        """
        atoms, epochs = self.made()
        counts = self.violations(rows_of(atoms, self._constants), terms, labels)
        kept = counts <= MOST_VIOLATIONS
        return AlgebraicModel(
            self._embedding, self._classes, atoms[kept], counts[kept], epochs[kept]
        )

    def violations(self, atoms: BitRows, terms: BitRows, labels: Labels) -> Counts:
        """Return how many rows contradict each atom (rows of bits)."""
        result = np.zeros(len(atoms), np.int64)
        starts, constants = kernels.listed(atoms)
        for class_ in range(self._classes):
            mine = terms[labels == class_]
            below = self.below(atoms, class_)
            table = kernels.transposed(mine, self._constants)
            result[below] += kernels.count_misses(starts, constants, below, table, len(mine))
        return result

    def below(self, atoms: BitRows, class_: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the atoms (rows of bits) that are below a class."""
        return np.flatnonzero(meets(atoms, self._lefts[class_]))


class _Tally:
    """Votes on held-out rows, kept up batch by batch."""

    def __init__(
        self, course: Course, terms: BitRows, labels: Labels, held: BitRows, truth: Labels
    ) -> None:
        self._course, self._terms, self._labels = course, terms, labels
        self._truth = truth
        self._table = kernels.transposed(held, course._constants)
        self._votes = np.zeros((course._classes, len(held)))
        self._most = np.zeros((course._classes, 1))
        start = course._start
        if start is not None:
            self._add(rows_of(start.atoms, course._constants), start.violations)

    def error(self, atoms: BitRows) -> float:
        """Return the share of the held-out rows that is wrong, now that there are these too."""
        self._add(atoms, self._course.violations(atoms, self._terms, self._labels))
        share = self._votes / np.maximum(self._most, 1)
        share[self._most[:, 0] == 0] = 1
        return float(np.mean(np.argmin(share, axis=0) != self._truth))

    def _add(self, atoms: BitRows, violations: Counts) -> None:
        weights = weights_of(violations).astype(np.float64)
        starts, constants = kernels.listed(atoms)
        for class_ in range(len(self._votes)):
            mine = self._course.below(atoms, class_)
            missed = kernels.misses(starts, constants, mine, self._table, len(self._truth))
            self._votes[class_] += weights[mine] @ unpack(missed, len(self._truth))
            self._most[class_] += weights[mine].sum()
