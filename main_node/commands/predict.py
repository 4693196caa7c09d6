"""`mnist-predict`: use a merged model."""

from __future__ import annotations

import json as json_
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from console.exits import Exit, end, tell_end
from console.options import Place, homed
from loaders.decoding import MOST_PIXELS

from .fetched import at_hand
from .given import (
    check_form,
    columns_of,
    learner_of,
    load_model,
    reading_of,
    rows_for,
    scored,
    with_code,
)
from .pictures import Picture, colour_picture, grey_picture, pictures_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learning.algebraic.model import AlgebraicModel
    from learning.model import Model
    from loaders import Rows

#: Channels of a picture: red, green, blue; and how opaque it is.
COLOURS, OPAQUE = 3, 4
#: Rows of --data that are explained, unless --limit says how many.
EXPLAINED = 10
#: Pictures that are read and predicted together.
TOGETHER = 500
#: An answer that is less likely than this is no answer. Of MNIST's test set that is 1 image in 100,
#: and half of those that are mistaken; of noise nearly all; of letters three in ten.
SURE = 0.7
#: How files of rows end: that is all that is known of one before it is read.
TABLES = re.compile(r"\.((csv|tsv|tab|psv)(\.gz)?|parquet|pq)$", re.IGNORECASE)
BLANK, UNKNOWN = "blank: nothing is on it", "looks like nothing that the model knows"

_end = partial(end, "mnist-predict")
_say = partial(click.echo, err=True)


@click.command(context_settings={"show_default": True})
@click.argument("model", callback=homed)
@click.argument("images", nargs=-1, type=Place(), metavar="[IMAGE]...")
@click.option(
    "--data", metavar="SOURCE", callback=homed,
    help="Say how good the model is on a data set, named as mnist-main has it.",
)  # fmt: skip
@click.option(
    "--split", default="test", type=click.Choice(["test", "train"]), help="Which part of --data."
)
@click.option("--label", metavar="COLUMN", help="Of a table, as --data: what says the class.")
@click.option(
    "--learner", metavar="LEARNER",
    help="Of a model of your own net or learner: FILE.py:NAME or package.module:NAME; it is run.",
)  # fmt: skip
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="ROWS",
    help="Of --data, the first so many rows only.",
)
@click.option(
    "--whole", is_flag=True,
    help="Only scale pictures; don't look for what is drawn on them, to centre it as MNIST does.",
)  # fmt: skip
@click.option(
    "--explain",
    is_flag=True,
    help="Algebraic models: show the atoms that were missed; of --data, for the first 10 rows.",
)
@click.option(
    "--export", type=click.Choice(["json"]),
    help="Algebraic models: print the strict atoms in the form of AML-IP's tutorial, and only"
    " that.",
)  # fmt: skip
@click.option("--json", is_flag=True, help="Print one JSON object, and only that.")
@click.version_option(package_name="mnist-merge", prog_name="mnist-predict")
def main(
    model: str, images: tuple[Path, ...], data: str | None, split: str, limit: int | None,
    label: str | None, learner: str | None, whole: bool, explain: bool, export: str | None,
    json: bool,
) -> None:  # fmt: skip
    """Say what a MODEL sees in each IMAGE, or row, or how good it is on a data set (--data).

    MODEL is the model.safetensors of a run, or the run's directory, or where one was published:
    s3://bucket/prefix, https://host/model.safetensors. An IMAGE may be a folder of them. It may be
    of any size: it is scaled to the model's; for a model of grey images, it is made grey, light on
    dark, and unless it is of the model's size already, what is drawn on it is found and centred as
    MNIST's digits are. In place of an IMAGE, a table (CSV, Parquet) is of rows whose classes nobody
    has to know: its columns are told by their names.
    """
    from learning import LearningError
    from loaders import LoaderError

    if export is None and bool(images) == bool(data):
        raise click.UsageError("name images, or a data set with --data, and not both")
    if export is not None and (images or data or explain):
        raise click.UsageError("--export prints the model; it takes no images, --data or --explain")
    if whole and not images:
        raise click.UsageError("--whole is about images; there are none")
    try:
        with at_hand(model) as path:
            if export is not None:
                return _export(path)
            if explain and data:
                return _explain_rows(path, data, split, limit or EXPLAINED, label, json)
            if explain:
                return _explain(path, _named(images), whole, json)
            read = with_code(path, load_model(path), learner, _warn)
        if data:
            result, classes = _try_data(read, data, split, limit, label)
            return click.echo(json_.dumps(result)) if json else _print(result, read, classes)
        tables = [each for each in images if _is_table(read, each)]
        if tables and len(tables) < len(images):
            raise click.UsageError("name pictures, or tables, and not both")
        if tables:
            return _tell_rows(read, tables, json)
        _tell_images(read, _named(images), whole, json)
    except LearningError as error:
        _end(Exit.USAGE, str(error))
    except LoaderError as error:
        _end(Exit.DATA, str(error))
    except MemoryError:
        _end(Exit.USAGE, f"{model}: a model that there is not enough memory for")
    return None


