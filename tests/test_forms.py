"""Both learners with data of every form, through the commands: from the first row to the model.

The sources are `tests/seams/forms.py`, in a copy of the packages.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from loaders.sources import Asked

from .seams import forms
from .test_house import copied
from .test_seams import PREDICT, RUNS, SEAMS, House

LINEAR_POINTS = 0.03
FEW = 500
ALGEBRAIC = ("--learner", "algebraic", "--batches", "8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of all packages, with the sources of every form."""
    path = copied(tmp_path_factory.mktemp("house"))
    shutil.copy(SEAMS / "forms.py", path / "loaders" / "sources")
    return path


@pytest.fixture
def house(copy: Path, tmp_path: Path) -> Iterator[House]:
    """Return the house, with nothing run in it yet."""
    made = House(copy, tmp_path / "here")
    yield made
    made.close()


def regressed(name: str) -> float:
    """Return the accuracy of scikit-learn's logistic regression on the same rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    source = forms.open_source(Asked(name))
    (field,) = source.form.fields
    every = slice(None)
    train, test = (source.read(split, every)[field] for split in ("train", "test"))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    model.fit(train.reshape(len(train), -1), source.labels("train"))
    return float(model.score(test.reshape(len(test), -1), source.labels("test")))


def by_one_and_four(house: House, data: str, *options: str) -> dict[str, Any]:
    """Train with one node and with four, which come to the same; return what that is.

    Of a few rows the node that is ready first may have solved all before another one is.
    """
    one = house.result(data, "--jobs", "4", *options)
    four = house.result(data, "--jobs", "4", "--min-nodes", "4", *options, nodes=4)
    assert one["model_sha256"] == four["model_sha256"]
    if one["data"]["rows"] > FEW:
        assert len(four["nodes"]) > 1
    return one


@pytest.mark.lane("deep")
def test_a_table_trains_and_a_resumed_run_is_the_same(house: House) -> None:
    done = house.train("iris", "--epochs", "20")
    assert "iris: 112 rows, 2 jobs" in done.stderr
    assert "virginica" in done.stdout
    assert "--data iris" in done.stdout
    (folder,) = house.runs.iterdir()
    arrays = load_file(folder / "model.safetensors")
    source = forms.open_source(Asked("iris"))
    rows = source.read("train", slice(None))["row"]
    np.testing.assert_allclose(arrays["mean"], rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(arrays["deviation"], rows.std(axis=0), rtol=1e-12)
    for name in ("models/round-002.safetensors", "model.safetensors", "metrics.json"):
        (folder / name).unlink()
    for path in folder.glob("solutions/round-002-*"):
        path.unlink()
    house.resume()
    again = load_file(folder / "model.safetensors")
    assert {n: a.tobytes() for n, a in again.items()} == {n: a.tobytes() for n, a in arrays.items()}
    tried = house.run(*PREDICT, str(folder), "--data", "iris")
    assert "on 38 rows" in tried.stdout, tried.stderr
    picture = house.run(*PREDICT, str(folder), "picture.png")
    assert picture.returncode == 3
    assert "picture.png: no such table; rows are those of CSV or Parquet" in picture.stderr


@pytest.mark.lane("deep")
def test_numbers_that_are_not_finite_are_refused_by_column(house: House) -> None:
    for options in ((), ALGEBRAIC):
        done = house.train("endless", *options, code=3)
        assert "column 'column 2': row " in done.stderr
        assert "has inf in it; numbers must be finite" in done.stderr
        assert not house.runs.exists()


@pytest.mark.lane("deep")
def test_rules_of_a_table_are_learned_merged_and_tried(house: House) -> None:
    """With missing numbers, a constant column, and one of which nothing is known."""
    result = by_one_and_four(house, "holes", *ALGEBRAIC)
    assert result["accuracy"] > 0.8
    (folder, _) = sorted(house.runs.iterdir())
    tried = house.run(*PREDICT, str(folder), "--data", "holes")
    assert f"accuracy {result['accuracy']:.2%}" in tried.stdout, tried.stderr
    drawn = house.run(*RUNS, "draw", str(folder))
    assert (drawn.returncode, "atoms.png" in drawn.stdout) == (0, True), drawn.stderr
    why = house.run(*PREDICT, str(folder), "--data", "holes", "--explain", "--limit", "2")
    assert why.returncode == 0, why.stderr
    assert "row 1 of test" in why.stdout
    assert "column 12 " in why.stdout


@pytest.mark.lane("deep")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("learner", "data"),
    [
        ("neural", "iris"), ("neural", "wine"), ("neural", "eights"), ("algebraic", "iris"),
        ("algebraic", "wine"),
    ],
)  # fmt: skip
def test_small_data_is_learned_as_well_as_by_logistic_regression(
    house: House, data: str, learner: str
) -> None:
    options = ("--epochs", "10", "--rounds", "4") if learner == "neural" else ALGEBRAIC
    result = by_one_and_four(house, data, *options)
    assert result["accuracy"] > regressed(data) - LINEAR_POINTS - 0.06 * (learner == "algebraic")


@pytest.mark.lane("deep")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("data", "options", "least"),
    [
        ("photos", ("--epochs", "12", "--rounds", "3"), 0.9),
        ("depths", ("--epochs", "10", "--rounds", "3"), 0.9),
        ("holes", ("--epochs", "20"), 0.9),
        # That 1,000 classes go all the way; a good model of them takes longer than a test.
        ("species", ("--epochs", "1"), -1),
        ("photos", ALGEBRAIC, 0.15), ("depths", (*ALGEBRAIC, "--levels", "4"), 0.8),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_data_of_every_form_is_learned(
    house: House, tmp_path: Path, data: str, options: tuple[str, ...], least: float
) -> None:
    result = by_one_and_four(house, data, *options)
    assert result["accuracy"] > least
    tried = house.run(*PREDICT, result["model"], "--data", data)
    assert tried.returncode == 0, tried.stderr
    assert f"accuracy {result['accuracy']:.2%}" in tried.stdout
    if data == "photos":
        source = forms.open_source(Asked("photos"))
        pixels = source.read("test", slice(0, 1))["image"][0]
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        seen = house.run(*PREDICT, result["model"], str(tmp_path / "photo.png"))
        assert seen.returncode == 0, seen.stderr
