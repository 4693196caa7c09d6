"""Sources made of arrays, wherever these are from: what a row is, and which classes there are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.wire.words import safe_line

from .errors import CorruptDataset, LoaderError
from .naming import TEST, TRAIN
from .rows import Array, ArraySource, Field, Form, Labels, Numbered, can_be_told

if TYPE_CHECKING:
    from .sources import Say

#: Classes that labels may be of; numbers that name more are no classes.
MOST_CLASSES = 1 << 20
#: A row of numbers is a picture for certain from this height and width on.
LEAST_SIDE = 8
#: Channels of a picture: grey, or red, green and blue.
CHANNELS = (1, 3)
_IMAGE, _ROW = "image", "row"
#: From here on float64 has not all whole numbers.
_EXACT = 1 << 53
_PIXEL = 255
_TOLD = 12


class Texts(NamedTuple):
    """Texts, one a row, each kept once.

    Args:
        codes: of each row: its text's number, int64 (n,); -1 where there is none.
        values: the texts.
    """

    codes: npt.NDArray[np.int64]
    values: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> Texts:
        """Return texts; None and empty ones are missing."""
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(each, len(numbers)) if each else -1 for each in texts]
        return cls(np.array(codes, np.int64), tuple(numbers))

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """Return the texts of several parts, one after the other."""
        numbers: dict[str, int] = {}
        codes = []
        for part in parts:
            # The last is that of what is missing: -1 finds it.
            mine = [*(numbers.setdefault(each, len(numbers)) for each in part.values), -1]
            codes.append(np.array(mine, np.int64)[part.codes])
        return cls(np.concatenate(codes), tuple(numbers))


class Given(NamedTuple):
    """The rows of a split and their labels, as they are given.

    Args:
        rows: an array, (n, ...).
        labels: an array, (n, ...), or texts.
        rows_name, labels_name: what they are called in a sentence.
    """

    rows: Array
    labels: Array | Texts
    rows_name: str
    labels_name: str


def from_arrays(
    x_train: npt.ArrayLike, y_train: npt.ArrayLike, x_test: npt.ArrayLike | None = None,
    y_test: npt.ArrayLike | None = None, *, classes: Sequence[str] | None = None,
    name: str = "arrays",
) -> ArraySource:  # fmt: skip
    """Return a source whose rows are arrays of a program.

    Args:
        x_train: pictures, (n, height, width), (n, height, width, channels) or (n, channels,
            height, width) with 1 or 3 channels, which are put last; or a table, (n, columns),
            which is made float64, and whose columns keep their names if it is a data frame. A
            table of uint8 with 64, 81, ... 784, ... columns is square pictures. Whole numbers from
            0 to 255 are made uint8 in pictures; other types are kept. They are not copied where
            nothing is to be changed: don't change them afterwards.
        y_train: their classes: whole numbers or texts, (n,) or (n, 1), or one-hot, (n, classes).
        x_test, y_test: the same of the test set; None: there is none.
        classes: names of the classes, where labels are their numbers; None: they are called as
            the labels say, and are numbered in order.
        name: what people call it.

    Raises:
        CorruptDataset: they don't fit together, or can't be rows and classes.
        LoaderError: one of x_test and y_test is missing.
    """
    if (x_test is None) != (y_test is None):
        raise LoaderError(f"{name}: x_test and y_test are given together, or neither")
    splits = {TRAIN: Given(array_of(x_train), array_of(y_train), "x_train", "y_train")}
    if x_test is not None and y_test is not None:
        splits[TEST] = Given(array_of(x_test), array_of(y_test), "x_test", "y_test")
    columns = tuple(map(str, getattr(x_train, "columns", ())))
    return source_of(name, splits, classes=classes, columns=columns)


def from_torch(
    train: Any, test: Any = None, *, classes: Sequence[str] | None = None, name: str = "torch"
) -> ArraySource:
    """Return a source of what torch's data sets hold; each row is asked for once, in order.

    Args:
        train: a `torch.utils.data.Dataset` (or whatever has rows, or yields them) of pairs: a
            picture or row, as a tensor, PIL's image or an array, and its label. What torchvision's
            `ToTensor` makes of a picture, float32 from 0 to 1, stays that; channels, which torch
            has first, are put last, and one alone is left out: (1, 28, 28) becomes (28, 28).
        test: the same of the test set; None: there is none.
        classes: names of the classes; None: the training set's own `classes`, if labels are
            numbers and it has some, else as the labels say.
        name: what people call it.

    Raises:
        CorruptDataset: rows are of several shapes, or can't be rows and classes.
    """
    splits = {TRAIN: _items(train, name, TRAIN)}
    if test is not None:
        splits[TEST] = _items(test, name, TEST)
    own = getattr(train, "classes", None)
    if classes is None and isinstance(own, list | tuple) and _are_numbers(splits.values()):
        classes = [str(each) for each in own]
    return source_of(name, splits, classes=classes)


def _are_numbers(given: Iterable[Given]) -> bool:
    return all(isinstance(y, np.ndarray) and y.dtype.kind in "biu" for _, y, *_ in given)


def _items(dataset: Any, name: str, split: str) -> Given:
    """Return all rows of one of torch's data sets."""
    indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    found = (dataset[k] for k in range(len(dataset))) if indexed else iter(dataset)
    rows: list[Array] = []
    labels: list[Any] = []
    for item in found:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise CorruptDataset(
                f"{name}: item {len(rows)} of the {split} set is a {type(item).__name__}, not a"
                " pair of a row and its label"
            )
        rows.append(_pixels(item[0]))
        labels.append(item[1] if isinstance(item[1], str) else np.asarray(item[1]))
        if rows[-1].shape != rows[0].shape:
            raise CorruptDataset(
                f"{name}: item {len(rows) - 1} of the {split} set is {_sizes(rows[-1].shape)}, the"
                f" first is {_sizes(rows[0].shape)}; all must be of one size"
            )
    if not rows:
        raise CorruptDataset(f"{name}: the {split} set holds no rows")
    return Given(
        np.stack(rows), np.array(labels), f"the {split} set's pictures", f"the {split} set's labels"
    )


