"""What can go wrong in learning.

LearningError            root
  UnknownLearner         no learner of that name
  MergeError             solutions that can't be merged
  ModelError             a model file that is damaged or does not fit the images
"""

from __future__ import annotations


class LearningError(Exception):
    """Root of everything that this package raises on purpose."""


class UnknownLearner(LearningError):
    """There is no learner of that name, or it can't be made with these parameters."""


class MergeError(LearningError):
    """Solutions that can't be merged: none, or with different arrays."""


class ModelError(LearningError):
    """A model file that is damaged, or a model that does not fit the images."""
