"""The main node: jobs go out, solutions come back."""

from .errors import ConfigError, JobFailed, NodeBusy, NodeClosed, NodeError, NoNode
from .futures import JobFuture
from .node import AsyncMainNode, MainNode, SolutionListener
from .status import StatusListener, StatusNode
from .waiting import IntWaitHandler

__all__ = [
    "AsyncMainNode",
    "ConfigError",
    "IntWaitHandler",
    "JobFailed",
    "JobFuture",
    "MainNode",
    "NoNode",
    "NodeBusy",
    "NodeClosed",
    "NodeError",
    "SolutionListener",
    "StatusListener",
    "StatusNode",
]
