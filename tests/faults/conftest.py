"""A small run that can be disturbed, and what it comes to when nobody does."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
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
from ..processes import (
    COMPUTE,
    MAIN,
    MAIN_HERE,
    Process,
    Relay,
    Start,
    forked,
    free_port,
    here,
    run,
)  # fmt: skip

#: A job takes 0.3 s, so that it can be met at work, and next to no CPU: there are dozens of runs.
SHAPE = (
    "--jobs", "4", "--rounds", "2", "--learner", "linear", "--descents", "10", "--pause", "0.03",
)  # fmt: skip
#: The same with the net.
NET = ("--jobs", "4", "--rounds", "2", "--epochs", "4", "--lr", "0.05")
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
        shape: options that shape the run's model.
    """

    start: Start
    relay: Callable[[str], Relay]
    data: Path
    runs: Path
    calm: str
    shape: tuple[str, ...] = SHAPE
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
            *self.shape, *SILENCE, "--json", "--log-level", "debug", *options,
        )  # fmt: skip

    def resume(self, *options: str) -> Process:
        """Start the main node again; it needs to be told nothing but which run."""
        resume = ("--resume", str(self.run), "--json", "--log-level", "debug")
        return self.start(*MAIN, *resume, *options)

    def resume_here(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Start the main node again where it ends before it has a node; return how."""
        return here(MAIN_HERE, "--resume", str(self.run), "--json", *options)

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

    def same(self, main: Process) -> dict[str, Any]:
        """Wait for a run's end; check that it came to what an undisturbed one does."""
        return self.check(main.result())

    def check(self, result: dict[str, Any]) -> dict[str, Any]:
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
    relay.event("relay.ready")
    return relay


def fits(process: Process) -> list[dict[str, Any]]:
    """Return what a node has begun to fit."""
    return process.events("task.started", action="fit")


def of_round(number: int, kind: str = "job") -> Callable[[str], bool]:
    """Return whether a job's name is one of a round's, counted from 1."""
    return lambda name: name.startswith(f"round-{number:03}-{kind}-")


def named(name: str) -> Callable[[str], bool]:
    """Return whether a node is the one of a name, whatever else it is called."""
    return lambda node: node.partition(".")[0] == name


def no_traceback(*processes: Process) -> bool:
    """Whether nobody has said where in the program anything went wrong."""
    return not any("Traceback" in line for process in processes for line in process.seen)


def first_of_all(folder: Path) -> dict[str, str]:
    """Return an environment in which what is in a folder is imported before anything else."""
    others = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep * bool(others)}{others}"}


class Gate:
    """Before the last jobs of a run: it does not end while a test is not done with it.

    Args:
        folder: that is empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Environment of the nodes that wait there.
        self.env = {**os.environ, "LINEAR_GATE": str(folder)}

    def open(self) -> None:
        """Let them pass."""
        (self._folder / "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Make a gate in the second round: one job of it passes, the others wait."""
    (tmp_path / "gate").mkdir()
    return Gate(tmp_path / "gate")


def child_of(node: Process) -> psutil.Process:
    """Return the process in which a computing node trains."""
    (child,) = forked(node.popen.pid)
    return child


@pytest.fixture(scope="package")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("faults") / "idx", 800, 200)


@dataclass(frozen=True)
class Calm:
    """A run that nobody disturbed.

    Args:
        runs: where it is kept, alone.
        result: what it printed.
    """

    runs: Path
    result: dict[str, Any]


@pytest.fixture(scope="package")
def calm(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    runs = tmp_path_factory.mktemp("calm")
    done = run(
        *MAIN, "--bind", "tcp://127.0.0.1:0", "--local-nodes", "1", "--data", str(small),
        "--run-dir", str(runs), *SHAPE, "--json", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads(next(runs.glob("*/metrics.json")).read_text())
    return Calm(runs, result)


def copied(calm: Calm, runs: Path) -> dict[str, Any]:
    """Copy such a run; return what the copy's result is."""
    shutil.copytree(calm.runs, runs)
    (directory,) = runs.iterdir()
    return {**calm.result, "model": str(directory / "model.safetensors")}


@pytest.fixture
def cluster(
    start: Start, relay: Callable[[str], Relay], small: Path, tmp_path: Path, calm: Calm,
    monkeypatch: pytest.MonkeyPatch,
) -> Cluster:  # fmt: skip
    monkeypatch.delenv("MNIST_JOBS", raising=False)
    return Cluster(start, relay, small, tmp_path / "runs", calm.result["model_sha256"])
