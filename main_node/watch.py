"""`mnist-status`: how a main node's computing nodes and jobs are, live or as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from protocol import AddressError, KeysError
from protocol.codec import MAX_COUNT
from protocol.command import LOG_LEVELS, Exit, set_up_logs
from protocol.messages import NodeStatus
from protocol.sockets import DEFAULT_ADDRESS
from protocol.status import NodeState, Overview

from .errors import NodeError
from .status import StatusNode

#: Between two looks of the live display, and between two lines of `--json --follow`.
LOOK_SECONDS = 0.5
#: With --discover, others may answer a little later than the first.
SETTLE_SECONDS = 1.5
_COLOURS = {"running": "green", "unknown": "yellow", "stopped": "dim", "dropped": "red"}
_SIGNS = {"running": "●", "unknown": "?", "stopped": "○", "dropped": "✗"}


@click.command(context_settings={"auto_envvar_prefix": "MNIST", "show_default": True})
@click.option(
    "--connect", multiple=True, metavar="ADDRESS", show_default=False,
    help="Where a main node listens; repeat it to watch several."
    f"  [default: {DEFAULT_ADDRESS}, or none with --discover]",
)  # fmt: skip
@click.option(
    "--discover", is_flag=True,
    help="Watch the main nodes of the domain that announce themselves in this network.",
)  # fmt: skip
@click.option(
    "--domain", default=0, type=click.IntRange(0, MAX_COUNT),
    help="Watch main nodes of this domain only.",
)  # fmt: skip
@click.option(
    "--keys", metavar="DIR",
    help="A node's keys, as mnist-keys makes them: to reach main nodes that have some.",
)  # fmt: skip
@click.option(
    "--insecure", is_flag=True,
    help="With --discover and without keys, watch main nodes on other machines too.",
)  # fmt: skip
@click.option("--name", default="status", help="What others see.")
@click.option(
    "--timeout", "timeout_seconds", default=10.0, type=click.FloatRange(0, 1e6), metavar="SECONDS",
    help="Give up if no main node has answered after so long.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Show how things are now, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and only that.")
@click.option("--follow", is_flag=True, help="With --json, print a line for every change.")
@click.option(
    "--log-level", default="error", type=click.Choice(LOG_LEVELS),
    help="Say things of this importance and above, on standard error.",
)  # fmt: skip
@click.version_option(package_name="mnist-merge", prog_name="mnist-status")
def main(
    timeout_seconds: float, once: bool, as_json: bool, follow: bool, log_level: str, **options: Any
) -> None:
    """Show how the computing nodes and jobs of a main node are.

    On a terminal the display is live until Ctrl-C; elsewhere, or with --once, it is printed once.
    A node is running, unknown (silent for a while), stopped (it said goodbye) or dropped (it went
    without a word).
    """
    if follow and not as_json:
        raise click.UsageError("--follow goes with --json; without it the display is live anyway")
    set_up_logs(log_level)
    addresses = options.pop("connect") or None
    try:
        with StatusNode(address=addresses, **options) as node:
            node.process_status_async()
            if not node.wait(timeout_seconds):
                _end(Exit.NO_NODE, _nobody(node, timeout_seconds))
            if options["discover"] and not follow:
                time.sleep(SETTLE_SECONDS)
            if as_json:
                _print_json(node, follow)
            elif once or not sys.stdout.isatty():
                _print(node)
            else:
                _show(node)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        sys.stdout = None  # nobody flushes it at the end
    except (AddressError, KeysError) as error:
        _end(Exit.USAGE, str(error))
    except NodeError as error:
        _end(Exit.REFUSED, str(error))


def _end(code: Exit, message: str) -> NoReturn:
    click.echo(f"mnist-status: {message}", err=True)
    sys.exit(code)


def _nobody(node: StatusNode, seconds: float) -> str:
    where = ", ".join(view.address for view in node.overviews())
    told = f"at {where}" if where else "was found in this network (mnist-main --announce)"
    return (
        f"no main node {told} after {seconds:g} s: is it started, is the address right, and does"
        " it need --keys?"
    )


def as_plain(overviews: Sequence[Overview]) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "mains": [
            {
                "address": view.address, "id": view.main.id, "state": view.main.state,
                "about": dict(view.about), "jobs": dict(view.jobs),
                "nodes": [_plain(node) for node in view.nodes.values()],
            }
            for view in overviews
        ]
    }  # fmt: skip


def _plain(node: NodeStatus) -> dict[str, Any]:
    running = [{"job": job, "done": done} for job, done in node.running]
    return {**node._asdict(), "running": running}


def _print_json(node: StatusNode, follow: bool) -> None:
    last = None
    while True:
        now = as_plain(node.overviews())
        if now != last:
            print(json.dumps(now), flush=True)
        if not follow:
            return
        last = now
        time.sleep(LOOK_SECONDS)


def _print(node: StatusNode) -> None:
    from rich.console import Console

    # Elsewhere than on a terminal nobody knows how wide it is; nothing is cut.
    console = Console(width=None if sys.stdout.isatty() else 300)
    for view in node.overviews():
        console.print(render(view), soft_wrap=True)


def _show(node: StatusNode) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    with Live(console=Console(), refresh_per_second=4, screen=False) as live:
        while True:
            live.update(Group(*(render(view) for view in node.overviews())))
            time.sleep(LOOK_SECONDS)


def render(view: Overview) -> Any:
    """Return what people see of a main node and its nodes."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    state = view.main.state
    head = Text.assemble(
        (f"{_SIGNS.get(state, '?')} ", _COLOURS.get(state, "")),
        (view.main.id or "a main node", "bold"), f" at {view.address}",
        "" if state == NodeState.RUNNING.value else f": {state} {view.main.reason}",
    )  # fmt: skip
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("node", "state", "waiting", "solved"):
        table.add_column(title, no_wrap=True)
    table.add_column("doing")  # gives way in a narrow terminal: only it may be cut
    for node in sorted(view.nodes.values(), key=lambda node: node.state != "running"):
        if node.kind == "status":
            continue
        colour = _COLOURS.get(node.state, "")
        table.add_row(
            node.id, Text(f"{_SIGNS.get(node.state, '?')} {node.state}", colour),
            str(node.waiting or ""), str(node.solved),
            Text(_doing(node), no_wrap=True, overflow="ellipsis"),
        )  # fmt: skip
    watchers = sum(n.kind == "status" and n.state == "running" for n in view.nodes.values())
    last = Text(f"{watchers} watching", "dim")
    lines = [line for line in (_about(view), _jobs(view)) if line]
    return Group(head, *(Text(f"  {line}") for line in lines), table, last)


