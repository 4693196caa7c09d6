"""What a main node looks at: whether rows can be learned from, and whether a solution is one.

Numpy alone: a main node has no compiler.
"""

from __future__ import annotations

import numpy as np

from loaders.rows import Array, Labels

from ..contract import Solution
from ..errors import ModelError, UnfitData, UnfitSolution
from .embedding import Embedding, TableEmbedding, first_equal, packed
from .errors import check_equal_rows
from .model import from_arrays

#: Numbers of a batch in `history`: batch, rows, atoms, union, indicators, error.
HISTORY_COLUMNS = 6
#: A shard has no million atoms; what is merged may have some.
MOST_CELLS = 1 << 26
_MOST_BATCHES = 100_000
_NAMES = frozenset(
    ["sizes", "gaps", "violations", "epochs", "history", "thresholds", "image", "table", "levels",
     "missing"]
)  # fmt: skip


def check_rows_apart(embedding: Embedding, data: Array, labels: Labels) -> None:
    """Raise if equal rows, as far as the model can tell, are of different classes.

    Raises:
        ContradictionError: they are; it names them.
    """
    check_equal_rows(first_equal(packed(embedding, data)), labels)


def check_bytes(images: Array) -> None:
    """Raise unless something is on in images of bytes.

    Raises:
        UnfitData: nothing is.
    """
    if not images.any():
        raise UnfitData("every pixel of these images is 0: there is nothing to learn from")


def check_solution(solution: Solution, embedding: Embedding, classes: int) -> None:
    """Raise unless a solution, from whomever, is atoms over the constants of such data.

    Raises:
        UnfitSolution: it is not.
    """
    if solution.arrays.keys() - _NAMES:
        raise UnfitSolution("it has more arrays than a solution has")
    history = solution.arrays.get("history")
    if history is None or history.dtype != np.float32 or history.ndim != 2:
        raise UnfitSolution("it has no history of its batches")
    if len(history) > _MOST_BATCHES:
        raise UnfitSolution(f"a history of {len(history)} batches")
    if history.shape[1] != HISTORY_COLUMNS or not np.isfinite(history[:, :-1]).all():
        raise UnfitSolution(f"its history is not {HISTORY_COLUMNS} numbers for each batch")
    try:
        model = from_arrays(solution.arrays, MOST_CELLS)
    except ModelError as error:
        raise UnfitSolution(str(error)) from error
    if model.classes != classes or not same(model.embedding, embedding):
        raise UnfitSolution("its atoms are of other data, thresholds or classes")


def same(one: Embedding, other: Embedding) -> bool:
    """Whether two embeddings have the same constants, whatever columns are called."""
    if isinstance(one, TableEmbedding) and isinstance(other, TableEmbedding):
        return one.columns == other.columns
    return one == other
