"""Ten thousand small jobs over twenty nodes, one of which is killed or frozen every second.

Each job must be solved once; memory, descriptors and threads must stay what they were.

Usage: python -m benchmarks.soak [JOBS [NODES]]
"""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

import psutil

from main_node import AsyncMainNode
from protocol import JobDataType, JobSolutionDataType

from .common import machine

JOB_SECONDS = 0.1
#: Jobs in the main node's hands at any time.
IN_HAND = 400
FROZEN_SECONDS = 3.0


@dataclass(frozen=True)
class Soaked:
    """What came of it.

    Args:
        jobs: asked for.
        solved: how often each was, by its id.
        failed: jobs that failed for good.
        accidents: nodes killed, and frozen.
        megabytes: of this process after the first and after the last tenth.
        descriptors: the same.
        threads: left after the end that were not there before.
        seconds: it all took.
    """

    jobs: int
    solved: Counter[int]
    failed: int
    accidents: Counter[str]
    megabytes: tuple[float, float]
    descriptors: tuple[int, int]
    threads: list[str]
    seconds: float

    @property
    def once(self) -> bool:
        """Whether every job was solved, and none twice."""
        return len(self.solved) == self.jobs and set(self.solved.values()) == {1}


class Herd:
    """Node processes, one of which has an accident now and then.

    Args:
        address: of the main node.
        size: how many.
        seed: of the accidents.
    """

    def __init__(self, address: str, size: int, seed: int) -> None:
        self.accidents: Counter[str] = Counter()
        self._address = address
        self._chance = random.Random(seed)
        self._nodes = [self._start(number) for number in range(size)]
        self._frozen: list[tuple[float, subprocess.Popen[bytes]]] = []

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fault_node", self._address, f"node{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def accident(self) -> None:
        """Kill a node and start another, or freeze one for a while."""
        now = time.monotonic()
        while self._frozen and self._frozen[0][0] < now:
            self._frozen.pop(0)[1].send_signal(signal.SIGCONT)
        place = self._chance.randrange(len(self._nodes))
        if self._chance.random() < 0.5:
            self._nodes[place].kill()
            self._nodes[place].communicate()
            self._nodes[place] = self._start(place)
            self.accidents["killed"] += 1
        else:
            self._nodes[place].send_signal(signal.SIGSTOP)
            self._frozen.append((now + FROZEN_SECONDS, self._nodes[place]))
            self.accidents["frozen"] += 1

    def close(self) -> None:
        """End all."""
        for node in self._nodes:
            node.kill()
            node.communicate()


def soak(jobs: int, nodes: int, seed: int = 0, every: float = 1.0) -> Soaked:
    """Have so many jobs solved, with an accident every so many seconds."""
    solved: Counter[int] = Counter()
    room = threading.Semaphore(IN_HAND)
    measured: dict[int, tuple[float, int]] = {}
    process = psutil.Process()
    tenth = jobs // 10
    marks = (tenth, jobs)
    ended = threading.Event()

    def count(solution: JobSolutionDataType, job: int, node: str) -> None:
        solved[job] += 1
        if len(solved) in marks and len(solved) not in measured:
            gc.collect()
            measured[len(solved)] = (process.memory_info().rss / 1e6, process.num_fds())
        room.release()
        if len(solved) == jobs:
            ended.set()

    before = set(threading.enumerate())
    begun = time.perf_counter()
    with AsyncMainNode(
        "soak", address="tcp://127.0.0.1:0", callback=count, max_attempts=10
    ) as main:
        herd = Herd(main.address, nodes, seed)
        try:
            main.wait_for_nodes(nodes, 60)
            due = time.monotonic() + every
            for _ in range(jobs):
                while not room.acquire(timeout=max(0.0, due - time.monotonic())):
                    herd.accident()
                    due = time.monotonic() + every  # where it took long, nodes have time to come
                main.request_job_solution(JobDataType(str(JOB_SECONDS)))
            while not ended.wait(max(0.0, due - time.monotonic())):
                herd.accident()
                due = time.monotonic() + every  # where it took long, nodes have time to come
            failed = main.view().failed
        finally:
            herd.close()
    seconds = time.perf_counter() - begun
    left = [thread.name for thread in set(threading.enumerate()) - before]
    first, last = measured[tenth], measured[jobs]
    return Soaked(
        jobs, solved, failed, herd.accidents, (first[0], last[0]), (first[1], last[1]), left,
        seconds,
    )  # fmt: skip


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    herd_size = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    print(machine())
    came = soak(wanted, herd_size)
    print(
        f"{came.jobs:,} jobs of {JOB_SECONDS} s over {herd_size} nodes in {came.seconds:.0f} s:"
        f" each solved once: {came.once}, failed: {came.failed}\n"
        f"nodes killed: {came.accidents['killed']}, frozen: {came.accidents['frozen']}\n"
        f"memory after the first tenth {came.megabytes[0]:.1f} MB, at the end"
        f" {came.megabytes[1]:.1f} MB ({came.megabytes[1] / came.megabytes[0] - 1:+.1%})\n"
        f"descriptors {came.descriptors[0]} and {came.descriptors[1]},"
        f" threads left: {came.threads or 'none'}"
    )
    sys.exit(not (came.once and not came.failed and not came.threads))
