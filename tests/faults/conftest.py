"""A small run that can be disturbed, and what it comes to when nobody does."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from main_node.store.memory import LIFE
from protocol.machine.ledger import first_task

from ..conftest import make_idx_folder
from ..processes import COMPUTE, MAIN, Process, Relay, Start, free_port, run

#: Long enough for a job to be met at work, short enough for dozens of runs.
SHAPE = ("--jobs", "4", "--rounds", "2", "--epochs", "12", "--lr", "0.05")
#: The first job of every run: the learner is tried out.
TRIAL = "round-001-trial-1"
#: A silent node is given up after so many seconds, so that no test waits for the usual ten.
SILENCE = ("--silence", "2.5")
RELAY = (sys.executable, "-m", "relay_node", "--log-level", "debug")


@dataclass
class Cluster:
    """A main node at a known address, and computing nodes, all of them processes.

    Args:
        start: starts a process that is ended with the test.
        relay: makes a relay.
        data: folder of the data set.
        runs: where the run is kept.
        calm: `model_sha256` of a run that nobody disturbed.
    """

    start: Start
    relay: Callable[[str], Relay]
    data: Path
    runs: Path
    calm: str
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def run(self) -> Path:
        """The directory of the only run."""
        (path,) = self.runs.iterdir()
        return path

    def main(self, *options: str) -> Process:
        """Start a main node; it says everything that it does."""
        return self.start(
            *MAIN, "--bind", self.address, "--data", str(self.data), "--run-dir", str(self.runs),
            *SHAPE, *SILENCE, "--json", "--log-level", "debug", *options,
        )  # fmt: skip

    def resume(self, *options: str) -> Process:
        """Start the main node again; it needs to be told nothing but which run."""
        return self.start(*MAIN, "--resume", str(self.run), "--json", *options)

    def node(self, name: str, *options: str, address: str = "", **more: Any) -> Process:
        """Start a computing node."""
        return self.start(
            *COMPUTE, "--connect", address or self.address, "--name", name, *options, **more
        )

    def relay_at(self, way: str) -> Process:
        """Start a relay that listens there and leads to the main node."""
        return start_relay(self.start, way, self.address)

    def between(self, name: str, *options: str) -> tuple[Process, Relay]:
        """Start a computing node behind a relay."""
        relay = self.relay(self.address)
        return self.node(name, *options, address=relay.address), relay

    def same(self, result: dict[str, Any]) -> dict[str, Any]:
        """Check that a run came to what an undisturbed one does; return its result."""
        assert result["model_sha256"] == self.calm
        assert result["left_out"] == []
        return result

    def tasks(self) -> dict[str, list[int]]:
        """Return the tasks that were made of each job so far, by the job's name."""
        tasks: dict[str, list[int]] = {}
        database = sqlite3.connect(self.run / "run.db")
        for name, task in database.execute(
            "SELECT jobs.name, tasks.id FROM tasks JOIN jobs ON jobs.id = tasks.job"
        ):
            tasks.setdefault(name, []).append(task)
        database.close()
        return tasks

    def start_of(self, task: int) -> int:
        """Return in which start of the run a task was made, the first being 0."""
        database = sqlite3.connect(self.run / "run.db")
        ((main,),) = database.execute("SELECT value FROM facts WHERE name = 'main'")
        database.close()
        return (task - first_task(main)) // LIFE

    def solved(self) -> set[str]:
        """Return the names of the jobs whose solutions are on disk."""
        return {path.stem for path in (self.run / "solutions").glob("*.safetensors")}


def start_relay(start: Start, way: str, target: str) -> Process:
    """Start a relay that listens at `way` and leads to `target`; return it once it does."""
    relay = start(*RELAY, "--bind", way, "--connect", target)
    relay.wait_for("relay.ready")
    return relay


def first_of_all(folder: Path) -> dict[str, str]:
    """Return an environment in which what is in a folder is imported before anything else."""
    others = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep * bool(others)}{others}"}


def child_of(node: Process) -> psutil.Process:
    """Return the process in which a computing node trains."""
    (child,) = psutil.Process(node.popen.pid).children()
    return child


@pytest.fixture(scope="package")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("faults") / "idx", 800, 200)


@pytest.fixture(scope="package")
def calm(small: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the `model_sha256` of a run that nobody disturbs."""
    import json

    done = run(
        *MAIN, "--bind", "tcp://127.0.0.1:0", "--local-nodes", "1", "--data", str(small),
        "--run-dir", str(tmp_path_factory.mktemp("calm")), *SHAPE, "--json", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sha: str = json.loads(done.stdout)["model_sha256"]
    return sha


@pytest.fixture
def cluster(
    start: Start, relay: Callable[[str], Relay], small: Path, tmp_path: Path, calm: str
) -> Cluster:
    os.environ.pop("MNIST_JOBS", None)
    return Cluster(start, relay, small, tmp_path / "runs", calm)
