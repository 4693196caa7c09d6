"""AML-IP's own tests of its main job, with its sizes; docs/aml-ip.md has the names of its tests.

Those of relays are in `relay_node/test_relay.py`, those of status in `main_node/test_status.py`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from computing_node import AsyncComputingNode, ComputingNode
from main_node import AsyncMainNode, IntWaitHandler, MainNode, SolutionListener
from protocol import JobDataType, JobSolutionDataType

from .conftest import ANY_PORT, upper

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


@pytest.mark.parametrize(
    ("mains", "nodes"), [(1, 1), (3, 1), (1, 3)],
    ids=["one_main_one_computing", "n_main_one_computing", "one_main_n_computing"],
)  # fmt: skip
def test_synchronous_nodes_meet_and_the_solution_and_ids_are_right(mains: int, nodes: int) -> None:
    jobs = max(mains, nodes)
    clients: list[str] = []
    lock = threading.Lock()

    def reply(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        with lock:
            clients.append(client_id)
        return upper(job, task_id, client_id)

    main_nodes = [MainNode(f"main{n}", address=ANY_PORT) for n in range(mains)]
    addresses = [main.address for main in main_nodes]
    servers: list[str] = []

    def serve(number: int) -> None:
        node = ComputingNode(f"node{number}", callback=reply, address=addresses)
        for _ in range(jobs // nodes):
            node.process_job(timeout=SECONDS)
            servers.append(node.get_id())

    def ask(number: int) -> tuple[str, str]:
        main = main_nodes[number % mains]
        solution, server = main.request_job_solution(JobDataType(f"job {number}"), timeout=SECONDS)
        return solution.to_string(), server

    try:
        with ThreadPoolExecutor() as pool:
            serving = [pool.submit(serve, number) for number in range(nodes)]
            if mains == 1:  # each job at a node of its own, one after another
                answers = [ask(number) for number in range(jobs)]
            else:
                answers = [f.result() for f in [pool.submit(ask, n) for n in range(jobs)]]
            for each in serving:
                each.result()
        assert [text for text, _ in answers] == [f"JOB {n}" for n in range(jobs)]
        assert sorted(server for _, server in answers) == sorted(servers)
        assert len({server for _, server in answers}) == jobs  # a new id for each job
        assert set(clients) == {main.get_id() for main in main_nodes}
    finally:
        for main in main_nodes:
            main.close()


@pytest.mark.parametrize(
    ("mains", "nodes", "jobs"),
    [(1, 1, 1), (1, 1, 20), (1, 5, 5), (1, 5, 23), (5, 1, 1), (5, 1, 5), (5, 10, 2), (3, 5, 11)],
)
def test_nodes_are_kept_busy(
    main_node: Mains, computing_node: Nodes, mains: int, nodes: int, jobs: int
) -> None:
    """AML-IP's efficiency test, which allows 350 ms a job of 200 ms; ours 230 ms."""

    def sleep(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        time.sleep(0.2)
        return JobSolutionDataType("done")

    main_nodes = [main_node(f"m{n}") for n in range(mains)]
    for n in range(nodes):
        computing_node(*main_nodes, name=f"n{n}", callback=sleep)
    for main in main_nodes:
        main.wait_for_nodes(nodes, SECONDS)

    def took() -> float:
        begun = time.monotonic()
        futures = [main.submit(JobDataType("x")) for _ in range(jobs) for main in main_nodes]
        assert not wait(futures, SECONDS).not_done
        return time.monotonic() - begun

    limit = math.ceil(mains * jobs / nodes) * 0.23 + 0.1
    # The best of three: on a machine that others use as well, one may be disturbed.
    assert any(took() < limit for _ in range(3))
