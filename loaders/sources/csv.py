"""A table in text: CSV, and its kin with semicolons, tabs or bars between cells; packed or not.

A first line that names columns is told from one of data by what stands below it. Kaggle's MNIST
(`label,pixel0,...`) and Redmon's (no names, the label first) are pictures.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from ..signs import BETWEEN_TOLD, GZIP
from . import Asked

if TYPE_CHECKING:
    from ..rows import ArraySource
    from ..tables import Table

WHAT, SHORT = "a CSV file or a folder of such", "CSV"
ORDER = 60
NAMES = ()
ENDING = re.compile(r"\.(csv|tsv|tab|psv)(\.gz)?$", re.IGNORECASE)
_BETWEEN = ",;\t|"


def knows(asked: Asked) -> bool:
    """Whether there is a file that is called so, or looks like a table."""
    if asked.is_folder:
        return any(ENDING.search(file.name) and file.name[0] != "." for file in asked.files)
    return asked.is_file and (bool(ENDING.search(asked.where.name)) or _looks_so(asked.head))


def _looks_so(head: bytes) -> bool:
    """Whether text begins with lines that have the same cells between the same signs."""
    if head.startswith(GZIP):
        try:
            head = zlib.decompressobj(31).decompress(head, 1 << 16)
        except zlib.error:
            return False
    head = head.removeprefix(b"\xef\xbb\xbf")
    if BETWEEN_TOLD.match(head):
        return True
    *lines, _ = head.split(b"\n")
    text = [line.decode("latin-1").strip() for line in lines if line.strip()]
    if len(text) < 2 or text[0][0] in "{[<#%" or not all(map(str.isprintable, "".join(text))):
        return "\t" in "".join(text) and len({line.count("\t") for line in text}) == 1
    counts = ({line.count(each) for line in text} for each in _BETWEEN)
    return any(len(each) == 1 and each != {0} for each in counts)


def open_source(asked: Asked) -> ArraySource:
    """Return the rows of one table, or of one for training and one for testing.

    Raises:
        DatasetNotFound: no column is the label, or there are several data sets.
        CorruptDataset: a file is damaged or no table, or a column can't be learned from.
    """
    from ..tables import table_source

    return table_source(asked, _tables(asked))


def open_rows(asked: Asked) -> ArraySource:
    """Return the rows of one table, which need no label, as the split `all`.

    Raises:
        CorruptDataset: it is damaged, or has none of these columns.
    """
    from ..tables import unlabelled

    return unlabelled(asked, next(iter(_tables(asked).values())))


def _tables(asked: Asked) -> dict[str, Table]:
    """Return the table of each split."""
    from ..delimited import read_csv
    from ..tables import coming, joined, table_files

    files, texts = table_files(asked, ENDING), set[str]()
    while True:
        before = set(texts)
        with coming(files) as each:
            read = {split: [read_csv(f, texts) for f in every] for split, every in each.items()}
        texts |= {name for every in read.values() for table in every for name in table.texts}
        # A column that holds texts in a later file does so in all.
        if texts == before or all(
            texts & {*table.columns} == {*table.texts} for every in read.values() for table in every
        ):
            break
    return {split: joined(every) for split, every in read.items()}
