"""A run on a terminal: one live display, above which lines worth keeping scroll."""

from __future__ import annotations

import io

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from console.words import gap, shortened

from ...run.events import Opened, Stood
from .lines import Lines


class Screen(Lines):
    """A live display of rounds, jobs and nodes; lines worth keeping scroll above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console.file)
        self._console = console
        self._opening: Opened | None = None
        self._standing: Stood | None = None
        self._live = Live(
            console=console, refresh_per_second=8, get_renderable=self._render, transient=True
        )

    def close(self) -> None:
        """Leave the terminal to others."""
        self._live.stop()

    def say(self, text: str) -> None:
        """Write a line above the display."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _opened(self, event: Opened) -> None:
        super()._opened(event)
        self._opening = event
        self._live.start()

    def _stood(self, event: Stood) -> None:
        self._standing = event

    def _render(self) -> RenderableType:
        opening, standing = self._opening, self._standing
        if opening is None or standing is None:
            return Text("")
        return Group(self._bar(opening, standing), self._table(standing))

    def _bar(self, opening: Opened, standing: Stood) -> RenderableType:
        rounds, jobs = opening.spec.rounds, opening.spec.data.jobs
        bar = Table.grid(padding=(0, 1))
        if standing.round < 0:
            here, wanted = len(standing.view.nodes), opening.min_nodes
            waiting = f"waiting for computing nodes: {here} of {wanted} here"
            bar.add_row(Text(waiting if here < wanted else "first a trial, at one node"))
            return bar
        testing = standing.round == rounds
        bar.add_row(
            Text(f"round {min(standing.round + 1, rounds)}/{rounds}", "bold"),
            Text(f"jobs {jobs if testing else standing.done}/{jobs}"),
            ProgressBar(1.0, self.remaining.fraction, width=30),
            Text(f"{self.remaining.fraction:4.0%}"),
            Text(self.remaining.left(), "cyan"),
        )
        return bar

    def _table(self, standing: Stood) -> RenderableType:
        width = self._console.width
        table = Table(box=None, padding=(0, gap(width)), header_style="dim")
        bar = 14 if gap(width) > 1 else 6
        for title in ("node", "doing", "", "waiting", "solved"):
            # Names and what they do give way in a narrow terminal; a number that is cut is wrong.
            table.add_column(title, no_wrap=True, overflow="ellipsis", min_width=len(title) or bar)
        for node in standing.view.nodes:
            doing = ", ".join(_title(standing, job) for job, _ in node.running)
            note = f": {node.note}" if doing and node.note else ""
            done = node.running[0][1] if node.running else 0.0
            silent = f"silent for {node.silent_seconds:.0f} s" if node.silent_seconds > 3 else ""
            idle = f"benched: {node.benched}"[:48] if node.benched else "idle"
            table.add_row(
                Text(shortened(node.name)), Text(silent or doing + note or idle),
                ProgressBar(1.0, done, width=bar) if node.running else "",
                str(node.waiting), str(node.solved),
            )  # fmt: skip
        return table


def _title(standing: Stood, job: int) -> str:
    label = standing.labels.get(job)
    return f"job {job}" if label is None else label.title


class ConsoleStream(io.TextIOBase):
    """A stream whose lines appear above a live display instead of inside it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print whole lines."""
        if text.strip():
            self._console.print(text.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
        return len(text)
