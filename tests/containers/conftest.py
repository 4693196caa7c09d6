"""Clusters of docker-compose, as users run them."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from loaders.fetching import cache_folder

from ..documents import Block
from ..processes import MAIN, Process, run
from .engine import IMAGE, ROOT, NoEngine, call, engine

#: Little work; and enough for a container to be met at it, lost, and found again.
SHORT = ("--jobs", "6", "--rounds", "2", "--epochs", "1", "--limit", "9000")
LONG = ("--jobs", "6", "--rounds", "2", "--epochs", "7", "--limit", "9000")
SECONDS = 150
RESTARTED = "{{.RestartCount}} {{.State.Running}}"
Calm = Callable[[tuple[str, ...]], str]


@pytest.fixture(scope="session")
def docker(mnist: object) -> Iterator[None]:
    """Have an engine with the project's images; skip where there is none, but never in CI."""
    try:
        with engine():
            yield
    except NoEngine as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def calm(mnist: object, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Return the `model_sha256` of a run with local nodes, that nobody disturbs."""

    @cache
    def train(shape: tuple[str, ...]) -> str:
        done = run(
            *MAIN, *shape, "--local-nodes", "2", "--bind", "tcp://127.0.0.1:0", "--json",
            "--run-dir", str(tmp_path_factory.mktemp("calm")),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["model_sha256"])

    return train


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for what nothing tells of: ask, again and again."""
    until = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < until
        time.sleep(0.2)


class Project:
    """A cluster of docker-compose.

    Args:
        runs: where its runs are to be.
        shape, options: of its main node.
        variables: others that the file knows.
    """

    def __init__(
        self, runs: Path, *options: str, shape: tuple[str, ...] = SHORT, **variables: str
    ) -> None:
        self.name = f"mnisttest{uuid.uuid4().hex[:8]}"
        self.runs = runs
        self._environment = {
            "COMPOSE_PROJECT_NAME": self.name, "MNIST_IMAGE": IMAGE, "MNIST_RUNS": str(runs),
            "MNIST_MAIN": " ".join([*shape, "--json", "--log-level", "info", *options]),
            **variables,
        }  # fmt: skip
        self._compose = ["docker-compose", "-f", str(ROOT / "docker-compose.yml")]
        self._logs: list[Process] = []

    def fill(self) -> None:
        """Put the data set, as it is on this machine, into the volume; nothing is downloaded."""
        self.compose("up", "--no-start", "init")
        call(
            "docker", "run", "--rm", "-u", "0", "-v", f"{cache_folder() / 'mnist'}:/from:ro",
            "-v", f"{self.name}_data:/data", IMAGE, "cp", "-r", "/from", "/data/mnist",
        )  # fmt: skip

    def compose(self, *command: str, timeout: float = SECONDS) -> str:
        """Run a command of docker-compose; return its output."""
        return call(*self._compose, *command, timeout=timeout, **self._environment)

    def start(self, block: Block) -> Process:
        """Start commands of a document."""
        process = Process(
            "bash", "-ec", block.commands, cwd=ROOT, env={**os.environ, **self._environment}
        )
        self._logs.append(process)
        return process

    def run(self, commands: str) -> str:
        """Run commands of a document to their end; return their output."""
        return call("bash", "-ec", f"cd {ROOT}; {commands}", timeout=SECONDS, **self._environment)

    def up(self, nodes: int = 3) -> Process:
        """Bring it up in the background; return what the main node says from now on."""
        self.compose("up", "-d", "--scale", f"compute={nodes}")
        return self.logs("main")

    def logs(self, service: str) -> Process:
        """Return what the containers of a service say, from the beginning on, as lines."""
        command = [*self._compose, "logs", "-f", "--no-color", service]
        process = Process(
            "bash", "-c", 'exec "$@" 1>&2', "logs", *command,
            env={**os.environ, **self._environment},
        )  # fmt: skip
        self._logs.append(process)
        return process

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self.compose("ps", "-q", service).split()

    def restarted(self) -> Process:
        """Wait until the main node's container was started again; return what it says then."""
        (main,) = self.containers("main")
        wait_until(
            lambda: call("docker", "inspect", "-f", RESTARTED, main).split() == ["1", "true"]
        )
        return self.logs("main")

    def result(self, starts: int = 1) -> dict[str, Any]:
        """Wait for the main node to end well; return the JSON that it printed."""
        (main,) = self.containers("main")
        code = call("docker", "wait", main, timeout=SECONDS).strip()
        log = call("docker", "logs", main)
        assert code == "0", f"exit code {code}: {log}"
        result: dict[str, Any] = json.loads(log.splitlines()[-1])
        assert result["starts"] == starts
        return result

    def status(self) -> dict[str, Any]:
        """Return what `mnist-status` says in the main node's container."""
        (main,) = self.containers("main")
        told = call(
            "docker", "exec", main, "mnist-status", "--connect", "tcp://127.0.0.1:5555",
            "--keys", "/keys", "--name", "status", "--json",
        )  # fmt: skip
        (only,) = json.loads(told)["mains"]
        return dict(only)

    def at_work(self, log: Process) -> str:
        """Wait until a node runs a job; return its container."""
        log.wait_for("is here", 2)
        found: list[str] = []

        def at_work() -> bool:
            for node in self.status()["nodes"]:
                if any(job["done"] > 0 for job in node["running"]):
                    found.append(str(node["id"]).partition(".")[0])
            return bool(found)

        wait_until(at_work)
        return found[0]

    def down(self) -> None:
        """Remove everything."""
        for log in self._logs:
            log.close()
        subprocess.run(
            [*self._compose, "down", "-v", "-t", "0"], capture_output=True, timeout=120,
            env={**os.environ, **self._environment}, check=False,
        )  # fmt: skip


@pytest.fixture
def project(docker: None, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make clusters with the data set in their volume; they are removed at the end."""
    made: list[Project] = []

    def make(*options: str, **variables: Any) -> Project:
        runs = tmp_path / f"runs{len(made)}"
        runs.mkdir()
        made.append(Project(runs, *options, **variables))
        made[-1].fill()
        return made[-1]

    yield make
    for each in made:
        each.down()
