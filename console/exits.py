"""How commands end."""

from __future__ import annotations

import contextlib
import logging
import sys
from enum import IntEnum
from typing import NoReturn

from protocol.wire.entry import Entry

from .logs import in_detail, say


class Exit(IntEnum):
    """How a command ends; the table in the README is held to this one by a test."""

    DONE = 0
    USAGE = 2
    DATA = 3
    JOB_FAILED = 4
    NO_NODE = 5
    REFUSED = 6
    STORAGE = 7
    NOT_GOOD = 8
    INTERRUPTED = 130


#: What each code means and what to do, for the documentation.
EXIT_MEANINGS = {
    Exit.DONE: "done",
    Exit.USAGE: "an option, address, file, folder or model that can't be; the line says which",
    Exit.DATA: "the data: not found, or a file is damaged; the line names it",
    Exit.JOB_FAILED: "a job failed for good; its story follows: each attempt, node and traceback"
    " (or local nodes ended time and again)",
    Exit.NO_NODE: "no computing node in time (`--timeout`); the line says how to start one;"
    " `mnist-status`, `mnist-runs stop`: no main node answered",
    Exit.REFUSED: "every main node refused this node, or to stop, and says why",
    Exit.STORAGE: "the run directory, or standard output, can't be written, or not any more: the"
    " disk is full, say, or it is somebody else's (or the system refuses something else); nothing"
    " that was accepted is lost, and the line says how to go on",
    Exit.NOT_GOOD: "the run, or `mnist-merge`, is done, and its model is not good enough: it takes"
    " everything for one class, or its loss is not finite; the line says which, and everything is"
    " kept",
    Exit.INTERRUPTED: "interrupted by Ctrl-C, SIGTERM or `mnist-runs stop` (a computing node or a"
    " relay that was asked to leave and did, a status that was shown: 0)",
}


def end(command: str, code: Exit, message: str) -> NoReturn:
    """Say why a command ends, and end it.

    Args:
        command: its name.
        code: how it ends.
        message: why, and what to do.
    """
    tell_end(code, message, command)
    sys.exit(code)


#: What the system raises, and maybe for what we should not have asked; our own errors are declared.
_REFUSED = (OSError, MemoryError, RuntimeError)


def tell_end(code: int, message: str, before: str = "", error: BaseException | None = None) -> None:
    """Say why a command ends; to who asks for every detail, with the traceback that led to it.

    What the system refused, say, may be what we should not have asked for.

    Args:
        code: how it ends.
        message: why, and what to do.
        before: the name of the command; what the line for people begins with.
        error: what broke it, where that is nobody's mistake but ours.
    """
    found = sys.exc_info()[1]
    if error is None and isinstance(found, _REFUSED) and in_detail():
        error = found
    command = before if before.startswith("mnist-") else None
    entry = Entry("command.failed", message, command=command, code=int(code))
    with contextlib.suppress(OSError):
        say(entry, f"{before}: {message}" if before else message, logging.ERROR, error=error)
