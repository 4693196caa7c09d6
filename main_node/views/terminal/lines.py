"""A run as lines: what is worth keeping, one a line."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from protocol.carrier.logbudget import LogBudget
from protocol.wire.limits import NODE_LINES, NODE_LOG_BYTES
from protocol.wire.words import plural

from ...run.events import (
    Event,
    JobFailed,
    NodeJoined,
    NodeLeft,
    Noted,
    Opened,
    RoundEvaluated,
    RoundMerged,
    Stood,
)
from .remaining import Remaining

#: Nodes that are named when they come or go at the same time.
MAX_NAMED = 10


class Lines:
    """Writes a line for everything worth keeping.

    Args:
        stream: where to.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.remaining = Remaining()
        self._rounds = 0
        self._here: list[str] = []
        self._gone: list[str] = []
        self._budget = LogBudget(NODE_LINES, NODE_LOG_BYTES)
        self._on: dict[type[Any], Callable[[Any], object]] = {
            Opened: self._opened, Stood: self._stood, RoundMerged: self._merged,
            RoundEvaluated: self._evaluated,
            JobFailed: lambda event: self.say(f"left out: {event.reason}"),
            NodeJoined: lambda event: self._here.append(event.node),
            NodeLeft: lambda event: self._gone.append(event.node),
        }  # fmt: skip

    def close(self) -> None:
        """Leave nothing unwritten."""
        with suppress(OSError):
            self._stream.flush()

    def on(self, event: Event) -> None:
        """Write what is to be said of an event."""
        if not isinstance(event, NodeJoined | NodeLeft):
            self._say_of_nodes()
        self.remaining.on(event)
        if isinstance(event, Noted):
            self.say(event.text)
        elif type(event) in self._on:
            self._on[type(event)](event)

    def say(self, text: str) -> None:
        """Write a line."""
        with suppress(OSError):  # a log that can't be written must not end a run
            print(text, file=self._stream, flush=True)

    def _opened(self, event: Opened) -> None:
        data, self._rounds = event.spec.data, event.spec.rounds
        self.say(
            f"{event.source}: {event.rows:,} {event.called}s,"
            f" {plural(data.jobs, 'job')} ({data.sharding}),"
            f" {plural(self._rounds, 'round')} of {event.lesson}\n"
            f"listening at {event.address}, run directory {event.directory}"
        )

    def _stood(self, event: Stood) -> None:
        """Nothing to say."""

    def _say_of_nodes(self) -> None:
        """Say what has become of some nodes; of a crowd not one by one, nor for ever."""
        for names, what in ((self._here, "here"), (self._gone, "gone")):
            lines = [f"node {name} is {what}" for name in names[:MAX_NAMED]]
            if len(names) > MAX_NAMED:
                lines.append(f"and {len(names) - MAX_NAMED:,} more are {what}")
            names.clear()
            for line in lines:
                if self._budget.take(len(line), time.monotonic()):
                    self.say(line)
                elif self._budget.left_out == 1:
                    self.say("more nodes come and go; mnist-status shows who is here")

    def _merged(self, event: RoundMerged) -> None:
        told = "".join(f" {_number(name, value)}," for name, value in event.means.items())
        left = self.remaining.left()
        told = f"by job:{told} " if told else ""
        self.say(f"round {event.round + 1} of {self._rounds} merged; {told}{left}")

    def _evaluated(self, event: RoundEvaluated) -> None:
        where = f" on the {event.on} rows" * (event.on != "test")
        self.say(f"round {event.round + 1}: accuracy {event.scores.accuracy:.2%}{where}")


def _number(name: str, value: float) -> str:
    if name == "error":
        return f"held-out error {value:.1%}"
    return f"{name} {value:,.0f}" if value >= 10 else f"{name} {value:.4g}"


class Quiet(Lines):
    """Says nothing at all."""

    def say(self, text: str) -> None:
        """Say nothing."""
