"""What a user says of what is to be shown."""

from __future__ import annotations

from dataclasses import dataclass

from console.logs import LOG_LEVELS
from protocol.options import option


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """What is shown, and where."""

    json: bool = option(False, "Print the result as one JSON object, and only that.")
    quiet: bool = option(False, "Show nothing while it runs.")
    log_level: str = option(
        "warning", "Log things of this importance and above, on standard error.",
        choices=LOG_LEVELS,
    )  # fmt: skip
