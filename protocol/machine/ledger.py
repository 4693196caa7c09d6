"""Jobs, tasks and nodes as the main node's dispatcher sees them, and the states of a job.

The state of a job moves by the table below and by nothing else; the diagram in
`docs/architecture.md` is made from it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from itertools import count, islice

from ..errors import LocalProtocolError
from ..wire.codec import packed_bytes
from ..wire.jobs import JobDataType, JobSolutionDataType
from ..wire.limits import (
    FIRST_TASKS,
    MAX_IDS,
    MAX_SOURCES,
    MAX_TASKS_COUNTED,
    TASK_BYTES,
    UNASKED_BYTES,
    UNHEARD_OFFER_BYTES,
)
from ..wire.messages import AnyArray, ArraysOrSpecs, Hello, JobOffer, SolutionReady
from ..wire.transfer import Inbox
from .views import NodeView

#: So many sources are remembered that one node can't reach; one that names more is not given any
#: job that needs a source for a while.
MAX_UNREACHED = 256
#: How many of the tasks that a node was given last are looked at for one to be given back.
LOOK_BACK = 64
ANY_SOURCE = "any source"


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
        node: the node's public name, and its key's (`Node.signed`).
        kind: one word: `raised`, `crashed`, `deadline`, `stalled`, `transfer`, `limit` (more than
            the node's owner allows), `unfit` (its solution can't be used), `lost` (its node was,
            while it ran), or `undelivered` (its node was lost before it was known to run).
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
    arrays: ArraysOrSpecs
    #: The large ones, digest -> array.
    blobs: Mapping[bytes, AnyArray]
    #: Bytes of payload and arrays.
    nbytes: int
    #: Bytes of its offer.
    offered: int
    state: JobState = JobState.QUEUED
    # Tuples below: nearly every job has one task and no failure, and there may be many jobs.
    #: Tasks that nodes have in hand.
    tasks: tuple[int, ...] = ()
    #: Every task ever made of it: late answers to any of them are welcome.
    ever: tuple[int, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    #: Identities of nodes at which it failed, and whose they are (`Node.owner`).
    failed_at: tuple[str, ...] = ()
    failed_with: tuple[str, ...] = ()
    #: Since when it has been in the queue.
    queued: float = 0.0
    #: The task whose solution is being kept.
    keeping: Task | None = None
    #: Its place in the order of submission; 0: it has never been in the queue.
    order: int = 0
    #: Sources that it needs: those that it names, and those that nodes could not reach for it.
    sources: tuple[str, ...] = ()
    #: Whether it has been said that nobody who is here can reach one of them.
    stranded: bool = False
    #: How often it was asked back from a node where it waited, for one with nothing to do.
    moves: int = 0

    @classmethod
    def of(cls, job_id: int, data: JobDataType) -> Job:
        """Return a job ready to be submitted, its large arrays named by digest.

        Raises:
            LocalProtocolError: its parameters or arrays can't be sent.
        """
        data.check()
        payload, offered, blobs = data.announce()
        nbytes = told = len(payload)
        if offered:
            nbytes += sum(array.nbytes for array in offered.values())
            told = nbytes - sum(array.nbytes for array in blobs.values())
        if data.fields:
            told += packed_bytes(data.fields)
        job = cls(job_id, data, payload, offered, blobs, nbytes, told)
        if data.sources:
            job.sources = data.sources
        return job

    @property
    def open(self) -> bool:
        """Whether a solution is still wanted."""
        return self.state in (JobState.QUEUED, JobState.RUNNING)

    def become(self, other: Job) -> None:
        """Be solved in another job's way from now on; what became of it so far stays."""
        self.data, self.payload, self.arrays = other.data, other.payload, other.arrays
        self.blobs, self.nbytes, self.offered = other.blobs, other.nbytes, other.offered
        self.sources, self.stranded = other.sources, False

    def exhausted(self, max_attempts: int) -> bool:
        """Whether it has failed often enough.

        A node that was lost before it was known to have begun may have been killed by the job in
        its first moments, or by anything else: three of these count for one attempt, but every
        further one for one of its own, else a deadly job would have three times as many nodes.
        """
        unsure = sum(attempt.kind == "undelivered" for attempt in self.attempts)
        return len(self.attempts) - unsure + max(unsure / 3, unsure - 2) >= max_attempts

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
    #: What its node says of it.
    note: str = ""
    #: When the offer was sent last, and how often again.
    asked: float = 0.0
    repeats: int = 0
    #: What its node has been told when it has read this offer (`Node.told`).
    mark: int = 0
    #: When anything of it moved last: its progress, or an array on its way.
    moved: float = 0.0
    #: When it was asked back.
    recalled: float | None = None
    #: Whether its node came back with it, maybe from before this main node's time.
    adopted: bool = False
    #: The solution, once announced, while its large arrays are on their way.
    solution: SolutionReady | None = None
    #: Digests that the solution still lacks, and arrays that have come for it.
    lacking: Set[bytes] = frozenset()
    arrived: dict[bytes, AnyArray] | None = None
    #: The solution, once all of it is here.
    whole: JobSolutionDataType | None = None

    @property
    def in_hand(self) -> bool:
        """Whether its node has it still, as far as is known."""
        return self.node.tasks.get(self.id) is self

    def offer(self) -> JobOffer:
        """Return the message that gives the task to its node."""
        job = self.job
        return JobOffer(
            self.id, job.id, job.data.kind, job.data.parameters, job.payload, job.arrays,
            job.data.priority, job.data.device,
        )  # fmt: skip


