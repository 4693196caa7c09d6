"""Jobs, tasks and nodes as the main node's dispatcher sees them, and the states of a job.

The state of a job moves by the table below and by nothing else; the diagram in
`docs/architecture.md` is made from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from .errors import LocalProtocolError
from .jobs import JobDataType
from .messages import AnyArray, Arrays, Hello, SolutionReady
from .transfer import Inbox


class JobState(str, Enum):
    """Where a job stands; the last three are final."""  # str: hashed in C, four times a job

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: (state, event) -> state. `offer`: given to a node. `free`: no node has it any more.
JOB_TRANSITIONS: dict[tuple[JobState, str], JobState] = {
    (JobState.QUEUED, "offer"): JobState.RUNNING,
    (JobState.RUNNING, "offer"): JobState.RUNNING,
    (JobState.RUNNING, "free"): JobState.QUEUED,
    (JobState.RUNNING, "accept"): JobState.DONE,
    (JobState.QUEUED, "accept"): JobState.DONE,  # a node that was given up came back with it
    (JobState.RUNNING, "exhaust"): JobState.FAILED,
    (JobState.QUEUED, "exhaust"): JobState.FAILED,
    (JobState.RUNNING, "cancel"): JobState.CANCELLED,
    (JobState.QUEUED, "cancel"): JobState.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt of a job, for its story.

    Args:
        node: the node's public name.
        kind: one word: `raised`, `crashed`, `deadline`, `transfer`, `lost` (its node was, while
            it ran), or `undelivered` (its node was lost before it was known to run).
        message: one sentence.
        traceback: of the node's program, where there is one.
    """

    node: str
    kind: str
    message: str
    traceback: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """A job and what became of it so far."""

    id: int
    data: JobDataType
    payload: bytes
    #: As they are offered: small ones here, large ones named by digest.
    arrays: Arrays
    #: The large ones, digest -> array.
    blobs: Mapping[bytes, AnyArray]
    state: JobState = JobState.QUEUED
    # Tuples below: nearly every job has one task and no failure, and there may be many jobs.
    #: Tasks that nodes have in hand.
    tasks: tuple[int, ...] = ()
    #: Every task ever made of it: late answers to any of them are welcome.
    ever: tuple[int, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    #: Ids of nodes at which it failed.
    failed_at: tuple[str, ...] = ()

    @classmethod
    def of(cls, job_id: int, data: JobDataType) -> Job:
        """Return a job ready to be submitted, its large arrays named by digest.

        Raises:
            LocalProtocolError: its parameters or arrays can't be sent.
        """
        payload, offered, blobs = data.announce()
        return cls(job_id, data, payload, offered, blobs)

    @property
    def open(self) -> bool:
        """Whether a solution is still wanted."""
        return self.state in (JobState.QUEUED, JobState.RUNNING)

    def exhausted(self, max_attempts: int) -> bool:
        """Whether it has failed often enough.

        A node that was lost before it was known to have begun may have been killed by the job in
        its first moments, or by anything else: such an attempt counts for a third.
        """
        unsure = sum(attempt.kind == "undelivered" for attempt in self.attempts)
        return len(self.attempts) - unsure + unsure / 3 >= max_attempts

    def move(self, event: str) -> None:
        """Change state by the table.

        Raises:
            LocalProtocolError: the table has no such transition.
        """
        target = JOB_TRANSITIONS.get((self.state, event))
        if target is None:
            raise LocalProtocolError(f"job {self.id} is {self.state.value}: can't {event}")
        self.state = target


@dataclass(slots=True, eq=False)
class Task:
    """One attempt of a job at one node, in that node's hands."""

    id: int
    job: Job
    node: Node
    offered: float
    #: When the node was first known to run it.
    begun: float | None = None
    progress: float = 0.0
    recalled: bool = False
    #: The solution, once announced, while its large arrays are on their way.
    solution: SolutionReady | None = None
    #: Digests that the solution still lacks.
    lacking: frozenset[bytes] = frozenset()


@dataclass(slots=True, eq=False)
class Node:
    """A computing node that has been welcomed."""

    peer: bytes
    hello: Hello
    heard: float
    credit: int
    inbox: Inbox
    #: Task id -> task, in the order in which they were offered.
    tasks: dict[int, Task] = field(default_factory=dict)
    #: Tasks that the node said are waiting behind others.
    waiting: set[int] = field(default_factory=set)
    #: Digests of the arrays that it has asked for here.
    holds: set[bytes] = field(default_factory=set)
    #: Its places that other main nodes' tasks take.
    busy_others: int = 0
    solved: int = 0

    @property
    def name(self) -> str:
        """The public id, unique and readable: `name.id`."""
        return f"{self.hello.name}.{self.hello.node}"

    @property
    def idle(self) -> bool:
        """Whether a task given now would begin at once, as far as is known."""
        return not self.busy_others and len(self.tasks) < self.hello.tasks

    @property
    def spare(self) -> int:
        """How many more tasks it asks for."""
        return self.credit - len(self.tasks)


def recallable(node: Node) -> Iterator[Task]:
    """Yield the tasks that wait at `node` and have not been asked back."""
    for task_id in node.waiting:
        task = node.tasks.get(task_id)
        if task is not None and not task.recalled and task.begun is None and not task.solution:
            yield task
