"""Rounds that are tried or not, the best of them, and what ends a run before its last one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.interrupts import Interrupts
from learning.model import load, sha256
from main_node.commands.options import TrainOptions
from main_node.run import rounds as run_rounds
from main_node.run.ending import EndOptions
from main_node.run.events import (
    Event,
    Noted,
    RoundEvaluated,
    RoundMerged,
    RoundWithdrawn,
)
from main_node.run.opening import Plan, open_run
from main_node.run.spec import CompanyOptions
from main_node.store.directory import RunDirectory, solutions_in
from main_node.store.results import Result, finished
from main_node.views.ending.pictures import draw
from protocol.errors import ConfigError

from ..alone import Threads
from ..brought.linear import GATE
from ..conftest import write_idx
from ..processes import MAIN, MAIN_HERE, RUNS_HERE, here, run
from .test_run import Heard
from .test_run import plan as plan_

ROUNDS = 6
#: A run whose rounds are no better and no worse than chance has it: they go up and down.
SHAPE = {"learner": "linear", "jobs": 2, "rounds": ROUNDS, "descents": 3}
COMMAND = (
    "--bind", "tcp://127.0.0.1:0", "--learner", "linear", "--jobs", "2", "--rounds", str(ROUNDS),
    "--descents", "3",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return images that are hard to tell apart."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    marks = random.integers(0, 256, (10, 12, 12))
    for split, rows in (("train", 600), ("t10k", 200)):
        labels = random.integers(0, 10, rows)
        images = 0.15 * marks[labels] + 0.85 * random.integers(0, 256, (rows, 12, 12))
        write_idx(folder / f"{split}-images-idx3-ubyte", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte", labels)
    return folder


def plan(folder: Path, data: Path, *, end: Any = None, shape: Any = None, **more: Any) -> Plan:
    options = TrainOptions.of(**{**SHAPE, **(shape or {})}, data=str(data))
    made = plan_(folder, data, config=options.kept(), **more)
    return replace(made, spec=options.spec, end=EndOptions(**(end or {})))


def model_after(result: Result, number: int) -> str:
    """Return the digest of a round's model, counted from 1."""
    path = Path(result.model).parent / "models" / f"round-{number:03d}.safetensors"
    return sha256(load(path).arrays)


def numbers(heard: Heard, kind: type[Event]) -> list[int]:
    return [vars(event)["round"] + 1 for event in heard.of(kind)]


def told(heard: Heard) -> str:
    return "\n".join(vars(event)["text"] for event in heard.of(Noted))


def curve(result: Result) -> list[float]:
    """Return accuracies of rounds, all of which were tried."""
    assert None not in result.accuracy_by_round
    return result.accuracy_by_round  # type: ignore[return-value]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Result:
    result = open_run(plan(tmp_path_factory.mktemp("whole"), data)).see_through()
    assert (result.ended_by, result.ended, result.model_round) == ("rounds", "", ROUNDS)
    assert curve(result)[1:] != sorted(curve(result)[1:])
    return result


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Result:
    """Return the result of a run that keeps rows aside."""
    asked = plan(tmp_path_factory.mktemp("chosen"), data, shape={"validation": 0.2})
    return open_run(asked).see_through()


@pytest.mark.parametrize(("every", "tried"), [(4, [4, 6]), (9, [6])])
def test_rounds_in_between_are_not_tried_and_everybody_copes(
    tmp_path: Path, data: Path, whole: Result, every: int, tried: list[int]
) -> None:
    heard = Heard()
    asked = plan(tmp_path, data, shape={"validate_every": every})
    result = open_run(asked, [heard]).see_through()
    assert sorted(numbers(heard, RoundEvaluated)) == tried
    assert result.model_sha256 == whole.model_sha256
    assert result.accuracy == whole.accuracy
    wanted = [
        each if number in tried else None for number, each in enumerate(whole.accuracy_by_round, 1)
    ]
    assert result.accuracy_by_round == wanted
    assert [each is None for each in result.loss_by_round] == [each is None for each in wanted]
    folder = Path(result.model).parent
    assert finished(folder) == result
    draw(result, folder)
    assert (folder / "learning.png").stat().st_size > 1000