@dataclass(slots=True, eq=False)
class Node:
    """A computing node that has been welcomed.

    Attributes:
        identity: who it is, whatever it says: its id, bound to the key and the secret that brought
            it. Tasks are given to identities, and nobody else may answer for them.
        key: the name of its key; empty where it has none, or is a guest.
        host: that it comes from, or its relay; empty where that is not known.
        owner: whose it is, as far as that can be told: its key, or its host.
    """

    peer: bytes
    hello: Hello
    identity: str
    key: str
    host: str
    owner: str
    joined: float
    heard: float
    credit: int
    inbox: Inbox
    #: Task id -> task, in the order in which they were offered.
    tasks: dict[int, Task] = field(default_factory=dict)
    #: Tasks that the node said are waiting behind others.
    waiting: set[int] = field(default_factory=set)
    #: Digests of the arrays that it has asked for here.
    holds: set[bytes] = field(default_factory=set)
    #: Tasks from before this main node's restart that the node holds and whose jobs are not
    #: submitted again yet; with the solution, where it has been announced.
    unclaimed: dict[int, SolutionReady | None] = field(default_factory=dict)
    #: Its places that other main nodes' tasks take.
    busy_others: int = 0
    solved: int = 0
    #: Why it gets no job while another node can take it; empty: it is not benched.
    benched: str = ""
    #: Since when it may be lost without anybody knowing, because others at its host are, or it has
    #: been silent: it gets nothing until it is heard. And whether it has been asked for a word.
    suspect: float | None = None
    asked: bool = False
    #: Whether it gave back what it was not asked for, and gets nothing until the next tick.
    rests: bool = False
    #: Tasks out of its hands for which it may have answered before it heard of that; until when.
    late: int = 0
    late_until: float = 0.0
    #: Chunks that it may still ask for before that is noise.
    owed: int = 0
    #: Tasks that ended here and that it may hold still, and when it was told so last.
    ended: OrderedDict[int, float] = field(default_factory=OrderedDict)
    #: Sources that it has said it can't reach: until when that is believed, and why. A node that
    #: connects anew begins with none.
    unreached: dict[str, tuple[float, str]] = field(default_factory=dict)
    #: Bytes of its offers so far, and of those that it has shown to have read.
    told: int = 0
    read: int = 0
    #: Tasks that it is given before it has solved any.
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = min(self.hello.tasks, FIRST_TASKS) + 1

    @property
    def name(self) -> str:
        """The public id, unique and readable: `name.id`."""
        return f"{self.hello.name}.{self.hello.node}"

    @property
    def signed(self) -> str:
        """The public id, and whose key brought it where that is not what it calls itself."""
        return f"{self.name} (key {self.foreign})" if self.foreign else self.name

    @property
    def foreign(self) -> str:
        """The name of its key, where it calls itself otherwise."""
        return "" if self.key == self.hello.name else self.key

    @property
    def allowance(self) -> int:
        """Bytes that it may have sent and nobody has read yet; any thread may ask."""
        tasks = min(len(self.tasks) + len(self.unclaimed) + self.late, MAX_TASKS_COUNTED)
        return UNASKED_BYTES + tasks * TASK_BYTES + self.inbox.due

    @property
    def picky(self) -> bool:
        """Whether its owner does not let it take every job."""
        return bool(self.hello.max_job_bytes or self.hello.max_job_seconds)

    @property
    def idle(self) -> bool:
        """Whether a task given now would begin at once, as far as is known."""
        return not self.busy_others and len(self.tasks) < self.hello.tasks

    @property
    def holds_tasks(self) -> bool:
        """Whether it has tasks in hand, or some from before a restart that it is not done with."""
        return bool(self.tasks) or None in self.unclaimed.values()

    @property
    def works(self) -> bool:
        """Whether it has a task in hand that it has announced no solution of."""
        return any(task.solution is None for task in self.tasks.values())

    @property
    def halted(self) -> bool:
        """Whether it gets nothing for a moment, whatever it asks for."""
        unheard = self.told - self.read > UNHEARD_OFFER_BYTES
        return self.rests or self.suspect is not None or unheard

    @property
    def spare(self) -> int:
        """How many more tasks it is given: what it asks for, but few at first.

        A node that wants a thousand jobs has to have solved some, else a liar could have them all.
        """
        if self.rests or self.suspect is not None or self.told - self.read > UNHEARD_OFFER_BYTES:
            return 0
        limit = min(self.credit, self.first + 2 * self.solved)
        return limit - len(self.tasks) - len(self.unclaimed)

    def end(self, task_id: int, now: float) -> None:
        """Remember that the node is told that a task is over."""
        self.ended[task_id] = now
        if len(self.ended) > MAX_IDS:
            self.ended.popitem(last=False)

    def still_hears(self, held: Set[int], since: float) -> set[int]:
        """Return the tasks that it was told since then are over, of those that it says it holds.

        Its word may be from before it heard that, however many words there are: they were on their
        way, or this main node had no time to read them.
        """
        for task_id in [task_id for task_id in self.ended if task_id not in held]:
            del self.ended[task_id]
        return {task_id for task_id, at in self.ended.items() if at >= since}

    def cannot_reach(self, source: str, reason: str, until: float) -> bool:
        """Remember that a source can't be reached from here; return whether that is news."""
        full = len(self.unreached) >= MAX_UNREACHED and source not in self.unreached
        name = ANY_SOURCE if full else source
        news = name not in self.unreached
        self.unreached[name] = (until, reason)
        return news

    def lacks(self, job: Job) -> str:
        """Return a source of a job that can't be reached from here; empty: there is none.

        A job of which nodes have named too many is given to none of them again.
        """
        if not self.unreached or not job.sources:
            return ""
        if ANY_SOURCE in self.unreached or len(job.sources) > MAX_SOURCES:
            return ANY_SOURCE if ANY_SOURCE in self.unreached else next(iter(self.unreached))
        return next((source for source in job.sources if source in self.unreached), "")

    def view(self, now: float) -> NodeView:
        """Return what the node is doing, for people."""
        tasks = list(self.tasks.values())
        # Which tasks run is told a little later; until then it must be the ones offered first.
        begun = [task for task in tasks if task.begun is not None]
        likely = [task for task in tasks if task.begun is None][: self.hello.tasks - len(begun)]
        running = tuple((task.job.id, task.progress) for task in begun + likely)
        return NodeView(
            self.name, running, len(tasks) - len(running), self.solved, now - self.heard,
            self.benched, next((task.note for task in begun if task.note), ""),
        )  # fmt: skip


