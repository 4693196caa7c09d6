"""What has been learned: atoms, how often each is contradicted, and what they are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loaders.rows import Array, Arrays, Form

from ..errors import MergeError, ModelError
from ..forms import Picture, Table, taken
from .atoms import (
    BLANK,
    MOST_CELLS,
    Atoms,
    BitRows,
    Counts,
    count_misses,
    decode,
    distinct,
    encode,
    joined,
    missed_terms,
    sizes,
    slice_terms,
    vote,
)
from .embedding import MOST_LEVELS, Embedding, ImageEmbedding, Numeric, TableEmbedding

#: Atoms that more positives contradict than this say nothing.
MOST_VIOLATIONS = 7
#: The weight of an atom that nothing contradicts; each positive that does takes a third of what
#: is left, exactly. Measured on MNIST (docs/algebraic.md): from 1,000 to 60,000 images, of one
#: model or of many shards, no other weight of 1/v, 1/v^2, 2^-v, 4^-v was better throughout.
FULL_WEIGHT = 3**MOST_VIOLATIONS

#: Rows that are predicted at a time.
_ROWS = 10_000


@dataclass(frozen=True)
class AlgebraicModel:
    """Atoms and their votes.

    Args:
        embedding: what the constants mean; after its own come the classes'.
        classes: how many there are.
        atoms: int32, shape (n, .), each below at least one class, distinct, in lexical order.
        violations: int64, shape (n,): positives of all shards that contradict each atom.
        epochs: int64, shape (n,): the batch that made it, from 0.
    """

    embedding: Embedding
    classes: int
    atoms: Atoms
    violations: Counts
    epochs: Counts

    @property
    def constants(self) -> int:
        """How many constants there are, the classes' included."""
        return self.embedding.constants + self.classes

    @property
    def strict(self) -> npt.NDArray[np.bool_]:
        """Which atoms no positive contradicts."""
        return np.asarray(self.violations == 0)

    @property
    def pixels(self) -> ImageEmbedding:
        """The embedding of a model of images.

        Raises:
            ModelError: it is of a table.
        """
        if not isinstance(self.embedding, ImageEmbedding):
            raise ModelError("the model is of a table, and not of images")
        return self.embedding

    def is_of(self, form: Form) -> bool:
        """Whether its constants are those of rows of such a form.

        Raises:
            UnfitData: no algebraic model is of such rows.
        """
        found, embedding = taken(form, "algebraic"), self.embedding
        if isinstance(embedding, ImageEmbedding):
            own = embedding.height, embedding.width, embedding.channels
            return isinstance(found, Picture) and own == (
                found.height, found.width, found.channels
            )  # fmt: skip
        return isinstance(found, Table) and len(embedding.columns) == len(found.columns)

    def of_class(self, class_: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the atoms that are below a class."""
        return np.flatnonzero((self.atoms == self.embedding.constants + class_).any(axis=1))

    def literals(self, atom: int) -> list[int]:
        """Return the constants of an atom that are no classes."""
        return [int(c) for c in self.atoms[atom] if c < self.embedding.constants]

    @property
    def weights(self) -> Counts:
        """What each atom's miss weighs, as `weights_of`."""
        return weights_of(self.violations)

    def terms(self, rows: Array) -> BitRows:
        """Return rows of data as a table of terms, for `missed_terms` and others."""
        return sliced(self.embedding, self.classes, rows)

    def misses(self, rows: Array) -> npt.NDArray[np.float64]:
        """Return the share of each class's atoms that each row misses, by weight.

        Args:
            rows: data as the embedding takes them.

        Returns:
            float64, shape (rows, classes), 0 to 1; 1 for a class without atoms.
        """
        weights = self.weights
        result = np.ones((len(rows), self.classes))
        groups = [self.of_class(class_) for class_ in range(self.classes)]
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            table = self.terms(some)
            for class_, mine in enumerate(groups):
                if weights[mine].any():
                    missed = vote(self.atoms[mine], weights[mine], table, len(some))
                    result[first : first + _ROWS, class_] = missed / int(weights[mine].sum())
        return result

    def predict(self, rows: Array) -> npt.NDArray[np.int64]:
        """Return the class of each row: that of which it misses least, the lowest on ties."""
        return np.asarray(np.argmin(self.misses(rows), axis=1), np.int64)

    def missed(self, row: Array, class_: int) -> npt.NDArray[np.int64]:
        """Return the atoms of a class that one row misses: weighty ones first, then short ones."""
        mine = self.of_class(class_)
        mine = mine[missed_terms(self.atoms[mine], self.terms(row[None]), 1)[:, 0]]
        return mine[np.lexsort((sizes(self.atoms[mine]), -self.weights[mine]))]


def weights_of(violations: Counts) -> Counts:
    """Return what atoms' misses weigh: (2/3)^violations of `FULL_WEIGHT`, a whole number."""
    table = [2**v * 3 ** (MOST_VIOLATIONS - v) for v in range(MOST_VIOLATIONS + 1)] + [0]
    return np.array(table, np.int64)[np.minimum(violations, MOST_VIOLATIONS + 1)]


def sliced(embedding: Embedding, classes: int, rows: Array) -> BitRows:
    """Return rows of data as a table of terms; the classes' constants are in none of them."""
    return slice_terms(np.pad(embedding.bits(rows), ((0, 0), (0, classes))))


def violations(
    embedding: Embedding, classes: int, atoms: Atoms, rows: Array,
    labels: npt.NDArray[np.int64],
) -> Counts:  # fmt: skip
    """Return how many labelled rows contradict each atom: it is below the class and misses them.

    Args:
        embedding, classes: of the atoms.
        atoms: as ever.
        rows, labels: data.
    """
    result = np.zeros(len(atoms), np.int64)
    for class_ in np.unique(labels):
        mine = rows[labels == class_]
        below = np.flatnonzero((atoms == embedding.constants + class_).any(axis=1))
        result[below] += count_misses(atoms[below], sliced(embedding, classes, mine), len(mine))
    return result


# As arrays, on the wire and on disk.


def to_arrays(model: AlgebraicModel) -> dict[str, Array]:
    """Return a model of images, or of a table of numbers, as plain arrays.

    Raises:
        ModelError: it is of a table with names among its values.
    """
    atom_sizes, gaps = encode(model.atoms)
    return {
        "sizes": atom_sizes, "gaps": gaps,
        "violations": np.minimum(model.violations, np.iinfo(np.uint16).max).astype(np.uint16),
        "epochs": np.minimum(model.epochs, np.iinfo(np.uint16).max).astype(np.uint16),
        **_embedding_arrays(model.embedding, model.classes),
    }  # fmt: skip


def _embedding_arrays(embedding: Embedding, classes: int) -> dict[str, Array]:
    """Return what the constants mean as arrays; those of grey images are the first release's."""
    if isinstance(embedding, ImageEmbedding):
        colours = [embedding.channels] if embedding.channels > 1 else []
        return {
            "image": np.array([embedding.height, embedding.width, classes, *colours], np.uint16),
            "thresholds": np.array(embedding.thresholds, np.float64),
        }
    columns = [column for column in embedding.columns if isinstance(column, Numeric)]
    if len(columns) < len(embedding.columns):
        raise ModelError("a model of a table with names among its values can't be sent or kept")
    return {
        "table": np.array([len(columns), classes], np.uint32),
        "levels": np.array([len(column.thresholds) for column in columns], np.uint32),
        "missing": np.array([column.missing for column in columns], np.bool_),
        "thresholds": np.array([t for column in columns for t in column.thresholds], np.float64),
    }


def from_arrays(
    arrays: Arrays, most_cells: int = MOST_CELLS, names: Sequence[str] = ()
) -> AlgebraicModel:
    """Return the model that `to_arrays` made arrays of; they may come from anybody.

    Args:
        arrays: by name.
        most_cells: atoms, times the constants of the longest, at most.
        names: of a table's columns.

    Raises:
        ModelError: they are none.
    """
    for name, dtype in {"violations": np.uint16, "epochs": np.uint16}.items():
        _must_be(arrays, name, dtype)
    try:
        read = _table_in if "table" in arrays else _image_in
        embedding, classes = read(arrays, names)
        if not classes:
            raise ValueError("no classes")
        violated, epochs = arrays["violations"], arrays["epochs"]
        atoms = decode(arrays["sizes"], arrays["gaps"], embedding.constants + classes, most_cells)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"not an algebraic model: {error}") from error
    if not violated.shape == epochs.shape == (len(atoms),):
        raise ModelError("not an algebraic model: its counts are not of its atoms")
    if not ((atoms >= embedding.constants) & (atoms != BLANK)).any(axis=1).all():
        raise ModelError("not an algebraic model: an atom of no class")
    return AlgebraicModel(
        embedding, classes, atoms, violated.astype(np.int64), epochs.astype(np.int64)
    )