def _warn(text: str) -> None:
    _say(f"mnist-predict: {text}")


def _named(images: tuple[Path, ...]) -> list[Path]:
    """Return the pictures that are named, those of folders among them; each once."""
    return list(dict.fromkeys(each for image in images for each in pictures_in(image)))


def _algebraic(path: Path) -> tuple[Model, AlgebraicModel]:
    """Return the algebraic model in a file: as it says what it is for, and its atoms.

    Raises:
        ModelError: it is of another learner.
    """
    from learning import ModelError
    from learning.algebraic.model import from_arrays
    from learning.forms import Table, taken

    model = load_model(path)
    if model.learner != "algebraic":
        raise ModelError(f"{path}: a {model.learner} model; only an algebraic one can be read so")
    found, classes = taken(model.form, model.learner), model.form.classes
    columns = found.columns if isinstance(found, Table) else ()
    made = from_arrays(model.arrays, names=columns)
    if made.classes != len(classes) or not made.is_of(model.form):
        raise ModelError(f"{path}: its atoms are of other data than it says")
    return model, made


def _export(path: Path) -> None:
    from learning.algebraic.alma import tutorial_form

    click.echo(json_.dumps(tutorial_form(_algebraic(path)[1])))


def _explain(path: Path, images: list[Path], whole: bool, json: bool) -> None:
    from learning.algebraic.telling import explain

    model, atoms = _algebraic(path)
    names = list(model.form.classes)
    told: dict[str, Any] = {}
    damaged = []
    for image, picture in _read_all(images, _reader(model, whole)):
        if isinstance(picture, Picture):
            doubt = BLANK if picture.blank else None
            told[str(image)] = {**explain(atoms, picture.pixels, names), "doubt": doubt}
        else:
            damaged.append(picture)
    _tell_stories(told, names, json)
    _end_of(damaged)


def _explain_rows(
    path: Path, source: str, split: str, limit: int, label: str | None, json: bool
) -> None:
    """Say why the first rows of some data are taken for what they are."""
    from learning.algebraic.telling import explain
    from learning.forms import only_field

    model, atoms = _algebraic(path)
    rows = rows_for([model], source, split, limit, label, _say)
    names = list(model.form.classes)
    told = {
        f"row {number} of {split}": {**explain(atoms, row, names), "truth": int(truth)}
        for number, (row, truth) in enumerate(zip(only_field(rows), rows.labels, strict=True))
    }
    _tell_stories(told, names, json)


def _tell_stories(told: dict[str, Any], names: list[str], json: bool) -> None:
    """Print why pictures or rows, by name, are taken for what they are."""
    from protocol.wire.words import safe_line

    if json and told:
        click.echo(json_.dumps(told))
    for image_name, story in ({} if json else told).items():
        doubt = f"  ({story['doubt']})" if story.get("doubt") else ""
        click.echo(f"{safe_line(names[story['label']])}  {safe_line(image_name)}{doubt}")
        for class_ in story["missed"][:3]:
            click.echo(
                f"   misses {class_['share']:.2%} of {safe_line(class_['name'])} by weight:"
                f" {class_['missed']:,} of {class_['atoms']:,} atoms"
            )
            for atom in class_["first"]:
                click.echo(f"      {safe_line(atom)}")


