"""The options of `mnist-status`."""

from __future__ import annotations

from dataclasses import dataclass

from console.logs import FORMAT_HELP, LOG_FORMATS, LOG_LEVELS
from protocol.options import Checked, option
from protocol.wire.addresses import DEFAULT_ADDRESS
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class WatchOptions(Checked):
    """Which main nodes are watched."""

    connect: tuple[str, ...] = option(
        (), "Where a main node listens; repeat it to watch several.", metavar="ADDRESS",
        unset=f"{DEFAULT_ADDRESS}, or none with --discover",
    )  # fmt: skip
    discover: bool = option(
        False, "Watch the main nodes of the domain that announce themselves in this network."
    )
    domain: int = option(0, "Watch main nodes of this domain only.", least=0, most=MAX_COUNT)
    keys: str | None = option(
        None, "A node's keys, as mnist-keys makes them: to reach main nodes that have some.",
        metavar="DIR", path=True,
    )  # fmt: skip
    insecure: bool = option(
        False, "With --discover and without keys, watch main nodes on other machines too."
    )
    name: str = option(
        "status",
        "What others see, and whose keys to take where --keys holds several nodes'.",
        may_be_empty=True,
    )


@dataclass(frozen=True, kw_only=True)
class ShowOptions(Checked):
    """What is shown of them, and for how long."""

    timeout_seconds: float = option(
        10.0, "Give up if no main node has answered after so long.", flag="--timeout", least=0,
        most=1e6, metavar="SECONDS",
    )  # fmt: skip
    once: bool = option(False, "Show how things are now, and end.")
    as_json: bool = option(False, "Print one JSON object, and only that.", flag="--json")
    follow: bool = option(False, "With --json, print a line for every change.")
    events: bool = option(
        False,
        "Print what happens, from the first event that is kept, a line for each; with --json as"
        " JSON objects.",
    )
    log_level: str = option(
        "error", "Say things of this importance and above, on standard error.", choices=LOG_LEVELS
    )
    log_format: str = option("text", FORMAT_HELP, choices=LOG_FORMATS)
