"""Mathematics on arrays: learners, merging, metrics. It knows no message and no socket."""

from .base import Arrays, Labels, Layout, Learner, Shard, Solution, create, merger, names
from .errors import (
    DamagedFile,
    LearningError,
    MergeError,
    ModelError,
    UnfitSolution,
    UnknownLearner,
)

__all__ = [
    "Arrays",
    "DamagedFile",
    "Labels",
    "Layout",
    "Learner",
    "LearningError",
    "MergeError",
    "ModelError",
    "Shard",
    "Solution",
    "UnfitSolution",
    "UnknownLearner",
    "create",
    "merger",
    "names",
]
