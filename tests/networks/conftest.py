"""Several hosts on one machine: network namespaces, each with its own interfaces and routes."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..processes import Process, Start, run


def ip(*arguments: str) -> None:
    done = run("ip", *arguments)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def mark() -> str:
    """Return what names of namespaces begin with: other tests make some at the same time."""
    return f"mnist-{uuid.uuid4().hex[:6]}"


class Host:
    """A host in a network of its own.

    Args:
        name: of its namespace.
        start: starts a process that is ended with the test.
    """

    def __init__(self, name: str, start: Start) -> None:
        self.name = name
        #: Its address in each of its networks; the first one is `address`.
        self.addresses: dict[str, str] = {}
        #: The other end of each interface.
        self.plugs: dict[str, str] = {}
        self._start = start

    @property
    def address(self) -> str:
        return next(iter(self.addresses.values()))

    def command(self, *command: str) -> tuple[str, ...]:
        """Return a command that runs on this host."""
        return ("ip", "netns", "exec", self.name, *command)

    def start(self, *command: str, **options: object) -> Process:
        """Start a command on this host."""
        return self._start(*self.command(*command), **options)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this host to its end."""
        return run(*self.command(*command))


class Networks:
    """Hosts and the networks between them: a bridge each, in a namespace of its own."""

    def __init__(self, start: Start) -> None:
        self._mark = mark()
        self._start = start
        self._names: list[str] = []
        self._networks: dict[str, int] = {}
        self._middle = self._namespace("middle")

    def _namespace(self, name: str) -> str:
        made = f"{self._mark}-{name}"
        ip("netns", "add", made)
        self._names.append(made)
        ip("-n", made, "link", "set", "lo", "up")
        return made

    def host(self, name: str, *networks: str) -> Host:
        """Return a new host that is in these networks, each a letter."""
        host = Host(self._namespace(name), self._start)
        for place, network in enumerate(networks):
            self.plug(host, network, place)
        return host

    def plug(self, host: Host, network: str, place: int = 0) -> None:
        """Give a host an interface in a network, and an address."""
        bridge = f"net-{network}"
        if network not in self._networks:
            self._networks[network] = 0
            ip("-n", self._middle, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            ip("-n", self._middle, "link", "set", bridge, "up")
        self._networks[network] += 1
        number = self._networks[network]
        outer, inner = f"{network}{number}", f"eth{place}"
        ip("link", "add", outer, "netns", self._middle, "type", "veth", "peer", "name", inner,
           "netns", host.name)  # fmt: skip
        ip("-n", self._middle, "link", "set", outer, "master", bridge, "up")
        address = f"10.{ord(network)}.0.{number}"
        ip("-n", host.name, "addr", "add", f"{address}/24", "dev", inner)
        ip("-n", host.name, "link", "set", inner, "up")
        host.addresses[network] = address
        host.plugs[network] = outer

    def set(self, host: Host, network: str, state: str) -> None:
        """Let nothing through between a host and a network (`down`), or all (`up`)."""
        ip("-n", self._middle, "link", "set", host.plugs[network], state)

    def close(self) -> None:
        for name in self._names:
            run("ip", "netns", "del", name)


@pytest.fixture
def networks(start: Start) -> Iterator[Networks]:
    """Make hosts in networks; they are removed at the end. Never skipped in CI."""
    reason, name = "", f"{mark()}-try"
    if shutil.which("ip") is None:
        reason = "no ip: apt-get install iproute2"
    elif os.geteuid() != 0:
        reason = "only root may make network namespaces"
    elif (tried := run("ip", "netns", "add", name)).returncode:
        reason = f"no network namespace can be made: {tried.stderr.strip()}"
    else:
        run("ip", "netns", "del", name)
    if reason:
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    made = Networks(start)
    yield made
    made.close()


@pytest.fixture
def key_folder(tmp_path: Path) -> Path:
    from protocol.carrier import keys
    from protocol.carrier.sockets import make_pair

    keys.create(tmp_path / "keys", ["lab1", "lab2"], make_pair)
    return tmp_path / "keys"
