"""What the main node's dispatcher tells its shell to do, and what it lets people see."""

from __future__ import annotations

from dataclasses import dataclass

from .jobs import JobSolutionDataType
from .ledger import Attempt
from .messages import Hello, Message


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to the node at this routing id."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Accept:
    """The job is solved; hand its solution over before anything that follows is performed."""

    job: int
    solution: JobSolutionDataType
    node: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The job has failed for good; its story is every failed attempt, in order."""

    job: int
    story: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt failed or was lost with its node; the job is queued again."""

    job: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Joined:
    """A node has been welcomed."""

    node: str
    hello: Hello


@dataclass(frozen=True, slots=True)
class Left:
    """A node is gone, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Somebody was refused, in these words."""

    name: str
    reason: str


Effect = Send | Accept | Fail | Retry | Joined | Left | Refused


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node is doing, for people: task progress is (job id, fraction done) each."""

    name: str
    running: tuple[tuple[int, float], ...]
    waiting: int
    solved: int
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class View:
    """The whole of a dispatcher at one moment, for people."""

    nodes: tuple[NodeView, ...]
    queued: int
    running: int
    done: int
    failed: int
    retries: int
