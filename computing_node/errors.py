"""What can go wrong at a computing node.

NodeError              root
  ConfigError          an option or argument that can't be
  Refused              a main node does not work with this node
  TaskCancelled        raised inside a job that is not wanted any more
  ChildDied            the process that a job ran in is gone
  OverLimit            a job wants more than this node's owner allows
  SourceUnreachable    what a job needs can't be reached from here
  NoJob                no job in time
"""

from __future__ import annotations

from protocol.errors import ConfigError, NodeError

__all__ = [
    "ChildDied",
    "ConfigError",
    "NoJob",
    "NodeError",
    "OverLimit",
    "Refused",
    "SourceUnreachable",
    "TaskCancelled",
]


class Refused(NodeError):
    """A main node does not work with this node, and says why."""


class TaskCancelled(NodeError):
    """The job is not wanted any more: another node solved it, or it was given up."""


class ChildDied(NodeError):
    """The process that a job ran in is gone: killed, out of memory, or crashed."""


class OverLimit(NodeError):
    """A job wants more than this node's owner allows."""


class SourceUnreachable(NodeError):
    """What a job needs can't be reached from this node; a replier raises it.

    The job has not failed, and nothing is held against the node: another one gets the job, and
    this one gets no job that needs the source for a minute.

    Args:
        source: its name, as the job calls it (`JobDataType.sources`).
        reason: why not, in a sentence.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} can't be reached from here: {reason}")
        self.source, self.reason = str(source), str(reason)


class NoJob(NodeError):
    """There was no job in time."""
