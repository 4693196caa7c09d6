"""Every message that a main node and a computing node exchange.

    node -> main   Hello Ready Heartbeat SolutionReady TaskFailed Unreached Returned Waiting
                   Busy Need Chunk Bye
    main -> node   Welcome Refuse JobOffer Accepted Reject Cancel Recall Heartbeat Need Chunk Stop

Who only looks on says Watch, again and again, and is told Status; who wants to know what happens
says Follow, too, and is told Happened. Who wants the main node to do something says Control, and is
told Controlled.

A message is a value: frozen, comparable, and free of sockets. Ids are small integers, counted
by the main node; a *job* is what to solve, a *task* is one attempt of it at one node.

An array in a message is either here (a `numpy.ndarray`, sent in the same ZeroMQ message) or
named (an `ArraySpec`, which the receiver asks for with `Need` if it does not hold it already).

A text has a length, by its type: a longer one is cut, and what no terminal can show is left out
when it is read (`codec.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .limits import BLOCK_LETTERS, LINE_LETTERS, LONG_NAME_LETTERS, NAME_LETTERS
from .records import record
from .words import safe_block, safe_line, safe_name

AnyArray = npt.NDArray[Any]


class Words(NamedTuple):
    """What a text may be: so many letters, as this door lets them through."""

    letters: int
    door: Callable[[str, int], str]


Name = Annotated[str, Words(NAME_LETTERS, safe_name)]
LongName = Annotated[str, Words(LONG_NAME_LETTERS, safe_name)]
Note = Annotated[str, Words(LONG_NAME_LETTERS, safe_line)]
Line = Annotated[str, Words(LINE_LETTERS, safe_line)]
Block = Annotated[str, Words(BLOCK_LETTERS, safe_block)]


@record(frozen=True, slots=True)
class ArraySpec:
    """What an array is, for a receiver that may not hold its bytes yet.

    Args:
        dtype: numpy's name of the element type, little-endian, e.g. ``float32``.
        shape: non-negative lengths.
        digest: xxh3-128 of the array's bytes in C order, 16 bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    digest: bytes

    @property
    def nbytes(self) -> int:
        """Bytes of the array's elements."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


ArraysOrSpecs = Mapping[str, AnyArray | ArraySpec]
Fields = Mapping[str, Any]
Ids = tuple[int, ...]
Texts = tuple[str, ...]
Priority = Annotated[int, "priority"]
Versions = Mapping[str, str]


@record(frozen=True, slots=True)
class Hello:
    """A node introduces itself; repeated until it is answered.

    Args:
        node: the node's id, unique to one start of one process.
        name: what people call it.
        domain: nodes and main nodes of different domains don't work together.
        kinds: the kinds of job that it can solve; ``""`` is an opaque one.
        versions: of its software, to be reported only.
        cores, memory_bytes: what it runs on, to be reported only.
        accelerator: the kind of device that its jobs run on, and the model where there are several:
            ``cuda: NVIDIA H100 80GB HBM3``; ``cpu``, or empty: the processor.
        tasks: how many tasks it runs at once.
        credit: how many tasks it wants to hold, those that run included.
        main: id of the main node that it was last welcomed by here, or ``""``.
        holds: tasks of that main node that it still works on or has solved.
        secret: drawn when the node started, and never shown: nobody else can be this node.
        max_job_bytes: it takes no job whose arrays and values are larger; 0: any.
        max_job_seconds: it stops a job after so long; 0: never.
    """

    node: Name
    name: Name
    domain: int
    kinds: Texts
    versions: Versions
    cores: int
    memory_bytes: int
    accelerator: Line
    tasks: int
    credit: int
    main: LongName = ""
    holds: Ids = ()
    secret: bytes = field(default=b"", repr=False)
    max_job_bytes: int = 0
    max_job_seconds: float = 0.0

    def has(self, device: str) -> bool:
        """Whether a job may run on such a kind of device here; every node has a processor."""
        return device in ("", "cpu") or device == self.accelerator.partition(":")[0]

    def takes(self, kind: str, device: str) -> bool:
        """Whether the node solves such jobs, and has such a device."""
        return kind in self.kinds and (not device or self.has(device))


@record(frozen=True, slots=True)
class Welcome:
    """The main node takes a node in.

    Args:
        main: the main node's id.
        heartbeat_seconds: how often each side lets the other know that it is alive.
        kinds: kinds of job that are to come, so that the node can warm up.
    """

    main: LongName
    heartbeat_seconds: float
    kinds: Texts = ()


@record(frozen=True, slots=True)
class Refuse:
    """The main node does not work with this node; `code` is one of the `REFUSE_` names."""

    code: Name
    reason: Line


REFUSE_UNKNOWN = "unknown"  # say Hello first
REFUSE_DOMAIN = "domain"
REFUSE_VERSION = "version"
REFUSE_MALFORMED = "malformed"
REFUSE_KEY = "key"
REFUSE_ID = "id"  # it is another node's
REFUSE_FULL = "full"  # too many watch already
REFUSE_ROLE = "role"  # its key is let in for other things
#: After any other refusal a node comes back after a while.
FINAL_REFUSALS = frozenset([REFUSE_DOMAIN, REFUSE_VERSION, REFUSE_KEY, REFUSE_ROLE])


@record(frozen=True, slots=True)
class Ready:
    """How many tasks the node wants to hold from now on, those that run included."""

    credit: int


@record(frozen=True, slots=True)
class JobOffer:
    """One attempt of a job, for the node to run.

    Args:
        task: id of this attempt.
        job: id of the job; what callers know as the task id of AML-IP.
        kind: the kind of job; ``""`` is an opaque one.
        parameters: plain values for whoever solves the job.
        payload: opaque bytes, when they are few.
        arrays: by name, here or named by digest.
        priority: among this main node's tasks at the node; larger is sooner.
        device: the kind that it is to run on; ``""``: whichever the node has.
    """

    task: int
    job: int
    kind: Name
    parameters: Fields
    payload: bytes
    arrays: ArraysOrSpecs
    priority: Priority = 0
    device: Name = ""


@record(frozen=True, slots=True)
class SolutionReady:
    """A task is solved; the node keeps the solution until it is `Accepted`."""

    task: int
    metrics: Fields
    payload: bytes
    arrays: ArraysOrSpecs


@record(frozen=True, slots=True)
class TaskFailed:
    """A task raised, crashed or ran out of time; `kind` says which in one word."""

    task: int
    kind: Name
    message: Line
    traceback: Block = ""


@record(frozen=True, slots=True)
class Unreached:
    """A task needs a source that this node can't reach, and why; no fault of the job's."""

    task: int
    source: LongName
    reason: Line


@record(frozen=True, slots=True)
class Accepted:
    """The main node has these tasks' solutions (or needs them no more); forget them."""

    tasks: Ids


