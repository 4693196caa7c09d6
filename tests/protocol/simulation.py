"""One dispatcher and several sessions over a simulated network that loses, repeats and delays.

Time is simulated, so a run of several minutes takes some milliseconds; every choice comes from
one seed, so a failure can be run again.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from protocol import JobDataType, JobSolutionDataType, RemoteProtocolError
from protocol.machine.dispatch import Dispatcher
from protocol.machine.effects import (
    Abort,
    Accept,
    Effect,
    Ended,
    Fail,
    Keep,
    Left,
    NodeEffect,
    Offered,
    Reconnect,
    Run,
    Send,
    Stranded,
    Tell,
)
from protocol.machine.ledger import Job, Ledger
from protocol.machine.limits import Limits, NodeLimits
from protocol.machine.session import Session, SessionState
from protocol.wire.codec import decode, encode
from protocol.wire.messages import Hello, Message

from .invariants import check, check_session

#: How often a dispatcher is told the time, in heartbeats: as its router does, or half as often.
TICKS = (0.25, 0.5, 0.5)
#: Of steps that said nothing, so many go by before the books are looked at.
QUIET = 8


@dataclass(frozen=True)
class Weather:
    """How bad things are: chances a message, and mean times between accidents in seconds.

    With a rate a connection is a line: it carries so many bytes a second each way, in order.
    """

    lose: float = 0.0
    repeat: float = 0.0
    delay: float = 0.01
    corrupt: float = 0.0
    crash_every: float = 0.0
    cut_every: float = 0.0
    freeze_every: float = 0.0
    restart_every: float = 0.0
    outage_every: float = 0.0
    rate: float = 0.0
    #: Chance that a node that is cut off is here again before its end is noticed.
    anew: float = 0.0


@dataclass
class SimulatedNode:
    """A computing node: its session, the connection it has now, and what it runs."""

    session: Session
    peer: bytes
    places: int
    #: Sources that it can't reach, until the network is mended.
    beyond: frozenset[str] = frozenset()
    alive: bool = True
    frozen_until: float = 0.0
    queue: list[Run] = field(default_factory=list)
    running: dict[int, Run] = field(default_factory=dict)


class Simulation:
    """A main node, its computing nodes and the network between them.

    Args:
        seed: of every choice.
        weather: how bad things are.
        nodes: how many computing nodes there are at any time.
        poison: jobs with these numbers raise wherever they run.
        keeps: whether solutions are kept, which takes time, before they are accepted.
        bad: chance that a node's solution is found unfit.
        seconds: that a job takes, at least and at most.
        places: jobs that a node runs at once.
        heartbeat: how often each side signals life; who is silent ten times as long is given up.
        hosts: at how many hosts the nodes are; 0: each is at its own, or behind the relay.
        checked: whether everybody's books are looked at after each step that has an effect, and
            now and then after others.
        company: what the nodes take, kinds, sources that they can't reach and their accelerator, in
            turn; those who come in the place of others are like them.
        mended: when every node can reach every source.
        most: so many nodes may have tasks at once.
    """

    #: What a node keeps of arrays.
    cache_bytes = 1 << 30

    def __init__(
        self, seed: int, weather: Weather, nodes: int, poison: frozenset[int] = frozenset(),
        max_attempts: int = 3, keeps: bool = False, bad: float = 0.0,
        seconds: tuple[float, float] = (0.001, 4), places: int = 1, heartbeat: float = 1.0,
        hosts: int = 0, checked: bool = False,
        company: Sequence[tuple[tuple[str, ...], frozenset[str], str]] = (),
        mended: float = math.inf, most: int | None = None,
    ) -> None:  # fmt: skip
        self.random = random.Random(seed)
        self.weather = weather
        self.poison = poison
        self.now = 0.0
        self.keeps = keeps or bool(weather.restart_every)
        self.bad = bad
        self._max_attempts = max_attempts
        self._heartbeat = heartbeat
        self._hosts = hosts or bool(weather.outage_every)
        self.checked = checked
        self._most = most
        self.dispatcher = self._make_dispatcher(None)
        self.lives = 1
        #: What a main node's memory holds: jobs, and tasks -> (job, node id).
        self.jobs: dict[int, JobDataType] = {}
        self.offered: dict[int, tuple[int, str]] = {}
        self.recomputed: list[int] = []
        self.handed_over = 0
        self.accepted: Counter[int] = Counter()
        self.solutions: dict[int, JobSolutionDataType] = {}
        self.failed: dict[int, Fail] = {}
        self.cancelled: set[int] = set()
        self.done: Counter[int] = Counter()  # how often nodes have worked on a job to its end
        self.left = 0  # nodes that were given up
        #: Sources that jobs need without saying so.
        self.needs: dict[int, str] = {}
        self.submitted: dict[int, float] = {}
        self.begun: dict[int, float] = {}
        self.unreached: Counter[int] = Counter()  # how often nodes could not reach what jobs need
        self.stranded: Counter[int] = Counter()  # how often it was said that nobody can
        self._mended = mended
        self.messages = self.carried = 0  # bytes
        #: What has happened, for a test to see that its runs have met it.
        self.met: Counter[str] = Counter()
        self._unchecked = 0  # steps since the books were looked at
        self._seconds, self._places = seconds, places
        self._free: dict[tuple[bytes, str], float] = {}  # when lines have carried what is on them
        self._order = count()
        self._peers = count(1)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._nodes: dict[bytes, SimulatedNode] = {}
        self._everybody: list[SimulatedNode] = []
        for number in range(nodes):
            self.add_node(places, *(company[number % len(company)] if company else ()))
        self._tick_every = TICKS[seed % len(TICKS)] * heartbeat
        self._later(self._tick_every, self._tick)
        if weather.restart_every:
            self._later(self.random.expovariate(1 / weather.restart_every), self.restart)
        if weather.outage_every:
            self._later(self.random.expovariate(1 / weather.outage_every), self.outage)

    def _make_dispatcher(self, ledger: Ledger | None) -> Dispatcher:
        return Dispatcher(
            "main", keeps=self.keeps, ledger=ledger,
            limits=Limits(
                heartbeat_seconds=self._heartbeat, dead_seconds=10 * self._heartbeat,
                max_attempts=self._max_attempts, max_nodes=self._most,
            ),
        )  # fmt: skip

    # What a test does.

    def cancel(self, job_id: int) -> None:
        """Cancel a job that is open."""
        if job_id not in self.accepted and job_id not in self.failed:
            self.cancelled.add(job_id)
            del self.jobs[job_id]
            self._main(self.dispatcher.cancel(job_id, self.now))

    def submit(self, job_id: int, data: JobDataType) -> None:
        self.jobs[job_id] = data
        self.submitted[job_id] = self.now
        self._main(self.dispatcher.submit(Job.of(job_id, data), self.now))

    def add_node(
        self, places: int = 1, kinds: tuple[str, ...] = ("",), beyond: frozenset[str] = frozenset(),
        accelerator: str = "",
    ) -> SimulatedNode:  # fmt: skip
        name = f"n{next(self._order)}"
        hello = Hello(name, name, 0, kinds, {}, 1, 1, accelerator, places, places + 1)
        session = Session(
            hello, NodeLimits(dead_seconds=10 * self._heartbeat, cache_bytes=self.cache_bytes)
        )
        node = SimulatedNode(session, b"", places, beyond)
        self._everybody.append(node)
        self._connect(node)
        self._accidents(node)
        self._node_tick(node)
        return node

    def settle(self) -> None:
        """Let what is late arrive: for 30 s, or until nobody has held a task for three."""
        quiet = begun = self.now
        while self.now < begun + 30 and self.now < quiet + 3:
            if any(node.alive and node.session.holds for node in self._everybody):
                quiet = self.now
            self.run(lambda: False, limit=self.now + 0.5)

    def run(self, until: Callable[[], bool], limit: float = 3600.0) -> bool:
        """Let time pass until something holds; return False if it does not within `limit`."""
        while not until():
            if not self._events or self.now > limit:
                return False
            self.now, _, event = heapq.heappop(self._events)
            event()
        return True

    # Time and accidents.

    def _later(self, after: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now + after, next(self._order), event))

    def _tick(self) -> None:
        self._main(self.dispatcher.tick(self.now))
        self._later(self._tick_every, self._tick)

    def _node_tick(self, node: SimulatedNode) -> None:
        if not node.alive:
            return
        if self.now < node.frozen_until:
            self._later(node.frozen_until - self.now, lambda: self._node_tick(node))
            return
        self._node(node, node.session.tick(self.now))
        self._later(
            max(0.005, node.session.wake_at(self.now) - self.now), lambda: self._node_tick(node)
        )

    def _accidents(self, node: SimulatedNode) -> None:
        weather = self.weather
        self._expect(node, weather.crash_every, self.crash)
        self._expect(node, weather.cut_every, self.cut)
        self._expect(node, weather.freeze_every, self.freeze)

    def _expect(
        self, node: SimulatedNode, every: float, accident: Callable[[SimulatedNode], None]
    ) -> None:
        if every:
            after = self.random.expovariate(1 / every)
            self._later(after, partial(self._befall, node, every, accident))

    def _befall(
        self, node: SimulatedNode, every: float, accident: Callable[[SimulatedNode], None]
    ) -> None:
        if node.alive:
            accident(node)
            self._expect(node, every, accident)

    def crash(self, node: SimulatedNode) -> None:
        """Kill a node; another one takes its place some time later."""
        self.met["crash"] += 1
        node.alive = False
        self._disconnect(node)
        hello = node.session.hello
        again = partial(self.add_node, 1, hello.kinds, node.beyond, hello.accelerator)
        self._later(self.random.uniform(0.1, 5), again)

    def cut(self, node: SimulatedNode) -> None:
        """Cut a node's connection; it connects again."""
        if node.peer in self._nodes and self.random.random() < self.weather.anew:
            self.met["back before its end"] += 1
            del self._nodes[node.peer]
            self._later(self.random.uniform(0, 2), partial(self._unreachable, node.peer))
            node.session.cut()
            self._later(0.0, lambda: self._connect(node))
            return
        self.met["cut"] += 1
        self._disconnect(node)
        node.session.cut()
        self._later(self.random.uniform(0.02, 3), lambda: self._connect(node))

    def freeze(self, node: SimulatedNode) -> None:
        """Stop a node without a word; it goes on later as if nothing had been."""
        self.met["freeze"] += 1
        node.frozen_until = self.now + self.random.uniform(1, 30)

    def outage(self) -> None:
        """Kill the relay that everybody is behind; the nodes work on, and all come back."""
        self.met["outage"] += 1
        away = self.random.uniform(0.1, 8)
        for node in list(self._nodes.values()):
            self._disconnect(node, at_once=0.9)
            node.session.cut()
            self._later(away + self.random.uniform(0, 1), partial(self._connect, node))
        again = 2 + self.random.expovariate(1 / self.weather.outage_every)
        self._later(away + again, self.outage)

    def restart(self) -> None:
        """Kill the main node; another one goes on from its memory."""
        self.met["restart"] += 1
        for node in list(self._nodes.values()):
            self.cut(node)
        self.lives += 1
        open_ = {n: job for n, job in self.jobs.items() if n not in self.accepted | self.failed}
        remembered = {task: place for task, place in self.offered.items() if place[0] in open_}
        # Of the last offers the memory may have lost some.
        remembered = {t: p for t, p in remembered.items() if self.random.random() > 0.1}
        ledger = Ledger(self.lives << 32, remembered, (self.lives << 32) + (1 << 31))
        self.dispatcher = self._make_dispatcher(ledger)
        for number, job in open_.items():
            self._later(self.random.uniform(0, 4), partial(self._resubmit, number, job, self.lives))
        self._later(self.random.expovariate(1 / self.weather.restart_every), self.restart)

    def _resubmit(self, number: int, job: JobDataType, life: int) -> None:
        if life == self.lives and number not in self.cancelled:  # it may be cancelled meanwhile
            self._main(self.dispatcher.submit(Job.of(number, job), self.now))

    def _keep(self, effect: Keep, life: int) -> None:
        """Have a solution kept, unless the main node has died meanwhile."""
        if life != self.lives:
            return
        if self.random.random() < self.bad:
            self.met["unfit"] += 1
            self._main(self.dispatcher.unfit(effect.task, "bad", self.now))
            return
        self.accepted[effect.job] += 1
        self.solutions[effect.job] = effect.solution
        if effect.task >> 32 != (self.lives if self.lives > 1 else 0):
            self.handed_over += 1
        self._main(self.dispatcher.kept(effect.task, effect.solution, self.now))

    def _connect(self, node: SimulatedNode) -> None:
        if not node.alive or node.peer in self._nodes:
            return
        node.peer = b"peer%d" % next(self._peers)
        self._nodes[node.peer] = node
        self._node(node, node.session.greet(self.now))

    def _disconnect(self, node: SimulatedNode, at_once: float = 0.7) -> None:
        if self._nodes.pop(node.peer, None) is not None and self.random.random() < at_once:
            peer = node.peer  # else the main node has to find out by silence
            self._later(self.random.uniform(0, 0.05), partial(self._unreachable, peer))

    def _unreachable(self, peer: bytes) -> None:
        self._main(self.dispatcher.unreachable(peer, self.now))

    # Messages.

    def _carry(
        self, message: Message, line: tuple[bytes, str], deliver: Callable[[list[Message]], None]
    ) -> None:
        self.messages += 1
        self.met[type(message).__name__] += 1
        weather = self.weather
        if weather.rate:
            content = [bytes(frame) for frame in encode([message])]
            nbytes = sum(map(len, content))
            self.carried += nbytes
            free = max(self._free.get(line, 0.0), self.now) + nbytes / weather.rate
            self._free[line] = free
            self._later(free - self.now + weather.delay, lambda: self._arrive(content, deliver))
            return
        if self.random.random() < weather.lose:
            self.met["lose"] += 1
            return
        frames = [bytes(frame) for frame in encode([message])]
        if self.random.random() < weather.corrupt:
            frame = bytearray(frames[-1])
            if frame:
                frame[self.random.randrange(len(frame))] ^= 1 << self.random.randrange(8)
            frames[-1] = bytes(frame)
        for _ in range(2 if self.random.random() < weather.repeat else 1):
            delay = self.random.expovariate(1 / weather.delay) if weather.delay else 0.0
            self._later(delay, lambda: self._arrive(frames, deliver))

    def _arrive(self, frames: list[bytes], deliver: Callable[[list[Message]], None]) -> None:
        try:
            messages = decode(frames)
        except RemoteProtocolError:
            self.met["damage"] += 1
            return  # the shells drop a peer for that; here it is a lost message
        deliver(messages)

    def _main(self, effects: list[Effect]) -> None:
        if self.checked:
            self._check(bool(effects))
        for effect in effects:
            if isinstance(effect, Send):
                node = self._nodes.get(effect.peer)
                if node is None:
                    peer = effect.peer
                    self._later(0.0, partial(self._unreachable, peer))
                else:
                    self._to_node(node, effect.peer, effect.message)
            elif isinstance(effect, Keep):
                assert self.jobs[effect.job].kept
                self._later(self.random.uniform(0, 1), partial(self._keep, effect, self.lives))
            elif isinstance(effect, Offered):
                assert self.jobs[effect.job].kept
                self.offered[effect.task] = (effect.job, effect.node)
                if effect.job in self.accepted:
                    self.recomputed.append(effect.job)
            elif isinstance(effect, Stranded):
                self.stranded[effect.job] += 1
            elif isinstance(effect, Accept) and not (self.keeps and self.jobs[effect.job].kept):
                self.accepted[effect.job] += 1
                self.solutions[effect.job] = effect.solution
            elif isinstance(effect, Left):
                self.left += 1
            elif isinstance(effect, Fail):
                assert effect.job not in self.failed
                self.failed[effect.job] = effect

    def _check(self, told: bool) -> None:
        """Look at the dispatcher's books, unless it said nothing and they were seen lately."""
        self._unchecked += 1
        if told or self._unchecked >= QUIET:
            self._unchecked = 0
            check(self.dispatcher)

    def _to_node(self, node: SimulatedNode, peer: bytes, message: Message) -> None:
        def deliver(messages: list[Message]) -> None:
            if not node.alive or node.peer != peer or peer not in self._nodes:
                return
            if self.now < node.frozen_until:
                self._later(node.frozen_until - self.now, lambda: deliver(messages))
                return
            for each in messages:
                self._node(node, node.session.receive(each, self.now))

        self._carry(message, (peer, "out"), deliver)

    def _node(self, node: SimulatedNode, effects: list[NodeEffect]) -> None:
        if self.checked:
            check_session(node.session)
        for effect in effects:
            if isinstance(effect, Tell):
                if node.peer in self._nodes:
                    self._to_main(node.peer, effect.message)
            elif isinstance(effect, Run):
                node.queue.append(effect)
            elif isinstance(effect, Abort):
                node.queue = [run for run in node.queue if run.task != effect.task]
                node.running.pop(effect.task, None)
            elif isinstance(effect, Reconnect):
                self._disconnect(node)
                self._connect(node)
            elif isinstance(effect, Ended):
                assert node.session.state is not SessionState.REFUSED
        self._begin(node)

    def _to_main(self, peer: bytes, message: Message) -> None:
        host = peer.decode()
        if self._hosts and peer in self._nodes:
            place = int(self._nodes[peer].session.hello.node[1:]) % self._hosts
            host = f"relay {place}"

        def deliver(messages: list[Message]) -> None:
            for each in messages:
                self._main(self.dispatcher.receive(peer, each, self.now, None, host))

        self._carry(message, (peer, "back"), deliver)

    # Work.

    def _begin(self, node: SimulatedNode) -> None:
        while node.queue and len(node.running) < node.places and node.alive:
            run = max(node.queue, key=lambda each: each.job.priority)  # the first of these
            node.queue.remove(run)
            if node.session.started(run.task, self.now):
                node.running[run.task] = run
                self.on_begin(node, run)
                far = self._beyond(node, run)
                seconds = (0.001, 0.1) if far else self._seconds
                self._later(self.random.uniform(*seconds), partial(self._end, node, run))

    def on_begin(self, node: SimulatedNode, run: Run) -> None:
        """Note that a job begins."""
        self.begun.setdefault(run.job_id, self.now)

    def _beyond(self, node: SimulatedNode, run: Run) -> str:
        """Return a source that a job needs and that its node can't reach."""
        if self.now >= self._mended or run.job_id not in self.needs:
            return ""
        source = self.needs[run.job_id]
        return source if source in node.beyond else ""

    def _end(self, node: SimulatedNode, run: Run) -> None:
        if not node.alive or node.running.get(run.task) is not run:
            return
        if self.now < node.frozen_until:
            self._later(node.frozen_until - self.now, lambda: self._end(node, run))
            return
        del node.running[run.task]
        if source := self._beyond(node, run):
            self.unreached[run.job_id] += 1
            self._node(node, node.session.unreached(run.task, source, "no way", self.now))
            return
        self.done[run.job_id] += 1
        if run.job_id in self.poison:
            effects = node.session.failed(run.task, "raised", "poison", "", self.now)
        else:
            effects = node.session.solved(run.task, solve(run.job), 1.0, self.now)
        self._node(node, effects)


def make(number: int, rows: int = 0, **how: Any) -> JobDataType:
    """Return a job: a number, and maybe an array of so many rows."""
    if not rows:
        return JobDataType(str(number), **how)
    return JobDataType({"x": np.arange(rows, dtype=np.float64) + number}, **how)


def solve(job: JobDataType) -> JobSolutionDataType:
    """Return the solution of a job that `make` made: everything times two."""
    if job.arrays:
        return JobSolutionDataType({"x": job.arrays["x"] * 2})
    return JobSolutionDataType(str(2 * int(job.to_string())))
