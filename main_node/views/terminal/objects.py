"""A run as JSON objects, one in a line of standard error, between the log's."""

from __future__ import annotations

import logging
import time
from typing import Any

from console.logs import say
from protocol.carrier.logbudget import LogBudget
from protocol.wire.entry import RESERVED, Entry
from protocol.wire.limits import NODE_LINES, NODE_LOG_BYTES

from ...run.events import Event, JobFailed, NodeJoined, NodeLeft, Stood, Warned
from ...run.telling import plain


class Objects:
    """Writes every event but `Stood`; its name is `run.` and its kind: `run.round-merged`."""

    def __init__(self) -> None:
        self._budget = LogBudget(NODE_LINES, NODE_LOG_BYTES)

    def on(self, event: Event) -> None:
        """Write an event."""
        if isinstance(event, Stood):
            return
        told: dict[str, Any] = plain(event)
        entry = Entry(
            f"run.{told.pop('kind')}",
            **{name: each for name, each in told.items() if name not in RESERVED},
        )
        many = isinstance(event, NodeJoined | NodeLeft)  # of a crowd not for ever
        if many and not self._budget.take(len(str(entry)), time.monotonic()):
            if self._budget.left_out == 1:
                self._say(Entry("run.crowded", "more nodes come and go"), event)
            return
        self._say(entry, event)

    @staticmethod
    def _say(entry: Entry, event: Event) -> None:
        level = logging.WARNING if isinstance(event, Warned | JobFailed) else logging.INFO
        say(entry, str(entry), level, at=event.at)
