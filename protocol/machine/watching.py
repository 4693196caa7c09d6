"""How nodes are, for people and programs that watch a main node: both ends, as state machines.

A node is
    unknown   silent for a while, or only heard of: nobody can tell
    running   here
    stopped   gone, and has said so
    dropped   gone without a word: killed, cut off, or given up
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain
from typing import Any

from ..wire.limits import KIB, UNHEARD_STATUSES
from ..wire.messages import (
    REFUSE_DOMAIN,
    REFUSE_FULL,
    REFUSE_UNKNOWN,
    Bye,
    Fields,
    Follow,
    Heartbeat,
    Message,
    NodeStatus,
    Refuse,
    Status,
    Stop,
    Watch,
)
from ..wire.words import safe_name
from .chronicle import Chronicle
from .effects import Effect, Joined, Left, Send
from .views import View

#: A watcher says so this often, and is forgotten after the silence.
WATCH_SECONDS = 1.0
DEAD_SECONDS = 10.0
#: What changes all the time is told this often; who comes and goes sooner, but not oftener.
PUBLISH_SECONDS = 0.5
NEWS_SECONDS = 0.1
#: A node that has been silent for so many heartbeats may be gone.
QUIET_BEATS = 3
#: Nodes that are gone are remembered, so many.
GONE = 256
#: So many may watch.
MAX_WATCHERS = 256
#: Throughput is of the last so many seconds.
PACE_SECONDS = 60.0
#: Nodes told in one message, and bytes of it, about; of what a node runs, so much is told.
PART, PART_BYTES = 250, 384 * KIB
RUNNING_TOLD = 64
#: What a node's status takes, beside words.
_STATUS_BYTES = 128


class NodeState(str, Enum):
    """What is known of a node."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    STOPPED = "stopped"
    DROPPED = "dropped"


#: Why nothing is known of a node.
_ENDED, _SILENT = "its main node has ended", "its main node does not tell"
#: Why somebody is gone.
_MISSED = "it went while nothing was told"
_GONE_STATES = (NodeState.STOPPED.value, NodeState.DROPPED.value)


@dataclass(slots=True)
class _Watcher:
    node: NodeStatus
    heard: float
    #: The number of the next status; 0 names all nodes.
    told: int = 0
    #: How many it has been sent, and that after each of the last times that it was told something.
    sent: int = 0
    unheard: deque[int] = field(default_factory=deque)

    def has_heard(self, statuses: int) -> None:
        """It says that it has heard so many."""
        while self.unheard and self.unheard[0] <= statuses:
            self.unheard.popleft()

    @property
    def behind(self) -> bool:
        """Whether it has not heard what it was told: it gets no more until then, and all anew."""
        return len(self.unheard) >= UNHEARD_STATUSES


