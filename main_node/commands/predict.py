"""`mnist-predict`: use a merged model."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.exits import Exit, end
from console.options import Place, homed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learning import Learner
    from learning.algebraic.model import AlgebraicModel
    from learning.model import Model
    from loaders import Source

#: Channels of a picture: red, green, blue.
COLOURS = 3

_end = partial(end, "mnist-predict")


@click.command(context_settings={"show_default": True})
@click.argument("model", type=Place())
@click.argument("images", nargs=-1, type=Place(), metavar="[IMAGE]...")
@click.option(
    "--data", metavar="SOURCE", callback=homed,
    help="Predict a whole test set: 'mnist' or a folder.",
)  # fmt: skip
@click.option(
    "--split", default="test", type=click.Choice(["test", "train"]), help="Which part of --data."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="ROWS", help="Of --data, the first.")
@click.option("--explain", is_flag=True, help="Algebraic models: show the atoms that were missed.")
@click.option(
    "--export", type=click.Choice(["json"]),
    help="Algebraic models: print the strict atoms in the form of AML-IP's tutorial, and only"
    " that.",
)  # fmt: skip
@click.option("--json", is_flag=True, help="Print one JSON object, and only that.")
@click.version_option(package_name="mnist-merge", prog_name="mnist-predict")
def main(
    model: Path, images: tuple[Path, ...], data: str | None, split: str, limit: int | None,
    explain: bool, export: str | None, json: bool,
) -> None:  # fmt: skip
    """Say what a MODEL sees in each IMAGE, or how good it is on a test set (--data).

    MODEL is the model.safetensors of a run. An image may be of any size and format: it is scaled to
    the model's size; for a model of grey images, it is made grey, and inverted if its background is
    light.
    """
    from learning import LearningError
    from learning import model as models
    from loaders import LoaderError

    if export is None and bool(images) == bool(data):
        raise click.UsageError("name images, or a data set with --data, and not both")
    if export is not None and (images or data or explain):
        raise click.UsageError("--export prints the model; it takes no images, --data or --explain")
    if explain and data:
        raise click.UsageError("--explain explains images; it can't explain --data")
    try:
        if export is not None:
            return _export(model)
        if explain:
            return _explain(model, images, json)
        read = models.load(model)
        classes = read.form.classes
        if data:
            result, classes = _try_data(read, data, split, limit)
        else:
            result = _try_images(read, images)
    except LearningError as error:
        _end(Exit.USAGE, str(error))
    except LoaderError as error:
        _end(Exit.DATA, str(error))
    if json:
        click.echo(json_.dumps(result))
    else:
        kind = "row" if read.form.image is None else "image"
        _print(result, kind, classes)
    return None


def _algebraic(path: Path) -> tuple[AlgebraicModel, list[str]]:
    """Return the algebraic model in a file, and what its classes are called.

    Raises:
        ModelError: it is of another learner.
    """
    from learning import ModelError
    from learning import model as models
    from learning.algebraic.model import from_arrays

    model = models.load(path)
    if model.learner != "algebraic":
        raise ModelError(f"{path}: a {model.learner} model; only an algebraic one can be read so")
    made = from_arrays(model.arrays)
    size, classes = (made.pixels.height, made.pixels.width), model.form.classes
    if (*size, made.classes) != (*image_size(model), len(classes)):
        raise ModelError(f"{path}: its atoms are of other images than it says")
    return made, list(classes)


def _export(path: Path) -> None:
    from learning.algebraic.alma import tutorial_form

    click.echo(json_.dumps(tutorial_form(_algebraic(path)[0])))


def _explain(path: Path, images: tuple[Path, ...], json: bool) -> None:
    from learning.algebraic.telling import explain

    model, names = _algebraic(path)
    size = (model.pixels.height, model.pixels.width)
    told = {str(image): explain(model, read_image(image, size), names) for image in images}
    if json:
        return click.echo(json_.dumps(told))
    for image, story in told.items():
        click.echo(f"{names[story['label']]}  {image}")
        for class_ in story["missed"][:3]:
            click.echo(
                f"   misses {class_['share']:.2%} of {class_['name']} by weight:"
                f" {class_['missed']:,} of {class_['atoms']:,} atoms"
            )
            for atom in class_["first"]:
                click.echo(f"      {atom}")
    return None


def _print(result: dict[str, Any], kind: str, classes: Sequence[str]) -> None:
    from protocol.wire.words import plural, safe_line

    if "accuracy" in result:
        from rich.console import Console

        from ..views.ending.summary import MOST_SHOWN, confusion_table

        if 0 < len(result["confusion"]) <= MOST_SHOWN:
            Console().print(confusion_table(result["confusion"], classes))
        click.echo(
            f"accuracy {result['accuracy']:.2%} (macro F1 {result['macro_f1']:.4f})"
            f" on {plural(result['examples'], kind)}"
        )
        return
    for path, label in result.items():
        click.echo(f"{safe_line(classes[label])}  {path}")


def _try_data(
    model: Model, source: str, split: str, limit: int | None
) -> tuple[dict[str, Any], Sequence[str]]:
    """Return how good a model is on some data, and the names of the classes that are there."""
    from learning import ModelError
    from learning.metrics import score
    from loaders import OneAgainstRest, open_source, rows_of

    found: Source = open_source(source, lambda text: click.echo(text, err=True))
    target = _target(model, found)
    if target is not None:
        found = OneAgainstRest(found, target)
    rows = rows_of(found, split, limit)
    if dict(rows.form.fields) != dict(model.form.fields):
        raise ModelError(
            f"the model is for rows of {model.form.tell()}; those of {source} are of"
            f" {rows.form.tell()}"
        )
    predicted = _learner(model).predict(model.arrays, rows)
    classes = max(model.form.classes, rows.form.classes, key=len)
    scores = score(rows.labels, predicted, len(classes))
    result = {
        "accuracy": scores.accuracy, "macro_f1": scores.macro_f1,
        "confusion": scores.confusion, "examples": len(rows),
    }  # fmt: skip
    return result, classes


def _target(model: Model, source: Source) -> int | None:
    """Return the class that a model tells from the rest, by its number in a source.

    Raises:
        ModelError: the source has no such class.
    """
    from learning import ModelError
    from loaders.classes import against_rest

    names, there = model.form.classes, source.form.classes
    if len(names) != 2 or tuple(names) != against_rest(names[1]) or there == names:
        return None
    if names[1] not in there:
        raise ModelError(
            f"the model tells {names[1]!r} from the rest; {source.name} has no such class"
        )
    return there.index(names[1])


def _learner(model: Model) -> Learner:
    from learning import create

    return create(model.learner, model.made)


def _try_images(model: Model, images: tuple[Path, ...]) -> dict[str, Any]:
    import numpy as np

    from loaders import ArraySource, Rows

    read = _reader(model)
    pixels = np.stack([read(image) for image in images])
    (name,) = model.form.fields
    nobody_knows = np.zeros(len(pixels), np.int64)
    source = ArraySource("pictures", model.form, {"all": ({name: pixels}, nobody_knows)})
    labels = _learner(model).predict(model.arrays, Rows(source, "all"))
    return {str(image): int(label) for image, label in zip(images, labels, strict=True)}


def _reader(model: Model) -> Callable[[Path], Any]:
    """Return what reads a picture as the model takes it.

    Raises:
        ModelError: it takes no pictures.
    """
    from learning import ModelError

    image = model.form.image
    if image is not None and image.dtype == "uint8":
        if len(image.shape) == 2:
            return partial(read_image, shape=image_size(model))
        if image.shape[2] == COLOURS:
            return partial(read_colours, shape=(image.shape[0], image.shape[1]))
    raise ModelError(
        f"the model is for rows of {model.form.tell()}, which no picture is; name a data set with"
        " --data"
    )


def image_size(model: Model) -> tuple[int, int]:
    """Return height and width of the grey images that a model is for.

    Raises:
        UnfitData: it is for others.
    """
    from learning.contract import grey_form

    return grey_form(model.form, model.learner)


def read_image(path: Path, shape: tuple[int, int]) -> Any:
    """Return a picture as MNIST would show it: uint8, of this height and width, light on dark.

    Raises:
        DatasetNotFound: no such file.
        CorruptDataset: it is no picture.
    """
    import numpy as np

    with _picture(path) as image:
        pixels = _scaled(_grey(image), shape)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return 255 - pixels if np.median(edge) > 127 else pixels


def read_colours(path: Path, shape: tuple[int, int]) -> Any:
    """Return a picture in red, green and blue: uint8, of this height and width.

    Raises:
        DatasetNotFound: no such file.
        CorruptDataset: it is no picture.
    """
    from PIL import Image

    with _picture(path) as image:
        over = Image.new("RGBA", image.size, "white")
        return _scaled(Image.alpha_composite(over, image.convert("RGBA")).convert("RGB"), shape)


def _scaled(image: Any, shape: tuple[int, int]) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.LANCZOS), np.uint8)


@contextmanager
def _picture(path: Path) -> Iterator[Any]:
    """Open a picture; what is wrong with it while it is read is told as its file's."""
    from PIL import Image, UnidentifiedImageError

    from loaders import CorruptDataset, DatasetNotFound

    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DatasetNotFound(f"{path}: no such file") from error
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise CorruptDataset(f"{path}: not a picture that can be read: {error}") from error


def _grey(image: Any) -> Any:
    """Return a picture as one of 8-bit grey, whatever it was."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 bits or more: Pillow would clip
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds numbers that are not finite")
        whole = image.mode.startswith("I")
        top = (65535 if values.max() > 255 else 255) if whole else max(values.max(), 1e-9)
        return Image.fromarray((values.clip(0, top) * (255 / top)).astype(np.uint8))
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("L")
    colours = image.convert("RGBA")
    grey, alpha = np.asarray(colours.convert("L")), np.asarray(colours.getchannel("A"))
    ink = grey[alpha > 127]
    if len(ink) < grey.size and (not len(ink) or np.ptp(ink) <= 64):
        return Image.fromarray(alpha)  # one colour on nothing: its shape is its opacity
    background = Image.new("RGBA", image.size, "black" if np.median(ink) > 127 else "white")
    return Image.alpha_composite(background, colours).convert("L")
