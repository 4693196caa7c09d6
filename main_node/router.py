"""The thread that owns a main node's ROUTER and its dispatcher."""

from __future__ import annotations

import gc
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from shlex import quote
from typing import Any

from protocol import JobSolutionDataType, ProtocolError, VersionMismatch
from protocol.carrier.guard import Connection, Guard
from protocol.carrier.keys import MainKeys
from protocol.carrier.latch import Latch
from protocol.carrier.monitor import Event
from protocol.carrier.outbox import Outbox
from protocol.carrier.patience import Patience, Pools
from protocol.carrier.security import Security
from protocol.carrier.shell import Shell
from protocol.carrier.sockets import (
    READABLE,
    Answer,
    Gate,
    Origin,
    Poller,
    bind,
    close,
    descriptor_of,
    is_here,
    key_of,
    make_context,
    receive,
    send,
    wire_bytes,
)
from protocol.machine.absence import SETTLE_SECONDS
from protocol.machine.chronicle import Chronicle
from protocol.machine.dispatch import Dispatcher
from protocol.machine.effects import (
    Accept,
    Effect,
    Fail,
    Joined,
    Left,
    Send,
    Stranded,
    Superseded,
)
from protocol.machine.ledger import Job
from protocol.machine.watching import Board
from protocol.wire.addresses import is_loopback
from protocol.wire.codec import Frame, decode
from protocol.wire.entry import Entry
from protocol.wire.key import (
    ALL_ROLES,
    CONTROL,
    DEFAULT_ROLES,
    WATCH,
    WORK,
    Key,
    Roles,
    in_order,
)
from protocol.wire.limits import (
    DEAF_SECONDS,
    DISGRACE_SECONDS,
    KIB,
    MAX_HOSTS,
    OUTBOX_BYTES,
    UNASKED_BYTES,
)
from protocol.wire.messages import (
    REFUSE_KEY,
    REFUSE_MALFORMED,
    REFUSE_ROLE,
    REFUSE_VERSION,
    Accepted,
    Bye,
    Control,
    Controlled,
    Fields,
    Follow,
    Hello,
    Message,
    Refuse,
    Watch,
)

from .complaints import Complaints, tell
from .controls import Controls, Handler
from .journal import Journal, Scribe
from .news import News

log = logging.getLogger("mnist.main")