def _end_of(damaged: Sequence[Exception]) -> None:
    """Say which pictures could not be read, and end where there are any."""
    for error in damaged:
        tell_end(Exit.DATA, str(error), "mnist-predict")
    if damaged:
        sys.exit(Exit.DATA)


def _print(result: dict[str, Any], model: Model, classes: Sequence[str]) -> None:
    from rich.console import Console

    from protocol.wire.words import plural

    from ..views.ending.summary import print_confusion

    kind = "row" if model.form.image is None else "image"
    print_confusion(Console(), result["confusion"], classes, "all of them: --json")
    click.echo(
        f"accuracy {result['accuracy']:.2%} (macro F1 {result['macro_f1']:.4f})"
        f" on {plural(result['examples'], kind)}"
    )


def _try_data(
    model: Model, source: str, split: str, limit: int | None, label: str | None
) -> tuple[dict[str, Any], Sequence[str]]:
    """Return how good a model is on some data, and the names of the classes that are there."""
    rows = rows_for([model], source, split, limit, label, _say)
    classes = max(model.form.classes, rows.form.classes, key=len)
    scores = scored(learner_of(model), model.arrays, rows, len(classes))
    result = {
        "accuracy": scores.accuracy, "macro_f1": scores.macro_f1,
        "confusion": scores.confusion, "examples": len(rows),
    }  # fmt: skip
    return result, classes


class _Seen(NamedTuple):
    """What a model sees in a picture.

    Args:
        label: number of the class.
        probability: of it; None: the learner tells none.
        blank: whether nothing is on the picture.
    """

    label: int
    probability: float | None
    blank: bool

    @property
    def doubt(self) -> str:
        """Why the answer is none, in words; empty: it is one."""
        if self.blank:
            return BLANK
        return UNKNOWN if self.probability is not None and self.probability < SURE else ""


def _tell_images(model: Model, images: list[Path], whole: bool, json: bool) -> None:
    """Say what a model sees in pictures, and which can't be read; with those, end."""
    from protocol.wire.words import safe_line

    seen: dict[str, _Seen] = {}
    damaged: list[Exception] = []
    for first in range(0, len(images), TOGETHER):
        some, bad = _try_images(model, images[first : first + TOGETHER], whole)
        seen |= some
        damaged += bad
        for path, each in ({} if json else some).items():
            sure = "" if each.probability is None else f"{each.probability:7.2%}  "
            doubt = f"  ({each.doubt})" if each.doubt else ""
            name = safe_line(model.form.classes[each.label])
            click.echo(f"{name}  {sure}{safe_line(path)}{doubt}")
    if json and seen:
        click.echo(json_.dumps(_as_values(seen, model.form.classes)))
    _end_of(damaged)


def _is_table(model: Model, path: Path) -> bool:
    """Whether a file is one of rows: of a model of tables every file is."""
    return model.form.image is None or bool(TABLES.search(path.name))


def _tell_rows(model: Model, tables: Sequence[Path], json: bool) -> None:
    """Say which class each row of some tables is of."""
    from loaders import rows_of
    from loaders.columns import in_columns
    from loaders.sources import open_rows
    from protocol.wire.words import safe_line

    columns, (reading, _) = columns_of(model), reading_of(model)
    told: dict[str, list[dict[str, Any]]] = {}
    for path in tables:
        found = in_columns(open_rows(path, columns, _say, reading), model.form.fields)
        rows = rows_of(found, "all")
        check_form(model, rows)
        answers = told[str(path)] = []
        for number, (label, probability) in enumerate(_answers(model, rows), 1):
            name = model.form.classes[label]
            answers.append({"label": label, "class": name, "probability": probability})
            if not json:
                sure = "" if probability is None else f"{probability:7.2%}  "
                click.echo(f"{safe_line(name)}  {sure}{safe_line(str(path))} row {number:,}")
    if json:
        click.echo(json_.dumps({"rows": told}))


def _as_values(seen: dict[str, _Seen], classes: Sequence[str]) -> dict[str, Any]:
    """Return labels by picture, as ever, and beside them what more there is to say of each."""
    more = {
        path: {
            "label": each.label, "class": classes[each.label], "probability": each.probability,
            "doubt": each.doubt or None,
        }
        for path, each in seen.items()
    }  # fmt: skip
    return {"pictures": more, **{path: each.label for path, each in seen.items()}}


