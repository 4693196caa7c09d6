"""The computing node: jobs come in, solutions go back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnist_merge import take

if TYPE_CHECKING:
    from .errors import (
        ChildDied,
        ConfigError,
        NodeError,
        NoJob,
        OverLimit,
        Refused,
        SourceUnreachable,
        TaskCancelled,
    )
    from .node import AsyncComputingNode, ComputingNode
    from .replier import JobReplier, Task

__all__ = [
    "AsyncComputingNode",
    "ChildDied",
    "ComputingNode",
    "ConfigError",
    "JobReplier",
    "NoJob",
    "NodeError",
    "OverLimit",
    "Refused",
    "SourceUnreachable",
    "Task",
    "TaskCancelled",
]

#: Imported when they are used: a command that begins can be interrupted, and helps, at once.
_PLACES = {
    "ChildDied": "errors",
    "ConfigError": "errors",
    "NodeError": "errors",
    "NoJob": "errors",
    "OverLimit": "errors",
    "Refused": "errors",
    "SourceUnreachable": "errors",
    "TaskCancelled": "errors",
    "AsyncComputingNode": "node",
    "ComputingNode": "node",
    "JobReplier": "replier",
    "Task": "replier",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return take(__name__, f".{_PLACES[name]}", name)
