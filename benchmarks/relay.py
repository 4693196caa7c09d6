"""What a relay costs: jobs, a round trip and 47 MB through it, against the same without.

Usage: python -m benchmarks.relay
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from main_node import AsyncMainNode

from . import messages, transfer
from .common import HEAD, Row, alternate, machine, node_process


@contextmanager
def relay_process(address: str) -> Iterator[str]:
    """Run a relay to an address for a block; yield where nodes reach it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "relay_node", "--bind", "tcp://127.0.0.1:0", "--connect", address],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        yield process.stderr.readline().split("from=")[1].split()[0]
    finally:
        process.terminate()
        process.communicate()


def measure(runs: int = 7) -> list[Row]:
    with (
        AsyncMainNode("direct", address="tcp://127.0.0.1:0") as direct,
        AsyncMainNode("far", address="tcp://127.0.0.1:0") as far,
        relay_process(far.address) as way,
        node_process(direct.address), node_process(way),
    ):  # fmt: skip
        for main in (direct, far):
            main.wait_for_nodes(1, 20)
            messages.ours(main, messages.JOBS)

        def both(runs: int, measure: Callable[[AsyncMainNode], float]) -> list[float]:
            return alternate(runs, lambda: measure(far), lambda: measure(direct))

        rate, rate_without = both(runs, lambda main: messages.ours(main, messages.JOBS))
        trip, trip_without = both(runs, messages.trip)
        move, move_without = both(2 * runs, transfer.ours)
    return [
        Row(
            "no-op jobs through a relay", rate, "jobs/s", rate_without, "without",
            0.8 * rate_without, more=True,
        ),
        Row("round trip through a relay", trip, "ms", trip_without, "without", 2 * trip_without),
        Row("47 MB through a relay", move, "ms", move_without, "without", 2 * move_without),
    ]  # fmt: skip


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