def _pixels(item: Any) -> Array:
    """Return a row as an array; a palette's picture in its colours."""
    if hasattr(item, "getbands"):
        from .decoding import opaque

        return np.asarray(opaque(item))
    return np.asarray(item)


def array_of(given: Any) -> Array:
    """Return an array of whatever numpy takes for one; of texts of any kind, those of its own."""
    array = np.asarray(given)
    if array.dtype.kind == "O" and all(isinstance(each, str) for each in array.flat):
        return array.astype(str)
    return array.astype(str) if array.dtype.kind == "T" else array


def source_of(
    name: str, splits: Mapping[str, Given], *, say: Say = str,
    classes: Sequence[str] | None = None, columns: Sequence[str] = (),
    absent: Mapping[str, str] = MappingProxyType({}),
) -> ArraySource:  # fmt: skip
    """Return a source of whatever arrays.

    Args:
        name: of the source; every error begins with it.
        splits: rows and labels of each.
        say: told how arrays are taken, where they could be taken otherwise.
        classes: their names, where labels are numbers of these; None: as the labels say.
        columns: names of a table's columns; none: they have none.
        absent: why a split is not there, by its name.

    Raises:
        CorruptDataset: they don't fit together, or can't be rows and classes.
    """
    if not splits:
        raise CorruptDataset(f"{name}: there is neither a training set nor a test set")
    try:
        _fit(splits)
        names, labels = _classes(splits, classes)
        field, rows = _rows(splits, say)
    except CorruptDataset as error:
        raise CorruptDataset(f"{name}: {error}") from error
    first = next(iter(rows.values()))
    named = tuple(map(safe_line, columns))
    if field != _ROW or len(named) != first.shape[1] or not can_be_told(named):
        named = ()
    form = Form({field: Field(first.dtype.name, first.shape[1:], named)}, names)
    arrays = {split: ({field: _locked(array)}, labels[split]) for split, array in rows.items()}
    return ArraySource(name, form, arrays, absent)


