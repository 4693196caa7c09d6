"""The log lines of commands."""

from __future__ import annotations

import logging
import sys
from typing import IO

from protocol.wire.words import safe_block

LOG_LEVELS = ("debug", "info", "warning", "error")


class _OneLine(logging.Formatter):
    """Lines that are what they seem: printable, and what belongs to one is set in below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        first, *rest = safe_block(super().format(record)).split("\n")
        return "\n".join([first, *(f"    {line}" for line in rest)])


def set_up_logs(level: str, stream: IO[str] | None = None) -> None:
    """Send the log lines of all packages to `stream` (standard error).

    Args:
        level: one of `LOG_LEVELS`.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("mnist")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
