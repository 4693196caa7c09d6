"""What can go wrong at a main node.

NodeError              root
  ConfigError          an option or argument that can't be
    DataChanged        the data is not what a run began with
  JobFailed            a job failed for good; carries its story
  NoNode               no computing node in time
  NodeClosed           the main node was closed before the job was solved
  NodeBusy             the main node's own thread did not answer in time
  StorageError         what has to be kept can't be written
  RefusedSolution      raised by a journal: a solution that is none
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import ConfigError, NodeError

if TYPE_CHECKING:
    from protocol.machine.ledger import Attempt

__all__ = [
    "ConfigError",
    "DataChanged",
    "JobFailed",
    "NoNode",
    "NodeBusy",
    "NodeClosed",
    "NodeError",
    "RefusedSolution",
    "StorageError",
]


class DataChanged(ConfigError):
    """The data is not what a run began with."""


class JobFailed(NodeError):
    """A job failed for good.

    Args:
        job_id: which one.
        story: its failed attempts, in order.
        name: what people call it; `job` and its id unless given.
    """

    def __init__(self, job_id: int, story: tuple[Attempt, ...], name: str = "") -> None:
        last = story[-1]
        tries = "1 attempt" if len(story) == 1 else f"{len(story)} attempts"
        self.name = name or f"job {job_id}"
        super().__init__(
            f"{self.name} failed for good after {tries};"
            f" the last at {last.node}: {last.kind}: {last.message}"
        )
        self.job_id = job_id
        self.story = story

    def tell(self) -> str:
        """Return the whole story: every attempt, with its traceback where that is another one."""
        lines, before = [f"{self.name}:"], ""
        for number, attempt in enumerate(self.story, 1):
            lines.append(f"  attempt {number} at {attempt.node}: {attempt.kind}: {attempt.message}")
            if attempt.traceback != before:
                lines += [f"    {line}" for line in attempt.traceback.splitlines()]
            before = attempt.traceback
        return "\n".join(lines)


class TrialFailed(JobFailed):
    """What is to learn can't: it was tried on a few rows before anything was begun."""

    def tell(self) -> str:
        """Return where it failed at last, where that is more than what the error says."""
        lines = self.story[-1].traceback.splitlines()
        return "\n".join(f"  {line}" for line in lines) if len(lines) > 1 else ""


class NoNode(NodeError):
    """There was no computing node in time."""


class NodeClosed(NodeError):
    """The main node was closed before the job was solved."""


class NodeBusy(NodeError):
    """The main node's own thread did not answer in time; nothing is lost by that."""


class StorageError(NodeError):
    """What has to be kept can't be written; the message says where and why."""


class RefusedSolution(NodeError):
    """A solution that is not what its job asked for; its task counts as a failed attempt.

    Args:
        message: what is wrong with it, for its node too.
        lie: whether no honest node can have sent it: then it gets no job for a while.
    """

    def __init__(self, message: str, lie: bool = False) -> None:
        super().__init__(message)
        self.lie = lie
