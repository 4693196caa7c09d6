"""A computing node's end of the conversation with one main node, as a state machine.

Like the dispatcher it knows no socket, thread or clock. It keeps each task from its offer until
the main node has accepted what came of it, across lost messages and new connections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from typing import Any

from ..errors import LocalProtocolError, RemoteProtocolError
from ..wire.codec import check_plain
from ..wire.jobs import JobDataType, JobSolutionDataType
from ..wire.limits import (
    CHUNK_NOISE,
    KIB,
    LINE_LETTERS,
    LONG_NAME_LETTERS,
    MAX_ARRAY_BYTES,
    MAX_TASKS_COUNTED,
    NOISE_PER_JOB,
    PLAIN_EXPANSION,
    SPARE_CHUNKS,
    TASK_BYTES,
    TOLD_NOISE,
    UNASKED_BYTES,
)
from ..wire.messages import (
    FINAL_REFUSALS,
    REFUSE_UNKNOWN,
    Accepted,
    AnyArray,
    ArraySpec,
    Busy,
    Bye,
    Cancel,
    Chunk,
    Heartbeat,
    Hello,
    JobOffer,
    Message,
    Need,
    Ready,
    Recall,
    Refuse,
    Reject,
    Returned,
    SolutionReady,
    Stop,
    TaskFailed,
    Unreached,
    Waiting,
    Welcome,
)
from ..wire.transfer import Cache, Inbox, Memory, Plain, Spared, answer, asked_of, chunks_of, fill
from ..wire.words import as_note, safe_name, sendable
from .effects import Abort, Ended, NodeEffect, Reconnect, Rejected, Run, Serving, Tell
from .limits import NodeLimits

#: A Hello without an answer is repeated after this long.
GREET_SECONDS = 1.0
#: What came of a task is sent again after this long without an `Accepted`, then after twice as long
#: each time, so many times.
RESEND_SECONDS, MAX_DOUBLINGS = 3.0, 4
#: A task that waits longer than this behind others is reported, so that it can go elsewhere.
WAITING_SECONDS = 0.02
#: That a task runs is told after this long, and not before: most tasks are over by then.
RUNNING_SECONDS = 0.02
#: For jobs shorter than this, so many are asked for that about this much work is in hand.
IN_HAND_SECONDS = 0.02
MAX_CREDIT = 1024
#: Tasks in hand, those included that have ended and that the main node has not accepted.
MAX_HELD = 2 * MAX_CREDIT
#: So many tasks have a note.
MAX_NOTES = 64
#: A main node whose addresses change is heard within so many of its heartbeats, or looked for anew.
DOUBT_BEATS = 1.5
#: Whatever a main node wishes, heartbeats are so many seconds apart.
MIN_BEAT, MAX_BEAT = 0.05, 60.0


class SessionState(Enum):
    """Where the conversation stands."""

    GREETING = "greeting"
    SERVING = "serving"
    REFUSED = "refused"
    LEFT = "left"


#: (state, event) -> state; the diagram in `docs/architecture.md` is made from it.
SESSION_TRANSITIONS: dict[tuple[SessionState, str], SessionState] = {
    (SessionState.GREETING, "welcome"): SessionState.SERVING,
    (SessionState.GREETING, "refuse"): SessionState.REFUSED,
    (SessionState.GREETING, "leave"): SessionState.LEFT,
    (SessionState.SERVING, "welcome"): SessionState.SERVING,
    (SessionState.SERVING, "unknown"): SessionState.GREETING,
    (SessionState.SERVING, "silence"): SessionState.GREETING,
    (SessionState.SERVING, "cut"): SessionState.GREETING,
    (SessionState.SERVING, "stop"): SessionState.GREETING,
    (SessionState.SERVING, "refuse"): SessionState.REFUSED,
    (SessionState.SERVING, "leave"): SessionState.LEFT,
    (SessionState.REFUSED, "leave"): SessionState.LEFT,
}


class TaskState(Enum):
    """Where a task stands at its node."""

    ARRIVING = "arriving"  # its arrays are on their way
    WAITING = "waiting"  # for a place to run in
    RUNNING = "running"
    ENDED = "ended"  # solved or failed, and not yet accepted


@dataclass(slots=True, eq=False)
class _Task:
    offer: JobOffer
    state: TaskState
    since: float
    #: What it takes until it has ended, as far as it is claimed.
    nbytes: float
    #: Digests of arrays that are not here yet.
    lacking: Set[bytes] = frozenset()
    progress: float = 0.0
    note: str = ""
    reported: bool = False
    outcome: SolutionReady | TaskFailed | Unreached | None = None
    #: How often that was told again.
    repeats: int = 0
    #: The solution's large arrays, for the main node to ask for.
    blobs: Mapping[bytes, AnyArray] | None = None
    #: Arrays that came for this task, whether the cache has room for them or not.
    arrived: dict[bytes, AnyArray] | None = None
    #: What the outcome takes.
    kept_bytes: int = 0


class Session:
    """One node's conversation with one main node.

    Args:
        hello: how this node introduces itself.
        limits: of silence, and of memory.
        memory: where arrays arrive.
    """

    def __init__(
        self,
        hello: Hello,
        limits: NodeLimits | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.hello = hello
        self._limits = limits or NodeLimits()
        self.state = SessionState.GREETING
        self.main = ""
        self.ignored = 0
        self._doubted = False  # whether the main node is said to have moved
        self._heartbeat_seconds = GREET_SECONDS
        #: Messages so far that served nobody, less what the others were worth.
        self.noise = 0.0
        self._owed = 0  # chunks that the main node may still ask for before that is noise
        self._tasks: dict[int, _Task] = {}
        self._held_bytes = 0.0  # of tasks that have not ended, as far as they are claimed
        self._kept_bytes = 0  # of solutions that are not accepted
        self._open = 0  # tasks that have not ended
        self._cache = Cache(self._limits.cache_bytes)
        self._inbox = Inbox(Spared(memory or Plain(), self._cache.drop))
        self._heard = self._beat = self._greeted = self._second = self._accepted_at = -math.inf
        self._credit = hello.credit
        self._asked = [hello.credit, hello.credit]  # the most, in this second and the last
        self._limit = MAX_CREDIT  # of tasks in hand
        self._mean_seconds = 1.0
        self._others = 0
        self._on: dict[type[Any], Callable[[Any, float], list[NodeEffect]]] = {
            Welcome: self._welcome, Refuse: self._refuse, JobOffer: self._offer,
            Accepted: self._accepted, Reject: self._reject, Cancel: self._cancel,
            Recall: self._recall, Heartbeat: self._heartbeat, Need: self._need,
            Chunk: self._chunk, Stop: self._stop,
        }  # fmt: skip

    @property
    def holds(self) -> tuple[int, ...]:
        """Every task in hand."""
        return tuple(self._tasks)

    @property
    def unaccepted(self) -> bool:
        """Whether something has ended that the main node has not accepted yet."""
        return any(task.state is TaskState.ENDED for task in self._tasks.values())

    @property
    def allowance(self) -> int:
        """Bytes that the main node may have sent and this node has not read yet."""
        offers = min(max(*self._asked, 1), MAX_TASKS_COUNTED)
        return UNASKED_BYTES + offers * TASK_BYTES + self._inbox.due

    def _move(self, event: str) -> None:
        target = SESSION_TRANSITIONS.get((self.state, event))
        if target is None:
            raise LocalProtocolError(f"a session that is {self.state.value} can't {event}")
        self.state = target

    # What the main node says.

    def greet(self, now: float) -> list[NodeEffect]:
        """Introduce this node; call it once connected, and again after `Reconnect`."""
        self._greeted = now
        return [Tell(replace(self.hello, credit=self._credit, main=self.main, holds=self.holds))]

    def receive(self, message: Message, now: float) -> list[NodeEffect]:
        """Take a message from the main node; return what to do, in order."""
        self._heard, self._doubted = now, False
        handle = self._on.get(type(message))
        if handle is None:
            self.ignored += 1
            self.noise += 1
            return []
        if self.state is not SessionState.SERVING and type(message) not in (Welcome, Refuse):
            self.noise += TOLD_NOISE
            return []  # from before a reconnection; what matters is sent again
        return handle(message, now)

    def _welcome(self, message: Welcome, now: float) -> list[NodeEffect]:
        self.noise += 1
        if self.state in (SessionState.LEFT, SessionState.REFUSED):
            return []
        again = self.state is SessionState.SERVING
        self._move("welcome")
        effects: list[NodeEffect] = []
        if message.main != self.main:  # another one: the old one's tasks are nobody's
            effects += self._drop_all()
            self.main = message.main
        self._heartbeat_seconds = min(max(message.heartbeat_seconds, MIN_BEAT), MAX_BEAT)
        if not again:  # the main node knows nothing of what it was told before
            self._others = self._owed = 0
            for task in self._tasks.values():
                task.reported = False
                self._owe(task)
        effects += self._beat_now(now)
        if again:
            return effects
        effects += [Tell(need) for need in self._inbox.again(now)]
        return [*effects, Serving(message), *self._tell_again(now)]

    def _refuse(self, message: Refuse, now: float) -> list[NodeEffect]:
        self.noise += 1
        if message.code == REFUSE_UNKNOWN:
            if self.state is SessionState.SERVING:
                self._move("unknown")
                return self.greet(now)
            return []  # said of something sent before the Hello that is on its way
        if self.state not in (SessionState.GREETING, SessionState.SERVING):
            return []
        if message.code not in FINAL_REFUSALS:  # a damaged message, or trouble of its own
            self.cut()
            return [Reconnect(f"it refused: {message.reason}", later=True)]
        self._move("refuse")
        return [*self._drop_all(), Ended(message.reason, refused=True)]

    def _stop(self, message: Stop, now: float) -> list[NodeEffect]:
        self._move("stop")
        self._greeted = now  # the next Hello after a pause
        heard = Tell(Bye("the main node has ended"))
        return [*self._drop_all(), heard, Ended(message.reason, refused=False)]

    def _drop_all(self) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for task_id in list(self._tasks):
            self._let_go(task_id)
            effects.append(Abort(task_id))
        return effects

    def _let_go(self, task_id: int) -> _Task | None:
        """Forget a task, and return it."""
        task = self._tasks.pop(task_id, None)
        if task is not None:
            self._kept_bytes -= task.kept_bytes
            if task.state is not TaskState.ENDED:
                self._has_ended(task)
        return task

    def _has_ended(self, task: _Task) -> None:
        """Count a task as open no more, and fetch nothing for it."""
        self._fetch_no_more(task)
        task.arrived = None
        self._open -= 1
        self._held_bytes -= task.nbytes

    def _heartbeat(self, message: Heartbeat, now: float) -> list[NodeEffect]:
        self.noise += 1
        return []

    def _offer(self, message: JobOffer, now: float) -> list[NodeEffect]:
        if message.task in self._tasks:
            self.noise += TOLD_NOISE
            return []
        if self._open >= self._credit and self._open >= max(self._asked):
            self.noise += 1
            return [Tell(Returned(message.task))]  # not what was asked for
        if len(self._tasks) >= MAX_HELD or self._kept_bytes > self._limits.max_bytes:
            self.noise += 1
            return [Tell(Returned(message.task))]  # it accepts nothing of what it gets
        if message.kind not in self.hello.kinds:
            self.noise += 1  # it has been told which are
            return self._refuse_job(message, f"jobs of kind {message.kind!r}", now)
        if not self.hello.has(message.device):
            self.noise += 1  # the same
            return self._refuse_job(message, f"jobs that want {message.device!r}", now)
        nbytes = _bytes_of(message)
        if self._held_bytes + nbytes > self._limits.max_bytes:
            reason = f"more than {self._limits.max_bytes:,.0f} bytes at once (--max-memory)"
            return self._refuse_job(message, reason, now)
        task = self._tasks[message.task] = _Task(message, TaskState.ARRIVING, now, nbytes)
        self._open += 1
        self._held_bytes += nbytes
        specs = [spec for spec in message.arrays.values() if isinstance(spec, ArraySpec)]
        if not specs:
            return self._complete(task, now)
        task.lacking, task.arrived = {spec.digest for spec in specs}, {}
        effects: list[NodeEffect] = []
        for spec in specs:
            held = self._cache.get(spec.digest)
            if held is not None:
                self._arrive(task, spec.digest, held)
                continue
            try:
                effects += [Tell(need) for need in self._inbox.want(spec, now)]
            except RemoteProtocolError as error:
                return self.failed(message.task, "transfer", str(error), "", now)
        return effects or self._complete(task, now)

    def _refuse_job(self, offer: JobOffer, what: str, now: float) -> list[NodeEffect]:
        """Fail a task that this node's owner does not want it to have; nothing of it is kept."""
        bare = replace(offer, parameters={}, payload=b"", arrays={})
        self._tasks[offer.task] = _Task(bare, TaskState.ARRIVING, now, 0.0)
        self._open += 1
        return self.failed(offer.task, "limit", f"this node does not take {what}", "", now)

    @staticmethod
    def _arrive(task: _Task, digest: bytes, content: AnyArray) -> None:
        assert isinstance(task.lacking, set)
        assert task.arrived is not None
        task.arrived[digest] = content
        task.lacking.discard(digest)

    def _complete(self, task: _Task, now: float) -> list[NodeEffect]:
        """Make a task runnable if all its arrays are here."""
        if task.lacking:
            return []
        offer = task.offer
        try:
            arrays = fill(offer.arrays, task.arrived) if task.arrived else offer.arrays
        except RemoteProtocolError as error:
            return self.failed(offer.task, "transfer", str(error), "", now)
        task.state, task.since, task.arrived = TaskState.WAITING, now, None
        job = JobDataType.received(
            offer.kind, offer.parameters, offer.payload, arrays, offer.priority, offer.device
        )
        if arrays:
            task.offer = replace(offer, arrays={})  # the runner has them now
        return [Run(offer.task, offer.job, job, self.main)]

    def _chunk(self, message: Chunk, now: float) -> list[NodeEffect]:
        waiting = [task for task in self._tasks.values() if message.digest in task.lacking]
        surplus = self._inbox.surplus
        try:
            needs, content = self._inbox.receive(message, now)
        except RemoteProtocolError as error:
            effects: list[NodeEffect] = []
            for task in waiting:
                effects += self.failed(task.offer.task, "transfer", str(error), "", now)
            return effects
        self.noise += CHUNK_NOISE * (self._inbox.surplus - surplus)
        effects = [Tell(need) for need in needs]
        if content is None:
            return effects
        self._cache.put(message.digest, content)
        for task in waiting:
            self._arrive(task, message.digest, content)
            effects += self._complete(task, now)
        return effects

    def _need(self, message: Need, now: float) -> list[NodeEffect]:
        held = (t.blobs.get(message.digest) for t in self._tasks.values() if t.blobs)
        array = next((array for array in held if array is not None), None)
        chunks = answer(message, array)
        self._owed -= asked_of(chunks)
        self._inbox.cross(now)
        if array is None or not chunks or self._owed < 0:
            self.noise += 1 + CHUNK_NOISE * len(chunks)
        return [Tell(chunk) for chunk in chunks]

    def _accepted(self, message: Accepted, now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        self._accepted_at = now
        for task_id in message.tasks:
            task = self._tasks.get(task_id)
            if task is not None and task.state is TaskState.ENDED:  # as it nearly always is
                del self._tasks[task_id]
                self._kept_bytes -= task.kept_bytes
                self.noise -= NOISE_PER_JOB
            else:
                self.noise += TOLD_NOISE
                effects += self._drop(task_id)
        return effects

    def _drop(self, task_id: int) -> list[NodeEffect]:
        """Forget a task, and stop it if it has not ended."""
        task = self._let_go(task_id)
        return [] if task is None or task.state is TaskState.ENDED else [Abort(task_id)]

    def _reject(self, message: Reject, now: float) -> list[NodeEffect]:
        task = self._tasks.get(message.task)
        told: list[NodeEffect] = []
        self.noise += 1
        if task is not None and task.state is TaskState.ENDED:
            told.append(Rejected(task.offer.job, message.reason))
        return told + self._drop(message.task)

    def _cancel(self, message: Cancel, now: float) -> list[NodeEffect]:
        self.noise += TOLD_NOISE
        return self._drop(message.task)

    def _recall(self, message: Recall, now: float) -> list[NodeEffect]:
        self.noise += TOLD_NOISE
        task = self._tasks.get(message.task)
        if task is not None and task.state is TaskState.RUNNING:
            return self._beat_now(now)  # which says so: something else may be asked back
        return self._give_back(message.task)

    def _give_back(self, task_id: int) -> list[NodeEffect]:
        """Return a task that has not begun."""
        task = self._tasks.get(task_id)
        if task is None or task.state not in (TaskState.ARRIVING, TaskState.WAITING):
            return []
        self._let_go(task_id)
        return [Abort(task_id), Tell(Returned(task_id))]

    # What this node says.

    def started(self, task_id: int, now: float) -> bool:
        """A place is free for this task; return whether it is still wanted."""
        task = self._tasks.get(task_id)
        if task is None or task.state is not TaskState.WAITING:
            return False
        task.state, task.since = TaskState.RUNNING, now
        return True

    def progressed(self, task_id: int, fraction: float, note: str = "") -> None:
        """A running task is done to this fraction, 0 to 1; told with the next heartbeat."""
        task = self._tasks.get(task_id)
        if task is not None:
            task.progress, task.note = min(1.0, max(0.0, fraction)), as_note(note)

    def solved(
        self, task_id: int, solution: JobSolutionDataType, seconds: float, now: float
    ) -> list[NodeEffect]:
        """A task has its solution, after so many seconds of work.

        Raises:
            LocalProtocolError: the solution holds what can't be sent.
        """
        if task_id not in self._tasks:
            return []
        payload, arrays, blobs = solution.announce()
        message = SolutionReady(task_id, solution.metrics, payload, arrays)
        self._mean_seconds += (seconds - self._mean_seconds) / 8
        return [*self._end(task_id, message, blobs, now), *self._adapt()]

    def failed(
        self, task_id: int, kind: str, message: str, traceback: str, now: float
    ) -> list[NodeEffect]:
        """A task raised, crashed or could not be fetched."""
        outcome = TaskFailed(task_id, kind, sendable(message, LINE_LETTERS), sendable(traceback))
        return self._end(task_id, outcome, None, now)

    def unreached(self, task_id: int, source: str, reason: str, now: float) -> list[NodeEffect]:
        """A task needs a source that can't be reached from here; that is no failure of it."""
        source = safe_name(source, LONG_NAME_LETTERS)
        return self._end(
            task_id, Unreached(task_id, source, sendable(reason, LINE_LETTERS)), None, now
        )

    def _end(
        self,
        task_id: int,
        outcome: SolutionReady | TaskFailed | Unreached,
        blobs: Mapping[bytes, AnyArray] | None,
        now: float,
    ) -> list[NodeEffect]:
        task = self._tasks.get(task_id)
        if task is None:
            return []
        if task.state is not TaskState.ENDED:
            self._has_ended(task)
        task.state, task.since = TaskState.ENDED, now
        task.outcome, task.blobs = outcome, blobs
        if type(outcome) is SolutionReady:
            task.kept_bytes = len(outcome.payload)
            if outcome.arrays:
                task.kept_bytes += sum(array.nbytes for array in outcome.arrays.values())
            self._kept_bytes += task.kept_bytes
            self._owe(task)
        return [Tell(outcome)] if self.state is SessionState.SERVING else []

    def _owe(self, task: _Task) -> None:
        """Let the main node ask for a solution's chunks, twice each: some get lost."""
        if task.blobs:
            chunks = sum(chunks_of(array.nbytes) for array in task.blobs.values())
            self._owed = max(self._owed, 0) + 2 * chunks + SPARE_CHUNKS

    def _fetch_no_more(self, task: _Task) -> None:
        """Stop fetching what a task lacks, unless another task lacks it too."""
        if not task.lacking:
            return
        lacking, task.lacking = task.lacking, frozenset()
        for digest in lacking:
            if not any(digest in other.lacking for other in self._tasks.values()):
                self._inbox.forget(digest)

    def _adapt(self) -> list[NodeEffect]:
        """Ask for as many tasks as keep this node busy for `IN_HAND_SECONDS`."""
        places = self.hello.tasks
        wanted = math.ceil(IN_HAND_SECONDS * places / max(self._mean_seconds, 1e-6))
        wanted = min(max(places + 1, wanted), 2 * self._credit, MAX_CREDIT, self._limit)
        if self._credit * 0.7 <= wanted < self._credit * 1.5:
            return []
        self._credit = wanted
        self._asked[0] = max(self._asked[0], wanted)
        return [Tell(Ready(wanted))]

    def limit(self, tasks: int) -> list[NodeEffect]:
        """Hold at most so many tasks from now on; 0 takes no more, and gives back what waits."""
        self._limit = tasks
        effects: list[NodeEffect] = []
        if self._credit > tasks:
            self._credit = tasks
            effects += [Tell(Ready(tasks))] if self.state is SessionState.SERVING else []
        for task_id in list(self._tasks) if tasks == 0 else []:
            effects += self._give_back(task_id)
        return effects

    def occupied(self, others: int) -> list[NodeEffect]:
        """So many of this node's places are taken by other main nodes' tasks."""
        if others == self._others or self.state is not SessionState.SERVING:
            return []
        self._others = others
        return [Tell(Busy(others))]

    def doubt(self) -> None:
        """The main node may be elsewhere by now: unless it is heard soon, it is greeted anew."""
        self._doubted = True

    def cut(self) -> None:
        """The connection is lost; call `greet` when there is one again."""
        if self.state is SessionState.SERVING:
            self._move("cut")

    def leave(self, reason: str) -> list[NodeEffect]:
        """Hand back whatever is unsolved and end the conversation."""
        if self.state is SessionState.LEFT:
            return []
        greeted = self.state is not SessionState.REFUSED
        self._move("leave")
        return [*self._drop_all(), *([Tell(Bye(reason))] if greeted else [])]

    # Time.

    def tick(self, now: float) -> list[NodeEffect]:
        """Let time pass; call it at `wake_at` or earlier."""
        if self.state is SessionState.GREETING and now - self._greeted >= GREET_SECONDS:
            return self.greet(now)
        if self.state is not SessionState.SERVING:
            return []
        if now - self._heard > self._patience:
            self._move("silence")
            return [Reconnect(f"the main node was silent for {now - self._heard:.0f} s")]
        effects = [*self._report_waiting(now), *self._resend(now)]
        effects += [Tell(need) for need in self._inbox.tick(now)]
        if now - self._beat >= self._heartbeat_seconds or self._untold(now):
            effects += self._beat_now(now)
        return effects

    @property
    def _patience(self) -> float:
        """For how many seconds the main node may be silent."""
        doubt = DOUBT_BEATS * self._heartbeat_seconds
        return min(self._limits.dead_seconds, doubt) if self._doubted else self._limits.dead_seconds

    def _untold(self, now: float) -> bool:
        """Whether a task has been running that the main node was not told about."""
        return any(
            task.state is TaskState.RUNNING
            and task.since > self._beat
            and now - task.since >= RUNNING_SECONDS
            for task in self._tasks.values()
        )

    def wake_at(self, now: float) -> float:
        """Return the moment by which `tick` should be called next."""
        if self.state is not SessionState.SERVING:
            return max(now, self._greeted) + GREET_SECONDS
        due = self._beat + self._heartbeat_seconds
        if self._doubted:
            due = min(due, self._heard + self._patience)
        for task in self._tasks.values():
            untold = (
                task.since > self._beat
                if task.state is TaskState.RUNNING
                else (task.state is TaskState.WAITING and not task.reported)
            )
            if untold:  # the first one has waited, or run, the longest
                return min(due, task.since + WAITING_SECONDS)
        return due

    def _report_waiting(self, now: float) -> list[NodeEffect]:
        waiting = {i: t for i, t in self._tasks.items() if t.state is TaskState.WAITING}
        late = [t for t in waiting.values() if now - t.since >= WAITING_SECONDS and not t.reported]
        for task in late:
            task.reported = True
        return [Tell(Waiting(tuple(i for i, t in waiting.items() if t.reported)))] if late else []

    def _resend(self, now: float) -> list[NodeEffect]:
        """Tell again what the main node does not accept.

        As long as it accepts something, the rest is on its way: what is told goes in order.
        """
        effects: list[NodeEffect] = []
        for task in self._tasks.values():
            if task.outcome is not None:
                wait = RESEND_SECONDS * 2 ** min(task.repeats, MAX_DOUBLINGS)
                if now - max(task.since, self._accepted_at) >= wait:
                    task.since, task.repeats = now, task.repeats + 1
                    effects.append(Tell(task.outcome))
        return effects

    def _tell_again(self, now: float) -> list[NodeEffect]:
        """Tell all that has ended, over a new connection."""
        ended = [task for task in self._tasks.values() if task.outcome is not None]
        for task in ended:
            task.since, task.repeats = now, 0
        return [Tell(task.outcome) for task in ended if task.outcome is not None]

    def _beat_now(self, now: float) -> list[NodeEffect]:
        if now - self._second >= 1.0:
            self._second = now
            self._asked = [self._credit, self._asked[0]]
        self._beat = now
        running = {i: t for i, t in self._tasks.items() if t.state is TaskState.RUNNING}
        progress = {i: task.progress for i, task in running.items()}
        noted = ((i, task.note) for i, task in running.items() if task.note)
        notes = dict(islice(noted, MAX_NOTES))
        return [Tell(Heartbeat(self.holds, progress, notes))]


def _bytes_of(offer: JobOffer) -> float:
    """Return what a task takes until it has ended, as far as its offer claims."""
    nbytes = KIB + len(offer.payload)
    if offer.arrays:
        nbytes += sum(array.nbytes for array in offer.arrays.values())
    if not offer.parameters:
        return nbytes
    try:
        return nbytes + PLAIN_EXPANSION * check_plain(offer.parameters)
    except LocalProtocolError:  # no main node of this release sends so many
        return nbytes + MAX_ARRAY_BYTES
