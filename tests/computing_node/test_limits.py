"""What a computing node's owner allows, and what a main node can't make it do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from computing_node import AsyncComputingNode, OverLimit, TaskCancelled
from computing_node import children as training
from computing_node.children import ChildReplier, TaskRaised
from computing_node.replier import Task
from learning import Turn, create, merging
from learning.actions import Fit, Trial
from main_node import AsyncMainNode, JobFailed
from protocol import JobDataType, JobSolutionDataType

from ..faults.conftest import first_of_all
from ..learning.common import carry, images
from ..processes import COMPUTE, Process, Start, forked, here, templates
from .common import bring, linear_fit

SECONDS = 60
COMPUTE_HERE = "computing_node.command:main"


def work(epochs: int = 1, rows: int = 64, **values: Any) -> tuple[dict[Any, Any], dict[str, Any]]:
    shard = images(rows)
    start = create("neural", {}).initial(shard.form)
    fit, arrays = carry(Fit(rows=shard, start=start, seed=1, turn=Turn()), {"epochs": epochs})
    return {**fit, **values}, arrays


def job(steps: int = 1, rows: int = 64) -> JobDataType:
    made, arrays = linear_fit(images(rows), steps)
    return JobDataType(arrays, made, kind="linear")


def task(steps: int = 1, rows: int = 64) -> Task:
    return begun(job(steps, rows))


def net_task(**values: Any) -> Task:
    made, arrays = work(**values)
    return begun(JobDataType(arrays, made, kind="neural"))


def begun(job: JobDataType) -> Task:
    made = Task((0, 1), job, 1, "main")
    assert made.begin()
    return made


def children(pid: int | None = None) -> list[int]:
    return [child.pid for child in forked(pid)]


@pytest.fixture
def replier() -> Iterator[Callable[..., ChildReplier]]:
    made: list[ChildReplier] = []

    def make(**options: Any) -> ChildReplier:
        made.append(ChildReplier(1, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def slow_start(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which a child takes three seconds to start."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if any('computing_node.template' in word for word in sys.orig_argv):\n"
        "    time.sleep(3)\n"
    )
    return first_of_all(tmp_path)


def test_a_cancelled_task_leaves_its_child_for_the_next(
    replier: Callable[..., ChildReplier],
) -> None:
    made = replier()
    made.solve(task())
    before = children()
    long = task(steps=100_000)
    threading.Timer(0.5, long.cancel).start()
    with pytest.raises(TaskCancelled):
        made.solve(long)
    assert made.solve(task()).arrays
    assert children() == before


def test_a_task_that_is_cancelled_while_its_child_prepares_leaves_it_alone(
    replier: Callable[..., ChildReplier],
) -> None:
    made = replier()
    made.prepare(("linear",))
    (template,) = templates()
    early = task()
    early.on_cancel(lambda: None)
    early.cancel()
    with pytest.raises(TaskCancelled):
        made.make_ready(early)
    (child,) = children()
    assert made.solve(task()).arrays
    assert (templates(), children()) == ([template], [child])


def test_a_job_that_wants_too_much_memory_fails_in_words_and_the_next_is_solved(
    replier: Callable[..., ChildReplier],
) -> None:
    made = replier(max_bytes=256 << 20)
    trial = Trial(rows=images(16, 2_000_000), turn=Turn(), strategy=merging.create("mean", {}))
    values, arrays = carry(trial, {})
    large = Task((0, 1), JobDataType(arrays, values, kind="neural"), 1, "main")
    assert large.begin()
    with pytest.raises(OverLimit, match="it wants more memory than it may have"):
        made.solve(large)
    assert made.solve(net_task()).arrays


def form(classes: object) -> dict[Any, Any]:
    return {"form": {"fields": {"image": ["uint8", [28, 28]]}, "classes": classes}}


@pytest.mark.parametrize(
    "values",
    [
        {"make": {1: 2}}, {"make": {"epochs": -1}}, {"make": {"batch_size": 0}},
        {"make": {"batch_size": -1}}, {"make": {"lr": float("nan")}}, {"make": {"threads": 10**6}},
        {"turn": {"rounds": 0}}, {"turn": {"round": 3, "rounds": 3}}, {"make": None},
        {"make": {"epochs": "x"}}, {"turn": {"initial_seed": -1}}, {"turn": None}, {"turn": {1: 2}},
        form(0), form("x"), form(5), form(1 << 40), form(True), {1: 2, **form(-1)}, {"form": None},
        {"form": []}, {"seed": -1}, {"seed": "x"}, {"action": ["fit"]}, {"merge": 1}, {"merge": {}},
        {"merge": {"name": "mean", "made": []}}, {"merge": {"name": ["x"], "made": {}}},
        {"merge": {"name": "mean", "made": {"x": 1}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_parameter_is_a_failed_task(values: dict[Any, Any]) -> None:
    made, arrays = work()
    bad = Task((0, 1), JobDataType(arrays, kind="neural"), 1, "main")
    bad.job.fields = {**made, **values}
    with pytest.raises(TaskRaised):
        one_replier().solve(bad)
    assert one_replier().solve(net_task()).arrays


_REPLIER: list[ChildReplier] = []


def one_replier() -> ChildReplier:
    """Return a replier that all parameters are tried at: it takes a second to start."""
    if not _REPLIER:
        _REPLIER.append(ChildReplier(1))
    return _REPLIER[0]


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    yield
    for each in _REPLIER:
        each.close()


@pytest.mark.parametrize(
    "arrays",
    [
        {"row/image": np.zeros(5, np.uint8)}, {"row/image": np.zeros((64, 28, 28), np.complex128)},
        {"row/image": np.zeros((64, 28, 27), np.uint8)}, {"row/more": np.zeros(64)},
        {"label": np.zeros(64)}, {"label": np.full(64, 99)}, {"label": np.full(64, -1)},
        {"label": np.zeros(3, np.int64)}, {"label": np.zeros((64, 1), np.int64)},
    ],
    ids=str,
)  # fmt: skip
def test_arrays_that_are_no_shard_are_a_failed_task(arrays: dict[str, Any]) -> None:
    values, good = work()
    bad = Task((0, 1), JobDataType({**good, **arrays}, values, kind="neural"), 1, "main")
    with pytest.raises(TaskRaised, match=r"image|label|fields"):
        one_replier().solve(bad)


def test_a_node_whose_child_starts_slowly_solves_its_share(
    main_node: Callable[..., AsyncMainNode],
    start: Start,
    slow_start: dict[str, str],
) -> None:
    """Found in a red team's hands: its jobs were doubled, and its child killed while it started."""
    main = main_node(kinds=("linear",))
    connect = (*COMPUTE, "--connect", main.address, "--log-level", "error")
    start(*connect, "--name", "fast")
    slow: Process = start(*connect, "--name", "slow", env=slow_start)
    main.wait_for_nodes(2, SECONDS)
    while not (begun := templates(slow.popen.pid)):
        threading.Event().wait(0.02)
    solved: dict[str, int] = {"fast": 0, "slow": 0}
    while not all(solved.values()):  # on a busy machine the other may be slower still
        futures = [main.submit(job(rows=512)) for _ in range(4)]
        assert not wait(futures, SECONDS).not_done
        for future in futures:
            solved[future.server_id.split(".")[0]] += 1
    assert templates(slow.popen.pid) == begun
    assert len(children(slow.popen.pid)) == 1