class Board:
    """A main node's end: who is here, who was, and who is told of it.

    Args:
        main: the main node's id.
        domain: watchers of another are refused.
        heartbeat_seconds: of its nodes.
        chronicle: what happens; for watchers only.
    """

    def __init__(
        self, main: str, domain: int, heartbeat_seconds: float, chronicle: Chronicle | None = None
    ) -> None:
        self.chronicle = chronicle
        self.main = main
        self.domain = domain
        #: What the program says of itself.
        self.about: Fields = {}
        self._quiet_seconds = QUIET_BEATS * heartbeat_seconds
        self._watchers: dict[bytes, _Watcher] = {}  # by routing id
        self._cores: dict[str, tuple[int, int]] = {}  # node id -> tasks, cores
        self._solved: dict[str, int] = {}  # node id -> jobs over earlier connections
        self._gone: OrderedDict[str, NodeStatus] = OrderedDict()
        self._told: dict[str, NodeStatus] = {}
        self._told_of_it: tuple[Any, Any] = ({}, {})
        self._paces: deque[tuple[float, int]] = deque()
        self._paced, self._due, self._published = -math.inf, 0.0, -math.inf

    def note(self, effect: Joined | Left) -> None:
        """A node came or went; it is told by the next `publish`."""
        if isinstance(effect, Joined):
            before = self._gone.pop(effect.node, None)
            self._solved[effect.node] = before.solved if before is not None else 0
            self._cores[effect.node] = (effect.hello.tasks, effect.hello.cores)
        else:
            state = NodeState.STOPPED if effect.stopped else NodeState.DROPPED
            self._go(effect.node, "computing", state, effect.reason, effect.solved)
        self._hurry()

    def _hurry(self) -> None:
        """Tell soon: somebody came or went."""
        self._due = min(self._due, self._published + NEWS_SECONDS)

    def _go(self, node: str, kind: str, state: NodeState, reason: str, solved: int = 0) -> None:
        if kind == "status" and (node in self._cores or node in self._gone):
            return
        tasks, cores = self._cores.pop(node, (0, 0))
        solved += self._solved.pop(node, 0)
        self._gone[node] = NodeStatus(
            node, kind, state.value, reason, solved=solved, tasks=tasks, cores=cores
        )
        while len(self._gone) > GONE:
            self._told.pop(self._gone.popitem(last=False)[0], None)

    def receive(self, peer: bytes, message: Watch, now: float) -> list[Effect]:
        """Take a watcher in, or hear that it is still there."""
        watcher = self._watchers.get(peer)
        if watcher is not None:
            watcher.heard = now
            watcher.has_heard(message.heard)
            return []
        if message.domain != self.domain:
            reason = (
                f"this main node serves domain {self.domain}, not {message.domain}"
                f" (--domain {self.domain})"
            )
            return [Send(peer, Refuse(REFUSE_DOMAIN, reason))]
        if not message.name:
            return [Send(peer, Status(0, 0, self.main, (), {}, {}))]
        if len(self._watchers) >= MAX_WATCHERS:
            return [Send(peer, Refuse(REFUSE_FULL, f"{MAX_WATCHERS} are watching already"))]
        node = f"{message.name}.{safe_name(message.node, 8)}"
        status = NodeStatus(node, "status", NodeState.RUNNING.value)
        self._watchers[peer] = _Watcher(status, now)
        self._hurry()
        return []

    def follow(self, peer: bytes, message: Follow, now: float) -> tuple[list[Effect], float]:
        """Hear what a watcher wants to follow; return also how much noise that was."""
        if self.chronicle is None or peer not in self._watchers:
            return [], 1.0
        return self.chronicle.receive(peer, message, now)

    def watches(self, peer: bytes) -> bool:
        """Whether this peer is a watcher."""
        return peer in self._watchers

    def leave(self, peer: bytes, reason: str, stopped: bool = False) -> None:
        """A watcher is gone."""
        watcher = self._watchers.pop(peer, None)
        if self.chronicle is not None:
            self.chronicle.leave(peer)
        if watcher is not None:
            state = NodeState.STOPPED if stopped else NodeState.DROPPED
            self._go(watcher.node.id, "status", state, reason)
            self._hurry()

    @property
    def peers(self) -> list[bytes]:
        """Routing ids of the watchers."""
        return list(self._watchers)

    def pace(self, done: int, now: float) -> None:
        """So many jobs are done by now; call it a few times a second."""
        if now - self._paced >= WATCH_SECONDS:
            self._paced = now
            self._paces.append((now, done))
            if now - self._paces[0][0] > PACE_SECONDS:
                self._paces.popleft()

    def due(self, now: float) -> bool:
        """Whether there is somebody to tell, and it is time."""
        return bool(self._watchers) and now >= self._due

    def publish(self, view: View, name_of: Callable[[int], str], now: float) -> list[Effect]:
        """Tell the watchers what has changed.

        Args:
            view: how the nodes are.
            name_of: returns what people call a job.
            now: the time.
        """
        self._due, self._published = now + PUBLISH_SECONDS, now
        for peer in [p for p, w in self._watchers.items() if now - w.heard > DEAD_SECONDS]:
            self.leave(peer, f"silent for {DEAD_SECONDS:g} s")
        nodes: dict[str, NodeStatus] = {}
        for status in self._statuses(view, name_of):
            nodes.setdefault(status.id, status)  # no watcher hides a node by taking its name
        changed = [status for name, status in nodes.items() if self._told.get(name) != status]
        self._told = nodes
        if not any(watcher.behind for watcher in self._watchers.values()):
            # Who only looked on is not remembered, once everybody is told how it went.
            for name in [n for n, status in self._gone.items() if status.kind == "status"]:
                del self._gone[name]
        jobs, about = self._jobs(view, now), self.about
        news = bool(changed) or (jobs, about) != self._told_of_it
        self._told_of_it = (jobs, about)
        effects: list[Effect] = []
        for peer, watcher in self._watchers.items():
            if watcher.behind:
                watcher.told = 0
                continue
            wanted = changed if watcher.told else list(nodes.values())
            if news or not watcher.told:
                for part, more in _parts(wanted):
                    message = Status(watcher.told, more, self.main, tuple(part), jobs, about)
                    effects.append(Send(peer, message))
                    watcher.told += 1
                    watcher.sent += 1
                watcher.unheard.append(watcher.sent)
            else:
                effects.append(Send(peer, Heartbeat()))
        return effects

    def _statuses(self, view: View, name_of: Callable[[int], str]) -> Iterator[NodeStatus]:
        for node in view.nodes:
            quiet = node.silent_seconds > self._quiet_seconds
            yield NodeStatus(
                node.name, "computing", (NodeState.UNKNOWN if quiet else NodeState.RUNNING).value,
                "silent" if quiet else f"benched: {node.benched}" if node.benched else "",
                tuple((name_of(job), round(done, 2)) for job, done in node.running[:RUNNING_TOLD]),
                node.waiting, node.solved + self._solved.get(node.name, 0), node.note,
                *self._cores.get(node.name, (0, 0)),
            )  # fmt: skip
        yield from chain((watcher.node for watcher in self._watchers.values()), self._gone.values())

    def _jobs(self, view: View, now: float) -> Fields:
        done = view.done
        self.pace(done, now)
        since, before = self._paces[0]
        pace = (done - before) / (now - since) if now > since else 0.0
        # Of those that are given to nodes, some wait there.
        running = min(view.running, sum(len(node.running) for node in view.nodes))
        return {
            "queued": view.queued + view.running - running, "running": running,
            "done": done, "failed": view.failed,
            "retries": view.retries, "per_second": float(f"{pace:.3g}"),
        }  # fmt: skip

    def close(self, reason: str) -> list[Effect]:
        """Tell the watchers that this main node ends."""
        return [Send(peer, Stop(reason)) for peer in self._watchers]


