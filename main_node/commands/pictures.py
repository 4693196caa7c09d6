"""Pictures as a model takes them: decoded within limits, upright, and placed as MNIST's digits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from loaders import DatasetNotFound
from loaders.decoding import ENDINGS, decoded, fitted, in_bytes, is_deep
from loaders.decoding import opaque as on_white

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    Grey = npt.NDArray[np.float32]

#: A drawing is looked for in a picture of so many pixels a side.
_LOOKED_AT = 1024
#: MNIST's rule: what is drawn fits into 20 of 28 pixels.
_BOX = 20 / 28
#: Grey levels, of 255, by which a drawing differs from its paper; share of that at which it begins,
#: and below which it is a speck of the paper.
CONTRAST, _INK, _SPECK = 40, 0.3, 0.1
#: Share of the edge that may be ink; where there is more, the paper is not plain.
_PLAIN = 0.25
#: Pixels a side by which the light on the paper is told, and how often its estimate is improved.
_LIT, _TURNS = 64, 12


class Picture(NamedTuple):
    """A picture as a model takes it.

    Args:
        pixels: uint8, shape (height, width) or (height, width, 1, 3 or 4).
        blank: whether nothing is on it.
    """

    pixels: npt.NDArray[np.uint8]
    blank: bool


def pictures_in(path: Path) -> list[Path]:
    """Return the pictures of a folder, in order of their names; of anything else, itself.

    Raises:
        DatasetNotFound: it is a folder without pictures, or can't be looked into.
    """
    try:
        if not path.is_dir():
            return [path]
        found = sorted(
            each for each in path.iterdir()
            if each.suffix.lower() in ENDINGS and not each.name.startswith(".")
        )  # fmt: skip
    except OSError as error:
        raise DatasetNotFound(f"{path}: can't be looked into: {error.strerror}") from error
    if not found:
        raise DatasetNotFound(f"{path}: a folder without a picture ({', '.join(ENDINGS)})")
    return found


def grey_picture(path: Path, shape: tuple[int, int], *, whole: bool = False) -> Picture:
    """Return a picture as MNIST would show it, light on dark.

    One of just this size is taken as it is, but for a light background. In any other, what is
    drawn is found, scaled to 20 of 28 pixels and put where its centre of mass is in the middle.

    Args:
        path: of its file.
        shape: height and width, pixels.
        whole: scale the picture only, as a source of pictures has it, whatever is where on it.

    Raises:
        DatasetNotFound: no such file.
        CorruptDataset: it is no picture, or too large a one.
    """
    import numpy as np

    with decoded(path) as image:
        grey = _grey(image)
    drawing = None
    if not whole and (grey.height, grey.width) != shape:
        drawing = _drawing(_reduced(grey))
    pixels = fitted(grey, shape) if drawing is None else _placed(drawing, shape)
    blank = int(np.ptp(pixels)) < CONTRAST
    if drawing is None and np.median(_edge(pixels)) > 127:
        pixels = 255 - pixels
    return Picture(pixels, blank)


def colour_picture(path: Path, shape: tuple[int, int], *, opaque: bool = False) -> Picture:
    """Return a picture in red, green and blue, scaled to this height and width as a source has it.

    Args:
        path: of its file.
        shape: height and width, pixels.
        opaque: keep how opaque it is as a fourth channel, instead of laying it on white.

    Raises:
        DatasetNotFound: no such file.
        CorruptDataset: it is no picture, or too large a one.
    """
    with decoded(path) as image:
        plain = image.convert("RGBA") if opaque else on_white(image).convert("RGB")
    return Picture(fitted(plain, shape), blank=False)  # one colour may be what it is about


def _grey(image: Image.Image) -> Image.Image:
    """Return a picture as one of 8-bit grey, whatever it was."""
    import numpy as np
    from PIL import Image

    if is_deep(image):
        return in_bytes(image)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("L")
    colours = image.convert("RGBA")
    grey, alpha = np.asarray(colours.convert("L")), np.asarray(colours.getchannel("A"))
    ink = grey[alpha > 127]
    if len(ink) < grey.size and (not len(ink) or np.ptp(ink) <= 64):
        return Image.fromarray(alpha)  # one colour on nothing: its shape is its opacity
    background = Image.new("RGBA", image.size, "black" if np.median(ink) > 127 else "white")
    return Image.alpha_composite(background, colours).convert("L")


# Placing.


def _reduced(grey: Image.Image) -> Image.Image:
    """Return a grey picture that is small enough to look at every pixel often."""
    return grey.reduce(max(1, -(-max(grey.size) // _LOOKED_AT)))


def _drawing(grey: Image.Image) -> Grey | None:
    """Return what is drawn on plain paper, cut out, 0 to 1; None if it isn't plain.

    Paper is what most of the edge is; ink is what is further from it, lighter or darker.
    """
    import numpy as np

    values = np.asarray(grey, np.float32)
    paper = _paper(values)
    further = values - paper
    dark, light = -float(further.min()), float(further.max())
    if max(dark, light) < CONTRAST:
        return np.zeros_like(values)
    # Where there is half the light on the paper, dark ink is half as far from it.
    ink = -further / np.maximum(paper, CONTRAST) if dark >= light else further
    ink = (ink / ink.max()).clip(0, 1)
    drawn = _without_specks(ink >= _INK)
    if not drawn.any() or _edge(drawn).mean() > _PLAIN:
        return None
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    found = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.where(found < _SPECK, np.float32(0), found)


def _paper(values: Grey) -> npt.NDArray[Any]:
    """Return how light the paper is, of each pixel: shape (height, width), or (1, 1), of all.

    A lamp or a window lights paper from one side, and a camera sees less of its corners: a surface
    of the second degree, which is fitted to the edge first, then to all that is near it. Where most
    of the edge is not near it, the paper is taken to be of one grey.
    """
    import numpy as np

    rows, columns = (np.linspace(-1, 1, own, dtype=np.float32) for own in values.shape)
    step = -(-max(values.shape) // _LIT)
    some, at = values[::step, ::step], (rows[::step], columns[::step])
    edge, near = _edge(some), CONTRAST / 2
    light = np.array([np.median(edge), 0, 0, 0, 0, 0])
    for _ in range(_TURNS):  # least absolute differences: ink does not count for more than paper
        off = np.abs(edge - _edge(_surface(light, *at)))
        light = _fitted(edge, 1 / np.maximum(1, off), [_edge(each) for each in _powers(*at)])
    if (np.abs(edge - _edge(_surface(light, *at))) > near).mean() > _PLAIN:
        return np.full((1, 1), np.median(_edge(values)))
    for _ in range(_TURNS):
        light = _fitted(some, np.abs(some - _surface(light, *at)) <= near, _powers(*at))
    return _surface(light, rows, columns)


def _powers(rows: Grey, columns: Grey) -> list[npt.NDArray[Any]]:
    """Return 1, y, x, yy, yx and xx of each place, as arrays of shape (rows, columns)."""
    import numpy as np

    y, x = np.meshgrid(rows, columns, indexing="ij")
    return [np.ones_like(y), y, x, y * y, y * x, x * x]


def _surface(light: npt.NDArray[Any], rows: Grey, columns: Grey) -> Grey:
    """Return the sum of the powers of each place by their factors: shape (rows, columns)."""
    one, y, x, yy, yx, xx = light.astype(rows.dtype)
    down = (one + y * rows + yy * rows * rows)[:, None]
    surface: Grey = down + (x * columns + xx * columns * columns) + (yx * rows)[:, None] * columns
    return surface


def _fitted(
    values: Grey, weights: npt.NDArray[Any], powers: list[npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Return the factors of the powers that come nearest to values, by weighted least squares."""
    import numpy as np

    columns = np.stack([each.ravel() for each in powers]).astype(float)
    weighted = columns * weights.ravel()
    # Of a picture that is a line some powers are the same: lstsq bears that.
    factors: npt.NDArray[Any]
    factors, *_ = np.linalg.lstsq(weighted @ columns.T, weighted @ values.ravel(), rcond=None)
    return factors


