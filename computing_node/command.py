"""`mnist-compute`: solve a main node's jobs on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from functools import partial
from pathlib import Path
from typing import Any

import click

from console.exits import Exit, end
from console.logs import set_up_logs
from console.options import options
from mnist_merge import ONE_THREAD
from protocol import AddressError, KeysError
from protocol.carrier.latch import Latch
from protocol.wire.addresses import DEFAULT_ADDRESS, is_loopback
from protocol.wire.entry import Entry

from .errors import ConfigError, Refused
from .options import ComputeOptions
from .pulse import Pulse

_end = partial(end, "mnist-compute")
log = logging.getLogger("mnist.compute")
#: A signal is seen after so long at most.
SLICE_SECONDS = 0.1


@click.command(context_settings={"show_default": True})
@options(ComputeOptions)
@click.option("--lifeline", type=int, hidden=True, help="Leave when this descriptor closes.")
@click.option("--template", type=int, hidden=True, help="Have children forked from over there.")
@click.option("--seat", type=int, default=0, hidden=True, help="Which of this host's nodes it is.")
@click.version_option(package_name="mnist-merge", prog_name="mnist-compute")
def main(lifeline: int | None, template: int | None, seat: int, **values: Any) -> None:
    """Solve jobs for one or more main nodes, until told to leave.

    Ctrl-C (or SIGTERM) hands back what is unfinished and leaves; a second one leaves at once.

    Every option can be given in the environment too: MNIST_CONNECT for --connect, and so on.
    """
    for name, one in ONE_THREAD.items():  # before numpy is imported: this process computes nothing
        os.environ.setdefault(name, one)
    config = ComputeOptions(**{**values, "name": values["name"] or socket.gethostname()})
    set_up_logs(config.log_level, format=config.log_format)
    try:
        _serve(config, lifeline, template, seat)
    except (AddressError, KeysError, ConfigError) as error:
        _end(Exit.USAGE, str(error))
    except Refused as error:
        _end(Exit.REFUSED, f"refused by {error}")


def _serve(config: ComputeOptions, lifeline: int | None, template: int | None, seat: int) -> None:
    from learning import software
    from learning.registry import kinds

    from . import devices
    from .children import ChildReplier
    from .node import AsyncComputingNode, memory_bytes
    from .sharing import SharedMemory

    odd = set(config.learners) - set(kinds())
    if odd:
        raise ConfigError(f"no learner {min(odd)!r}; there is {', '.join(kinds())}")
    learners = config.learners or kinds()
    _check_code(config)
    offered = devices.find(config.device, seat)
    most = config.max_memory or memory_bytes() // 2
    node: AsyncComputingNode | None = None
    leaving = Latch()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, partial(_leave, leaving))
    try:
        if lifeline is not None:
            threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
        pulse = Pulse(config.pulse)
        node = AsyncComputingNode(
            config.name, config.domain,
            ChildReplier(
                config.tasks, learners, most // 2, template, offered, config.code,
                config.accept_code,
            ),
            accelerator=str(offered),
            address=config.connect or None, discover=config.discover, insecure=config.insecure,
            tasks=config.tasks, max_jobs=config.max_jobs, kinds=learners,
            max_bytes=most // 2 or None, max_job_seconds=config.max_job_seconds,
            memory=SharedMemory(), keys=config.keys, pulse=pulse.beat, versions=software(),
        )  # fmt: skip
        node.run()
        log.info(
            Entry("node.looking", id=node.get_id(), device=str(offered), **{"for": _what(config)})
        )
        pulse.notify("READY=1")
        while not leaving.is_set():
            if node.wait(SLICE_SECONDS):
                break
        else:
            log.info(Entry("node.leaving", "a second Ctrl-C leaves at once"))
    finally:
        if node is not None:
            node.stop()


def _check_code(config: ComputeOptions) -> None:
    """Raise where code is looked for in no folder, or would be taken from anybody.

    Raises:
        ConfigError: it is.
    """
    for folder in config.code:
        if not Path(folder).is_dir():
            raise ConfigError(f"--code {folder}: no such folder")
    here = all(map(is_loopback, config.connect or (DEFAULT_ADDRESS,))) and not config.discover
    if config.accept_code and config.keys is None and not here:
        raise ConfigError(
            "--accept-code without --keys takes code from this machine only: whoever answers at"
            " another's address could have it run anything"
        )


def _what(config: ComputeOptions) -> str:
    """Return what a node looks for, in words."""
    announced = [f"announced main nodes of domain {config.domain}"] if config.discover else []
    return ", ".join([*config.connect, *announced]) or DEFAULT_ADDRESS


def _leave(leaving: Latch, number: int, frame: object) -> None:
    """Leave in good order; the second time at once."""
    if leaving.is_set():
        os._exit(Exit.INTERRUPTED)
    leaving.set()


def _watch(descriptor: int) -> None:
    """Leave when the process at the other end of a pipe is gone, however it went."""
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
