"""Runs with noise, and soups: what they tell, and that who resumes one changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from learning import MergeError, UnknownStrategy
from learning.durable import read_arrays
from loaders.rows import Arrays
from main_node.commands.options import TrainOptions
from main_node.run.events import RoundMerged, Warned
from main_node.run.opening import Plan, open_run
from main_node.store.directory import RunDirectory, solutions_in
from main_node.store.results import Result, finished
from main_node.views.ending.summary import print_summary
from protocol import JobDataType, JobSolutionDataType

from ..alone import Threads, solve
from ..conftest import write_idx
from ..learning.common import accountant
from ..processes import MAIN_HERE, here
from .test_rounds import Stopper
from .test_run import Heard
from .test_run import plan as plan_

#: So many rows in four shards: the first has one more than the others.
ROWS, JOBS = 301, 4
Make = Callable[..., Plan]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return images that are not easy to tell apart."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    marks = random.integers(0, 256, (10, 12, 12))
    for split, rows in (("train", 700), ("t10k", 200)):
        labels = random.integers(0, 10, rows)
        images = 0.2 * marks[labels] + 0.8 * random.integers(0, 256, (rows, 12, 12))
        write_idx(folder / f"{split}-images-idx3-ubyte", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture
def plan(tmp_path: Path, data: Path) -> Make:
    def make(merge: str, folder: str = "runs", **more: Any) -> Plan:
        options = TrainOptions.of(
            learner="linear", jobs=JOBS, rounds=3, limit=ROWS, descents=20, merge=merge,
            data=str(data), validation=0.5,
        )  # fmt: skip
        made = plan_(tmp_path / folder, data, config=options.kept(), **more)
        return replace(made, spec=options.spec)

    return make


def stopped_after(asked: Plan, rounds: int) -> RunDirectory:
    """Return the directory of a run that was stopped once so many rounds were merged."""
    stopper = Stopper(RoundMerged, rounds)
    run = open_run(asked, [stopper], interrupts=stopper.interrupts)
    with pytest.raises(KeyboardInterrupt):
        run.see_through()
    return RunDirectory(run.directory.path, new=False)


def shown(result: Result) -> str:
    console = Console(width=200, file=StringIO())
    print_summary(result, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


# Differential privacy.


def test_a_private_run_says_how_private_its_model_is(plan: Make) -> None:
    accountant()
    result = open_run(plan("dp:clip=2,noise=1.5,delta=1e-4")).see_through()
    assert result.merged == {
        "epsilon": pytest.approx(4.517, abs=0.01),
        "delta": 1e-4,
        "by": "shard",
    }
    assert "private  epsilon 4.52 at delta 0.0001, by shard" in shown(result)
    folder = Path(result.model).parent
    assert finished(folder) == result
    assert json.loads((folder / "metrics.json").read_text())["merged"] == result.merged
    # The key is with the rounds, and nowhere in what is given away.
    key = load_state(folder, 1)["key"]
    assert key.tobytes() not in (folder / "model.safetensors").read_bytes()
    again = open_run(plan("dp:clip=2,noise=1.5,delta=1e-4")).see_through()
    assert again.model_sha256 != result.model_sha256  # the seed is known to everybody


def load_state(folder: Path, number: int) -> Arrays:
    return read_arrays(folder / "models" / f"round-{number:03d}.state")[0]


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_private_run_that_is_resumed_has_the_same_noise(plan: Make, rounds: int) -> None:
    accountant()
    asked = plan("dp:noise=0.1")
    directory = stopped_after(asked, rounds)
    path, models = directory.path, {}
    for number in range(1, rounds + 1):
        models[number] = (path / "models" / f"round-{number:03d}.safetensors").read_bytes()
    keys = {load_state(path, number)["key"].tobytes() for number in models}
    first = open_run(asked, directory=directory).see_through()
    for number, before in models.items():
        assert (path / "models" / f"round-{number:03d}.safetensors").read_bytes() == before
    keys.add(load_state(path, 3)["key"].tobytes())
    assert len(keys) == 1
    # And once more from there: what was merged before is merged again to the same bits.
    (path / "metrics.json").unlink()
    for number in range(rounds + 1, 4):
        (path / "models" / f"round-{number:03d}.safetensors").unlink()
    again = open_run(asked, directory=RunDirectory(path, new=False)).see_through()
    assert again.model_sha256 == first.model_sha256


def test_a_private_run_does_not_begin_without_what_tells_how_private_it_is(
    plan: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learning.merging.dp.find_spec", lambda name: None)
    with pytest.raises(MergeError, match=r"pip install 'mnist-merge\[privacy\]'"):
        open_run(plan("dp"))
    assert not (tmp_path / "runs").exists()


# Soup.


def mislabelled(job: JobDataType) -> JobSolutionDataType:
    """Solve a job; of the shard that has a row more the labels are shuffled."""
    labels = job.arrays.get("label")
    if job.parameters["action"] == "fit" and labels is not None and len(labels) > ROWS // JOBS:
        mixed = np.random.default_rng(0).permutation(labels)
        job = JobDataType({**job.arrays, "label": mixed}, job.parameters, kind=job.kind)
    return solve(job)


def test_a_shard_of_wrong_labels_is_left_out_of_a_soup(plan: Make) -> None:
    soup = replace(plan("soup"), engine=Threads(2, how=mislabelled))
    heard = Heard()
    result = open_run(soup, [heard]).see_through()
    told = solutions_in(Path(result.model).parent)
    assert len(told) == 3
    for solutions in told.values():
        taken = [each.get("taken", 1) for each in solutions]
        assert taken[0] == 0
        assert 1 in taken[1:]
    warned = [vars(each)["text"] for each in heard.of(Warned)]
    assert any("round 1: the solution of job 1 by " in text for text in warned)
    assert any("is left out" in text for text in warned)
    mean = open_run(replace(plan("mean"), engine=Threads(2, how=mislabelled))).see_through()
    assert result.accuracy > mean.accuracy


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_soup_that_is_resumed_tastes_the_same(plan: Make, rounds: int) -> None:
    calm = open_run(replace(plan("soup"), engine=Threads(1, how=mislabelled))).see_through()
    asked = replace(plan("soup", "again"), engine=Threads(2, how=mislabelled))
    directory = stopped_after(asked, rounds)
    result = open_run(asked, directory=directory).see_through()
    assert result.starts == 2
    assert result.model_sha256 == calm.model_sha256
    assert solutions_taken(result) == solutions_taken(calm)


def solutions_taken(result: Result) -> list[list[object]]:
    told = solutions_in(Path(result.model).parent)
    return [[each.get("taken") for each in solutions] for solutions in told.values()]


def test_a_soup_without_rows_to_taste_by_is_refused_with_what_to_type(data: Path) -> None:
    with pytest.raises(UnknownStrategy, match="--validation 0.1"):
        TrainOptions.of(merge="soup", data=str(data)).check()
    done = here(MAIN_HERE, "--merge", "soup", "--data", str(data))
    assert done.returncode == 2
    assert "--validation 0.1" in done.stderr
