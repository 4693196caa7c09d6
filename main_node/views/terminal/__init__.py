"""What is on the terminal while a run goes on: a live display, lines, JSON, or nothing."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from console.logs import FORMAT_HELP, LOG_FORMATS, LOG_LEVELS, set_up_logs
from protocol.options import Checked, option

if TYPE_CHECKING:
    from .lines import Lines
    from .objects import Objects


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """What is shown, and where."""

    json: bool = option(
        False,
        "Print the result as one JSON object, and only that; draw no pictures.",
        this_start=True,
    )
    quiet: bool = option(False, "Show nothing while it runs.", this_start=True)
    log_level: str = option(
        "warning", "Log things of this importance and above, on standard error.",
        choices=LOG_LEVELS,
    )  # fmt: skip
    log_format: str = option("text", FORMAT_HELP, choices=LOG_FORMATS, this_start=True)


def view(options: Options) -> Lines | Objects | None:
    """Return the view; log lines go where it lets them."""
    if options.log_format == "json":
        from .objects import Objects

        set_up_logs(options.log_level, format="json")
        return None if options.quiet else Objects()
    from .lines import Lines, Quiet

    if options.quiet or not _may_be_terminal():
        set_up_logs(options.log_level)
        return (Quiet if options.quiet else Lines)(sys.stderr)
    from rich.console import Console

    from .screen import ConsoleStream, Screen

    console = Console(stderr=True)
    screen = console.is_terminal
    set_up_logs(options.log_level, cast(IO[str], ConsoleStream(console)) if screen else None)
    return Screen(console) if screen else Lines(sys.stderr)


def _may_be_terminal() -> bool:
    """Whether rich, whose import takes a while, has to be asked whether there is a terminal."""
    forced = {"FORCE_COLOR", "TTY_COMPATIBLE"} & os.environ.keys()
    return bool(forced) or sys.stderr.isatty()
