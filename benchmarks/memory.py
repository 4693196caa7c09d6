"""Peak memory of a main node over ten, a hundred and a thousand jobs of one model.

It is taken once everything is merged: the libraries that count and draw what came of it would
hide what the jobs cost.

Usage: python -m benchmarks.memory
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile

from .common import HEAD, Row, machine

JOBS = (10, 100, 1000)
ROWS = 20_000
#: Runs the command, and says how much memory it ever had before the evaluation.
WITNESS = """
import re, sys
from pathlib import Path
from main_node.commands.train import main
from main_node.run.evaluation import Evaluation
begin = Evaluation.begin
def witness(self, *arguments):
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[0])
    begin(self, *arguments)
Evaluation.begin = witness
main(sys.argv[1:])
"""


def peak_megabytes(jobs: int) -> float:
    """Return the peak resident memory of `mnist-main` alone, without its nodes."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", WITNESS, "--jobs", str(jobs), "--rounds", "1", "--epochs", "1",
             "--limit", str(ROWS), "--local-nodes", "2", "--bind", "tcp://127.0.0.1:0", "--quiet",
             "--run-dir", folder],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    found = re.search(r"VmHWM:\s+(\d+)", done.stdout)
    assert found is not None
    return int(found[1]) / 1024


def measure() -> list[Row]:
    peaks = {jobs: peak_megabytes(jobs) for jobs in JOBS}
    few = peaks[JOBS[0]]
    return [
        Row(f"peak memory, {jobs:,} jobs", peak, "MB", few, f"MB: {JOBS[0]} jobs", 1.1 * few)
        for jobs, peak in peaks.items()
    ]


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
