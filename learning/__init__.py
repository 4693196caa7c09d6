"""Mathematics on arrays: learners, merging, metrics. It knows no message and no socket."""

from .base import Arrays, Learner, Shard, Solution, create, merger, names
from .errors import LearningError, MergeError, ModelError, UnknownLearner

__all__ = [
    "Arrays",
    "Learner",
    "LearningError",
    "MergeError",
    "ModelError",
    "Shard",
    "Solution",
    "UnknownLearner",
    "create",
    "merger",
    "names",
]
