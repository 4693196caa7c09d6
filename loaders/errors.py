"""What can go wrong with data.

LoaderError              root
  DatasetNotFound        nothing of that name, here or anywhere it could be fetched from
  CorruptDataset         a file is not what it should be; the message names it
"""

from __future__ import annotations


class LoaderError(Exception):
    """Root of everything that this package raises on purpose."""


class DatasetNotFound(LoaderError):
    """There is no such data set, here or where it could be fetched from."""


class CorruptDataset(LoaderError):
    """A file is not what it should be; the message names it and says what is wrong."""
