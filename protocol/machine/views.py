"""What people may see of a dispatcher."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node is doing, for people: task progress is (job id, fraction done) each."""

    name: str
    running: tuple[tuple[int, float], ...]
    waiting: int
    solved: int
    silent_seconds: float
    benched: str = ""
    #: What the node says of the first of the running tasks of which it says anything.
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """The whole of a dispatcher at one moment, for people."""

    nodes: tuple[NodeView, ...]
    queued: int
    running: int
    done: int
    failed: int
    retries: int
    #: Why no node takes what waits, where their owners don't let them.
    misfit: str = ""
