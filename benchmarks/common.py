"""What the benchmarks share: medians, the machine, a computing node in a process of its own."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure beside its limit.

    Args:
        what: was measured.
        ours: the median, in `unit`.
        limit: what it is compared with, measured in the same run.
        of: what that is.
        target: what ours should reach.
        more: whether more is better.
    """

    what: str
    ours: float
    unit: str
    limit: float | None
    of: str
    target: float
    more: bool = False

    @property
    def reached(self) -> bool:
        return self.ours >= self.target if self.more else self.ours <= self.target

    def __str__(self) -> str:
        beside = ""
        if self.limit is not None:
            beside = f" | {self.limit:,.4g} {self.of} | {self.ours / self.limit:.2f}"
        else:
            beside = f" | {self.of} | "
        sign = ">=" if self.more else "<="
        verdict = "reached" if self.reached else "MISSED"
        return (
            f"| {self.what} | {self.ours:,.4g} {self.unit}{beside}"
            f" | {sign} {self.target:,.4g} | {verdict} |"
        )


HEAD = "| what | ours | beside, same run | ratio | target | |\n|---|---|---|---|---|---|"


def alternate(runs: int, *measures: Callable[[], float]) -> list[float]:
    """Return the median of each measure, taken in turns so that noise hits all alike."""
    taken: list[list[float]] = [[] for _ in measures]
    for _ in range(runs):
        for values, measure in zip(taken, measures, strict=True):
            values.append(measure())
    for values in taken:
        print("   ", " ".join(f"{value:.4g}" for value in values), file=sys.stderr)
    return [statistics.median(values) for values in taken]


@contextmanager
def node_process(
    address: str, *arguments: str, module: str = "benchmarks.noop_node"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a computing node, which is a module of this package, for a block."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, address, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def machine() -> str:
    """Return what this was measured on, in a line."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        model = names[0]
    except (OSError, IndexError):
        pass
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, commit {commit or 'unknown'}"
    )