def _parts(nodes: list[NodeStatus]) -> Iterator[tuple[list[NodeStatus], int]]:
    """Yield what goes into a message, and how many more there are."""
    parts: list[list[NodeStatus]] = [[]]
    nbytes = 0
    for node in nodes:
        words = [node.id, node.reason, node.note, *(job for job, _ in node.running)]
        size = _STATUS_BYTES + sum(4 * len(word) + 16 for word in words)
        if parts[-1] and (len(parts[-1]) == PART or nbytes + size > PART_BYTES):
            parts.append([])
            nbytes = 0
        parts[-1].append(node)
        nbytes += size
    for number, part in enumerate(parts, 1):
        yield part, len(parts) - number


@dataclass(slots=True)
class Overview:
    """What a watcher knows of one main node.

    Args:
        address: where it is.
        main: how it is itself; its id is empty until it has answered.
        nodes: how its nodes are, by id; those that are gone, too.
        jobs: how many are `queued`, `running`, `done`, `failed`; `retries`; done `per_second`.
        about: what its program says of itself; for `mnist-main` the run, its rounds, and so on.
        trouble: why it can't be reached, where that is known.
    """

    address: str
    main: NodeStatus
    nodes: dict[str, NodeStatus] = field(default_factory=dict)
    jobs: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


