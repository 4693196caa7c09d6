"""What the commands of both sides share: exit codes and log lines."""

from __future__ import annotations

import errno
import logging
import sys
from enum import IntEnum
from typing import IO, Any

from protocol.wire.words import safe_block, safe_line

LOG_LEVELS = ("debug", "info", "warning", "error")


class Exit(IntEnum):
    """How a command ends; the table in the README is held to this one by a test."""

    DONE = 0
    USAGE = 2
    DATA = 3
    JOB_FAILED = 4
    NO_NODE = 5
    REFUSED = 6
    STORAGE = 7
    INTERRUPTED = 130


#: What each code means and what to do, for the documentation.
EXIT_MEANINGS = {
    Exit.DONE: "done",
    Exit.USAGE: "an option, address, file, folder or model that can't be; the line says which",
    Exit.DATA: "the data: not found, or a file is damaged; the line names it",
    Exit.JOB_FAILED: "a job failed for good; its story follows: each attempt, node and traceback"
    " (or local nodes ended time and again)",
    Exit.NO_NODE: "no computing node in time (`--timeout`); the line says how to start one;"
    " `mnist-status`: no main node answered",
    Exit.REFUSED: "every main node refused this node, and says why",
    Exit.STORAGE: "the run directory can't be written any more: the disk is full, say; nothing that"
    " was accepted is lost, and the line says how to go on",
    Exit.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM (a computing node or a relay that was asked"
    " to leave and did, a status that was shown: 0)",
}


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


def run_command(command: Any) -> None:
    """Run a command, and end with its exit code.

    A path that no system takes is the user's mistake, whichever option it is.

    Args:
        command: a `click.Command`.
    """
    import click

    try:
        code = command.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):  # before the command could say anything about it
        code = Exit.INTERRUPTED
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        path = safe_line(str(error.filename))
        print(f"the path is too long: {path[:60]}... ({len(path):,} letters)", file=sys.stderr)
        code = Exit.USAGE
    sys.exit(code if isinstance(code, int) else Exit.DONE)
