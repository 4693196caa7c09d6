"""Solutions side by side: what all of them have in the place of one number is a column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from loaders.rows import Array, Arrays, bytes_of

from .contract import Solution
from .sums import checked, plain_mean, real

#: Numbers of all solutions that are computed with at once.
_NUMBERS = 1 << 19


class Held(NamedTuple):
    """A solution in memory.

    Args:
        place: among all that came, from 0.
        solution: itself.
    """

    place: int
    solution: Solution


def held(solutions: Iterable[Solution]) -> list[Held]:
    """Return all solutions that learned from any example, in an order of what they hold.

    So whatever is computed of them in order, sums and ties, is the same in whichever they came.

    Raises:
        MergeError: one is no numbers, or is laid out otherwise than the first.
    """
    there = [Held(*each) for each in enumerate(checked(solutions)) if each[1].examples]
    return sorted(there, key=lambda each: (_digest(each.solution.arrays), each.solution.examples))


def _digest(arrays: Arrays) -> bytes:
    told = xxhash.xxh3_128()
    for name in sorted(arrays):
        told.update(bytes_of(arrays[name]))
    return told.digest()


def by_column(solutions: Sequence[Solution], reduce: Callable[[Array], Array]) -> Arrays:
    """Return the arrays each of whose numbers is made of its column alone, in the same types.

    Complex numbers are two, each with a column of its own. Beside the solutions and what comes of
    them there are only as many columns at once as a processor has near.

    Args:
        solutions: laid out alike; at least one.
        reduce: returns what comes of columns, each of them sorted, `solutions x columns`, as
            `columns` numbers of their type.
    """
    return {
        name: _reduced([np.asarray(each.arrays[name]) for each in solutions], reduce)
        for name in solutions[0].arrays
    }


def _reduced(arrays: Sequence[Array], reduce: Callable[[Array], Array]) -> Array:
    merged = np.empty(arrays[0].shape, arrays[0].dtype)
    out, columns = real(merged), [real(each) for each in arrays]
    step = max(1, _NUMBERS // len(arrays))
    for first in range(0, out.size, step):
        part = slice(first, first + step)
        out[part] = reduce(np.sort([each[part] for each in columns], axis=0))
    return merged


def middle(columns: Array, cut: int) -> Array:
    """Return the mean of each column without so many of its least and of its greatest numbers.

    Args:
        columns: sorted, `solutions x columns`.
        cut: fewer than half of the solutions.
    """
    return plain_mean(columns[cut : len(columns) - cut])


def median(columns: Array) -> Array:
    """Return the median of each column: of an even number the mean of the two in the middle.

    Args:
        columns: sorted, `solutions x columns`.
    """
    return middle(columns, (len(columns) - 1) // 2)


def nearest_median(columns: Array, count: int) -> Array:
    """Return the mean of so many numbers of each column that are nearest to its median.

    Of two that are as near the lesser one is taken.

    Args:
        columns: sorted, `solutions x columns`.
        count: at most the solutions.
    """
    # They stand together: of all such windows that whose further end is nearest. Halves, as they
    # have no difference that overflows.
    wide = columns.astype(np.float64) / 2
    centre = median(wide)
    ends = len(columns) - count + 1
    further = [np.maximum(centre - wide[n], wide[n + count - 1] - centre) for n in range(ends)]
    begin = np.argmin(further, axis=0)
    taken = (np.take_along_axis(columns, (begin + n)[None], axis=0)[0] for n in range(count))
    return plain_mean(taken)
