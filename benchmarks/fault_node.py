"""A computing node for the benchmarks of faults: it says when a job begins.

A job is a text: `hold` is never done, a number is slept for so many seconds.

Usage: python -m benchmarks.fault_node ADDRESS [NAME]
"""

from __future__ import annotations

import sys
import threading
import time

from computing_node import AsyncComputingNode
from protocol import JobDataType, JobSolutionDataType


def solve(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
    text = job.to_string()
    if text == "hold":
        print(f"began {task_id}", flush=True)
        threading.Event().wait()
    time.sleep(float(text))
    return JobSolutionDataType(text)


if __name__ == "__main__":
    name = sys.argv[2] if len(sys.argv) > 2 else "node"
    with AsyncComputingNode(name, callback=solve, address=sys.argv[1]):
        sys.stdin.read()
