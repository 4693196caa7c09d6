"""The command of the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from computing_node import AsyncComputingNode
from console.options import options
from protocol import JobDataType, JobSolutionDataType
from protocol.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class ShoutingOptions(Checked):
    """Where it listens for work, and how loud it is."""

    connect: str = option("tcp://127.0.0.1:5555", "Address of the main node.", metavar="ADDRESS")
    marks: int = option(1, "Exclamation marks behind what it shouts.", least=0, most=9)
    jobs: int = option(1, "Leave after so many jobs.", least=1, most=1000)


@click.command()
@options(ShoutingOptions, prefix="MNIST_SHOUTING")
def main(**values: Any) -> None:
    """Solve jobs of text: in capitals."""
    made = ShoutingOptions(**values)

    def shout(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        return JobSolutionDataType(job.to_string().upper() + "!" * made.marks)

    with AsyncComputingNode(
        "shouting", callback=shout, address=made.connect, max_jobs=made.jobs
    ) as node:
        node.wait()