def test_a_child_that_was_slow_to_start_has_as_long_to_stop(
    replier: Callable[..., ChildReplier],
    slow_start: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found under load: killed for two seconds of silence, and its start to do again.

    One that is forked is there again at once; so it is one that can't be.
    """
    monkeypatch.setenv("PYTHONPATH", slow_start["PYTHONPATH"])
    bring(tmp_path, "lone", LONE)
    others = templates()
    made = replier()
    made.prepare(("lone",))
    made.solve(lone_task())
    (child,) = set(templates()) - set(others)
    held = lone_task(steps=100_000)

    def hold() -> None:  # as where the system has other things to do
        child.suspend()
        held.cancel()
        threading.Timer(training.CANCEL_SECONDS + 0.5, child.resume).start()

    threading.Timer(0.5, hold).start()
    with pytest.raises(TaskCancelled):
        made.solve(held)
    assert child in templates()


LONE = """
from linear import LinearLearner


class Learner(LinearLearner):
    name = "lone"
    forks = False
"""


def lone_task(steps: int = 1) -> Task:
    made, arrays = linear_fit(images(64), steps)
    return begun(JobDataType(arrays, made, kind="lone"))


def test_a_job_that_runs_too_long_is_stopped_and_given_to_another(
    main_node: Callable[..., AsyncMainNode], start: Start
) -> None:
    main = main_node(kinds=("linear",), max_attempts=1000)  # it may be long until the other is here
    connect = (*COMPUTE, "--connect", main.address, "--log-level", "info")
    hasty = start(*connect, "--name", "hasty", "--max-job-seconds", "0.5")
    main.wait_for_nodes(1, SECONDS)
    future = main.submit(job(steps=10_000))
    hasty.event("task.failed", kind="limit")
    start(*connect, "--name", "patient")
    main.wait_for_nodes(2, SECONDS)
    while not any(n.name.startswith("patient") and n.running for n in main.view().nodes):
        threading.Event().wait(0.02)
    future.cancel()


def test_a_program_of_its_own_is_stopped_after_its_time_too(
    main_node: Callable[..., AsyncMainNode], computing_node: Callable[..., AsyncComputingNode]
) -> None:
    main = main_node(max_attempts=1)
    over = threading.Event()

    def long(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        over.wait(SECONDS)
        return JobSolutionDataType(b"")

    computing_node(main, callback=long, max_job_seconds=0.2)
    with pytest.raises(JobFailed, match=r"limit: this node stops jobs after 0.2 s"):
        main.submit(JobDataType(b"x")).result(SECONDS)
    over.set()


def test_jobs_of_kinds_that_a_node_does_not_take_go_to_others(
    main_node: Callable[..., AsyncMainNode], start: Start
) -> None:
    main = main_node(kinds=("linear",))
    connect = (*COMPUTE, "--connect", main.address, "--log-level", "error")
    picky = start(*connect, "--name", "picky", "--learners", "algebraic")
    main.wait_for_nodes(1, SECONDS)
    future = main.submit(job())
    start(*connect, "--name", "other")
    future.result(SECONDS)
    assert future.server_id.startswith("other")
    assert not templates(picky.popen.pid)  # nothing to prepare for


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-memory", "lots"], "'lots' is no size; one looks like 500MB or 4GB"),
        (["--max-memory", "3"], "too little"),
        (["--max-job-seconds", "0"], "0"),
        (["--learners", "psychic"], "no learner 'psychic'; there is neural, algebraic"),
    ],
)
def test_limits_that_can_not_be_are_told(arguments: list[str], words: str) -> None:
    done = here(COMPUTE_HERE, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_child_without_memory_to_say_so_is_a_job_over_its_limit(
    replier: Callable[..., ChildReplier], capfd: pytest.CaptureFixture[str]
) -> None:
    """Found by a user: tracebacks on a terminal, and no word of memory at the main node."""
    small = replier(max_bytes=12 << 20)
    for _ in range(2):
        with pytest.raises(OverLimit, match="more memory than it may have"):
            small.solve(net_task(rows=4000))
    assert "Traceback" not in capfd.readouterr().err


def test_who_waits_in_vain_is_told_why(
    main_node: Callable[..., AsyncMainNode], computing_node: Callable[..., AsyncComputingNode]
) -> None:
    main = main_node()
    future = main.submit(JobDataType("a" * (2 << 20)))
    with pytest.raises(TimeoutError, match="not solved after 0.1 s: no computing node is here"):
        future.result(0.1)
    computing_node(main, max_bytes=1 << 20)
    main.wait_for_nodes(1, SECONDS)
    with pytest.raises(TimeoutError, match="takes no job of more than 1,048,576 bytes"):
        future.result(0.5)
