"""The thread that owns a computing node's connections, its sessions and its workers."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from protocol import LocalProtocolError, ProtocolError
from protocol.codec import batches, decode, encode
from protocol.effects import Abort, Ended, NodeEffect, Reconnect, Run, Serving, Tell
from protocol.keys import NodeKeys
from protocol.messages import AnyArray, Hello, Message
from protocol.monitor import Event, Happened
from protocol.session import Session, SessionState
from protocol.shell import Shell
from protocol.sockets import READABLE, close, connect, make_context, receive, send

from .errors import NodeError, Refused
from .replier import JobReplier, Outcome, Task, Workers

log = logging.getLogger("mnist.compute")

DRAIN = 500
#: A task that runs longer than this makes its place count as taken, for other main nodes.
BUSY_SECONDS = 0.02
TICK_SECONDS = 0.01
#: Without a main node for this long, it is said once.
WARN_SECONDS = 5.0
#: Where there was no room to send, it is tried again after this long.
STUCK_SECONDS = 0.005
#: After a failed handshake a new connection is made after so long, then twice as long each time,
#: up to the limit.
RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 4.0
#: Handshakes that fail without a reason given are told from the second on: a main node that ends
#: in the middle of one is no mistake.
TELL_FROM = 2


class _Link:
    """The connection to one main node, and the session over it."""

    def __init__(
        self, context: Any, poller: Any, address: str, keys: NodeKeys | None, session: Session
    ) -> None:
        self.address = address
        self.keys = keys
        self.session = session
        self.connected = False
        self.greeting_since = 0.0
        self.looking_since = time.monotonic()
        self.warned = False
        self.outgoing: deque[Message] = deque()
        self.failures = 0
        self.told = ""
        self._again_at: float | None = None
        self._context = context
        self._poller = poller
        self._open()

    def _open(self) -> None:
        self.socket, self.monitor = connect(self._context, self.address, self.keys)
        self._poller.register(self.socket, READABLE)
        self._poller.register(self.monitor.socket, READABLE)

    def reopen(self) -> None:
        """Make a new connection in place of one that is worth nothing."""
        self.close(0)
        self.connected = False
        self.outgoing.clear()
        self._open()

    def pause(self, now: float) -> None:
        """Give a connection up that failed before it was one, and make another after a while.

        ZeroMQ itself would either not try again, or every 20 ms.
        """
        self.close(0)
        self.connected = False
        self.outgoing.clear()
        self._again_at = now + min(RETRY_SECONDS * 2 ** min(self.failures, 8), MAX_RETRY_SECONDS)
        self.failures += 1

    def go_on(self, now: float) -> None:
        """Connect again, if it is time."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self._open()

    @property
    def paused(self) -> bool:
        """Whether there is no connection, and none is tried."""
        return self._again_at is not None

    def close(self, linger: int | None = None) -> None:
        if self.paused:
            return
        self._poller.unregister(self.socket)
        self._poller.unregister(self.monitor.socket)
        close(self.socket, self.monitor, linger)

    def flush(self) -> bool:
        """Send what can be sent; return whether something had to wait."""
        if not self.connected:  # a session sends again whatever matters
            self.outgoing.clear()
        for batch in batches(list(self.outgoing)):
            try:
                if not send(self.socket, encode(batch)):
                    return True
            except LocalProtocolError:  # a bug: what can't be sent is refused on the way in
                log.exception("message.unsendable address=%s", self.address)
            for _ in batch:
                self.outgoing.popleft()
        return False


