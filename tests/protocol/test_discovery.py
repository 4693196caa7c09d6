"""What is announced, and what a browser takes of it."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from main_node import AsyncMainNode
from protocol import AddressError
from protocol.carrier import discovery, keys
from protocol.carrier.discovery import MAX_ADDRESSES, SERVICE, Announcement, Browser, Found, rank
from protocol.carrier.keys import NodeKeys
from protocol.carrier.security import Security
from protocol.carrier.sockets import make_pair

from ..conftest import ANY_PORT

OWN, OTHER = b"o" * 40, b"x" * 40


class Seen:
    """What a browser tells."""

    def __init__(self) -> None:
        self.all: list[Found | str] = []

    def browser(self, **options: Any) -> Browser:
        return Browser(0, self.all.append, self.all.append, Security(**options))


@pytest.fixture
def seen() -> Iterator[Seen]:
    yield Seen()


def announced(name: str = "m", *addresses: str, **texts: str) -> Any:
    from zeroconf import ServiceInfo

    packed = [
        socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in addresses
    ]
    return ServiceInfo(
        SERVICE, f"{name}.{SERVICE}", port=5555, addresses=packed or [b"\x7f\0\0\1"],
        properties={"id": name, "domain": "0", **texts},
    )  # fmt: skip


def take(browser: Browser, info: Any) -> None:
    browser._unresolved[info.name] = None
    browser._take(info)


def test_what_is_gone_before_it_is_known_is_not_found(seen: Seen) -> None:
    """Found in review: the end overtook the beginning, and the main node was never let go."""
    browser = seen.browser()
    browser._take(announced("early"))
    take(browser, announced("there"))
    browser.close()
    assert [found.id for found in seen.all if isinstance(found, Found)] == ["there"]


@pytest.mark.parametrize(
    ("texts", "options", "addresses", "found"),
    [
        ({}, {}, ["127.0.0.1"], 1),
        ({"domain": "1"}, {}, ["127.0.0.1"], 0),
        ({}, {}, ["203.0.113.5"], 0),
        ({}, {"insecure": True}, ["203.0.113.5"], 1),
        ({}, {"insecure": True}, ["2001:db8::1"], 0),
        ({"key": "x" * 40}, {}, ["127.0.0.1"], 0),
        ({"key": "x" * 40}, {"keys": NodeKeys(b"", b"", OWN)}, ["203.0.113.5"], 0),
        ({"key": "o" * 40}, {"keys": NodeKeys(b"", b"", OWN)}, ["203.0.113.5"], 1),
        ({}, {"keys": NodeKeys(b"", b"", OWN)}, ["203.0.113.5"], 0),
        # A relay may not know the key; the handshake does.
        ({"id": ""}, {"keys": NodeKeys(b"", b"", OWN)}, ["203.0.113.5"], 1),
        ({}, {"insecure": True}, [f"203.0.113.{n}" for n in range(1, 100)], MAX_ADDRESSES),
    ],
)
def test_who_is_taken(
    seen: Seen, texts: dict[str, str], options: dict[str, Any], addresses: list[str], found: int
) -> None:
    browser = seen.browser(**options)
    take(browser, announced("m", *addresses, **texts))
    browser.close()
    told = [each for each in seen.all if isinstance(each, Found)]
    assert sum(len(each.addresses) for each in told) == found
    if not found and texts.get("domain") != "1":
        assert len(browser.ignored) == 1


def receive(browser: Browser, records: Iterable[Any]) -> None:
    """Let a browser receive an answer, and wait until the library is done with it."""
    from zeroconf import DNSIncoming, DNSOutgoing, const  # type: ignore[attr-defined]

    out = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    for record in records:
        out.add_answer_at_time(record, 0)
    packets, done = out.packets(), threading.Event()
    zeroconf = browser._zeroconf
    assert zeroconf is not None
    assert zeroconf.loop is not None

    def take_in() -> None:
        for packet in packets:
            zeroconf.record_manager.async_updates_from_response(DNSIncoming(packet))
        done.set()

    zeroconf.loop.call_soon_threadsafe(take_in)
    assert done.wait(20)


def test_a_main_node_is_found_where_the_library_has_no_room_for_it(seen: Seen) -> None:
    """Found by a test that failed under load: it came when ten thousand names were made up.

    Each of its records let the library forget the one before.
    """
    from zeroconf import DNSPointer, const  # type: ignore[attr-defined]

    browser = seen.browser()
    kind = "_made-up._tcp.local."
    receive(
        browser,
        (DNSPointer(kind, const._TYPE_PTR, const._CLASS_IN, 4500, f"{n}.{kind}")
         for n in range(10_000)),
    )  # fmt: skip
    there = announced("there")
    there.host_ttl = 7
    receive(
        browser,
        [there.dns_pointer(), there.dns_service(), there.dns_text(), *there.dns_addresses()],
    )
    assert browser._heard[there.name].life == 7
    browser.close()
    assert [found.id for found in seen.all if isinstance(found, Found)] == ["there"]


@pytest.mark.parametrize("known", [False, True])
def test_who_is_there_is_asked_again_and_again(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """A lost announcement does not come again, and the library asks in the beginning only."""
    monkeypatch.setattr(discovery, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(discovery, "WONDER_SECONDS" if known else "WANT_SECONDS", 0.05)
    monkeypatch.setattr(discovery, "WANT_SECONDS" if known else "WONDER_SECONDS", 1e9)
    browser = seen.browser()
    times, thrice = itertools.count(1), threading.Event()

    def send(out: Any) -> None:
        if [question.name for question in out.questions] == [SERVICE] and next(times) == 3:
            thrice.set()

    monkeypatch.setattr(browser._zeroconf, "send", send)
    if known:
        take(browser, announced("there"))
    assert thrice.wait(20)
    browser.close()


def test_a_change_of_interfaces_that_fails_is_tried_again(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: the next one was waited for, and may never come."""
    monkeypatch.setattr(discovery, "LOOK_SECONDS", 0.02)
    browser = seen.browser()
    tries, twice = [0], threading.Event()

    def update_interfaces(interfaces: object) -> None:
        tries[0] += 1
        if tries[0] == 1:
            raise OSError("not ready yet")
        twice.set()

    monkeypatch.setattr(browser._zeroconf, "update_interfaces", update_interfaces)
    monkeypatch.setattr(discovery, "_own_networks", lambda: [])
    assert twice.wait(20)
    browser.close()