#: Messages taken from the socket, and time for it, before the effects are sent off.
DRAIN = 500
DRAIN_SECONDS = 0.02
TICK_SECONDS = 0.25
#: Where there was no room to send, it is tried again after this long.
STUCK_SECONDS = 0.005
#: A receipt waits so long for another message to travel with.
LAZY_SECONDS = 0.005
#: The allow-list is looked at this often.
LOOK_SECONDS = 1.0
#: A handshake is reason to look at the allow-list, but not more often than this.
HURRY_SECONDS = 0.2
#: Tasks receipted in one message.
RECEIPTS = 2000
#: What is no message of ours is so much noise, and so is each second that a long header takes, but
#: no more than for each of its kilobytes: where this machine is busy, time is not its sender's.
MALFORMED_NOISE, KILOBYTE_NOISE, SECOND_NOISE = 50.0, 1.0, 20_000.0
LONG_BYTES = 4 * KIB
#: So much noise is an order, for which the allow-list is looked at.
ORDER_NOISE = 5.0
#: A connection that ended while messages came all the time is over after so long at most.
LEAVE_SECONDS = 0.1
#: At the end, whoever is here has so long to say that it has heard of it.
GOODBYE_SECONDS = 0.3
_ENDED = "the main node has ended"
#: Jobs from this id on are none of the journal's.
FIRST_UNKEPT = 1 << 52


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python look for no garbage in a block.

    A message of many lists would have it look through all that the process holds: in a large one
    that takes longer than the message itself.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Crowd:
    """How many nodes are here, for other threads to wait on."""

    def __init__(self) -> None:
        self.size = 0
        self.closed = False
        self._changed = Latch()

    def change(self, by: int) -> None:
        """Count nodes that came or went."""
        self.size += by
        self._tell()

    def close(self) -> None:
        """Let everybody who waits go on."""
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, Latch()
        changed.set()

    def wait_for(self, nodes: int, timeout: float | None) -> bool:
        """Wait for so many, or the end; return False if `timeout` seconds pass first."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            changed = self._changed  # before the look: what happens after it is told
            if self.size >= nodes or self.closed:
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            changed.wait(None if left == math.inf else left)


class Peer:
    """Who is at the other end of a connection, and has said a word.

    Attributes:
        id: routing id.
        connection: it came by; None: it is gone.
        key: that brought it.
        patience: with what it says.
        outbox: what it is to be told.
        receipts: tasks that it is to be told are accepted.
        cut: whether it is cut off: nothing that it has said is heard.
        stale: whether its node is here over another connection: what is large is said again there.
        roles: what it is let in for.
    """

    __slots__ = (
        "connection", "cut", "id", "key", "outbox", "patience", "receipts", "roles", "stale",
    )  # fmt: skip

    def __init__(
        self,
        id_: bytes,
        connection: Connection | None,
        key: Key | None,
        patience: Patience,
        roles: Roles,
    ) -> None:
        self.id = id_
        self.connection = connection
        self.key = key
        self.patience = patience
        self.roles = roles
        self.outbox = Outbox()
        self.receipts: list[int] = []
        self.cut = self.stale = False

    @property
    def host(self) -> str:
        """Of the other side; or whose key it has, where keys tell who is who."""
        if self.key is not None:
            return f"key {self.key.public.decode()}"
        return "" if self.connection is None else self.connection.host

    def __str__(self) -> str:
        address = "unknown" if self.connection is None else self.connection.address
        return address if self.key is None else f"{address} key={self.key.name or 'guest'}"


class Router(Shell):
    """The thread that owns the ROUTER and the dispatcher."""

    def __init__(
        self,
        name: str,
        address: str,
        dispatcher: Dispatcher,
        deliver: Callable[[Accept | Fail | Stranded], None],
        broken: Callable[[Exception], None],
        name_of: Callable[[int], str],
        journal: Journal | None = None,
        security: Security[MainKeys] | None = None,
        look: Callable[[float], None] | None = None,
        controls: Mapping[str, Handler] | None = None,
        call: Callable[[Callable[[], object]], None] = lambda call: None,
    ) -> None:
        super().__init__(name)
        self._look_after = look
        self._broken = broken
        self._name_of = name_of
        self._dismiss = True
        self.dispatcher = dispatcher
        self._chronicle = Chronicle(
            f"{dispatcher.main}:{secrets.token_hex(4)}", lambda: secrets.randbits(52) + 1
        )
        self._news = News(self._chronicle, lambda: self.call_soon(bool))
        self._board = Board(
            dispatcher.main, dispatcher.domain, dispatcher.limits.heartbeat_seconds, self._chronicle
        )
        self.crowd = Crowd()
        self._deliver = deliver
        security = security or Security()
        self._keys = security.keys
        self._look_at = self._hurry_at = 0.0
        self._complaints = Complaints()
        self._context = make_context()
        self._scribe: Scribe | None = None
        with self.whole(self._context), ExitStack() as made:
            self._controls = Controls(
                dispatcher.main, dispatcher.domain, controls or {}, call, self._say
            )
            self._gate = Gate(self._context, self._admit) if self._keys is not None else None
            self._socket, self._monitor, self.address = bind(self._context, address, security)
            self._guard = Guard(
                name, dispatcher.allowance,
                lambda connection, why: self.call_soon(partial(self._was_cut, connection, why)),
                lambda host: self.call_soon(partial(self._flooded, host)),
            )  # fmt: skip
            made.callback(self._guard.close)
            if journal is not None:
                self._scribe = Scribe(name, journal, self._kept, self._unfit, self._unkept)
            made.pop_all()
        self.poller.register(self._socket, READABLE)
        self.poller.register(self._monitor.socket, READABLE)
        if self._gate is not None:
            self.poller.register(self._gate.socket, READABLE)
        #: Of whoever comes without a key. Beyond this machine nobody knows who that is, and what
        #: comes from this machine may be a relay's, or a container's port: whoever is behind it.
        self._keyless = ALL_ROLES if is_loopback(self.address) else DEFAULT_ROLES
        self._controlling: set[bytes] = set()  # routing ids of those who have given orders
        self._pools = Pools()
        self._disgraced: dict[bytes, float] = {}  # public keys, until when
        self._peers: dict[bytes, Peer] = {}  # by routing id
        self._talking: dict[bytes, Peer] = {}  # those that there is something to tell
        self._leaving: dict[bytes, float] = {}  # connections that ended, and when at the latest
        self._finished: list[Accept | Fail | Stranded] = []
        self._stuck = False
        self._lazy_until = 0.0
        self._receipted: dict[bytes, Peer] = {}
        self._tick_at = 0.0
        self._awaited: list[Latch] = []  # of those who wait for the followers
        self._heard = 0  # how much these had read when it was looked at last

    def start(self) -> None:
        """Begin to poll."""
        self._guard.start()
        super().start()

    def turn(self, ready: dict[Any, int], now: float) -> float:
        """Receive, let time pass, send, and only then hand results over."""
        if self._monitor.socket in ready:  # first: an address is known for a moment only
            gone, failed = self._guard.take(self._monitor.read(), now)
            for connection in gone:
                self._disconnected(connection, now)
            for event in failed:
                self._failed(event, now)
        if self._gate is not None and self._gate.socket in ready:
            self._gate.answer()
        drained = True
        if self._socket in ready or self._leaving:
            drained = self._drain(now)
        if self._leaving:
            self._let_go(drained, now)
        if self._keys is not None and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look(self._keys, now)
        if now >= self._tick_at:
            self._tick_at = now + TICK_SECONDS
            self.perform(self.dispatcher.tick(now))
            self._board.pace(self.dispatcher.done, now)
            if self._look_after is not None:
                self._look_after(now)
        if self._board.due(now):
            view = self.dispatcher.view(now)
            self.perform(self._board.publish(view, self._name_of, now))
        self._tell_followers(now)
        if self._talking or self._receipted:
            self._flush(now)
        if self._finished:
            self._hand_over()
        self._guard.turned = now
        return self._due(now) if drained and not self._leaving else now

    def _due(self, now: float) -> float:
        due = min(self._tick_at, self._chronicle.due)
        if self._stuck:
            due = min(due, now + STUCK_SECONDS)
        if self._lazy_until:
            due = min(due, self._lazy_until)
        return due

    def submit(self, job: Job) -> None:
        """Queue a job; in this thread."""
        self.perform(self.dispatcher.submit(job, time.monotonic()))

    def replace(self, job: Job) -> None:
        """Have a job that nobody has solved in another way; in this thread."""
        self.perform(self.dispatcher.replace(job, time.monotonic()))

    def cancel(self, job_id: int) -> None:
        """Give a job up; in this thread."""
        self.perform(self.dispatcher.cancel(job_id, time.monotonic()))

    def tell(self, about: Fields) -> None:
        """Say something to whoever watches; in this thread."""
        self._board.about = about

    def tell_event(self, packed: bytes) -> None:
        """Say what has happened to whoever follows; from any thread, and without waiting."""
        self._news.put(packed)

    def await_followers(self, seconds: float, most: float) -> None:
        """Wait until whoever follows has read what has happened; from another thread.

        Args:
            seconds: for so long, if nobody reads any more.
            most: for so long, whoever reads how slowly.
        """
        if not (self.alive and self._chronicle.followed):
            return
        done, heard, until = Latch(), -1, time.monotonic() + most
        self.call_soon(lambda: self._awaited.append(done))
        while not done.wait(min(seconds, until - time.monotonic())):
            if self._heard == heard or time.monotonic() >= until:
                return
            heard = self._heard

    def _tell_followers(self, now: float) -> None:
        """Keep what was told, and tell it to whoever waits for it."""
        self._news.take()
        if now >= self._chronicle.due:
            self.perform(self._chronicle.publish(now))
        if self._awaited:
            self._heard = self._chronicle.heard
            if self._chronicle.read_by_all:
                self._release()

    def _release(self) -> None:
        """Let those go on who wait for the followers."""
        for done in self._awaited:
            done.set()
        self._awaited.clear()

    def _kept(self, task: int, solution: JobSolutionDataType) -> None:
        """Go on with a solution that is kept; from the scribe's thread."""
        self._say(lambda: self.dispatcher.kept(task, solution, time.monotonic()))

    def _unfit(self, task: int, reason: str, lie: bool) -> None:
        """Go on without a solution that is none; from the scribe's thread."""
        self._say(lambda: self.dispatcher.unfit(task, reason, time.monotonic(), lie))

    def _say(self, say: Callable[[], list[Effect]]) -> None:
        self.call_soon(lambda: None if self.over else self.perform(say()))

    def _unkept(self, error: Exception) -> None:
        """End, because nothing can be kept any more; from the scribe's thread.

        The nodes are left with what they hold, for the next start.
        """
        self._dismiss = False
        self._broken(error)
        self.end_soon()

    def perform(self, effects: list[Effect]) -> None:
        """Do what the dispatcher says, in order."""
        for effect in effects:
            if type(effect) is Send:
                peer = self._peers.get(effect.peer)
                if peer is not None and not peer.cut:
                    self._tell(peer, effect.message)
                continue
            if type(effect) is Accept:
                self._finished.append(effect)
                self._complaints.trust(effect.node)
                continue
            if type(effect) is Superseded:
                if effect.peer in self._peers:
                    self._peers[effect.peer].stale = True
                continue
            if type(effect) is Fail:
                self._finished.append(effect)
            else:
                if type(effect) is Joined or type(effect) is Left:
                    self.crowd.change(1 if type(effect) is Joined else -1)
                    self._board.note(effect)
                elif type(effect) is Stranded:
                    self._finished.append(effect)
                if not tell(effect, self._name_of, self._complaints, time.monotonic()):
                    continue
            if self._scribe is not None and getattr(effect, "job", 0) < FIRST_UNKEPT:
                self._scribe.put(effect)

    def _tell(self, peer: Peer, message: Message) -> None:
        """Tell a peer something, when this turn's messages are sent."""
        if type(message) is Accepted:
            peer.receipts += message.tasks
            self._receipted[peer.id] = peer
        else:
            peer.outbox.put(message)
            self._talking[peer.id] = peer

    def _drain(self, now: float) -> bool:
        """Hear what has come, not too much at a time; return whether that is all."""
        until = time.monotonic() + DRAIN_SECONDS
        for count in range(1, DRAIN):
            received = receive(self._socket, small=3)
            if received is None:
                return True
            self._hear(*received, now)
            if count % 8 == 0 and time.monotonic() > until:
                break
        return False

    def _hear(self, frames: list[Frame], origin: Origin, now: float) -> None:
        id_ = bytes(frames.pop(0))
        peer = self._peers.get(id_) or self._meet(id_, origin, now)
        nbytes = wire_bytes(frames, self._keys is not None)
        if peer.connection is not None:
            peer.connection.read += nbytes
        if peer.cut or (peer.stale and nbytes > LONG_BYTES):
            return
        if peer.key is not None and self._keys is not None and not self._keys.who(peer.key.public):
            self._bear(peer, KILOBYTE_NOISE, now)  # was let in once; it has been told
            return
        long = len(frames) > 1 and len(frames[1]) > LONG_BYTES
        paid = False
        if long or nbytes > UNASKED_BYTES:
            allowed = self.dispatcher.allowance(id_)
            if nbytes > max(allowed, UNASKED_BYTES):
                self._cut(peer, f"it sent a message of {nbytes:,} bytes that nobody asked for", now)
                return
            # Who holds no task pays before it costs anything.
            paid = long and allowed <= UNASKED_BYTES
            if paid and not self._bear(peer, KILOBYTE_NOISE * len(frames[1]) / KIB, now):
                return
        before, begun = self.dispatcher.noise, time.thread_time() if long else 0.0
        with uncollected() if long else nullcontext():
            noise = self._receive(peer, frames, now)
        useful = self.dispatcher.noise - before
        if useful < 0 and nbytes > UNASKED_BYTES:
            self.dispatcher.may_repeat(id_, now)
        elif long and not paid:
            taken = SECOND_NOISE * (time.thread_time() - begun)
            noise += min(taken, KILOBYTE_NOISE * len(frames[1]) / KIB)
        self._bear(peer, noise + useful, now)

    def _meet(self, id_: bytes, origin: Origin, now: float) -> Peer:
        """Return somebody new."""
        key, roles = None, self._keyless
        if self._keys is not None:
            public = key_of(origin)
            key = self._keys.who(public) or Key(public, "")
            roles = self._keys.roles(public)
        connection, gone = self._guard.introduce(
            id_, descriptor_of(origin), now, lambda: is_here(self._socket, id_)
        )
        for other in gone:
            self._disconnected(other, now)
        host = "" if connection is None else connection.host
        pool = self._pools.of(host if key is None else key.public, now)
        peer = self._peers[id_] = Peer(id_, connection, key, Patience(now, pool), roles)
        if connection is None:  # it has gone meanwhile, and nobody could hear an answer
            peer.cut = True
            self._leaving.setdefault(id_, now + LEAVE_SECONDS)
        return peer

    def _receive(self, peer: Peer, frames: list[Frame], now: float) -> float:
        """Take a message in; return how much noise it was, beside what the dispatcher says."""
        noise = 0.0
        try:
            messages = decode(frames)
            if not messages:
                noise += 1.0
            for message in messages:
                noise += self._take(peer, message, now)
        except ProtocolError as error:
            if self._complaints.new(peer.host, str(error), now):
                log.warning(Entry("peer.refused", peer=str(peer), reason=str(error)))
            code = REFUSE_VERSION if isinstance(error, VersionMismatch) else REFUSE_MALFORMED
            self._drop(peer, code, str(error), now)
            noise += MALFORMED_NOISE
        except Exception as error:  # a bug here; one peer's message must not end the run
            if self._complaints.new(peer.host, type(error).__name__, now):
                log.exception(Entry("peer.broke_us", peer=str(peer)))
            self._drop(peer, REFUSE_MALFORMED, f"the main node stumbled: {error}", now)
            noise += MALFORMED_NOISE
        return noise

    def _take(self, peer: Peer, message: Message, now: float) -> float:
        if type(message) is Watch:
            if message.name and WATCH not in peer.roles:  # without one it only asks who this is
                return self._refuse(peer, WATCH, now)
            self.perform(self._board.receive(peer.id, message, now))
            return 1.0
        if type(message) is Control:
            return self._control(peer, message, now)
        if type(message) is Follow:
            if WATCH not in peer.roles:
                return self._refuse(peer, WATCH, now)
            effects, noise = self._board.follow(peer.id, message, now)
            self.perform(effects)
            return noise
        if type(message) is Bye:
            self._controlling.discard(peer.id)
            if self._board.watches(peer.id):
                self._board.leave(peer.id, message.reason, stopped=True)
                return 1.0
        elif WORK not in peer.roles:
            return self._refuse(peer, WORK, now)
        host = ""
        if type(message) is Hello:
            peer.stale = False
            host = "" if peer.connection is None else peer.connection.host
        self.perform(self.dispatcher.receive(peer.id, message, now, peer.key, host))
        return 0.0

    def _control(self, peer: Peer, message: Control, now: float) -> float:
        """Take an order, if this peer may give any."""
        if self._keys is not None:
            self._look(self._keys, now)  # who may give none since a moment ago gives none
        if CONTROL not in peer.roles:
            why = self._lacks(peer, CONTROL, now)
            self.perform([Send(peer.id, Controlled(message.request, False, why))])
            return ORDER_NOISE
        self._controlling.add(peer.id)
        who, by = (b"", "somebody on this machine") if peer.key is None else peer.key
        self.perform(self._controls.take(peer.id, who, by, message))
        return ORDER_NOISE

    def _refuse(self, peer: Peer, role: str, now: float) -> float:
        """Tell a peer that its key is let in for other things, and not be done with it for that."""
        self.perform([Send(peer.id, Refuse(REFUSE_ROLE, self._lacks(peer, role, now)))])
        return 1.0

    def _lacks(self, peer: Peer, role: str, now: float) -> str:
        """Return, and log, why a peer may not do something: its key lacks the role."""
        if peer.key is None:
            why = (
                "stopping from outside needs keys: make some with `mnist-keys new DIR NAME...`, and"
                " give --keys DIR"
            )
        elif not peer.key.name:
            why = f"a node that the main node has started itself lacks the role {role}"
        else:
            name, wanted = peer.key.name, in_order([role, *peer.roles], ",")
            why = (
                f"the key of {name} lacks the role {role}; where the main node's keys are,"
                f" `mnist-keys roles DIR {quote(name)} {wanted}` gives it"
            )
        if self._complaints.new(peer.host, why, now):
            log.warning(Entry("role.missing", peer=str(peer), cause=why))
        return why

    def _bear(self, peer: Peer, noise: float, now: float) -> bool:
        """Count what a peer says that serves nobody; where that is too much, be done with it."""
        if peer.patience.bear(noise, now):
            return True
        self._cut(peer, "it says too much that serves nobody", now)
        return False

    # Peers go.

    def _failed(self, event: Event, now: float) -> None:
        """Say that a connection came to nothing before a word was said."""
        host = event.peer.rpartition(":")[0]
        if self._complaints.new(host, event.cause, now):
            peer = event.peer or "unknown"
            log.warning(Entry("connection.refused", peer=peer, cause=event.cause))

    def _disconnected(self, connection: Connection, now: float) -> None:
        """A connection is over; what came before is heard first."""
        if connection.peer is not None and connection.peer in self._peers:
            self._leaving.setdefault(connection.peer, now + LEAVE_SECONDS)

    def _let_go(self, drained: bool, now: float) -> None:
        """Be done with those whose connections are over."""
        for id_, until in list(self._leaving.items()):
            if drained or now >= until:
                del self._leaving[id_]
                self._forget(id_, "connection lost", now)

    def _forget(self, id_: bytes, reason: str, now: float) -> None:
        self._peers.pop(id_, None)
        self._talking.pop(id_, None)
        self._receipted.pop(id_, None)
        self._controlling.discard(id_)
        self.perform(self.dispatcher.unreachable(id_, now))
        self._board.leave(id_, reason)
        self._tick_at = min(self._tick_at, now + 2 * SETTLE_SECONDS)  # are its neighbours well?

    def _was_cut(self, connection: Connection, why: str) -> None:
        """The guard has cut a connection off."""
        peer = self._peers.get(connection.peer or b"")
        now = time.monotonic()
        if peer is not None and peer.connection is connection:
            self._cut(peer, why, now)
        elif self._complaints.new(connection.host, why.lstrip("0123456789,"), now):
            log.warning(Entry("connection.cut", peer=connection.address or "unknown", reason=why))

    def _flooded(self, host: str) -> None:
        """The guard lets in fewer of a host's connections."""
        if self._complaints.new(host, "flood", time.monotonic()):
            why = "too many of its connections end without a word; fewer are let in"
            log.warning(Entry("connection.flood", peer=host, reason=why))

    def _cut(self, peer: Peer, why: str, now: float) -> None:
        """Be done with a peer that costs more than it may: end its connection, and hear no more."""
        if peer.cut:
            return
        peer.cut = True
        if self._complaints.new(peer.host, "cut", now):
            log.warning(Entry("peer.cut", peer=str(peer), reason=why))
        if peer.connection is not None:
            self._guard.let_wait(peer.connection, now)
        self._disgrace(peer, now)
        peer.outbox.clear()
        self._talking.pop(peer.id, None)
        self._receipted.pop(peer.id, None)
        self._give_up(peer, why, now)

    def _disgrace(self, peer: Peer, now: float) -> None:
        """Let whoever comes with the same key, or without keys from the same host, wait a while."""
        if peer.key is not None:
            if len(self._disgraced) > MAX_HOSTS:
                self._disgraced.clear()
            self._disgraced[peer.key.public] = now + DISGRACE_SECONDS
        elif peer.connection is not None:
            self._guard.disgrace(peer.connection.host, now)

    def _give_up(self, peer: Peer, reason: str, now: float) -> None:
        """Be done with a node or a watcher."""
        self.perform(self.dispatcher.drop(peer.id, reason, now))
        self._board.leave(peer.id, reason)

    def _drop(self, peer: Peer, code: str, reason: str, now: float) -> None:
        self._give_up(peer, reason, now)
        self.perform([Send(peer.id, Refuse(code, reason))])

    # Keys.

    def _look(self, keys: MainKeys, now: float) -> None:
        """Read the allow-list again if it has changed, and drop whom it names no more."""
        changed = keys.look()
        for complaint in keys.complaints():
            log.warning(Entry("keys.damaged", cause=complaint))
        if not changed:
            return
        log.info(Entry("keys.changed", folder=str(keys.folder)))
        for peer in list(self._peers.values()):
            if peer.key is None:
                continue
            before, peer.roles = peer.roles, keys.roles(peer.key.public)
            if keys.who(peer.key.public) is None:
                why = keys.describe(peer.key.public)
                log.warning(Entry("node.revoked", peer=str(peer), cause=why))
                self._drop(peer, REFUSE_KEY, why, now)
            elif before - peer.roles:
                self._demote(peer, before - peer.roles, now)

    def _demote(self, peer: Peer, lost: Roles, now: float) -> None:
        """Be done with what a peer did in roles that its key has no more."""
        works = WORK in lost and peer.id in self.dispatcher.peers
        watches = WATCH in lost and self._board.watches(peer.id)
        if works or watches:
            why = self._lacks(peer, WORK if works else WATCH, now)
            self._drop(peer, REFUSE_ROLE, why, now)

    def _admit(self, public: bytes, address: str) -> Answer:
        """Answer whether a key is let in; called by the gate."""
        assert self._keys is not None
        now = time.monotonic()
        if now >= self._hurry_at:  # who was revoked a moment ago is not let in
            self._hurry_at = now + HURRY_SECONDS
            self._look(self._keys, now)
        if self._keys.admits(public):
            disgraced = now < self._disgraced.get(public, 0.0)
            return Answer.NO if disgraced else Answer.YES
        what = self._keys.describe(public)
        if self._complaints.new(address, what, now):
            log.warning(Entry("connection.refused", peer=address, cause=what))
        return Answer.REVOKED if self._keys.revoked(public) else Answer.NO

    def _hand_over(self) -> None:
        """Deliver results; last, because whoever waits for one can't go on before the poll."""
        finished, self._finished = self._finished, []
        told = self._scribe is not None and log.isEnabledFor(logging.DEBUG)
        for effect in finished:
            if told and type(effect) is Accept:
                log.debug(Entry("job.accepted", job=self._name_of(effect.job), node=effect.node))
            self._deliver(effect)

    def _flush(self, now: float, last: bool = False) -> None:
        """Send what there is to send.

        Receipts of one node travel in one message, and alone only after a while: a program that
        asks for one job after another would pay for them.
        """
        self._stuck = False
        if self._receipted and not self._talking and not last:
            self._lazy_until = self._lazy_until or now + LAZY_SECONDS
            if now < self._lazy_until:
                return
        self._lazy_until = 0.0
        for peer in self._receipted.values():
            for first in range(0, len(peer.receipts), RECEIPTS):
                peer.outbox.put(Accepted(tuple(peer.receipts[first : first + RECEIPTS])))
            peer.receipts.clear()
        self._talking |= self._receipted
        self._receipted.clear()
        while self._talking:  # an unreachable node's jobs make messages to others
            talking, self._talking = self._talking, {}
            stuck = {peer.id: peer for peer in talking.values() if self._send_all(peer, now)}
            if stuck:
                self._talking |= stuck
                self._stuck = True
                return

    def _send_all(self, peer: Peer, now: float) -> bool:
        """Send a peer's messages; return whether some have to wait for room."""
        outbox = peer.outbox
        try:
            waits = outbox.send(lambda frames: send(self._socket, [peer.id, *frames]), now)
        except ConnectionError:  # what it said before is heard first: a goodbye, or a solution
            outbox.clear()
            self._leaving.setdefault(peer.id, now + LEAVE_SECONDS)
            return False
        if outbox.nbytes > OUTBOX_BYTES or now - outbox.waits_since > DEAF_SECONDS:
            self._cut(peer, "it does not read what it is told", now)
            return False
        return waits

    def finish(self) -> None:
        """Tell the nodes, send what is left, and close."""
        try:
            if self._scribe is not None:  # solutions that came are kept, whatever ends this
                self._scribe.close()
                self._perform_calls()
            self._hand_over()
            self._controls.await_done(GOODBYE_SECONDS)
            self._perform_calls()
            self.perform(self._controls.close())
            if self._dismiss:
                now = time.monotonic()
                last = self._board.publish(self.dispatcher.view(now), self._name_of, now)
                self.perform(last + self._board.close(_ENDED) + self.dispatcher.close(_ENDED))
            self._flush(time.monotonic(), last=True)
            if self._dismiss:
                self._await_goodbyes()
        finally:
            self._guard.close()
            close(self._socket, self._monitor)
            if self._gate is not None:
                self._gate.close()
            self._context.term()
            self.crowd.close()
            self._release()

    def _await_goodbyes(self) -> None:
        """Wait a little until everybody has heard of the end.

        What a node has not read when its connection ends, ZeroMQ drops; it would go on working for
        nobody.
        """
        told = {*self.dispatcher.peers, *self._board.peers, *self._controlling}
        here = {
            id_ for id_, peer in self._peers.items()
            if id_ in told and not peer.cut and id_ not in self._leaving
        }  # fmt: skip
        poller = Poller()
        poller.register(self._socket, READABLE)
        until = time.monotonic() + GOODBYE_SECONDS
        while here and (left := until - time.monotonic()) > 0:
            if not poller.poll(math.ceil(left * 1000)):
                return
            while here and time.monotonic() < until:
                received = receive(self._socket, small=3)
                if received is None:
                    break
                (peer, *frames), _ = received
                # Many of those who talk now may not mean well; a goodbye is short.
                if bytes(peer) not in here or len(frames) < 2 or len(frames[1]) > LONG_BYTES:
                    continue
                with suppress(ProtocolError):
                    if any(type(message) is Bye for message in decode(frames)):
                        here.discard(bytes(peer))

    @property
    def writes(self) -> bool:
        """Whether the thread that asks is the one that writes the journal."""
        return self._scribe is not None and self._scribe.is_current

    def leave(self, timeout: float | None = 5.0) -> None:
        """End without a word to the nodes, which keep what they hold for the next start."""
        self._dismiss = False
        self.end(timeout)

    def broke(self, error: Exception) -> None:
        """Let nobody wait for a result that will not come."""
        self._broken(error)
