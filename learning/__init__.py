"""Mathematics on arrays: learners, merging, metrics. It knows no message and no socket."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from .options import LearnerOptions
from .registry import create, merger, names, options_of
from .software import differences, software

if TYPE_CHECKING:
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
    )

__all__ = [
    "Arrays",
    "CountingMerger",
    "DamagedFile",
    "Diverged",
    "Form",
    "Labels",
    "Layout",
    "Learner",
    "LearnerOptions",
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
    "options_of",
    "software",
]

#: Imported when they are used: whoever asks for help need not wait for numpy.
_LATER = dict.fromkeys(
    ["Arrays", "CountingMerger", "Form", "Labels", "Layout", "Learner", "Merger", "Shard",
     "Solution"],
    "base",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)
