"""Urgent jobs, jobs that are not kept, and sources that can't be reached, on real sockets."""

from __future__ import annotations

import os
import queue
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from computing_node import AsyncComputingNode, SourceUnreachable
from main_node import AsyncMainNode, ConfigError, JobFailed, SolutionListener
from main_node.futures import JobFuture
from main_node.store.database import RunDatabase
from main_node.store.directory import RunDirectory
from main_node.store.memory import Expected, RunMemory
from protocol import JobDataType, JobSolutionDataType, LocalProtocolError
from protocol.machine.ledger import JobState

from .conftest import ANY_PORT, Heard, upper

Mains = Callable[..., AsyncMainNode]
Nodes = Callable[..., AsyncComputingNode]
SECONDS = 20
#: An urgent job and what a thousand others are worth, on however slow a machine.
SLOW_JOBS = 1000


class Gate:
    """A replier whose jobs go on one by one, as they are let; all but the urgent ones."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._go_on = threading.Semaphore(0)
        self._open = False

    def __call__(self, job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        text = job.to_string()
        self.begun.put(text)
        if text.startswith("slow") and not self._open:
            assert self._go_on.acquire(timeout=SECONDS)
        return upper(job, task_id, client_id)

    def let(self, jobs: int = 1) -> None:
        """Let so many slow jobs go on."""
        self._go_on.release(jobs)

    def open(self) -> None:
        """Let all go on from now on."""
        self._open = True
        self.let(SLOW_JOBS)


def given(main: AsyncMainNode, future: JobFuture) -> bool:
    """Whether a node has a job in hand."""
    jobs = main._router.dispatcher._ledger.jobs
    return main._router.call(lambda: jobs[future.job_id].state is JobState.RUNNING)


@pytest.mark.parametrize("tasks", [1, 3])
def test_an_urgent_job_among_a_thousand_slow_ones_is_the_next_to_be_answered(
    main_node: Mains, computing_node: Nodes, tasks: int
) -> None:
    """Every place is taken, and another slow job waits at the node: the urgent one overtakes it."""
    main, gate = main_node(), Gate()
    slow = [main.submit(JobDataType(f"slow {n}")) for n in range(SLOW_JOBS)]
    computing_node(main, callback=gate, tasks=tasks)
    begun = [gate.begun.get(timeout=SECONDS) for _ in range(tasks)]
    assert begun == [f"slow {n}" for n in range(tasks)]
    while main.view().nodes[0].waiting != 1:
        pass
    urgent = main.submit(JobDataType("urgent", priority=1))
    later = main.submit(JobDataType("slow, but less than others", priority=-1))
    while not given(main, urgent):  # the node has given back what waited
        pass
    gate.let()
    assert urgent.result(SECONDS).to_string() == "URGENT"
    assert gate.begun.get(timeout=SECONDS) == "urgent"
    assert sum(future.done() for future in slow) <= 1
    gate.open()
    assert {future.result(SECONDS).to_string()[:4] for future in slow} == {"SLOW"}
    assert later.result(SECONDS)


def test_what_a_node_holds_is_run_by_priority(main_node: Mains, computing_node: Nodes) -> None:
    main, gate = main_node(), Gate()
    computing_node(main, callback=gate, tasks=1)
    for number in range(3):  # then it may hold some
        main.submit(JobDataType(str(number))).result(SECONDS)
        assert gate.begun.get(timeout=SECONDS) == str(number)
    first = main.submit(JobDataType("slow"))
    assert gate.begun.get(timeout=SECONDS) == "slow"
    names = [("c", -7), ("b", 0), ("a", 99), ("d", -99)]
    futures = [main.submit(JobDataType(name, priority=priority)) for name, priority in names]
    while not any(given(main, future) for future in futures):
        pass
    gate.open()
    assert [gate.begun.get(timeout=SECONDS) for _ in names] == ["a", "b", "c", "d"]
    assert first.result(SECONDS)
    assert {future.result(SECONDS).to_string() for future in futures} == {*"ABCD"}


def test_no_main_node_overtakes_another_by_its_priorities(
    main_node: Mains, computing_node: Nodes
) -> None:
    """What is urgent to one is not to all who share a node."""
    one, other, gate = main_node("one"), main_node("other"), Gate()
    node = computing_node(one, other, callback=gate, tasks=1)
    one.submit(JobDataType("slow 1"))
    assert gate.begun.get(timeout=SECONDS) == "slow 1"
    patient = one.submit(JobDataType("patient"))
    while node._dealer.call(lambda: len(node._dealer._at_work)) < 2:  # it has come
        pass
    urgent = other.submit(JobDataType("urgent", priority=100))
    while node._dealer.call(lambda: len(node._dealer._at_work)) < 3:
        pass
    gate.let()
    assert [gate.begun.get(timeout=SECONDS) for _ in range(2)] == ["patient", "urgent"]
    assert patient.result(SECONDS)
    assert urgent.result(SECONDS)


# Jobs that are not kept.


def files(folder: Path) -> dict[str, bytes]:
    """Return every file of a run but its database, by name."""
    found = (path for path in folder.rglob("*") if path.is_file() and "run.db" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def noted(run: Path) -> int:
    """Return of how many tasks a run's database knows."""
    with closing(sqlite3.connect(run / "run.db")) as database:
        return int(database.execute("SELECT count(*) FROM tasks").fetchone()[0])


