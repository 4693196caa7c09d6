"""The throughput of one main node with a thousand nodes, against the same with ten.

The nodes are sessions in a few processes, on the same cores: what they cost is in both figures.

Usage: python -m benchmarks.crowd
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from main_node import AsyncMainNode

from .common import HEAD, Row, alternate, machine
from .messages import ours

JOBS = 20_000
FEW, MANY = 10, 1000
PROCESSES = 2


@contextmanager
def crowd(address: str, nodes: int) -> Iterator[None]:
    """Run so many simulated nodes for a block."""
    each = nodes // PROCESSES
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.crowd_nodes", address, str(n * each), str(each)]
        )
        for n in range(PROCESSES)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def rate(nodes: int) -> float:
    """Return jobs a second through a main node with so many nodes."""
    with AsyncMainNode("bench", address="tcp://127.0.0.1:0") as main, crowd(main.address, nodes):
        main.wait_for_nodes(nodes, 60)
        ours(main, JOBS)
        return ours(main, JOBS)


def measure(runs: int = 3) -> list[Row]:
    many, few = alternate(runs, lambda: rate(MANY), lambda: rate(FEW))
    return [
        Row(f"no-op jobs, {MANY:,} nodes", many, "jobs/s", few, f"jobs/s: {FEW} nodes", few / 2,
            more=True)
    ]  # fmt: skip


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
