"""How much of a run is done, and how long the rest takes at this pace."""

from __future__ import annotations

import time

from ...run.events import Event, Opened, Stood
from ...run.label import Label


class Remaining:
    """Learns from what happens how fast a run goes."""

    def __init__(self) -> None:
        self._rounds, self._jobs = 1, 1
        self._begun: float | None = None
        self._first = 0.0  # of the work, done in earlier starts of the run
        #: How much of the work is done, 0 to 1.
        self.fraction = 0.0

    def on(self, event: Event) -> None:
        """Learn from an event."""
        if isinstance(event, Opened):
            self._rounds, self._jobs = event.spec.rounds, event.spec.data.jobs
        elif isinstance(event, Stood) and event.round >= 0:
            self._look(event)

    def _look(self, stood: Stood) -> None:
        if stood.round == self._rounds:
            self.fraction = 1.0
            return
        first = self._begun is None
        if first:
            self._begun = time.monotonic()
        done = stood.done + sum(
            fraction
            for node in stood.view.nodes
            for job, fraction in node.running
            if _learns(stood.labels.get(job), stood.round)
        )
        self.fraction = min(1.0, (stood.round + done / self._jobs) / self._rounds)
        if first:
            self._first = self.fraction

    def left(self) -> str:
        """Return how long the rest takes, in words."""
        if self.fraction == 1.0:
            return "testing"
        if self._begun is None or self.fraction - self._first < 0.02:
            return "time left unknown yet"
        spent = time.monotonic() - self._begun
        seconds = round(spent * (1 - self.fraction) / (self.fraction - self._first))
        return f"{seconds // 60}:{seconds % 60:02d} left" if seconds >= 60 else f"{seconds} s left"


def _learns(label: Label | None, round_: int) -> bool:
    return label is not None and label.kind == "job" and label.round == round_
