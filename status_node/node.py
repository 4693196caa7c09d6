"""A node that only looks on: how the nodes of main nodes are, as AML-IP's StatusNode."""

from __future__ import annotations

import copy
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from protocol import AddressError, ProtocolError
from protocol.carrier.discovery import Browser, Found
from protocol.carrier.keys import NodeKeys
from protocol.carrier.link import LOOK_SECONDS, STUCK_SECONDS, TRY_SECONDS, Link
from protocol.carrier.monitor import Happened
from protocol.carrier.shell import Shell
from protocol.carrier.sockets import make_context, node_security
from protocol.errors import ConfigError, NodeError
from protocol.machine.chronicle import Follower, Happening
from protocol.machine.watching import NodeState, Overview, Watching
from protocol.options import check_value
from protocol.wire.addresses import DEFAULT_ADDRESS, split_address
from protocol.wire.codec import decode
from protocol.wire.entry import Entry
from protocol.wire.limits import ANSWER_EVENTS, MAX_COUNT, MIB
from protocol.wire.messages import (
    REFUSE_KEY,
    Message,
    NodeStatus,
    Refuse,
    Status,
    Stop,
    Watch,
)
from protocol.wire.words import safe_name

log = logging.getLogger("mnist.status")

TICK_SECONDS = 0.25
#: Messages taken from a socket, and time for it, before anything else is done.
DRAIN = 500
DRAIN_SECONDS = 0.02
#: What a main node may have sent that is not read yet: as many statuses as it sends at once.
ALLOWANCE_BYTES = 16 * MIB
#: Main nodes that are watched at once.
MAX_MAINS = 64
#: What has happened at so many of them is remembered, so that nothing is told twice.
MAX_FOLLOWED = 4 * MAX_MAINS


class StatusListener:
    """Is told of every node whose state changes; override `status_received`."""

    def status_received(self, status: NodeStatus) -> None:
        """Take a node's new state.

        Args:
            status: its `id`, `kind` (main, computing, status) and `state` (unknown, running,
                stopped, dropped), why, and what it does.
        """


Callback = Callable[[NodeStatus], object]
#: What the thread of the user's code is handed; None ends it.
News = queue.SimpleQueue[NodeStatus | Happening | None]


class _Watched(Link):
    """The connection to one main node, and the conversation over it."""

    def __init__(self, watch: Watch, follower: Follower | None, *link: Any) -> None:
        super().__init__(*link)
        self.watching = Watching(watch, self.address)
        self.follower = follower
        self.withdrawn = False

    def greet(self, now: float) -> None:
        """Say what is to be said over a new connection."""
        self.outgoing.extend(self.watching.greet(now))
        if self.follower is not None:
            self.follower.greet()
            self.outgoing.extend(self.follower.say(now))

    def is_elsewhere(self, message: Message) -> bool:
        """Whether who answers at one of several addresses is another than the one that is meant."""
        return self.dubious and isinstance(message, Status) and message.main != self.main

    def overview(self) -> Overview:
        """Return what is known, for others to keep."""
        known = copy.deepcopy(self.watching.overview)
        known.address = self.address  # one of several, by now
        return known