def _about(view: Overview) -> str:
    about = view.about
    told = []
    if "run" in about:
        told.append(f"run {about['run']}")
    if "round" in about:
        told.append(f"round {about['round']} of {about.get('rounds')}")
        told.append(f"{about.get('round_done')} of {about.get('round_jobs')} jobs of it done")
    if "accuracy" in about:
        told.append(f"accuracy {about['accuracy']:.2%}")
    return ", ".join(told)


def _jobs(view: Overview) -> str:
    jobs = view.jobs
    if not jobs:
        return ""
    told = [f"{jobs.get(name, 0):,} {name}" for name in ("queued", "running", "done", "failed")]
    if jobs.get("retries"):
        told.append(f"{jobs['retries']:,} made again")
    pace = jobs.get("per_second", 0.0)
    rate = f"{pace:,.3g} a second" if pace >= 1 or not pace else f"{60 * pace:.3g} a minute"
    return f"jobs: {', '.join(told)}; {rate}"


def _doing(node: NodeStatus) -> str:
    if not node.running:
        return node.reason or ("idle" if node.state == NodeState.RUNNING.value else "")
    told = ", ".join(f"{job} {done:.0%}" for job, done in node.running[:3])
    more = f" and {len(node.running) - 3} more" if len(node.running) > 3 else ""
    return f"{told}{more}{f': {node.note}' if node.note else ''}"
