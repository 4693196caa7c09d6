"""What strategies come to, beside Flower's of the same name, in an environment of Flower's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning import Solution, merging
from learning.columns import held
from loaders.rows import Arrays

from ..conftest import PROGRAMS

FLOWER = "flwr==1.42.0"
ROUNDS, NODES = 3, 11
#: How ours is called, and Flower's. Ours draws nothing back here, as Flower's doesn't.
#:
#: On purpose they differ so: our Multi-Krum weighs nothing by examples, as its paper doesn't, so
#: that it is compared where all have as many; our Bulyan asks Krum again of what is left, as its
#: paper does, and Flower's server does, while its newer one asks once; where two are as near, ours
#: takes the first by what it holds, and Flower the first that came, so that they come in that
#: order; and our trimmed mean refuses where nothing would be trimmed.
CASES: dict[str, tuple[str, str, dict[str, float]]] = {
    "mean": ("mean:bound=0", "FedAvg", {}),
    "fedavgm": (
        "fedavgm:bound=0,momentum=0.7,rate=0.6", "FedAvgM",
        {"server_momentum": 0.7, "server_learning_rate": 0.6},
    ),
    "fedadagrad": (
        "fedadagrad:bound=0,rate=0.2,tau=0.01", "FedAdagrad", {"eta": 0.2, "tau": 0.01},
    ),
    "fedadam": (
        "fedadam:bound=0,rate=0.03,tau=0.002,beta1=0.8,beta2=0.95", "FedAdam",
        {"eta": 0.03, "tau": 0.002, "beta_1": 0.8, "beta_2": 0.95},
    ),
    "fedyogi": (
        "fedyogi:bound=0,rate=0.03,tau=0.002,beta1=0.8,beta2=0.95", "FedYogi",
        {"eta": 0.03, "tau": 0.002, "beta_1": 0.8, "beta_2": 0.95},
    ),
    "median": ("median", "FedMedian", {}),
    "trimmed": ("trimmed:trim=0.3", "FedTrimmedAvg", {"beta": 0.3}),
    "as by default": ("trimmed", "FedTrimmedAvg", {}),
    "krum": ("krum:liars=3", "Krum", {"num_malicious_nodes": 3}),
    "multikrum": (
        "multikrum:liars=2,keep=5", "MultiKrum",
        {"num_malicious_nodes": 2, "num_nodes_to_select": 5},
    ),
    "bulyan": ("bulyan:liars=2", "one by one", {"liars": 2}),
}  # fmt: skip
#: Where Flower weighs by examples and the paper, and ours, does not.
ALIKE = ("multikrum",)


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python that has Flower."""
    folder = tmp_path_factory.mktemp("flower")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    got = subprocess.run(
        [python, "-m", "pip", "install", "-q", FLOWER], capture_output=True, text=True, check=False
    )
    if got.returncode:
        reason = f"{FLOWER} can't be had: {got.stderr[-300:]}"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    return python


def drawn(alike: bool) -> tuple[Arrays, list[list[Solution]]]:
    """Return a model, and solutions of each round, in the order in which ours looks at them."""
    random = np.random.default_rng(1)
    shapes = {"a": (7, 5), "b": (40,), "c": (1,)}
    start = {name: random.normal(size=shape) for name, shape in shapes.items()}
    rows = [100] * NODES if alike else random.integers(1, 500, NODES).tolist()
    rounds = []
    for _ in range(ROUNDS):
        solutions = [
            Solution({n: a + random.normal(0, 0.3, a.shape) for n, a in start.items()}, 100)
            for _ in range(NODES)
        ]
        there = [each.solution.arrays for each in held(solutions)]
        rounds.append([Solution(a, n) for a, n in zip(there, rows, strict=True)])
    return start, rounds


def flowers(python: Path, folder: Path, alike: bool) -> dict[str, Any]:
    """Return what Flower comes to."""
    start, rounds = drawn(alike)
    told: dict[str, Any] = {f"start/{name}": array for name, array in start.items()}
    for number, solutions in enumerate(rounds, 1):
        for client, solution in enumerate(solutions):
            told |= {f"{number}/{client}/{name}": a for name, a in solution.arrays.items()}
    cases = [[case, *CASES[case][1:]] for case in CASES if (case in ALIKE) == alike]
    source, target = folder / f"in-{alike}.npz", folder / f"out-{alike}.npz"
    examples = np.array([each.examples for each in rounds[0]])
    np.savez(source, CASES=np.array(json.dumps(cases)), examples=examples, **told)
    done = subprocess.run(
        [python, PROGRAMS / "flower.py", source, target], capture_output=True, text=True,
        check=False, cwd=folder,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    with np.load(target) as file:
        return {path: file[path] for path in file.files}


@pytest.mark.lane("deep")
@pytest.mark.timeout(600)
def test_strategies_come_to_what_flowers_come_to(flower: Path, tmp_path: Path) -> None:
    theirs = {**flowers(flower, tmp_path, False), **flowers(flower, tmp_path, True)}
    for case, (how, _, _) in CASES.items():
        model, rounds = drawn(case in ALIKE)
        strategy = merging.parse(how)
        state = strategy.begin(model)
        for number, solutions in enumerate(rounds, 1):
            merged = merging.merge(strategy, solutions, model, state)
            model, state = merged.model, merged.state
            for name, array in model.items():
                there = theirs[f"{case}/{number}/{name}"]
                np.testing.assert_allclose(
                    array, there, rtol=1e-6, atol=1e-6, err_msg=f"{case}, round {number}, {name}"
                )
