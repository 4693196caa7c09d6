"""What one more file can bring: sources, learners, strategies, node kinds; through the commands.

Each test puts files of `tests/seams` into a copy of the packages and runs the commands there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from .processes import MAIN, Process, Start, run
from .test_house import ROOT, TOP

SEAMS = Path(__file__).parent / "seams"
PREDICT = (MAIN[0], "-c", "from main_node.__main__ import run_predict; run_predict()")
RUNS = (MAIN[0], "-c", "from main_node.__main__ import run_runs; run_runs()")
#: Where a file of each name belongs.
PLACES = {
    "colours": "loaders/sources", "table": "loaders/sources", "heavy": "learning/merging",
    "tether": "learning/merging",
}  # fmt: skip


class House:
    """A copy of the packages, that files are put into, and the commands that run in it.

    Args:
        path: where it is.
        start: starts a process that is ended with the test.
    """

    def __init__(self, path: Path, start: Start) -> None:
        self.path, self._start = path, start
        self.runs = path / "runs"
        self.env = {**os.environ, "PYTHONPATH": str(path)}
        for package in TOP:
            shutil.copytree(ROOT / package, path / package)

    def add(self, *names: str) -> House:
        """Put files of `tests/seams` where they belong."""
        for name in names:
            shutil.copy(SEAMS / f"{name}.py", self.path / PLACES[name])
        return self

    def install(self, name: str, place: str, file: str | None = None) -> House:
        """Install a learner as a package of its own is: its file, and an entry point.

        Args:
            name: of the learner.
            place: `module:Class`.
            file: content of the module; that of `tests/seams` unless given.
        """
        module = place.partition(":")[0]
        text = (SEAMS / f"{module}.py").read_text() if file is None else file
        (self.path / f"{module}.py").write_text(text)
        info = self.path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mnist_merge.learners]\n{name} = {place}\n")
        return self

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return run(*command, cwd=self.path, env={**self.env, **env})

    def arguments(self, data: str, *options: str, nodes: int = 2) -> tuple[str, ...]:
        """Return a command that trains, with local nodes."""
        local = ("--local-nodes", str(nodes)) if nodes else ()
        return (
            *MAIN, "--data", data, "--bind", "tcp://127.0.0.1:0", "--jobs", "2", "--rounds", "2",
            *local, *options,
        )  # fmt: skip

    def main(self, data: str, *options: str, nodes: int = 2, **env: str) -> Process:
        """Start a main node."""
        command = self.arguments(data, "--json", "--log-level", "debug", *options, nodes=nodes)
        return self._start(*command, cwd=self.path, env={**self.env, **env})

    def train(self, data: str, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Train, and see how that ends."""
        done = self.run(*self.arguments(data, *options))
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stdout
        return done

    def result(self, data: str, *options: str) -> dict[str, Any]:
        """Train, and return what it came to."""
        result: dict[str, Any] = json.loads(self.train(data, "--json", *options).stdout)
        return result

    def resume(self, *options: str) -> dict[str, Any]:
        """Go on with the only run, and return what it came to."""
        (path,) = self.runs.iterdir()
        done = self.run(*MAIN, "--resume", str(path), "--json", *options)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result


@pytest.fixture
def house(tmp_path: Path, start: Start) -> House:
    """Return a copy of all packages, to be built on."""
    return House(tmp_path / "house", start)


# Sources.


def test_a_source_is_one_file(house: House) -> None:
    house.add("colours").install("linear", "linear:LinearLearner")
    done = house.train("colours", "--learner", "linear")
    assert "mixing colours" in done.stderr
    assert "colours: 240 images, 2 jobs (disjoint), 2 rounds of 8 steps" in done.stderr
    assert "grey \N{SNOWMAN}" in done.stdout
    model = str(next(house.runs.glob("*/model.safetensors")))
    tried = house.run(*PREDICT, model, "--data", "colours")
    assert tried.returncode == 0, tried.stderr
    assert "grey \N{SNOWMAN}" in tried.stdout
    assert "accuracy 100.00% (macro F1 1.0000) on 80 images" in tried.stdout
    elsewhere = house.run(*PREDICT, model, "--data", "nowhere")
    assert elsewhere.returncode == 3
    assert "none of 'colours', 'mnist', a folder of IDX files" in elsewhere.stderr


@pytest.mark.parametrize("data", ["colours", "table"])
def test_data_that_a_learner_does_not_take_is_told_before_anything_begins(
    house: House, data: str
) -> None:
    done = house.add(data).train(data, code=3)
    assert "the neural learner takes grey images" in done.stderr
    row = {"colours": "picture: uint8 6 x 5 x 3", "table": "size: float32 3, weight: float64 alone"}
    assert f"a row of this data is {row[data]}" in done.stderr
    assert "listening" not in done.stderr
    assert not house.runs.exists()


# Learners.


def test_a_learner_is_one_class_of_an_installed_package(house: House, tmp_path: Path) -> None:
    house.add("colours").install("linear", "linear:LinearLearner")
    assert "--stride" in house.run(*MAIN, "--help").stdout
    printed = house.run(*MAIN, "--learner", "linear", "--print-config", MNIST_STRIDE="0.25").stdout
    assert "stride: 0.25\n" in printed
    config = tmp_path / "config.yaml"
    config.write_text(printed.replace("data: mnist", "data: colours"))
    done = house.run(
        *MAIN, "--config", str(config), "--steps", "3", "--local-nodes", "1", "--json",
        "--bind", "tcp://127.0.0.1:0", "--jobs", "2", "--rounds", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    arrays = load_file(house.path / result["model"])
    assert arrays["steps"] == 6
    assert "stride: 0.25\n" in next(house.runs.glob("*/config.yaml")).read_text()
    predicted = json.loads(
        house.run(*PREDICT, result["model"], "--data", "colours", "--json").stdout
    )
    assert predicted["accuracy"] == result["accuracy"]
    odd = house.run(*MAIN, "--stride", "2")
    assert odd.returncode == 2
    assert "--stride is for --learner linear; neural takes" in odd.stderr
