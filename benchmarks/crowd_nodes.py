"""Many computing nodes in one process: a session and a socket each, jobs that do nothing.

Usage: python -m benchmarks.crowd_nodes ADDRESS FIRST COUNT
"""

from __future__ import annotations

import select
import sys
import time
from collections import deque
from typing import Any

from protocol import JobSolutionDataType
from protocol.carrier.monitor import Happened
from protocol.carrier.outbox import Outbox
from protocol.carrier.sockets import connect, make_context, receive, send
from protocol.machine.effects import NodeEffect, Run, Tell
from protocol.machine.session import Session
from protocol.wire.codec import Frame, decode
from protocol.wire.messages import Hello

TICK_SECONDS = 0.05
_EMPTY = JobSolutionDataType(b"")


class Node:
    """One session over one socket."""

    def __init__(self, context: Any, address: str, number: int) -> None:
        name = f"crowd{number}"
        self.session = Session(Hello(name, name, 0, ("",), {}, 1, 1, "", 1, 2))
        self.socket, self.monitor = connect(context, address, None, ipv6=False)
        self.tick_at = 0.0
        self._connected = False
        self._runs: deque[Run] = deque()
        self._outgoing = Outbox()

    def receive(self, now: float) -> None:
        """Take what is there, solve it, and answer."""
        while (received := receive(self.socket, small=2)) is not None:
            for message in decode(received[0]):
                self._do(self.session.receive(message, now), now)
        while self._runs:
            run = self._runs.popleft()
            if self.session.started(run.task, now):
                self._do(self.session.solved(run.task, _EMPTY, 0.0, now), now)
        self._flush()

    def watch(self, now: float) -> None:
        """See what happened to the connection."""
        for event in self.monitor.read():
            if event.what is Happened.CONNECTED:
                self._connected = True
                self._do(self.session.greet(now), now)
                self._flush()

    def tick(self, now: float) -> None:
        """Let time pass."""
        if not self._connected:
            return
        self._do(self.session.tick(now), now)
        self._flush()
        self.tick_at = max(now + TICK_SECONDS, self.session.wake_at(now))

    def _do(self, effects: list[NodeEffect], now: float) -> None:
        for effect in effects:
            if type(effect) is Tell:
                self._outgoing.put(effect.message)
            elif type(effect) is Run:
                self._runs.append(effect)

    def _flush(self) -> None:
        assert not self._outgoing.send(self._send, time.monotonic())

    def _send(self, frames: list[Frame]) -> bool:
        return send(self.socket, frames)


def serve(address: str, first: int, count: int) -> None:
    """Be so many nodes until killed."""
    context = make_context()
    context.max_sockets = 8 * count + 100
    nodes = [Node(context, address, number) for number in range(first, first + count)]
    # ZeroMQ's own poll looks at every socket; the kernel's tells which have something.
    poll = select.epoll()
    by_descriptor: dict[int, Node] = {}
    for node in nodes:
        for socket in (node.socket, node.monitor.socket):
            poll.register(socket.fileno(), select.EPOLLIN)
            by_descriptor[socket.fileno()] = node
    looked = 0.0
    while True:
        for descriptor, _ in poll.poll(TICK_SECONDS):
            now = time.monotonic()
            node = by_descriptor[descriptor]
            node.watch(now)
            node.receive(now)
        now = time.monotonic()
        if now - looked > TICK_SECONDS:
            looked = now
            for node in nodes:
                node.watch(now)
                node.receive(now)
                if now >= node.tick_at:
                    node.tick(now)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
