"""What the state machines tell their shells to do, one at a time."""

from __future__ import annotations

from ..wire.jobs import JobDataType, JobSolutionDataType
from ..wire.messages import Hello, Message, Welcome
from ..wire.records import record
from .ledger import Attempt

# The main node's dispatcher says:


@record(frozen=True, slots=True)
class Send:
    """Send `message` to the node at this routing id."""

    peer: bytes
    message: Message


@record(frozen=True, slots=True)
class Accept:
    """The job is solved; hand its solution over before anything that follows is performed."""

    job: int
    solution: JobSolutionDataType
    node: str


@record(frozen=True, slots=True)
class Offered:
    """A task of the job was made for the node with this id; said only where things are kept."""

    task: int
    job: int
    node: str


@record(frozen=True, slots=True)
class Keep:
    """Look at a solution and keep it; then call `Dispatcher.kept` or `Dispatcher.unfit`."""

    task: int
    job: int
    solution: JobSolutionDataType
    node: str


@record(frozen=True, slots=True)
class Fail:
    """The job has failed for good; its story is every failed attempt, in order."""

    job: int
    story: tuple[Attempt, ...]


@record(frozen=True, slots=True)
class Retry:
    """An attempt failed or was lost with its node; the job is queued again."""

    job: int
    attempt: Attempt


@record(frozen=True, slots=True)
class Joined:
    """A node has been welcomed; `key` brought it, where it calls itself otherwise."""

    node: str
    hello: Hello
    key: str = ""


@record(frozen=True, slots=True)
class Left:
    """A node is gone, and why; `stopped` if it said goodbye, `solved` so many jobs."""

    node: str
    reason: str
    stopped: bool = False
    solved: int = 0
    key: str = ""


@record(frozen=True, slots=True)
class Refused:
    """Somebody was refused, in these words."""

    name: str
    reason: str


@record(frozen=True, slots=True)
class Benched:
    """A node gets no job for so many seconds while another can take it, and why."""

    node: str
    reason: str
    seconds: float


@record(frozen=True, slots=True)
class Doubled:
    """A job that is slow at one node was given to another as well."""

    job: int
    slow: str
    node: str


@record(frozen=True, slots=True)
class NotReached:
    """A node can't reach a source, it says, and why; for a while it gets no job that needs it."""

    node: str
    source: str
    reason: str


@record(frozen=True, slots=True)
class Stranded:
    """Nobody who is here can reach a source that a job needs, and why; said once. The job waits."""

    job: int
    source: str
    reason: str


@record(frozen=True, slots=True)
class Superseded:
    """A node is here over a new connection; what the old one, this peer, brings is said again."""

    peer: bytes


Effect = (
    Send | Accept | Offered | Keep | Fail | Retry | Joined | Left | Refused | Benched | Doubled
    | NotReached | Stranded | Superseded
)  # fmt: skip


# A computing node's session says:


@record(frozen=True, slots=True)
class Tell:
    """Send `message` to the main node."""

    message: Message


@record(frozen=True, slots=True)
class Run:
    """Everything that the task needs is here: run it when there is a place."""

    task: int
    job_id: int
    job: JobDataType
    client: str


@record(frozen=True, slots=True)
class Abort:
    """Stop the task if it runs, drop it if it waits; nothing of it is wanted."""

    task: int


@record(frozen=True, slots=True)
class Rejected:
    """What came of a task of this job is no solution to the main node, in these words."""

    job: int
    reason: str


@record(frozen=True, slots=True)
class Serving:
    """The main node has taken this node in."""

    welcome: Welcome


@record(frozen=True, slots=True)
class Reconnect:
    """The connection is not worth anything: make a new one, then call `greet`.

    Args:
        reason: in a sentence.
        later: whether only after a while: the main node may do it again.
    """

    reason: str
    later: bool = False


@record(frozen=True, slots=True)
class Ended:
    """The main node does not want this node (`refused`) or has ended itself."""

    reason: str
    refused: bool


NodeEffect = Tell | Run | Abort | Rejected | Serving | Reconnect | Ended
