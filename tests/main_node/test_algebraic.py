"""Algebraic learning through the system: real processes, real digits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from learning.algebraic.model import from_arrays
from learning.algebraic.telling import _one_of
from learning.durable import read_arrays
from learning.model import sha256
from loaders import Rows, load

from ..conftest import make_idx_folder
from ..processes import MAIN, PREDICT_HERE, RUNS_HERE, here, run


def train(folder: Path, *options: str) -> dict[str, Any]:
    done = run(
        *MAIN, "--bind", "tcp://127.0.0.1:0", "--learner", "algebraic", "--limit", "1500",
        "--jobs", "3", "--rounds", "2", "--batches", "6", "--run-dir", str(folder), "--json",
        *options, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    result["stderr"] = done.stderr
    return result


@pytest.fixture(scope="module")
def result(mnist: Rows, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("runs"), "--local-nodes", "2")


@pytest.fixture(scope="module")
def counted(mnist: Rows, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same run, with the work spread in another way: one node, which counts as well."""
    return train(tmp_path_factory.mktemp("counted"), "--local-nodes", "1", "--count", "nodes")


def test_a_run_is_merged_and_told(result: dict[str, Any]) -> None:
    assert result["learner"] == "algebraic"
    assert result["accuracy"] > 0.85
    assert result["accuracy_by_round"][1] > result["accuracy_by_round"][0]
    model = from_arrays(load_file(result["model"]))
    assert sha256(load_file(result["model"])) == result["model_sha256"]
    parts = result["model_parts"]
    assert parts["atoms"] == len(model.atoms) == sum(parts["by_violations"])
    assert parts["strict"] == model.strict.sum() == parts["by_violations"][0]
    assert parts["by_class"] == [len(model.of_class(k)) for k in range(10)]
    assert "2 rounds of 6 batches" in result["stderr"]
    assert "round 1 of 2 merged; by job: atoms" in result["stderr"]
    assert ", held-out error " in result["stderr"]


def test_the_run_directory_shows_how_it_came_about(result: dict[str, Any]) -> None:
    folder = Path(result["model"]).parent
    assert here(RUNS_HERE, "draw", str(folder)).returncode == 0
    for picture in ("atoms.png", "batches.png", "confusion.png", "learning.png"):
        with Image.open(folder / picture) as image:
            assert min(image.size) > 300
    for round_, first in ((1, 0), (2, 6)):
        arrays, _ = read_arrays(folder / "solutions" / f"round-00{round_}-job-0001.safetensors")
        history = arrays["history"]
        assert history[:, 0].tolist() == list(range(first, first + 6))
        assert (history[:, 2:5] > 0).all()  # atoms, union, indicators
        assert ((history[:, 5] >= 0) & (history[:, 5] <= 1)).all()  # error on held-out rows


def test_the_model_is_the_same_however_the_work_is_spread(
    result: dict[str, Any], counted: dict[str, Any]
) -> None:
    assert counted["model_sha256"] == result["model_sha256"]
    for each, counts in ((result, 0), (counted, 6)):
        solutions = Path(each["model"]).parent / "solutions"
        assert len(list(solutions.glob("*-count-*"))) == counts


