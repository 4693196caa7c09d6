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

from loaders.caches import cache_folder

from .. import BROUGHT
from ..documents import Block
from ..processes import MAIN, Process, has, run
from ..stores import program
from .engine import IMAGE, LINEAR, ROOT, STORE, NoEngine, build_store, call, engine

#: The net; no work to speak of; and enough for a container to be met at it, lost, and found again.
NET = ("--jobs", "6", "--rounds", "2", "--epochs", "1", "--limit", "3000")
SHORT = ("--jobs", "6", "--rounds", "2", "--limit", "3000", "--learner", "linear")
LONG = (*SHORT, "--descents", "20", "--pause", "0.1")
TOLD = ("--json", "--log-format", "json", "--log-level", "info")
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
def store_image(docker: None) -> str:
    """Return an image that stands in for MinIO's."""
    build_store(Path(program("weed")))
    return STORE


@pytest.fixture(scope="session")
def calm(mnist: object, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Return the `model_sha256` of a run with local nodes, that nobody disturbs."""

    @cache
    def train(shape: tuple[str, ...]) -> str:
        quick = ("--pause", "0") if "linear" in shape else ()
        environment = os.environ | {"PYTHONPATH": f"{BROUGHT}:{os.environ.get('PYTHONPATH', '')}"}
        done = run(
            *MAIN, *shape, *quick, "--local-nodes", "2", "--bind", "tcp://127.0.0.1:0", "--json",
            "--run-dir", str(tmp_path_factory.mktemp("calm")), env=environment,
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
            "COMPOSE_PROJECT_NAME": self.name, "MNIST_IMAGE": IMAGE if shape == NET else LINEAR,
            "MNIST_RUNS": str(runs),
            "MNIST_MAIN": " ".join([*shape, *TOLD, *options]),
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
        """Bring it up in the background; return what the main node says."""
        self.compose("up", "-d", "--scale", f"compute={nodes}")
        return self.main_log()

    def main_log(self) -> Process:
        """Return what the main node's container says, from its first start on."""
        (main,) = self.containers("main")
        return self.log(main)

    def log(self, container: str) -> Process:
        """Return what a container says, from the beginning to its end."""
        self._logs.append(Process("docker", "logs", "-f", container))
        return self._logs[-1]

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self.compose("ps", "-q", service).split()

    def restarted(self) -> Process:
        """Wait until the main node's container was started again; return what it says."""
        (main,) = self.containers("main")
        wait_until(
            lambda: call("docker", "inspect", "-f", RESTARTED, main).split() == ["1", "true"]
        )
        return self.main_log()

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
        """Wait until all are here and one is in the midst of a job; return its container."""
        log.event("run.node-joined", times=len(self.containers("compute")))
        told = log.event("run.job-progressed", label=has("-job-"), fraction=lambda done: done < 0.5)
        return str(told["node"]).partition(".")[0]

    def down(self) -> None:
        """Remove everything."""
        for log in self._logs:
            log.close()
        subprocess.run(
            [*self._compose, "--profile", "minio", "down", "-v", "-t", "0"],
            capture_output=True, timeout=120, env={**os.environ, **self._environment}, check=False,
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
