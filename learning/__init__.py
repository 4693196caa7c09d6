"""Mathematics on arrays: learners, merging, metrics. It knows no message and no socket."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .contract import Learner, Solution, Turn
from .errors import (
    DamagedFile,
    Diverged,
    LearningError,
    MergeError,
    ModelError,
    UnfitData,
    UnfitSolution,
    UnknownLearner,
    UnknownStrategy,
)
from .merging import Client, Strategy
from .options import LearnerOptions, StrategyOptions
from .registry import create, create_carried, learner, names, options_of
from .software import differences, software

if TYPE_CHECKING:
    from loaders.torch import KubeDataset

    from .actions import Action
    from .kube.model import KubeModel
    from .layout import Layout
    from .model import Model

__all__ = [
    "Action",
    "Client",
    "DamagedFile",
    "Diverged",
    "KubeDataset",
    "KubeModel",
    "Layout",
    "Learner",
    "LearnerOptions",
    "LearningError",
    "MergeError",
    "Model",
    "ModelError",
    "Solution",
    "Strategy",
    "StrategyOptions",
    "Turn",
    "UnfitData",
    "UnfitSolution",
    "UnknownLearner",
    "UnknownStrategy",
    "create",
    "create_carried",
    "differences",
    "learner",
    "names",
    "options_of",
    "software",
]

#: Imported when they are used: whoever asks for help need not wait for numpy, nor for torch.
_LATER = {
    "Action": ".actions", "Layout": ".layout", "Model": ".model",
    "KubeDataset": "loaders.torch", "KubeModel": ".kube.model",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
