"""A relay that dies with everybody behind it, time and again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode, JobFuture
from protocol import JobDataType, JobSolutionDataType

from ..processes import Start, free_port
from .conftest import start_relay

SECONDS = 90


@pytest.mark.parametrize("nodes", [20, pytest.param(100, marks=pytest.mark.lane("deep"))])
def test_a_relay_with_many_nodes_is_killed_ten_times(
    main_node: Callable[..., AsyncMainNode], start: Start, nodes: int
) -> None:
    """Nothing fails, and nothing is done twice."""
    main = main_node()
    way = f"tcp://127.0.0.1:{free_port()}"
    done: Counter[str] = Counter()
    lock = threading.Lock()

    def solve(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        name, seconds = job.to_string().split()
        time.sleep(float(seconds))
        with lock:
            done[name] += 1
        return JobSolutionDataType(name)

    relay = start_relay(start, way, main.address)
    with ExitStack() as stack:
        for number in range(nodes):
            node = AsyncComputingNode(f"n{number}", callback=solve, address=way)
            stack.enter_context(node)
        main.wait_for_nodes(nodes, SECONDS)
        # How long such a job takes, nobody knows (each is of a group of its own): one that a busy
        # machine makes half a second late is else rightly given to an idle node as well.
        futures = [
            main.submit(JobDataType(f"{number} {0.5 + number % 7 / 2}", group=f"{number}"))
            for number in range(10 * nodes)
        ]
        for _ in range(10):
            main_has_solved(futures, 30)
            relay.kill()
            relay = start_relay(start, way, main.address)
        solutions = [future.result(SECONDS).to_string() for future in futures]
    assert solutions == [str(number) for number in range(10 * nodes)]
    twice = {name: times for name, times in done.items() if times > 1}
    assert not twice, f"{len(twice)} of {len(done)} were done more than once"


def main_has_solved(futures: list[JobFuture], more: int) -> None:
    """Wait until so many more are solved, or all."""
    before = sum(future.done() for future in futures)
    until = time.monotonic() + SECONDS
    wanted = min(before + more, len(futures))
    while sum(future.done() for future in futures) < wanted:
        assert time.monotonic() < until
        time.sleep(0.02)
