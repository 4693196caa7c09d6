"""Batches of a shard as a net takes them: in random order, moved and mirrored at random."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from loaders.rows import Array, Arrays, Form, Rows

from ..whole import standardised
from .device import check_room
from .presets import Recipe
from .shapes import DEVIATION, MEAN, shape_of, standardises

Whole = npt.NDArray[np.int64]


class Epoch(NamedTuple):
    """One pass over a shard, as it was drawn.

    Args:
        order: of the rows.
        down, right: by how many pixels each row in that order is moved, from 0: as far up, or
            left, as it may be; None: not at all.
        mirrored: whether each is mirrored, left to right; None: none is.
    """

    order: Whole
    down: Whole | None = None
    right: Whole | None = None
    mirrored: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Course:
    """All passes over a shard that a job makes.

    Args:
        rows: how many there are.
        most: by how many pixels pictures are moved at most, up or down, left or right.
        recipe: of the learning.
        first_round: whether nothing is learned yet.
    """

    rows: int
    most: tuple[int, int]
    recipe: Recipe
    first_round: bool

    @classmethod
    def of(cls, rows: Rows, recipe: Recipe, first_round: bool) -> Course:
        """Return the passes over some rows; those of a table are neither moved nor mirrored."""
        if rows.form.image is None:
            recipe = replace(recipe, flip=False)
        most = shape_of(rows.form).shifts if recipe.first else (0, 0)
        if not recipe.first and rows.form.image is not None:
            height, width = rows.form.image.shape[:2]
            most = min(recipe.shift, height // 2), min(recipe.shift, width // 2)
        return cls(len(rows), most, recipe, first_round)

    @property
    def batches(self) -> tuple[slice, ...]:
        """Which rows of a pass are learned from together."""
        return self.recipe.batches(self.rows)

    @property
    def steps(self) -> int:
        """How many batches a job learns from; of the last pass not all, where that is enough."""
        return self.recipe.steps_of(self.rows)

    def epochs(self, random: np.random.Generator) -> Iterator[Epoch]:
        """Draw them, one after the other."""
        passes = math.ceil(self.steps / max(1, self.recipe.in_a_pass(self.rows)))
        for number in range(passes):
            order = random.permutation(self.rows)
            if self.recipe.first:
                still = (self.first_round and number == 0) or not any(self.most)
                yield Epoch(order) if still else self._alike(order, random)
            else:
                yield self._each(order, random)

    def _each(self, order: Whole, random: np.random.Generator) -> Epoch:
        """Return a pass in which each picture is moved by its own."""
        down = right = mirrored = None
        if any(self.most):
            down, right = (random.integers(0, 2 * most + 1, self.rows) for most in self.most)
        if self.recipe.flip:
            mirrored = random.random(self.rows) < 0.5
        return Epoch(order, down, right, mirrored)

    def _alike(self, order: Whole, random: np.random.Generator) -> Epoch:
        """Return a pass in which all pictures of a batch are moved by as much, as at first."""
        down, right = self.most
        bound = 2 * down + 1 if down == right else [2 * down + 1, 2 * right + 1]
        size = self.recipe.batch_size
        drawn = [random.integers(0, bound, 2) for _ in self.batches]
        ys, xs = (np.repeat([each[n] for each in drawn], size)[: self.rows] for n in (0, 1))
        return Epoch(order, ys, xs)


class Take:
    """Makes rows what a net takes.

    Args:
        model: that knows mean and deviation, where numbers are standardised.
        form: of the rows.
        device: that computes.
        layout: of pictures in memory; our own nets are a third faster with channels last.
    """

    def __init__(
        self, model: Arrays, form: Form, device: torch.device,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:  # fmt: skip
        self._model, self.device, self._layout = model, device, layout
        self._standardises = standardises(form, model.keys())

    def prepared(self, array: Array) -> Array:
        """Return rows as they can be shifted: what comes in then, 0, is black, or the mean."""
        if not self._standardises:
            return array
        return standardised(array, self._model[MEAN], self._model[DEVIATION])

    def tensor(self, array: Array) -> torch.Tensor:
        """Return prepared rows, float32: (n, columns) or (n, channels, height, width)."""
        writable = array if array.flags.writeable else array.copy()  # torch warns otherwise
        tensor = torch.from_numpy(np.ascontiguousarray(writable)).to(self.device)
        if tensor.ndim == 2:
            return tensor
        return self.scaled(tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2))

    def scaled(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return prepared pictures, (n, channels, height, width), as float32."""
        if not self._standardises:
            tensor = tensor.float().div_(255)
        return tensor.contiguous(memory_format=self._layout)


