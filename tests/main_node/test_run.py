"""A run as a program may have it: opened whole, told as events, ended early."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from computing_node import AsyncComputingNode
from learning import Diverged, learner
from learning.actions import Fit
from learning.model import load, sha256
from loaders import DataOptions, LoaderError, SourceOptions
from loaders.idx import read_labels
from main_node import AsyncMainNode, NoNode, StatusNode
from main_node.commands.options import TrainOptions
from main_node.options import JobOptions, ListenOptions
from main_node.run.evaluation import Evaluated
from main_node.run.events import (
    Ended,
    Event,
    JobFailed,
    JobSolved,
    Listeners,
    Noted,
    Opened,
    RoundEvaluated,
    RoundMerged,
    RoundWithdrawn,
    Warned,
)
from main_node.run.label import Label
from main_node.run.opening import Plan, open_run
from main_node.run.spec import CompanyOptions, MergeOptions, RunSpec
from main_node.store.database import RunDatabase, RunHistory
from main_node.store.directory import RunDirectory
from protocol import AddressError, JobDataType, JobSolutionDataType
from protocol.errors import ConfigError
from protocol.machine.limits import Limits, NodeLimits

from ..alone import Threads
from ..conftest import ANY_PORT, make_idx_folder, write_idx
from ..processes import PREDICT_HERE, here


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.all: list[Event] = []

    def on(self, event: Event) -> None:
        self.all.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.all if type(event) is kind]


def plan(folder: Path, data: Path, **options: Any) -> Plan:
    spec = TrainOptions.of(learner="linear", jobs=2, rounds=3).spec
    return Plan(
        spec=spec, source=SourceOptions(data=str(data)), runs=folder / "runs",
        listen=ListenOptions(bind=ANY_PORT), engine=Threads(1), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("data"), 400, 100)


def test_a_run_is_told_as_events(tmp_path: Path, data: Path) -> None:
    heard = Heard()
    run = open_run(plan(tmp_path, data), [heard])
    result = run.see_through()
    kinds = [type(event) for event in heard.all]
    assert kinds[0] is Opened
    assert kinds[-1] is Ended
    assert len(heard.of(JobSolved)) == 6
    assert [event.round for event in heard.of(RoundMerged)] == [0, 1, 2]  # type: ignore[attr-defined]
    told = sorted(event.round for event in heard.of(RoundEvaluated))  # type: ignore[attr-defined]
    assert told == [0, 1, 2]
    assert [event.at for event in heard.all] == sorted(event.at for event in heard.all)
    assert all(loss is not None and 0 < loss < 5 for loss in result.loss_by_round)
    assert result.loss_by_round[-1] < result.loss_by_round[0]  # type: ignore[operator]


def test_rounds_are_tried_on_rows_kept_aside_and_the_best_model_on_the_test_set(
    tmp_path: Path, data: Path
) -> None:
    (data / "t10k-labels-idx1-ubyte").rename(tmp_path / "labels")  # so that a test set is drawn
    try:
        heard, shape = Heard(), {"test_fraction": 0.25, "validation": 0.2, "contradictions": "drop"}
        spec = TrainOptions.of(
            learner="linear", jobs=2, rounds=3, sharding="dirichlet:0.5", shared_rows=0.1, **shape
        ).spec
        asked = replace(plan(tmp_path, data), spec=spec)
        result = open_run(asked, [heard]).see_through()
        again = open_run(asked).see_through()
    finally:
        (tmp_path / "labels").rename(data / "t10k-labels-idx1-ubyte")
    told = {(vars(each)["round"], vars(each)["on"]) for each in heard.of(RoundEvaluated)}
    best = result.model_round - 1
    assert told == {(0, "validation"), (1, "validation"), (2, "validation"), (best, "test")}
    tested = sum(map(sum, result.confusion))
    assert 90 <= tested <= 110
    assert 50 <= result.validation_rows <= 70
    assert result.data["rows"] == 400 - tested - result.validation_rows
    assert result.examples > result.data["rows"]  # some are in every shard
    assert len(result.accuracy_by_round) == 3
    assert again.model_sha256 == result.model_sha256
    predicted = here(PREDICT_HERE, result.model, "--data", str(data), "--split", "test", "--json")
    assert json.loads(predicted.stdout)["examples"] == 100  # the data's own is there again


def test_a_run_that_ends_early_leaves_no_trace_of_what_had_begun(
    tmp_path: Path, data: Path
) -> None:
    """As one that has a goal: the jobs of the next round are on their way by then."""

    asked = []

    def is_over(round_: int, evaluated: Evaluated) -> bool:
        asked.append(round_)
        return round_ == 1 and evaluated.scores.accuracy >= 0

    whole, heard = open_run(plan(tmp_path / "whole", data)).see_through(), Heard()
    run = open_run(plan(tmp_path / "early", data, is_over=is_over), [heard])
    early = run.see_through()
    assert early.rounds == 2
    assert early.accuracy_by_round == whole.accuracy_by_round[:2]
    assert sum(early.nodes.values()) == 4
    assert (early.retries, early.left_out) == (0, [])
    second = load(Path(whole.model).parent / "models" / "round-002.safetensors")
    assert early.model_sha256 == sha256(second.arrays)
    names = {path.stem for path in (run.directory.path / "solutions").iterdir()}
    assert not {name for name in names if name.startswith("round-003")}
    with closing(sqlite3.connect(run.directory.path / "run.db")) as database:
        told = [
            row
            for table in ("jobs", "events")
            for row in database.execute(f"SELECT * FROM {table}")
        ]
        orphans = "SELECT * FROM tasks WHERE job NOT IN (SELECT id FROM jobs)"
        assert not database.execute(orphans).fetchall()
    assert "round-002" in str(told)
    assert "round-003" not in str(told)
    assert asked == [0, 1]
    assert [vars(event)["round"] for event in heard.of(RoundWithdrawn)] == [2]


class _Odd(Exception):
    def __repr__(self) -> str:
        raise ValueError("no words")


@dataclasses.dataclass
class _Failing:
    """A listener; all of them are equal."""

    raises: BaseException = dataclasses.field(compare=False)

    def on(self, event: Event) -> None:
        raise self.raises


def test_listeners_that_fail_are_dropped_and_nobody_else() -> None:
    """Found in review: two that failed at once ended the run, and one took its equal with it."""
    first, last = Heard(), Heard()
    failing = [_Failing(RuntimeError("no")), _Failing(_Odd()), _Failing(SystemExit(3))]
    listeners = Listeners([first, *failing, last])
    listeners.note("one")
    listeners.tell(Ended(ending="done"))
    for heard in (first, last):
        kinds = [type(event).__name__ for event in heard.all]
        assert kinds == ["Noted", "Warned", "Warned", "Warned", "Ended"]
    assert "_Failing is told no more: it raised RuntimeError('no')" in str(first.all[1])


@pytest.mark.parametrize("partial", [False, True])
def test_what_fails_in_a_round_that_never_was_fails_no_run(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, partial: bool
) -> None:
    """Found in review: a job of the next round that failed first ended the run, or was told."""

    def refuse(self: Fit, *answer: Any) -> Any:
        if self.turn.round == 1:
            raise Diverged("none of the second round will do")
        return read(self, *answer)

    read = Fit.read
    monkeypatch.setattr(Fit, "read", refuse)
    options = plan(
        tmp_path, data, is_over=lambda round_, evaluated: True, job=JobOptions(max_attempts=1),
        merge=MergeOptions(partial=partial),
    )  # fmt: skip
    heard = Heard()
    result = open_run(options, [heard]).see_through()
    assert result.rounds == 1
    assert result.left_out == []
    assert not heard.of(JobFailed)


def test_a_loss_that_is_not_finite_is_a_shortcoming(
    tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = open_run(plan(tmp_path, idx_folder)).see_through()
    assert learned.shortcoming == ""
    kind: Any = learner("linear")
    evaluate = kind.evaluate
    monkeypatch.setattr(kind, "evaluate", lambda *about: (evaluate(*about)[0], math.inf))
    result = open_run(plan(tmp_path, idx_folder)).see_through()
    assert result.shortcoming == "its loss on the test images is not finite"
    assert result.accuracy == learned.accuracy
    assert Path(result.model).exists()
    facts = RunHistory(Path(result.model).with_name("run.db")).facts
    assert facts["shortcoming"] == result.shortcoming


@pytest.mark.parametrize(("train", "test"), [(11, 12), (12, 11)])
def test_a_test_set_may_have_other_classes(tmp_path: Path, train: int, test: int) -> None:
    """Found in review: a loss of classes that no model knew, or answers that no test set had.

    Classes are those of both; a model knows of all.
    """
    folder = make_idx_folder(tmp_path / "data", 400, 100)
    for split, classes in (("train", train), ("t10k", test)):
        path = folder / f"{split}-labels-idx1-ubyte"
        labels = read_labels(path)
        labels[0] = classes - 1
        write_idx(path, labels)
    result = open_run(plan(tmp_path, folder)).see_through()
    assert result.accuracy > 0.1
    assert all(loss is not None for loss in result.loss_by_round)
    assert len(result.confusion) == max(train, test)
    assert result.classes == [str(number) for number in range(max(train, test))]


def test_a_run_that_breaks_while_it_is_made_holds_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its address nor its directory."""

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("main_node.run.opening.Rounds", broken)
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        open_run(plan(tmp_path, data))
    assert threading.active_count() == threads
    assert not (tmp_path / "runs").exists()


