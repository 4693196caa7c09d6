"""The computing node: jobs come in, solutions go back."""

from .errors import (
    ChildDied,
    ConfigError,
    NodeError,
    NoJob,
    OverLimit,
    Refused,
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
    "Task",
    "TaskCancelled",
]
