"""A contact sheet: some pictures of each class beside each other, drawn into one."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders.examining import Examined
from loaders.sources import told_of
from protocol.wire.words import safe_line

from ..views.ending.summary import short

if TYPE_CHECKING:
    from loaders.rows import Array, Form, Source

    Pixels = npt.NDArray[np.uint8]

#: Classes, and pictures of each.
CLASSES, EACH = 20, 10
#: Pixels of a side, at which small pictures are shown, and to which large ones are made smaller.
_SMALL, _LARGE = 56, 112
#: Pixels between pictures; of the names beside them, and of the title; in an inch.
_GAP, _NAMES, _TITLE, _INCH = 3, 190, 34, 100
_WHITE = 255


def drawable(form: Form) -> bool:
    """Whether rows are pictures that can be drawn: grey, or of red, green and blue."""
    image = form.image
    return (
        image is not None
        and min(image.shape[:2]) > 0
        and (len(image.shape) == 2 or image.shape[2] in (1, 3, 4))
    )


def draw(source: Source, found: Examined, path: Path) -> None:
    """Draw training pictures of each class; those of each are taken from all over the data.

    Args:
        source: of the pictures.
        found: what they are like.
        path: of the PNG file.

    Raises:
        LoaderError: they can't be read.
        OSError: it can't be written.
    """
    # It would advise about a home that can't be written, or that is not there.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure  # half a second

    counts = found.splits["train"].counts
    classes = _chosen(counts)
    rows = [_pictures(source, found, label) for label in classes]
    sheet = np.concatenate([_beside(row) for row in rows])
    high, wide = sheet.shape[:2]
    full = (wide + _NAMES + _GAP, high + _TITLE + _GAP)
    figure = Figure(figsize=(full[0] / _INCH, full[1] / _INCH), dpi=_INCH)
    axes = figure.add_axes(
        (_NAMES / full[0], _GAP / full[1], wide / full[0], high / full[1])
    )  # fmt: skip
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    step = high / len(classes)
    names = [f"{_plain(short(found.form.classes[each]))}  ({counts[each]:,})" for each in classes]
    axes.set_yticks([(each + 0.5) * step - 0.5 for each in range(len(classes))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(_title(found, classes), fontsize=10, loc="left")
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with (
        tempfile.TemporaryDirectory(prefix=".drawn-", dir=path.absolute().parent) as scratch,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph")  # a letter that its font has not is a box
        figure.savefig(Path(scratch, "sheet.png"), format="png")
        Path(scratch, "sheet.png").replace(path)


def _title(found: Examined, classes: Sequence[int]) -> str:
    many = len(found.splits["train"].counts)
    of = f"{len(classes)} of {many:,} classes" if many > len(classes) else f"{many} classes"
    size = " x ".join(map(str, found.form.image.shape)) if found.form.image else ""
    return _plain(f"{safe_line(found.name, 40)}: {of}, {size}")


def _plain(text: str) -> str:
    """Return a text as it is drawn: a dollar begins a formula."""
    return text.replace("$", r"\$")


def _chosen(counts: dict[int, int] | Any) -> list[int]:
    """Return the classes that are drawn: of many, the largest and the smallest."""
    if len(counts) <= CLASSES:
        return sorted(counts)
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    return ordered[: CLASSES // 2] + ordered[-(CLASSES // 2) :]


def _pictures(source: Source, found: Examined, label: int) -> list[Pixels]:
    """Return pictures of a class, each uint8 of shape (height, width, 3), in a size to look at."""
    with told_of(source.name):
        mine = np.flatnonzero(source.labels("train") == label)
        spread = np.linspace(0, len(mine) - 1, min(EACH, len(mine))).round().astype(np.int64)
        (array,) = source.read("train", mine[spread]).values()
    return [_sized(each) for each in _bytes(array, found)]


def _bytes(array: Array, found: Examined) -> Pixels:
    """Return pictures of whatever numbers as bytes in red, green and blue, shape (n, h, w, 3)."""
    ((told,),) = ([each] for each in found.splits["train"].fields.values())
    if array.ndim == 3:
        array = array[..., None]
    array = array[..., :3]
    if array.dtype != np.uint8:
        least = min(float(part.least or 0) for part in told.parts)
        most = max(float(part.most or 0) for part in told.parts)
        if least >= 0 and most <= 1:
            least, most = 0, 1
        elif least >= 0 and most <= _WHITE:
            least, most = 0, _WHITE
        shares = (array.astype(np.float64) - least) / max(most - least, 1e-300)
        array = (np.nan_to_num(shares, posinf=1, neginf=0).clip(0, 1) * _WHITE).round()
    pixels: Pixels = np.broadcast_to(array.astype(np.uint8), (*array.shape[:3], 3))
    return pixels


def _sized(picture: Pixels) -> Pixels:
    """Return a picture in a size to look at: small ones with each pixel to be seen."""
    from PIL import Image

    high, wide = picture.shape[:2]
    longer = max(high, wide)
    times = max(1, _SMALL // longer)
    share = min(times, _LARGE / longer) if longer > _LARGE else times
    size = max(1, round(wide * share)), max(1, round(high * share))
    how = Image.Resampling.NEAREST if share >= 1 else Image.Resampling.LANCZOS
    image = Image.fromarray(np.ascontiguousarray(picture)).resize(size, how)
    return np.asarray(image, np.uint8)


def _beside(pictures: Sequence[Pixels]) -> Pixels:
    """Return pictures of one size beside each other, with white where there are none."""
    high, wide = pictures[0].shape[:2]
    row = np.full((high + _GAP, EACH * (wide + _GAP), 3), _WHITE, np.uint8)
    for each, picture in enumerate(pictures):
        row[:high, each * (wide + _GAP) : each * (wide + _GAP) + wide] = picture
    return row
