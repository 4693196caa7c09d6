"""Tables in text, cells between commas or the like, as numbers and texts.

Numpy reads numbers, some megabytes at a time; from the first cell that is none, or is quoted,
Python's `csv` reads on.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from protocol.wire.words import safe_line

from .arrays import Texts
from .errors import CorruptDataset
from .places import opened
from .rows import Array
from .signs import BETWEEN_TOLD, GZIP, HEAD, sign
from .tables import LABELS, Table

if TYPE_CHECKING:
    from .places import Where

#: What may stand between cells; of two that would do the first is taken.
BETWEEN = (",", ";", "\t", "|")
#: Cells that say that nothing is known.
MISSING = frozenset(
    ["", "?", "na", "n/a", "#n/a", "nan", "-nan", "<na>", "null", "none", "nil", "missing"]
)
#: Looked at to tell how a table is written; read at once; a line that is longer is none.
_SAMPLE, _BLOCK, _LONGEST = 1 << 16, 1 << 22, 1 << 26
#: Cells that are made numbers at once; lines of a sample.
_CELLS, _LINES = 1 << 15, 100
#: So many whole numbers from 0 on are those of columns, and no row.
_NUMBERED = 8
#: Types of numbers, each of which takes all of those before it.
_TYPES = (np.uint8, np.int64, np.float64)
#: What is in text that has whole numbers alone.
_WHOLE = b"0123456789+-,;\t| \r\n"
#: How numbers are written where a comma stands in them.
_COMMA = re.compile(r"\s*[-+]?\d+(,\d+)?([eE][-+]?\d+)?\s*")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_csv(where: Where, texts: Collection[str] = ()) -> Table:
    """Return the table of a file.

    Args:
        where: it is; packed by gzip or not.
        texts: columns that hold texts, whatever they look like here.

    Raises:
        DatasetNotFound: there is no such file.
        CorruptDataset: it can't be read, or is no table.
    """
    known = set(texts)
    while True:
        with opened(where) as file:
            try:
                reader = _Reader(where, _unpacked(file))
                table = reader.read(known)
            except UnicodeError as error:
                raise CorruptDataset(
                    f"{where}: no text in UTF-8: {safe_line(str(error))}; save it as UTF-8"
                ) from error
            except (OSError, EOFError, zlib.error, csv.Error, OverflowError) as error:
                told = safe_line(str(error))
                raise CorruptDataset(f"{where}: can't be read: {told}") from error
        if table is not None:
            return table
        known |= reader.late  # a column of numbers that has a text further down


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    head = file.read(2)
    file.seek(0)
    unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if head == GZIP else file
    head = unpacked.read(3)
    if head[:2] in _UTF16:
        return io.BytesIO((head + unpacked.read()).decode("utf-16").encode())
    if head != codecs.BOM_UTF8:
        unpacked.seek(0)
    return unpacked


class _Reader:
    """What reads a table once.

    Args:
        where: it is.
        file: its bytes, from the beginning.
    """

    def __init__(self, where: Where, file: IO[bytes]) -> None:
        self.where, self._file = where, file
        self.late: set[str] = set()
        self._line = 0
        self._rest = self._sample()
        found = sign(self._rest[:HEAD])
        if found or b"\0" in self._rest[:HEAD]:
            told = found or f"not a table in text: it begins with {self._rest[:4].hex(' ')}"
            raise CorruptDataset(f"{where}: {told}")
        said = BETWEEN_TOLD.match(self._rest)
        if said:
            self._rest, self._line = self._rest[said.end() :], 1
        lines = self._lines_of_sample()
        self._between = said[1].decode() if said else _between(lines)
        rows = self._sampled(lines)
        if not rows:
            raise CorruptDataset(f"{where}: it is empty")
        self.named = _names_columns(rows)
        self.columns = _columns(rows[0]) if self.named else tuple(map(str, range(len(rows[0]))))

    def _sample(self) -> bytes:
        """Return the first lines, whole, and as much as there is of the next."""
        read = self._file.read(_SAMPLE)
        while b"\n" not in read and len(read) < _LONGEST and (more := self._file.read(_BLOCK)):
            read += more
        if len(read) >= _LONGEST:
            raise CorruptDataset(f"{self.where}: its first line does not end: no table")
        return read

    def _lines_of_sample(self) -> list[str]:
        whole = self._rest[: self._rest.rfind(b"\n") + 1] or self._rest
        return whole.decode().splitlines(keepends=True)

    def _sampled(self, lines: Sequence[str]) -> list[list[str]]:
        """Return the first rows; of a quoted cell that the sample ends in, nothing."""
        rows = [row for row in islice(csv.reader(lines, delimiter=self._between), _LINES) if row]
        return rows[:-1] if len(rows) > 2 and len(rows[-1]) != len(rows[0]) else rows

    def read(self, texts: set[str]) -> Table | None:
        """Return the table; None if a column of numbers turns out to hold texts: see `late`."""
        blocks: list[Array] = []
        known = {k for k, name in enumerate(self.columns) if name in texts}
        if not known:
            blocks += self._fast(self.named)
        codes: dict[int, list[int]] = {}
        values: dict[int, _Codes] = {}
        for cells in self._slowly(self.named and not blocks):
            if not blocks:  # what is no number in the first rows is text from the first row on
                known |= {k for k, column in enumerate(cells) if self._numbers(column) is None}
            found = self._block(cells, known, codes, values)
            if found is not None:
                blocks.append(found)
        if self.late:
            return None
        if not blocks or not sum(map(len, blocks)):
            raise CorruptDataset(f"{self.where}: it holds no rows, only the names of columns")
        return Table(
            where=str(self.where), columns=self.columns,
            numeric=tuple(name for k, name in enumerate(self.columns) if k not in known),
            numbers=_together(blocks),
            texts={
                self.columns[k]: Texts(np.array(each, np.int64), tuple(values[k].texts))
                for k, each in codes.items()
            },
            named=self.named,
        )  # fmt: skip

    # Numbers alone.

    def _fast(self, skip: bool) -> Iterator[Array]:
        """Yield rows of numbers, some at a time, until one is none; the rest is read `_slowly`."""
        kind = 0
        while True:
            self._rest += self._file.read(_BLOCK)
            if not self._rest:
                return
            end = self._rest.rfind(b"\n") + 1
            if not end:
                if len(self._rest) > _LONGEST:
                    return
                more = self._file.read(_BLOCK)
                self._rest += more if more else b"\n"
                continue
            text = self._rest[:end]
            if b'"' in text:
                return
            begin = text.index(b"\n") + 1 if skip else 0
            found, kind = self._parsed(text[begin:], kind)
            if found is None:
                return
            self._rest, skip = self._rest[end:], False
            self._line += text.count(b"\n")
            yield found

    def _parsed(self, text: bytes, kind: int) -> tuple[Array | None, int]:
        """Return rows of numbers, and which of `_TYPES` these are; None if there is something else.

        Args:
            text: lines, whole.
            kind: the first type to try: what was no byte before won't be one here.
        """
        width = len(self.columns)
        lines = text.decode().replace("\r\n", "\n").split("\n")
        if not any(lines):
            return np.empty((0, width), np.uint8), kind
        if text.translate(None, _WHOLE):  # some releases of numpy's make 1 of 1.5
            kind = len(_TYPES) - 1
        for k in range(kind, len(_TYPES)):
            try:
                found = np.loadtxt(
                    lines, _TYPES[k], delimiter=self._between, comments=None, ndmin=2
                )
            except ValueError:
                continue
            return (found, k) if found.shape[1] == width else (None, k)
        return None, kind

    # Whatever else.

    def _slowly(self, skip: bool) -> Iterator[list[tuple[str, ...]]]:
        """Yield columns of cells, some rows at a time.

        Args:
            skip: whether the first row names columns.

        Raises:
            CorruptDataset: a row has more or fewer cells than the first.
        """
        text = io.TextIOWrapper(
            io.BufferedReader(_Ahead(self._rest, self._file), _BLOCK), "utf-8", newline=""
        )
        reader = csv.reader(self._lines(text), delimiter=self._between, strict=True)
        if skip:
            next(reader)
        width = len(self.columns)
        rows: list[list[str]] = []
        most = max(1, _CELLS // width)
        for cells in reader:
            if len(cells) == width:
                rows.append(cells)
            elif cells and any(each.strip() for each in cells):
                raise CorruptDataset(
                    f"{self.where}: line {self._line + reader.line_num:,} has {len(cells):,} cells,"
                    f" the first has {width:,}: {safe_line(self._between.join(cells), 80)!r}"
                )
            if len(rows) == most:
                yield list(zip(*rows, strict=True))
                rows = []
        if rows:
            yield list(zip(*rows, strict=True))

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        """Yield lines, none of which takes all memory that there is: it may be packed zeros."""
        while line := text.readline(_LONGEST):
            if len(line) >= _LONGEST:
                raise CorruptDataset(f"{self.where}: a line of it does not end: no table")
            yield line

    def _block(
        self, cells: Sequence[tuple[str, ...]], known: Collection[int],
        codes: dict[int, list[int]], values: dict[int, _Codes],
    ) -> Array | None:  # fmt: skip
        """Return the numbers of some rows, and put their texts where they belong."""
        columns = []
        for k, column in enumerate(cells):
            if k in known:
                numbers = values.setdefault(k, _Codes())
                codes.setdefault(k, []).extend(map(numbers.__getitem__, column))
                continue
            found = self._numbers(column)
            if found is None:
                self.late.add(self.columns[k])
            elif not self.late:
                columns.append(found)
        if self.late:
            return None
        return np.stack(columns, 1) if columns else np.empty((len(cells[0]), 0), np.uint8)

    def _numbers(self, cells: Sequence[str]) -> Array | None:
        """Return a column of numbers, NaN where nothing is known; None if it is none."""
        try:
            return np.array(cells, np.float64)
        except ValueError:
            there = ["nan" if _is_missing(each) else each for each in cells]
        if self._between != "," and all(each == "nan" or _COMMA.fullmatch(each) for each in there):
            there = [each.replace(",", ".") for each in there]
        try:
            return np.array(there, np.float64)
        except ValueError:
            return None


class _Codes(dict[str, int]):
    """The number of each text, by the cell that it stands in; each cell is looked at once."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def __missing__(self, cell: str) -> int:
        text = cell.strip()
        missing = _is_missing(text)
        self[cell] = -1 if missing else self.texts.setdefault(text, len(self.texts))
        return self[cell]


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


