"""The nets of the neural learner by the form of the data, in numbers: this needs no torch."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UnfitData
from ..forms import Picture, Table, taken

if TYPE_CHECKING:
    from loaders.rows import Form

#: Arrays of a model beside the weights: what numbers are standardised by.
MEAN, DEVIATION = "mean", "deviation"
STANDARDS = frozenset([MEAN, DEVIATION])
#: So end the names of variances among a model's arrays.
VARIANCE = ".running_var"
#: And of all that batch normalisation measures on its way.
MEASURED = ".running_mean", VARIANCE
#: Units of each hidden dense layer.
HIDDEN = 128
#: Channels after the first convolution of the normed net.
WIDTH = 32
#: Channels after each convolution of the small net.
CONVOLVED = 16, 32
#: From so many pixels a side on, kernels are 5 x 5 and nothing is padded.
LARGE = 16
#: Longer sides are made shorter first, by means of so many pixels that this is not exceeded.
LONGEST = 64
#: Below this a side is not pooled: nothing would be left of it.
_POOLED = 8
#: From so many pixels a side on, 2 x 2 of them are folded into channels of one, then again.
FOLDED = 20
#: Convolutions leave no fewer pixels a side than this; more than the other are pooled at the end.
_LEAST, _LONG = 3, 6
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
    return shape


def check_weights(form: Form, width: int) -> None:
    """Raise unless there is a net for data of such a form, and not too large a one.

    Args:
        form: of the data.
        width: of the normed net; 0: of pictures the small one.

    Raises:
        UnfitData: there is none; it says why.
    """
    classes = len(form.classes)
    if isinstance(taken(form, "neural"), Table):
        weights = dense_weights(shape_of(form).inputs, width or HIDDEN, classes)
    else:
        weights = (normed_of(form, width) if width else shape_of(form)).weights(classes)
    if weights > MOST_WEIGHTS:
        raise UnfitData(
            f"the neural learner's net would have {weights:,} weights for this data"
            f" ({form.tell()}; {len(form.classes):,} classes); {MOST_WEIGHTS:,} is the most"
        )


def shape_at_full_length(form: Form) -> Shape:
    """Return the net that the first release had for large pictures: it took them as they are."""
    found = taken(form, "neural")
    return _of_picture(found, (1, 1)) if isinstance(found, Picture) else shape_of(form)


def dense_weights(columns: int, hidden: int, classes: int) -> int:
    """Return about how many weights the net of a table has."""
    return columns * hidden + hidden**2 + hidden * classes


def standardises(form: Form, names: AbstractSet[str]) -> bool:
    """Whether numbers are standardised: all but pictures of bytes; of these, dim ones.

    Args:
        form: of the rows.
        names: of a model's arrays.
    """
    found = taken(form, "neural")
    return not (isinstance(found, Picture) and found.is_bytes) or names >= STANDARDS


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


@dataclass(frozen=True)
class Side:
    """What becomes of one side of a picture in the normed net.

    Args:
        length: pixels, once it is made shorter.
        shorter: pixels that become one first.
        margin: pixels that are added at the end, black, so that it can be folded.
        pool: after the first convolution.
        paddings: of the second and the third convolution.
        last_pool: after the third.
        end: pixels that are left.
    """

    length: int
    shorter: int
    margin: int
    pool: int
    paddings: tuple[int, int]
    last_pool: int
    end: int


@dataclass(frozen=True)
class Normed:
    """The net of pictures: three convolutions, each with batch normalisation, and a dense layer.

    Args:
        channels: after each convolution.
        inputs: channels of a picture.
        fold: pixels a side that become channels of one.
        height, width: what becomes of each side.
    """

    channels: tuple[int, int, int]
    inputs: int
    fold: int
    height: Side
    width: Side

    @property
    def features(self) -> int:
        """How many numbers the dense layer takes."""
        return self.channels[-1] * self.height.end * self.width.end

    def weights(self, classes: int) -> int:
        """Return about how many weights the net has."""
        first, second, third = self.channels
        inner = self.inputs * self.fold**2 * first + first * second + second * third
        return 9 * inner + self.features * classes


def normed_of(form: Form, width: int) -> Normed:
    """Return the normed net for pictures of such a form.

    Args:
        form: of the data.
        width: channels after the first convolution; there are twice as many later.

    Raises:
        UnfitData: there is none; it says why.
    """
    picture = taken(form, "neural")
    assert isinstance(picture, Picture)
    fold, least = 1, min(each // _by(each) for each in (picture.height, picture.width))
    while least >= fold * FOLDED:
        fold *= 2
    height, across = (_side(each, fold) for each in (picture.height, picture.width))
    return Normed((width, 2 * width, 2 * width), picture.channels, fold, height, across)


def _side(pixels: int, fold: int) -> Side:
    by = _by(pixels)
    length = pixels // by
    margin = -length % fold
    folded = (length + margin) // fold
    pool = _pool(folded)
    left, paddings = folded // pool, []
    for _ in range(2):
        paddings.append(0 if left - 2 >= _LEAST else 1)
        left -= 2 * (1 - paddings[-1])
    last = math.ceil(left / _LONG)
    return Side(length, by, margin, pool, (paddings[0], paddings[1]), last, left // last)
