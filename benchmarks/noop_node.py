"""A computing node that does nothing, or returns the first bytes of an array.

Usage: python -m benchmarks.noop_node ADDRESS [BYTES]
"""

from __future__ import annotations

import sys

from computing_node import AsyncComputingNode
from protocol import JobDataType, JobSolutionDataType


def reply(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
    if job.arrays:
        return JobSolutionDataType({"x": job.arrays["x"][:1_000_000]})
    return JobSolutionDataType(b"")


if __name__ == "__main__":
    with AsyncComputingNode("noop", callback=reply, address=sys.argv[1], cache_bytes=64 << 20):
        sys.stdin.read()