def test_a_run_that_was_cut_short_comes_to_the_same_end(
    result: dict[str, Any], counted: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(Path(counted["model"]).parent, folder)
    for gone in ("model.safetensors", "metrics.json", "models/round-002.safetensors",
                 "solutions/round-002-count-0002.safetensors",
                 "solutions/round-002-job-0001.safetensors"):  # fmt: skip
        (folder / gone).unlink()
    done = run(*MAIN, "--resume", str(folder), "--local-nodes", "2", "--json", timeout=240)
    assert json.loads(done.stdout)["model_sha256"] == result["model_sha256"], done.stderr


def test_one_digit_against_the_rest(mnist: Rows, tmp_path: Path) -> None:
    zero = train(tmp_path, "--local-nodes", "2", "--target-digit", "0", "--shifts", "0")
    assert np.array(zero["confusion"]).shape == (2, 2)
    assert zero["confusion"][1][1] > 900  # of 980 zeros
    assert zero["accuracy"] > 0.97
    done = here(PREDICT_HERE, zero["model"], "--data", "mnist", "--limit", "500", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert np.array(scores["confusion"]).shape == (2, 2)
    assert scores["accuracy"] > 0.97
    Image.fromarray(load("mnist", "test", 1).arrays["image"][0]).save(tmp_path / "seven.png")
    done = here(PREDICT_HERE, zero["model"], str(tmp_path / "seven.png"), "--explain")
    assert done.stdout.startswith("not 0  ")
    assert "% of 0 by weight" in done.stdout


def test_a_decision_is_explained(result: dict[str, Any], tmp_path: Path) -> None:
    image = load("mnist", "test", 1).arrays["image"][0]
    Image.fromarray(image).save(tmp_path / "seven.png")
    done = here(PREDICT_HERE, result["model"], str(tmp_path / "seven.png"), "--explain", "--json")
    assert done.returncode == 0, done.stderr
    (story,) = json.loads(done.stdout).values()
    assert story["label"] == 7
    model = from_arrays(load_file(result["model"]))
    shares = [each["share"] for each in story["missed"]]
    assert shares == sorted(shares)
    on = model.embedding.bits(image[None])[0]
    for each in story["missed"]:
        mine = model.of_class(each["class"])
        missed = [atom for atom in mine if not on[model.literals(int(atom))].any()]
        assert (each["missed"], each["atoms"]) == (len(missed), len(mine))
        assert len(each["first"]) == min(5, len(each["first"]))
    done = here(PREDICT_HERE, result["model"], str(tmp_path / "seven.png"), "--explain")
    assert done.stdout.startswith("7  ")
    assert "misses" in done.stdout
    assert "has one of these pixels: " in done.stdout
    assert story["doubt"] is None
    Image.new("L", (60, 60), 255).save(tmp_path / "bare.png")
    done = here(PREDICT_HERE, result["model"], str(tmp_path / "bare.png"), "--explain")
    assert done.stdout.splitlines()[0].endswith("bare.png  (blank: nothing is on it)")


@pytest.mark.parametrize(
    ("name", "subject"),
    [("7", "a 7"), ("8", "an 8"), ("81", "an 81"), ("11", "an 11"), ("1", "a 1"), ("110", "a 110"),
     ("ibis", "an ibis"), ("not 0", "what is not 0"), ("", "a ")],
)  # fmt: skip
def test_a_rule_is_a_sentence_about_its_class(name: str, subject: str) -> None:
    assert _one_of(name) == subject


def test_a_model_is_exported_in_the_form_of_the_tutorial(result: dict[str, Any]) -> None:
    done = here(PREDICT_HERE, result["model"], "--export", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["vTerm"] == list(range(1568, 1578))
    assert sorted(told) == sorted(["vTerm", *map(str, range(1568, 1578))])
    distinct = {tuple(a["atom_ucs"]) for c in told["vTerm"] for a in told[str(c)]}
    assert len(distinct) == result["model_parts"]["strict"]
    assert {a["atom_epoch"] for c in told["vTerm"] for a in told[str(c)]} == set(range(12))


def test_contradictory_data_is_told_by_its_rows(tmp_path: Path) -> None:
    folder = make_idx_folder(tmp_path / "idx", 60, 20)
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    pixels, classes = bytearray(images.read_bytes()), bytearray(labels.read_bytes())
    size = (len(pixels) - 16) // 60
    pixels[16 + 7 * size : 16 + 8 * size] = pixels[16 : 16 + size]
    classes[8 + 7] = (classes[8] + 1) % 10
    images.write_bytes(pixels)
    labels.write_bytes(classes)
    done = run(
        *MAIN, "--bind", "tcp://127.0.0.1:0", "--learner", "algebraic", "--data", str(folder),
        "--jobs", "1", "--run-dir", str(tmp_path / "runs"),
    )  # fmt: skip
    assert done.returncode == 3
    assert "rows 0 and 7 (counted from 0) are the same" in done.stderr
    assert not list((tmp_path / "runs").glob("*"))
