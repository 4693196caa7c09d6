"""The main node: jobs go out, solutions come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnist_merge import take

if TYPE_CHECKING:
    from protocol.machine.chronicle import Happening
    from status_node.node import StatusListener, StatusNode

    from .controls import Order
    from .errors import ConfigError, JobFailed, NodeBusy, NodeClosed, NodeError, NoNode
    from .futures import JobFuture
    from .node import AsyncMainNode, MainNode, SolutionListener
    from .waiting import IntWaitHandler

__all__ = [
    "AsyncMainNode",
    "ConfigError",
    "Happening",
    "IntWaitHandler",
    "JobFailed",
    "JobFuture",
    "MainNode",
    "NoNode",
    "NodeBusy",
    "NodeClosed",
    "NodeError",
    "Order",
    "SolutionListener",
    "StatusListener",
    "StatusNode",
]

#: Imported when they are used: a command that begins can be interrupted, and helps, at once.
_PLACES = {
    "ConfigError": "errors",
    "JobFailed": "errors",
    "NodeBusy": "errors",
    "NodeClosed": "errors",
    "NodeError": "errors",
    "NoNode": "errors",
    "JobFuture": "futures",
    "Order": "controls",
    "AsyncMainNode": "node",
    "MainNode": "node",
    "SolutionListener": "node",
    "Happening": "protocol.machine.chronicle",
    "StatusListener": "status_node.node",
    "StatusNode": "status_node.node",
    "IntWaitHandler": "waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = _PLACES[name]
    return take(__name__, place if "." in place else f".{place}", name)
