"""How long it takes until a dead or frozen node's job runs elsewhere, and until a run goes on.

Usage: python -m benchmarks.faults
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from main_node import AsyncMainNode
from protocol import JobDataType

from .common import HEAD, Row, alternate, machine, node_process

NODE = "benchmarks.fault_node"
JOBS = 1000
#: A run of so many jobs is killed when so many are done.
DONE = 900


def given_to_another(number: int) -> float:
    """Return seconds from a signal to a node until its job begins at another."""
    with (
        AsyncMainNode("bench", address="tcp://127.0.0.1:0") as main,
        node_process(main.address, module=NODE) as first,
    ):
        main.wait_for_nodes(1, 20)
        main.submit(JobDataType("hold"))
        assert first.stdout is not None
        assert first.stdout.readline().startswith(b"began")
        with node_process(main.address, module=NODE) as second:
            main.wait_for_nodes(2, 20)
            assert second.stdout is not None
            time.sleep(1.5)  # as long as it takes until the main node knows that the job runs
            begun = time.perf_counter()
            first.send_signal(number)
            assert second.stdout.readline().startswith(b"began")
            return time.perf_counter() - begun


def killed() -> float:
    return given_to_another(signal.SIGKILL)


def frozen() -> float:
    return given_to_another(signal.SIGSTOP)


class CutShort:
    """A run of a thousand jobs, most of them done, whose main node was killed.

    Args:
        folder: where to keep it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options = (
            "--jobs", str(JOBS), "--rounds", "1", "--epochs", "1", "--limit", "20000",
            "--run-dir", str(folder / "runs"), "--log-level", "debug",
        )  # fmt: skip
        main = self._start(*self._options, "--bind", "tcp://127.0.0.1:0", "--local-nodes", "2")
        self._wait(main, "job.accepted", DONE)
        main.kill()
        main.communicate()
        (self.run,) = (folder / "runs").iterdir()

    @staticmethod
    def _start(*options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "main_node", *options], stderr=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @staticmethod
    def _wait(process: subprocess.Popen[str], words: str, times: int = 1) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            times -= words in line
            if not times:
                return
        raise AssertionError(f"the main node ended without {words!r}")

    def resumed(self) -> float:
        """Return seconds from the shell until the first missing job is given to a node."""
        begun = time.perf_counter()
        main = self._start("--resume", str(self.run), "--local-nodes", "1")
        self._wait(main, "job.offered")
        seconds = time.perf_counter() - begun
        main.kill()
        main.communicate()
        return seconds

    def fresh(self) -> float:
        """Return the same of a run that begins."""
        begun = time.perf_counter()
        main = self._start(*self._options, "--bind", "tcp://127.0.0.1:0", "--local-nodes", "1")
        self._wait(main, "job.offered")
        seconds = time.perf_counter() - begun
        main.kill()
        main.communicate()
        return seconds


def measure() -> list[Row]:
    (dead,) = alternate(7, killed)
    (stopped,) = alternate(3, frozen)
    with tempfile.TemporaryDirectory() as folder:
        run = CutShort(Path(folder))
        again, fresh = alternate(5, run.resumed, run.fresh)
    return [
        Row("killed node's job begins at another", dead, "s", None, "-", 0.5),
        Row("frozen node's job begins at another", stopped, "s", None, "-", 15),
        Row(f"{JOBS:,} jobs, {DONE} done: shell to first missing job offered", again, "s", fresh,
            "s: a run that begins", 1.0),
    ]  # fmt: skip


if __name__ == "__main__":
    print(machine(), HEAD, *measure(), sep="\n")
