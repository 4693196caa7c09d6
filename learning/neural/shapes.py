"""The nets of the neural learner by the form of the data, in numbers: this needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UnfitData
from ..forms import Picture, Table, taken

if TYPE_CHECKING:
    from loaders.rows import Form

#: Units of each hidden dense layer.
HIDDEN = 128
#: Channels after each convolution.
CONVOLVED = 16, 32
#: From so many pixels a side on, kernels are 5 x 5 and nothing is padded.
LARGE = 16
#: Longer sides are made shorter first, by means of so many pixels that this is not exceeded.
LONGEST = 64
#: Below this a side is not pooled: nothing would be left of it.
_POOLED = 8
#: Training pictures move by up to so many pixels, each way: the margin of MNIST's digits.
SHIFT = 2
#: Weights of the first dense layer up to which grey bytes are taken at full length, as the first
#: release took them whatever their size.
_FULL_LENGTH = 1 << 24
#: Weights of a net, at most: 1 GiB.
MOST_WEIGHTS = 1 << 28


@dataclass(frozen=True)
class Shape:
    """A net: convolutions and pools, if there are any, and dense layers.

    Args:
        inputs: channels of a picture, or columns of a table.
        features: that the first dense layer takes.
        shorter: by how much height and width are made shorter first; none: it is of a table.
        kernel: pixels a side of each convolution; 3: padded by 1, 5: not padded.
        pools: after each convolution, by how much height and width are pooled.
        shifts: how far training pictures move, up or down, left or right, in pixels.
    """

    inputs: int
    features: int
    shorter: tuple[int, int] | tuple[()] = ()
    kernel: int = 0
    pools: tuple[tuple[int, int], ...] = ()
    shifts: tuple[int, int] = (0, 0)

    @property
    def is_picture(self) -> bool:
        """Whether it is of pictures."""
        return bool(self.shorter)

    def weights(self, classes: int) -> int:
        """Return about how many weights the net has."""
        first, second = CONVOLVED
        area = self.kernel**2
        inner = area * (self.inputs * first + first * second) if area else HIDDEN**2
        return inner + self.features * HIDDEN + HIDDEN * classes


def shape_of(form: Form) -> Shape:
    """Return the net for data of such a form.

    Raises:
        UnfitData: there is none; it says why.
    """
    found = taken(form, "neural")
    if isinstance(found, Table):
        shape = Shape(len(found.columns), len(found.columns))
    else:
        shape = _of_picture(found, (1, 1))
        as_ever = found.is_bytes and found.is_grey and shape.features * HIDDEN <= _FULL_LENGTH
        if not as_ever:
            shape = _of_picture(found, (_by(found.height), _by(found.width)))
    weights = shape.weights(len(form.classes))
    if weights > MOST_WEIGHTS:
        raise UnfitData(
            f"the neural learner's net would have {weights:,} weights for this data"
            f" ({form.tell()}; {len(form.classes):,} classes); {MOST_WEIGHTS:,} is the most"
        )
    return shape


def shape_at_full_length(form: Form) -> Shape:
    """Return the net that the first release had for large pictures: it took them as they are."""
    found = taken(form, "neural")
    return _of_picture(found, (1, 1)) if isinstance(found, Picture) else shape_of(form)


def _by(length: int) -> int:
    """Return how many pixels become one, so that a side is not too long."""
    return math.ceil(length / LONGEST)


def _of_picture(picture: Picture, shorter: tuple[int, int]) -> Shape:
    """Return the net for pictures that are made shorter by so much first."""
    lengths = picture.height // shorter[0], picture.width // shorter[1]
    large = min(lengths) >= LARGE
    pools = []
    for _ in CONVOLVED:
        pool = (2, 2) if large else (_pool(lengths[0]), _pool(lengths[1]))
        inside = 4 if large else 0  # what a kernel of 5 without padding takes off
        lengths = (lengths[0] - inside) // pool[0], (lengths[1] - inside) // pool[1]
        pools.append(pool)
    return Shape(
        inputs=picture.channels, features=CONVOLVED[-1] * lengths[0] * lengths[1], shorter=shorter,
        kernel=5 if large else 3, pools=tuple(pools),
        shifts=(_shift(picture.height, shorter[0]), _shift(picture.width, shorter[1])),
    )  # fmt: skip


def _pool(length: int) -> int:
    return 2 if length >= _POOLED else 1


def _shift(length: int, shorter: int) -> int:
    """Return how far pictures of such a length move: not at all where that would be much of it."""
    if length < LARGE:
        return 1 if length >= _POOLED else 0
    return SHIFT * shorter
