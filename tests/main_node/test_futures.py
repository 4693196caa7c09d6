"""Users' code and signals stand in nobody's way: heartbeats go on, and a node can be closed."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed, wait

import numpy as np
import pytest

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode, ConfigError, JobFuture, NodeClosed, futures
from protocol import JobDataType, JobSolutionDataType
from protocol.carrier.latch import Latch

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
    heard.event("listener.raised")


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


# Found by somebody who tried to break what stands above.


def test_two_threads_may_wait_for_jobs_of_two_main_nodes(main_node: Mains) -> None:
    """Each of the nodes had a lock of its own, and `wait` took them in any order."""
    mains = [main_node(), main_node()]
    jobs = [[main.submit(JobDataType(str(number))) for number in range(20)] for main in mains]
    until = time.monotonic() + 1

    def go_on(first: int) -> None:
        while time.monotonic() < until:
            wait([*jobs[first], *jobs[1 - first]], 0)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(go_on, number % 2) for number in range(4)]:
            done.result(SECONDS)


def test_of_two_threads_that_submit_one_name_one_is_refused() -> None:
    """Both went on, and the main node broke down."""
    memory = Memory()
    large = JobDataType({"x": np.zeros(1 << 22)})
    with AsyncMainNode("main", address=ANY_PORT, journal=memory) as main:
        for turn in range(10):
            at_once = threading.Barrier(2)

            def submit(name: str, at_once: threading.Barrier = at_once) -> bool:
                at_once.wait()
                try:
                    main.submit(large, name)
                except ConfigError:
                    return False
                return True

            with ThreadPoolExecutor(2) as pool:
                assert sorted(pool.map(submit, [f"job {turn}"] * 2)) == [False, True]
        main.view(SECONDS)


def test_who_waits_is_told_though_callbacks_take_their_time(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    computing_node(main)
    go_on, waited = threading.Event(), threading.Event()
    found: list[int] = []

    def slow(future: object) -> None:
        other = main.submit(JobDataType("b"))
        other.add_done_callback(lambda done: None)
        found.append(len(wait([other], SECONDS).done))
        waited.set()
        go_on.wait(SECONDS)

    main.submit(JobDataType("a")).add_done_callback(slow)
    assert waited.wait(SECONDS)
    third = main.submit(JobDataType("c"))
    third.add_done_callback(lambda done: None)
    assert wait([third], SECONDS).done
    go_on.set()
    assert found == [1]


def test_a_journal_that_breaks_ends_the_waiting_of_a_callback(computing_node: Nodes) -> None:
    memory = Memory()
    main = AsyncMainNode("main", address=ANY_PORT, journal=memory)
    computing_node(main)
    ended = threading.Event()

    def wait_for_another(future: object) -> None:
        memory.broken = OSError("disk")
        other = main.submit(JobDataType("b"), "second")
        other.add_done_callback(lambda done: None)
        with pytest.raises(NodeClosed):
            other.result(SECONDS)
        ended.set()

    main.submit(JobDataType("a"), "first").add_done_callback(wait_for_another)
    assert ended.wait(SECONDS)
    main.close()


@pytest.mark.parametrize("what", ["exits", "returns nothing", "closes"])
def test_what_a_journal_does_ends_its_main_node_and_hangs_nobody(
    computing_node: Nodes, what: str
) -> None:
    class Odd(Memory):
        def keep(self, job: int, solution: JobSolutionDataType, node: str) -> JobSolutionDataType:
            if what == "exits":
                sys.exit(3)
            if what == "closes":
                main.close()
                return solution
            return None  # type: ignore[return-value]

    main = AsyncMainNode("main", address=ANY_PORT, journal=Odd())
    computing_node(main)
    with pytest.raises(NodeClosed):
        main.submit(JobDataType("a"), "first").result(SECONDS)
    main.close()


def test_a_wait_that_a_signal_has_left_hangs_nobody_else(
    main_node: Mains, computing_node: Nodes
) -> None:
    """The lock of its event was never given back, and whoever told it hung."""
    main = main_node()
    left, other = main.submit(JobDataType("a")), main.submit(JobDataType("b"))
    gone = main.submit(JobDataType("c"))
    hangs = threading.Event()

    class Waiter:
        def add_result(self, future: object) -> None:
            hangs.wait()

        add_cancelled = add_result

    left._waiters.append(Waiter())
    gone._waiters.append(Waiter())
    assert gone.cancel()
    computing_node(main)
    assert wait([other], SECONDS).done
    called = threading.Event()
    main.submit(JobDataType("d")).add_done_callback(lambda done: called.set())
    assert called.wait(SECONDS)
    main.close()
    hangs.set()


def test_what_a_signal_left_locked_in_one_thread_hangs_no_other(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    first, second = main.submit(JobDataType("a")), main.submit(JobDataType("b"))
    first._condition.acquire()  # what a signal has left to this thread
    computing_node(main)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(first.result, SECONDS).result(SECONDS).to_string() == "A"
    until = time.monotonic() + SECONDS
    while not second.done():
        assert time.monotonic() < until


def test_a_job_whose_cancelling_was_interrupted_is_cancelled(main_node: Mains) -> None:
    main = main_node()
    job, called = main.submit(JobDataType("a")), threading.Event()
    job.add_done_callback(lambda done: called.set())
    job._cancel_job(job)  # and then comes a signal
    assert wait([job], SECONDS).done
    assert called.wait(SECONDS)
    assert job.cancelled()


def test_a_lock_is_taken_from_nobody_who_is_inside(main_node: Mains) -> None:
    """Threads that look at futures all the time hold their lock often, and by right."""
    main = main_node()
    jobs = [main.submit(JobDataType(str(number))) for number in range(50)]
    lock = futures._LOCK
    real, over = lock._real, threading.Event()

    def poll() -> None:
        while not over.is_set():
            for job in jobs:
                job.done()

    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(poll)
        try:
            until = time.monotonic() + 2
            while time.monotonic() < until and lock._real is real:
                if lock.acquire(blocking=False):
                    lock.release()
        finally:
            over.set()
    assert lock._real is real


def test_who_tells_and_is_replaced_while_it_does_not_hang_loses_nothing(
    computing_node: Nodes,
) -> None:
    """Found on reading again: its process stood still, say, and all of it went on at once."""
    main = AsyncMainNode("main", address=ANY_PORT)
    job = main.submit(JobDataType("a"))
    teller = main._deliveries._teller
    teller._replaced = True
    threading.Timer(0.2, lambda: computing_node(main)).start()
    assert wait([job], SECONDS).done
    teller.join(SECONDS)
    assert not teller.is_alive()
    main._deliveries._teller = type(teller)("main", main._deliveries, main._deliveries._results)
    main._deliveries._teller.start()
    begun = time.monotonic()
    main.close()
    assert time.monotonic() - begun < SECONDS
