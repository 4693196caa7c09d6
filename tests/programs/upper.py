"""A computing node in a process of its own: upper-cases text; `wait` blocks unless told not to.

Usage: upper.py ADDRESS [--patient]
"""

from __future__ import annotations

import sys
import threading

from computing_node import AsyncComputingNode, JobReplier
from protocol import JobDataType, JobSolutionDataType


class Upper(JobReplier):
    def process_job(self, job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        text = job.to_string()
        if text == "wait" and "--patient" in sys.argv:
            print(f"began {task_id}", flush=True)
            threading.Event().wait()
        return JobSolutionDataType(text.upper())


with AsyncComputingNode("upper", listener=Upper(), address=sys.argv[1]) as node:
    print(f"ready {node.get_id()}", flush=True)
    sys.stdin.read()  # until the test closes it