def test_a_run_ends_in_the_round_that_reaches_its_goal(
    tmp_path: Path, data: Path, whole: Result
) -> None:
    accuracy = curve(whole)
    reached = next(n for n in range(1, ROUNDS) if accuracy[n] > max(accuracy[:n])) + 1
    heard = Heard()
    asked = plan(tmp_path, data, end={"goal_accuracy": accuracy[reached - 1]})
    result = open_run(asked, [heard]).see_through()
    assert (result.rounds, result.model_round, result.ended_by) == (reached, reached, "goal")
    assert result.accuracy_by_round == accuracy[:reached]
    assert result.model_sha256 == model_after(whole, reached)
    assert "test set" in result.ended
    assert f"the run ends with round {reached}: {result.ended}" in told(heard)
    assert numbers(heard, RoundWithdrawn) == ([reached + 1] if reached < ROUNDS else [])
    assert sum(result.nodes.values()) == 2 * reached
    kept = {path.name for path in (Path(result.model).parent / "solutions").iterdir()}
    assert not any(name.startswith(f"round-{reached + 1:03d}") for name in kept)
    printed = here(RUNS_HERE, "show", str(Path(result.model).parent)).stdout
    assert f"{2 * reached} of {2 * reached} solved" in printed
    assert result.ended in printed


def expected_of_patience(accuracy: list[float], patience: int) -> int:
    """Return the round, counted from 1, in which such patience is over; or the last."""
    best, worse = -1.0, 0
    for number, each in enumerate(accuracy, 1):
        worse = 0 if each > best else worse + 1
        best = max(best, each)
        if worse == patience:
            return number
    return len(accuracy)


@pytest.mark.parametrize("patience", [2])
def test_a_run_ends_where_nothing_gets_better(
    tmp_path: Path, data: Path, chosen: Result, patience: int
) -> None:
    """By the rows that are kept aside, where there are some; the model is the best one's."""
    accuracy = curve(chosen)
    last = expected_of_patience(accuracy, patience)
    asked = plan(tmp_path, data, shape={"validation": 0.2}, end={"patience": patience})
    result = open_run(asked).see_through()
    assert result.rounds == last < ROUNDS
    assert result.ended_by == "patience"
    assert "validation rows" in result.ended
    best = accuracy.index(max(accuracy[:last])) + 1
    assert result.model_round == best
    assert result.model_sha256 == model_after(chosen, best)


def test_the_model_is_that_of_the_best_round_on_the_rows_kept_aside(
    tmp_path: Path, data: Path, chosen: Result
) -> None:
    accuracy = curve(chosen)
    best = accuracy.index(max(accuracy)) + 1
    assert best < ROUNDS
    assert chosen.model_round == best
    assert chosen.model_sha256 == model_after(chosen, best) != model_after(chosen, ROUNDS)
    notes = load(Path(chosen.model)).notes
    assert notes["round"] == str(best)
    assert "validation" in notes["chosen"]
    assert notes["examples"] == str(chosen.examples)
    heard = Heard()
    again = open_run(plan(tmp_path, data, shape={"validation": 0.2}), [heard]).see_through()
    tests = [event for event in heard.of(RoundEvaluated) if vars(event)["on"] == "test"]
    assert [vars(event)["round"] + 1 for event in tests] == [best]
    assert again.accuracy == vars(tests[0])["scores"].accuracy == chosen.accuracy


def test_of_rounds_that_are_equally_good_the_first_is_the_best(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("main_node.run.evaluation.score", lambda *about: _SCORES)
    result = open_run(plan(tmp_path, data, shape={"validation": 0.2})).see_through()
    assert result.model_round == 1


class _Scores:
    accuracy, macro_f1, confusion, blind = 0.5, 0.5, ((1,),), False


_SCORES = _Scores()


class Stopper:
    """Stops a run once something has happened so often."""

    def __init__(self, kind: type[Event], times: int) -> None:
        self.interrupts, self._kind, self._left = Interrupts(), kind, times

    def on(self, event: Event) -> None:
        self._left -= type(event) is self._kind
        if not self._left:
            self.interrupts.stop("enough")


#: Runs that end early, by what: how they are shaped, and when they end.
EARLY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "patience": ({"validation": 0.2}, {"patience": 2}),
    "every second": ({"validation": 0.2, "validate_every": 2}, {"patience": 1}),
    "goal": ({}, {"goal_accuracy": 0.13}),
}


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Callable[[str], Result]:
    """Return what such a run comes to that nobody stops."""

    @cache
    def see(name: str) -> Result:
        shape, end = EARLY[name]
        folder = tmp_path_factory.mktemp("early")
        return open_run(plan(folder, data, shape=shape, end=end)).see_through()

    return see


