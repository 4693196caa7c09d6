"""Main nodes and computing nodes on real sockets: who solves what, and what goes wrong."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, as_completed, wait
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import numpy as np
import pytest

from computing_node import AsyncComputingNode, ComputingNode, JobReplier, NoJob, Refused
from computing_node import ConfigError as ComputingConfigError
from main_node import (
    AsyncMainNode,
    ConfigError,
    IntWaitHandler,
    JobFailed,
    MainNode,
    NodeClosed,
    NoNode,
    SolutionListener,
)
from protocol import AddressError, JobDataType, JobSolutionDataType, LocalProtocolError
from protocol.carrier import link, sockets

from .conftest import ANY_PORT, Heard, upper
from .processes import has

Mains = Callable[..., AsyncMainNode]
Nodes = Callable[..., AsyncComputingNode]
SECONDS = 20


class Listener(SolutionListener):
    """Keeps what it receives, and counts it."""

    def __init__(self) -> None:
        self.received: dict[int, tuple[str, str]] = {}
        self.waiter = IntWaitHandler(True)

    def solution_received(
        self, solution: JobSolutionDataType, task_id: int, server_id: str
    ) -> None:
        assert task_id not in self.received
        self.received[task_id] = (solution.to_string(), server_id)
        self.waiter.increase()


@pytest.mark.parametrize(("mains", "nodes", "jobs"), [(1, 1, 4), (3, 1, 5), (1, 3, 9), (3, 3, 8)])
def test_every_solution_reaches_the_main_node_that_asked(
    main_node: Mains, computing_node: Nodes, mains: int, nodes: int, jobs: int
) -> None:
    listeners = [Listener() for _ in range(mains)]
    main_nodes = [main_node(f"m{n}", listener=each) for n, each in enumerate(listeners)]
    clients: queue.SimpleQueue[str] = queue.SimpleQueue()

    def reply(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        clients.put(client_id)
        return upper(job, task_id, client_id)

    workers = [computing_node(*main_nodes, name=f"n{n}", callback=reply) for n in range(nodes)]
    asked = [
        {main.request_job_solution(JobDataType(f"{main.get_id()} job {n}")): n for n in range(jobs)}
        for main in main_nodes
    ]
    for main, listener, tasks in zip(main_nodes, listeners, asked, strict=True):
        assert listener.waiter.wait_equal(jobs, SECONDS)
        assert listener.received.keys() == tasks.keys()
        for task_id, (text, server_id) in listener.received.items():
            assert text == f"{main.get_id()} job {tasks[task_id]}".upper()
            assert server_id in {worker.get_id() for worker in workers}
    seen = {clients.get() for _ in range(mains * jobs)}
    assert seen == {main.get_id() for main in main_nodes}


def test_jobs_may_be_requested_before_any_computing_node_exists(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    futures = [main.submit(JobDataType(f"early {n}")) for n in range(20)]
    computing_node(main)
    assert [f.result(SECONDS).to_string() for f in futures] == [f"EARLY {n}" for n in range(20)]
    late = main.submit(JobDataType("late"))
    assert late.result(SECONDS).to_string() == "LATE"


def test_a_computing_node_may_wait_for_its_main_node(computing_node: Nodes) -> None:
    with AsyncMainNode("first", address=ANY_PORT) as first:
        address = first.address
        node = computing_node(first)
        assert first.submit(JobDataType("one")).result(SECONDS).to_string() == "ONE"
    with AsyncMainNode("second", address=address) as second:  # the node comes back by itself
        future = second.submit(JobDataType("two"))
        assert future.result(SECONDS).to_string() == "TWO"
        assert future.server_id == node.get_id()


def test_the_waiting_nodes_meet_and_return_solution_and_server_id() -> None:
    ids: queue.SimpleQueue[str] = queue.SimpleQueue()
    with MainNode("main", address=ANY_PORT) as main:

        def serve() -> None:
            for _ in range(2):
                node = ComputingNode("single", callback=upper, address=main.address)
                node.process_job(timeout=SECONDS)
                ids.put(node.get_id())

        thread = threading.Thread(target=serve)
        thread.start()
        for text in ("first", "second"):
            solution, server_id = main.request_job_solution(JobDataType(text), timeout=SECONDS)
            assert solution.to_string() == text.upper()
            assert server_id == ids.get(timeout=SECONDS)
        thread.join()


def test_a_killed_nodes_job_is_solved_by_another(main_node: Mains, program: Any) -> None:
    main = main_node()
    first = program("upper.py", main.address, "--patient")
    first_id = first.stdout.readline().split()[1]
    future = main.submit(JobDataType("wait"))
    assert first.stdout.readline().startswith("began")
    second = program("upper.py", main.address)
    second_id = second.stdout.readline().split()[1]
    main.wait_for_nodes(2, SECONDS)
    begun = time.monotonic()
    first.kill()
    assert future.result(SECONDS).to_string() == "WAIT"
    assert time.monotonic() - begun < 2  # at once, not when the heartbeats have been missed
    assert future.server_id == second_id != first_id


def test_a_stopped_node_hands_its_jobs_back(main_node: Mains, computing_node: Nodes) -> None:
    main = main_node()
    began, release = threading.Event(), threading.Event()

    def block(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        began.set()
        release.wait(SECONDS)
        return JobSolutionDataType("slow")

    slow = computing_node(main, callback=block)
    futures = [main.submit(JobDataType("x")) for _ in range(2)]
    assert began.wait(SECONDS)
    quick = computing_node(main)
    slow.stop()
    assert {future.result(SECONDS).to_string() for future in futures} == {"X"}
    assert {future.server_id for future in futures} == {quick.get_id()}
    assert main.view().retries == 0  # handed back is not failed
    release.set()


@pytest.mark.parametrize("nbytes", [100, 1 << 20, (1 << 20) + 1, 20_000_001])
def test_arrays_and_bytes_of_any_size_travel_both_ways(
    main_node: Mains, computing_node: Nodes, nbytes: int
) -> None:
    main = main_node()

    def echo(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        return JobSolutionDataType(dict(job.arrays) if job.arrays else job.to_bytes())

    computing_node(main, callback=echo)
    array = np.random.default_rng(0).integers(0, 255, nbytes, dtype=np.uint8)
    both = [
        main.submit(JobDataType({"a": array, "b": array[:10]})),
        main.submit(JobDataType(array.tobytes())),
    ]
    np.testing.assert_array_equal(both[0].result(SECONDS).arrays["a"], array)
    np.testing.assert_array_equal(both[0].result(SECONDS).arrays["b"], array[:10])
    assert both[1].result(SECONDS).to_bytes() == array.tobytes()


def test_an_array_travels_once_to_a_node(main_node: Mains, computing_node: Nodes) -> None:
    """The second job's array is the same memory at the node: it came from the node's cache."""
    main = main_node()

    def where(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        return JobSolutionDataType(str(job.arrays["x"].ctypes.data))

    computing_node(main, callback=where)
    big = np.arange(1_000_000.0)
    places = {
        main.submit(JobDataType({"x": big.copy()}, {"n": n})).result(SECONDS).to_string()
        for n in range(3)
    }
    assert len(places) == 1


def test_parameters_and_metrics_travel_with_the_data(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()

    def double(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        return JobSolutionDataType(
            b"", {"twice": job.parameters["n"] * 2, "of": {"deep": [1, None]}}
        )

    computing_node(main, callback=double)
    solution = main.submit(JobDataType(b"", {"n": 21})).result(SECONDS)
    assert solution.metrics == {"twice": 42, "of": {"deep": [1, None]}}


def test_a_job_that_raises_fails_for_good_with_its_story(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()

    def fail(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        raise ValueError("this job is bad")

    node = computing_node(main, callback=fail)
    with pytest.raises(
        JobFailed, match="failed for good after 3 attempts.*this job is bad"
    ) as caught:
        main.submit(JobDataType("x")).result(SECONDS)
    assert [attempt.node for attempt in caught.value.story] == [node.get_id()] * 3
    assert 'raise ValueError("this job is bad")' in caught.value.tell()


def test_a_job_that_failed_at_one_node_is_tried_at_another(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()

    def fail(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        raise RuntimeError("not here")

    computing_node(main, name="bad", callback=fail)
    good = computing_node(main, name="good")
    main.wait_for_nodes(2, SECONDS)
    futures = [main.submit(JobDataType(f"x{n}")) for n in range(10)]
    assert not wait(futures, SECONDS).not_done
    assert {future.server_id for future in futures} == {good.get_id()}


@pytest.mark.parametrize("result", [None, 3, JobSolutionDataType({"x": np.array(["text"])})])
def test_a_solution_that_is_none_fails_in_words(
    main_node: Mains, computing_node: Nodes, result: Any
) -> None:
    main = main_node(max_attempts=1)
    computing_node(main, callback=lambda job, task_id, client_id: result)
    with pytest.raises(JobFailed, match=r"can't be sent|not a JobSolutionDataType"):
        main.submit(JobDataType("x")).result(SECONDS)


def test_a_cancelled_job_frees_its_node(main_node: Mains, computing_node: Nodes) -> None:
    main = main_node()
    began, release = threading.Event(), threading.Event()

    def block(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        if job.to_string() == "block":
            began.set()
            release.wait(SECONDS)
        return JobSolutionDataType("done")

    computing_node(main, callback=block)
    blocked = main.submit(JobDataType("block"))
    assert began.wait(SECONDS)
    assert blocked.cancel()
    assert main.submit(JobDataType("next")).result(SECONDS).to_string() == "done"
    release.set()


def test_a_job_with_a_time_limit_is_given_up(main_node: Mains, computing_node: Nodes) -> None:
    main = main_node(max_attempts=1)
    release = threading.Event()

    def block(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        release.wait(SECONDS)
        return JobSolutionDataType("late")

    computing_node(main, callback=block)
    with pytest.raises(JobFailed, match="deadline: not done within 0.2 s"):
        main.submit(JobDataType("x", timeout_seconds=0.2)).result(SECONDS)
    release.set()


def test_a_node_of_another_domain_is_refused_in_words(main_node: Mains) -> None:
    main = main_node(domain=2)
    node = AsyncComputingNode("stranger", 3, callback=upper, address=main.address)
    with node, pytest.raises(Refused, match="serves domain 2, not 3"):
        node.wait(SECONDS)
    assert main.view().nodes == ()


def test_a_node_leaves_after_its_last_job(main_node: Mains) -> None:
    main = main_node()
    futures = [main.submit(JobDataType(f"{n}")) for n in range(5)]
    with AsyncComputingNode("brief", callback=upper, address=main.address, max_jobs=2) as node:
        assert node.wait(SECONDS)
    assert [future.done() for future in futures].count(True) == 2
    with AsyncComputingNode("other", callback=upper, address=main.address):
        assert not wait(futures, SECONDS).not_done


def test_a_node_solves_no_more_than_it_was_to(main_node: Mains, computing_node: Nodes) -> None:
    """Three main nodes have given it a job each by the time that it begins."""
    mains = [main_node(f"m{n}") for n in range(3)]
    solved: list[str] = []

    def reply(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        solved.append(job.to_string())
        return upper(job, task_id, client_id)

    futures = [main.submit(JobDataType(f"job {n}")) for n, main in enumerate(mains)]
    only = computing_node(*mains, callback=reply, max_jobs=1)
    assert only.wait(SECONDS)
    only.stop()
    assert len(solved) == 1
    computing_node(*mains)  # the others were given back
    assert [f.result(SECONDS).to_string() for f in futures] == ["JOB 0", "JOB 1", "JOB 2"]
    assert not any(main.view().retries for main in mains)


def test_a_node_runs_as_many_tasks_at_once_as_it_says(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    together = threading.Barrier(3)

    def meet(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        together.wait(SECONDS)
        return JobSolutionDataType("met")

    computing_node(main, callback=meet, tasks=3)
    assert not wait([main.submit(JobDataType("x")) for _ in range(3)], SECONDS).not_done


def test_a_job_that_waits_behind_a_long_one_goes_to_an_idle_node(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    began, release = threading.Event(), threading.Event()

    def block(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        began.set()
        release.wait(SECONDS)
        return JobSolutionDataType("slow")

    computing_node(main, name="slow", callback=block)
    futures = [main.submit(JobDataType(f"x{n}")) for n in range(2)]  # one runs, one waits
    assert began.wait(SECONDS)
    quick = computing_node(main, name="quick")
    assert futures[1].result(SECONDS).to_string() == "X1"
    assert futures[1].server_id == quick.get_id()
    release.set()
    assert futures[0].result(SECONDS).to_string() == "slow"


def test_a_main_node_with_two_addresses_is_served_once(main_node: Mains, heard: Heard) -> None:
    """Found in review: the two connections took the node from each other, for ever."""
    main = main_node()
    port = main.address.rpartition(":")[2]
    addresses = [main.address, f"tcp://localhost:{port}", main.address]
    with AsyncComputingNode("node", callback=upper, address=addresses):
        heard.event("main.twice", says=has("the same main node"))
        futures = [main.submit(JobDataType(str(n))) for n in range(50)]
        assert [f.result(SECONDS).to_string() for f in futures] == [str(n) for n in range(50)]
        assert len(main.view().nodes) == 1
        joined = heard.events("node.joined")
        # Two Hellos; and another where the first connection speaks before it learns of the second.
        assert len(joined) <= 3


def test_a_listener_that_raises_does_not_stop_the_others(
    main_node: Mains, computing_node: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    done = queue.SimpleQueue[int]()

    def picky(solution: JobSolutionDataType, task_id: int, server_id: str) -> None:
        done.put(task_id)
        raise ValueError("not this one")

    main = main_node(callback=picky)
    computing_node(main)
    with caplog.at_level(logging.ERROR, "mnist.main"):
        asked = [main.request_job_solution(JobDataType("x")) for _ in range(3)]
        assert sorted(done.get(timeout=SECONDS) for _ in asked) == asked


def test_callbacks_of_futures_run_and_may_use_the_node(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    computing_node(main)
    chained: queue.SimpleQueue[str] = queue.SimpleQueue()

    def again(future: Any) -> None:
        second = main.submit(JobDataType(future.result().to_string() + " again"))
        second.add_done_callback(lambda done: chained.put(done.result().to_string()))

    main.submit(JobDataType("once")).add_done_callback(again)
    assert chained.get(timeout=SECONDS) == "ONCE AGAIN"


def test_what_is_asked_of_nobody_ends_in_words() -> None:
    with (
        MainNode("main", address=ANY_PORT) as main,
        pytest.raises(
            NoNode, match=r"no solution after 0.1 s.*mnist-compute --connect tcp://127.0.0.1"
        ),
    ):
        main.request_job_solution(JobDataType("x"), timeout=0.1)
    with pytest.raises(NoJob, match="no job within 0.1 s"):
        ComputingNode("single", callback=upper, address="tcp://127.0.0.1:1").process_job(
            timeout=0.1
        )
    with AsyncMainNode("main", address=ANY_PORT) as alone, pytest.raises(NoNode, match="0 of 2"):
        alone.wait_for_nodes(2, 0.1)


def test_closing_a_main_node_ends_what_is_open(main_node: Mains) -> None:
    main = main_node()
    future = main.submit(JobDataType("x"))
    main.close()
    with pytest.raises(NodeClosed, match="closed before job 1 was solved"):
        future.result(SECONDS)
    with pytest.raises(NodeClosed):
        main.submit(JobDataType("y"))
    with pytest.raises(NodeClosed, match="was closed"):
        main.wait_for_nodes(1)
    main.close()  # twice is once


def test_mistakes_of_a_program_are_told_at_once(main_node: Mains) -> None:
    main = main_node()
    with pytest.raises(ConfigError, match="listener or a callback"):
        main.request_job_solution(JobDataType("x"))
    with pytest.raises(LocalProtocolError, match="plain values"):
        main.submit(JobDataType("x", {"f": print}))
    with pytest.raises(LocalProtocolError, match="can't be sent"):
        main.submit(JobDataType({"x": np.array([None])}))
    with pytest.raises(AddressError, match="taken by another program"):
        AsyncMainNode("second", address=main.address)
    with pytest.raises(AddressError, match="looks like tcp://"):
        AsyncMainNode("third", address="localhost")
    with pytest.raises(AddressError, match="looks like"):
        AsyncComputingNode("node", callback=upper, address="nowhere")
    with pytest.raises(ComputingConfigError, match="listener or a callback"):
        AsyncComputingNode("node")
    with pytest.raises(ComputingConfigError, match="less than 1"):
        AsyncComputingNode("node", callback=upper, tasks=0)


def test_a_replier_may_report_progress_and_notice_that_it_is_cancelled(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    began, noticed = threading.Event(), threading.Event()

    class Careful(JobReplier):
        def solve(self, task: Any) -> JobSolutionDataType:
            task.on_cancel(noticed.set)
            task.progress(0.5)
            began.set()
            noticed.wait(SECONDS)
            return JobSolutionDataType("too late")

    with AsyncComputingNode("careful", listener=Careful(), address=main.address):
        future = main.submit(JobDataType("x"))
        assert began.wait(SECONDS)
        until = time.monotonic() + SECONDS
        told = ((future.job_id, 0.5),)
        while main.view().nodes[0].running != told and time.monotonic() < until:
            noticed.wait(0.01)
        assert main.view().nodes[0].running == told
        future.cancel()
        assert noticed.wait(SECONDS)


def test_futures_work_with_what_the_standard_library_has_for_them(
    main_node: Mains, computing_node: Nodes
) -> None:
    """Ours are made without `Future.__init__`: hold them to its promises."""
    main = main_node()
    futures = [main.submit(JobDataType(f"{n}")) for n in range(20)]
    with pytest.raises(FutureTimeout):
        futures[0].result(0.01)
    assert futures[-1].cancel()
    assert futures[-1].cancelled()
    with pytest.raises(CancelledError):
        futures[-1].result()
    computing_node(main)
    seen = {future.result().to_string() for future in as_completed(futures[:-1], SECONDS)}
    assert seen == {f"{n}" for n in range(19)}
    done, not_done = wait(futures, SECONDS, return_when="ALL_COMPLETED")
    assert (len(done), len(not_done)) == (20, 0)
    assert futures[0].exception() is None
    results: queue.SimpleQueue[str] = queue.SimpleQueue()
    slow = main.submit(JobDataType("two wait"))
    for _ in range(2):
        threading.Thread(target=lambda: results.put(slow.result(SECONDS).to_string())).start()
    assert {results.get(timeout=SECONDS) for _ in range(2)} == {"TWO WAIT"}


def test_a_name_that_can_not_be_shown_is_the_same_id_on_both_sides(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    node = computing_node(main, name="red\x1b[31m" + "x" * 100)
    future = main.submit(JobDataType("x"))
    future.result(SECONDS)
    assert future.server_id == node.get_id()
    assert future.server_id.isprintable()


@pytest.mark.cost
def test_thousands_of_arrays_are_there_in_no_time(
    main_node: Callable[..., AsyncMainNode], computing_node: Callable[..., AsyncComputingNode]
) -> None:
    """Found by a user: five thousand never arrived, and nothing behind them did either."""
    main = main_node()
    computing_node(main, callback=lambda job, *_: JobSolutionDataType(dict(job.arrays)))
    arrays = {f"a{n}": np.full(10, n) for n in range(6000)}
    begun = time.monotonic()
    future = main.submit(JobDataType(arrays))
    solution = future.result(60)
    assert time.monotonic() - begun < 20  # measured: 1.5 s
    assert all((solution.arrays[name] == array).all() for name, array in arrays.items())


@pytest.mark.parametrize("nothing", [5, None, 1.5, [1]])
def test_what_is_no_text_bytes_or_arrays_is_no_job(nothing: object) -> None:
    with pytest.raises(TypeError, match="text, bytes or arrays"):
        JobDataType(nothing)  # type: ignore[arg-type]


# What can't be sent.

UNSENDABLE: dict[str, Callable[[], JobDataType]] = {
    "a number for a name": lambda: JobDataType({0: np.zeros(3)}),  # type: ignore[dict-item]
    "a name that is no text": lambda: JobDataType({"\udce9": np.zeros(3)}),
    "a kind that is no text": lambda: JobDataType("x", kind="\udce9"),
    "a kind of two lines": lambda: JobDataType("x", kind="a\nb"),
    "a kind that is a number": lambda: JobDataType("x", kind=7),  # type: ignore[arg-type]
    "a group that is a list": lambda: JobDataType("x", group=[]),  # type: ignore[arg-type]
    "a timeout that is a text": lambda: JobDataType("x", timeout_seconds="9"),  # type: ignore[arg-type]
    "a side that is too long": lambda: JobDataType({"a": np.zeros((0, 2**60), np.uint8)}),
    "33 dimensions": lambda: JobDataType({"a": np.zeros((1,) * 33)}),
    "a name of nine megabytes": lambda: JobDataType({"n" * (9 << 20): np.zeros(3)}),
    "objects": lambda: JobDataType({"a": np.array([object()])}),
    "a parameter that is no text": lambda: JobDataType("x", {"a": "\udce9"}),
    "a parameter that is an object": lambda: JobDataType("x", {"a": object()}),
    "a parameter that is too large a number": lambda: JobDataType("x", {"a": 1 << 70}),
}


@pytest.mark.parametrize("what", UNSENDABLE)
def test_a_job_that_can_not_be_sent_is_refused_and_no_other(
    main_node: Mains, computing_node: Nodes, what: str
) -> None:
    """Found in review: some hung for ever, and took the jobs that travelled with them."""
    main = main_node()
    before = [main.submit(JobDataType(f"before {n}")) for n in range(5)]
    with pytest.raises((LocalProtocolError, TypeError)):
        main.submit(UNSENDABLE[what]())
    after = [main.submit(JobDataType(f"after {n}")) for n in range(5)]
    computing_node(main)
    assert [future.result(SECONDS).to_string()[-1] for future in before + after] == [*"0123401234"]


@pytest.mark.parametrize("name", ["\udce9", "two\nlines", "x" * 300, 7])
def test_a_name_that_can_not_be_shown_is_refused(main_node: Mains, name: Any) -> None:
    """Found in review: whoever watched such a run saw nothing any more."""
    with pytest.raises(LocalProtocolError, match="can't be a job's name"):
        main_node().submit(JobDataType("x"), name)


@pytest.mark.parametrize(
    "solution",
    [{0: np.zeros(3)}, {"\udce9": np.zeros(3)}, {"a": np.zeros((1,) * 33)}, None, 7,
     {"a": np.array([object()])}],
    ids=["a number for a name", "a name that is no text", "33 dimensions", "None", "7", "objects"],
)  # fmt: skip
def test_a_solution_that_can_not_be_sent_is_a_failed_attempt_and_no_end(
    main_node: Mains, computing_node: Nodes, solution: Any
) -> None:
    main = main_node(max_attempts=1)
    computing_node(main, callback=lambda job, *_: upper(job, *_) if job.to_string() else solution)
    with pytest.raises(JobFailed, match=r"raised: \w+Error"):
        main.submit(JobDataType("")).result(SECONDS)
    assert main.submit(JobDataType("fine")).result(SECONDS).to_string() == "FINE"


class Noting(JobReplier):
    """Says something of its work, and goes on for some heartbeats."""

    def __init__(self, note: Any) -> None:
        self.note = note

    def solve(self, task: Any) -> JobSolutionDataType:
        task.progress(0.5, self.note)
        time.sleep(0.5)
        return JobSolutionDataType("done")


@pytest.mark.parametrize("note", [None, 7, "caf\udce9.png", b"bytes", "x" * 5000, "two\nlines"])
def test_any_note_on_a_task_can_be_told(main_node: Mains, note: Any) -> None:
    """Found in review: such a one ended its node, or made it look dead."""
    main = main_node(heartbeat_seconds=0.1, dead_seconds=2)
    with AsyncComputingNode("n", listener=Noting(note), address=main.address):
        assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "done"
        assert len(main.view().nodes) == 1


@pytest.mark.parametrize("trouble", ["a damaged message", "an exception there"])
def test_trouble_that_passes_ends_no_node(
    main_node: Mains, computing_node: Nodes, heard: Heard, trouble: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Found in review: one flipped bit, and the node ended with exit code 6."""
    main = main_node(heartbeat_seconds=0.2)
    once = [1]
    if trouble == "a damaged message":
        send = sockets.send

        def flip(socket: Any, frames: Any) -> bool:
            if once and len(frames) > 1:
                once.pop()
                frames = [frames[0], frames[1][:-1] + bytes([frames[1][-1] ^ 1]), *frames[2:]]
            return send(socket, frames)

        node = computing_node(main)
        main.wait_for_nodes(1, SECONDS)
        monkeypatch.setattr(link, "send", flip)
    else:
        receive = main._router.dispatcher.receive

        def raise_once(*arguments: Any) -> Any:
            if once:
                once.pop()
                raise MemoryError("for a moment")
            return receive(*arguments)

        node = computing_node(main)
        main.wait_for_nodes(1, SECONDS)
        monkeypatch.setattr(main._router.dispatcher, "receive", raise_once)
    heard.event("main.left", reason=has("it refused"))
    assert main.submit(JobDataType("fine")).result(SECONDS).to_string() == "FINE"
    assert not node._dealer.ended.is_set()