def _edge(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    import numpy as np

    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _without_specks(drawn: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which pixels are drawn and have a neighbour that is, unless none has."""
    import numpy as np

    height, width = drawn.shape
    around = np.pad(drawn, 1)
    near = np.zeros_like(drawn)
    for y in range(3):
        for x in range(3):
            if (y, x) != (1, 1):
                near |= around[y : y + height, x : x + width]
    return drawn & near if (drawn & near).any() else drawn


def _placed(drawing: Grey, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return what is drawn as MNIST places it.

    Source: LeCun, Cortes, Burges, "The MNIST database": a digit is scaled to fit a box of 20 x 20
    pixels with its proportions, and put into 28 x 28 with its centre of mass in the middle.

    Args:
        drawing: 0 to 1, as `_drawing` returns it.
        shape: height and width, pixels.
    """
    import numpy as np
    from PIL import Image

    scale = min(_BOX * full / own for full, own in zip(shape, drawing.shape, strict=True))
    size = (max(1, round(own * scale)) for own in drawing.shape)
    small = _scaled(Image.fromarray((drawing * 255).astype(np.uint8)), tuple(size)).astype(float)
    small *= 255 / max(1, small.max())  # thin lines fade as they shrink
    pixels = np.zeros(shape, np.uint8)
    corner = []
    for axis, (full, own) in enumerate(zip(shape, small.shape, strict=True)):
        centre = (small.sum(axis=1 - axis) * (np.arange(own) + 0.5)).sum() / max(1, small.sum())
        corner.append(int(np.clip(round(full / 2 - centre), 0, full - own)))
    (y, x), (height, width) = corner, small.shape
    pixels[y : y + height, x : x + width] = small.round().astype(np.uint8)
    return pixels


def _scaled(image: Image.Image, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.LANCZOS), np.uint8)