def _locked(array: Array) -> Array:
    """Return an array that whoever is handed it can't change."""
    view = array.view()
    view.flags.writeable = False
    return view


def _fit(splits: Mapping[str, Given]) -> None:
    """Raise unless each split's rows and labels belong together, and are some."""
    for rows, labels, rows_name, labels_name in splits.values():
        count = len(labels.codes) if isinstance(labels, Texts) else _length(labels, labels_name)
        if _length(rows, rows_name) != count:
            raise CorruptDataset(
                f"{rows_name} holds {len(rows):,} rows, {labels_name} holds {count:,} labels"
            )
        if not count:
            raise CorruptDataset(f"{rows_name} holds no rows")


def _length(array: Array, name: str) -> int:
    if not array.ndim:
        raise CorruptDataset(f"{name} is a number alone, not an array of them")
    return len(array)


# What a row is.


def _rows(splits: Mapping[str, Given], say: Say) -> tuple[str, dict[str, Array]]:
    """Return what the field of the rows is called, and the arrays of each split.

    Raises:
        CorruptDataset: they are none that can be rows.
    """
    given = {each.rows_name: each.rows for each in splits.values()}
    shape = _one_shape(given)
    first = next(iter(given))
    arrays = {split: _plain(each.rows, each.rows_name) for split, each in splits.items()}
    if len(shape) == 1:
        side = _side(arrays.values(), shape[0])
        if not side:
            return _ROW, {split: _table(array) for split, array in arrays.items()}
        say(f"{first}: rows of {shape[0]:,} bytes are taken as pictures, {side} x {side}")
        arrays = {s: array.reshape(-1, side, side) for s, array in arrays.items()}
    elif len(shape) == 3:
        arrays = {split: _channels_last(array, first) for split, array in arrays.items()}
        if next(iter(arrays.values())).shape[1:3] != shape[:2]:
            say(f"{first}: its channels, {shape[0]}, stand before height and width; put behind")
    elif len(shape) != 2:
        raise CorruptDataset(
            f"{first} has the shape {_sizes(given[first].shape)}; pictures are (n, height, width)"
            " or with 1 or 3 channels behind or before height and width, a table is (n, columns)"
        )
    arrays = _narrowed(arrays, first, say)
    types = {array.dtype.name for array in arrays.values()}
    if len(types) > 1:
        raise CorruptDataset(
            f"{' and '.join(given)} are of the types {' and '.join(sorted(types))}; both must be"
            " of one"
        )
    return _IMAGE, arrays


def _one_shape(given: Mapping[str, Array]) -> tuple[int, ...]:
    shapes = {name: array.shape[1:] for name, array in given.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"those of {name} are {_sizes(size)}" for name, size in shapes.items())
        raise CorruptDataset(f"rows must be of one size: {told}")
    shape = next(iter(shapes.values()))
    if 0 in shape:
        raise CorruptDataset(f"{next(iter(given))} has rows of no numbers: {_sizes(shape)}")
    return shape


def _plain(array: Array, name: str) -> Array:
    """Return an array of numbers as this machine has them.

    Raises:
        CorruptDataset: it is of something else.
    """
    if array.dtype.kind not in "biuf":
        raise CorruptDataset(
            f"{name} is of the type {_type(array)}; rows are made of numbers, or of true and false"
        )
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    dtype = np.dtype(np.float64) if wide else array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype)


def _type(array: Array) -> str:
    return "object" if array.dtype.hasobject else safe_line(str(array.dtype), 80)


def _side(arrays: Iterable[Array], columns: int) -> int:
    """Return the height and width of square pictures in rows of bytes; 0 if it is not certain."""
    side = math.isqrt(columns)
    if side * side != columns or side < LEAST_SIDE:
        return 0
    bytes_ = all(array.dtype == np.uint8 for array in arrays)
    # Zeros and ones are flags as well.
    return side if bytes_ and any(array.max(initial=0) > 1 for array in arrays) else 0


def _table(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float64)