def test_what_can_not_be_announced_is_told_and_nothing_is_left() -> None:
    with pytest.raises(AddressError, match="IPv4"):
        Announcement("m", 0, "tcp://[::1]:5555")
    with AsyncMainNode("ü" * 60, address=ANY_PORT, announce=True) as main:  # any name can be
        address = main.address
    with AsyncMainNode("again", address=address):
        pass


def test_keys_that_do_not_belong_together_are_told_before_anybody_is_found(tmp_path: Path) -> None:
    from computing_node import AsyncComputingNode
    from protocol import KeysError

    from ..conftest import upper

    keys.create(tmp_path / "keys", ["a", "b"], make_pair)
    a, b = (tmp_path / "keys" / "nodes" / name for name in "ab")
    (b / "node.pub").replace(a / "node.pub")
    with pytest.raises(KeysError, match="not that of the public one"):
        AsyncComputingNode("n", callback=upper, discover=True, keys=a)


@pytest.mark.parametrize(
    ("hosts", "best"),
    [(["203.0.113.9", "127.0.0.1"], "203.0.113.9"), (["2001:db8::1", "127.0.0.9"], "127.0.0.9")],
)
def test_addresses_that_are_this_machines_own_are_tried_last(hosts: list[str], best: str) -> None:
    assert rank(hosts, discovery._own_networks())[0] == best