class _Observer(Shell):
    """The thread that owns the connections of a status node."""

    def __init__(
        self, watch: Watch, addresses: Sequence[str], keys: NodeKeys | None, news: News,
        follows: bool,
    ) -> None:  # fmt: skip
        super().__init__(f"{watch.name} connections")
        self._watch, self._keys, self._news = watch, keys, news
        self._follows = follows
        self._held = False  # because there are enough events
        self._left = False
        self._followers: dict[str, Follower] = {}  # by the same; they outlive the links
        self._context = make_context()
        self._watched: dict[str, _Watched] = {}  # by address, or by what it is announced as
        self._tick_at = 0.0
        self.answers = threading.Condition()
        self.failure: Exception | None = None
        with self.whole(self._context):
            for address in dict.fromkeys(addresses):
                self._add(address, [address])

    def _add(self, name: str, addresses: Sequence[str], main: str = "") -> None:
        self._watched[name] = _Watched(
            self._watch,
            self._follower(name),
            self._context,
            self.poller,
            addresses,
            self._keys,
            log,
            main,
        )

    def _follower(self, name: str) -> Follower | None:
        if not self._follows:
            return None
        gone = [each for each in self._followers if each not in self._watched and each != name]
        if len(self._followers) >= MAX_FOLLOWED:
            del self._followers[gone[0]]
        return self._followers.setdefault(name, Follower())

    def ask(self) -> None:
        """Ask for more events, unless those that came wait still; in this thread."""
        if self._news.qsize() > ANSWER_EVENTS:
            self._held = True
            return
        now = time.monotonic()
        for link in self._watched.values():
            if link.follower is not None and link.connected:
                link.outgoing.extend(link.follower.say(now))

    def taken(self) -> None:
        """Those that came are with whoever wants them; from another thread."""
        if self._held:
            self._held = False
            self.call_soon(self.ask)

    def found(self, main: Found) -> None:
        """Watch a main node that was discovered; in this thread."""
        try:
            if main.name in self._watched:
                self._watched[main.name].withdrawn = False
                self._watched[main.name].look_at(main.addresses)
                return
            nobody = [name for name, link in self._watched.items() if not link.connected]
            if len(self._watched) >= MAX_MAINS and nobody:  # a flood keeps the right one not out
                self._watched.pop(nobody[0]).close(0)
            if len(self._watched) < MAX_MAINS:
                self._add(main.name, main.addresses, main.id)
        except Exception as error:  # whatever strangers announce
            log.warning(Entry("main.ignored", id=main.id, cause=str(error)))

    def lost(self, name: str) -> None:
        """A main node that was discovered is announced no more; in this thread."""
        if name in self._watched:
            self._watched[name].withdrawn = True

    def overviews(self) -> list[Overview]:
        """Return what is known, for others to keep; in this thread."""
        return [link.overview() for link in self._watched.values()]

    def watchings(self) -> list[Watching]:
        """Return the conversations, to look at."""
        return [watched.watching for watched in list(self._watched.values())]

    def turn(self, ready: dict[Any, int], now: float) -> float:
        """Receive, let time pass, and send."""
        if self._left:  # whoever says more after a goodbye is taken for a newcomer
            stuck = [link.flush() for link in self._watched.values() if link.outgoing]
            return now + (STUCK_SECONDS if any(stuck) else LOOK_SECONDS)
        for link in self._watched.values():
            for event in link.read(ready, partial(self._drain, link, now), now):
                link.watching.overview.trouble = event.cause
                if event.what is Happened.CONNECTED:
                    link.greet(now)
                else:
                    self._changed(link.watching.cut(event.cause or "connection lost"))
                    if event.final:
                        refuse = Refuse(REFUSE_KEY, event.cause)
                        self._changed(link.watching.receive(refuse, now))
        for link in self._watched.values():
            if not link.watch(ALLOWANCE_BYTES, now):
                self._changed(link.watching.cut("it misbehaves"))
        if now >= self._tick_at:
            self._tick_at = now + TICK_SECONDS
            self._tick(now)
        if self._follows:
            self.ask()
        stuck = [link.flush() for link in self._watched.values() if link.outgoing]
        return now + STUCK_SECONDS if any(stuck) else min(self._tick_at, now + LOOK_SECONDS)

    def _tick(self, now: float) -> None:
        for name, link in list(self._watched.items()):
            link.tick(now)
            if link.connected:
                messages, silent = link.watching.tick(now)
                link.outgoing.extend(messages)
                if silent:
                    if not link.watching.lost:
                        self._changed(link.watching.cut("silent"))
                    link.reopen()
            elif link.withdrawn:
                link.close(0)
                del self._watched[name]

    def _drain(self, link: _Watched, now: float) -> None:
        until = time.monotonic() + DRAIN_SECONDS
        for _ in range(DRAIN):
            frames = link.receive() if time.monotonic() < until else None
            if frames is None:
                return
            try:
                for message in decode(frames):
                    if link.is_elsewhere(message):
                        link.pause(now + TRY_SECONDS)
                        return
                    self._changed(link.watching.receive(message, now))
                    if link.follower is not None:
                        for happening in link.follower.receive(message):
                            self._news.put(happening)
                    link.outgoing.extend(link.watching.receipt(now))
                    if isinstance(message, Stop):
                        link.outgoing.extend(link.watching.bye())
            except ProtocolError as error:
                if not link.bear(str(error), now):
                    self._changed(link.watching.cut("it misbehaves"))
                    return

    def _changed(self, changes: list[NodeStatus]) -> None:
        for status in changes:
            self._news.put(status)
        with self.answers:
            self.answers.notify_all()

    def broke(self, error: Exception) -> None:
        """Let nobody wait for what will not come."""
        self.failure = error
        self._changed([])

    def leave(self) -> None:
        """Say goodbye, and nothing after it."""
        self._left = True
        for link in self._watched.values():
            link.outgoing.extend(link.watching.bye())
            if not link.paused:
                link.flush()

    def finish(self) -> None:
        """Close the connections."""
        for link in self._watched.values():
            link.close()
        self._context.term()