@record(frozen=True, slots=True)
class Reject:
    """What the task came to is no solution, and why; forget it."""

    task: int
    reason: Line


@record(frozen=True, slots=True)
class Cancel:
    """Stop the task, running or not, and forget it."""

    task: int


@record(frozen=True, slots=True)
class Recall:
    """Give the task back if it has not begun: another node is idle, or another job urgent."""

    task: int


@record(frozen=True, slots=True)
class Returned:
    """The node gives back a task that it has not begun, and forgets it."""

    task: int


@record(frozen=True, slots=True)
class Waiting:
    """These tasks have been waiting at the node behind others, maybe another main node's."""

    tasks: Ids


@record(frozen=True, slots=True)
class Busy:
    """How many of the node's places are taken by other main nodes' tasks."""

    others: int


@record(frozen=True, slots=True)
class Heartbeat:
    """Still alive; from a node also what it holds.

    Args:
        tasks: every task that the node holds: arriving, waiting, running or solved.
        progress: of the running ones, task -> fraction done, 0 to 1.
        notes: of those, too, where there is something to say: task -> a line.
    """

    tasks: Ids = ()
    progress: Mapping[int, float] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)


@record(frozen=True, slots=True)
class Need:
    """Ask for chunks `first` to `first + count - 1` of the array with this digest."""

    digest: bytes
    first: int
    count: int


@record(frozen=True, slots=True)
class Chunk:
    """Chunks from number `index` on, one or more, of the array with this digest.

    Args:
        data: its bytes; empty with index 0 where the sender does not hold the array (an
            empty array is never sent in chunks).
    """

    digest: bytes
    index: int
    data: memoryview | bytes


@record(frozen=True, slots=True)
class Bye:
    """The node leaves and hands back whatever it holds unsolved."""

    reason: Line


