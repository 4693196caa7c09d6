"""The main node's end of the conversation, as a state machine.

It knows no socket, thread or clock: messages and the time go in, effects come out, and the
shell performs them in order. All state changes happen in here, through the public methods.

What it sees to: each job is accepted once, whatever is lost, repeated or late; the tasks of a
node that dies go to another; a job that fails too often fails for good, with its story; a slow
one gets a second runner; a node that fails too often, or lies, is benched; nobody answers for
somebody else. What is said and serves nobody is counted (`noise`), for the shell to bear or not.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from ..errors import RemoteProtocolError
from ..wire.codec import packed_bytes
from ..wire.jobs import JobSolutionDataType
from ..wire.key import Key
from ..wire.limits import (
    CHUNK_NOISE,
    HELD_SOLUTION_BYTES,
    MAX_LATE_BYTES,
    MAX_REPEATS,
    MAX_SOURCES,
    NOISE_PER_JOB,
    PLAIN_EXPANSION,
    SHARED_WINDOW,
    SMALL_SOLUTION_BYTES,
    SPARE_CHUNKS,
    SPEC_BYTES,
    TOLD_NOISE,
    UNASKED_BYTES,
)
from ..wire.messages import (
    REFUSE_DOMAIN,
    REFUSE_ID,
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
from ..wire.transfer import Inbox, Window, answer, asked_of, chunks_of, fill
from ..wire.words import safe_name
from .absence import GONE, HOPE_SECONDS, SETTLE_SECONDS, Absence
from .bench import Bench
from .effects import (
    Accept,
    Benched,
    Doubled,
    Effect,
    Fail,
    Joined,
    Keep,
    Left,
    NotReached,
    Offered,
    Refused,
    Retry,
    Send,
    Stranded,
    Superseded,
)
from .ledger import Attempt, Job, JobState, Ledger, Node, Task
from .limits import Limits
from .pace import overdue
from .placement import Placement
from .views import View

#: A task that a node does not confirm in its heartbeats for this long is offered again, then after
#: twice as long each time, so many times.
UNCONFIRMED_SECONDS, MAX_DOUBLINGS = 3.0, 4
#: What a node may say of how a task failed.
_KINDS = frozenset(["raised", "crashed", "transfer", "cancelled", "limit"])
#: A node that is silent for so many heartbeats may be lost.
SUSPECT_BEATS = 2.5
#: Tasks that nobody knows are cancelled at most so many at a time: a heartbeat comes every second.
MAX_CANCELS = 256
#: A task that is taken from a node may be answered for so long after.
LATE_SECONDS = 30.0
#: How much noise it is to say Hello anew.
_HELLO_NOISE = 20.0
#: A waiting task that was asked back is taken back after so long, whatever its node says.
RECALL_SECONDS = 5.0
#: For so long a task from before a restart is left with its node though nobody submits its job.
UNCLAIMED_SECONDS = 600.0
#: A node that says that it runs more tasks at once is not believed.
MAX_TASKS = 1024
#: That a node can't reach a source is believed for so long; then it may try again.
UNREACHED_SECONDS = 60.0
#: How a task ended whose node is lost: not the job's fault for sure, nor the node's.
_LOST = ("lost", "undelivered")


class Dispatcher:
    """Gives jobs to nodes and sees each one through.

    Args:
        main: this main node's id, told to every node.
        domain: nodes of another domain are refused.
        kinds: kinds of job that are to come, for nodes to warm up.
        limits: of nodes and jobs.
        ledger: where jobs and tasks stand; one that remembers tasks from before a restart.
        keeps: whether each solution is looked at and kept (`Keep`) before it is accepted.
    """

    def __init__(
        self,
        main: str,
        *,
        domain: int = 0,
        kinds: tuple[str, ...] = (),
        limits: Limits | None = None,
        ledger: Ledger | None = None,
        keeps: bool = False,
    ) -> None:
        self.main = main
        self.domain = domain
        self.kinds = kinds
        self.limits = limits or Limits()
        self.keeps = keeps
        self.retries = 0
        self.ignored = 0
        #: Messages so far that served nobody, less what the others were worth.
        self.noise = 0.0
        self._ledger = ledger or Ledger()
        self._keeping: dict[int, Task] = {}  # by task id; their solutions are being kept
        self._nodes: dict[bytes, Node] = {}  # by routing id
        self._peers: dict[str, bytes] = {}  # the same, routing ids by identity
        self._identities: OrderedDict[str, str] = OrderedDict()  # by node id, as first heard
        self._window = Window(SHARED_WINDOW)
        self._held: dict[int, int] = {}  # what solutions take whose arrays come, by task id
        self._bench = Bench()
        self._hosts: dict[str, dict[bytes, Node]] = {}  # by where they come from
        self._absence = Absence()
        #: What those may have sent that were silent and may be thawed: bytes, until when; by peer.
        self._asked: dict[bytes, tuple[int, float]] = {}
        self._placement = Placement(self._nodes, main, self.limits.max_nodes)
        self._beat = self._ticked = self._hope_until = -math.inf
        self._on: dict[type[Any], Callable[[Node, Any, float], list[Effect]]] = {
            Ready: self._ready, Busy: self._busy, Waiting: self._waiting,
            Heartbeat: self._heartbeat, SolutionReady: self._solution, TaskFailed: self._failed,
            Returned: self._returned, Need: self._need, Chunk: self._chunk, Bye: self._bye,
            Unreached: self._unreached,
        }  # fmt: skip

    # What goes in.

    def submit(self, job: Job, now: float) -> list[Effect]:
        """Queue a job, whether any node is there or not."""
        if not self._ledger.add(job):
            self._placement.add(job)
            return self._assign(now)
        self._placement.add(
            job, reserved=True
        )  # a node had it before the restart, and may come back with it
        effects: list[Effect] = []
        for task_id in job.ever:
            node = self._nodes.get(self._peers.get(self._ledger.owner(task_id), b""))
            if node is not None and task_id in node.unclaimed:
                if not self._placement.may_have(node) and node.unclaimed[task_id] is None:
                    effects += self._turn_down(node, task_id, job, now)
                    continue
                solution = node.unclaimed.pop(task_id)
                self._adopt(self._ledger.again(task_id, job, node, now))
                if solution is not None:
                    effects += self._claim(node, solution, now)
        return effects + self._assign(now)

    def _claim(self, node: Node, solution: SolutionReady, now: float) -> list[Effect]:
        """Take a solution that was announced before its job was submitted."""
        try:
            return self._solution(node, solution, now)
        except RemoteProtocolError as error:
            return self._failed(node, TaskFailed(solution.task, "transfer", str(error)), now)

    def cancel(self, job_id: int, now: float) -> list[Effect]:
        """Give a job up; unknown and finished ones are ignored."""
        job = self._ledger.jobs.get(job_id)
        if job is None:
            return []
        return [*self._finish(job, "cancel", now), *self._assign(now)]

    def replace(self, job: Job, now: float) -> list[Effect]:
        """Have an open job solved in another way from now on, by value say, if nobody has it.

        What has become of it so far stays, and so does its place in the queue.
        """
        old = self._ledger.jobs.get(job.id)
        if old is None or old.state is not JobState.QUEUED or self._absence.waits(old):
            return []
        self._placement.remove(old)
        old.become(job)
        self._placement.add(old, first=True)
        return self._assign(now)

    def kept(self, task_id: int, solution: JobSolutionDataType, now: float) -> list[Effect]:
        """The solution that a `Keep` carried is kept; `solution` is what is handed over."""
        task = self._keeping.pop(task_id)
        task.whole = solution
        if not task.job.open:  # cancelled meanwhile
            return []
        task.job.keeping = None
        return self._accept(task, now)

    def unfit(self, task_id: int, reason: str, now: float, lie: bool = False) -> list[Effect]:
        """The solution that a `Keep` carried is none: a failed attempt.

        Args:
            task_id: whose solution.
            reason: why it is none, for its node too.
            now: the time.
            lie: whether no honest node can have sent it: then its node is benched at once.
        """
        task = self._keeping.pop(task_id)
        task.job.keeping = None
        if not task.job.open:
            return []
        self._ledger.disown(task.id)
        effects: list[Effect] = []
        for held in self._hands(task.job):
            if held.id == task.id:  # maybe over another connection by now
                self._take_from(held, now)
                effects.append(Send(held.node.peer, Reject(task.id, reason)))
        for other in self._hands(task.job):
            if other.whole is not None:  # it came while this one was looked at
                effects += self._settle(other, now)
                break
        attempt = Attempt(task.node.signed, "unfit", reason)
        if lie:
            who, why = _liar(task.node), f"it claimed what can't be: {reason}"
            effects += self._benched(who, self._bench.lied(who, why, now), now)
        effects += self._again(task.job, task.node, attempt, now)
        return effects + self._assign(now)

    def receive(
        self, peer: bytes, message: Message, now: float, key: Key | None = None, host: str = ""
    ) -> list[Effect]:
        """Take a message from the node at this routing id; return what to do, in order.

        Args:
            peer: its routing id.
            message: what it says.
            now: the time.
            key: that brought it, where there are keys.
            host: that it comes from.

        Raises:
            RemoteProtocolError: the message makes no sense; `drop` the peer.
        """
        if type(message) is Hello:
            return self._hello(peer, message, now, key, host)
        node = self._nodes.get(peer)
        if node is None:
            self.noise += 1
            if type(message) is Bye:
                return []
            return [
                Send(peer, Refuse(REFUSE_UNKNOWN, "this main node does not know you (any more)"))
            ]
        node.heard = now
        handle = self._on.get(type(message))
        if handle is None:
            self.noise += 1
            self.ignored += 1
            return []
        if node.suspect is not None and now > node.suspect + SETTLE_SECONDS:
            return [*self._trust(node, now), *handle(node, message, now)]
        return handle(node, message, now)

    def allowance(self, peer: bytes) -> int:
        """Return how many bytes a peer may have sent that nobody has read; any thread may ask."""
        node = self._nodes.get(peer)
        if node is not None:
            return node.allowance
        return self._asked.get(peer, (UNASKED_BYTES, 0.0))[0]

    def may_repeat(self, peer: bytes, now: float) -> None:
        """A large solution has come: where this process stood still, it is under way once more."""
        node = self._nodes.get(peer)
        if node is not None:
            self._was_late(node, 1, now)

    def tick(self, now: float) -> list[Effect]:
        """Let time pass; call it several times a heartbeat."""
        effects: list[Effect] = []
        gap, self._ticked = now - self._ticked, now
        if (
            math.inf > gap > 2 * self.limits.heartbeat_seconds
        ):  # it was this process that was silent
            self._forgive(gap, now)
        for node in list(self._nodes.values()):
            if now - node.heard > self.limits.dead_seconds:
                nbytes = min(node.allowance, node.inbox.due + MAX_LATE_BYTES)
                self._asked[node.peer] = (nbytes, now + LATE_SECONDS)
                effects += self._lose(
                    node, f"silent for {now - node.heard:.0f} s", now, silent=True
                )
                continue
            effects += self._doubt(node, now)
            effects += [Send(node.peer, need) for need in node.inbox.tick(now)]
            effects += self._overdue(node, now)
            effects += self._refresh(node, now)
        for peer in [peer for peer, (_, until) in self._asked.items() if now > until]:
            del self._asked[peer]
        effects += self._resume(self._absence.tick(now, self._hosts), now)
        effects += [Stranded(job.id, *why) for job, *why in self._placement.strand()]
        self._placement.press()
        self._placement.hopeful = now < self._hope_until
        for slow, node in self._placement.doubles(now):
            if slow.job.exhausted(self.limits.max_attempts):  # it fails if this runner does
                continue
            effects += [Doubled(slow.job.id, slow.node.name, node.name)]
            effects += self._offer(slow.job, node, now)
        if now - self._beat >= self.limits.heartbeat_seconds:
            self._beat = now
            # Somebody may be here by now who has not tried it.
            hopes = [job for job in self._absence.last_hopes if not self._has_failed(job)]
            for job in hopes:
                self._absence.let_go(job)
            effects += self._resume(hopes, now)
            effects += [Send(peer, Heartbeat()) for peer in self._nodes]
        return effects + self._assign(now)

    def _refresh(self, node: Node, now: float) -> list[Effect]:
        """Let what a node has to bear end when it is time."""
        effects: list[Effect] = []
        if node.benched:
            node.benched = self._why_benched(node, now)
        if node.rests:
            node.rests = False
            self._placement.update(node)
        if node.late and now > node.late_until:
            node.late = 0
        if node.unreached:
            for source in [each for each, (until, _) in node.unreached.items() if now > until]:
                del node.unreached[source]
                self._placement.unsettle()
        if node.unclaimed and now - node.joined > UNCLAIMED_SECONDS:
            for task_id in node.unclaimed:
                self._ledger.disown(task_id)
                effects.append(Send(node.peer, Cancel(task_id)))
            node.unclaimed.clear()
            self._placement.update(node)
        return effects

    def _why_benched(self, node: Node, now: float) -> str:
        for who in (node.name, _house(node), _liar(node)):
            if why := self._bench.why(who, now):
                return why
        return ""

    def _forgive(self, gap: float, now: float) -> None:
        """Move every clock on by a time in which nothing could be heard."""
        for node in self._nodes.values():
            node.heard = min(now, node.heard + gap)
            for task in node.tasks.values():
                task.moved = min(now, task.moved + gap)
                task.begun = None if task.begun is None else min(now, task.begun + gap)

    def unreachable(self, peer: bytes, now: float) -> list[Effect]:
        """The transport has no connection to this peer any more."""
        self._asked.pop(peer, None)
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
        return len(self._ledger.jobs)

    @property
    def done(self) -> int:
        """How many jobs are solved."""
        return self._ledger.finished[JobState.DONE]

    def view(self, now: float) -> View:
        """Return what everybody is doing."""
        running, finished = self._ledger.running, self._ledger.finished
        return View(
            tuple(node.view(now) for node in self._nodes.values()),
            self.open - running, running,
            finished[JobState.DONE], finished[JobState.FAILED], self.retries,
            self._placement.misfit(),
        )  # fmt: skip

    # Nodes come and go.

    def _hello(
        self, peer: bytes, hello: Hello, now: float, key: Key | None, host: str
    ) -> list[Effect]:
        hello = replace(
            hello, node=safe_name(hello.node), name=safe_name(hello.name),
            tasks=min(hello.tasks, MAX_TASKS),
        )  # fmt: skip
        identity = identify(hello, key)
        if hello.domain != self.domain:
            reason = (
                f"this main node serves domain {self.domain}, not {hello.domain}"
                f" (--domain {self.domain})"
            )
            return self._turn_away(peer, hello, REFUSE_DOMAIN, reason)
        if self._identities.get(hello.node, identity) != identity:
            whose = f"; it came with the key of {key.name}" if key is not None and key.name else ""
            reason = f"the id {hello.node} is another node's, which came with it before{whose}"
            return self._turn_away(peer, hello, REFUSE_ID, reason)
        effects: list[Effect] = [
            Send(peer, Welcome(self.main, self.limits.heartbeat_seconds, self.kinds))
        ]
        holds = hello.holds if hello.main == self.main else ()
        if peer in self._nodes:  # its Hello repeated, or our Welcome lost
            self.noise += 1
            self._nodes[peer].heard = now
            return effects
        self.noise += _HELLO_NOISE
        if identity in self._peers:
            # The same process over a new connection: what it still holds it goes on with.
            old = self._nodes[self._peers[identity]]
            effects.append(Superseded(old.peer))
            effects += self._lose(old, "connected anew", now, keep=holds)
        owner = host or identity if key is None else key.public.decode()
        inbox = Inbox(None, self._window, self._absence.unpark(identity))
        node = Node(
            peer, replace(hello, secret=b""), identity, "" if key is None else key.name, host,
            owner, now, now, hello.credit, inbox,
        )  # fmt: skip
        effects += self._come_back(node, now)
        self._remember(hello.node, identity)
        self._was_late(node, len(holds), now)
        node.benched = self._why_benched(node, now)
        self._nodes[peer] = node
        self._peers[identity] = peer
        self._hosts.setdefault(host, {})[peer] = node
        self._placement.update(node)
        self._placement.unsettle()
        effects.append(Joined(node.name, node.hello, node.foreign))
        effects += self._reconcile(node, holds, now, MAX_TASKS)
        return effects + self._assign(now)

    def _turn_away(self, peer: bytes, hello: Hello, code: str, reason: str) -> list[Effect]:
        self.noise += _HELLO_NOISE
        return [Send(peer, Refuse(code, reason)), Refused(hello.name, reason)]

    def _remember(self, node: str, identity: str) -> None:
        """Let nobody else have this id."""
        self._identities[node] = identity
        self._identities.move_to_end(node)
        while len(self._identities) > GONE:
            oldest, whose = self._identities.popitem(last=False)
            if whose in self._peers:  # here, and so not old
                self._identities[oldest] = whose

    @staticmethod
    def _was_late(node: Node, tasks: int, now: float) -> None:
        """Expect that a node answers for so many tasks that it is not known to have."""
        if tasks:
            node.late, node.late_until = node.late + tasks, now + LATE_SECONDS

    def _come_back(self, node: Node, now: float) -> list[Effect]:
        """Undo what was held against a node that was only cut off: no job had killed it."""
        own, others, host = self._absence.come_back(node, now)
        if own:  # gone with nothing in hand, it was no death
            self._bench.came_back(_house(node), node.identity)
        free: list[Job] = []
        for job_id in own:
            job = self._ledger.jobs.get(job_id)
            if job is None:
                continue
            if not self._absence.may_come(job, node, host) and self._absence.let_go(job):
                free.append(job)
            job.attempts = tuple(
                attempt for attempt in job.attempts
                if attempt.node != node.signed or attempt.kind not in _LOST
            )  # fmt: skip
            if not any(attempt.node == node.signed for attempt in job.attempts):
                failed = zip(job.failed_at, job.failed_with, strict=True)
                left = [(at, owner) for at, owner in failed if at != node.identity]
                job.failed_at = tuple(at for at, _ in left)
                job.failed_with = tuple(owner for _, owner in left)
        mine = set(own)
        for job_id in others:  # nobody has begun them, and those who have may come back as well
            job = self._ledger.jobs.get(job_id)
            queued = job is not None and job.state is JobState.QUEUED
            if job is not None and queued and not self._absence.waits(job) and job_id not in mine:
                self._placement.remove(job)
                self._absence.hold(job, host, now, again=True)
        return self._resume(free, now)

    def _lose(
        self,
        node: Node,
        reason: str,
        now: float,
        *,
        keep: Iterable[int] | None = None,
        silent: bool = False,
    ) -> list[Effect]:
        """Forget a node; what it had in hand counts as an attempt, and goes to another.

        Args:
            node: that is lost.
            reason: in words.
            now: the time.
            keep: where it is here again over another connection, tasks that it brings.
            silent: whether nothing was heard of it for too long.
        """
        self._absence.park(node.identity, node.inbox.park(), now)
        effects = self._forget(node, reason)
        if not node.benched:
            self._hope_until = now + HOPE_SECONDS
            self._placement.hopeful = True
        back, kept = keep is not None, set(keep or ())
        ended: list[tuple[Job, Attempt | None]] = []
        for place, task in enumerate(list(node.tasks.values())):
            self._take_from(task, now)
            if task.id in kept or task.job.keeping is task:
                continue
            attempt = None
            if task.begun is not None:
                attempt = Attempt(node.signed, "lost", reason)
            elif place <= node.hello.tasks:  # it may have been about to begin, or beginning
                attempt = Attempt(node.signed, "undelivered", reason)
            ended.append((task.job, attempt))
        # Of the silent ones a line may be broken that they share, wherever they are.
        others = self._nodes if silent else self._hosts.get(node.host, {})
        suspects = [other for other in others.values() if other.suspect is not None or not silent]
        line = silent and (bool(suspects) or self._absence.recent("", now))
        host, alone = ("", False) if line else (node.host, not suspects)
        gone = [job.id for job, attempt in ended if attempt is not None]
        self._absence.lose(node, host, gone, now, back)
        if suspects and not back and self._absence.marks(host, now):
            for other in suspects:
                if other.suspect is None:
                    other.suspect, other.asked = now, False
                    self._placement.update(other)
        for job, attempt in ended:
            effects += self._again(job, node, attempt, now, (host, alone))
        if gone and not kept:
            seconds = self._bench.died(_house(node), node.identity, now)
            effects += self._benched(_house(node), seconds, now)
        if back:  # what it brings is its own again before anything is given to others
            return effects
        return effects + self._assign(now)

    def _doubt(self, node: Node, now: float) -> list[Effect]:
        """Suspect a node that has been silent, and have one that is suspect say a word."""
        if node.suspect is None:
            if now - node.heard > SUSPECT_BEATS * self.limits.heartbeat_seconds:
                node.suspect, node.asked = now, False
                self._placement.update(node)
        elif not node.asked and now > node.suspect + SETTLE_SECONDS:
            node.asked = True  # it answers a Welcome with a heartbeat, at once
            return [Send(node.peer, Welcome(self.main, self.limits.heartbeat_seconds, self.kinds))]
        return []

    def _trust(self, node: Node, now: float) -> list[Effect]:
        """A suspect node is heard."""
        node.suspect = None
        self._placement.update(node)
        return self._resume(self._absence.heard(node, now), now) + self._assign(now)

    def _resume(self, jobs: Iterable[Job], now: float) -> list[Effect]:
        """Give jobs to others that have waited for a node to come back; or give them up."""
        effects: list[Effect] = []
        for job in jobs:
            failed = self._has_failed(job)
            if failed and self._absence.hopes(job, now):
                continue
            self._placement.add(job, first=True)
            if failed:
                effects += self._finish(job, "exhaust", now)
        return effects

    def _dequeue(self, job: Job) -> None:
        """Take a job that nobody has from where it waits."""
        if not self._absence.let_go(job):
            self._placement.remove(job)

    def _benched(self, who: str, seconds: float, now: float) -> list[Effect]:
        """Say so if a node has just been benched, by its id, name or key, and see to it."""
        if not seconds:
            return []
        reason = self._bench.why(who, now)
        for other in self._nodes.values():
            if who in (other.name, _house(other), _liar(other)):
                other.benched = reason
        return [Benched(who, reason, seconds)]

    def _forget(self, node: Node, reason: str, stopped: bool = False) -> list[Effect]:
        del self._nodes[node.peer]
        del self._peers[node.identity]
        del self._hosts[node.host][node.peer]
        if not self._hosts[node.host]:
            del self._hosts[node.host]
        self._placement.forget(node)
        node.inbox.close()
        return [Left(node.name, reason, stopped, node.solved, node.foreign)]

    def _bye(self, node: Node, message: Bye, now: float) -> list[Effect]:
        effects = self._forget(node, message.reason, stopped=True)
        for task in list(node.tasks.values()):
            self._take_from(task, now)
            effects += self._again(task.job, node, None, now)
        return effects + self._assign(now)

    def _reconcile(
        self, node: Node, holds: Iterable[int], now: float, excused: int = 0
    ) -> list[Effect]:
        """Agree with a node on what it has in hand.

        Args:
            node: whose word it is.
            holds: tasks, as it says.
            now: the time.
            excused: how many of them it may hold in vain, beside those that ended just now.
        """
        effects: list[Effect] = []
        held = set(holds)
        for task_id in [i for i, told in node.unclaimed.items() if i not in held and not told]:
            del node.unclaimed[task_id]
            self._placement.update(node)
        unknown = held - node.tasks.keys()
        told = node.still_hears(held, now - UNCONFIRMED_SECONDS)
        self.noise += max(0, len(unknown - told) - excused) / 16
        cancels: list[Effect] = []
        for task_id in unknown:
            job = self._ledger.job_of(task_id, node)
            expected = job is None and self._ledger.expects(task_id, node)
            if (job is not None or expected) and not self._placement.may_have(node):
                cancels += self._turn_down(node, task_id, job, now)
            elif expected:
                node.unclaimed.setdefault(task_id, None)
                self._placement.update(node)
            elif job is None or any(other in node.tasks for other in job.tasks):
                if task_id not in told and len(cancels) < MAX_CANCELS:
                    cancels.append(Send(node.peer, Cancel(task_id)))
                    if task_id in node.ended:
                        node.end(task_id, now)
            else:  # given up, and here it is again
                self._adopt(self._ledger.again(task_id, job, node, now))
        effects += cancels
        # Offers go in order: where a later one has come, or a while has passed, it is lost.
        newest = max(held & node.tasks.keys(), default=0)
        if newest or not node.tasks:
            self._has_read(node, node.tasks[newest].mark if newest else node.told)
        lost = (
            task for task in node.tasks.values()
            if task.id not in held
            and now - task.asked > UNCONFIRMED_SECONDS * (
                1 if task.id < newest else 2 ** min(task.repeats, MAX_DOUBLINGS)
            )
        )  # fmt: skip
        for task in islice(lost, MAX_REPEATS):
            task.asked, task.repeats = now, task.repeats + 1
            effects.append(Send(node.peer, task.offer()))
        return effects

    def _turn_down(self, node: Node, task_id: int, job: Job | None, now: float) -> list[Effect]:
        """Have a node give up a task that it brings: as many others have some as may have any."""
        if node.unclaimed.get(task_id) is not None:  # it is solved, and its job may yet be wanted
            return []
        if node.unclaimed.pop(task_id, 0) is None:
            self._placement.update(node)
        effects: list[Effect] = [Send(node.peer, Cancel(task_id))]
        if job is not None and not job.tasks:  # it was left to this node
            effects += self._again(job, node, None, now)
        return effects

    def _has_read(self, node: Node, mark: int) -> None:
        """A node has read what it was offered so far: offers go in order."""
        if node.read < mark:
            node.read = mark
            self._placement.update(node)

    def _heartbeat(self, node: Node, message: Heartbeat, now: float) -> list[Effect]:
        self.noise += 1 + len(message.tasks) / 256
        in_vain = False  # something was asked back that had begun
        for task_id, fraction in message.progress.items():
            task = node.tasks.get(task_id)
            if task is not None:
                node.waiting.discard(task_id)
                if task.begun is None:
                    task.begun = task.moved = now
                    in_vain |= task.recalled is not None
                if fraction > task.progress:
                    task.progress, task.moved = fraction, now
                task.note = message.notes.get(task_id, "")
        effects = self._reconcile(node, message.tasks, now)
        if in_vain:
            self._placement.press_on()
            effects += self._assign(now)
        return effects

    def _ready(self, node: Node, message: Ready, now: float) -> list[Effect]:
        self.noise += 1
        node.credit = message.credit
        self._placement.update(node)
        return self._assign(now)

    def _busy(self, node: Node, message: Busy, now: float) -> list[Effect]:
        self.noise += TOLD_NOISE
        node.busy_others = message.others
        self._placement.update(node)
        return self._assign(now)

    def _waiting(self, node: Node, message: Waiting, now: float) -> list[Effect]:
        self.noise += TOLD_NOISE + len(message.tasks) / 256
        node.waiting = set(message.tasks) & node.tasks.keys()
        self._placement.update(node)
        return self._assign(now)

    # Jobs go out.

    def _assign(self, now: float) -> list[Effect]:
        """Give queued jobs to nodes with credit; ask back what waits while a node is idle."""
        effects: list[Effect] = []
        self._placement.now = now
        while (given := self._placement.next()) is not None:
            effects += self._offer(*given, now)
        effects += [Send(task.node.peer, Recall(task.id)) for task in self._placement.recalls()]
        return effects

    def _offer(self, job: Job, node: Node, now: float) -> list[Effect]:
        """Give a job, which is not in the queue any more, to a node."""
        task = self._ledger.new_task(job, node, now)
        node.told += job.offered
        task.mark = node.told
        self._give(task)
        if job.blobs:
            chunks = sum(chunks_of(array.nbytes) for array in job.blobs.values())
            node.owed = max(node.owed, 0) + 2 * chunks + SPARE_CHUNKS
        offer = Send(node.peer, task.offer())
        if self.keeps and job.data.kept:
            return [Offered(task.id, job.id, node.identity), offer]
        return [offer]

    def _give(self, task: Task) -> None:
        """Put a task into its node's hands; its job is not in the queue any more."""
        self._ledger.give(task)
        self._placement.update(task.node)

    def _adopt(self, task: Task) -> None:
        """Put a task that had been given up back into its node's hands."""
        job = task.job
        if job.state is JobState.QUEUED:
            self._dequeue(job)
        self._give(task)

    # Jobs come back.

    def _take_back(self, task: Task, now: float) -> None:
        """Take a task out of the hands of a node that may be about to answer."""
        self._take_from(task, now)
        self._was_late(task.node, 1, now)

    def _take_from(self, task: Task, now: float) -> None:
        """Take a task out of its node's hands."""
        node = task.node
        node.tasks.pop(task.id, None)
        node.end(task.id, now)
        node.waiting.discard(task.id)
        if task.solution is not None:
            self._let_go(task)
        self._ledger.take(task)
        self._placement.update(node)

    def _let_go(self, task: Task) -> None:
        """Wait no more for a solution's arrays."""
        node = task.node
        node.read = max(node.read, task.mark)
        self._held.pop(task.id, None)
        lacking, task.lacking, task.arrived = task.lacking, frozenset(), None
        for digest in lacking:
            if not any(digest in other.lacking for other in node.tasks.values()):
                node.inbox.forget(digest)

    def _again(
        self, job: Job, node: Node, attempt: Attempt | None, now: float,
        lost: tuple[str, bool] | None = None,
    ) -> list[Effect]:  # fmt: skip
        """Queue a job again after a task of it ended unsolved.

        Args:
            job: whose task it was.
            node: where.
            attempt: what it counts as; None: as nothing.
            now: the time.
            lost: the host where its node was lost, and whether none else is there.
        """
        if not job.open:
            return []
        effects: list[Effect] = []
        if attempt is not None:
            job.attempts += (attempt,)
            job.failed_at += (node.identity,)
            job.failed_with += (node.owner,)
            if attempt.kind not in (*_LOST, "limit"):  # that is as its owner wishes
                why = f"{attempt.kind}: {attempt.message}"
                effects += self._benched(
                    node.name, self._bench.failed(node.name, job.id, why, now), now
                )
            if self._has_failed(job):
                if job.state is JobState.QUEUED or not self._absence.hopes(job, now):
                    return effects + self._finish(job, "exhaust", now)
                self._ledger.free(job)
            self.retries += 1
            effects.append(Retry(job.id, attempt))
        if not job.tasks and job.keeping is None and job.state is JobState.RUNNING:
            self._ledger.free(job)
            if lost is None or not self._absence.hold(job, lost[0], now, alone=lost[1]):
                self._placement.add(job, first=True)
        return effects

    def _has_failed(self, job: Job) -> bool:
        """Whether a job has failed for good.

        Nobody alone can make it fail, by one key or from one host, while others are here who have
        not tried it; nor does it fail while somebody still works on it.
        """
        if job.keeping is not None or job.tasks or not job.exhausted(self.limits.max_attempts):
            return False
        owners = len(set(job.failed_with))
        return owners >= self.limits.max_attempts or not self._placement.elsewhere(job)

    def _returned(self, node: Node, message: Returned, now: float) -> list[Effect]:
        task = node.tasks.get(message.task)
        if task is None or task.recalled is None:
            self.noise += 1
        if task is None:
            node.unclaimed.pop(message.task, None)
            self._placement.update(node)
            return []
        node.read = max(node.read, task.mark)
        self._take_from(task, now)
        self._ledger.disown(task.id)
        node.rests = task.recalled is None  # else giving back could go on at any speed
        self._placement.update(node)
        return [*self._again(task.job, node, None, now), *self._assign(now)]

    def _failed(self, node: Node, message: TaskFailed, now: float) -> list[Effect]:
        effects: list[Effect] = [Send(node.peer, Accepted((message.task,)))]
        task = self._unsolved(node, message.task, now)
        if task is None:
            return effects + self._assign(now)
        kind = message.kind if message.kind in _KINDS else "raised"
        if kind == "limit" and node.hello.max_job_seconds:
            self._placement.pace.outlasted(task, node.hello.max_job_seconds, now)
        attempt = Attempt(node.signed, kind, message.message, message.traceback)
        return [*effects, *self._again(task.job, node, attempt, now), *self._assign(now)]

    def _unsolved(self, node: Node, task_id: int, now: float) -> Task | None:
        """Take a task out of the hands of a node that has not solved it; None: it had none."""
        task = node.tasks.get(task_id)
        if task is None:
            self.noise += 1
            if self._ledger.expects(task_id, node):
                node.unclaimed.pop(task_id, None)
                self._ledger.disown(task_id)
                self._placement.update(node)
            return None
        if task.job.keeping is task:  # it has sent the solution before
            return None
        node.read = max(node.read, task.mark)
        self._take_from(task, now)
        self._ledger.disown(task.id)  # a heartbeat from before must not bring it back
        return task

    def _unreached(self, node: Node, message: Unreached, now: float) -> list[Effect]:
        """A node can't reach what a task needs: no attempt, and no fault of anybody's."""
        effects: list[Effect] = [Send(node.peer, Accepted((message.task,)))]
        task = self._unsolved(node, message.task, now)
        if task is None:
            return effects + self._assign(now)
        job, source = task.job, message.source or "unnamed"
        if source not in job.sources and len(job.sources) <= MAX_SOURCES:
            job.sources += (source,)
        if node.cannot_reach(source, message.reason, now + UNREACHED_SECONDS):
            effects.append(NotReached(node.signed, source, message.reason))
        self._placement.unsettle()
        return [*effects, *self._again(job, node, None, now), *self._assign(now)]

    def _overdue(self, node: Node, now: float) -> list[Effect]:
        """Cancel what runs longer than its job allows, or does not move any more."""
        effects: list[Effect] = []
        for place, task in enumerate(list(node.tasks.values())):
            kind, message = overdue(task, place, now)
            if kind and task.in_hand:
                self._take_back(task, now)
                self._ledger.disown(task.id)
                attempt = Attempt(node.signed, kind, message)
                effects.append(Send(node.peer, Cancel(task.id)))
                effects += self._again(task.job, node, attempt, now)
            elif task.recalled is not None and now - task.recalled > RECALL_SECONDS:
                if task.begun is not None or task.solution is not None:
                    task.recalled = None
                elif task.in_hand:
                    self._take_back(task, now)
                    self._ledger.disown(task.id)
                    effects.append(Send(node.peer, Cancel(task.id)))
                    effects += self._again(task.job, node, None, now)
        return effects

    def _solution(self, node: Node, message: SolutionReady, now: float) -> list[Effect]:
        job = self._ledger.job_of(message.task, node)
        if job is None and self._ledger.expects(message.task, node):
            node.unclaimed[message.task] = message
            self._placement.update(node)
            return []
        if job is None:  # solved meanwhile, by this node or by another
            self.noise += 1
            node.unclaimed.pop(message.task, None)
            self._placement.update(node)
            return [Send(node.peer, Accepted((message.task,)))]
        task = node.tasks.get(message.task)
        if task is not None and task.solution is not None:  # a repeat; its arrays are on their way
            self.noise += 1
            return []
        specs = [spec for spec in message.arrays.values() if isinstance(spec, ArraySpec)]
        if specs and not self._holds(message):
            return []
        if task is None:  # welcome, whoever has tasks by now: its node does not work on it any more
            task = self._ledger.again(message.task, job, node, now)
            self._adopt(task)
        self.noise -= NOISE_PER_JOB
        task.solution, task.moved = message, now
        if not specs:
            return self._whole(task, now)
        claimed = sum(spec.nbytes for spec in specs)
        most = job.data.max_solution_bytes
        if most is None:
            most = self.limits.max_solution_bytes
        if claimed > most:
            reason = f"it claims {claimed} bytes of arrays, more than {most}"
            return self._failed(node, TaskFailed(task.id, "transfer", reason), now)
        task.lacking, task.arrived = {spec.digest for spec in specs}, {}
        return [Send(node.peer, need) for spec in specs for need in node.inbox.want(spec, now)]

    def _holds(self, message: SolutionReady) -> bool:
        """Whether there is room for a solution until its arrays are here; then count it."""
        here = sum(
            array.nbytes for array in message.arrays.values() if not isinstance(array, ArraySpec)
        )
        plain = packed_bytes(message.metrics) if message.metrics else 0
        nbytes = len(message.payload) + here + PLAIN_EXPANSION * plain
        nbytes += SPEC_BYTES * len(message.arrays)
        if nbytes <= PLAIN_EXPANSION * SMALL_SOLUTION_BYTES:
            return True
        if sum(self._held.values()) + nbytes > HELD_SOLUTION_BYTES:
            return False
        self._held[message.task] = nbytes
        return True

    def _chunk(self, node: Node, message: Chunk, now: float) -> list[Effect]:
        held, surplus = node.inbox.held(message.digest), node.inbox.surplus
        try:
            needs, content = node.inbox.receive(message, now)
        except RemoteProtocolError as error:
            return self._broken(node, message.digest, str(error), now)
        self.noise += CHUNK_NOISE * (node.inbox.surplus - surplus)
        effects: list[Effect] = [Send(node.peer, need) for need in needs]
        lacking = [task for task in node.tasks.values() if message.digest in task.lacking]
        if content is not None or node.inbox.held(message.digest) > held:  # no repeat
            for task in node.tasks.values():  # the others' arrays come behind this one
                if task.lacking:
                    task.moved = now
        if content is None:
            return effects
        for task in lacking:
            if task.id in node.tasks:  # accepting one may have cancelled the next
                effects += self._arrived(task, message.digest, content, now)
        return effects

    def _arrived(self, task: Task, digest: bytes, content: AnyArray, now: float) -> list[Effect]:
        assert task.solution is not None
        assert isinstance(task.lacking, set)
        assert task.arrived is not None
        task.lacking.discard(digest)
        task.arrived[digest] = content
        if task.lacking:
            return []
        try:
            arrays = fill(task.solution.arrays, task.arrived)
        except RemoteProtocolError as error:
            return self._failed(task.node, TaskFailed(task.id, "transfer", str(error)), now)
        task.solution = replace(task.solution, arrays=arrays)
        return self._whole(task, now)

    def _broken(self, node: Node, digest: bytes, reason: str, now: float) -> list[Effect]:
        """A solution can't be had: its task has failed."""
        effects: list[Effect] = []
        for task in [task for task in node.tasks.values() if digest in task.lacking]:
            effects += self._failed(node, TaskFailed(task.id, "transfer", reason), now)
        return effects

    def _whole(self, task: Task, now: float) -> list[Effect]:
        """All of a solution is here."""
        message = task.solution
        assert message is not None
        task.whole = JobSolutionDataType.received(message.metrics, message.payload, message.arrays)
        return self._settle(task, now)

    def _settle(self, task: Task, now: float) -> list[Effect]:
        """Accept a whole solution, or have it kept first."""
        if not (self.keeps and task.job.data.kept):
            return self._accept(task, now)
        if task.job.keeping is not None:  # another task's; this one waits for what comes of that
            return []
        task.job.keeping = self._keeping[task.id] = task
        assert task.whole is not None
        return [Keep(task.id, task.job.id, task.whole, task.node.signed)]

    def _accept(self, task: Task, now: float) -> list[Effect]:
        assert task.whole is not None
        node = task.node
        node.solved += 1
        self._bench.solved(node.name)
        self._placement.pace.solved(task, now)
        effects: list[Effect] = [Accept(task.job.id, task.whole, node.name)]
        if task.in_hand:  # its node may have been lost while its solution was kept
            self._take_from(task, now)
            effects.append(Send(node.peer, Accepted((task.id,))))
        return [*effects, *self._finish(task.job, "accept", now), *self._assign(now)]

    def _finish(self, job: Job, event: str, now: float) -> list[Effect]:
        """End a job: cancel its other tasks, forget it, say so if it failed."""
        effects: list[Effect] = []
        if job.state is JobState.QUEUED:
            self._dequeue(job)
        for task in self._hands(job):
            self._take_back(task, now)
            effects.append(Send(task.node.peer, Cancel(task.id)))
        self._ledger.close(job, event)
        if job.state is JobState.FAILED:
            effects.append(Fail(job.id, job.attempts))
        return effects

    def _hands(self, job: Job) -> list[Task]:
        """Return the tasks of a job that nodes have in hand."""
        if not job.tasks:
            return []
        return [
            node.tasks[i] for node in self._nodes.values() for i in job.tasks if i in node.tasks
        ]

    def _need(self, node: Node, message: Need, now: float) -> list[Effect]:
        wanted = [task for task in node.tasks.values() if message.digest in task.job.blobs]
        array: AnyArray | None = wanted[0].job.blobs[message.digest] if wanted else None
        chunks = answer(message, array)
        node.owed -= asked_of(chunks)
        node.inbox.cross(now)
        if array is None or not chunks or node.owed < 0:
            self.noise += 1 + CHUNK_NOISE * len(chunks)
        else:
            for task in node.tasks.values():  # the others' arrays come behind this one
                if task.begun is None and task.job.blobs:
                    task.moved = now
        if array is not None:
            node.holds.add(message.digest)
        return [Send(node.peer, chunk) for chunk in chunks]


def identify(hello: Hello, key: Key | None) -> str:
    """Return who a node is: its id, bound to the key and the secret that it came with."""
    shown = hello.secret if key is None else key.public + hello.secret
    if not shown:
        return hello.node
    return f"{hello.node}@{hashlib.blake2b(shown, digest_size=12).hexdigest()}"


def _house(node: Node) -> str:
    """Return whose deaths are counted together: those of a name, and a key."""
    return node.signed.replace(node.name, node.hello.name, 1)


def _liar(node: Node) -> str:
    """Return who is not believed any more where a node lied."""
    return f"key {node.key}" if node.key else node.name
