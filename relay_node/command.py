"""`mnist-relay`: join networks that can't reach each other."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import click

from console.exits import Exit
from console.logs import LOG_LEVELS, set_up_logs
from protocol import AddressError, InsecureAddress, KeysError
from protocol.carrier.keys import main_public
from protocol.wire.limits import MAX_COUNT

from .config import RelayConfig
from .errors import ConfigError
from .node import RelayNode

log = logging.getLogger("mnist.relay")
_DEFAULT = RelayConfig()


@click.command(context_settings={"auto_envvar_prefix": "MNIST_RELAY", "show_default": True})
@click.option(
    "--bind", multiple=True, metavar="ADDRESS",
    help="Way in: listen here for computing nodes, or for another relay's --connect.",
)  # fmt: skip
@click.option(
    "--dial", multiple=True, metavar="ADDRESS",
    help="Way in: dial another relay's --accept, and take the nodes that come there. For the main"
    " node's side, where that can't be reached from outside.",
)  # fmt: skip
@click.option(
    "--connect", multiple=True, metavar="ADDRESS",
    help="Way out: the main node, or another relay's --bind.",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="ADDRESS",
    help="Way out: listen here for another relay's --dial.",
)  # fmt: skip
@click.option(
    "--secret", metavar="FILE",
    help="What relays that --dial and --accept have in common: made by mnist-keys secret FILE.",
)  # fmt: skip
@click.option(
    "--insecure", is_flag=True,
    help="Let strangers in: to main nodes without keys, by relays without a secret. In networks"
    " where you trust everybody.",
)  # fmt: skip
@click.option(
    "--announce", is_flag=True,
    help="Let computing nodes in the network of --bind find it (mnist-compute --discover).",
)  # fmt: skip
@click.option(
    "--domain", default=_DEFAULT.domain, type=click.IntRange(0, MAX_COUNT),
    help="With --announce: the main node's domain.",
)  # fmt: skip
@click.option(
    "--keys", metavar="DIR",
    help="With --announce: where the main node's public key is (main.pub), to announce it too.",
)  # fmt: skip
@click.option(
    "--log-level", default=_DEFAULT.log_level, type=click.Choice(LOG_LEVELS),
    help="Say things of this importance and above, on standard error.",
)  # fmt: skip
@click.version_option(package_name="mnist-merge", prog_name="mnist-relay")
def main(**options: Any) -> None:
    """Carry computing nodes' connections to a main node that they can't reach themselves.

    \b
    Nodes reach the relay, the relay reaches the main node:
      mnist-relay --bind tcp://0.0.0.0:5556 --connect tcp://main:5555
    Both sides reach only this relay; one at the main node's side dials in:
      mnist-relay --bind tcp://0.0.0.0:5556 --accept tcp://0.0.0.0:5557 --secret FILE
      mnist-relay --dial tcp://public:5557 --connect tcp://127.0.0.1:5555 --secret FILE

    Relays may be chained. What they carry they can't read, where the main node has keys. Several
    ways: repeat the options; the first way in leads to the first way out. Every option can be given
    in the environment too: MNIST_RELAY_BIND for --bind, and so on.
    """
    if options["keys"] is not None and not options["announce"]:
        raise click.UsageError("--keys goes with --announce: a relay itself needs none")
    config = RelayConfig(**options)
    set_up_logs(config.log_level)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        public = None if config.keys is None else main_public(Path(config.keys))
        relay = RelayNode(
            bind=config.bind, dial=config.dial, connect=config.connect, accept=config.accept,
            secret=config.secret, insecure=config.insecure, announce=config.announce,
            domain=config.domain, public=public,
        )  # fmt: skip
    except (ConfigError, AddressError, InsecureAddress, KeysError) as error:
        _end(Exit.USAGE, str(error))
    with relay:
        ways_in = relay.addresses or [f"{address} (dialled)" for address in config.dial]
        ways_out = config.connect or [f"{address} (accepted)" for address in relay.meetings]
        for way_in, way_out in zip(ways_in, ways_out, strict=True):
            log.info("relay.ready from=%s to=%s", way_in, way_out)
        while not over.wait(0.5):  # in slices: a signal may be another thread's
            if relay.failure:
                _end(Exit.JOB_FAILED, f"the relay broke down: {relay.failure}")
        log.info("relay.leaving connections=%d now=%d", relay.total, relay.carried)


def _end(code: Exit, message: str) -> NoReturn:
    click.echo(f"mnist-relay: {message}", err=True)
    sys.exit(code)
