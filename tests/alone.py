"""Runs in the tests' own process: their computing nodes are threads, and numpy learns.

For what is about a run, or a main node, and not about processes: a run takes tenths of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from computing_node import AsyncComputingNode
from learning.actions import perform
from protocol import JobDataType, JobSolutionDataType
from protocol.carrier.keys import NodeKeys

Solve = Callable[[JobDataType], JobSolutionDataType]


def solve(job: JobDataType) -> JobSolutionDataType:
    """Solve a job in this process, which has to have found its learner."""
    values, arrays = perform(
        job.kind, job.parameters, job.arrays, lambda done, note="", /: None, lambda: False
    )
    return JobSolutionDataType(arrays, values)


@contextmanager
def running(name: str, address: str, how: Solve = solve) -> Iterator[AsyncComputingNode]:
    """Run a computing node of this process for the linear learner."""
    node = AsyncComputingNode(
        name, callback=lambda job, *_: how(job), address=address, kinds=("linear",)
    )
    node.run()
    try:
        yield node
    finally:
        node.stop()


class Threads:
    """An engine whose nodes are threads of this process.

    Args:
        count: how many.
        kind: of the jobs that they solve.
        accelerators: what they say that they have, in turn.
        how: they solve a job.
    """

    def __init__(
        self, count: int, kind: str = "linear", accelerators: Sequence[str] = ("",),
        how: Solve = solve,
    ) -> None:  # fmt: skip
        self.count, self._kind, self._accelerators = count, kind, accelerators
        self._how = how
        self._nodes: list[AsyncComputingNode] = []

    def solving(self, number: int) -> Solve:
        """Return how a node solves jobs, by its number from 1."""
        return self._how

    def begin(self, learner: str) -> None:
        """Nothing takes long here."""

    def start(
        self, address: str, domain: int, keys: NodeKeys | None, say: Callable[[str], object]
    ) -> None:
        """Start the nodes."""
        for number in range(1, self.count + 1):
            how = self.solving(number)
            node = AsyncComputingNode(
                f"local-{number}", domain, callback=lambda job, *_, how=how: how(job),
                address=address, kinds=(self._kind,),
                accelerator=self._accelerators[number % len(self._accelerators)],
            )  # fmt: skip
            node.run()
            self._nodes.append(node)

    def check(self) -> None:
        """See to the nodes: none ends by itself."""

    def stop(self) -> None:
        """End the nodes."""
        for node in self._nodes:
            node.stop()
        self._nodes.clear()
