"""How soon main nodes are found and forgotten, through real multicast between network namespaces.

Each network is a bridge of its own, each host a namespace; nothing leaves the machine. It must be
run by root.

Usage: python -m benchmarks.discovery [TIMES]
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.networks.conftest import Host, Networks
from tests.networks.test_discovery import FLOOD
from tests.processes import COMPUTE, Process

from .common import machine

NODE = (*COMPUTE, "--discover", "--insecure", "--name", "n")
FORGET_SECONDS = 200.0
WATCH_SECONDS = 20.0
#: A main node that announces itself, without a run.
_MAIN = """
import signal, sys
from main_node import AsyncMainNode
print('{"event": "starts"}', file=sys.stderr, flush=True)
main = AsyncMainNode(sys.argv[1], address="tcp://0.0.0.0:5555", announce=True, insecure=True)
print('{"event": "ready"}', file=sys.stderr, flush=True)
signal.pause()
"""
#: Forty that are announced, and of which none answers.
_DEAD = """
import signal, sys
from protocol.carrier.discovery import Announcement
kept = [Announcement(f"dead{n}.{n}", 0, f"tcp://{sys.argv[1]}:{6000 + n}") for n in range(40)]
print('{"event": "ready"}', file=sys.stderr, flush=True)
signal.pause()
"""


class Bench:
    """A network, and processes on its hosts."""

    def __init__(self) -> None:
        self._processes: list[Process] = []
        self.networks = Networks(self._start)

    def _start(self, *command: str, **options: Any) -> Process:
        process = Process(*command, **options)
        self._processes.append(process)
        return process

    def program(self, host: Host, program: str, *arguments: str) -> Process:
        """Start a program that says when it is ready."""
        process = host.start(sys.executable, "-c", program, *arguments)
        process.event("ready")
        return process

    def node(self, host: Host) -> Process:
        """Start a computing node that looks for main nodes."""
        node = host.start(*NODE)
        node.event("node.looking")
        return node

    def close(self) -> None:
        for process in self._processes:
            process.popen.kill()
            process.popen.wait()
        self.networks.close()


@contextmanager
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.close()


def _until(act: Callable[[], object], then: Callable[[], object]) -> float:
    """Return the seconds from the end of one thing to that of another."""
    act()
    begun = time.monotonic()
    then()
    return time.monotonic() - begun


def joined(at: Bench, flood: bool, dead: bool) -> float:
    """A main node that comes, in a calm network or not."""
    a, b, c = (at.networks.host(name, "a") for name in "abc")
    node = at.node(b)
    if flood:
        c.start(sys.executable, "-c", FLOOD, "600")
        node.event("discovery.flood")
    if dead:
        at.program(c, _DEAD, c.address)
    main = a.start(sys.executable, "-c", _MAIN, "m")
    return _until(lambda: main.event("starts"), lambda: node.event("main.joined"))


def late(at: Bench) -> float:
    """An interface that a node gets later."""
    a, b = at.networks.host("a", "a"), at.networks.host("b", "b")
    at.program(a, _MAIN, "m")
    node = at.node(b)
    return _until(lambda: at.networks.plug(b, "a", 1), lambda: node.event("main.joined"))


def moved(at: Bench) -> float:
    """An address that a main node gets instead of its own."""
    a, b = at.networks.host("a", "a"), at.networks.host("b", "a")
    at.program(a, _MAIN, "m")
    node = at.node(b)
    node.event("main.joined")

    def move() -> None:
        a.run("ip", "addr", "del", f"{a.address}/24", "dev", "eth0")
        a.run("ip", "addr", "add", "10.97.0.77/24", "dev", "eth0")

    return _until(
        move,
        lambda: node.event(
            "main.joined", address=lambda text: text.startswith("tcp://10.97.0.77:")
        ),
    )


def forgotten(at: Bench) -> float:
    """A main node that is killed."""
    a, b = at.networks.host("a", "a"), at.networks.host("b", "a")
    main = at.program(a, _MAIN, "m")
    node = at.node(b)
    node.event("main.joined")
    main.kill()
    begun = time.monotonic()
    while node.never("main.gone") and time.monotonic() - begun < FORGET_SECONDS:
        time.sleep(0.1)
    return time.monotonic() - begun


def cost(at: Bench, flood: bool, dead: bool) -> tuple[float, float]:
    """Return the CPU in percent and the memory in MB of a node that looks."""
    b, c = at.networks.host("b", "a"), at.networks.host("c", "a")
    node = at.node(b)
    if flood:
        c.start(sys.executable, "-c", FLOOD, "600")
        node.event("discovery.flood")
    if dead:
        at.program(c, _DEAD, c.address)
    process = psutil.Process(node.popen.pid)
    process.cpu_percent()
    time.sleep(WATCH_SECONDS)
    return process.cpu_percent(), process.memory_info().rss / 1e6


def main(times: int) -> None:
    print(machine())
    print(f"| what, median of {times} (longest) | seconds |\n|---|---|")
    measures: list[tuple[str, Callable[[Bench], float], int]] = [
        ("a main node comes: joined", lambda at: joined(at, False, False), times),
        ("... beside 1,200 made-up names a second", lambda at: joined(at, True, False), times),
        ("... beside 40 that don't answer", lambda at: joined(at, False, True), times),
        ("a node's network comes: joined", late, times),
        ("a main node's address changes: joined", moved, times),
        ("a main node is killed: forgotten", forgotten, 1),
    ]
    for what, measure, turns in measures:
        taken = []
        for _ in range(turns):
            with bench() as at:
                taken.append(measure(at))
        print(f"| {what} | {statistics.median(taken):.2f} ({max(taken):.2f}) |", flush=True)
    print("\n| a node that looks | CPU, % of a core | memory, MB |\n|---|---|---|")
    for what, flood, dead in (
        ("in a calm network", False, False),
        ("beside 1,200 made-up names a second", True, False),
        ("beside 40 main nodes that don't answer", False, True),
    ):
        with bench() as at:
            cpu, memory = cost(at, flood, dead)
        print(f"| {what} | {cpu:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    if os.geteuid() != 0 or not Path("/proc").is_dir():
        sys.exit("only root may make network namespaces, and only on Linux")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
