"""What can go wrong in learning.

LearningError            root
  UnknownLearner         no learner of that name
  UnknownStrategy        no way to merge of that name
  MergeError             solutions that can't be merged
    UnfitSolution        one that is not what its job asked for
      Diverged           honest work that came to nothing
  UnfitData              data that the learner can't learn from
  ModelError             a model file that is damaged or does not fit the images
  DamagedFile            a file of arrays that is not as it was written
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loaders.errors import LoaderError


class LearningError(Exception):
    """Root of everything that this package raises on purpose."""


@contextmanager
def told_of(what: str) -> Iterator[None]:
    """Tell what a learner of somebody's raises, whatever it is, with what it was about.

    Raises:
        LearningError: something was raised.
        LoaderError: data can't be read, whoever wanted to.
    """
    try:
        yield
    except (LearningError, LoaderError, MemoryError):
        raise
    except Exception as error:
        raise LearningError(f"{what}: {type(error).__name__}: {error}") from error


class UnknownLearner(LearningError):
    """There is no learner of that name, or it can't be made with these parameters."""


class UnknownStrategy(LearningError):
    """There is no way to merge of that name, or it can't be made with these options."""


class MergeError(LearningError):
    """Solutions that can't be merged: none, or with different arrays."""


class UnfitSolution(MergeError):
    """A solution that is not what its job asked for: other arrays, or numbers that are none."""


class Diverged(UnfitSolution):
    """A solution whose numbers are not finite: its training diverged, and that is no lie."""


class UnfitData(LearningError, ValueError):
    """Data that the learner can't learn from, e.g. equal rows of different classes."""


class ModelError(LearningError, ValueError):
    """A model file that is damaged, or a model that does not fit the images."""


class DamagedFile(LearningError):
    """A file of arrays that is not as it was written, or was not written by this project."""
