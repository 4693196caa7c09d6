"""What a person sees while a run goes on: one live display on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from console.words import shortened
from learning.metrics import Scores
from protocol.carrier.logbudget import LogBudget
from protocol.wire.limits import NODE_LINES, NODE_LOG_BYTES

from ..run.spec import MainConfig
from ..run.training import Standing

#: Nodes that are named when they come or go at the same time.
MAX_NAMED = 10


class Lines:
    """A line for everything worth keeping.

    Args:
        config: of the run.
        stream: where to.
    """

    def __init__(self, config: MainConfig, stream: IO[str]) -> None:
        self._config = config
        self._stream = stream
        self._clock = _Clock(config)
        self._nodes: set[str] = set()
        self._budget = LogBudget(NODE_LINES, NODE_LOG_BYTES)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write a line."""
        with suppress(OSError):  # a log that can't be written must not end a run
            print(text, file=self._stream, flush=True)

    def look(self, standing: Standing) -> None:
        """Say which nodes came and went."""
        self._clock.look(standing)
        nodes = {node.name for node in standing.view.nodes}
        self._say_of(nodes - self._nodes, "here")
        self._say_of(self._nodes - nodes, "gone")
        self._nodes = nodes

    def _say_of(self, names: set[str], what: str) -> None:
        """Say what has become of some nodes; of a crowd not one by one, nor for ever."""
        lines = [f"node {name} is {what}" for name in sorted(names)[:MAX_NAMED]]
        if len(names) > MAX_NAMED:
            lines.append(f"and {len(names) - MAX_NAMED:,} more are {what}")
        for line in lines:
            if self._budget.take(len(line), time.monotonic()):
                self.say(line)
            elif self._budget.left_out == 1:
                self.say("more nodes come and go; mnist-status shows who is here")

    def merged(self, round_: int, means: Mapping[str, float]) -> None:
        """Say that a round is merged, and how long the rest may take."""
        told = "".join(f" {_number(name, value)}," for name, value in means.items())
        self.say(
            f"round {round_ + 1} of {self._config.rounds} merged; by job:{told}"
            f" {self._clock.left()}"
        )

    def evaluated(self, round_: int, scores: Scores) -> None:
        """Say how good a round's model is."""
        self.say(f"round {round_ + 1}: accuracy {scores.accuracy:.2%}")


def _number(name: str, value: float) -> str:
    if name == "error":
        return f"held-out error {value:.1%}"
    return f"{name} {value:,.0f}" if value >= 10 else f"{name} {value:.4g}"


class Quiet(Lines):
    """Nothing at all."""

    def say(self, text: str) -> None:
        """Say nothing."""


class _Clock:
    """How much of a run is done, and how long the rest takes at this pace."""

    def __init__(self, config: MainConfig) -> None:
        self._rounds, self._jobs = config.rounds, config.jobs
        self._begun: float | None = None
        self._first = 0.0  # of the work, done in earlier starts of the run
        self.fraction = 0.0

    def look(self, standing: Standing) -> None:
        if standing.round < 0:
            return
        if standing.round == self._rounds:
            self.fraction = 1.0
            return
        first = self._begun is None
        if first:
            self._begun = time.monotonic()
        done = standing.done + sum(
            fraction
            for node in standing.view.nodes
            for job, fraction in node.running
            if standing.titles.get(job, "").startswith(f"round {standing.round + 1} job")
        )
        self.fraction = min(1.0, (standing.round + done / self._jobs) / self._rounds)
        if first:
            self._first = self.fraction

    def left(self) -> str:
        if self.fraction == 1.0:
            return "testing"
        if self._begun is None or self.fraction - self._first < 0.02:
            return "time left unknown yet"
        spent = time.monotonic() - self._begun
        seconds = round(spent * (1 - self.fraction) / (self.fraction - self._first))
        return f"{seconds // 60}:{seconds % 60:02d} left" if seconds >= 60 else f"{seconds} s left"


class Screen(Lines):
    """A live display of rounds, jobs and nodes; lines worth keeping scroll above it."""

    def __init__(self, config: MainConfig, console: Console) -> None:
        super().__init__(config, console.file)
        self._console = console
        self._standing: Standing | None = None
        self._live = Live(
            console=console, refresh_per_second=8, get_renderable=self._render, transient=True
        )

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Write a line above the display."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def look(self, standing: Standing) -> None:
        """Draw how things stand."""
        super().look(standing)
        self._standing = standing

    def _render(self) -> RenderableType:
        standing = self._standing
        if standing is None:
            return Text("")
        return Group(self._bar(standing), self._table(standing))

    def _bar(self, standing: Standing) -> RenderableType:
        config = self._config
        bar = Table.grid(padding=(0, 1))
        if standing.round < 0:
            here = len(standing.view.nodes)
            bar.add_row(Text(f"waiting for computing nodes: {here} of {config.min_nodes} here"))
            return bar
        testing = standing.round == config.rounds
        bar.add_row(
            Text(f"round {min(standing.round + 1, config.rounds)}/{config.rounds}", "bold"),
            Text(f"jobs {config.jobs if testing else standing.done}/{config.jobs}"),
            ProgressBar(1.0, self._clock.fraction, width=30),
            Text(f"{self._clock.fraction:4.0%}"),
            Text(self._clock.left(), "cyan"),
        )
        return bar

    def _table(self, standing: Standing) -> RenderableType:
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for title in ("node", "doing", "", "waiting", "solved"):
            table.add_column(title, no_wrap=True, overflow="ellipsis")
        for node in standing.view.nodes:
            doing = ", ".join(standing.titles.get(job, f"job {job}") for job, _ in node.running)
            note = f": {node.note}" if doing and node.note else ""
            done = node.running[0][1] if node.running else 0.0
            silent = f"silent for {node.silent_seconds:.0f} s" if node.silent_seconds > 3 else ""
            idle = f"benched: {node.benched}"[:48] if node.benched else "idle"
            table.add_row(
                Text(shortened(node.name)), Text(silent or doing + note or idle),
                ProgressBar(1.0, done, width=14) if node.running else "",
                str(node.waiting), str(node.solved),
            )  # fmt: skip
        return table


class ConsoleStream(io.TextIOBase):
    """A stream whose lines appear above a live display instead of inside it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print whole lines."""
        if text.strip():
            self._console.print(text.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
        return len(text)
