"""No-op jobs a second, and the round trip of one, against raw pyzmq with msgpack.

Usage: python -m benchmarks.messages
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from statistics import median

import msgpack
import zmq

from main_node import AsyncMainNode, JobFuture
from protocol import JobDataType

from .common import HEAD, Row, alternate, machine, node_process

JOBS = 20_000
#: Jobs in hand at once: a program that streams does not keep every future it ever had.
IN_HAND = 4_000
TRIPS = 2_000


def ours(main: AsyncMainNode, jobs: int) -> float:
    """Return jobs a second."""
    begun = time.perf_counter()
    pending: deque[JobFuture] = deque()
    for _ in range(jobs):
        pending.append(main.submit(JobDataType(b"")))
        if len(pending) == IN_HAND:
            for _ in range(IN_HAND // 2):
                pending.popleft().result(60)
    while pending:
        pending.popleft().result(60)
    return jobs / (time.perf_counter() - begun)


def trip(main: AsyncMainNode) -> float:
    """Return the median round trip in milliseconds."""
    times = []
    for _ in range(TRIPS):
        begun = time.perf_counter()
        main.submit(JobDataType(b"")).result(60)
        times.append(time.perf_counter() - begun)
    return median(times) * 1e3


RAW_NODE = """
import sys, msgpack, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send(b"ready")
while True:
    job = msgpack.unpackb(socket.recv())
    socket.send(msgpack.packb([job[0], b""]))
"""


class Raw:
    """A ROUTER and one DEALER in another process; a msgpack list each way, and nothing else."""

    def __init__(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = context.socket(zmq.ROUTER)
        self.socket.sndhwm = self.socket.rcvhwm = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.process = subprocess.Popen([sys.executable, "-c", RAW_NODE, f"tcp://127.0.0.1:{port}"])
        self.peer, _ = self.socket.recv_multipart()

    def _send(self, job: int) -> None:
        self.socket.send_multipart([self.peer, msgpack.packb([job, b""])])

    def _receive(self) -> None:
        msgpack.unpackb(self.socket.recv_multipart()[1])

    def rate(self, jobs: int = JOBS, window: int = 64) -> float:
        """Return jobs a second, with so many in flight."""
        begun = time.perf_counter()
        for job in range(window):
            self._send(job)
        for job in range(window, jobs):
            self._receive()
            self._send(job)
        for _ in range(window):
            self._receive()
        return jobs / (time.perf_counter() - begun)

    def trip(self) -> float:
        """Return the median round trip in milliseconds."""
        times = []
        for job in range(TRIPS):
            begun = time.perf_counter()
            self._send(job)
            self._receive()
            times.append(time.perf_counter() - begun)
        return median(times) * 1e3

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close(0)


def measure(runs: int = 5) -> list[Row]:
    raw = Raw()
    try:
        with (
            AsyncMainNode("bench", address="tcp://127.0.0.1:0") as main,
            node_process(main.address),
        ):
            main.wait_for_nodes(1, 20)
            ours(main, JOBS)
            rate, raw_rate = alternate(runs, lambda: ours(main, JOBS), raw.rate)
            round_trip, raw_trip = alternate(runs, lambda: trip(main), raw.trip)
    finally:
        raw.close()
    beside = "raw ROUTER/DEALER"
    return [
        Row("no-op jobs, one node", rate, "jobs/s", raw_rate, beside, 30_000, more=True),
        Row("round trip of a no-op job", round_trip, "ms", raw_trip, beside, 0.3),
    ]


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
