"""The thread that owns a main node's ROUTER and its dispatcher."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from protocol import (
    JobSolutionDataType,
    LocalProtocolError,
    ProtocolError,
    VersionMismatch,
)
from protocol.codec import Frame, batches, decode, encode, safe_line
from protocol.dispatch import Dispatcher
from protocol.effects import (
    Accept,
    Benched,
    Doubled,
    Effect,
    Fail,
    Joined,
    Left,
    Offered,
    Refused,
    Retry,
    Send,
)
from protocol.keys import MainKeys
from protocol.ledger import Job
from protocol.messages import (
    REFUSE_KEY,
    REFUSE_MALFORMED,
    REFUSE_VERSION,
    Accepted,
    Bye,
    Fields,
    Heartbeat,
    Message,
    Refuse,
    Watch,
)
from protocol.monitor import Event, Happened
from protocol.shell import Shell
from protocol.sockets import (
    READABLE,
    Gate,
    Poller,
    bind,
    close,
    make_context,
    receive,
    receive_from,
    send,
)
from protocol.status import Board

from .journal import Journal, Scribe

log = logging.getLogger("mnist.main")

#: After a disconnection every node is probed this many seconds later: ZeroMQ reports it before
#: its own tables know.
PROBES = (0.005, 0.05, 0.3)
#: Messages taken from the socket before the effects are sent off.
DRAIN = 500
TICK_SECONDS = 0.25
#: Where there was no room to send, it is tried again after this long.
STUCK_SECONDS = 0.005
#: A receipt waits so long for another message to travel with.
LAZY_SECONDS = 0.005
#: A peer for which so many messages wait, because it does not read, is dropped.
MAX_WAITING = 20_000
#: The allow-list is looked at this often.
LOOK_SECONDS = 1.0
#: The same complaint about the same address is logged once in so many seconds.
COMPLAIN_SECONDS = 60.0
BUDGET = 100
#: A handshake is reason to look at the allow-list, but not more often than this.
HURRY_SECONDS = 0.2
#: Tasks receipted in one message.
RECEIPTS = 4000
#: At the end, whoever is here has so long to say that it has heard of it.
GOODBYE_SECONDS = 0.3
_ENDED = "the main node has ended"


class Crowd:
    """How many nodes are here, for other threads to wait on."""

    def __init__(self) -> None:
        self.size = 0
        self.closed = False
        self._changed = threading.Condition()

    def change(self, by: int) -> None:
        """Count nodes that came or went."""
        with self._changed:
            self.size += by
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody who waits go on."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def wait_for(self, nodes: int, timeout: float | None) -> bool:
        """Wait for so many, or the end; return False if `timeout` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self.size >= nodes or self.closed, timeout)


class Complaints:
    """What has been said of whom lately, so that nobody can flood the log.

    The same of the same is said once a minute, and no more than `BUDGET` lines in one.
    """

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()
        self._until = -math.inf

    def new(self, who: str, what: str, now: float) -> bool:
        """Whether this is worth a line; it counts as said then."""
        if now >= self._until:
            self._said.clear()
            self._until = now + COMPLAIN_SECONDS
        if (who, what) in self._said or len(self._said) >= BUDGET:
            return False
        self._said.add((who, what))
        return True