def test_the_end_is_told_whatever_breaks_at_the_end(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    run = open_run(plan(tmp_path, data), [heard])

    def broken(self: Threads) -> None:
        stop(self)
        raise OSError("no")

    stop = Threads.stop
    monkeypatch.setattr(Threads, "stop", broken)
    with pytest.raises(OSError, match="no"):
        run.see_through()
    assert [event.ending for event in heard.of(Ended)] == ["done"]  # type: ignore[attr-defined]


def test_a_run_that_can_not_be_opened_leaves_nothing(tmp_path: Path, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        blocked = dataclasses.replace(plan(tmp_path, data), listen=ListenOptions(bind=bind))
        with pytest.raises(AddressError):
            open_run(blocked)
    with pytest.raises(LoaderError):
        open_run(plan(tmp_path, tmp_path / "nowhere"))
    assert not (tmp_path / "runs").exists()


def _open() -> set[tuple[str, str]]:
    """Return what this process has open."""
    files = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the folder itself
            files.add((path.name, str(path.readlink())))
    return files


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, data: Path) -> None:
    """See a run through, so that what is made once in a process is there."""
    open_run(plan(tmp_path_factory.mktemp("warm"), data)).see_through()


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("nth", range(1, 6))
@pytest.mark.parametrize("what", ["thread", "socket"])
def test_a_main_node_that_can_not_be_made_holds_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, what: str, nth: int
) -> None:
    """Found in review: its port was taken from then on, or the process could not end."""
    place, name, error = {
        "thread": (threading.Thread, "start", RuntimeError("can't start new thread")),
        "socket": (zmq.Context, "socket", zmq.ZMQError(24)),
    }[what]
    counted, act = itertools.count(1), getattr(place, name)

    def fails(*arguments: Any, **more: Any) -> Any:
        if next(counted) == nth:
            raise error
        return act(*arguments, **more)

    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    blocked = dataclasses.replace(plan(tmp_path, data), listen=ListenOptions(bind=bind))
    held, threads = _open(), threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fails)
        try:
            opened = open_run(blocked)
        except (RuntimeError, zmq.ZMQError) as raised:
            assert raised is error
        else:  # it takes fewer of them than that
            opened._close("", True, True)
    assert not (tmp_path / "runs").exists()
    assert threading.active_count() == threads
    assert _open() - held == set()
    with AsyncMainNode("again", address=bind):
        pass


