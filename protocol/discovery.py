"""Main nodes announce themselves in their network, and nodes find them: DNS-SD over multicast.

A main node is the service `ID._mnist-merge._tcp.local.` (RFC 6763 over RFC 6762, by the zeroconf
library), with the text records `id`, `domain` and, if it has keys, `key`: its public one. What is
announced is never trusted, whoever is in the network can announce anything: it says where a main
node may be, and its keys prove that it is.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import AddressError
from .keys import NodeKeys
from .sockets import is_loopback
from .words import safe_name

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

log = logging.getLogger("mnist.discovery")

SERVICE = "_mnist-merge._tcp.local."
#: What is not announced anew for so long is gone: a main node that was killed.
TTL_SECONDS = 120
#: To learn the address of what is announced.
RESOLVE_MILLISECONDS = 2000
RESOLVE_AT_ONCE = 8
#: What is announced beyond this is a flood.
MAX_NAMES = 1000
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
        from zeroconf import Error, ServiceInfo

        match = re.fullmatch(r"tcp://([\d.]+):(\d+)", address)
        if match is None:
            raise AddressError(f"{address} can't be announced, only IPv4 addresses can")
        hosts = [match[1]]
        if match[1] == "0.0.0.0":
            own = [str(network.ip) for network in _own_networks()]
            hosts = [ip for ip in own if not ip.startswith("127.")] or ["127.0.0.1"]
        name = re.sub(r"[^A-Za-z0-9-]", "-", name or main)[-60:]
        texts = {"id": main, "domain": str(domain)}
        if public is not None:
            texts["key"] = public.decode()
        self._zeroconf = _make_zeroconf(loopback_only=all(h.startswith("127.") for h in hosts))
        try:
            self._info = ServiceInfo(
                SERVICE, f"{name}.{SERVICE}", port=int(match[2]), properties=texts,
                addresses=[socket.inet_aton(host) for host in hosts],
                server=f"{name}.local.", host_ttl=TTL_SECONDS, other_ttl=TTL_SECONDS,
            )  # fmt: skip
            self._zeroconf.register_service(self._info, cooperating_responders=True)
        except (Error, OSError, ValueError) as error:
            self._zeroconf.close()
            raise AddressError(f"{address} can't be announced: {error!r}") from error
        log.info("main.announced address=%s domain=%d", ",".join(hosts), domain)

    def close(self) -> None:
        """Say that it is gone."""
        with suppress(Exception):  # nobody may be there any more to be told
            self._zeroconf.unregister_service(self._info)
        self._zeroconf.close()


class Browser:
    """Looks for the main nodes of a domain until it is closed.

    Args:
        domain: others' are left alone.
        found: called with each that comes, and again when its addresses change; any thread's.
        lost: called with the name of each that goes; any thread's.
        keys: of who looks: then only the main node with the right key counts.
        insecure: without keys, take those on other machines, too.

    Raises:
        AddressError: there is no multicast here.
    """

    def __init__(
        self,
        domain: int,
        found: Callable[[Found], None],
        lost: Callable[[str], None],
        *,
        keys: NodeKeys | None = None,
        insecure: bool = False,
    ) -> None:
        from zeroconf import ServiceBrowser

        self._domain, self._found, self._lost = domain, found, lost
        self._keys, self._insecure = keys, insecure
        self._told: dict[str, None] = {}
        self._lock = threading.Lock()
        #: Those that are announced; what is learned of others comes too late.
        self._names: set[str] = set()
        self._zeroconf = _make_zeroconf(loopback_only=False)
        self._resolving = ThreadPoolExecutor(RESOLVE_AT_ONCE, thread_name_prefix="discovery")
        self._browser = ServiceBrowser(self._zeroconf, SERVICE, handlers=[self._change])

    def _change(self, name: str, state_change: Any, **_: Any) -> None:
        from zeroconf import ServiceStateChange

        with self._lock:
            if state_change is ServiceStateChange.Removed:
                if name in self._names:
                    self._names.discard(name)
                    self._lost(name)
                return
            if len(self._names) >= MAX_NAMES:
                return
            self._names.add(name)
        with suppress(RuntimeError):  # closed meanwhile
            self._resolving.submit(self._resolve, name)

    def _resolve(self, name: str) -> None:
        """Learn where it is that is announced; in a thread, because that may take a while."""
        from zeroconf import ServiceInfo

        try:
            info = ServiceInfo(SERVICE, name)
            if info.load_from_cache(self._zeroconf) or info.request(
                self._zeroconf, RESOLVE_MILLISECONDS
            ):
                self._take(info)
        except Exception as error:  # whatever strangers send
            log.debug("announcement.strange name=%r error=%r", name, error)

    def _take(self, info: ServiceInfo) -> None:
        """Tell of a main node, if it is one of ours."""
        texts = info.decoded_properties
        if texts.get("domain") != str(self._domain) or not info.port:
            return
        said = texts.get("id")
        main = safe_name(said) if said else ""
        hosts = rank(info.parsed_addresses())[:MAX_ADDRESSES]
        addresses = [f"tcp://{ip}:{info.port}" for ip in hosts]
        reason = self._unfit(texts.get("key") or "", addresses, relay=not main)
        if reason:
            if reason not in self._told and len(self._told) < MAX_NAMES:
                self._told[reason] = None
                log.warning("main.ignored id=%s: %s", main or "(a relay)", reason)
            return
        if self._keys is None and not self._insecure:
            addresses = [address for address in addresses if is_loopback(address)]
        with self._lock:
            if info.name in self._names:
                self._found(Found(info.name, main, tuple(addresses)))

    @property
    def ignored(self) -> list[str]:
        """Why main nodes of the domain that are announced are left alone."""
        return list(self._told)

    def _unfit(self, key: str, addresses: list[str], relay: bool) -> str:
        """Return why what is announced is not for us; empty if it may be."""
        if not addresses:
            return "it has no IPv4 address"
        where = ", ".join(addresses)
        if self._keys is not None:
            # A relay may not know its main node's key; whether it is ours, the handshake shows.
            right = key.encode() == self._keys.main or (relay and not key)
            return "" if right else f"the one at {where} has not the key of ours (main.pub)"
        if key:
            return f"the one at {where} lets nobody in without keys: give --keys DIR"
        if not self._insecure and not any(map(is_loopback, addresses)):
            return (
                f"the one at {where} is on another machine and has no keys; if you trust everybody"
                " in this network, give --insecure"
            )
        return ""

    def close(self) -> None:
        """Look no more."""
        self._browser.cancel()
        with self._lock:
            self._names.clear()
        self._resolving.shutdown(wait=False, cancel_futures=True)
        self._zeroconf.close()


def rank(hosts: Iterable[str]) -> list[str]:
    """Return IPv4 addresses of one host, those first that can be reached the likeliest from here.

    Those of a network that this machine is in, then others, and then those that this machine has
    itself: either all are this machine's, or they mean another one there (every Docker host has
    172.17.0.1).
    """
    networks = _own_networks()
    own = {network.ip for network in networks}

    def place(host: str) -> int:
        address = ipaddress.IPv4Address(host)
        if address in own:
            return 2
        return 0 if any(address in network.network for network in networks) else 1

    hosts = [host for host in hosts if ":" not in host]
    return sorted(hosts, key=place)
