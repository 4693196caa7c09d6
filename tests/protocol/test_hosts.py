"""Hosts by name: whichever protocol leads there is taken."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.carrier import hosts, link, sockets
from protocol.carrier.hosts import needs_ipv6, ways

from ..processes import free_port, run

FOUR, SIX = (socket.AF_INET, ("192.0.2.1", 0)), (socket.AF_INET6, ("2001:db8::1", 0, 0, 0))


def finding(*found: tuple[int, Any]) -> Callable[..., Any]:
    return lambda *_, **__: [(family, 1, 6, "", address) for family, address in found]


@pytest.mark.parametrize(
    ("found", "needed"),
    [([FOUR], False), ([SIX], True), ([SIX, FOUR], False), ([FOUR, SIX], False), ([], False)],
)
def test_a_name_is_reached_by_what_it_has(
    found: list[tuple[int, Any]], needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", finding(*found))
    assert needs_ipv6("lab1") is needed
    assert ways("lab1") == ((False, True) if len(found) == 2 else (needed,))


def test_where_one_protocol_leads_nowhere_the_other_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found in review: a main node at [::1] was never found as `localhost`, which has both."""
    tried: list[bool] = []

    def connect(context: Any, address: str, keys: None, ipv6: bool) -> Any:
        tried.append(ipv6)
        return sockets.connect(context, address, keys, ipv6)

    monkeypatch.setattr(socket, "getaddrinfo", finding(FOUR, SIX))
    monkeypatch.setattr(link, "connect", connect)
    monkeypatch.setattr(link, "TRY_SECONDS", 0.0)
    context = sockets.make_context()
    address, log = f"tcp://localhost:{free_port()}", logging.getLogger("mnist.test")
    with contextlib.closing(link.Link(context, sockets.Poller(), [address], None, log)) as made:
        for _ in range(3):
            made.tick(time.monotonic())
        assert not made.connected
    context.term()
    assert tried == [False, True, False, True]


@pytest.mark.parametrize(
    ("host", "needed"),
    [("127.0.0.1", False), ("0.0.0.0", False), ("*", False), ("::1", True), ("fe80::1%eth0", True)],
)
def test_no_name_server_is_asked_for_an_address(
    host: str, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    assert needs_ipv6(host) is needed


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 300, "a..b"])
def test_a_name_that_is_none_is_left_to_zeromq(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        host.encode("idna")  # as the real one does first
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    assert not needs_ipv6(host)


def test_a_name_server_that_is_away_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait() and [])
    monkeypatch.setattr(hosts, "NAME_SECONDS", 0.01)
    try:
        assert not needs_ipv6("lab1")
    finally:
        over.set()


#: In a network where a host's name leads to IPv6 only, or to either where nobody listens at IPv4's,
#: a node finds its main node by that name.
BY_NAME = """
mount --bind "$1" /etc/hosts && ip link set lo up && ip -6 addr add fd00::5/128 dev lo nodad \\
    || exit 77
exec "$0" -c "
from computing_node import AsyncComputingNode
from main_node import AsyncMainNode
from protocol import JobDataType
from tests.conftest import upper

with AsyncMainNode('main', address='tcp://$2:0', insecure=True) as main:
    assert main.address.startswith('tcp://[fd00::5]:'), main.address
    port = main.address.rpartition(':')[2]
    with AsyncComputingNode('node', callback=upper, address='tcp://sixhost:' + port):
        assert main.submit(JobDataType('six')).result(20).to_string() == 'SIX'
"
"""


@pytest.mark.lane("machines")
@pytest.mark.parametrize(("also", "bound"), [("", "sixhost"), ("127.0.0.1 sixhost\n", "[fd00::5]")])
def test_a_host_with_ipv6_is_found_by_its_name(also: str, bound: str, tmp_path: Path) -> None:
    """Found in the field: `[fd00::5]` was, and the name of the same host never."""
    names = tmp_path / "hosts"
    names.write_text(f"127.0.0.1 localhost\n{also}fd00::5 sixhost\n")
    done = run(
        "unshare", "--mount", "--net", "bash", "-c", BY_NAME, sys.executable, str(names), bound
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
