"""The relay: ways from nodes to main nodes, over networks that can't reach each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from protocol import AddressError, InsecureAddress
from protocol.carrier.discovery import Announcement
from protocol.carrier.keys import read_secret
from protocol.carrier.sockets import raise_limit
from protocol.options import check_value, path_at_home
from protocol.wire.addresses import is_loopback, split_address
from protocol.wire.entry import Entry
from protocol.wire.limits import MAX_COUNT

from .carrying import NoKeys, NotZeroMQ, carry, dial, first_bytes, listen, set_up
from .errors import ConfigError, RelayError, WrongSecret
from .meeting import SPARE, Spares, check, show, wait_to_go

log = logging.getLogger("mnist.relay")

#: After a failure it is dialled again after so long, then twice as long, up to the limit.
RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 4.0
#: Nodes that one way carries at once.
MAX_NODES = 8192
#: Of one host, those that have not shown that they speak ZeroMQ.
MAX_STRANGERS = 64

#: Where it listens, or whom it dials.
Way = socket.socket | tuple[str, int]
Dial = Callable[[], Awaitable[socket.socket]]


class RelayNode:
    """Carries computing nodes' connections to main nodes, in a thread of its own.

    Its ways in are `bind` (it listens, nodes connect) or `dial` (it dials another relay's
    `accept`, and takes the nodes that come there); its ways out are `connect` (it connects to a
    main node, or another relay's `bind`) or `accept` (a relay at the main node's side dials in).
    The first way in leads to the first way out, and so on.

    Args:
        bind, dial: ways in, `tcp://host:port`; one of the two.
        connect, accept: ways out, as many; one of the two.
        secret: what relays that `dial` and `accept` have in common: a file that `mnist-keys
            secret` made.
        insecure: let strangers in: without a secret, or to a main node without keys.
        announce: let nodes in the network of `bind` find it, as `discover` does.
        domain: that is announced.
        public: the main node's public key, to be announced.

    Raises:
        ConfigError: ways that don't fit.
        KeysError: a secret that can't be used.
        AddressError: an address that can't be, or can't be listened at.
        InsecureAddress: strangers could dial in, and there is no secret.
    """

    def __init__(
        self,
        *,
        bind: str | Sequence[str] = (),
        dial: str | Sequence[str] = (),
        connect: str | Sequence[str] = (),
        accept: str | Sequence[str] = (),
        secret: str | Path | None = None,
        insecure: bool = False,
        announce: bool = False,
        domain: int = 0,
        public: bytes | None = None,
    ) -> None:
        bind, dial, connect, accept = map(_several, (bind, dial, connect, accept))
        check_value("domain", domain, int, least=0, most=MAX_COUNT)
        _check_ways(bind, dial, connect, accept)
        if announce and not bind:
            raise ConfigError("only a way in that binds can be announced")
        if secret is not None and not (dial or accept):
            raise ConfigError("a secret is for relays that dial and accept; this one does neither")
        self._insecure = insecure
        self._secret = b"" if secret is None else read_secret(path_at_home(secret))
        if secret is None and not insecure and not all(map(is_loopback, [*accept, *dial])):
            raise InsecureAddress(
                "where relays meet, strangers could too: give both the same --secret FILE (made by"
                " mnist-keys secret FILE), or --insecure, in a network where you trust everybody"
                " (in a program secret=FILE or insecure=True)"
            )
        for way in [*dial, *connect]:
            split_address(way, 1)
        raise_limit()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._said: set[str] = set()
        self._announcements: list[Announcement] = []
        #: Connections that are carried now, and in all so far.
        self.carried = self.total = 0
        #: Why it has come to a bad end, by a mistake of this project.
        self.failure = ""
        self._strangers: Counter[str] = Counter()
        try:
            entries = [self._listen(way) for way in bind]
            meetings = [self._listen(way) for way in accept]
            for entry in entries if announce else []:
                name = f"relay-{uuid.uuid4().hex[:8]}"
                self._announcements.append(
                    Announcement("", domain, address_of(entry), public, name=name)
                )
        except BaseException:
            self._let_go()
            raise
        #: Where nodes, and where relays, reach it.
        self.addresses = tuple(map(address_of, entries))
        self.meetings = tuple(map(address_of, meetings))
        ins: list[Way] = [*entries, *(split_address(way, 1) for way in dial)]
        outs: list[Way] = [*meetings, *(split_address(way, 1) for way in connect)]
        self._ways = list(zip(ins, outs, strict=True))
        self._thread = threading.Thread(target=self._run, name="relay connections", daemon=True)
        self._thread.start()

    def _listen(self, address: str) -> socket.socket:
        host, port = split_address(address, 0)
        try:
            listener = listen(host, port)
        except OSError as error:
            raise AddressError(f"{address} can't be listened at: {error.strerror}") from error
        self._sockets.append(listener)
        return listener

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for way_in, way_out in self._ways:
            self._spawn(self._serve(way_in, way_out)).add_done_callback(self._ended)
        try:
            self._loop.run_forever()
        finally:
            # Until none is left: before Python 3.12 `wait_for` may swallow a cancellation.
            while tasks := list(self._tasks):
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=0.1))
            self._loop.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A way is served for ever, unless this relay is stopped."""
        if not task.cancelled() and task.exception() is not None:
            self.failure = f"{type(task.exception()).__name__}: {task.exception()}"
            log.error(Entry("relay.broken"), exc_info=task.exception())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, way_in: Way, way_out: Way) -> None:
        """Carry everybody who comes in one way out by the other."""
        if isinstance(way_out, socket.socket):
            spares = Spares()
            self._spawn(self._accept(way_out, partial(self._check_spare, spares)))
            self._spawn(spares.beat())
            out: Dial = spares.take
        else:
            spares = None
            out = partial(dial, *way_out)
        try:
            if isinstance(way_in, socket.socket):
                await self._accept(way_in, partial(self._welcome, out, not _is_local(way_in)))
            else:
                dials = [self._keep_dialling(way_in, out) for _ in range(SPARE)]
                await asyncio.gather(*dials)
        finally:
            if spares is not None:
                spares.close()

    async def _accept(
        self, listener: socket.socket, take: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        """Take everybody who connects."""
        busy: set[asyncio.Task[None]] = set()
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listener)
                set_up(connection)
            except OSError as error:  # too many open files, say
                self._complain(Entry("connection.unaccepted", cause=str(error)))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if len(busy) >= MAX_NODES:
                connection.close()
                continue
            task = self._loop.create_task(_closing(connection, take(connection)))
            for tasks in (busy, self._tasks):
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _check_spare(self, spares: Spares, connection: socket.socket) -> None:
        """Take a relay's connection that is to wait for a node."""
        peer = _peer(connection)
        try:
            await check(connection, self._secret)
        except (OSError, asyncio.TimeoutError):
            return
        except WrongSecret as error:
            self._complain(Entry("relay.refused", peer=peer, cause=str(error)))
            return
        spares.put(connection.dup())  # the caller closes its own
        self._say_once(Entry("relay.met", peer=_host(peer)))

    async def _keep_dialling(self, way_in: tuple[str, int], out: Dial) -> None:
        """Keep one connection waiting at another relay, for the next node that comes there."""
        where, wait, told = f"tcp://{way_in[0]}:{way_in[1]}", RETRY_SECONDS, ""
        met = Entry("relay.met", address=where)
        while True:
            try:
                connection = await dial(*way_in)
                try:
                    await _meet(connection, self._secret)
                    self._say_once(met)
                    wait, told = RETRY_SECONDS, ""
                    await wait_to_go(connection)
                except BaseException:
                    connection.close()
                    raise
                remote = not is_loopback(where)
                self._spawn(_closing(connection, self._carry(out, remote, connection)))
            except (OSError, asyncio.TimeoutError, WrongSecret) as error:
                if told != str(error):
                    told = str(error)
                    self._said.discard(str(met))
                    self._complain(Entry("relay.unreached", address=where, cause=told))
                await asyncio.sleep(wait)
                wait = min(2 * wait, MAX_RETRY_SECONDS)

    async def _welcome(self, out: Dial, remote: bool, node: socket.socket) -> None:
        """Carry who connects, once it has shown that it may be a node."""
        peer = _peer(node)
        host = peer.rpartition(":")[0]
        if self._strangers[host] >= MAX_STRANGERS:
            return
        self._strangers[host] += 1
        try:
            first = await first_bytes(node)
        except NotZeroMQ as error:
            self._refuse(peer, "not-zeromq", str(error))
            return
        except OSError:
            return
        finally:
            self._strangers[host] -= 1
            self._strangers += Counter()  # those that are zero go
        await self._carry(out, remote, node, first)

    async def _carry(
        self, out: Dial, remote: bool, node: socket.socket, first: bytes = b""
    ) -> None:
        """Carry one node for as long as it is there."""
        peer = _peer(node)
        try:
            main = await out()
        except OSError as error:
            self._complain(Entry("main.unreached", peer=peer, cause=str(error)))
            return
        self.carried += 1
        self.total += 1
        log.debug(Entry("node.carried", peer=peer))
        try:
            await carry(node, main, remote and not self._insecure, first)
        except NotZeroMQ as error:
            self._refuse(peer, "not-zeromq", str(error))
        except NoKeys:
            cause = (
                "the node or the main node has no keys, and strangers could come in by this relay;"
                " make keys with mnist-keys, or give --insecure, in a network where you trust"
                " everybody"
            )
            self._refuse(peer, "no-keys", cause)
        finally:
            main.close()
            self.carried -= 1
            log.debug(Entry("node.gone", peer=peer))

    def _refuse(self, peer: str, kind: str, cause: str) -> None:
        """Log that a connection is not carried: of what kind the trouble is, and in words."""
        self._complain(Entry("connection.refused", peer=peer, kind=kind, cause=cause))

    def _complain(self, entry: Entry) -> None:
        """Log an entry, the same of the same host once a minute."""
        told = str(Entry(entry.event, **{n: _host(str(each)) for n, each in entry.fields.items()}))
        if told in self._said or len(self._said) >= MAX_NODES:
            return
        self._said.add(told)
        self._loop.call_later(60, self._said.discard, told)
        log.warning(entry)

    def _say_once(self, met: Entry) -> None:
        """Log that another relay is met: once, not for each connection; again after a failure."""
        if str(met) not in self._said and len(self._said) < MAX_NODES:
            self._said.add(str(met))
            log.info(met)

    def stop(self) -> None:
        """Carry no more; twice is once."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
        self._let_go()

    close = stop

    def _let_go(self) -> None:
        for announcement in self._announcements:
            announcement.close()
        self._announcements.clear()
        for listener in self._sockets:
            listener.close()
        if not self._loop.is_running():
            self._loop.close()

    def __enter__(self) -> RelayNode:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _host(peer: str) -> str:
    return peer.rpartition(":")[0] or peer


async def _meet(connection: socket.socket, secret: bytes) -> None:
    """Show another relay the secret; say what may be wrong if it hangs up."""
    try:
        await show(connection, secret)
    except (ConnectionError, BrokenPipeError):
        raise OSError("it hangs up: is this the other relay's --accept, not its --bind?") from None


async def _closing(connection: socket.socket, work: Awaitable[None]) -> None:
    """Do something with a connection, and close it whatever happens."""
    try:
        await work
    except RelayError as error:
        log.warning(Entry("connection.refused", cause=str(error)))
    finally:
        connection.close()


def _several(addresses: str | Sequence[str]) -> list[str]:
    return [addresses] if isinstance(addresses, str) else list(addresses)


def _check_ways(*ways: Sequence[str]) -> None:
    """Raise unless there is a way out for each way in."""
    bind, dial, connect, accept = ways
    if bool(bind) == bool(dial):
        what = "two kinds of way in" if bind else "no way in"
        raise ConfigError(
            f"{what}: give --bind ADDRESS (nodes connect to it) or --dial ADDRESS (another relay's"
            " --accept)"
        )
    if bool(connect) == bool(accept):
        what = "two kinds of way out" if connect else "no way out"
        raise ConfigError(
            f"{what}: give --connect ADDRESS (the main node's) or --accept ADDRESS (another relay"
            " dials in there)"
        )
    count_in, count_out = len(bind or dial), len(connect or accept)
    if count_in != count_out:
        raise ConfigError(
            f"{count_in} ways in and {count_out} out: as many of the one as of the other; the first"
            " leads to the first"
        )
    for there in bind:
        if there in connect and not there.endswith(":0"):
            raise ConfigError(f"{there} would lead to itself")


def address_of(listener: socket.socket) -> str:
    """Return where a socket listens."""
    host, port = listener.getsockname()[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _is_local(listener: socket.socket) -> bool:
    return is_loopback(address_of(listener))


def _peer(connection: socket.socket) -> str:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return "gone"
    return f"{host}:{port}"
