"""The thread that owns a computing node's connections, its sessions and its workers."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

from protocol import LocalProtocolError, ProtocolError
from protocol.carrier.discovery import Found
from protocol.carrier.keys import NodeKeys
from protocol.carrier.latch import Latch
from protocol.carrier.link import LOOK_SECONDS, STUCK_SECONDS, TRY_SECONDS, Link
from protocol.carrier.logbudget import LogBudget
from protocol.carrier.monitor import Event, Happened
from protocol.carrier.shell import Shell
from protocol.carrier.sockets import make_context
from protocol.machine.effects import (
    Abort,
    Ended,
    NodeEffect,
    Reconnect,
    Rejected,
    Run,
    Serving,
    Tell,
)
from protocol.machine.limits import NodeLimits
from protocol.machine.session import Session, SessionState
from protocol.wire.codec import decode
from protocol.wire.entry import Entry
from protocol.wire.limits import NEWCOMERS_LINES, NEWCOMERS_LOG_BYTES
from protocol.wire.messages import REFUSE_KEY, Hello, Message, Refuse, Status, Watch
from protocol.wire.transfer import Memory

from .errors import NodeError, Refused
from .replier import JobReplier, Outcome, Task, Workers

log = logging.getLogger("mnist.compute")

#: Messages taken from a socket, and time for it, before anything else is done.
DRAIN = 500
DRAIN_SECONDS = 0.02
#: A task that runs longer than this makes its place count as taken, for other main nodes.
BUSY_SECONDS = 0.02
TICK_SECONDS = 0.01
#: Where nothing happens, time passes in such steps.
IDLE_SECONDS = 1.0
#: Of two ways to a main node the other is taken when the one has been cut for so long.
OTHER_WAY_SECONDS = 3.0
#: A main node that is announced no more may come back so long for what this node holds for it.
GONE_SECONDS = 3600.0
#: Main nodes served at once: whoever is in the network can announce as many as he likes.
MAX_MAINS = 256


class _Service(Link):
    """The connection to one main node, and the session over it.

    Args:
        number: that tasks know it by.
        session: the conversation.
    """

    def __init__(self, number: int, session: Session, *link: Any) -> None:
        super().__init__(*link)
        self.number = number
        self.session = session
        self.greeting_since = 0.0
        #: Whether it was discovered, and is announced no more.
        self.withdrawn = False
        #: Whether it is clear who is there, so that this node may introduce itself.
        self.certain = True
        #: The number of another service that leads to the same main node, and does.
        self.aside_for: int | None = None


class Dealer(Shell):
    """The thread that owns the connections, the sessions and the workers."""

    def __init__(
        self,
        hello: Hello,
        addresses: Sequence[str],
        replier: JobReplier,
        limits: NodeLimits,
        *,
        keys: NodeKeys | None = None,
        memory: Memory | None = None,
        discovers: bool = False,
        pulse: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(f"{hello.name} connections")
        self.ended = Latch()
        self.failure: NodeError | None = None
        self._replier = replier
        self._limits = limits
        self._jobs_left = limits.max_jobs
        self._max_seconds = hello.max_job_seconds or math.inf
        self._lines = LogBudget(NEWCOMERS_LINES, NEWCOMERS_LOG_BYTES)
        self._keys = keys
        self._discovers = discovers
        self._pulse = pulse
        self._tasks: dict[tuple[int, int], Task] = {}  # (service, task id) -> task
        self._running: dict[tuple[int, int], float] = {}  # those that run -> since when
        self._begin: deque[Task] = deque()
        #: How many tasks may still go to the workers, and those that are there.
        self._quota = math.inf if limits.max_jobs is None else limits.max_jobs
        self._at_work: set[tuple[int, int]] = set()
        self._tick_at = 0.0
        self._context = make_context()
        self._numbers = count()
        self._services: dict[int, _Service] = {}
        self._discovered: dict[str, _Service] = {}  # by what it is announced as
        self._workers: Workers | None = None
        self._domain = hello.domain
        self._make_session = partial(Session, hello, limits, memory)
        with self.whole(self._context):
            for address in dict.fromkeys(addresses):
                self._serve([address])
            self._workers = Workers(replier, hello.tasks, self._report)

    def _serve(self, addresses: Sequence[str], main: str = "") -> _Service:
        """Begin to serve a main node."""
        service = _Service(
            next(self._numbers), self._make_session(),
            self._context, self.poller, addresses, self._keys, log, main,
        )  # fmt: skip
        self._services[service.number] = service
        if self._jobs_left is not None:
            service.session.limit(self._jobs_left)
        return service

    def found(self, main: Found) -> None:
        """Serve a main node that was discovered, or learn where it is now; in this thread."""
        try:
            service = self._discovered.get(main.name)
            if service is not None:
                service.withdrawn = False
                if service.look_at(main.addresses):
                    service.session.doubt()
                return
            if len(self._services) >= MAX_MAINS:
                self._make_room()
            log.info(Entry("main.found", id=main.id, address=main.addresses))
            service = self._discovered[main.name] = self._serve(main.addresses, main.id)
            for other in self._services.values():
                serving = other.session.state is SessionState.SERVING
                if serving and other.session.main == main.id:  # there is a way to it already
                    service.pause(math.inf)
                    service.aside_for = other.number
        except Exception as error:  # whatever strangers announce
            log.warning(Entry("main.ignored", id=main.id, cause=str(error)))

    def _make_room(self) -> None:
        """Let go of what is announced and is nobody: a flood must not keep the right one out."""
        now = time.monotonic()
        away = [(s.lost_for(now), name) for name, s in self._discovered.items() if not s.connected]
        idle = [found for found in away if not self._discovered[found[1]].session.holds]
        gone = [found for found in away if self._discovered[found[1]].withdrawn]
        if idle or gone:
            _, name = max(idle or gone)
            self._discovered[name].withdrawn = True
            self._forget(name)
            return
        raise LocalProtocolError(f"{MAX_MAINS} main nodes are served already")

    def lost(self, name: str) -> None:
        """A main node that was discovered is announced no more; in this thread.

        Whoever still talks with it, or holds something for it, goes on.
        """
        if name in self._discovered:
            self._discovered[name].withdrawn = True

    def _forget_withdrawn(self) -> None:
        now = time.monotonic()
        for name, service in list(self._discovered.items()):
            if not service.withdrawn or service.connected:
                continue
            if not service.session.holds or service.lost_for(now) > GONE_SECONDS:
                log.info(Entry("main.gone", id=service.main))
                self._forget(name)

    def _forget(self, name: str) -> None:
        service = self._discovered.pop(name)
        if service.session.holds:
            log.warning(
                Entry(
                    "main.given_up", "it has not come back for them",
                    id=service.main, tasks=len(service.session.holds),
                )
            )  # fmt: skip
            self._perform(service, service.session.leave("gone"), time.monotonic())
        service.close(0)
        del self._services[service.number]
        if self._workers is not None:
            self._workers.forget(service.number)

    def _stand_in(self, aside: _Service, now: float) -> None:
        """Let a second way to a main node take the place of the first, which is cut.

        What this node holds for the main node goes over with the conversation.
        """
        first = self._services.get(aside.aside_for if aside.aside_for is not None else -1)
        aside.aside_for = None
        aside.session = self._make_session()
        if first is not None:
            aside.session, first.session = first.session, aside.session
            aside.number, first.number = first.number, aside.number
            self._services[aside.number], self._services[first.number] = aside, first
            first.pause(math.inf)
            first.aside_for = aside.number
        log.info(Entry("main.other_way", address=aside.address))
        aside.start_again(now)

    def _report(self, report: Task | Outcome) -> None:
        """Take a report from a worker's thread; a beginning is not worth waking up for."""
        self.call_soon(partial(self._take, report), urgent=type(report) is Outcome)

    def turn(self, ready: dict[Any, int], now: float) -> float:
        """Receive, let time pass, send, and only then let the workers begin."""
        for service in self._services.values():
            for event in service.read(ready, partial(self._drain, service, now), now):
                self._happened(service, event, now)
        if now >= self._tick_at:
            self._tick_at = now + TICK_SECONDS
            self._tick(now)
        if self._jobs_left == 0 and not any(s.session.unaccepted for s in self._services.values()):
            self.ended.set()
        due = max(self._tick_at, now + IDLE_SECONDS)
        for service in self._services.values():
            if service.outgoing and service.flush():
                due = now + STUCK_SECONDS
            due = min(due, max(self._tick_at, service.session.wake_at(now)))
            if service.connected:
                due = min(due, now + LOOK_SECONDS)
        if self._quota < len(self._begin):  # not all of them will begin
            self._begin = deque(sorted(self._begin, key=lambda task: -task.job.priority))
        while self._begin and self._quota and self._workers is not None:
            task = self._begin.popleft()
            self._quota -= 1
            self._at_work.add(task.key)
            self._workers.put(task)  # last, because no worker can go on before the poll
        return due

    def _tick(self, now: float) -> None:
        for key, task in self._tasks.items():
            self._session(key).progressed(key[1], task.fraction, task.note)
        long = [key for key, since in self._running.items() if now - since > BUSY_SECONDS]
        for key in long:
            if now - self._running[key] > self._max_seconds:
                self._stop(key, now)
        for service in list(self._services.values()):
            if service.aside_for is not None:
                first = self._services.get(service.aside_for)
                if first is None or first.lost_for(now) > OTHER_WAY_SECONDS:
                    self._stand_in(service, now)
                continue
            service.tick(now)
            if not service.watch(service.session.allowance, now):
                service.session.cut()
            effects = self._unanswered(service, now)
            if service.certain and not effects:
                effects = service.session.tick(now)
            if len(self._services) > 1:
                others = sum(key[0] != service.number for key in long)
                effects += service.session.occupied(others)
            self._perform(service, effects, now)
        if self._discovered:
            self._forget_withdrawn()
        if self._pulse is not None:
            self._pulse(now)

    def _unanswered(self, service: _Service, now: float) -> list[NodeEffect]:
        """Give a connection up over which no Hello is answered: nothing may be behind it."""
        greeting = service.session.state is SessionState.GREETING
        patience = self._limits.dead_seconds if service.certain else TRY_SECONDS
        if service.connected and greeting and now - service.greeting_since > patience:
            return [Reconnect(f"no answer for {patience:g} s")]
        return []

    def _drain(self, service: _Service, now: float) -> None:
        until = time.monotonic() + DRAIN_SECONDS
        for _ in range(DRAIN):
            frames = service.receive() if time.monotonic() < until else None
            if frames is None:
                return
            before = service.session.noise
            try:
                for message in decode(frames):
                    if service.certain:
                        self._perform(service, service.session.receive(message, now), now)
                    else:
                        self._ascertain(service, message, now)
                if not service.bear_noise(service.session.noise - before, now):
                    service.session.cut()
                    return
            except Exception as error:
                if not isinstance(error, ProtocolError) and self._lines.take(1000, now):
                    log.exception(Entry("main.broke_us", address=service.address))  # a bug here
                if not service.bear(str(error), now):
                    service.session.cut()
                    return

    def _happened(self, service: _Service, event: Event, now: float) -> None:
        """Go on after something has happened to a connection."""
        if event.what is not Happened.CONNECTED:
            service.session.cut()
            if event.final:
                refuse = Refuse(REFUSE_KEY, event.cause)
                self._perform(service, service.session.receive(refuse, now), now)
            return
        service.greeting_since = now
        service.certain = not service.dubious
        if not service.certain:
            service.outgoing.put(Watch("", "", self._domain))
        elif service.session.state is SessionState.GREETING:
            self._perform(service, service.session.greet(now), now)

    def _ascertain(self, service: _Service, message: Message, now: float) -> None:
        """Introduce this node if the right main node is there, and look elsewhere if not.

        Another one that this node works for would take it for a node that has lost everything.
        """
        if isinstance(message, Status) and message.main == service.main:
            service.certain = True
            self._perform(service, service.session.greet(now), now)
        elif isinstance(message, Status | Refuse):
            service.pause(now + TRY_SECONDS)

    def _perform(self, service: _Service, effects: list[NodeEffect], now: float) -> None:
        for effect in effects:
            if type(effect) is Tell:
                service.outgoing.put(effect.message)
            elif type(effect) is Run:
                key = (service.number, effect.task)
                task = self._tasks[key] = Task(key, effect.job, effect.job_id, effect.client)
                self._begin.append(task)
            elif type(effect) is Abort:
                self._abort((service.number, effect.task))
            elif type(effect) is Rejected:
                entry = Entry("task.rejected", job=effect.job, reason=effect.reason)
                service.say(logging.WARNING, entry)
            elif type(effect) is Serving:
                main = effect.welcome.main
                self._leave_double(service, main)
                service.say(logging.INFO, Entry("main.joined", address=service.address, id=main))
                self._prepare(effect.welcome.kinds)
            elif type(effect) is Reconnect and effect.later:
                service.leave_alone(effect.reason, now)
            elif type(effect) is Reconnect:
                address, reason = service.address, effect.reason
                service.say(
                    logging.WARNING, Entry("main.reconnecting", address=address, reason=reason)
                )
                service.reopen()
            elif type(effect) is Ended:
                self._ended(service, effect)

    def _leave_double(self, service: _Service, main: str) -> None:
        """Keep one connection only to a main node that has several addresses here."""
        for other in self._services.values():
            serving = other.session.state is SessionState.SERVING
            if other is not service and serving and other.session.main == main:
                log.warning(
                    Entry(
                        "main.twice", f"the same main node as {service.address}; this one is used",
                        address=other.address, used=service.address,
                    )
                )  # fmt: skip
                for effect in other.session.leave("twice"):
                    if type(effect) is Abort:
                        self._abort((other.number, effect.task))
                other.pause(math.inf)
                other.aside_for = service.number

    def _prepare(self, kinds: tuple[str, ...]) -> None:
        try:
            self._replier.prepare(kinds)
        except Exception:  # a job will meet the same trouble, and tell
            log.exception(Entry("replier.unprepared"))

    def broke(self, error: Exception) -> None:
        """Let `wait` raise."""
        self.failure = NodeError(f"the node broke down: {type(error).__name__}: {error}")
        self.ended.set()

    def _ended(self, service: _Service, effect: Ended) -> None:
        if not effect.refused:
            address, reason = service.address, effect.reason
            service.say(logging.INFO, Entry("main.ended", address=address, reason=reason))
            service.greeting_since = time.monotonic()
            return
        log.error(Entry("main.refused", address=service.address, reason=effect.reason))
        refused = (
            s.session.state is SessionState.REFUSED
            for s in self._services.values()
            if s.aside_for is None
        )
        if not self._discovers and all(refused):
            self.failure = Refused(f"{service.address}: {effect.reason}")
            self.ended.set()

    def _abort(self, key: tuple[int, int]) -> None:
        task = self._tasks.pop(key, None)
        self._running.pop(key, None)
        if task is None or self._workers is None:
            return
        if key in self._at_work:
            self._at_work.discard(key)
            self._quota += 1
            self._workers.cancel(task)
        else:
            self._begin.remove(task)

    def _take(self, report: Task | Outcome) -> None:
        now = time.monotonic()
        if isinstance(report, Outcome):
            self._finished(report, now)
        elif self._tasks.get(report.key) is not report:  # its number is another's by now
            return
        elif self._session(report.key).started(report.key[1], now):
            self._running[report.key] = now

    def _stop(self, key: tuple[int, int], now: float) -> None:
        """Stop a task that runs longer than this node's owner allows."""
        task, since = self._tasks[key], self._running[key]
        reason = f"this node stops jobs after {self._max_seconds:g} s (--max-job-seconds)"
        self._finished(Outcome(task, None, now - since, "limit", reason), now)
        if self._workers is not None:
            self._workers.cancel(task)

    def _session(self, key: tuple[int, int]) -> Session:
        return self._services[key[0]].session

    def _finished(self, outcome: Outcome, now: float) -> None:
        number, task_id = outcome.task.key
        if self._tasks.get(outcome.task.key) is not outcome.task:
            return
        del self._tasks[outcome.task.key]
        self._running.pop(outcome.task.key, None)
        self._at_work.discard(outcome.task.key)
        if self._jobs_left:  # told before the solution, which would bring another job
            self._count_down(now)
        service = self._services[number]
        session = service.session
        if outcome.solution is not None:
            effects = session.solved(task_id, outcome.solution, outcome.seconds, now)
        elif outcome.source:
            source, reason = outcome.source[:300], outcome.message[:300]
            self._warn(Entry("source.unreachable", source=source, reason=reason), now)
            effects = session.unreached(task_id, outcome.source, outcome.message, now)
        else:
            self._warn(Entry("task.failed", kind=outcome.kind, message=outcome.message), now)
            effects = session.failed(task_id, outcome.kind, outcome.message, outcome.traceback, now)
        self._perform(service, effects, now)

    def _warn(self, entry: Entry, now: float) -> None:
        """Log what a job has come to, if there is room for it."""
        if self._lines.take(len(str(entry)), now):
            log.warning(entry)

    def _count_down(self, now: float) -> None:
        assert self._jobs_left is not None
        self._jobs_left -= 1
        for service in list(self._services.values()):
            self._perform(service, service.session.limit(self._jobs_left), now)

    def leave(self, reason: str) -> None:
        """Hand everything back and say goodbye."""
        for service in self._services.values():
            self._perform(service, service.session.leave(reason), time.monotonic())
            service.flush()

    def finish(self) -> None:
        """Close the connections, the workers and the replier."""
        for service in self._services.values():
            service.close()
        self._context.term()
        if self._workers is not None:
            self._workers.close()
            self._replier.close()
