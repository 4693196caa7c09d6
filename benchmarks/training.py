"""Two shards, an epoch each, one merge, against plain torch in one process with two threads.

Both are whole commands: start-up, imports, data, training and evaluation are in the figure.

Usage: python -m benchmarks.training
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from .common import HEAD, Row, alternate, machine

_accuracies: dict[str, float] = {}


def ours() -> float:
    """Return the seconds of a whole `mnist-main`."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        output = subprocess.run(
            [sys.executable, "-m", "main_node", "--jobs", "2", "--local-nodes", "2", "--rounds",
             "1", "--epochs", "1", "--bind", "tcp://127.0.0.1:0", "--json", "--quiet",
             "--run-dir", folder],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        took = time.perf_counter() - begun
    _accuracies["ours"] = json.loads(output)["accuracy"]
    return took


def plain() -> float:
    """Return the seconds of plain torch with two threads."""
    return _plain(2)


def plain_one_thread() -> float:
    """Return the seconds of plain torch with one thread."""
    return _plain(1)


def _plain(threads: int) -> float:
    begun = time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_torch", str(threads), "1"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    _accuracies[f"plain, {threads} threads"] = float(output.split()[0])
    return time.perf_counter() - begun


def measure(runs: int = 5) -> list[Row]:
    took, peer, one = alternate(runs, ours, plain, plain_one_thread)
    print(f"accuracy: {_accuracies}", file=sys.stderr)
    what = "two shards, one epoch, one merge, whole command"
    return [
        Row(what, took, "s", peer, "s: torch, 2 threads", 1.15 * peer),
        Row(what, took, "s", one, "s: torch, 1 thread", 1.15 * one),
    ]


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
