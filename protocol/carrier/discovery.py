"""Main nodes announce themselves in their network, and nodes find them: DNS-SD over multicast.

A main node is the service `ID._mnist-merge._tcp.local.` (RFC 6763 over RFC 6762, by the zeroconf
library), with the text records `id`, `domain` and, if it has keys, `key`: its public one. What is
announced is never trusted, whoever is in the network can announce anything: it says where a main
node may be, and its keys prove that it is.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import AddressError
from ..wire.addresses import is_loopback
from ..wire.entry import Entry
from ..wire.words import in_words, safe_name
from .keys import NodeKeys
from .security import Security

if TYPE_CHECKING:
    from zeroconf import (  # type: ignore[attr-defined]
        DNSService,
        RecordUpdate,
        ServiceBrowser,
        ServiceInfo,
        Zeroconf,
    )

log = logging.getLogger("mnist.discovery")

SERVICE = "_mnist-merge._tcp.local."
#: What does not answer for so long is gone: a main node that was killed. (Within two minutes.)
TTL_SECONDS = 118
#: It is asked again when that part of it has passed, and then every so many seconds; what is gone
#: too: it may have been the network.
ASK_AFTER, ASK_SECONDS, GONE_ASK_SECONDS = 0.6, 10.0, 60.0
GONE_SECONDS = 3600.0
#: An announcement can get lost, or come where nobody listens yet: who is there is asked this often,
#: while nobody is known and while somebody is.
WANT_SECONDS, WONDER_SECONDS = 10.0, 60.0
#: After a change of its interfaces a machine may take so long to be ready.
SETTLE_SECONDS = 30.0
#: Own addresses, and whether somebody is still there, are looked at this often.
LOOK_SECONDS = 1.0
#: To learn the address of what is announced.
RESOLVE_MILLISECONDS = 2000
RESOLVE_AT_ONCE = 8
#: Main nodes that are known; and names that are announced and not to be resolved yet. Beyond that
#: the oldest are forgotten: whoever is in the network can make up as many as he likes.
MAX_NAMES, MAX_UNRESOLVED = 1000, 256
#: That it is so is said this often at most.
TELL_SECONDS = 60.0
MAX_ADDRESSES = 8


@dataclass(frozen=True)
class Found:
    """A main node that is announced.

    Args:
        name: of the announcement; unique.
        id: of the main node; empty where a relay leads to it.
        addresses: where it may be, the likeliest first.
    """

    name: str
    id: str
    addresses: tuple[str, ...]


def _own_networks() -> list[ipaddress.IPv4Interface]:
    """Return this machine's addresses, each with its network."""
    import ifaddr

    return [
        ipaddress.IPv4Interface(f"{ip.ip}/{ip.network_prefix}")
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if isinstance(ip.ip, str)
    ]


def _make_zeroconf(loopback_only: bool) -> Zeroconf:
    from zeroconf import IPVersion, Zeroconf

    try:
        if loopback_only:
            return Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
        return Zeroconf(ip_version=IPVersion.V4Only)
    except (OSError, RuntimeError) as error:
        raise AddressError(f"no multicast in this network ({error}): give addresses") from error