def never(solution: JobSolutionDataType) -> None:
    return


def test_of_a_job_that_is_not_kept_nothing_is_written(
    tmp_path: Path, computing_node: Nodes
) -> None:
    def solve(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        if job.to_string() == "bad":
            raise ValueError("no")
        return upper(job, task_id, client_id)

    directory = RunDirectory.make(tmp_path)
    database = RunDatabase(directory.path / "run.db")
    memory = RunMemory(directory, database)
    memory.begin()
    memory.expect({"kept": Expected("work", str, never)})
    with AsyncMainNode("main", address=ANY_PORT, journal=memory, max_attempts=1) as main:
        computing_node(main, callback=solve)
        main.wait_for_nodes(1, SECONDS)
        before = files(directory.path)
        futures = [main.submit(JobDataType(f"job {n}", kept=False)) for n in range(50)]
        assert [f.result(SECONDS).to_string() for f in futures] == [f"JOB {n}" for n in range(50)]
        with pytest.raises(JobFailed, match="ValueError: no"):
            main.submit(JobDataType("bad", kept=False), "of any name").result(SECONDS)
        assert files(directory.path) == before
        assert database.tasks() == {}
        assert database.failed_attempts() == 0
        kept = main.submit(JobDataType("kept"), "kept")
        assert kept.result(SECONDS).to_bytes() == b""  # it is on disk
    assert set(files(directory.path)) - set(before) == {"solutions/kept.safetensors"}
    database.close()


def test_with_a_journal_a_listener_hears_of_what_is_not_kept(computing_node: Nodes) -> None:
    from .main_node.test_journal import Memory

    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    with AsyncMainNode(
        "main", address=ANY_PORT, journal=Memory(),
        callback=lambda solution, task, node: heard.put(solution.to_string()),
    ) as main:  # fmt: skip
        computing_node(main)
        main.request_job_solution(JobDataType("quick", kept=False))
        assert heard.get(timeout=SECONDS) == "QUICK"
        with pytest.raises(ConfigError, match="jobs have names"):
            main.request_job_solution(JobDataType("kept"))


def test_a_main_node_that_is_killed_goes_on_without_what_is_not_kept(
    program: Callable[..., subprocess.Popen[str]], tmp_path: Path, computing_node: Nodes
) -> None:
    """Its node still holds the job that is not kept: the next life has it dropped."""
    first = program("unkept.py", str(tmp_path), "main")
    assert first.stdout is not None
    address = first.stdout.readline().split()[1]
    begun: queue.SimpleQueue[str] = queue.SimpleQueue()
    let_go = threading.Event()

    def solve(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        begun.put(job.to_string())
        assert let_go.wait(SECONDS)
        return upper(job, task_id, client_id)

    node = AsyncComputingNode("node", callback=solve, address=address, tasks=2)
    node.run()
    try:
        assert {begun.get(timeout=SECONDS) for _ in range(2)} == {"kept", "not kept"}
        (run,) = tmp_path.iterdir()
        while not noted(run):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        second = program("unkept.py", str(tmp_path), "main", address)
        assert second.stdout is not None
        assert second.stdout.readline().split()[1] == address
        assert second.stdout.readline() == "node is here\n"
        let_go.set()
        lines = [second.stdout.readline() for _ in range(2)]
        assert lines == ["solved kept\n", "open 0\n"]
    finally:
        let_go.set()
        node.stop()
    with closing(sqlite3.connect(run / "run.db")) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    assert begun.empty()  # neither of them was begun again
    assert not list(tmp_path.rglob("*not*"))


# Sources.


def lacking(*sources: str) -> Callable[..., JobSolutionDataType]:
    """Return a callback of a node that can't reach some sources."""

    def solve(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        source = job.parameters["source"]
        if source in sources:
            raise SourceUnreachable(source, "no route to host")
        return JobSolutionDataType(f"read {source}")

    return solve


def need(source: str, **how: object) -> JobDataType:
    return JobDataType("x", {"source": source}, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("declared", [(), ("nfs",)])
def test_what_one_node_can_not_reach_the_other_does_and_no_attempt_is_counted(
    main_node: Mains, computing_node: Nodes, heard: Heard, declared: tuple[str, ...]
) -> None:
    main = main_node(max_attempts=1)
    computing_node(main, name="far", callback=lacking("nfs"))
    main.wait_for_nodes(1, SECONDS)
    first = main.submit(need("nfs", sources=declared))
    heard.event(
        "node.unreachable", node=lambda node: node.startswith("far."), source="nfs",
        reason="no route to host",
    )  # fmt: skip
    near = computing_node(main, name="near", callback=lacking("s3"))
    assert first.result(SECONDS).to_string() == "read nfs"
    assert first.server_id == near.get_id()
    futures = [main.submit(need("nfs", sources=("nfs",))) for _ in range(20)]
    futures += [main.submit(need("s3", sources=declared and ("s3",))) for _ in range(20)]
    for future in futures:
        future.result(SECONDS)
    assert {future.server_id for future in futures[:20]} == {near.get_id()}
    view = main.view()
    assert (view.retries, view.failed) == (0, 0)
    assert not any(node.benched for node in view.nodes)


def test_what_nobody_can_reach_is_told_and_waits_for_one_that_can(
    main_node: Mains, computing_node: Nodes, heard: Heard
) -> None:
    told: queue.SimpleQueue[tuple[JobFuture, str, str]] = queue.SimpleQueue()
    main = main_node(max_attempts=1)
    nodes = [computing_node(main, name=name, callback=lacking("nfs")) for name in ("a", "b")]
    main.wait_for_nodes(2, SECONDS)
    future = main.submit(need("nfs"), "job", lambda *all_of_it: told.put(all_of_it))
    assert told.get(timeout=SECONDS) == (future, "nfs", "no route to host")
    stranded = heard.event("job.stranded", job="job", source="nfs", reason="no route to host")
    assert "can reach it" in stranded["says"]
    assert main.submit(need("web")).result(SECONDS)  # others go on
    assert not future.done()
    assert "can't reach nfs (no route to host); nor can another" in main.view().misfit
    with pytest.raises(TimeoutError, match=r"can't reach nfs \(no route to host\)"):
        future.result(0.01)
    able = computing_node(main, name="c", callback=lacking())
    assert future.result(SECONDS).to_string() == "read nfs"
    assert future.server_id == able.get_id()
    assert told.empty()
    assert not main.view().misfit
    assert main.view().retries == 0
    assert len(nodes) == 2


def test_what_nobody_can_reach_is_solved_by_value_under_the_same_name(
    main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    computing_node(main, callback=lacking("nfs"))

    def fall_back(future: JobFuture, source: str, reason: str) -> None:
        main.replace(future, need("its value", kept=True))

    future = main.submit(need("nfs", sources=("nfs",)), "job", fall_back)
    assert future.result(SECONDS).to_string() == "read its value"
    main.replace(future, need("late"))  # is solved: nothing happens
    with pytest.raises(LocalProtocolError):
        main.replace(future, JobDataType("x", {"a": object()}))


def test_a_listener_hears_of_what_nobody_can_reach(main_node: Mains, computing_node: Nodes) -> None:
    told: queue.SimpleQueue[tuple[str, str, int]] = queue.SimpleQueue()

    class Listener(SolutionListener):
        def job_unreachable(self, source: str, reason: str, task_id: int) -> None:
            told.put((source, reason, task_id))

    main = main_node(listener=Listener())
    computing_node(main, callback=lacking("nfs"))
    task_id = main.request_job_solution(need("nfs"))
    assert told.get(timeout=SECONDS) == ("nfs", "no route to host", task_id)