def _channels_last(array: Array, name: str) -> Array:
    """Return pictures with their channels behind; one channel alone is left out."""
    _, before, _, behind = array.shape
    if behind not in CHANNELS:
        if before not in CHANNELS:
            raise CorruptDataset(
                f"{name} has the shape {_sizes(array.shape)}, and neither {before} nor {behind} can"
                " be its channels: there are 1, or 3 (leave out a fourth, of opacity)"
            )
        array = np.moveaxis(array, 1, 3)
    return np.ascontiguousarray(array[..., 0] if array.shape[3] == 1 else array)


def _narrowed(arrays: dict[str, Array], name: str, say: Say) -> dict[str, Array]:
    """Return pictures as bytes where their whole numbers are; else as they are."""
    wide = [array for array in arrays.values() if array.dtype.kind in "iu" and array.itemsize > 1]
    wide += [array for array in arrays.values() if array.dtype == np.int8]
    for array in wide:
        if array.min() < 0 or array.max() > _PIXEL:
            return arrays
    if wide:
        say(f"{name}: its {wide[0].dtype.name} from 0 to 255 are made uint8")
    return {
        split: array.astype(np.uint8, copy=False) if array.dtype.kind in "iu" else array
        for split, array in arrays.items()
    }


# Which classes there are.


def _classes(
    splits: Mapping[str, Given], classes: Sequence[str] | None
) -> tuple[Sequence[str], dict[str, Labels]]:
    """Return the names of the classes of all splits together, and the labels of each.

    Raises:
        CorruptDataset: labels are missing, or name no classes.
    """
    least = 0
    told: dict[str, Labels | Texts] = {}
    for split, each in splits.items():
        told[split], hot = _labels(each)
        least = max(least, hot)
    if classes is not None:
        return _as_named([*map(str, classes)], told, splits)
    if any(isinstance(each, Texts) for each in told.values()):
        return _of_texts({s: y if isinstance(y, Texts) else _as_texts(y) for s, y in told.items()})
    numbers = {split: y for split, y in told.items() if not isinstance(y, Texts)}
    there = np.unique(np.concatenate([_different(y) for y in numbers.values()]))
    if least:  # one-hot: those without a row are classes, too
        there = np.arange(least)
    _bounded(len(there))
    if there[0] == 0 and there[-1] == len(there) - 1:
        return Numbered(len(there)), numbers
    names = tuple(map(str, there.tolist()))
    return names, {split: np.searchsorted(there, y) for split, y in numbers.items()}


def _different(labels: Labels) -> Labels:
    """Return which numbers there are; where they are close to each other, without sorting."""
    low, high = labels.min(), labels.max()
    near = high - low < MOST_CLASSES
    there: Labels = np.flatnonzero(np.bincount(labels - low)) + low if near else np.unique(labels)
    return there


def _bounded(count: int) -> None:
    if count > MOST_CLASSES:
        raise CorruptDataset(
            f"its labels are {count:,} different ones; there may be {MOST_CLASSES:,} classes: are"
            " they classes?"
        )


def _of_texts(told: Mapping[str, Texts]) -> tuple[Sequence[str], dict[str, Labels]]:
    every = {text for each in told.values() for text in each.values}
    _bounded(len(every))
    whole = all(each.removeprefix("-").isdecimal() and each == str(int(each)) for each in every)
    names = tuple(sorted(every, key=int if whole else str))
    place = {name: number for number, name in enumerate(names)}
    labels = {
        split: np.array([place[text] for text in each.values], np.int64)[each.codes]
        for split, each in told.items()
    }
    return tidy(names), labels


def tidy(names: Sequence[str]) -> Sequence[str]:
    """Return the names of classes; those that are called as they are numbered have none."""
    return Numbered(len(names)) if Numbered(len(names)) == tuple(names) else tuple(names)


def _as_texts(labels: Labels) -> Texts:
    values, codes = np.unique(labels, return_inverse=True)
    return Texts(codes.astype(np.int64), tuple(map(str, values.tolist())))