class _Ahead(io.RawIOBase):
    """A file of which some was read already: that comes first."""

    def __init__(self, read: bytes, file: IO[bytes]) -> None:
        self._read, self._file = memoryview(read), file

    def readable(self) -> bool:
        return True

    def readinto(self, into: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._read:
            self._read = memoryview(self._file.read(_BLOCK))
        count = min(len(into), len(self._read))
        into[:count] = self._read[:count]
        self._read = self._read[count:]
        return count


def _together(blocks: Sequence[Array]) -> Array:
    """Return blocks of numbers as one array, of bytes where all fit."""
    if any(block.dtype != np.uint8 for block in blocks):
        blocks = [_as_bytes(block) for block in blocks]
    return np.concatenate(blocks)


def _as_bytes(block: Array) -> Array:
    if block.dtype == np.uint8:
        return block
    whole = (block >= 0) & (block <= 255) & (block == np.rint(block))
    return block.astype(np.uint8) if whole.all() else block


# How it is written.


def _between(lines: Sequence[str]) -> str:
    """Return what stands between cells: what cuts all lines into as many, and the most."""

    def fits(sign_: str) -> tuple[bool, int]:
        try:
            widths = [len(row) for row in csv.reader(lines[:_LINES], delimiter=sign_) if row]
        except csv.Error:  # a long line without this sign is one cell, and too long for one
            return False, 0
        return len({*widths}) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(BETWEEN, key=fits)


def _columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of columns, of which no two are the same."""
    found: dict[str, int] = {}
    for name in map(str.strip, names):
        again, one = found.get(name, 0), name
        while one in found:
            again += 1
            one = f"{name}.{again}"
        found[name] = again
        found.setdefault(one, 0)
    return tuple(found)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _names_label(k: int, cell: str, first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a cell is what a label's column is called, and no `y` for yes."""
    if cell.lower() not in LABELS:  # nearly none is: there may be tens of thousands
        return False
    there = (*first[:k], *first[k + 1 :], *(row[k] for row in below if len(row) > k))
    return cell not in there


def _names_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first row names columns: by what it says, or because what is below is otherwise."""
    first, *below = ([cell.strip() for cell in row] for row in rows)
    if any(_names_label(k, cell, first, below) for k, cell in enumerate(first)):
        return True
    numbers = [cell for cell in first if cell]
    if len(numbers) >= _NUMBERED and numbers == [*map(str, range(len(numbers)))]:
        return True  # these of the columns, as a data frame writes it
    if any(cell.lower() not in MISSING and _is_number(cell) for cell in first):
        return False
    # Texts: names stand for nothing below them.
    columns = zip(*(row for row in below if len(row) == len(first)), strict=True)
    return not any(name in column for name, column in zip(first, columns, strict=False) if name)
