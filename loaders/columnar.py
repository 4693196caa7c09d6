"""Parquet's tables as numbers, texts and arrays; pictures in them are decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from protocol.wire.words import safe_line

from .arrays import Texts
from .decoding import pixels_of, quiet
from .errors import CorruptDataset
from .places import opened
from .rows import Array
from .signs import HEAD, tell
from .tables import Table, leave_out, left_out

if TYPE_CHECKING:
    from .places import Where
    from .sources import Asked, Say

_MAGIC = b"PAR1"
#: Rows whose pictures are held packed at once.
_SOME = 1_000
#: What Hugging Face writes beside a table.
_NOTE = b"huggingface"


def read_parquet(where: Where, asked: Asked) -> Table:
    """Return the table of a file, but for the columns that are left out.

    Args:
        where: it is.
        asked: what was asked for.

    Raises:
        DatasetNotFound: there is no such file.
        CorruptDataset: it can't be read, or a column holds what can't be learned from.
    """
    with opened(where) as file:
        try:
            begins = file.read(HEAD)
            if not begins.startswith(_MAGIC):
                raise CorruptDataset(f"{where}: {tell(begins, 'a Parquet file')}")
            file.seek(0)
            with pq.ParquetFile(file) as parquet:
                return _table(where, parquet, asked)
        except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
            told = safe_line(str(error).partition("\n")[0])
            raise CorruptDataset(f"{where}: can't be read: {told}") from error


def _table(where: Where, parquet: pq.ParquetFile, asked: Asked) -> Table:
    schema = parquet.schema_arrow
    columns = tuple(schema.names)
    if len({*columns}) != len(columns):
        raise CorruptDataset(f"{where}: two of its columns have one name")
    left = left_out(columns, asked)
    pictures = [each.name for each in schema if _is_picture(each.type) and each.name not in left]
    others = [each for each in columns if each not in pictures and each not in left]
    read = parquet.read(columns=others)
    if read.num_rows != parquet.metadata.num_rows and others:
        raise CorruptDataset(
            f"{where}: {read.num_rows:,} rows where it says {parquet.metadata.num_rows:,}"
        )
    if not parquet.metadata.num_rows:
        raise CorruptDataset(f"{where}: it holds no rows")
    numeric, texts, arrays = [], {}, {}
    for name in others:
        column = read.column(name)
        kind = _storage(column.type)
        what = f"{where}: column {name!r}"
        if _is_number(kind):
            numeric.append(name)
        elif _is_text(kind):
            texts[name] = _texts(column)
        elif _is_list(kind):
            arrays[name] = _arrays(column, kind, what)
        else:
            raise CorruptDataset(
                f"{what} is of the type {safe_line(str(kind), 80)}; there are numbers, texts, lists"
                f" of numbers of one length, and pictures: {leave_out(name)} leaves it out, or make"
                " it one of these"
            )
    with quiet():
        for name in pictures:
            every = _decoded(where, parquet, name)
            arrays[name] = _stacked(every, f"{where}: column {name!r}", asked.say)
    classes = _classes(schema.metadata or {})
    return Table(
        where=str(where), columns=columns, numeric=tuple(numeric),
        numbers=_numbers([read.column(name) for name in numeric], parquet.metadata.num_rows),
        texts=texts, arrays=arrays, classes=classes,
    )  # fmt: skip


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_number(kind: pa.DataType) -> bool:
    number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(is_(kind) for is_ in (*number, pa.types.is_null))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return any(
        is_(kind) for is_ in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _is_list(kind: pa.DataType) -> bool:
    return any(
        is_(kind) for is_ in (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    )


def _is_picture(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _texts(column: pa.ChunkedArray) -> Texts:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    parts = []
    for chunk in column.chunks:
        codes = pc.fill_null(chunk.indices.cast(pa.int64()), -1).to_numpy()
        every = [*map(str, chunk.dictionary.to_pylist())]
        kept = [each for each in every if each.strip()]  # nothing, as an empty cell of CSV's
        place = {each: number for number, each in enumerate(kept)}
        numbers = np.array([*(place.get(each, -1) for each in every), -1], np.int64)
        parts.append(Texts(numbers[codes], tuple(kept)))
    return Texts.joined(parts)


def _numbers(columns: Sequence[pa.ChunkedArray], rows: int) -> Array:
    """Return columns of numbers: of bytes, if all fit and nothing is missing, else float64."""
    small = all(map(_fits_bytes, columns))
    dtype = np.dtype(np.uint8 if small else np.float64)
    if not columns:
        return np.empty((rows, 0), dtype)
    return np.stack([_flat(each, dtype) for each in columns], 1)


def _fits_bytes(column: pa.ChunkedArray) -> bool:
    if column.null_count or not pa.types.is_integer(column.type):
        return False
    if column.type == pa.uint8():
        return True
    ends = pc.min_max(column).as_py()
    return bool(ends["min"] >= 0 and ends["max"] <= 255)


def _flat(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> Array:
    kind = pa.uint8() if dtype == np.uint8 else pa.float64()
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.type != kind:
        column = column.cast(kind, safe=False)
    if column.null_count:
        column = column.fill_null(float("nan"))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _arrays(column: pa.ChunkedArray, kind: pa.DataType, what: str) -> Array:
    """Return lists of numbers of one length, maybe of such lists, as an array.

    Raises:
        CorruptDataset: they are of several lengths, or of something else.
    """
    flat: pa.Array = column.combine_chunks()
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks)
    if isinstance(flat, pa.ExtensionArray):
        flat = flat.storage
    rows, shape = len(flat), []
    while _is_list(kind):
        if flat.null_count:
            raise CorruptDataset(f"{what}: some rows have nothing")
        if pa.types.is_fixed_size_list(kind):
            length = kind.list_size
        else:
            lengths = pc.unique(flat.value_lengths()).to_pylist()
            if len(lengths) > 1:
                raise CorruptDataset(
                    f"{what} holds lists of {min(lengths)} to {max(lengths)}; all must be of one"
                    " length"
                )
            length = lengths[0] if lengths else 0
        shape.append(length)
        flat, kind = flat.flatten(), kind.value_type
    if not _is_number(kind) or flat.null_count:
        raise CorruptDataset(
            f"{what} holds lists of {safe_line(str(kind), 80)}, some of them missing;"
            " lists of numbers can be learned from"
        )
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(rows, *shape)


def _decoded(where: Where, parquet: pq.ParquetFile, name: str) -> Iterator[tuple[str, Array]]:
    """Yield every picture of a column, and what it is called."""
    row = 0
    for batch in parquet.iter_batches(_SOME, columns=[name]):
        column = batch.column(0)
        if pa.types.is_struct(column.type):
            column = column.field("bytes")
        for content in column.to_pylist():
            what = f"{where}: row {row} of column {name!r}"
            if not content:
                raise CorruptDataset(f"{what}: there is no picture, or only the name of one")
            yield what, pixels_of(content, what)
            row += 1


def _stacked(pictures: Iterable[tuple[str, Array]], name: str, say: Say) -> Array:
    """Return pictures of one size as one array; grey ones among others in colour.

    Args:
        pictures: what each is called, and its pixels.
        name: what all are called.
        say: told when some are put into colours.

    Raises:
        CorruptDataset: they are of several sizes, or of none.
    """
    every: list[Array] = []
    first = ""
    for what, picture in pictures:
        first = first or what
        every.append(picture)
        if picture.shape[:2] != every[0].shape[:2]:
            raise CorruptDataset(
                f"{what} has {picture.shape[0]} x {picture.shape[1]} pixels, {first} has"
                f" {every[0].shape[0]} x {every[0].shape[1]}; all must be of one size"
            )
    if not every:
        raise CorruptDataset(f"{name} holds no pictures")
    grey = [picture.ndim == 2 for picture in every]
    if any(grey) and not all(grey):
        say(f"{name}: {sum(grey):,} of {len(grey):,} pictures are grey; they are put into colours")
        every = [np.repeat(each[..., None], 3, 2) if each.ndim == 2 else each for each in every]
    return np.stack(every)


def _classes(notes: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Return the names of classes that Hugging Face's note has, by column."""
    try:
        features = json.loads(notes[_NOTE])["info"]["features"]
        return {
            name: [*map(str, each["names"])]
            for name, each in features.items()
            if isinstance(each, dict) and isinstance(each.get("names"), list)
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