def test_a_start_that_could_not_listen_is_none(tmp_path: Path, data: Path) -> None:
    """Found in review: a run that was to go on at a port that is taken counted one more start."""
    result = open_run(plan(tmp_path, data)).see_through()
    path = Path(result.model).parent
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        blocked = dataclasses.replace(plan(tmp_path, data), listen=ListenOptions(bind=bind))
        with pytest.raises(AddressError):
            open_run(blocked, directory=RunDirectory(path, new=False))
    with closing(RunDatabase(path / "run.db")) as database:
        assert database.fact("starts") == "1"
        assert database.fact("ending") == "done"


def _nothing(job: JobDataType, task_id: int, main: str) -> JobSolutionDataType:
    return JobSolutionDataType(b"")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(heartbeat_seconds=math.nan), lambda: Limits(dead_seconds=-1),
        lambda: Limits(max_attempts=0), lambda: NodeLimits(max_jobs=0),
        lambda: NodeLimits(cache_bytes=-5), lambda: DataOptions(jobs=0),
        lambda: DataOptions(sharding="stripes"), lambda: MergeOptions(count="zz"),
        lambda: AsyncMainNode("m", address=ANY_PORT, heartbeat_seconds="1"),  # type: ignore[arg-type]
        lambda: AsyncMainNode("m", address=ANY_PORT, kinds="neural"),  # type: ignore[arg-type]
        lambda: AsyncMainNode("m", "x", address=ANY_PORT),  # type: ignore[arg-type]
        lambda: AsyncComputingNode("c", callback=_nothing, max_jobs=-2),
        lambda: AsyncComputingNode("c", callback=_nothing, max_bytes=-1),
        lambda: StatusNode("s", -1),
    ],
)  # fmt: skip
def test_a_value_that_can_not_be_is_refused_where_it_is_given(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_a_listener_that_fails_is_told_no_more_and_ends_nothing() -> None:
    class Fails:
        def on(self, event: Event) -> None:
            raise ValueError("no")

    heard = Heard()
    listeners = Listeners([Fails(), heard])
    listeners.note("a")
    listeners.note("b")
    assert [event.text for event in heard.of(Noted)] == ["a", "b"]  # type: ignore[attr-defined]
    (warned,) = heard.of(Warned)
    assert "Fails is told no more: it raised ValueError('no')" in warned.text  # type: ignore[attr-defined]


def test_events_can_not_be_changed() -> None:
    event = Noted(text="a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.text = "b"  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["job", "test", "trial", "count"])
@pytest.mark.parametrize("part", [1, 9, 12_345])
def test_a_label_is_read_as_it_is_written(kind: str, part: int) -> None:
    label = Label(11, kind, part)
    assert Label.parse(label.name) == label
    assert label.title == f"round 12 {kind} {part}"


@pytest.mark.parametrize(
    "name", ["", "round-001-job", "round-000-job-0001", "round-001-j4b-0001", "round-001--0001"]
)
def test_what_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no job's name"):
        Label.parse(name)


def test_labels_are_those_of_earlier_releases() -> None:
    assert Label(1, "job", 5).name == "round-002-job-0005"
    assert Label(0, "count", 5).name == "round-001-count-0005"
    assert Label(0, "test", 3).name == "round-001-test-3"
    assert Label(0, "trial", 1).name == "round-001-trial-1"


def test_what_shapes_a_run_is_known_again_from_an_earlier_release() -> None:
    """Then the options of every learner stood there, used or not."""
    spec = TrainOptions.of(jobs=7).spec
    assert spec.is_that_of(spec.text())
    old = (
        '{"batch_size": 16, "batches": 30, "epochs": 3, "jobs": 7, "learner": "neural", "levels":'
        ' 1, "limit": null, "lr": 0.02, "rounds": 5, "seed": 0, "sharding": "disjoint", "shifts":'
        ' 1, "target_digit": null, "threads": 1}'
    )
    assert not spec.as_begun(old).is_that_of(old)  # it is of another preset
    spec = TrainOptions.of(jobs=7, preset="first").spec.as_begun(old)
    assert (spec.made.epochs, spec.made.lr, spec.made.width, spec.rounds) == (3, 0.02, None, 5)
    assert spec.is_that_of(old)
    other = RunSpec(
        data=DataOptions(jobs=8),
        learner=spec.learner,
        made=spec.made,
        merge=spec.merge,
        plan=spec.plan,
    )
    assert not other.is_that_of(old)
    several = TrainOptions.of(jobs=7, leave_out=("id", "name")).spec  # JSON has a list of them
    assert several.is_that_of(several.text())
    assert not several.is_that_of(old)
    assert RunSpec.of(json.loads(several.text())) == several
    assert not TrainOptions.of(jobs=7, merge="scaffold").spec.is_that_of(old)  # it had the mean
    assert not spec.is_that_of("[]")
    assert not spec.is_that_of("{")


@pytest.fixture
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the linear learner say that it computes on GPUs, too."""
    monkeypatch.setattr(learner("linear"), "devices", ("cpu", "cuda"))


@pytest.mark.usefixtures("any_device")
@pytest.mark.parametrize(
    ("accelerators", "wanted", "kinds"),
    [
        (("cuda: one", "cuda: one"), "auto", {"cuda: one"}),
        (("cuda: one", ""), "cpu", {"cpu"}),
        (("cuda: one", "cpu"), "cuda", {"cuda: one"}),
        (("cuda: one", ""), "auto", {"cuda: one", "cpu"}),
        (("cuda: one", "cuda: another"), "cuda", {"cuda: one", "cuda: another"}),
    ],
)
def test_a_run_keeps_what_its_jobs_ran_on_and_warns_where_that_differs(
    accelerators: tuple[str, ...], wanted: str, kinds: set[str], tmp_path: Path, data: Path
) -> None:
    heard = Heard()
    made = replace(
        plan(tmp_path, data), engine=Threads(2, accelerators=accelerators),
        company=CompanyOptions(min_nodes=2), job=JobOptions(device=wanted),
        spec=TrainOptions.of(learner="linear", jobs=8, rounds=2).spec,
    )  # fmt: skip
    result = open_run(made, [heard]).see_through()
    assert set(result.devices) == kinds
    assert len(result.devices) == len(kinds)
    told = [event.text for event in heard.of(Warned) if isinstance(event, Warned)]
    assert len(told) == (len(kinds) > 1)
    assert all(kind in text and "--device" in text for kind in kinds for text in told)
    (path,) = (tmp_path / "runs").iterdir()
    assert json.loads((path / "metrics.json").read_text())["devices"] == result.devices
    assert json.loads(RunHistory(path / "run.db").facts["devices"]) == result.devices


@pytest.mark.usefixtures("any_device")
def test_jobs_that_want_a_gpu_wait_for_one_and_that_is_told(tmp_path: Path, data: Path) -> None:
    heard = Heard()
    company = CompanyOptions(timeout_seconds=0.5)
    made = plan(tmp_path, data, job=JobOptions(device="cuda"), company=company)
    with pytest.raises(NoNode, match="has no cuda, only cpu after 0.5 s"):
        open_run(made, [heard]).see_through()
    (told,) = heard.of(Warned)
    assert isinstance(told, Warned)
    assert "takes what is left" in told.text


def test_a_learner_that_knows_no_gpu_is_not_asked_to_use_one(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="--device cuda: the linear learner computes on cpu"):
        open_run(plan(tmp_path, data, job=JobOptions(device="cuda")))
    assert not (tmp_path / "runs").exists()
    made = replace(plan(tmp_path, data), engine=Threads(1, accelerators=("cuda: one",)))
    assert open_run(made).see_through().devices == ["cpu"]
