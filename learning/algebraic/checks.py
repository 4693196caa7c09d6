"""What a main node looks at: whether images can be learned from, and whether a solution is one.

Numpy alone: a main node has no compiler.
"""

from __future__ import annotations

import numpy as np

from loaders.rows import Array, Labels

from ..contract import Solution
from ..errors import ModelError, UnfitData, UnfitSolution
from .embedding import ON, ImageEmbedding
from .errors import check_equal_rows
from .model import from_arrays

#: Numbers of a batch in `history`: batch, rows, atoms, union, indicators, error.
HISTORY_COLUMNS = 6
#: A shard has no million atoms; what is merged may have some.
MOST_CELLS = 1 << 26
_MOST_BATCHES = 100_000
_NAMES = frozenset(["sizes", "gaps", "violations", "epochs", "image", "thresholds", "history"])


def check_images(images: Array, labels: Labels, levels: int) -> None:
    """Raise if equal images, as far as the model can tell, are of different classes.

    Raises:
        ContradictionError: they are; it names them.
        UnfitData: nothing is on in any image.
    """
    brightest = int(images.max(initial=0))
    if brightest <= ON:
        raise UnfitData(
            f"the brightest pixel of these images is {brightest}, and none is on:"
            " grey goes from 0 to 255"
        )
    embedding = ImageEmbedding.of_levels(images.shape[1], images.shape[2], levels)
    parts = [
        np.packbits(embedding.bits(images[first : first + 4096]), axis=1)
        for first in range(0, len(images), 4096)
    ]
    rows = np.concatenate(parts)
    keys = rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
    _, first_, which = np.unique(keys, return_index=True, return_inverse=True)
    check_equal_rows(first_[which], labels)


def check_solution(solution: Solution, height: int, width: int, classes: int, levels: int) -> None:
    """Raise unless a solution, from whomever, is atoms over the constants of such images.

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
    wanted = ImageEmbedding.of_levels(height, width, levels)
    if model.embedding != wanted or model.classes != classes:
        raise UnfitSolution("its atoms are of other images, thresholds or classes")