DEEP = [
    pytest.param(name, kind, times, marks=pytest.mark.lane("deep"))
    for name in EARLY for kind in (RoundMerged, RoundEvaluated) for times in (1, 2, 3, 4)
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "times"), [("patience", RoundMerged, 2), ("goal", RoundEvaluated, 2), *DEEP]
)
def test_a_run_that_is_resumed_ends_in_the_same_round_with_the_same_model(
    tmp_path: Path, data: Path, early: Callable[[str], Result], name: str, kind: type[Event],
    times: int,
) -> None:  # fmt: skip
    calm, (shape, end) = early(name), EARLY[name]
    assert calm.ended_by == next(iter(end)).removesuffix("_accuracy")
    stopper, asked = Stopper(kind, times), plan(tmp_path, data, shape=shape, end=end)
    stopped = open_run(asked, [stopper], interrupts=stopper.interrupts)
    path = stopped.directory.path
    try:
        result = stopped.see_through()
    except KeyboardInterrupt:
        result = open_run(asked, directory=RunDirectory(path, new=False)).see_through()
        assert result.starts == 2
    same = ("rounds", "model_round", "ended_by", "ended", "model_sha256", "accuracy",
            "accuracy_by_round", "loss_by_round")  # fmt: skip
    assert {n: getattr(result, n) for n in same} == {n: getattr(calm, n) for n in same}
    begun = {path.name[:9] for path in (path / "solutions").iterdir()}
    assert f"round-{result.rounds + 1:03d}" not in begun


@pytest.mark.parametrize("merge", ["fedadam:rate=0.05", "fedavgm", "scaffold"])
def test_a_run_that_is_resumed_goes_on_with_what_its_strategy_keeps(
    tmp_path: Path, data: Path, merge: str
) -> None:
    shape = {"merge": merge, "jobs": 3, "sharding": "labels", "rounds": 4}
    calm = open_run(plan(tmp_path / "calm", data, shape=shape)).see_through()
    stopper, asked = Stopper(RoundMerged, 2), plan(tmp_path / "cut", data, shape=shape)
    stopped = open_run(asked, [stopper], interrupts=stopper.interrupts)
    with pytest.raises(KeyboardInterrupt):
        stopped.see_through()
    directory = RunDirectory(stopped.directory.path, new=False)
    result = open_run(asked, directory=directory).see_through()
    assert result.starts == 2
    assert result.merge == merge
    assert result.model_sha256 == calm.model_sha256
    plain = open_run(plan(tmp_path, data, shape={**shape, "merge": "mean"})).see_through()
    assert model_after(plain, 2) != model_after(calm, 2)
    told = solutions_in(directory.path)
    assert {number: [each["job"] for each in of] for number, of in told.items()} == {
        number: [1, 2, 3] for number in (1, 2, 3, 4)
    }
    assert all(each["distance"] > 0 and each["node"] for of in told.values() for each in of)


def test_a_run_that_is_over_before_anything_is_merged_goes_on_until_something_is(
    tmp_path: Path, data: Path, whole: Result
) -> None:
    heard = Heard()
    asked = plan(tmp_path, data, end={"max_run_seconds": 1e-6})
    result = open_run(asked, [heard]).see_through()
    assert (result.rounds, result.ended_by) == (1, "time")
    assert result.model_sha256 == model_after(whole, 1)
    assert result.accuracy_by_round == whole.accuracy_by_round[:1]
    assert told(heard).count("no round is merged yet") == 1


def test_time_is_that_of_all_starts(tmp_path: Path, data: Path, whole: Result) -> None:
    """A run that is resumed when its time is over ends with what was merged, and has it tried."""
    stopper, asked = Stopper(RoundMerged, 3), plan(tmp_path, data, shape={"validate_every": 5})
    stopped = open_run(asked, [stopper], interrupts=stopper.interrupts)
    with pytest.raises(KeyboardInterrupt):
        stopped.see_through()
    asked = replace(asked, end=EndOptions(max_run_seconds=1e-3))
    directory = RunDirectory(stopped.directory.path, new=False)
    result = open_run(asked, directory=directory).see_through()
    assert result.ended_by == "time"
    assert result.rounds >= 3
    assert result.model_sha256 == model_after(whole, result.rounds)
    assert result.accuracy == result.accuracy_by_round[-1] == curve(whole)[result.rounds - 1]
    begun = {path.name[:9] for path in (stopped.directory.path / "solutions").iterdir()}
    assert f"round-{result.rounds + 1:03d}" not in begun


