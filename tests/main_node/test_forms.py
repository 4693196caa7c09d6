"""Runs on data of every form, in this process: what the whole data says is in the model.

Through the commands and real processes: `tests/test_forms.py`, in the deep lane.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from learning import Learner, UnfitData
from learning.actions import TRIAL_ROWS
from learning.neural.learner import NeuralLearner
from loaders import CorruptDataset, SourceOptions
from loaders.sources import Asked
from main_node.commands.options import TrainOptions
from main_node.errors import JobFailed
from main_node.options import ListenOptions
from main_node.run.opening import Plan, open_run
from main_node.store.directory import RunDirectory
from main_node.store.results import Result

from ..alone import Threads
from ..conftest import ANY_PORT
from ..seams import forms


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the sources of `tests/seams/forms.py`, and no others."""
    monkeypatch.setattr("loaders.sources.kinds", lambda: (forms,))


def plan(folder: Path, data: str, nodes: int = 1, learner: str = "neural", **options: Any) -> Plan:
    spec = TrainOptions.of(learner=learner, **{"jobs": 4, "rounds": 2, **options}).spec
    return Plan(
        spec=spec, source=SourceOptions(data=data), runs=folder / "runs",
        listen=ListenOptions(bind=ANY_PORT), engine=Threads(nodes, learner),
    )  # fmt: skip


def trained(folder: Path, data: str, nodes: int = 1, **options: Any) -> Result:
    return open_run(plan(folder, data, nodes, **options)).see_through()


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("iris", {"epochs": 4}), ("holes", {"epochs": 3}),
        ("holes", {"learner": "algebraic", "batches": 3}),
        ("holes", {"epochs": 3, "merge": "scaffold"}),
    ],
    ids=["iris", "holes", "rules", "scaffold"],
)  # fmt: skip
def test_a_model_of_a_table_is_the_same_for_all_nodes_and_when_resumed(
    tmp_path: Path, data: str, options: dict[str, Any]
) -> None:
    one, four = (trained(tmp_path, data, nodes, **options) for nodes in (1, 4))
    assert one.model_sha256 == four.model_sha256
    assert one.accuracy > 0.8
    assert one.data["kind"] == "row"
    folder = Path(one.model).parent
    for path in [*folder.glob("model*"), folder / "metrics.json"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in folder.glob("solutions/round-002-*"):
        path.unlink()
    again = open_run(plan(tmp_path, data, **options), directory=RunDirectory(folder, new=False))
    assert again.see_through().model_sha256 == one.model_sha256


def test_mean_and_deviation_are_those_of_the_whole_training_set(tmp_path: Path) -> None:
    arrays = load_file(trained(tmp_path, "holes", epochs=1, sharding="labels").model)
    rows = forms.open_source(Asked("holes")).read("train", slice(None))["row"]
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        mean, deviation = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    mean[-1], deviation[-2:] = 0, 0  # nothing is there; all the same
    np.testing.assert_allclose(arrays["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(arrays["deviation"], deviation, rtol=1e-9)


@pytest.mark.parametrize("learner", ["neural", "algebraic"])
def test_endless_numbers_are_refused_before_anything_begins(tmp_path: Path, learner: str) -> None:
    with pytest.raises(UnfitData, match="column 'column 2': row .* has inf in it"):
        open_run(plan(tmp_path, "endless", learner=learner))
    assert not (tmp_path / "runs").exists()


def test_what_a_learner_says_in_the_trial_ends_the_run_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main node knows it only from a node; nothing is left of the run."""

    def initial(self: Learner, form: object) -> None:
        raise UnfitData("nothing can be learned from flowers")

    monkeypatch.setattr("learning.neural.learner.NeuralLearner.initial", initial)
    with pytest.raises(UnfitData, match=r"^nothing can be learned from flowers$"):
        trained(tmp_path, "iris")
    assert not (tmp_path / "runs").exists()


def test_what_fails_otherwise_in_the_trial_is_told_with_its_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def initial(self: Learner, form: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("learning.neural.learner.NeuralLearner.initial", initial)
    with pytest.raises(JobFailed, match="fresh model: ZeroDivisionError"):
        trained(tmp_path, "iris")


@pytest.mark.parametrize("error", [CorruptDataset("iris: cut short"), UnfitData("all the same")])
def test_what_the_whole_data_does_not_say_ends_the_run_as_the_datas_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    begin = NeuralLearner.begin

    def failing(self: NeuralLearner, model: Any, rows: Any) -> Any:
        if len(rows) > TRIAL_ROWS:
            raise error
        return begin(self, model, rows)

    monkeypatch.setattr("learning.neural.learner.NeuralLearner.begin", failing)
    with pytest.raises(type(error), match=str(error)):
        trained(tmp_path, "iris")