@record(frozen=True, slots=True)
class Stop:
    """The main node has ended; the node may leave or wait for the next one."""

    reason: Line


@record(frozen=True, slots=True)
class Watch:
    """Somebody wants to be told how the nodes are; repeated as a sign of life.

    Without a name it only asks which main node this is, and is told once.

    Args:
        node: the watcher's id, unique to one start of one process.
        name: what people call it.
        domain: of the main node.
        heard: how many `Status` it has been told over this connection; who has not heard what it
            was told is told no more until it has.
    """

    node: Name
    name: Name
    domain: int
    heard: int = 0


class NodeStatus(NamedTuple):
    """How a node is, for whoever watches.

    Args:
        id: unique to one start of one process: `name.` and eight hexadecimal digits.
        kind: `main`, `computing` or `status`.
        state: `unknown`, `running`, `stopped` or `dropped`, see `status.py`.
        reason: why it is so, where there is something to say.
        running: jobs that it runs, and the fraction of each that is done, 0 to 1.
        waiting: jobs that wait there.
        solved: jobs that it has solved.
        note: what it says of the first of the running jobs.
        tasks: jobs that it runs at once.
        cores: of its machine.
    """

    id: str
    kind: str
    state: str
    reason: str = ""
    running: tuple[tuple[str, float], ...] = ()
    waiting: int = 0
    solved: int = 0
    note: str = ""
    tasks: int = 0
    cores: int = 0


Statuses = tuple[NodeStatus, ...]


@record(frozen=True, slots=True)
class Status:
    """How the nodes of a main node are, to whoever watches.

    Args:
        number: 0 for the first to this watcher, which names all nodes; later ones name those
            that have changed, and count on.
        more: how many messages follow that belong to this one.
        main: id of the main node.
        nodes: that are here, or were.
        jobs: how many are `queued`, `running`, `done`, `failed`; `retries`; jobs done `per_second`.
        about: what the program says of itself.
    """

    number: int
    more: int
    main: LongName
    nodes: Statuses
    jobs: Fields
    about: Fields


#: Plain values by name, packed: nobody reads them but the last who is told.
Events = tuple[bytes, ...]


@record(frozen=True, slots=True)
class Follow:
    """A watcher wants to be told what happens after an event; repeated until it is answered.

    Args:
        log: that it follows; empty, or another main node's: the events of this one from the first.
        after: number of the last event that it has.
        most: bytes of events that it takes at once.
        receipt: of the last `Happened` that it has read; 0: none. Events come only to who has read
            those before.
    """

    log: LongName
    after: int
    most: int
    receipt: int


@record(frozen=True, slots=True)
class Happened:
    """What has happened at a main node, to a watcher that follows.

    Args:
        log: whose events these are, a main node's from its start to its end: `id:` and eight
            hexadecimal digits.
        first: number of the first of the events, or of that which would be; they count from 1.
        events: in order, without gaps; none: only the receipt was asked for.
        lost: how many before `first` the watcher lacks and can't be told any more.
        last: number of the newest event there is.
        receipt: to be said by the next `Follow`.
    """

    log: LongName
    first: int
    events: Events
    lost: int
    last: int
    receipt: int


@record(frozen=True, slots=True)
class Control:
    """Somebody wants the main node to do something; repeated until it is answered, and done once.

    Args:
        request: drawn by who asks, for this once.
        domain: of the main node.
        main: id of the main node that is meant, where it is known, or ``""``.
        verb: what to do, `stop` say.
        reason: why, for people; may be empty.
    """

    request: Name
    domain: int
    main: LongName
    verb: Name
    reason: Line = ""


@record(frozen=True, slots=True)
class Controlled:
    """What has come of a `Control`: whether it is done, or begun, and the answer in words."""

    request: Name
    ok: bool
    words: Line


@record(frozen=True, slots=True)
class Unknown:
    """A message of a kind that this release does not know; counted and ignored."""

    kind: int


Message = (
    Hello | Welcome | Refuse | Ready | JobOffer | SolutionReady | TaskFailed | Accepted | Reject
    | Cancel | Recall | Returned | Waiting | Busy | Heartbeat | Need | Chunk | Bye | Stop | Watch
    | Status | Control | Controlled | Follow | Happened | Unreached | Unknown
)  # fmt: skip
