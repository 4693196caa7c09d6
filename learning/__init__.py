"""Mathematics on arrays: learners, merging, metrics. It knows no message and no socket."""

from .base import (
    Arrays,
    CountingMerger,
    Form,
    Labels,
    Layout,
    Learner,
    Merger,
    Shard,
    Solution,
    create,
    merger,
    names,
)
from .errors import (
    DamagedFile,
    Diverged,
    LearningError,
    MergeError,
    ModelError,
    UnfitData,
    UnfitSolution,
    UnknownLearner,
)
from .software import differences, software

__all__ = [
    "Arrays",
    "CountingMerger",
    "DamagedFile",
    "Diverged",
    "Form",
    "Labels",
    "Layout",
    "Learner",
    "LearningError",
    "MergeError",
    "Merger",
    "ModelError",
    "Shard",
    "Solution",
    "UnfitData",
    "UnfitSolution",
    "UnknownLearner",
    "create",
    "differences",
    "merger",
    "names",
    "software",
]