class StatusNode:
    """Watches the nodes of one or more main nodes.

    It takes no jobs. To a main node with keys it needs keys of its own, like a computing node.

    Args:
        name: for people; `get_id()` is unique.
        domain: it watches main nodes of this domain only.
        address: of a main node, or of several; they may start later.  [default: this machine's
            usual one, or none with `discover`]
        discover: find the main nodes of the domain that announce themselves, now and later.
        insecure: without keys, take those on other machines, too.
        keys: folder with this node's keys, as `mnist-keys` makes it, or a main node's whole one:
            then those of this name, or else of some node.
        on_event: called with every event that the programs of the main nodes tell, a `Happening`,
            each once and in order, from the first that is kept; in the same thread as the
            listener. What happens while the connection is cut is told when there is one again.

    Raises:
        AddressError: an address is malformed.
        KeysError: the keys can't be used.
    """

    def __init__(
        self,
        name: str,
        domain: int = 0,
        *,
        address: str | Sequence[str] | None = None,
        discover: bool = False,
        insecure: bool = False,
        keys: str | Path | None = None,
        on_event: Callable[[Happening], object] | None = None,
    ) -> None:
        if address is None:
            address = [] if discover else DEFAULT_ADDRESS
        check_value("domain", domain, int, least=0, most=MAX_COUNT)
        self._addresses = [address] if isinstance(address, str) else list(address)
        self._watch = Watch(uuid.uuid4().hex[:8], safe_name(name), domain)
        self._security = node_security(keys, name, insecure, any_of=True)
        for each in self._addresses:
            split_address(each, 1)
        self._discover = discover
        self._on_event = on_event
        self._observer: _Observer | None = None
        self._browser: Browser | None = None
        self._telling: threading.Thread | None = None

    def get_id(self) -> str:
        """Return this node's unique id, `name.` and eight hexadecimal digits."""
        return f"{self._watch.name}.{self._watch.node}"

    @property
    def state(self) -> NodeState:
        """`running` while it watches, else `stopped`."""
        return NodeState.STOPPED if self._observer is None else NodeState.RUNNING

    def process_status_async(
        self, listener: StatusListener | None = None, callback: Callback | None = None
    ) -> None:
        """Begin to watch; the listener or callback is told of every state that changes.

        What is told first is how all nodes are now. Both run in a thread of this node's.

        Raises:
            ConfigError: it watches already, or a listener and a callback are given.
            AddressError: a malformed address, or no multicast here.
        """
        if self._observer is not None:
            raise ConfigError("this node watches already; stop_processing() first")
        if listener is not None and callback is not None:
            raise ConfigError("give a listener or a callback, not both")
        told = (listener or StatusListener()).status_received if callback is None else callback
        news: News = queue.SimpleQueue()
        observer = _Observer(
            self._watch, self._addresses, self._security.keys, news, self._on_event is not None
        )
        if self._discover:
            try:
                self._browser = Browser(
                    self._watch.domain,
                    lambda main: observer.call_soon(partial(observer.found, main)),
                    lambda name: observer.call_soon(partial(observer.lost, name)),
                    self._security,
                )
            except AddressError:
                observer.end()
                raise
        self._news = news
        self._telling = threading.Thread(
            target=_tell, args=(news, told, self._on_event, observer.taken),
            name=f"{self._watch.name} deliveries", daemon=True,
        )  # fmt: skip
        self._observer = observer
        observer.start()
        self._telling.start()

    def overviews(self) -> list[Overview]:
        """Return what is known of each main node and its nodes; none while it is stopped."""
        observer = self._observer
        return [] if observer is None else observer.call(observer.overviews)

    @property
    def ignored(self) -> list[str]:
        """Why main nodes that announce themselves are not watched."""
        return [] if self._browser is None else self._browser.ignored

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a main node has answered; return False after `timeout` seconds.

        Raises:
            NodeError: every main node refused this node, or it is stopped.
        """
        observer = self._observer
        if observer is None:
            raise NodeError("this status node is stopped")

        def done() -> list[str] | None:
            watchings = observer.watchings()
            if observer.failure is not None:
                return [str(observer.failure)]
            if any(watching.answered and not watching.refused for watching in watchings):
                return []
            if watchings and all(watching.refused for watching in watchings):
                return [watching.refused for watching in watchings]
            return None

        with observer.answers:
            answered = observer.answers.wait_for(lambda: done() is not None, timeout)
        if refused := done():
            raise NodeError(f"refused: {refused[0]}")
        return answered

    def stop_processing(self) -> None:
        """Watch no more; twice is once. It may watch again later."""
        if self._browser is not None:
            self._browser.close()
            self._browser = None
        observer, self._observer = self._observer, None
        if observer is None:
            return
        if observer.alive:
            observer.call(observer.leave)
        observer.end()
        self._news.put(None)
        if self._telling is not None and threading.current_thread() is not self._telling:
            self._telling.join(5.0)

    close = stop = stop_processing

    def __enter__(self) -> StatusNode:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop_processing()


def _tell(
    news: News, told: Callback, on_event: Callable[[Happening], object] | None,
    taken: Callable[[], object],
) -> None:  # fmt: skip
    """Hand news over, one at a time, in a thread that may take as long as it likes."""
    while (item := news.get()) is not None:
        try:
            if isinstance(item, NodeStatus):
                told(item)
            elif on_event is not None:
                on_event(item)
        except Exception:
            what = item.id if isinstance(item, NodeStatus) else item.log
            log.exception(Entry("listener.raised", node=what))
        if isinstance(item, Happening) and news.empty():
            taken()
