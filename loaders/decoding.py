"""Pictures from files: of formats on a list, upright, within limits; every error names the file."""

from __future__ import annotations

import io
import logging
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CorruptDataset, DatasetNotFound

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

# Pillow also logs what it raises anyway.
logging.getLogger("PIL").addHandler(logging.NullHandler())

#: What is read, whatever a file is called, and the names that such files have in a folder. Pillow
#: knows more, and starts other programs for some of it.
FORMATS = {
    "PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "GIF": (".gif",), "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"), "WEBP": (".webp",), "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}  # fmt: skip
_NAMES = tuple(FORMATS)
ENDINGS = tuple(ending for each in FORMATS.values() for ending in each)
#: Pixels of a picture, and bytes of its file, at most: a camera has no more, and memory has room.
MOST_PIXELS, MOST_BYTES = 100_000_000, 256 << 20


_here = threading.local()


@contextmanager
def quiet() -> Iterator[None]:
    """Have nobody warned of what is told anyway: around many pictures, once."""
    if getattr(_here, "quiet", False):
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _here.quiet = True
        try:
            yield
        finally:
            _here.quiet = False


@contextmanager
def decoded(file: Path | bytes, name: str = "") -> Iterator[Image.Image]:
    """Give a picture's first frame, upright; what is wrong with it is told as its file's.

    A decoder raises whatever it comes upon in a damaged file, and warns of what is told anyway.

    Args:
        file: its path, or all that is in it.
        name: what people call it; a path's unless given.

    Raises:
        DatasetNotFound: no such file.
        CorruptDataset: it is no picture, or too large a one.
    """
    from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

    name = name or str(file)
    _check_file(file, name)
    with quiet():
        try:
            opened = file if isinstance(file, Path) else io.BytesIO(file)
            with Image.open(opened, formats=_NAMES) as image:
                _check_size(name, image.width, image.height)
                image.load()
                upright: Image.Image = image
                if image.info or image.format == "TIFF":  # else it has no notes
                    with suppress(Exception):  # what can't be read says nothing of which way is up
                        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                            upright = ImageOps.exif_transpose(image)
                yield upright
        except (CorruptDataset, DatasetNotFound):
            raise
        except Image.DecompressionBombError:
            raise CorruptDataset(f"{name}: {_too_large()}") from None
        except UnidentifiedImageError as error:
            raise CorruptDataset(
                f"{name}: not a picture that can be read ({', '.join(FORMATS)})"
            ) from error
        except MemoryError as error:
            raise CorruptDataset(f"{name}: there is not enough memory for it") from error
        except Exception as error:
            raise CorruptDataset(
                f"{name}: not a picture that can be read: {error or type(error).__name__}"
            ) from error


def pixels_of(file: Path | bytes, name: str = "") -> npt.NDArray[np.uint8]:
    """Return a picture as it is: uint8, (height, width) if it is grey, else (height, width, 3).

    What can be seen through has white behind it.

    Args:
        file, name: as `decoded`.

    Raises:
        DatasetNotFound, CorruptDataset: as `decoded`.
    """
    import numpy as np

    with decoded(file, name) as image:
        return np.asarray(opaque(image), np.uint8)


def opaque(image: Image.Image) -> Image.Image:
    """Return a picture as one of 8-bit grey, or in red, green and blue."""
    from PIL import Image

    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "1":
        return image.convert("L")
    if is_deep(image):
        return in_bytes(image)
    grey = image.mode in ("LA", "La", "L")
    if not grey and "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    over = Image.new("RGBA", image.size, "white")
    plain = Image.alpha_composite(over, image.convert("RGBA"))
    return plain.convert("L" if grey else "RGB")


def fitted(image: Image.Image, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a picture scaled to a size in its proportions: what is longer is cut on both sides.

    Pictures that are learned from, and those that are asked about, are made so alike.

    Args:
        image: of 8-bit grey, or in colours.
        size: height and width, pixels.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if (image.height, image.width) == size:
        return np.asarray(image, np.uint8)
    made = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.LANCZOS)
    return np.asarray(made, np.uint8)


def is_deep(image: Image.Image) -> bool:
    """Whether it has 16 bits of grey or more, which Pillow would clip."""
    return image.mode.startswith("I") or image.mode == "F"


def in_bytes(image: Image.Image) -> Image.Image:
    """Return a picture of deep grey in 8 bits.

    Raises:
        ValueError: it holds numbers that are not finite.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it holds numbers that are not finite")
    whole = image.mode.startswith("I")
    top = (65535 if values.max() > 255 else 255) if whole else max(values.max(), 1e-9)
    np.clip(values, 0, top, out=values)  # in place: there may be a hundred million
    values *= np.float32(255 / top)
    return Image.fromarray(values.astype(np.uint8))


def _check_file(file: Path | bytes, name: str) -> None:
    """Raise unless it is a file, and no pipe or device, that nobody would see the end of."""
    if isinstance(file, bytes):
        size = len(file)
    else:
        try:
            status = file.stat()
        except FileNotFoundError as error:
            raise DatasetNotFound(f"{name}: no such file") from error
        except (OSError, ValueError) as error:
            raise DatasetNotFound(f"{name}: can't be read: {error}") from error
        if stat.S_ISDIR(status.st_mode):
            raise CorruptDataset(f"{name}: a folder in a folder of pictures; name it itself")
        if not stat.S_ISREG(status.st_mode):
            raise CorruptDataset(f"{name}: not a file, but a pipe or a device")
        size = status.st_size
    if size > MOST_BYTES:
        raise CorruptDataset(f"{name}: larger than {MOST_BYTES >> 20} MiB; no picture is")


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise CorruptDataset(f"{name}: {width:,} x {height:,} pixels: {_too_large()}")
    if not width * height:
        raise CorruptDataset(f"{name}: a picture of no pixels")


def _too_large() -> str:
    return f"more than {MOST_PIXELS // 10**6:,} million pixels; make it smaller"