def _as_named(
    names: list[str], told: Mapping[str, Labels | Texts], splits: Mapping[str, Given]
) -> tuple[Sequence[str], dict[str, Labels]]:
    """Return labels as numbers of classes whose names are given."""
    if len(set(names)) != len(names):
        raise CorruptDataset(f"two of the {len(names)} classes have one name")
    place = {name: number for number, name in enumerate(names)}
    labels: dict[str, Labels] = {}
    for split, y in told.items():
        where = splits[split].labels_name
        if isinstance(y, Texts):
            unknown = [text for text in y.values if text not in place]
            if unknown:
                raise CorruptDataset(f"{where} has {safe_line(unknown[0])!r}, which is no class")
            labels[split] = np.array([place[text] for text in y.values], np.int64)[y.codes]
        elif y.min() < 0 or y.max() >= len(names):
            raise CorruptDataset(
                f"{where} has labels from {y.min()} to {y.max()}, and there are names for"
                f" {len(names)} classes"
            )
        else:
            labels[split] = y
    return tidy(names), labels


def _labels(given: Given) -> tuple[Labels | Texts, int]:
    """Return labels, one a row; and how many classes they are of for certain, where one-hot.

    Raises:
        CorruptDataset: they are none.
    """
    labels, name = given.labels, given.labels_name
    hot = 0
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind not in "biufUS":
            raise CorruptDataset(
                f"{name} is of the type {_type(labels)}; labels are whole numbers or texts"
            )
        if 0 in labels.shape[1:]:
            raise CorruptDataset(f"{name} has labels of no numbers: {_sizes(labels.shape)}")
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 2 and labels.dtype.kind not in "US":
            labels, hot = _from_one_hot(labels, name), labels.shape[1]
        if labels.ndim != 1:
            raise CorruptDataset(
                f"{name} has the shape {_sizes(labels.shape)}; labels are one a row, (n,) or"
                " (n, 1), or one-hot, (n, classes)"
            )
        if labels.dtype.kind in "iuf":
            return _whole(labels, name), hot
        labels = Texts.of(_texts(labels, name))
    if labels.codes.min(initial=0) < 0:
        missing = int(np.argmin(labels.codes))
        raise CorruptDataset(f"{name}: row {missing} has no label")
    return labels, hot


def _texts(labels: Array, name: str) -> list[str]:
    if labels.dtype.kind != "S":
        return labels.astype(str).tolist()  # type: ignore[no-any-return]
    try:
        return [each.decode() for each in labels.tolist()]
    except UnicodeDecodeError as error:
        raise CorruptDataset(f"{name}: its bytes are no text in UTF-8: {error}") from error


def _whole(labels: Array, name: str) -> Labels:
    """Return numbers that name classes, int64."""
    if labels.dtype.kind == "f":
        finite = np.isfinite(labels)
        if not finite.all():
            row = int(np.argmin(finite))
            raise CorruptDataset(f"{name}: row {row} has no label, but {labels[row]}")
        if (labels % 1).any():
            row = int(np.argmax(labels % 1 != 0))
            raise CorruptDataset(
                f"{name}: row {row} has the label {labels[row]:g}; classes are named by whole"
                " numbers or texts"
            )
    low, high = labels.min(), labels.max()
    if low < -(1 << 62) or high > 1 << 62:
        raise CorruptDataset(f"{name}: labels from {low} to {high}; these are no classes")
    if labels.dtype.kind == "f" and max(abs(low), abs(high)) >= _EXACT:
        raise CorruptDataset(
            f"{name}: labels from {low:g} to {high:g} among numbers that are kept as float64, which"
            " has not all of them: two may be one; name classes otherwise"
        )
    return labels.astype(np.int64)


def _from_one_hot(labels: Array, name: str) -> Labels:
    """Return the class of each row of which one number is 1 and all others are 0."""
    odd = (labels != 0).sum(1) != 1
    odd |= labels.max(1) != 1
    if odd.any():
        row = int(np.argmax(odd))
        values = ", ".join(f"{each:g}" for each in labels[row, :_TOLD].astype(float))
        raise CorruptDataset(
            f"{name} has the shape {_sizes(labels.shape)} and is not one-hot: row {row} holds"
            f" {values}{', ...' if labels.shape[1] > _TOLD else ''}; labels are one a row, or"
            " one-hot"
        )
    classes: Labels = labels.argmax(1).astype(np.int64)
    return classes


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "alone"
