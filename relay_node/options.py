"""The options of `mnist-relay`."""

from __future__ import annotations

from dataclasses import dataclass

from console.logs import FORMAT_HELP, LOG_FORMATS, LOG_LEVELS
from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class RelayOptions(Checked):
    """The ways of a relay, in and out."""

    bind: tuple[str, ...] = option(
        (), "Way in: listen here for computing nodes, or for another relay's --connect.",
        metavar="ADDRESS",
    )  # fmt: skip
    dial: tuple[str, ...] = option(
        (),
        "Way in: dial another relay's --accept, and take the nodes that come there. For the main"
        " node's side, where that can't be reached from outside.",
        metavar="ADDRESS",
    )
    connect: tuple[str, ...] = option(
        (), "Way out: the main node, or another relay's --bind.", metavar="ADDRESS"
    )
    accept: tuple[str, ...] = option(
        (), "Way out: listen here for another relay's --dial.", metavar="ADDRESS"
    )
    secret: str | None = option(
        None,
        "What relays that --dial and --accept have in common: made by mnist-keys secret FILE.",
        metavar="FILE",
        path=True,
    )
    insecure: bool = option(
        False,
        "Let strangers in: to main nodes without keys, by relays without a secret. In networks"
        " where you trust everybody.",
    )
    announce: bool = option(
        False, "Let computing nodes in the network of --bind find it (mnist-compute --discover)."
    )
    domain: int = option(0, "With --announce: the main node's domain.", least=0, most=MAX_COUNT)
    keys: str | None = option(
        None,
        "With --announce: where the main node's public key is (main.pub), to announce it too.",
        metavar="DIR",
        path=True,
    )
    log_level: str = option(
        "info", "Say things of this importance and above, on standard error.", choices=LOG_LEVELS
    )
    log_format: str = option("text", FORMAT_HELP, choices=LOG_FORMATS)
