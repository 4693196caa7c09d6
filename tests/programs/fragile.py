"""A computing node that upper-cases text, and dies of the word `die`.

Usage: fragile.py ADDRESS
"""

from __future__ import annotations

import os
import signal
import sys

from computing_node import AsyncComputingNode
from protocol import JobDataType, JobSolutionDataType


def solve(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
    if job.to_string() == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return JobSolutionDataType(job.to_string().upper())


with AsyncComputingNode("fragile", callback=solve, address=sys.argv[1]) as node:
    print(f"ready {node.get_id()}", flush=True)
    sys.stdin.read()  # until the test closes it
