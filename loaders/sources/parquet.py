"""Parquet files: a table, or a column of pictures as Hugging Face's data sets have it.

One file, or a folder of `train-00000-of-00002.parquet`, `test-00000-of-00001.parquet` and so on, in
the order of their numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import DatasetNotFound
from . import Asked

if TYPE_CHECKING:
    from ..rows import ArraySource
    from ..tables import Table

WHAT, SHORT = "a Parquet file or a folder of such", "Parquet"
ORDER = 40
NAMES = ()
ENDING = re.compile(r"\.(parquet|pq)$", re.IGNORECASE)
_MAGIC = b"PAR1"


def knows(asked: Asked) -> bool:
    """Whether there is a file that is one, or is called so."""
    if asked.is_folder:
        return any(ENDING.search(file.name) and file.name[0] != "." for file in asked.files)
    return asked.is_file and (
        asked.head.startswith(_MAGIC) or bool(ENDING.search(asked.where.name))
    )


def open_source(asked: Asked) -> ArraySource:
    """Return the rows of one file, or of those for training and those for testing.

    Raises:
        DatasetNotFound: pyarrow is not installed, no column is the label, or there are several
            data sets.
        CorruptDataset: a file is damaged, or a column can't be learned from.
    """
    from ..tables import table_source

    return table_source(asked, _tables(asked))


def open_rows(asked: Asked) -> ArraySource:
    """Return the rows of one table, which need no label, as the split `all`.

    Raises:
        DatasetNotFound: pyarrow is not installed.
        CorruptDataset: it is damaged, or has none of these columns.
    """
    from ..tables import unlabelled

    return unlabelled(asked, next(iter(_tables(asked).values())))


def _tables(asked: Asked) -> dict[str, Table]:
    """Return the table of each split."""
    from ..tables import coming, joined, table_files

    try:
        from ..columnar import read_parquet
    except ImportError as error:
        raise DatasetNotFound(
            f"{asked.where}: to read Parquet takes more than is installed ({error.name or error}):"
            " pip install 'mnist-merge[parquet]'"
        ) from error
    files = table_files(asked, ENDING)
    with coming(files) as each:
        return {
            split: joined([read_parquet(file, asked) for file in every])
            for split, every in each.items()
        }