def _try_images(
    model: Model, images: Sequence[Path], whole: bool
) -> tuple[dict[str, _Seen], list[Exception]]:
    """Return what a model sees in pictures, by path, and what is wrong with the others."""
    import numpy as np

    from loaders import ArraySource, Rows

    pictures: dict[str, Picture] = {}
    damaged: list[Exception] = []
    for image, picture in _read_all(images, _reader(model, whole)):
        if isinstance(picture, Picture):
            pictures[str(image)] = picture
        else:
            damaged.append(picture)
    if not pictures:
        return {}, damaged
    (name,) = model.form.fields
    fields = {name: np.stack([each.pixels for each in pictures.values()])}
    nobody_knows = np.zeros(len(pictures), np.int64)
    source = ArraySource("pictures", model.form, {"all": (fields, nobody_knows)})
    answers = _answers(model, Rows(source, "all"))
    return {
        path: _Seen(*answer, blank=picture.blank)
        for (path, picture), answer in zip(pictures.items(), answers, strict=True)
    }, damaged


def _answers(model: Model, rows: Rows) -> list[tuple[int, float | None]]:
    """Return the class of each row, and its probability where the learner tells one.

    Raises:
        ModelError: the model has other classes than it says.
    """
    import numpy as np

    from learning import ModelError
    from learning.errors import told_of

    learner = learner_of(model)
    with told_of(f"learner {model.learner!r}"):
        likely = learner.probabilities(model.arrays, rows)
        labels = (
            np.zeros(0, np.int64) if likely is not None else learner.predict(model.arrays, rows)
        )
    if likely is None:
        sure: list[float | None] = [None] * len(labels)
    else:
        likely = np.nan_to_num(likely)  # of weights whose sums overflow: of nothing it is sure
        labels = likely.argmax(axis=1)
        sure = [float(each) for each in likely.max(axis=1)]
    classes = len(model.form.classes)
    if labels.max() >= classes or (likely is not None and likely.shape[1] != classes):
        raise ModelError(f"the model says that it has {classes:,} classes; it has others")
    return list(zip(map(int, labels), sure, strict=True))


def _read_all(
    images: Sequence[Path], read: Callable[[Path], Picture]
) -> Iterator[tuple[Path, Picture | Exception]]:
    """Yield each picture, or what is wrong with it."""
    from loaders import LoaderError

    for image in images:
        try:
            yield image, read(image)
        except LoaderError as error:
            yield image, error


def _reader(model: Model, whole: bool) -> Callable[[Path], Picture]:
    """Return what reads a picture as the model takes it.

    Raises:
        ModelError: it takes no pictures.
    """
    from learning import ModelError

    image = model.form.image
    if image is not None and image.dtype == "uint8":
        height, width = image.shape[:2]
        if not 0 < height * width <= MOST_PIXELS:
            raise ModelError(f"the model is for images of {height:,} x {width:,}; no picture is")
        if len(image.shape) == 2:
            return partial(grey_picture, shape=(height, width), whole=whole)
        if image.shape[2] == 1:
            return partial(_with_axis, shape=(height, width), whole=whole)
        if image.shape[2] in (COLOURS, OPAQUE):
            opaque = image.shape[2] == OPAQUE
            return partial(colour_picture, shape=(height, width), opaque=opaque)
    raise ModelError(
        f"the model is for rows of {model.form.tell()}, which no picture is; name a table, or a"
        " data set with --data"
    )


def _with_axis(path: Path, shape: tuple[int, int], whole: bool) -> Picture:
    """Return a grey picture whose one channel has an axis."""
    read = grey_picture(path, shape, whole=whole)
    return read._replace(pixels=read.pixels[..., None])


def read_image(path: Path, shape: tuple[int, int]) -> Any:
    """Return a picture as MNIST would show it: uint8, of this height and width, light on dark.

    Raises:
        DatasetNotFound: no such file.
        CorruptDataset: it is no picture.
    """
    return grey_picture(path, shape).pixels
