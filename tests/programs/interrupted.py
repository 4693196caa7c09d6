"""A main node that is interrupted at random moments, time and again: it can always be closed.

Usage: interrupted.py TIMES SEED
"""

from __future__ import annotations

import faulthandler
import logging
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, as_completed, wait
from typing import Any

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode
from main_node.futures import JobFuture
from protocol import JobDataType, JobSolutionDataType
from protocol.machine.effects import Effect

SECONDS = 15.0


class Memory:
    """A journal that remembers nothing."""

    main, first_task = "main.1", 1
    tasks: Mapping[int, tuple[int, str]] = {}

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def note(self, effects: Sequence[Effect]) -> None:
        return

    def keep(self, job: int, solution: JobSolutionDataType, node: str) -> JobSolutionDataType:
        return solution


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def work(job: JobDataType, task: int, client: str) -> JobSolutionDataType:
    return JobSolutionDataType("done")


def use(main: AsyncMainNode, chance: random.Random, ever: list[JobFuture]) -> None:
    """Use a main node in every way, for ever."""
    number = 0
    while True:
        futures: list[JobFuture] = []
        for _ in range(chance.randint(1, 300)):
            number += 1
            futures.append(main.submit(JobDataType(b"x"), f"job {number}"))
            ever.append(futures[-1])
        match chance.randrange(5):
            case 0:
                pending: set[Any] = set(futures)
                while pending:
                    wait(pending, 0.001, FIRST_COMPLETED)
                    pending = {future for future in pending if not future.done()}
            case 1:
                for _ in as_completed(futures):
                    main.view()
            case 2:
                for future in futures:
                    future.result(SECONDS)
            case 3:
                for future in futures:
                    future.add_done_callback(lambda done: None)
                    future.cancel()
            case 4:
                main.wait_for_nodes(1, SECONDS)
                futures[-1].result(SECONDS)


def main(times: int, seed: int) -> None:
    logging.basicConfig(level=logging.CRITICAL)
    signal.signal(signal.SIGALRM, interrupt)
    chance = random.Random(seed)
    longest = 0.0
    for turn in range(times):
        keeps = chance.random() < 0.5
        ever: list[JobFuture] = []
        node: AsyncComputingNode | None = None
        main_node = AsyncMainNode(
            "m", address="tcp://127.0.0.1:0", journal=Memory() if keeps else None
        )
        node = AsyncComputingNode("n", callback=work, address=main_node.address)
        node.run()
        main_node.wait_for_nodes(1, SECONDS)
        try:
            # Again, for Python drops what is raised in a finalizer.
            signal.setitimer(signal.ITIMER_REAL, 0.001 + chance.random() * 0.05, 0.5)
            use(main_node, chance, ever)
        except (KeyboardInterrupt, RuntimeError):  # a second one in the middle of the first
            signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.dump_traceback_later(4 * SECONDS, exit=True)
        begun = time.monotonic()
        main_node.close(dismiss=chance.random() < 0.5)
        longest = max(longest, time.monotonic() - begun)
        node.stop()
        faulthandler.cancel_dump_traceback_later()
        left = sum(not future.done() for future in ever)
        assert not left, f"{turn}: somebody would wait for ever for {left} of {len(ever)} jobs"
    print(f"{times} times interrupted, and closed in {longest:.1f} s at most")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
