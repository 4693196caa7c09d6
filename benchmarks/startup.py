"""From a shell command to the first no-op job done, and the memory of an idle computing node.

Usage: python -m benchmarks.startup
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import psutil

from .common import HEAD, Row, alternate, machine

MAIN = """
import sys
from main_node import MainNode
from protocol import JobDataType
with MainNode("bench", address=sys.argv[1]) as main:
    main.request_job_solution(JobDataType(b""), timeout=20)
"""
IMPORTS = "import zmq, msgpack, numpy"


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def first_job() -> float:
    """Return seconds from starting both programs to the end of the main one."""
    address = free_address()
    begun = time.perf_counter()
    node = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.noop_node", address], stdin=subprocess.PIPE
    )
    try:
        subprocess.run([sys.executable, "-c", MAIN, address], check=True)
        return time.perf_counter() - begun
    finally:
        node.kill()
        node.communicate()


def imports() -> float:
    """Return seconds that a python takes which only imports what both need."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - begun


def idle_megabytes() -> float:
    """Return the proportional memory of a `mnist-compute` that waits, its children included."""
    node = subprocess.Popen(
        [sys.executable, "-m", "computing_node", "--connect", free_address()],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert node.stderr is not None
        while "node.looking" not in node.stderr.readline():
            continue
        process = psutil.Process(node.pid)
        family = [process, *process.children(recursive=True)]
        torch = any("torch" in m.path for p in family for m in p.memory_maps(grouped=True))
        assert not torch, "an idle node has torch in memory"
        return sum(p.memory_full_info().pss for p in family) / 1e6
    finally:
        node.terminate()
        node.communicate()


def measure(runs: int = 7) -> list[Row]:
    seconds, floor = alternate(runs, first_job, imports)
    (memory,) = alternate(3, idle_megabytes)
    return [
        Row("shell command to first no-op job done", seconds, "s", floor, "s: imports alone", 0.5),
        Row("idle computing node", memory, "MB", None, "-", 60),
    ]


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
