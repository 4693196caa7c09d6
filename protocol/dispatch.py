"""The main node's end of the conversation, as a state machine.

It knows no socket, thread or clock: messages and the time go in, effects come out, and the
shell performs them in order. All state changes happen in here, through the public methods.

What it sees to: each job is accepted once, whatever is lost, repeated or late; the tasks of a
node that dies go to another; a job that fails too often fails for good, with its story.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Any

from .codec import as_array, safe_name
from .effects import (
    Accept,
    Effect,
    Fail,
    Joined,
    Left,
    NodeView,
    Refused,
    Retry,
    Send,
    View,
)
from .errors import RemoteProtocolError
from .jobs import JobSolutionDataType
from .ledger import Attempt, Job, JobState, Node, Task
from .messages import (
    REFUSE_DOMAIN,
    REFUSE_UNKNOWN,
    Accepted,
    AnyArray,
    Arrays,
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
    Returned,
    SolutionReady,
    Stop,
    TaskFailed,
    Waiting,
    Welcome,
)
from .placement import Placement
from .transfer import Inbox, answer

#: A task that a node does not confirm in its heartbeats for this long is offered again.
UNCONFIRMED_SECONDS = 3.0


class Dispatcher:
    """Gives jobs to nodes and sees each one through.

    Args:
        main: this main node's id, told to every node.
        domain: nodes of another domain are refused.
        heartbeat_seconds: how often each side signals life.
        dead_seconds: a node silent for this long is given up, until it returns.
        max_attempts: failed attempts after which a job has failed for good.
        learners: kinds of job that are to come, for nodes to warm up.
    """

    def __init__(
        self,
        main: str,
        *,
        domain: int = 0,
        heartbeat_seconds: float = 1.0,
        dead_seconds: float = 10.0,
        max_attempts: int = 3,
        learners: tuple[str, ...] = (),
    ) -> None:
        self.main = main
        self.domain = domain
        self.heartbeat_seconds = heartbeat_seconds
        self.dead_seconds = dead_seconds
        self.max_attempts = max_attempts
        self.learners = learners
        self.retries = 0
        self.ignored = 0
        self._ids = count(1)
        self._jobs: dict[int, Job] = {}  # the open ones
        self._finished: dict[JobState, int] = dict.fromkeys(JobState, 0)
        self._tasks: dict[int, tuple[Job, str]] = {}  # every task ever of an open job, its node
        self._blobs: dict[bytes, tuple[AnyArray, int]] = {}  # digest -> array, jobs that use it
        self._nodes: dict[bytes, Node] = {}  # by routing id
        self._placement = Placement(self._nodes, seed=main)
        self._beat = self._ticked = -math.inf
        self._on: dict[type[Any], Callable[[Node, Any, float], list[Effect]]] = {
            Ready: self._ready, Busy: self._busy, Waiting: self._waiting,
            Heartbeat: self._heartbeat, SolutionReady: self._solution, TaskFailed: self._failed,
            Returned: self._returned, Need: self._need, Chunk: self._chunk, Bye: self._bye,
        }  # fmt: skip

    # What goes in.

    def submit(self, job: Job, now: float) -> list[Effect]:
        """Queue a job, whether any node is there or not."""
        for digest, array in job.blobs.items():
            self._blobs[digest] = (array, self._blobs.get(digest, (array, 0))[1] + 1)
        self._jobs[job.id] = job
        self._placement.add(job)
        return self._assign(now)

    def cancel(self, job_id: int, now: float) -> list[Effect]:
        """Give a job up; unknown and finished ones are ignored."""
        job = self._jobs.get(job_id)
        if job is None:
            return []
        return [*self._finish(job, "cancel"), *self._assign(now)]

    def receive(self, peer: bytes, message: Message, now: float) -> list[Effect]:
        """Take a message from the node at this routing id; return what to do, in order.

        Raises:
            RemoteProtocolError: the message makes no sense; `drop` the peer.
        """
        if type(message) is Hello:
            return self._hello(peer, message, now)
        node = self._nodes.get(peer)
        if node is None:
            if type(message) is Bye:
                return []
            return [
                Send(peer, Refuse(REFUSE_UNKNOWN, "this main node does not know you (any more)"))
            ]
        node.heard = now
        handle = self._on.get(type(message))
        if handle is None:
            self.ignored += 1
            return []
        return handle(node, message, now)

    def tick(self, now: float) -> list[Effect]:
        """Let time pass; call it several times a heartbeat."""
        effects: list[Effect] = []
        gap, self._ticked = now - self._ticked, now
        if math.inf > gap > 2 * self.heartbeat_seconds:  # it was this process that was silent
            for node in self._nodes.values():
                node.heard += gap
        for node in list(self._nodes.values()):
            if now - node.heard > self.dead_seconds:
                effects += self._lose(node, f"silent for {now - node.heard:.0f} s", now)
                continue
            effects += [Send(node.peer, need) for need in node.inbox.tick(now)]
            effects += self._overdue(node, now)
        if now - self._beat >= self.heartbeat_seconds:
            self._beat = now
            effects += [Send(peer, Heartbeat()) for peer in self._nodes]
        return effects + self._assign(now)

    def unreachable(self, peer: bytes, now: float) -> list[Effect]:
        """The transport has no connection to this peer any more."""
        node = self._nodes.get(peer)
        return self._lose(node, "connection lost", now) if node else []

    def drop(self, peer: bytes, reason: str, now: float) -> list[Effect]:
        """Be done with a peer that broke the rules."""
        node = self._nodes.get(peer)
        return self._lose(node, reason, now) if node else []

    def close(self, reason: str) -> list[Effect]:
        """Tell every node that this main node ends."""
        return [Send(peer, Stop(reason)) for peer in self._nodes]

    # What can be seen.

    @property
    def peers(self) -> list[bytes]:
        """Routing ids of all nodes."""
        return list(self._nodes)

    @property
    def open(self) -> int:
        """How many jobs are not finished."""
        return len(self._jobs)

    def view(self, now: float) -> View:
        """Return what everybody is doing."""
        running = sum(job.state is JobState.RUNNING for job in self._jobs.values())
        return View(
            tuple(_see(node, now) for node in self._nodes.values()),
            len(self._jobs) - running, running,
            self._finished[JobState.DONE], self._finished[JobState.FAILED], self.retries,
        )  # fmt: skip

    # Nodes come and go.

    def _hello(self, peer: bytes, hello: Hello, now: float) -> list[Effect]:
        if hello.domain != self.domain:
            reason = f"this main node serves domain {self.domain}, not {hello.domain}"
            refuse = Send(peer, Refuse(REFUSE_DOMAIN, reason))
            return [refuse, Refused(safe_name(hello.name), reason)]
        hello = replace(hello, node=safe_name(hello.node), name=safe_name(hello.name))
        effects: list[Effect] = [
            Send(peer, Welcome(self.main, self.heartbeat_seconds, self.learners))
        ]
        holds = hello.holds if hello.main == self.main else ()
        if peer in self._nodes:  # its Hello repeated, or our Welcome lost
            self._nodes[peer].heard = now
            return effects
        for old in [node for node in self._nodes.values() if node.hello.node == hello.node]:
            # The same process over a new connection: what it still holds it goes on with.
            effects += self._lose(old, "connected anew", now, keep=holds)
        node = Node(peer, hello, now, hello.credit, Inbox())
        self._nodes[peer] = node
        self._placement.update(node)
        effects.append(Joined(node.name, hello))
        effects += self._reconcile(node, holds, now)
        return effects + self._assign(now)

    def _lose(self, node: Node, reason: str, now: float, keep: Iterable[int] = ()) -> list[Effect]:
        """Forget a node; what it had in hand counts as an attempt and is queued again."""
        effects = self._forget(node, reason)
        kept = set(keep)
        tasks = list(node.tasks.values())
        for place, task in enumerate(tasks):
            self._take_from(task)
            if task.id in kept:
                continue
            attempt = None
            if task.begun is not None:
                attempt = Attempt(node.name, "lost", reason)
            elif place < node.hello.tasks:  # it may have been about to begin, or beginning
                attempt = Attempt(node.name, "undelivered", reason)
            effects += self._again(task.job, node, attempt)
        return effects + self._assign(now)

    def _forget(self, node: Node, reason: str) -> list[Effect]:
        del self._nodes[node.peer]
        self._placement.forget(node)
        return [Left(node.name, reason)]

    def _bye(self, node: Node, message: Bye, now: float) -> list[Effect]:
        effects = self._forget(node, message.reason)
        for task in list(node.tasks.values()):
            self._take_from(task)
            effects += self._again(task.job, node, None)
        return effects + self._assign(now)

    def _reconcile(self, node: Node, holds: Iterable[int], now: float) -> list[Effect]:
        """Agree with a node on what it has in hand."""
        effects: list[Effect] = []
        held = set(holds)
        for task_id in held - node.tasks.keys():
            job = self._job_of(task_id, node)
            if job is None or any(other in node.tasks for other in job.tasks):
                effects.append(Send(node.peer, Cancel(task_id)))
            else:  # given up, and here it is again
                self._adopt(Task(task_id, job, node, now))
        for task in list(node.tasks.values()):
            if task.id not in held and now - task.offered > UNCONFIRMED_SECONDS:
                task.offered = now
                effects.append(Send(node.peer, self._offer(task)))
        return effects

    def _heartbeat(self, node: Node, message: Heartbeat, now: float) -> list[Effect]:
        for task_id, fraction in message.progress.items():
            task = node.tasks.get(task_id)
            if task is not None:
                node.waiting.discard(task_id)
                task.begun = now if task.begun is None else task.begun
                task.progress = fraction
        return self._reconcile(node, message.tasks, now)

    def _ready(self, node: Node, message: Ready, now: float) -> list[Effect]:
        node.credit = message.credit
        self._placement.update(node)
        return self._assign(now)

    def _busy(self, node: Node, message: Busy, now: float) -> list[Effect]:
        node.busy_others = message.others
        return self._assign(now)

    def _waiting(self, node: Node, message: Waiting, now: float) -> list[Effect]:
        node.waiting = set(message.tasks) & node.tasks.keys()
        self._placement.update(node)
        return self._assign(now)

    # Jobs go out.

    def _assign(self, now: float) -> list[Effect]:
        """Give queued jobs to nodes with credit; ask back what waits while a node is idle."""
        effects: list[Effect] = []
        while (given := self._placement.next()) is not None:
            task = Task(next(self._ids), *given, now)
            self._give(task)
            effects.append(Send(task.node.peer, self._offer(task)))
        effects += [Send(task.node.peer, Recall(task.id)) for task in self._placement.recalls()]
        return effects

    def _give(self, task: Task) -> None:
        """Put a task into its node's hands; its job is not in the queue any more."""
        job, node = task.job, task.node
        job.move("offer")
        job.tasks += (task.id,)
        job.ever += (task.id,)
        self._tasks[task.id] = (job, node.hello.node)
        node.tasks[task.id] = task
        self._placement.update(node)

    def _adopt(self, task: Task) -> None:
        """Put a task that had been given up back into its node's hands."""
        job, node = task.job, task.node
        if job.state is JobState.QUEUED:
            self._placement.remove(job)
        # A node that comes back was cut off, not killed by the job: that was no attempt.
        job.attempts = tuple(
            attempt for attempt in job.attempts
            if attempt.node != node.name or attempt.kind not in ("lost", "undelivered")
        )  # fmt: skip
        job.failed_at = tuple(at for at in job.failed_at if at != node.hello.node)
        self._give(task)

    def _job_of(self, task_id: int, node: Node) -> Job | None:
        """Return the open job of a task that was ever this node's."""
        job, owner = self._tasks.get(task_id, (None, ""))
        return job if owner == node.hello.node else None

    def _offer(self, task: Task) -> JobOffer:
        job = task.job
        return JobOffer(
            task.id, job.id, job.data.learner, job.data.parameters, job.payload, job.arrays
        )

    # Jobs come back.

    def _take_from(self, task: Task) -> None:
        """Take a task out of its node's hands."""
        node = task.node
        node.tasks.pop(task.id, None)
        node.waiting.discard(task.id)
        lacking, task.lacking = task.lacking, frozenset()
        for digest in lacking:
            if not any(digest in other.lacking for other in node.tasks.values()):
                node.inbox.forget(digest)
        task.job.tasks = tuple(other for other in task.job.tasks if other != task.id)
        self._placement.update(node)

    def _again(self, job: Job, node: Node, attempt: Attempt | None) -> list[Effect]:
        """Queue a job again after a task of it ended unsolved; `attempt` says if that counts."""
        if not job.open:
            return []
        if attempt is not None:
            job.attempts += (attempt,)
            job.failed_at += (node.hello.node,)
            if job.exhausted(self.max_attempts):
                return self._finish(job, "exhaust")
            self.retries += 1
        if not job.tasks and job.state is JobState.RUNNING:
            job.move("free")
            self._placement.add(job, first=True)
        return [Retry(job.id, attempt)] if attempt is not None else []

    def _returned(self, node: Node, message: Returned, now: float) -> list[Effect]:
        task = node.tasks.get(message.task)
        if task is None:
            return []
        self._take_from(task)
        return [*self._again(task.job, node, None), *self._assign(now)]

    def _failed(self, node: Node, message: TaskFailed, now: float) -> list[Effect]:
        effects: list[Effect] = [Send(node.peer, Accepted((message.task,)))]
        task = node.tasks.get(message.task)
        if task is None:
            return effects
        self._take_from(task)
        self._tasks.pop(task.id, None)  # a heartbeat from before must not bring it back
        attempt = Attempt(node.name, message.kind, message.message, message.traceback)
        return [*effects, *self._again(task.job, node, attempt), *self._assign(now)]

    def _overdue(self, node: Node, now: float) -> list[Effect]:
        """Cancel what runs longer than its job allows."""
        effects: list[Effect] = []
        for task in list(node.tasks.values()):
            limit = task.job.data.timeout_seconds
            if limit is None or task.begun is None or now - task.begun <= limit:
                continue
            self._take_from(task)
            self._tasks.pop(task.id, None)
            attempt = Attempt(node.name, "deadline", f"not done within {limit:g} s")
            effects += [Send(node.peer, Cancel(task.id)), *self._again(task.job, node, attempt)]
        return effects

    def _solution(self, node: Node, message: SolutionReady, now: float) -> list[Effect]:
        job = self._job_of(message.task, node)
        if job is None:  # solved meanwhile, by this node or by another
            return [Send(node.peer, Accepted((message.task,)))]
        task = node.tasks.get(message.task)
        if task is None:
            task = Task(message.task, job, node, now)
            self._adopt(task)
        if task.solution is not None:  # a repeat; its arrays are on their way
            return []
        task.solution = message
        specs = [spec for spec in message.arrays.values() if isinstance(spec, ArraySpec)]
        if not specs:
            return self._accept(task, message.arrays, now)
        task.lacking = frozenset(spec.digest for spec in specs)
        return [Send(node.peer, need) for spec in specs for need in node.inbox.want(spec, now)]

    def _chunk(self, node: Node, message: Chunk, now: float) -> list[Effect]:
        try:
            needs, content = node.inbox.receive(message, now)
        except RemoteProtocolError as error:
            return self._broken(node, message.digest, str(error), now)
        effects: list[Effect] = [Send(node.peer, need) for need in needs]
        if content is None:
            return effects
        for task in [task for task in node.tasks.values() if message.digest in task.lacking]:
            if task.id in node.tasks:  # accepting one may have cancelled the next
                effects += self._arrived(task, message.digest, content, now)
        return effects

    def _arrived(self, task: Task, digest: bytes, content: AnyArray, now: float) -> list[Effect]:
        assert task.solution is not None
        task.lacking -= {digest}
        task.solution = replace(task.solution, arrays=_fill(task.solution.arrays, digest, content))
        return [] if task.lacking else self._accept(task, task.solution.arrays, now)

    def _broken(self, node: Node, digest: bytes, reason: str, now: float) -> list[Effect]:
        """A solution can't be had: its task has failed."""
        effects: list[Effect] = []
        for task in [task for task in node.tasks.values() if digest in task.lacking]:
            effects += self._failed(node, TaskFailed(task.id, "transfer", reason), now)
        return effects

    def _accept(self, task: Task, arrays: Arrays, now: float) -> list[Effect]:
        assert task.solution is not None
        node, message = task.node, task.solution
        solution = JobSolutionDataType.received(message.metrics, message.payload, arrays)
        node.solved += 1
        self._take_from(task)
        accept = Accept(task.job.id, solution, node.name)
        rest = self._finish(task.job, "accept")
        return [accept, Send(node.peer, Accepted((task.id,))), *rest, *self._assign(now)]

    def _finish(self, job: Job, event: str) -> list[Effect]:
        """End a job: cancel its other tasks, forget it, say so if it failed."""
        effects: list[Effect] = []
        if job.state is JobState.QUEUED:
            self._placement.remove(job)
        job.move(event)
        if job.tasks:
            effects += self._cancel_tasks(job)
        for task_id in job.ever:
            self._tasks.pop(task_id, None)
        for digest in job.blobs:
            array, users = self._blobs.pop(digest)
            if users > 1:
                self._blobs[digest] = (array, users - 1)
        del self._jobs[job.id]
        self._finished[job.state] += 1
        if job.state is JobState.FAILED:
            effects.append(Fail(job.id, job.attempts))
        return effects

    def _cancel_tasks(self, job: Job) -> list[Effect]:
        effects: list[Effect] = []
        for node in self._nodes.values():
            for task in [node.tasks[i] for i in job.tasks if i in node.tasks]:
                self._take_from(task)
                effects.append(Send(node.peer, Cancel(task.id)))
        return effects

    def _need(self, node: Node, message: Need, now: float) -> list[Effect]:
        held = self._blobs.get(message.digest)
        if held is not None:
            node.holds.add(message.digest)
        chunks = answer(message, held[0] if held else None)
        return [Send(node.peer, chunk) for chunk in chunks]


def _fill(arrays: Arrays, digest: bytes, content: AnyArray) -> Arrays:
    """Return `arrays` with the named ones of this digest put in place."""
    return {
        name: as_array(array, content)
        if isinstance(array, ArraySpec) and array.digest == digest
        else array
        for name, array in arrays.items()
    }


def _see(node: Node, now: float) -> NodeView:
    tasks = list(node.tasks.values())
    # Which tasks run is told a little later; until then it must be the ones offered first.
    begun = [task for task in tasks if task.begun is not None]
    likely = [task for task in tasks if task.begun is None][: node.hello.tasks - len(begun)]
    running = tuple((task.job.id, task.progress) for task in begun + likely)
    return NodeView(
        node.name, running, len(node.tasks) - len(running), node.solved, now - node.heard
    )
