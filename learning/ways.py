"""How far solutions are from a model, and solutions that go only a part of their way."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from loaders.rows import Array, Arrays

from .contract import Solution
from .layout import BLOCK, blocks
from .sums import as_type, checked, real

#: Below so many solutions, which of them is far from the others nobody can say.
_FEWEST = 3
#: Squares between these have lost nothing.
_FEW, _MANY = 1e-290, 1e290


def distance(arrays: Arrays, other: Arrays) -> float:
    """Return how far arrays are from others: the Euclidean norm of what lies between.

    Whole numbers, as counters are, count for nothing. What is further than any number
    tells is endless.
    """
    return math.hypot(*(_length(way) for way in _ways(arrays, other)))


def _ways(arrays: Arrays, other: Arrays) -> Iterator[Array]:
    """Yield what lies between arrays, but whole numbers, some at a time; each is the last one's."""
    buffer = np.empty(BLOCK)
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and name in other and other[name].shape == array.shape:
            here, there = real(array), real(other[name].astype(array.dtype, copy=False))
            for one, two in zip(blocks(here), blocks(there), strict=True):
                with np.errstate(over="ignore"):
                    way = np.subtract(one, two, out=buffer[: one.size], dtype=np.float64)
                yield way


def _length(way: Array) -> float:
    """Return the Euclidean norm of some numbers, also where a square would overflow."""
    with np.errstate(over="ignore"):
        square = float(np.square(way).sum())
    if _FEW < square < _MANY:
        return math.sqrt(square)
    most = float(np.abs(way).max())
    if math.isinf(most):
        return most
    return most * math.sqrt(float(np.square(way / most).sum())) if most else 0.0


class Way(NamedTuple):
    """How far a solution is from the model before.

    Args:
        times: as far as the median one.
        taken: how much of it is not too far, 0 to 1.
    """

    times: float
    taken: float


def shortened(solutions: Collection[Solution], before: Arrays, bound: float) -> list[Way]:
    """Return how far solutions are from a model, where any is too far; else nothing.

    Args:
        solutions: of one round.
        before: the model that they went on from; of an empty one nothing is too far.
        bound: so many times as far as the median one may be; 0: as far as it likes.
    """
    if not bound or not before or len(solutions) < _FEWEST:
        return []
    ways = distances(solutions, before)
    middle = float(np.median(ways))
    if not middle or ways.max() <= bound * middle:  # where most have not moved, who has is right
        return []
    times = ways / middle
    return [Way(float(each), min(1.0, bound / float(max(each, bound)))) for each in times]


def distances(solutions: Iterable[Solution], before: Arrays) -> Array:
    """Return how far each solution is from a model; they are read one at a time."""
    return np.array([*map(partial(_distance_of, before), checked(solutions))])


def _distance_of(before: Arrays, solution: Solution) -> float:
    return distance(solution.arrays, before)


def drawn_back(
    solutions: Iterable[Solution], before: Arrays, taken: Sequence[float]
) -> Iterator[Solution]:
    """Yield solutions that go so much of their way from a model; whole numbers stay."""
    for solution, part in zip(solutions, taken, strict=True):
        if part == 1.0:
            yield solution
            continue
        arrays = {
            name: array if array.dtype.kind not in "fc" else _on_the_way(array, before[name], part)
            for name, array in solution.arrays.items()
        }
        yield replace(solution, arrays=arrays)


def part_of_way(array: Array, before: Array, part: float) -> Array:
    """Return so much, 0 to 1, of the way from an array to another, in float64 or its complex."""
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    here, start = array.astype(wide), before.astype(wide)
    with np.errstate(over="ignore", invalid="ignore"):
        way = part * (here - start)
    return way if np.isfinite(way).all() else part * here - part * start  # it would overflow


def _on_the_way(array: Array, before: Array, part: float) -> Array:
    way = part_of_way(array, before, part)
    return as_type(before.astype(way.dtype) + way, array.dtype.name)


def moved(model: Arrays, solutions: Sequence[Solution], weights: Sequence[float]) -> Arrays:
    """Return a model that has moved towards solutions; whole numbers stay.

    Args:
        model: to begin with.
        solutions: laid out as it.
        weights: how much of the way to each, together 1: so it comes to their weighted mean.
    """
    return {
        name: array if array.dtype.kind not in "fc" else _moved(
            array, [each.arrays[name] for each in solutions], weights
        )
        for name, array in model.items()
    }  # fmt: skip


def _moved(array: Array, towards: Sequence[Array], weights: Sequence[float]) -> Array:
    after = np.empty(array.shape, array.dtype)
    for target, here, *there in zip(
        blocks(real(after)), *(blocks(real(each)) for each in (array, *towards)), strict=True
    ):
        start = here.astype(np.float64)
        way = np.zeros(start.shape)
        for weight, each in zip(weights, there, strict=True):
            way += weight * each - weight * start  # a difference might overflow
        target[...] = start + way
    return after
