"""AML-IP's multiservice tests: jobs queued before any server, and a server that stops.

Its sizes: 8 clients, 4 servers, 20 messages, sent twice. Its names are in docs/aml-ip.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode, IntWaitHandler, SolutionListener
from protocol import JobDataType, JobSolutionDataType

CLIENTS, SERVERS, MESSAGES = 8, 4, 20
SECONDS = 30
Mains = Callable[..., AsyncMainNode]
Nodes = Callable[..., AsyncComputingNode]


class Received(SolutionListener):
    """What a client has received, by task id: solution and server."""

    def __init__(self) -> None:
        self.solutions: dict[int, tuple[str, str]] = {}
        self.waiter = IntWaitHandler(True)

    def solution_received(
        self, solution: JobSolutionDataType, task_id: int, server_id: str
    ) -> None:
        self.solutions[task_id] = (solution.to_string(), server_id)
        self.waiter.increase()


def lower(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
    return JobSolutionDataType(job.to_string().lower())


@pytest.mark.parametrize(
    ("clients", "servers"),
    [(1, 1), (1, SERVERS), (CLIENTS, 1), (CLIENTS, SERVERS)],
    ids=["one_on_one", "one_client_n_servers", "n_clients_one_server", "n_to_n"],
)
def test_jobs_wait_for_servers_and_outlive_the_one_that_answered_last(
    main_node: Mains, computing_node: Nodes, clients: int, servers: int
) -> None:
    listeners = [Received() for _ in range(clients)]
    mains = [main_node(f"client{n}", listener=each) for n, each in enumerate(listeners)]

    def send(first: int) -> list[int]:
        """Send everybody's messages; return the last task id of each client."""
        return [
            [
                main.request_job_solution(JobDataType(f"NEW_TASK_{client}_{first + n}"))
                for n in range(MESSAGES)
            ][-1]
            for client, main in enumerate(mains)
        ]  # fmt: skip

    def wait_for(messages: int) -> None:
        for listener in listeners:
            assert listener.waiter.wait_greater_equal(messages, SECONDS)

    last = send(0)
    assert not any(listener.solutions for listener in listeners)
    nodes = [computing_node(*mains, name=f"server{n}", callback=lower) for n in range(servers)]
    wait_for(MESSAGES)
    if servers > 1:
        answered_last = listeners[0].solutions[last[0]][1]
        (stopped,) = [node for node in nodes if node.get_id() == answered_last]
        stopped.stop()
        nodes.remove(stopped)
    before = [dict(listener.solutions) for listener in listeners]
    send(MESSAGES)
    wait_for(2 * MESSAGES)
    ids = {node.get_id() for node in nodes}
    for client, listener in enumerate(listeners):
        texts = sorted(text for text, _ in listener.solutions.values())
        assert texts == sorted(f"new_task_{client}_{n}" for n in range(2 * MESSAGES))
        later = listener.solutions.keys() - before[client].keys()
        assert {listener.solutions[task][1] for task in later} <= ids
