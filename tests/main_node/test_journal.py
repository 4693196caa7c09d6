"""A main node with a memory: what it keeps, what it refuses, and how it goes on."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from computing_node import AsyncComputingNode
from learning import DamagedFile
from main_node import AsyncMainNode, JobFailed
from main_node.errors import ConfigError, RefusedSolution, StorageError
from main_node.store.database import RunDatabase
from main_node.store.directory import Kept, RunDirectory
from main_node.store.memory import LIFE, Expected, RunMemory
from protocol import JobDataType, JobSolutionDataType
from protocol.machine.effects import Effect, Offered
from protocol.machine.ledger import first_task

from ..conftest import ANY_PORT, upper

SECONDS = 20


class Memory:
    """A journal in memory, which may be told to fail."""

    main = "main.remembered"

    def __init__(self) -> None:
        self.first_task = 1
        self.tasks: dict[int, tuple[int, str]] = {}
        self.names: dict[str, int] = {}
        self.kept: dict[int, str] = {}
        self.broken: Exception | None = None

    def number(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names) + 1)

    def note(self, effects: Sequence[Effect]) -> None:
        if self.broken:
            raise self.broken
        for effect in effects:
            if isinstance(effect, Offered):
                self.tasks[effect.task] = (effect.job, effect.node)

    def keep(self, job: int, solution: JobSolutionDataType, node: str) -> JobSolutionDataType:
        if solution.to_string() == "BAD":
            raise RefusedSolution("it is bad")
        self.kept[job] = solution.to_string()
        return JobSolutionDataType(b"light")


Nodes = Callable[..., AsyncComputingNode]


def test_what_is_handed_over_is_what_the_journal_says(computing_node: Nodes) -> None:
    memory = Memory()
    with AsyncMainNode("main", address=ANY_PORT, journal=memory) as main:
        computing_node(main)
        future = main.submit(JobDataType("good"), "first")
        assert future.result(SECONDS).to_string() == "light"
        assert memory.kept == {1: "GOOD"}
        with pytest.raises(JobFailed, match=r"second failed for good after 3 .*unfit: it is bad"):
            main.submit(JobDataType("bad"), "second").result(SECONDS)


def test_a_main_node_goes_on_with_its_journal(computing_node: Nodes) -> None:
    """The node works on while there is no main node, and its job is not begun again."""
    begun: list[int] = []
    go_on = threading.Event()

    def slow(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        begun.append(task_id)
        assert go_on.wait(SECONDS)
        return upper(job, task_id, client_id)

    memory = Memory()
    first = AsyncMainNode("main", address=ANY_PORT, journal=memory)
    address = first.address
    node = computing_node(first, callback=slow)
    lost = first.submit(JobDataType("job"), "job")
    while not begun:
        first.view()
    first.close(dismiss=False)
    assert lost.exception() is not None
    memory.first_task = 1 << 32
    with AsyncMainNode("main", address=address, journal=memory) as second:
        assert second.get_id() == first.get_id()
        future = second.submit(JobDataType("job"), "job")
        second.wait_for_nodes(1, SECONDS)
        go_on.set()
        future.result(SECONDS)
        assert future.server_id == node.get_id()
    assert len(begun) == 1
    assert memory.kept == {1: "JOB"}


def test_a_journal_that_fails_ends_its_main_node_whether_somebody_waits_or_not(
    computing_node: Nodes,
) -> None:
    memory = Memory()
    memory.broken = StorageError("the disk is gone")
    with AsyncMainNode("main", address=ANY_PORT, journal=memory) as main:
        computing_node(main)
        with pytest.raises(StorageError, match="the disk is gone"):
            main.wait_for_nodes(2, SECONDS)
        with pytest.raises(StorageError, match="the disk is gone"):
            main.submit(JobDataType("late"), "late")
        with pytest.raises(StorageError, match="the disk is gone"):
            main.view()


def test_a_name_is_for_one_job_at_a_time() -> None:
    with AsyncMainNode("main", address=ANY_PORT, journal=Memory()) as main:
        main.submit(JobDataType("a"), "same")
        with pytest.raises(ConfigError, match="job 'same' is submitted already"):
            main.submit(JobDataType("a"), "same")


# The journal of a training run.


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.make(tmp_path)


def remember(directory: RunDirectory) -> tuple[RunMemory, RunDatabase]:
    database = RunDatabase(directory.path / "run.db")
    memory = RunMemory(directory, database)
    memory.begin()
    return memory, database


def never(solution: JobSolutionDataType) -> None:
    return


WORK = Expected("work", lambda: "", never)


def test_a_memory_is_the_same_in_every_life(directory: RunDirectory) -> None:
    memory, database = remember(directory)
    memory.expect({"a": WORK, "b": WORK})
    numbers = [memory.number(name) for name in ("a", "b")]
    memory.note([Offered(5, numbers[0], "n1"), Offered(6, numbers[1], "n2")])
    memory.keep(numbers[0], JobSolutionDataType(b"", {"loss": 1.0}), "node.n1")
    first = memory.first_task
    assert first == first_task(memory.main)
    database.close()
    again, database = remember(directory)
    assert again.main == memory.main
    assert again.starts == 2
    assert again.first_task == first + LIFE
    assert again.tasks == {6: (numbers[1], "n2")}  # a's is solved
    again.expect({"c": WORK, "a": WORK})
    assert again.number("a") == numbers[0]
    assert again.number("c") not in numbers
    assert again.solution("a").values == {"loss": 1.0}
    database.close()


def test_a_solution_is_known_again_by_what_the_first_release_called_its_job(
    directory: RunDirectory,
) -> None:
    directory.write_solution("a", "old", Kept("node", {}, {}))
    memory, database = remember(directory)
    for work, first, good in (
        ("new", "old", True), ("old", "", True), ("new", "other", False), ("new", "", False),
    ):  # fmt: skip
        memory.expect({"a": Expected(work, lambda first=first: first, never)})  # type: ignore[misc]
        if good:
            assert memory.solution("a").node == "node"
        else:
            with pytest.raises(DamagedFile, match="the solution of another job than this run's"):
                memory.solution("a")
    database.close()


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", {"x": b"\0"}),
        ({"__metadata__": __import__("numpy").zeros(1)}, {}),
        ({"x": __import__("numpy").zeros(1, "complex128")}, {}),
    ],
)
def test_what_can_not_be_written_is_no_solution(
    directory: RunDirectory, data: Mapping[str, object], values: dict[str, object]
) -> None:
    """Found in review: such a solution ended the run, or could not be read again."""
    memory, database = remember(directory)
    memory.expect({"a": WORK})
    solution = JobSolutionDataType(data, values)  # type: ignore[arg-type]
    with pytest.raises(RefusedSolution, match="can't be written"):
        memory.keep(1, solution, "liar")
    assert directory.empty
    database.close()


def test_too_many_open_files_is_no_reason_to_end_a_run(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, database = remember(directory)
    memory.expect({"a": WORK})
    tries = []
    real = os.open

    def scarce(*arguments: object, **more: object) -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("learning.durable.os.open", scarce)
    memory.keep(1, JobSolutionDataType(b"", {}), "node")
    monkeypatch.undo()
    assert memory.has("a")
    database.close()


def test_an_interrupt_in_the_middle_of_a_write_leaves_the_database_usable(
    directory: RunDirectory,
) -> None:
    database = RunDatabase(directory.path / "run.db")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), database._writing() as connection:
            connection.execute("INSERT INTO jobs (id, name) VALUES (1, 'a')")
            raise KeyboardInterrupt
    database.state(ending="interrupted")
    assert database.fact("ending") == "interrupted"
    assert database.jobs() == {}
    database.close()
