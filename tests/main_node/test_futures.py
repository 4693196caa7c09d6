"""Users' code and signals stand in nobody's way: heartbeats go on, and a node can be closed."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed, wait

import pytest

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode, JobFuture, NodeClosed
from protocol import JobDataType, JobSolutionDataType
from protocol.latch import Latch

from ..conftest import ANY_PORT, Heard
from ..processes import run
from .test_journal import Memory

SECONDS = 20
Mains = Callable[..., AsyncMainNode]
Nodes = Callable[..., AsyncComputingNode]


def test_a_callback_of_a_cancelled_job_holds_nothing_up(
    main_node: Mains, computing_node: Nodes
) -> None:
    """Found in review: it ran with the lock of all futures held, and heartbeats stopped."""
    main = main_node(heartbeat_seconds=0.2, dead_seconds=2)
    computing_node(main)
    main.wait_for_nodes(1, SECONDS)
    called, go_on = threading.Event(), threading.Event()

    def slow(future: object) -> None:
        called.set()
        go_on.wait(SECONDS)

    job, other = main.submit(JobDataType("a")), main.submit(JobDataType("b"))
    other.add_done_callback(slow)
    assert other.cancel()
    assert called.wait(SECONDS)
    assert len(main.view(SECONDS).nodes) == 1
    assert job.result(SECONDS).to_string() == "A"
    assert other.cancelled()
    go_on.set()


def test_a_callback_of_a_cancelled_job_may_ask_for_another_and_wait(
    main_node: Mains, computing_node: Nodes
) -> None:
    """Found in review: a deadlock, where another thread did that for it."""
    main = main_node()
    computing_node(main)
    answers: list[str] = []
    answered = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def again(future: object) -> None:
            job = pool.submit(lambda: main.submit(JobDataType("again")).result(SECONDS))
            answers.append(job.result(SECONDS).to_string())
            answered.set()

        future = main.submit(JobDataType("b"))
        future.add_done_callback(again)
        future.cancel()
        assert answered.wait(SECONDS)
    assert answers == ["AGAIN"]


def test_a_callback_may_wait_for_other_jobs_and_holds_up_nobody_who_does(
    main_node: Mains, computing_node: Nodes
) -> None:
    """`concurrent.futures.wait` and `as_completed` too."""
    main = main_node()
    computing_node(main)
    answers: list[str] = []
    answered, go_on = threading.Event(), threading.Event()

    def ask(future: object) -> None:
        others = [main.submit(JobDataType(text)) for text in "bc"]
        wait(others, SECONDS)
        answers.extend(other.result(0).to_string() for other in others)
        answered.set()
        go_on.wait(SECONDS)

    main.submit(JobDataType("a")).add_done_callback(ask)
    assert answered.wait(SECONDS)
    assert answers == ["B", "C"]
    other = main.submit(JobDataType("d"))  # while that callback takes its time
    assert wait([other], SECONDS).done
    go_on.set()


def test_a_callback_that_closes_its_node_knows_what_has_come_of_the_others(
    computing_node: Nodes,
) -> None:
    main = AsyncMainNode("main", address=ANY_PORT)
    node = computing_node(main)
    told: list[BaseException | None] = []
    over = threading.Event()

    def close(future: object) -> None:
        node.stop()
        waits = main.submit(JobDataType("b"))
        waits.add_done_callback(lambda done: told.append(done.exception(0)))
        late = main.submit(JobDataType("c"))
        late.add_done_callback(lambda done: over.set())
        main.close()
        with pytest.raises(NodeClosed):
            waits.result(SECONDS)
        late.cancel()

    main.submit(JobDataType("a")).add_done_callback(close)
    assert over.wait(SECONDS)
    main._deliveries._caller.join(SECONDS)
    assert [type(error) for error in told] == [NodeClosed]


def test_a_signals_handler_may_cancel_jobs_that_are_waited_for(main_node: Mains) -> None:
    """What it finds locked is locked by right."""
    main = main_node()
    futures = [main.submit(JobDataType(str(number))) for number in range(300)]
    before = signal.signal(signal.SIGALRM, lambda *_: futures.pop().cancel() and None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
        while len(futures) > 50:
            wait(list(futures), 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_a_listener_that_ends_everything_ends_nothing_else(
    computing_node: Nodes, error: type[BaseException], heard: Heard
) -> None:
    """Found in review: after `sys.exit()` no solution was handed over any more."""
    answers: list[str] = []
    both = threading.Event()

    def listen(solution: JobSolutionDataType, task: int, server: str) -> None:
        answers.append(solution.to_string())
        if len(answers) == 1:
            raise error
        both.set()

    with AsyncMainNode("main", callback=listen, address=ANY_PORT) as main:
        computing_node(main)
        main.request_job_solution(JobDataType("a"))
        main.request_job_solution(JobDataType("b"))
        assert both.wait(SECONDS)
    heard.wait_for("listener.raised")


def test_a_callback_that_raises_keeps_no_other_from_being_called(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    computing_node(main)
    called = threading.Event()
    future = main.submit(JobDataType("a"))
    future.add_done_callback(lambda done: sys.exit(3))
    future.add_done_callback(lambda done: called.set())
    assert called.wait(SECONDS)


def test_a_journal_may_break_while_a_callback_closes_its_node(computing_node: Nodes) -> None:
    """Found in review: each waited for the other."""
    memory = Memory()
    closed = threading.Event()
    main = AsyncMainNode("main", address=ANY_PORT, journal=memory)
    computing_node(main)

    def close(future: object) -> None:
        memory.broken = OSError("disk")
        others = [main.submit(JobDataType("b"), f"later {n}") for n in range(10)]
        main.close()
        assert not any(other.cancelled() for other in others)
        closed.set()

    first = main.submit(JobDataType("a"), "first")
    waits = main.submit(JobDataType("c"), "second")
    first.add_done_callback(close)
    assert closed.wait(SECONDS)
    wait([waits], SECONDS)
    assert waits.done()


def test_closing_ends_though_a_listener_does_not(
    computing_node: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("main_node.deliveries.DELIVERY_SECONDS", 0.2)
    go_on, begun = threading.Event(), threading.Event()
    main = AsyncMainNode("main", address=ANY_PORT)
    computing_node(main)
    first = main.submit(JobDataType("a"))

    def slow(future: object) -> None:
        begun.set()
        go_on.wait(SECONDS)

    first.add_done_callback(slow)
    assert begun.wait(SECONDS)
    main.close()
    with pytest.raises(NodeClosed):
        main.submit(JobDataType("b"))
    go_on.set()


def test_what_a_signal_left_locked_is_given_back(computing_node: Nodes) -> None:
    """`concurrent.futures.wait`, ended by a signal's handler, leaves every future's lock taken."""
    main = AsyncMainNode("main", address=ANY_PORT, journal=Memory())
    jobs = [main.submit(JobDataType(text), text) for text in "ab"]
    jobs[0]._condition.acquire()
    computing_node(main)
    begun = time.monotonic()
    assert {job.result(SECONDS).to_string() for job in jobs} == {"light"}
    jobs[0]._condition.acquire()
    main.close()
    assert time.monotonic() - begun < SECONDS


@pytest.mark.parametrize("again", [wait, lambda jobs, timeout: list(as_completed(jobs, timeout))])
def test_whoever_was_interrupted_may_wait_again(
    main_node: Mains, computing_node: Nodes, again: Callable[[list[JobFuture], float], object]
) -> None:
    """In a notebook, say: the cell is interrupted, and run once more."""
    main = main_node()
    jobs = [main.submit(JobDataType(text)) for text in "abc"]
    jobs[1]._condition.acquire()  # what the interrupt has left
    jobs[2]._condition.acquire()
    computing_node(main)
    again(jobs, SECONDS)
    assert all(job.done() for job in jobs)


def test_a_main_node_that_is_interrupted_at_any_moment_can_be_closed() -> None:
    """Found in review: 3 of 8 times it could not. `... interrupted.py 1000 0` is the long one."""
    done = run(sys.executable, "-m", "tests.programs.interrupted", "100", "0")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "100 times interrupted" in done.stdout


def test_a_latch_lets_everybody_go_on_once_it_is_set() -> None:
    latch = Latch()
    assert not latch.wait(0.01)
    with ThreadPoolExecutor(20) as pool:
        waits = [pool.submit(latch.wait, SECONDS) for _ in range(20)]
        latch.set()
        assert all(each.result(SECONDS) for each in waits)
    assert latch.wait()
    assert latch.is_set()