def _must_be(arrays: Arrays, name: str, dtype: type[np.generic], length: int | None = None) -> None:
    """Raise unless there is a flat array of a type, and of a length if one is given.

    Raises:
        ModelError: there is not.
    """
    array = arrays.get(name)
    wrong = array is None or array.dtype != dtype or array.ndim != 1
    if wrong or (length is not None and array is not None and len(array) != length):
        raise ModelError(f"not an algebraic model: {name!r} is missing, or not what it must be")


def _image_in(arrays: Arrays, _: Sequence[str]) -> tuple[ImageEmbedding, int]:
    """Return the embedding of images, and the number of classes, that arrays tell."""
    _must_be(arrays, "image", np.uint16)
    _must_be(arrays, "thresholds", np.float64)
    told = [int(number) for number in arrays["image"]]
    height, width, classes, channels = told if len(told) == 4 else (*told, 1)
    thresholds = tuple(float(t) for t in arrays["thresholds"])
    if not (height and width and channels and 1 <= len(thresholds) <= MOST_LEVELS):
        raise ValueError(f"images of {height} x {width}, {classes} classes, {thresholds}")
    if len(told) == 4 and channels == 1:
        raise ValueError("images whose one channel is told")
    _check_ascending(arrays["thresholds"])
    return ImageEmbedding(height, width, thresholds, channels), classes