class _Lookout:
    """A thread that looks every `LOOK_SECONDS` whether something is to be done.

    Args:
        look: what it does; what it raises is logged, and it goes on.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="discovery lookout", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        told = ""
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._look()
                told = ""
            except Exception as error:  # the network comes and goes
                if told != repr(error):
                    told = repr(error)
                    log.warning(Entry("discovery.trouble", "still trying", cause=in_words(error)))

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(LOOK_SECONDS)


class Announcement:
    """Announces a main node until it is closed.

    Args:
        main: its id.
        domain: its domain.
        address: where it listens; with 0.0.0.0 every address of this machine is announced.
        public: its public key, if it has one.
        name: of the announcement, unique; the id unless given.

    Raises:
        AddressError: there is no multicast here, or the address can't be announced.
    """

    def __init__(
        self, main: str, domain: int, address: str, public: bytes | None = None, name: str = ""
    ) -> None:
        from zeroconf import Error

        match = re.fullmatch(r"tcp://([\d.]+):(\d+)", address)
        if match is None:
            raise AddressError(f"{address} can't be announced, only IPv4 addresses can")
        self._host, self._port, self._domain = match[1], int(match[2]), domain
        self._name = re.sub(r"[^A-Za-z0-9-]", "-", name or main)[-60:]
        self._texts = {"id": main, "domain": str(domain)}
        if public is not None:
            self._texts["key"] = public.decode()
        self._hosts = self._announced = self._own_hosts()
        self._settled_at = -math.inf
        self._zeroconf = _make_zeroconf(self._on_loopback)
        with ExitStack() as made:
            made.callback(self._zeroconf.close)
            try:
                self._info = self._make_info()
                self._zeroconf.register_service(self._info, cooperating_responders=True)
                self._lookout = None if self._host != "0.0.0.0" else _Lookout(self._look)
            except (Error, OSError, ValueError, RuntimeError) as error:
                raise AddressError(f"{address} can't be announced: {error!r}") from error
            made.pop_all()
        self._tell()

    def _own_hosts(self) -> list[str]:
        """Return the addresses to announce, now."""
        if self._host != "0.0.0.0":
            return [self._host]
        own = sorted(str(network.ip) for network in _own_networks())
        return [ip for ip in own if not ip.startswith("127.")] or ["127.0.0.1"]

    @property
    def _on_loopback(self) -> bool:
        return all(host.startswith("127.") for host in self._hosts)

    def _make_info(self) -> ServiceInfo:
        from zeroconf import ServiceInfo

        return ServiceInfo(
            SERVICE, f"{self._name}.{SERVICE}", port=self._port, properties=self._texts,
            addresses=[socket.inet_aton(host) for host in self._hosts],
            server=f"{self._name}.local.", host_ttl=TTL_SECONDS, other_ttl=TTL_SECONDS,
        )  # fmt: skip

    def _tell(self) -> None:
        log.info(Entry("main.announced", address=self._hosts, domain=self._domain))

    def _look(self) -> None:
        """Announce other addresses where this machine has others by now."""
        from zeroconf import InterfaceChoice

        hosts, now = self._own_hosts(), time.monotonic()
        changed = hosts != self._announced
        if changed and hosts != self._hosts:
            self._hosts, self._settled_at = hosts, now + SETTLE_SECONDS
        if changed or now < self._settled_at:
            self._zeroconf.update_interfaces(
                ["127.0.0.1"] if self._on_loopback else InterfaceChoice.All
            )
        if changed:
            self._info = self._make_info()
            self._zeroconf.update_service(self._info)
            self._announced = hosts
            self._tell()

    def close(self) -> None:
        """Say that it is gone."""
        if self._lookout is not None:
            self._lookout.close()
        with suppress(Exception):  # nobody may be there any more to be told
            self._zeroconf.unregister_service(self._info)
        self._zeroconf.close()


@dataclass
class _Heard:
    """When somebody was heard last, how long that is good for, and when he was asked last."""

    at: float
    life: float
    asked: float = -math.inf


def _listener(hear: Callable[[str, float, ServiceInfo | None], None]) -> Any:
    """Return what the library tells of every answer.

    `hear` is told who says where he is, for how long that is good, and all that he says of himself
    in that answer, if that is enough to find him.
    """
    from zeroconf import DNSService, RecordUpdateListener  # type: ignore[attr-defined]

    class Listener(RecordUpdateListener):
        def async_update_records(
            self, zc: Zeroconf, now: float, records: list[RecordUpdate]
        ) -> None:
            said: dict[str, list[RecordUpdate]] = {}
            where: dict[str, DNSService] = {}
            for record in records:
                said.setdefault(record.new.key, []).append(record)
                if isinstance(record.new, DNSService) and not record.new.is_expired(now):
                    where[record.new.key] = record.new
            for name, service in where.items():
                own = [*said[name], *said.get(service.server_key, [])]
                hear(service.name, service.ttl, _read(service, own, zc, now))

    return Listener()


def _read(service: DNSService, said: list[RecordUpdate], zc: Zeroconf, now: float) -> Any:
    """Return what somebody says of himself in one answer, a `ServiceInfo`; None: not enough."""
    from zeroconf import ServiceInfo

    try:
        info = ServiceInfo(SERVICE, service.name, server=service.server)
        info.async_update_records(zc, now, said)
    except Exception as error:  # whatever strangers send
        _tell_strange(service.name, error)
        return None
    return info if info.addresses and info.properties else None


def _tell_strange(name: str, error: Exception) -> None:
    log.debug(Entry("announcement.strange", name=name, cause=in_words(error)))


class Browser:
    """Looks for the main nodes of a domain until it is closed.

    Args:
        domain: others' are left alone.
        found: called with each that comes, and again when its addresses change; any thread's.
        lost: called with the name of each that goes; any thread's.
        security: of who looks. With keys, only the main node with the right one counts; where it
            stays home, only those on this machine do.
        patient: whether to wait for a network where there is none yet.

    Raises:
        AddressError: there is no multicast here, and it is not patient.
    """

    def __init__(
        self,
        domain: int,
        found: Callable[[Found], None],
        lost: Callable[[str], None],
        security: Security[NodeKeys],
        *,
        patient: bool = False,
    ) -> None:
        self._domain, self._found, self._lost = domain, found, lost
        self._security = security
        self._told: dict[str, None] = {}
        self._lock = threading.Lock()
        #: Those that are announced and for us; and others, that are not resolved yet. What is
        #: learned of still others comes too late.
        self._known: OrderedDict[str, Found] = OrderedDict()
        self._unresolved: OrderedDict[str, None] = OrderedDict()
        self._asked: set[str] = set()  # those that are being resolved
        self._threads = 0
        self._tell_at = 0.0
        self._closed = False
        #: When each that is known, or was, has been heard and asked last, and its life.
        self._heard: dict[str, _Heard] = {}
        self._interfaces = _own_networks()
        self._settled_at = -math.inf
        self._wondered_at = time.monotonic()
        self._zeroconf: Zeroconf | None = None
        self._browser: ServiceBrowser | None = None
        self._pool = ThreadPoolExecutor(RESOLVE_AT_ONCE, thread_name_prefix="discovery")
        try:
            self._open()
        except AddressError as error:
            if not patient:
                self._pool.shutdown()
                raise
            log.warning(Entry("discovery.waiting", cause=str(error)))
        self._lookout = _Lookout(self._look)

    def _open(self) -> None:
        from zeroconf import ServiceBrowser

        zeroconf = _make_zeroconf(loopback_only=False)
        try:
            zeroconf.add_listener(_listener(self._hear), None)
            self._zeroconf = zeroconf  # what is heard at once is resolved with it
            self._browser = ServiceBrowser(zeroconf, SERVICE, handlers=[self._change])
        except BaseException:
            self._zeroconf = None
            zeroconf.close()
            raise

    def _look(self) -> None:
        """See to networks that come and go, and to main nodes that are silent."""
        from zeroconf import InterfaceChoice

        if self._zeroconf is None:
            with suppress(AddressError):  # it has been told
                self._open()
            return
        networks, now = _own_networks(), time.monotonic()
        if networks != self._interfaces or now < self._settled_at:
            self._zeroconf.update_interfaces(InterfaceChoice.All)
            if networks != self._interfaces:
                self._wondered_at = -math.inf
                self._interfaces, self._settled_at = networks, now + SETTLE_SECONDS
        if now - self._wondered_at > (WONDER_SECONDS if self._known else WANT_SECONDS):
            self._wondered_at = now
            self._ask()
        self._forget_silent(now)

    def _ask(self, name: str = "") -> None:
        """Ask who is there, or whether somebody still is."""
        from zeroconf import DNSOutgoing, DNSQuestion, const  # type: ignore[attr-defined]

        assert self._zeroconf is not None
        out = DNSOutgoing(const._FLAGS_QR_QUERY)
        kinds = (const._TYPE_SRV, const._TYPE_TXT) if name else (const._TYPE_PTR,)
        for kind in kinds:
            out.add_question(DNSQuestion(name or SERVICE, kind, const._CLASS_IN))
        self._zeroconf.send(out)

    def _hear(self, name: str, life: float, info: ServiceInfo | None) -> None:
        """Somebody has said that he is there; in the library's thread.

        Who means well says all at once, and is taken at his word here: a moment later the library
        may know it no more, where strangers announce a lot.
        """
        with self._lock:
            if self._closed:
                return
            heard = self._heard.get(name)
            if heard is not None:
                heard.at, heard.life = time.monotonic(), min(life, TTL_SECONDS)
            back = heard is not None and name not in self._known
            if back or info is not None:
                self._announce(name)
        if info is not None:
            self._resolved(info, life)
        elif back:
            self._resolve_more()

    def _announce(self, name: str) -> None:
        """Remember that somebody is announced; the lock is held."""
        self._unresolved[name] = None
        self._unresolved.move_to_end(name)
        if len(self._unresolved) > MAX_UNRESOLVED:
            self._unresolved.popitem(last=False)
            self._tell_flood()

    def _forget_silent(self, now: float) -> None:
        """Ask those of whom nothing was heard for a while; who does not answer is gone.

        (The library keeps a name for twenty minutes, whatever life it was announced with, but drops
        what was announced with a short one where strangers announce a lot.)
        """
        with self._lock:
            silent = []
            for name, heard in list(self._heard.items()):
                silence = now - heard.at
                if silence > heard.life and self._known.pop(name, None) is not None:
                    self._lost(name)
                every = min(ASK_SECONDS, heard.life / 10)
                if silence > 2 * heard.life:
                    every = GONE_ASK_SECONDS
                if silence > GONE_SECONDS:
                    del self._heard[name]
                elif silence > ASK_AFTER * heard.life and now - heard.asked > every:
                    heard.asked = now
                    silent.append(name)
        for name in silent:
            self._ask(name)

    def _change(self, name: str, state_change: Any, **_: Any) -> None:
        from zeroconf import ServiceStateChange

        with self._lock:
            if state_change is ServiceStateChange.Removed:
                self._unresolved.pop(name, None)
                if self._known.pop(name, None) is not None:
                    self._lost(name)
                    # Anybody can say goodbye for anybody: it is asked whether that is so.
                    heard = self._heard[name]
                    heard.at = min(heard.at, time.monotonic() - heard.life)
                return
            self._announce(name)
        # Who means well says all at once: nobody has to be asked, and nobody waits for others.
        if not self._resolve(name, ask=False):
            self._resolve_more()

    def _resolve_more(self) -> None:
        """Have one more thread ask for what is not known, if there may be one."""
        with self._lock:
            if self._closed or self._threads == RESOLVE_AT_ONCE:
                return
            self._threads += 1
            self._pool.submit(self._resolve_all)

    def _resolve_all(self) -> None:
        """Ask where those are that are announced, the newest first, as long as there are any."""
        while True:
            with self._lock:
                new = (name for name in reversed(self._unresolved) if name not in self._asked)
                name = next(new, None)
                if name is None or self._closed:
                    self._threads -= 1
                    return
                self._asked.add(name)
            self._resolve(name, ask=True)
            with self._lock:
                self._asked.discard(name)
                self._unresolved.pop(name, None)

    def _tell_flood(self) -> None:
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_SECONDS
            says = (
                f"more than {MAX_UNRESOLVED} main nodes are announced that can't be found; the"
                " oldest are forgotten"
            )
            log.warning(Entry("discovery.flood", says))

    def _resolve(self, name: str, ask: bool) -> bool:
        """Learn where it is that is announced; return whether that is known."""
        from zeroconf import ServiceInfo

        assert self._zeroconf is not None
        try:
            info = ServiceInfo(SERVICE, name)
            if info.load_from_cache(self._zeroconf) or (
                ask and info.request(self._zeroconf, RESOLVE_MILLISECONDS)
            ):
                self._resolved(info, self._life(name))
                return True
        except Exception as error:  # whatever strangers send
            _tell_strange(name, error)
        return False

    def _resolved(self, info: ServiceInfo, life: float) -> None:
        """Somebody who is announced has said where he is, and for how long that is good."""
        try:
            self._take(info, life)
        except Exception as error:  # whatever strangers send
            _tell_strange(info.name, error)
        with self._lock:
            self._unresolved.pop(info.name, None)

    def _take(self, info: ServiceInfo, life: float = TTL_SECONDS) -> None:
        """Tell of a main node, if it is one of ours."""
        texts = info.decoded_properties
        if texts.get("domain") != str(self._domain) or not info.port:
            return
        said = texts.get("id")
        main = safe_name(said) if said else ""
        hosts = rank(info.parsed_addresses(), self._interfaces)[:MAX_ADDRESSES]
        addresses = [f"tcp://{ip}:{info.port}" for ip in hosts]
        reason = self._unfit(texts.get("key") or "", addresses, relay=not main)
        if reason:
            if reason not in self._told and len(self._told) < MAX_NAMES:
                self._told[reason] = None
                log.warning(Entry("main.ignored", id=main or "(a relay)", cause=reason))
            return
        if self._security.stays_home:
            addresses = [address for address in addresses if is_loopback(address)]
        found = Found(info.name, main, tuple(addresses))
        with self._lock:
            if info.name not in self._unresolved and info.name not in self._known:
                return
            self._unresolved.pop(info.name, None)
            if self._known.get(info.name) == found:
                return
            self._known[info.name] = found
            self._known.move_to_end(info.name)
            self._heard[info.name] = _Heard(time.monotonic(), min(life, TTL_SECONDS))
            if len(self._heard) > 2 * MAX_NAMES:
                gone = (name for name in self._heard if name not in self._known)
                del self._heard[next(gone)]
            if len(self._known) > MAX_NAMES:
                oldest, _ = self._known.popitem(last=False)
                self._heard.pop(oldest, None)
                self._lost(oldest)
            self._found(found)

    def _life(self, name: str) -> float:
        """Return for how long what is announced is good."""
        from zeroconf import const

        assert self._zeroconf is not None
        cache = self._zeroconf.cache
        records = cache.get_all_by_details(name, const._TYPE_SRV, const._CLASS_IN)
        return min((record.ttl for record in records), default=TTL_SECONDS)

    @property
    def ignored(self) -> list[str]:
        """Why main nodes of the domain that are announced are left alone."""
        return list(self._told)

    def _unfit(self, key: str, addresses: list[str], relay: bool) -> str:
        """Return why what is announced is not for us; empty if it may be."""
        if not addresses:
            return "it has no IPv4 address"
        where = ", ".join(addresses)
        keys = self._security.keys
        if keys is not None:
            # A relay may not know its main node's key; whether it is ours, the handshake shows.
            right = key.encode() == keys.main or (relay and not key)
            return "" if right else f"the one at {where} has not the key of ours (main.pub)"
        if key:
            return f"the one at {where} lets nobody in without keys: give --keys DIR"
        if self._security.stays_home and not any(map(is_loopback, addresses)):
            return (
                f"the one at {where} is on another machine and has no keys; if you trust everybody"
                " in this network, give --insecure"
            )
        return ""

    def close(self) -> None:
        """Look no more."""
        self._lookout.close()
        with self._lock:
            self._closed = True
            self._known.clear()
            self._heard.clear()
            self._unresolved.clear()
        if self._browser is not None:
            self._browser.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._zeroconf is not None:
            self._zeroconf.close()


def rank(hosts: Iterable[str], networks: Iterable[ipaddress.IPv4Interface]) -> list[str]:
    """Return IPv4 addresses of one host, those first that can be reached the likeliest from here.

    Those of a network that this machine is in, then others, and then those that this machine has
    itself: either all are this machine's, or they mean another one there (every Docker host has
    172.17.0.1).

    Args:
        hosts: the addresses.
        networks: this machine's, each with its network.
    """
    own = {network.ip for network in networks}

    def place(host: str) -> int:
        address = ipaddress.IPv4Address(host)
        if address in own:
            return 2
        return 0 if any(address in network.network for network in networks) else 1

    hosts = [host for host in hosts if ":" not in host]
    return sorted(hosts, key=place)