class Watching:
    """A watcher's end of the conversation with one main node.

    Args:
        watch: what it says.
        address: of the main node.
    """

    def __init__(self, watch: Watch, address: str) -> None:
        self.overview = Overview(address, NodeStatus("", "main", NodeState.UNKNOWN.value))
        #: Why the main node won't have this watcher.
        self.refused = ""
        #: Whether the main node, or the reason why there is none, is known.
        self.answered = False
        #: Whether something of what was told is lost: a new connection brings all anew.
        self.lost = False
        self._watch = watch
        self._said = self._heard = 0.0
        self._next = 0  # the number of the next status
        self._count = self._counted = 0  # statuses over this connection, and those it said so of
        self._missed: dict[str, NodeStatus] = {}  # known before, and not named anew so far

    def greet(self, now: float) -> list[Message]:
        """Return what to say over a new connection."""
        self._next, self._count, self._counted, self.lost = 0, 0, 0, False
        self._said = self._heard = now
        return [self._watch]

    def sign(self, now: float) -> Watch:
        """Return a sign of life, which says what was heard."""
        self._said, self._counted = now, self._count
        return replace(self._watch, heard=self._count)

    def receive(self, message: Message, now: float) -> list[NodeStatus]:
        """Take a message; return the nodes whose state has changed, the main node's own first."""
        self._heard = now
        if isinstance(message, Status):
            return self._status(message)
        if isinstance(message, Stop):
            return self._end(NodeState.STOPPED, message.reason)
        if isinstance(message, Refuse) and message.code != REFUSE_UNKNOWN:
            self.refused = message.reason
            self.answered = True
            return self._end(NodeState.UNKNOWN, self.refused)
        return []

    def _status(self, message: Status) -> list[NodeStatus]:
        self._count += 1
        if message.number not in (0, self._next):
            self.lost = True
            return []
        self._next = message.number + 1
        self.answered, self.refused = self.answered or not message.more, ""
        view = self.overview
        changes = []
        main = message.main
        if (view.main.id, view.main.state) != (main, NodeState.RUNNING.value):
            view.main = NodeStatus(main, "main", NodeState.RUNNING.value)
            changes.append(view.main)
        before = view.nodes
        if message.number == 0:
            view.nodes, self._missed = {}, before
        for node in message.nodes:
            old = self._missed.pop(node.id, None) or before.get(node.id)
            view.nodes[node.id] = node
            if node.kind == "status" and node.state != NodeState.RUNNING.value:
                del view.nodes[node.id]
                if old is None:  # it was told before, or had gone before
                    continue
            if old is None or old.state != node.state:
                changes.append(node)
        if not message.more:
            changes += [
                node._replace(state=NodeState.DROPPED.value, reason=_MISSED, running=(), waiting=0)
                for node in self._missed.values()
                if node.state not in _GONE_STATES
            ]
            self._missed = {}
        view.jobs, view.about = message.jobs, message.about
        gone = [n for n, node in view.nodes.items() if node.state in _GONE_STATES]
        for name in gone[: max(0, len(gone) - GONE)]:  # the oldest
            del view.nodes[name]
        return changes

    def _end(self, state: NodeState, reason: str) -> list[NodeStatus]:
        """Nothing is known of the nodes any more, but of those that are gone."""
        view = self.overview
        changes = []
        view.jobs = {**view.jobs, "per_second": 0.0} if view.jobs else {}
        if view.main.id and (view.main.state, view.main.reason) != (state.value, reason):
            if view.main.state == NodeState.STOPPED.value:  # and then its connection went
                return []
            view.main = view.main._replace(state=state.value, reason=reason)
            changes.append(view.main)
        for name, node in view.nodes.items():
            if node.state == NodeState.RUNNING.value:
                lost = node._replace(state=NodeState.UNKNOWN.value, running=(), waiting=0)
                ended = state is NodeState.STOPPED
                view.nodes[name] = lost._replace(reason=_ENDED if ended else _SILENT)
                changes.append(view.nodes[name])
        return changes

    def cut(self, reason: str = "connection lost") -> list[NodeStatus]:
        """The connection is lost; call `greet` when there is one again."""
        self._next = 0
        return self._end(NodeState.DROPPED, reason)

    def tick(self, now: float) -> tuple[list[Message], bool]:
        """Return what to say, and whether to connect anew: it is silent, or something is lost."""
        silent = self.lost or now - self._heard > DEAD_SECONDS
        return ([self.sign(now)] if now - self._said >= WATCH_SECONDS else []), silent

    def receipt(self, now: float) -> list[Message]:
        """Return what to say when much was heard: else a main node takes this one to be behind."""
        return [self.sign(now)] if self._count - self._counted >= UNHEARD_STATUSES // 2 else []

    def bye(self) -> list[Message]:
        """Return what to say at the end."""
        return [Bye("the watcher was stopped")]