class Router(Shell):
    """The thread that owns the ROUTER and the dispatcher."""

    def __init__(
        self,
        name: str,
        address: str,
        dispatcher: Dispatcher,
        deliver: Callable[[Accept | Fail], None],
        broken: Callable[[Exception], None],
        name_of: Callable[[int], str],
        journal: Journal | None = None,
        keys: MainKeys | None = None,
        insecure: bool = False,
    ) -> None:
        super().__init__(name)
        self._broken = broken
        self._name_of = name_of
        self._dismiss = True
        self.dispatcher = dispatcher
        self._board = Board(dispatcher.main, dispatcher.domain, dispatcher.heartbeat_seconds)
        self.crowd = Crowd()
        self._deliver = deliver
        self._keys = keys
        self._look_at = self._hurry_at = 0.0
        self._complaints = Complaints()
        self._context = make_context()
        self._gate = Gate(self._context, self._admit) if keys is not None else None
        try:
            self._socket, self._monitor, self.address = bind(self._context, address, keys, insecure)
        except ProtocolError:
            if self._gate is not None:
                self._gate.close()
            self._context.term()
            self.discard()
            raise
        self.poller.register(self._socket, READABLE)
        self.poller.register(self._monitor.socket, READABLE)
        if self._gate is not None:
            self.poller.register(self._gate.socket, READABLE)
        self._outgoing: dict[bytes, deque[Message]] = {}
        self._finished: list[Accept | Fail] = []
        self._stuck = False
        self._lazy_until = 0.0
        self._receipts: dict[bytes, list[int]] = {}
        self._probes: list[float] = []
        self._tick_at = 0.0
        self._owners: dict[bytes, bytes] = {}  # routing id -> public key
        self._scribe: Scribe | None = None
        if journal is not None:
            self._scribe = Scribe(name, journal, self._kept, self._unfit, self._unkept)

    def turn(self, ready: dict[Any, int], now: float) -> float:
        """Receive, let time pass, send, and only then hand results over."""
        if self._monitor.socket in ready:  # first: an address is known for a moment only
            for event in self._monitor.read():
                self._happened(event, now)
        if self._gate is not None and self._gate.socket in ready:
            self._gate.answer()
        if self._socket in ready:
            self._drain(now)
        if self._keys is not None and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look(self._keys, now)
        if self._probes and now >= self._probes[0]:
            self._probe(now)
        if now >= self._tick_at:
            self._tick_at = now + TICK_SECONDS
            self.perform(self.dispatcher.tick(now))
            self._board.pace(self.dispatcher.done, now)
        if self._board.due(now):
            view = self.dispatcher.view(now)
            self.perform(self._board.publish(view, self._name_of, now))
        if self._outgoing or self._receipts:
            self._flush(now)
        if self._finished:
            self._hand_over()
        return self._due(now)

    def _due(self, now: float) -> float:
        due = self._tick_at
        if self._probes:
            due = min(due, self._probes[0])
        if self._stuck:
            due = min(due, now + STUCK_SECONDS)
        if self._lazy_until:
            due = min(due, self._lazy_until)
        return due

    def submit(self, job: Job) -> None:
        """Queue a job; in this thread."""
        self.perform(self.dispatcher.submit(job, time.monotonic()))

    def cancel(self, job_id: int) -> None:
        """Give a job up; in this thread."""
        self.perform(self.dispatcher.cancel(job_id, time.monotonic()))

    def tell(self, about: Fields) -> None:
        """Say something to whoever watches; in this thread."""
        self._board.about = about

    def _kept(self, task: int, solution: JobSolutionDataType) -> None:
        """Go on with a solution that is kept; from the scribe's thread."""
        self._say(lambda: self.dispatcher.kept(task, solution, time.monotonic()))

    def _unfit(self, task: int, reason: str) -> None:
        """Go on without a solution that is none; from the scribe's thread."""
        self._say(lambda: self.dispatcher.unfit(task, reason, time.monotonic()))

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
                message = effect.message
                if type(message) is Accepted:
                    self._receipts.setdefault(effect.peer, []).extend(message.tasks)
                    continue
                pending = self._outgoing.get(effect.peer)
                if pending is None:
                    pending = self._outgoing[effect.peer] = deque()
                pending.append(message)
                if len(pending) == MAX_WAITING:
                    self.call_soon(partial(self._unread, effect.peer))
                continue
            if type(effect) is Accept or type(effect) is Fail:
                self._finished.append(effect)
            else:
                if type(effect) is Refused:
                    if not self._complaints.new("", effect.reason, time.monotonic()):
                        continue
                elif type(effect) is Joined or type(effect) is Left:
                    self.crowd.change(1 if type(effect) is Joined else -1)
                    self._board.note(effect)
                _report(effect, self._name_of)
            if self._scribe is not None and type(effect) is not Accept:
                self._scribe.put(effect)

    def _unread(self, peer: bytes) -> None:
        """Be done with a peer that does not read what it is sent."""
        if len(self._outgoing.get(peer, ())) >= MAX_WAITING:
            self._outgoing.pop(peer)
            log.warning("peer.dropped peer=%s reason='it does not read'", peer.hex())
            reason = f"it left {MAX_WAITING} messages unread"
            self._give_up(peer, reason, time.monotonic())
            self._outgoing.pop(peer, None)

    def _give_up(self, peer: bytes, reason: str, now: float) -> None:
        """Be done with a node or a watcher."""
        self.perform(self.dispatcher.drop(peer, reason, now))
        self._board.leave(peer, reason)

    def _drain(self, now: float) -> None:
        if self._keys is not None:
            self._drain_known(self._keys, now)
            return
        for _ in range(DRAIN):
            frames = receive(self._socket, small=3)
            if frames is None:
                return
            self._receive(bytes(frames[0]), frames[1:], now)

    def _drain_known(self, keys: MainKeys, now: float) -> None:
        """The same with keys: who was let in may have been revoked since."""
        for _ in range(DRAIN):
            received = receive_from(self._socket, small=3)
            if received is None:
                return
            frames, key = received
            peer = bytes(frames[0])
            if keys.who(key) is None:
                if self._owners.pop(peer, None) is not None:  # told once
                    self._drop(peer, REFUSE_KEY, keys.describe(key), now)
                continue
            self._owners[peer] = key
            self._receive(peer, frames[1:], now)

    def _look(self, keys: MainKeys, now: float) -> None:
        """Read the allow-list again if it has changed, and drop whom it names no more."""
        here = {*self.dispatcher.peers, *self._board.peers}
        if len(self._owners) > 2 * len(here) + BUDGET:  # most of them are gone
            self._owners = {peer: key for peer, key in self._owners.items() if peer in here}
        if not keys.look():
            return
        log.info("keys.changed folder=%s", keys.folder)
        for peer in here:
            key = self._owners.get(peer)
            if key is not None and keys.who(key) is None:
                del self._owners[peer]
                log.warning("node.revoked cause=%r", keys.describe(key))
                self._drop(peer, REFUSE_KEY, keys.describe(key), now)

    def _admit(self, key: bytes, address: str) -> bool:
        """Answer whether a key is let in; called by the gate."""
        assert self._keys is not None
        now = time.monotonic()
        if now >= self._hurry_at:  # who was revoked a moment ago is not let in
            self._hurry_at = now + HURRY_SECONDS
            self._look(self._keys, now)
        if self._keys.who(key) is not None:
            return True
        what = self._keys.describe(key)
        if self._complaints.new(address, what, now):
            log.warning("connection.refused peer=%s cause=%r", address, what)
        return False

    def _receive(self, peer: bytes, frames: list[Frame], now: float) -> None:
        try:
            for message in decode(frames):
                if type(message) is Watch:
                    self.perform(self._board.receive(peer, message, now))
                elif type(message) is Bye and self._board.watches(peer):
                    self._board.leave(peer, safe_line(message.reason), stopped=True)
                else:
                    self.perform(self.dispatcher.receive(peer, message, now))
        except ProtocolError as error:
            if self._complaints.new(peer.hex(), str(error), now):
                log.warning("peer.refused peer=%s reason=%r", peer.hex(), str(error))
            code = REFUSE_VERSION if isinstance(error, VersionMismatch) else REFUSE_MALFORMED
            self._drop(peer, code, str(error), now)
        except Exception as error:  # a bug here; one peer's message must not end the run
            log.exception("peer.broke_us peer=%s", peer.hex())
            self._drop(peer, REFUSE_MALFORMED, f"the main node stumbled: {error}", now)

    def _drop(self, peer: bytes, code: str, reason: str, now: float) -> None:
        self._give_up(peer, reason, now)
        self.perform([Send(peer, Refuse(code, reason))])

    def _hand_over(self) -> None:
        """Deliver results; last, because whoever waits for one can't go on before the poll."""
        finished, self._finished = self._finished, []
        for effect in finished:
            if type(effect) is Accept and self._scribe is not None:
                log.debug("job.accepted job=%s node=%s", self._name_of(effect.job), effect.node)
            self._deliver(effect)

    def _happened(self, event: Event, now: float) -> None:
        if event.what is Happened.FAILED:
            host = event.peer.rpartition(":")[0]
            if self._complaints.new(host, event.cause, now):
                peer = event.peer or "unknown"
                log.warning("connection.refused peer=%s cause=%r", peer, event.cause)
        elif event.what is Happened.DISCONNECTED:
            self._probes = [now + after for after in PROBES]

    def _probe(self, now: float) -> None:
        """Send something to every node, to learn which have no connection any more."""
        self._probes.pop(0)
        peers = self.dispatcher.peers + self._board.peers
        self.perform([Send(peer, Heartbeat()) for peer in peers])

    def _flush(self, now: float) -> None:
        """Send what there is to send.

        Receipts of one node travel in one message, and alone only after a while: a program that
        asks for one job after another would pay for them.
        """
        self._stuck = False
        if self._receipts and not self._outgoing:
            self._lazy_until = self._lazy_until or now + LAZY_SECONDS
            if now < self._lazy_until:
                return
        self._lazy_until = 0.0
        for peer, tasks in self._receipts.items():
            for first in range(0, len(tasks), RECEIPTS):
                receipt = Accepted(tuple(tasks[first : first + RECEIPTS]))
                self._outgoing.setdefault(peer, deque()).append(receipt)
        self._receipts.clear()
        while self._outgoing:  # an unreachable node's jobs make messages to others
            outgoing, self._outgoing = self._outgoing, {}
            stuck: dict[bytes, deque[Message]] = {}
            for peer, messages in outgoing.items():
                if not self._send_all(peer, messages, now):
                    stuck[peer] = messages
            if stuck:
                for peer, messages in stuck.items():
                    messages.extend(self._outgoing.pop(peer, ()))
                    self._outgoing[peer] = messages
                self._stuck = True
                return

    def _send_all(self, peer: bytes, messages: deque[Message], now: float) -> bool:
        """Send a node's messages; return False with the rest left where there is no room."""
        for batch in batches(list(messages)):
            try:
                if not send(self._socket, [peer, *encode(batch)]):
                    return False
            except ConnectionError:
                self.perform(self.dispatcher.unreachable(peer, now))
                self._board.leave(peer, "connection lost")
                return True
            except LocalProtocolError:  # a bug: what can't be sent is refused on the way in
                log.exception("message.unsendable peer=%s", peer.hex())
            for _ in batch:
                messages.popleft()
        return True

    def finish(self) -> None:
        """Tell the nodes, send what is left, and close."""
        try:
            if self._scribe is not None:  # solutions that came are kept, whatever ends this
                self._scribe.close()
                self._perform_calls()
            self._hand_over()
            if self._dismiss:
                now = time.monotonic()
                last = self._board.publish(self.dispatcher.view(now), self._name_of, now)
                self.perform(last + self._board.close(_ENDED) + self.dispatcher.close(_ENDED))
            self._flush(math.inf)
            if self._dismiss:
                self._await_goodbyes()
        finally:
            close(self._socket, self._monitor)
            if self._gate is not None:
                self._gate.close()
            self._context.term()
            self.crowd.close()

    def _await_goodbyes(self) -> None:
        """Wait a little until everybody has heard of the end.

        What a node has not read when its connection ends, ZeroMQ drops; it would go on working for
        nobody.
        """
        here = {*self.dispatcher.peers, *self._board.peers}
        poller = Poller()
        poller.register(self._socket, READABLE)
        until = time.monotonic() + GOODBYE_SECONDS
        while here and (left := until - time.monotonic()) > 0:
            if not poller.poll(math.ceil(left * 1000)):
                return
            for _ in range(DRAIN):
                frames = receive(self._socket, small=3)
                if frames is None:
                    break
                with suppress(ProtocolError):
                    if any(type(message) is Bye for message in decode(frames[1:])):
                        here.discard(bytes(frames[0]))

    def leave(self, timeout: float | None = 5.0) -> None:
        """End without a word to the nodes, which keep what they hold for the next start."""
        self._dismiss = False
        self.end(timeout)

    def broke(self, error: Exception) -> None:
        """Let nobody wait for a result that will not come."""
        self._broken(error)


def _report(effect: Effect, name_of: Callable[[int], str]) -> None:
    match effect:
        case Joined(node, hello):
            log.info(
                "node.joined node=%s tasks=%d cores=%d accelerator=%s",
                node, hello.tasks, hello.cores, hello.accelerator or "none",
            )  # fmt: skip
        case Left(node, reason):
            log.info("node.left node=%s reason=%r", node, reason)
        case Refused(name, reason):
            log.warning("node.refused name=%r reason=%r", name, reason)
        case Offered(task, job, node):
            log.debug("job.offered job=%s task=%d node=%s", name_of(job), task, node)
        case Benched(node, reason, seconds):
            log.warning("node.benched node=%s seconds=%g reason=%r", node, seconds, reason)
        case Doubled(job, slow, node):
            log.info("job.doubled job=%s slow=%s node=%s", name_of(job), slow, node)
        case Retry(job, attempt):
            log.warning(
                "job.retried job=%s node=%s kind=%s message=%r",
                name_of(job), attempt.node, attempt.kind, attempt.message,
            )  # fmt: skip