def yielding(node: Node, priority: int) -> Task | None:
    """Return a task that `node` has not begun, as far as is known, and that is less urgent.

    It is the one that was offered last: the first ones may have begun, or begin at any moment,
    unless others are known to have all places.
    """
    place, places = len(node.tasks), node.hello.tasks
    first = islice(node.tasks.values(), LOOK_BACK)
    if sum(task.begun is not None for task in first) >= places:
        places = 0
    for task in islice(reversed(node.tasks.values()), LOOK_BACK):
        place -= 1
        if place < places and task.id not in node.waiting:
            continue
        waits = task.begun is None and task.recalled is None and task.solution is None
        if waits and task.job.data.priority < priority:
            return task
    return None


def recallable(node: Node) -> Iterator[Task]:
    """Yield the tasks that wait at `node` and have not been asked back."""
    for task_id in node.waiting:
        task = node.tasks.get(task_id)
        if task is not None and task.recalled is None and task.begun is None and not task.solution:
            yield task


def first_task(main: str) -> int:
    """Return the id of a main node's first task: no two main nodes share ids, by all chance."""
    return (int.from_bytes(hashlib.blake2b(main.encode(), digest_size=4).digest()) >> 12 << 32) + 1


class Ledger:
    """The open jobs, and every task that they ever had.

    Args:
        first_task: id of the first task to be made.
        remembered: tasks from before a restart, task id -> (job id, identity of its node).
        first_unkept: id of the first task of a job that is not kept: nobody remembers these, so
            they are drawn anew by each life; None: there is one count for all.
    """

    def __init__(
        self,
        first_task: int = 1,
        remembered: Mapping[int, tuple[int, str]] = {},
        first_unkept: int | None = None,
    ) -> None:
        self.jobs: dict[int, Job] = {}
        #: How many of them nodes have in hand.
        self.running = 0
        self.finished: dict[JobState, int] = dict.fromkeys(JobState, 0)
        self._ids = count(first_task)
        self._unkept_ids = self._ids if first_unkept is None else count(first_unkept)
        self._tasks: dict[int, tuple[Job, str]] = {}  # every task ever of an open job, its node
        self._remembered = dict(remembered)
        self._remembered_of: dict[int, list[int]] = {}  # the same, task ids by job
        for task, (job, _) in remembered.items():
            self._remembered_of.setdefault(job, []).append(task)
        self._clocks: dict[int, tuple[float, float | None]] = {}  # of tasks out of hand

    def add(self, job: Job) -> bool:
        """Take a job in; return whether tasks of it are remembered from before a restart."""
        self.jobs[job.id] = job
        for task in self._remembered_of.pop(job.id, ()):
            remembered = self._remembered.pop(task, None)
            if remembered is not None:
                self._tasks[task] = (job, remembered[1])
                job.ever += (task,)
        return bool(job.ever)

    def new_task(self, job: Job, node: Node, now: float) -> Task:
        """Return another attempt of a job."""
        ids = self._ids if job.data.kept else self._unkept_ids
        return Task(next(ids), job, node, now, asked=now, moved=now)

    def owner(self, task_id: int) -> str:
        """Return the identity of the node that a task of an open job was given to."""
        return self._tasks[task_id][1] if task_id in self._tasks else ""

    def again(self, task_id: int, job: Job, node: Node, now: float) -> Task:
        """Return a task that was out of its node's hands, with its old clock."""
        offered, begun = self._clocks.get(task_id, (now, None))
        return Task(task_id, job, node, offered, begun, asked=now, moved=now, adopted=True)

    def give(self, task: Task) -> None:
        """Put a task into its node's hands."""
        job, node = task.job, task.node
        self.running += job.state is not JobState.RUNNING
        job.move("offer")
        job.tasks += (task.id,)
        if task.id not in self._tasks:
            job.ever += (task.id,)
            self._tasks[task.id] = (job, node.identity)
        node.tasks[task.id] = task

    def take(self, task: Task) -> None:
        """Take a task out of its node's hands; its clock goes on."""
        task.job.tasks = tuple(other for other in task.job.tasks if other != task.id)
        self._clocks[task.id] = (task.offered, task.begun)

    def job_of(self, task_id: int, node: Node) -> Job | None:
        """Return the open job of a task that was ever this node's."""
        job, owner = self._tasks.get(task_id, (None, ""))
        return job if owner == node.identity else None

    def expects(self, task_id: int, node: Node) -> bool:
        """Whether a task of this node is remembered, and its job may yet be submitted."""
        return bool(self._remembered) and (
            self._remembered.get(task_id, (0, ""))[1] == node.identity
        )

    def disown(self, task_id: int) -> None:
        """Forget a task: an answer to it is not welcome any more."""
        self._tasks.pop(task_id, None)
        self._remembered.pop(task_id, None)
        self._clocks.pop(task_id, None)

    def free(self, job: Job) -> None:
        """No node has a job in hand any more."""
        job.move("free")
        self.running -= 1

    def close(self, job: Job, event: str) -> None:
        """End a job and forget it."""
        self.running -= job.state is JobState.RUNNING
        job.move(event)
        for task_id in job.ever:
            self._tasks.pop(task_id, None)
            self._clocks.pop(task_id, None)
        del self.jobs[job.id]
        self.finished[job.state] += 1
