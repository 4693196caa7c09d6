"""This checkout against another one, in one run: jobs a second, round trip, 47 MB.

Both are measured by turns, each in processes of its own, so that slow moments hit both alike; the
ratio of the medians is what to look at.

Usage: python -m benchmarks.against CHECKOUT [RUNS]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from .common import machine

#: What each checkout runs: it measures what it is told to, with its own code.
_PROGRAM = """
import sys
from benchmarks import messages, transfer
from benchmarks.common import node_process
from main_node import AsyncMainNode

with AsyncMainNode("bench", address="tcp://127.0.0.1:0") as main, node_process(main.address):
    main.wait_for_nodes(1, 60)
    for line in sys.stdin:
        what = line.strip()
        if what == "rate":
            value = messages.ours(main, messages.JOBS)
        elif what == "trip":
            value = messages.trip(main)
        else:
            value = transfer.ours(main)
        print(value, flush=True)
"""
HEAD = "| what | this | the other | as good as it |\n|---|---|---|---|"
#: What, its unit, whether more is better, and how often it is measured in each turn.
MEASURES = (("rate", "jobs/s", True, 1), ("trip", "ms", False, 1), ("47 MB", "ms", False, 5))


class Checkout:
    """A main node and a computing node of one checkout.

    Args:
        path: of the checkout.
    """

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], cwd=path, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(path)},
        )  # fmt: skip

    def measure(self, what: str) -> float:
        """Return one value."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End its processes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(other: Path, runs: int) -> None:
    """Print the medians of both, and how good this one is beside the other."""
    here = Path(__file__).resolve().parent.parent
    new, old = Checkout(here), Checkout(other.resolve())
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name, *_ in MEASURES}
    for name, _, _, times in MEASURES:
        for turn in range(runs + 1):
            for side, checkout in enumerate((new, old)):
                values = [checkout.measure(name) for _ in range(times)]
                if turn:  # the first warms up
                    taken[name][side].extend(values)
    new.close()
    old.close()
    print(machine(), "", HEAD, sep="\n")
    for name, unit, more, _ in MEASURES:
        ours, theirs = map(statistics.median, taken[name])
        ratio = ours / theirs if more else theirs / ours
        print(f"| {name} | {ours:,.4g} {unit} | {theirs:,.4g} {unit} | {ratio:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 9)
