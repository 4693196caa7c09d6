"""Arrays over slow lines: how close to what the line could carry, and what a small job waits.

A line is a TCP relay on loopback that carries so many bytes a second each way. Each cell: jobs, or
solutions, with so many arrays at once, ten seconds of the line in all, while small jobs go over the
same connection, one after another.

Usage: python -m benchmarks.lines [SECONDS [MBIT ...]]
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode
from protocol import JobDataType, JobSolutionDataType

from .common import machine

RATES = (1.0, 2.0, 20.0, 200.0)
COUNTS = (1, 2, 4, 8)
WAYS = ("out", "back")
#: At most so long are bytes held back at once: a line carries them evenly.
SLICE_SECONDS = 0.005
_LIMIT = 60.0


@dataclass
class Line:
    """A TCP relay that carries so many bytes a second in each direction.

    Args:
        target: port that it leads to.
        rate: bytes a second.
    """

    target: int
    rate: float
    port: int = 0
    #: Bytes that it has carried, from the side that connects and to it.
    carried: dict[str, int] = field(default_factory=lambda: {"back": 0, "out": 0})
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def start(self) -> None:
        ready = threading.Event()

        async def begin() -> None:
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 16)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            with suppress(asyncio.CancelledError):  # it is stopped
                await server.serve_forever()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*rest, return_exceptions=True)

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(begin()))
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        self._loop.call_soon_threadsafe(end)
        self._thread.join()
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target, limit=1 << 16)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._carry("back", reader, back), self._carry("out", there, writer),
                return_exceptions=True,
            )  # fmt: skip

    async def _carry(
        self, way: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        size = int(min(max(self.rate * SLICE_SECONDS, 256), 1 << 16))
        free = time.monotonic()
        while data := await source.read(size):
            free = max(free, time.monotonic() - SLICE_SECONDS) + len(data) / self.rate
            if (pause := free - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            sink.write(data)
            self.carried[way] += len(data)
            await sink.drain()
        sink.close()


def _reply(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
    nbytes = int(job.parameters.get("back", 0))
    if nbytes:
        return JobSolutionDataType({"x": np.full(nbytes, task_id % 251, np.uint8)})
    return JobSolutionDataType(b"done")


@dataclass(frozen=True)
class Cell:
    """What came of one line.

    Attributes:
        ratio: time that the arrays took, to what the line takes for as many bytes.
        bytes_ratio: bytes that it carried, to those of the arrays.
        wait: seconds that a small job took between them, at most.
        lost: nodes that were given up.
    """

    ratio: float
    bytes_ratio: float
    wait: float
    lost: int


class _Lost(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        self.count += "node.left" in said or "main.reconnecting" in said


@contextmanager
def _counting() -> Iterator[_Lost]:
    handler, logger = _Lost(), logging.getLogger("mnist")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


def measure(mbit: float, count: int, way: str, seconds: float = 10.0) -> Cell:
    """Move `count` arrays over a line, `seconds` of it in all."""
    rate = mbit * 1e6 / 8
    nbytes = int(rate * seconds / count)
    with (
        _counting() as lost,
        AsyncMainNode("lines", address="tcp://127.0.0.1:0") as main,
    ):
        line = Line(int(main.address.rpartition(":")[2]), rate)
        line.start()
        node = AsyncComputingNode(
            "far", callback=_reply, address=f"tcp://127.0.0.1:{line.port}", tasks=count + 1,
            cache_bytes=0,
        )  # fmt: skip
        with node:
            main.wait_for_nodes(1, 20)
            main.submit(JobDataType("first")).result(20)
            before = dict(line.carried)
            jobs = [_job(way, nbytes, each) for each in range(count)]
            begun = time.monotonic()
            futures = [main.submit(job) for job in jobs]
            waits = []
            while wait(futures, 0.2).not_done and time.monotonic() < begun + _LIMIT + 20 * seconds:
                small = time.monotonic()
                main.submit(JobDataType("small")).result(_LIMIT)
                waits.append(time.monotonic() - small)
            for future in futures:
                future.result(1)
            took = time.monotonic() - begun
            carried = line.carried[way] - before[way]
            gone = lost.count
        line.stop()
    ideal = count * nbytes / rate
    return Cell(took / ideal, carried / (count * nbytes), max(waits, default=0.0), gone)


def _job(way: str, nbytes: int, salt: int) -> JobDataType:
    if way == "back":
        return JobDataType("large", {"back": nbytes})
    array: np.ndarray[Any, Any] = np.full(nbytes, salt, np.uint8)
    return JobDataType({"x": array})


def table(seconds: float, rates: tuple[float, ...], say: Callable[[str], object]) -> None:
    say("| line | arrays | way | time, to ideal | bytes, to arrays' | small job | given up |")
    say("|---|---|---|---|---|---|---|")
    for mbit in rates:
        for count in COUNTS:
            for way in WAYS:
                cell = measure(mbit, count, way, seconds)
                say(
                    f"| {mbit:g} Mbit/s | {count} | {way} | {cell.ratio:.3f} |"
                    f" {cell.bytes_ratio:.3f} | {cell.wait:.2f} s | {cell.lost} |"
                )


if __name__ == "__main__":
    wanted = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print(machine(), "", sep="\n")
    table(
        wanted, tuple(map(float, sys.argv[2:])) or RATES, lambda line: print(line, flush=True)
    )  # fmt: skip
