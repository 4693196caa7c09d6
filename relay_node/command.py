"""`mnist-relay`: join networks that can't reach each other."""

from __future__ import annotations

import logging
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import click

from console.exits import Exit, end
from console.logs import set_up_logs
from console.options import options
from protocol import AddressError, InsecureAddress, KeysError
from protocol.carrier.keys import main_public
from protocol.wire.entry import Entry

from .errors import ConfigError
from .node import RelayNode
from .options import RelayOptions

_end = partial(end, "mnist-relay")
log = logging.getLogger("mnist.relay")


@click.command(context_settings={"show_default": True})
@options(RelayOptions, prefix="MNIST_RELAY")
@click.version_option(package_name="mnist-merge", prog_name="mnist-relay")
def main(**values: Any) -> None:
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
    if values["keys"] is not None and not values["announce"]:
        raise click.UsageError("--keys goes with --announce: a relay itself needs none")
    config = RelayOptions(**values)
    set_up_logs(config.log_level, format=config.log_format)
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
            log.info(Entry("relay.ready", **{"from": way_in, "to": way_out}))
        while not over.wait(0.5):  # in slices: a signal may be another thread's
            if relay.failure:
                _end(Exit.JOB_FAILED, f"the relay broke down: {relay.failure}")
        log.info(Entry("relay.leaving", connections=relay.total, now=relay.carried))