def test_what_hangs_when_time_is_over_is_withdrawn(tmp_path: Path, data: Path) -> None:
    """The second round's jobs wait for what never comes, in processes of their own."""
    (tmp_path / "gate").mkdir()
    done = run(
        *MAIN, *COMMAND, "--data", str(data), "--run-dir", str(tmp_path), "--local-nodes", "2",
        "--max-run-seconds", "2", "--json", env={**os.environ, GATE: str(tmp_path / "gate")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["rounds"], result["ended_by"]) == (1, "time")
    assert "the run ends with round 1: --max-run-seconds 2: the time is over" in done.stderr


def test_a_run_that_reached_its_goal_goes_on_to_a_higher_one(
    tmp_path: Path, data: Path, whole: Result
) -> None:
    accuracy = curve(whole)
    command = (*COMMAND, "--data", str(data), "--run-dir", str(tmp_path), "--local-nodes", "1")
    first = here(MAIN_HERE, *command, "--goal-accuracy", str(accuracy[0]))
    assert "ended by  goal: " in first.stdout
    (path,) = tmp_path.iterdir()
    begun = finished(path)
    assert begun is not None
    assert (begun.rounds, begun.model_sha256) == (1, model_after(whole, 1))
    drawn = (path / "learning.png").read_bytes()
    again = here(MAIN_HERE, "--resume", str(path), "--goal-accuracy", str(accuracy[0]))
    assert "is done already" in again.stderr
    assert (path / "learning.png").read_bytes() == drawn
    here(MAIN_HERE, "--resume", str(path), "--goal-accuracy", "1")
    result = finished(path)
    assert result is not None
    assert (result.rounds, result.ended_by, result.starts) == (ROUNDS, "rounds", 2)
    assert result.model_sha256 == whole.model_sha256
    assert (path / "learning.png").read_bytes() != drawn


def test_a_model_that_is_gone_is_told(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, chosen: Result
) -> None:
    asked = plan(tmp_path, data, shape={"validation": 0.2})
    opened = open_run(asked)
    name = f"round-{chosen.model_round:03d}.safetensors"
    best = run_rounds.Rounds.best

    def lost(self: run_rounds.Rounds) -> int:
        (opened.directory.path / "models" / name).unlink()
        return int(best.fget(self))  # type: ignore[attr-defined]

    with monkeypatch.context() as patched:
        patched.setattr(run_rounds.Rounds, "best", property(lost))
        with pytest.raises(Exception, match="go on: it is merged again"):
            opened.see_through()
    directory = RunDirectory(opened.directory.path, new=False)
    assert open_run(asked, directory=directory).see_through().model_sha256 == chosen.model_sha256


@pytest.mark.parametrize("most", [1, 2])
def test_a_run_uses_no_more_nodes_than_it_may(
    tmp_path: Path, data: Path, whole: Result, most: int
) -> None:
    asked = plan(tmp_path, data, company=CompanyOptions(max_nodes=most))
    result = open_run(replace(asked, engine=Threads(4))).see_through()
    assert len(result.nodes) <= most
    assert result.model_sha256 == whole.model_sha256


def test_fewer_nodes_than_are_waited_for_may_not_be_used() -> None:
    with pytest.raises(ConfigError, match="--min-nodes 3 and --max-nodes 2"):
        CompanyOptions(min_nodes=3, max_nodes=2)
    done = here(MAIN_HERE, "--min-nodes", "3", "--max-nodes", "2", "--print-config")
    assert done.returncode == 2
    assert "more nodes than it may use" in done.stderr


def test_a_run_goes_on_with_its_strategy_however_that_is_written(
    tmp_path: Path, data: Path
) -> None:
    stopper = Stopper(RoundMerged, 2)
    merge = "fedavgm:momentum=0.25,bound=4"
    asked = plan(tmp_path, data, shape={"merge": merge, "rounds": 3})
    stopped = open_run(asked, [stopper], interrupts=stopper.interrupts)
    with pytest.raises(KeyboardInterrupt):
        stopped.see_through()
    run_ = ("--resume", str(stopped.directory.path), "--local-nodes", "1", "--quiet")
    other = here(MAIN_HERE, *run_, "--merge", "fedavgm:momentum=0.5,bound=4")
    assert "its model would be another" in other.stderr
    done = here(MAIN_HERE, *run_, "--merge", "fedavgm:bound=4.0,rate=1,momentum=0.25")
    assert done.returncode == 0, done.stderr
    assert "merged by  fedavgm:bound=4.0,momentum=0.25" in done.stdout