class Dealer(Shell):
    """The thread that owns the connections, the sessions and the workers."""

    def __init__(
        self,
        hello: Hello,
        addresses: Sequence[str],
        replier: JobReplier,
        *,
        max_jobs: int | None,
        dead_seconds: float,
        cache_bytes: int,
        allocate: Callable[[int], AnyArray] | None,
        keys: NodeKeys | None = None,
    ) -> None:
        super().__init__(f"{hello.name} connections")
        self.ended = threading.Event()
        self.failure: NodeError | None = None
        self._replier = replier
        self._max_jobs = max_jobs
        self._dead_seconds = dead_seconds
        self._tasks: dict[tuple[int, int], Task] = {}  # (link, task id) -> task
        self._running: dict[tuple[int, int], float] = {}  # those that run -> since when
        self._begin: list[Task] = []
        self._tick_at = 0.0
        self._context = make_context()
        self._links: list[_Link] = []
        self._workers: Workers | None = None
        try:
            for address in dict.fromkeys(addresses):
                session = Session(
                    hello, dead_seconds=dead_seconds, cache_bytes=cache_bytes, allocate=allocate
                )
                self._links.append(_Link(self._context, self.poller, address, keys, session))
        except ProtocolError:
            self.finish()
            raise
        self._workers = Workers(replier, hello.tasks, self._report)

    def _report(self, report: Task | Outcome) -> None:
        """Take a report from a worker's thread; a beginning is not worth waking up for."""
        self.call_soon(partial(self._take, report), urgent=type(report) is Outcome)

    def turn(self, ready: dict[Any, int], now: float) -> float:
        """Receive, let time pass, send, and only then let the workers begin."""
        for place, link in enumerate(self._links):
            if link.paused:
                continue
            if link.socket in ready:  # before its end is noticed: a Stop may be in there
                self._drain(place, now)
            if link.monitor.socket in ready:
                for event in link.monitor.read():
                    if self._happened(place, event, now):
                        break  # the monitor is another's now
        if now >= self._tick_at:
            self._tick_at = now + TICK_SECONDS
            self._tick(now)
        if self._max_jobs == 0 and not any(link.session.unaccepted for link in self._links):
            self.ended.set()
        due = now + 1.0
        for link in self._links:
            if link.outgoing and link.flush():
                due = now + STUCK_SECONDS
            due = min(due, max(self._tick_at, link.session.wake_at(now)))
        if self._begin and self._workers is not None:
            begin, self._begin = self._begin, []
            for task in begin:  # last, because no worker can go on before the poll
                self._workers.put(task)
        return due

    def _tick(self, now: float) -> None:
        for key, task in self._tasks.items():
            self._links[key[0]].session.progressed(key[1], task.fraction, task.note)
        long = [key for key, since in self._running.items() if now - since > BUSY_SECONDS]
        for place, link in enumerate(self._links):
            link.go_on(now)
            effects = link.session.tick(now)
            effects += self._unanswered(link, now)
            self._warn(link, now)
            if len(self._links) > 1:
                effects += link.session.occupied(sum(key[0] != place for key in long))
            self._perform(place, effects, now)

    def _warn(self, link: _Link, now: float) -> None:
        """Say once that nobody is there: the address may be wrong."""
        if link.connected or link.warned or now - link.looking_since < WARN_SECONDS:
            return
        link.warned = True
        log.warning(
            "main.not_found address=%s: no main node answers there; is the name and port right,"
            " and is it started? still looking", link.address,
        )  # fmt: skip

    def _unanswered(self, link: _Link, now: float) -> list[NodeEffect]:
        """Give a connection up over which no Hello is answered: nothing may be behind it."""
        greeting = link.session.state is SessionState.GREETING
        if link.connected and greeting and now - link.greeting_since > self._dead_seconds:
            return [Reconnect(f"no answer for {self._dead_seconds:g} s")]
        return []

    def _drain(self, place: int, now: float) -> None:
        link = self._links[place]
        for _ in range(DRAIN):
            frames = receive(link.socket, small=2)
            if frames is None:
                return
            try:
                for message in decode(frames):
                    self._perform(place, link.session.receive(message, now), now)
            except ProtocolError as error:
                log.warning("main.misbehaves address=%s reason=%r", link.address, str(error))
            except Exception:  # a bug here; the other main nodes must not suffer
                log.exception("main.broke_us address=%s", link.address)

    def _happened(self, place: int, event: Event, now: float) -> bool:
        """See to what happened to a connection; return whether it was given up."""
        link = self._links[place]
        if event.what is Happened.CONNECTED:
            link.connected = True
            link.warned = False
            link.failures, link.told = 0, ""
            link.greeting_since = now
            if link.session.state is SessionState.GREETING:
                self._perform(place, link.session.greet(now), now)
        elif event.what is Happened.DISCONNECTED:
            if link.connected:
                log.info("main.disconnected address=%s", link.address)
            link.connected = False
            link.looking_since = now
            link.session.cut()
        else:
            link.session.cut()
            link.pause(now)
            if link.told != event.cause and (link.failures >= TELL_FROM or link.keys):
                link.told, link.warned = event.cause, True
                log.warning(
                    "connection.failed address=%s cause=%r; still trying",
                    link.address, event.cause,
                )  # fmt: skip
            return True
        return False

    def _perform(self, place: int, effects: list[NodeEffect], now: float) -> None:
        link = self._links[place]
        for effect in effects:
            if type(effect) is Tell:
                link.outgoing.append(effect.message)
            elif type(effect) is Run:
                key = (place, effect.task)
                task = self._tasks[key] = Task(key, effect.job, effect.job_id, effect.client)
                self._begin.append(task)
            elif type(effect) is Abort:
                self._abort((place, effect.task))
            elif type(effect) is Serving:
                self._leave_double(link, effect.welcome.main)
                log.info("main.joined address=%s id=%s", link.address, effect.welcome.main)
                self._prepare(effect.welcome.learners)
            elif type(effect) is Reconnect:
                log.warning("main.reconnecting address=%s reason=%r", link.address, effect.reason)
                link.reopen()
            elif type(effect) is Ended:
                self._ended(link, effect)

    def _leave_double(self, link: _Link, main: str) -> None:
        """Keep one connection only to a main node that has several addresses here."""
        for other in self._links:
            serving = other.session.state is SessionState.SERVING
            if other is not link and serving and other.session.main == main:
                log.warning(
                    "main.twice address=%s: the same main node as %s; this one is used",
                    other.address, link.address,
                )  # fmt: skip
                for effect in other.session.leave("twice"):
                    if type(effect) is Abort:
                        self._abort((self._links.index(other), effect.task))
                other.pause(math.inf)

    def _prepare(self, learners: tuple[str, ...]) -> None:
        try:
            self._replier.prepare(learners)
        except Exception:  # a job will meet the same trouble, and tell
            log.exception("replier.unprepared")

    def broke(self, error: Exception) -> None:
        """Let `wait` raise."""
        self.failure = NodeError(f"the node broke down: {type(error).__name__}: {error}")
        self.ended.set()

    def _ended(self, link: _Link, effect: Ended) -> None:
        if not effect.refused:
            log.info("main.ended address=%s reason=%r", link.address, effect.reason)
            link.greeting_since = time.monotonic()
            return
        log.error("main.refused address=%s reason=%r", link.address, effect.reason)
        if all(other.session.state is SessionState.REFUSED for other in self._links):
            self.failure = Refused(f"{link.address}: {effect.reason}")
            self.ended.set()

    def _abort(self, key: tuple[int, int]) -> None:
        task = self._tasks.pop(key, None)
        self._running.pop(key, None)
        if task is not None and self._workers is not None:
            self._workers.cancel(task)

    def _take(self, report: Task | Outcome) -> None:
        now = time.monotonic()
        if isinstance(report, Outcome):
            self._finished(report, now)
        elif report.key in self._tasks and self._session(report.key).started(report.key[1], now):
            self._running[report.key] = now

    def _session(self, key: tuple[int, int]) -> Session:
        return self._links[key[0]].session

    def _finished(self, outcome: Outcome, now: float) -> None:
        place, task_id = outcome.task.key
        if self._tasks.pop(outcome.task.key, None) is None:
            return
        self._running.pop(outcome.task.key, None)
        if self._max_jobs:  # told before the solution, which would bring another job
            self._count_down(now)
        session = self._links[place].session
        if outcome.solution is not None:
            effects = session.solved(task_id, outcome.solution, outcome.seconds, now)
        else:
            log.warning("task.failed kind=%s message=%r", outcome.kind, outcome.message)
            effects = session.failed(task_id, outcome.kind, outcome.message, outcome.traceback, now)
        self._perform(place, effects, now)

    def _count_down(self, now: float) -> None:
        assert self._max_jobs is not None
        self._max_jobs -= 1
        for place, link in enumerate(self._links):
            self._perform(place, link.session.limit(self._max_jobs), now)

    def leave(self, reason: str) -> None:
        """Hand everything back and say goodbye."""
        for place, link in enumerate(self._links):
            self._perform(place, link.session.leave(reason), time.monotonic())
            link.flush()

    def finish(self) -> None:
        """Close the connections, the workers and the replier."""
        for link in self._links:
            link.close()
        self._context.term()
        if self._workers is not None:
            self._workers.close()
            self._replier.close()