class Host:
    """Makes batches in this computer's memory, and brings each to the device.

    Args:
        rows: the shard.
        course: of the passes.
        take: makes rows what the net takes.
    """

    def __init__(self, rows: Rows, course: Course, take: Take) -> None:
        (self._array,) = rows.arrays.values()
        self._labels, self._course, self._take = rows.labels, course, take

    def parts(self, random: np.random.Generator) -> Iterator[tuple[Epoch, slice]]:
        """Yield what is drawn for each batch."""
        return islice(self._parts(random), self._course.steps)

    def _parts(self, random: np.random.Generator) -> Iterator[tuple[Epoch, slice]]:
        batches = self._course.batches
        for epoch in self._course.epochs(random):
            for some in batches:
                yield epoch, some

    def batch(self, part: tuple[Epoch, slice]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and labels of a batch."""
        epoch, some = part
        chosen = epoch.order[some]
        array = self._take.prepared(self._array[chosen])
        if epoch.down is not None and epoch.right is not None:
            array = moved(array, self._course.most, epoch.down[some], epoch.right[some])
        if epoch.mirrored is not None:
            array = mirrored(array, epoch.mirrored[some])
        return self._take.tensor(array), torch.from_numpy(self._labels[chosen]).to(
            self._take.device
        )


#: Numbers of a shard that are brought to the device together.
_TOGETHER = 1 << 24


class Resident:
    """Makes the same batches of a shard that lies on the device, there.

    What is drawn for a pass is brought there once, as whole numbers of shape (4, rows): which row,
    down, right, whether mirrored.

    Args:
        rows: the shard.
        course: of the passes.
        take: makes rows what the net takes.

    Raises:
        TooLarge: the device has no room for it.
    """

    def __init__(self, rows: Rows, course: Course, take: Take) -> None:
        (array,) = rows.arrays.values()
        self._course, self._take = course, take
        self._sides, self._is_grey = array.shape[1:3], array.ndim == 3
        shape = list(array.shape)
        if array.ndim > 2:
            for side, most in enumerate(course.most, 1):
                shape[side] += 2 * most
        some, numbers = np.array(take.prepared(array[:1])), math.prod(shape[1:])
        largest = max((part.stop - part.start for part in course.batches), default=0)
        nbytes = len(rows) * numbers * some.itemsize + rows.labels.nbytes
        check_room(take.device, nbytes, 4 * largest * numbers)
        self._labels = torch.from_numpy(np.array(rows.labels)).to(take.device)
        self._rows = torch.zeros(shape, dtype=torch.from_numpy(some).dtype, device=take.device)
        together = max(1, _TOGETHER // max(1, numbers))
        for first in range(0, len(rows), together):
            block = torch.from_numpy(np.array(take.prepared(array[first : first + together])))
            self._inside(self._rows[first : first + together]).copy_(block)

    def _inside(self, wide: torch.Tensor) -> torch.Tensor:
        """Return rows without the margin that they may be moved by."""
        if wide.ndim == 2:
            return wide
        down, right = self._course.most
        height, width = self._sides
        return wide[:, down : down + height, right : right + width]

    def parts(self, random: np.random.Generator) -> Iterator[torch.Tensor]:
        """Yield what is drawn for each batch, (4, n), on the device."""
        return islice(self._parts(random), self._course.steps)

    def _parts(self, random: np.random.Generator) -> Iterator[torch.Tensor]:
        down, right = self._course.most
        for epoch in self._course.epochs(random):
            drawn = np.zeros((4, self._course.rows), np.int64)
            drawn[0] = epoch.order
            drawn[1] = down if epoch.down is None else epoch.down
            drawn[2] = right if epoch.right is None else epoch.right
            drawn[3] = 0 if epoch.mirrored is None else epoch.mirrored
            there = torch.from_numpy(drawn).to(self._take.device)
            for some in self._course.batches:
                yield there[:, some]

    def batch(self, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and labels of a batch."""
        order, down, right, mirrored = part
        labels = self._labels[order]
        if self._rows.ndim == 2:
            return self._rows[order], labels
        height, width = self._sides
        windows = self._rows.unfold(1, height, 1).unfold(2, width, 1)
        found = windows[order, down, right]  # (n, height, width) or (n, channels, height, width)
        if self._is_grey:
            found = found.unsqueeze(1)
        if self._course.recipe.flip:
            found = torch.where(mirrored.bool()[:, None, None, None], found.flip(-1), found)
        return self._take.scaled(found), labels


def moved(images: Array, most: tuple[int, int], down: Whole, right: Whole) -> Array:
    """Return pictures that are moved, each by its own; zeros come in.

    Args:
        images: shape (n, height, width) or (n, height, width, channels).
        most: pixels up or down, left or right, at most.
        down, right: how far each is moved, from 0, as far up or left as may be, to twice as much.
    """
    rows, height, width = images.shape[:3]
    wide = np.zeros(
        (rows, height + 2 * most[0], width + 2 * most[1], *images.shape[3:]), images.dtype
    )
    wide[:, most[0] : most[0] + height, most[1] : most[1] + width] = images
    if (down == down[0]).all() and (right == right[0]).all():
        return wide[:, down[0] : down[0] + height, right[0] : right[0] + width]
    windows = np.lib.stride_tricks.sliding_window_view(wide, (height, width), axis=(1, 2))
    found = windows[np.arange(rows), down, right]
    return np.moveaxis(found, 1, -1) if images.ndim == 4 else found


def mirrored(images: Array, which: npt.NDArray[np.bool_]) -> Array:
    """Return pictures, some of them mirrored, left to right."""
    images = np.array(images)
    images[which] = images[which, :, ::-1]
    return images
