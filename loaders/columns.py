"""Tables whose columns are those of a model, told by their names: in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xxhash

from .errors import CorruptDataset
from .rows import Array, Arrays, Field, Form, Labels, RowNumbers, Source
from .sources import Say, some


class InColumns:
    """The same rows, their columns those of a model.

    A column of texts is in several, `colour=blue`, `colour=red`; where rows have not a text that
    the model knows, that column is 0, or missing where the row has nothing; texts that the model
    does not know are none of those that it knows, and other columns are left out.

    Args:
        source: of a table with named columns.
        columns: of the model, in order.
        say: told what is left out.

    Raises:
        CorruptDataset: a column that the model knows is not there.
    """

    def __init__(self, source: Source, columns: Sequence[str], say: Say = str) -> None:
        self._source = source
        self.name, self.splits = source.name, source.splits
        self.absent = getattr(source, "absent", {})
        (self._field,) = source.form.fields
        theirs = source.form.fields[self._field].columns
        field = Field("float64", (len(columns),), tuple(columns))
        self.form = Form({self._field: field}, source.form.classes)
        self._place = {name: number for number, name in enumerate(theirs)}
        #: What is made of others: the numbers of its text's columns, or of the one of its name.
        self._absent: dict[str, list[int]] = {}
        missing = []
        for column in columns:
            if column in self._place:
                continue
            name = next((each for each in _texts_of(column) if self._of(each)), None)
            if name is None:
                missing.append(column)
            else:
                self._absent[column] = self._of(name)
        if missing:
            raise CorruptDataset(
                f"{source.name}: the model knows the columns {some([*map(repr, missing)])}, which"
                f" are not there; there are {some([*map(repr, theirs)])}"
            )
        self._tell(columns, say)

    def _of(self, name: str) -> list[int]:
        """Return the numbers of the columns that a column of texts has, or that of its name."""
        if name in self._place:
            return [self._place[name]]
        return [at for each, at in self._place.items() if each.startswith(f"{name}=")]

    def _tell(self, columns: Sequence[str], say: Say) -> None:
        """Say which columns the model does not know."""
        known = set(columns)
        texts = {name for each in columns for name in _texts_of(each)}
        others = [each for each in self._place if each not in known]
        unknown = [each for each in others if any(name in texts for name in _texts_of(each))]
        left = dict.fromkeys(next(_texts_of(each), each) for each in others if each not in unknown)
        if unknown:
            say(f"{self.name}: {some(unknown)}: unknown to the model, and none of what it knows")
        if left:
            say(f"{self.name}: {some([*map(repr, left)])}: left out, the model does not know it")

    @property
    def digest(self) -> str:
        """The source's, and the names of the columns."""
        hash_ = xxhash.xxh3_128(self._source.digest.encode())
        hash_.update(repr(self.form.fields[self._field].columns).encode())
        return hash_.hexdigest()

    def labels(self, split: str) -> Labels:
        """Return the labels of a whole split."""
        return self._source.labels(split)

    def read(self, split: str, numbers: RowNumbers | slice) -> Arrays:
        """Return the rows, float64.

        Raises:
            CorruptDataset: a column holds numbers where the model knows texts.
        """
        (array,) = self._source.read(split, numbers).values()
        columns = [
            self._made(array, column, self._absent[column]) if column in self._absent
            else array[:, self._place[column]]
            for column in self.form.fields[self._field].columns
        ]  # fmt: skip
        return {self._field: np.stack(columns, 1).astype(np.float64, copy=False)}

    def _made(self, array: Array, column: str, of: Sequence[int]) -> Array:
        """Return the column of a text that no row has."""
        values = array[:, of]
        nothing = np.isnan(values).any(axis=1)
        numeric = [name for name in _texts_of(column) if name in self._place]
        if numeric and not nothing.all():
            raise CorruptDataset(
                f"{self.name}: column {numeric[0]!r} holds numbers; the model knows texts of it:"
                f" {column!r}"
            )
        made: Array = np.where(nothing, np.nan, 0.0)
        return made


def _texts_of(column: str) -> Iterator[str]:
    """Yield what a column of texts may be called of which one column is `NAME=TEXT`."""
    at = column.find("=")
    while at >= 0:
        yield column[:at]
        at = column.find("=", at + 1)


def in_columns(source: Source, fields: Mapping[str, Field], say: Say = str) -> Source:
    """Return a source whose columns are those of a model's fields, where both have names."""
    mine, theirs = ([*each.values()] for each in (fields, source.form.fields))
    if len(mine) != 1 or len(theirs) != 1 or fields.keys() != source.form.fields.keys():
        return source
    (own,), (other,) = mine, theirs
    if not own.columns or not other.columns or own.columns == other.columns:
        return source
    return InColumns(source, own.columns, say)