def _table_in(arrays: Arrays, names: Sequence[str]) -> tuple[TableEmbedding, int]:
    """Return the embedding of a table, and the number of classes, that arrays tell."""
    _must_be(arrays, "table", np.uint32, 2)
    count, classes = (int(number) for number in arrays["table"])
    _must_be(arrays, "levels", np.uint32, count)
    _must_be(arrays, "missing", np.bool_, count)
    levels = arrays["levels"].astype(np.int64)
    _must_be(arrays, "thresholds", np.float64, int(levels.sum()))
    parts = np.split(arrays["thresholds"], np.cumsum(levels)[:-1])[:count]
    for part in parts:
        _check_ascending(part)
    columns = tuple(
        Numeric(tuple(part.tolist()), bool(missing))
        for part, missing in zip(parts, arrays["missing"], strict=True)
    )
    if len(names) != count:
        names = [f"column {number}" for number in range(count)]
    return TableEmbedding(columns, tuple(names)), classes


def _check_ascending(thresholds: Array) -> None:
    if not np.isfinite(thresholds).all() or (np.diff(thresholds) <= 0).any():
        raise ValueError(f"thresholds {thresholds.tolist()!r:.200}")


# As solutions are merged.


def union(solutions: Iterable[Arrays], before: Arrays) -> Arrays:
    """Return the union of the atoms of solutions, and of the model before, if there is one.

    Args:
        solutions: as arrays, from whomever, one after the other.
        before: as arrays; none: there is no model before.

    Raises:
        MergeError: no solution, or one that is none, or of other data than the first.
    """
    models = [from_arrays(before)] if before else []
    first: AlgebraicModel | None = models[0] if models else None
    atoms = [model.atoms for model in models]
    epochs = [model.epochs for model in models]
    solved = 0
    for number, solution in enumerate(solutions, 1):
        try:
            model = from_arrays(solution)
        except ModelError as error:
            raise MergeError(f"solution {number}: {error}") from error
        first = first or model
        if (model.embedding, model.classes) != (first.embedding, first.classes):
            raise MergeError(
                f"solution {number} does not fit the first: of other data, or other thresholds"
            )
        atoms.append(model.atoms)
        epochs.append(model.epochs)
        solved += 1
    if first is None or not solved:
        raise MergeError("nothing to merge: no solution")
    every, which = distinct(joined(atoms))
    born = np.full(len(every), np.iinfo(np.int64).max)
    np.minimum.at(born, which, np.concatenate(epochs))
    unknown = np.zeros(len(every), np.int64)
    return to_arrays(AlgebraicModel(first.embedding, first.classes, every, unknown, born))


def weighed(model: Arrays, counts: Counts) -> Arrays:
    """Return a merged model with the sums of all shards' counts; what is hopeless is dropped."""
    made = from_arrays(model)
    kept = counts <= MOST_VIOLATIONS
    return to_arrays(
        AlgebraicModel(
            made.embedding, made.classes, made.atoms[kept], counts[kept], made.epochs[kept]
        )
    )
