"""`mnist-compute`: solve a main node's jobs on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import threading
from functools import partial
from typing import Any, NoReturn

import click

from console.exits import Exit
from console.logs import LOG_LEVELS, set_up_logs
from protocol import AddressError, KeysError
from protocol.carrier.latch import Latch
from protocol.carrier.sockets import DEFAULT_ADDRESS
from protocol.wire.limits import MAX_COUNT

from .children import ChildReplier
from .config import ComputeConfig
from .errors import ConfigError, Refused
from .node import AsyncComputingNode, memory_bytes
from .pulse import Pulse
from .sharing import SharedMemory

log = logging.getLogger("mnist.compute")
_DEFAULT = ComputeConfig()
#: A signal is seen after so long at most.
SLICE_SECONDS = 0.1
#: For --max-memory.
LEAST_MEMORY = 10 << 20


class _Size(click.ParamType[int]):
    """A number of bytes: 500MB, 4GB, 1.5GiB."""

    name = "size"
    _UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
              "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}  # fmt: skip

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?I?)B?", str(value).strip().upper())
        if match is None or match[2] not in self._UNITS:
            self.fail(f"{value!r} is no size; one looks like 500MB or 4GB", param, ctx)
        nbytes = int(float(match[1]) * self._UNITS[match[2]])
        if not LEAST_MEMORY <= nbytes <= MAX_COUNT:
            few = nbytes < LEAST_MEMORY
            why = "too little for any job: 100MB is enough for small ones" if few else "no memory's"
            self.fail(f"{value!r} is {why}", param, ctx)
        return nbytes


@click.command(context_settings={"auto_envvar_prefix": "MNIST", "show_default": True})
@click.option(
    "--connect", multiple=True, default=_DEFAULT.connect, metavar="ADDRESS",
    help="Where a main node listens; repeat it to serve several. They may start later."
    f"  [default: {DEFAULT_ADDRESS}, or none with --discover]", show_default=False,
)  # fmt: skip
@click.option(
    "--discover", is_flag=True,
    help="Find the main nodes of the domain that announce themselves in this network"
    " (mnist-main --announce), those that come later too.",
)  # fmt: skip
@click.option(
    "--domain", default=_DEFAULT.domain, type=click.IntRange(0, MAX_COUNT),
    help="Work with main nodes of this domain only.",
)  # fmt: skip
@click.option(
    "--keys", metavar="DIR",
    help="This node's keys, as mnist-keys makes them: to reach main nodes that have some.",
)  # fmt: skip
@click.option(
    "--insecure", is_flag=True,
    help="With --discover and without keys, serve main nodes on other machines too: in a network"
    " where you trust everybody.",
)  # fmt: skip
@click.option(
    "--name", default="", help="What people see.  [default: this host's name]", show_default=False
)
@click.option(
    "--tasks", default=_DEFAULT.tasks, type=click.IntRange(1, 1024),
    help="How many jobs to run at once; each uses the threads that the main node says (1).",
)  # fmt: skip
@click.option(
    "--max-jobs", type=click.IntRange(min=1), help="Leave after so many jobs.  [default: never]"
)
@click.option(
    "--max-memory", type=_Size(), metavar="SIZE",
    help="What the jobs may take together, e.g. 4GB: half of it for their arrays, half for the"
    " work itself (beside 0.3 GB for each of --tasks, for its libraries). A job that wants more"
    " fails, and main nodes give it to others.  [default: half of this machine's]",
)  # fmt: skip
@click.option(
    "--max-job-seconds", type=click.FloatRange(0, 1e9, min_open=True), metavar="SECONDS",
    help="Stop a job after so long; main nodes give it to others.  [default: never]",
)  # fmt: skip
@click.option(
    "--learners", multiple=True, metavar="NAME",
    help="Take jobs of this kind only: neural, or algebraic; repeat it for several."
    "  [default: all]", show_default=False,
)  # fmt: skip
@click.option(
    "--pulse", metavar="FILE",
    help="Change this file's time every second, for a health check. (systemd's watchdog is told"
    " where there is one.)",
)  # fmt: skip
@click.option(
    "--log-level", default=_DEFAULT.log_level, type=click.Choice(LOG_LEVELS),
    help="Say things of this importance and above, on standard error.",
)  # fmt: skip
@click.option("--lifeline", type=int, hidden=True, help="Leave when this descriptor closes.")
@click.version_option(package_name="mnist-merge", prog_name="mnist-compute")
def main(lifeline: int | None, **options: Any) -> None:
    """Solve jobs for one or more main nodes, until told to leave.

    Ctrl-C (or SIGTERM) hands back what is unfinished and leaves; a second one leaves at once.

    Every option can be given in the environment too: MNIST_CONNECT for --connect, and so on.
    """
    config = ComputeConfig(**{**options, "name": options["name"] or socket.gethostname()})
    set_up_logs(config.log_level)
    try:
        _serve(config, lifeline)
    except (AddressError, KeysError, ConfigError) as error:
        _end(Exit.USAGE, str(error))
    except Refused as error:
        _end(Exit.REFUSED, f"refused by {error}")


def _end(code: Exit, message: str) -> NoReturn:
    click.echo(f"mnist-compute: {message}", err=True)
    sys.exit(code)


def _serve(config: ComputeConfig, lifeline: int | None) -> None:
    from learning import names, software

    odd = set(config.learners) - set(names())
    if odd:
        raise ConfigError(f"no learner {min(odd)!r}; there is {', '.join(names())}")
    learners = config.learners or names()
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
            config.name, config.domain, ChildReplier(config.tasks, learners, most // 2),
            address=config.connect or None, discover=config.discover, insecure=config.insecure,
            tasks=config.tasks, max_jobs=config.max_jobs, learners=learners,
            max_bytes=most // 2 or None, max_job_seconds=config.max_job_seconds,
            memory=SharedMemory(), keys=config.keys, pulse=pulse.beat, versions=software(),
        )  # fmt: skip
        node.run()
        log.info("node.looking id=%s for=%s", node.get_id(), _what(config))
        pulse.notify("READY=1")
        while not leaving.is_set():
            if node.wait(SLICE_SECONDS):
                break
        else:
            log.info("node.leaving; a second Ctrl-C leaves at once")
    finally:
        if node is not None:
            node.stop()


def _what(config: ComputeConfig) -> str:
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
