"""What can go wrong with data.

LoaderError              root
  DatasetNotFound        nothing of that name, here or anywhere it could be fetched from
  CorruptDataset         a file is not what it should be; the message names it
  SourceUnreachable      a source that is elsewhere can't be reached from here
"""

from __future__ import annotations


class LoaderError(Exception):
    """Root of everything that this package raises on purpose."""


class DatasetNotFound(LoaderError):
    """There is no such data set, here or where it could be fetched from."""


#: KubeML's name for it.
DatasetNotFoundError = DatasetNotFound


class SourceUnreachable(LoaderError):
    """A source can't be reached from here; a node that raises this has not failed.

    Args:
        source: its name.
        reason: why, in a sentence.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} can't be reached from here: {reason}")
        self.source, self.reason = str(source), str(reason)


class CorruptDataset(LoaderError):
    """A file is not what it should be; the message names it and says what is wrong."""
