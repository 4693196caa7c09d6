"""`mnist-status`: how a main node's computing nodes and jobs are, live or as JSON."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click

from console.exits import Exit, end
from console.logs import set_up_logs
from console.options import options
from console.words import gap, shortened
from protocol import AddressError, KeysError
from protocol.errors import NodeError
from protocol.machine.watching import NodeState, Overview
from protocol.wire.addresses import split_address
from protocol.wire.messages import NodeStatus
from protocol.wire.words import safe_line, safe_name

from .events import Printer, jsonable
from .node import StatusNode
from .options import ShowOptions, WatchOptions

_end = partial(end, "mnist-status")
#: Between two looks of the live display, and between two lines of `--json --follow`.
LOOK_SECONDS = 0.5
#: With --discover, others may answer a little later than the first.
SETTLE_SECONDS = 1.5
_COLOURS = {"running": "green", "unknown": "yellow", "stopped": "dim", "dropped": "red",
            "done": "green", "let go": "dim"}  # fmt: skip
_SIGNS = {"running": "●", "unknown": "?", "stopped": "○", "dropped": "✗", "done": "✓",
          "let go": "○"}  # fmt: skip


@click.command(context_settings={"show_default": True})
@options(WatchOptions, ShowOptions)
@click.version_option(package_name="mnist-merge", prog_name="mnist-status")
def main(
    timeout_seconds: float, once: bool, as_json: bool, follow: bool, events: bool, log_level: str,
    log_format: str,
    **values: Any,
) -> None:  # fmt: skip
    """Show how the computing nodes and jobs of a main node are.

    On a terminal the display is live until Ctrl-C; elsewhere, or with --once, it is printed once.
    A node is running, unknown (silent for a while), stopped (it said goodbye) or dropped (it went
    without a word).

    With --events it prints what happens instead, until Ctrl-C; what happens while the connection is
    cut is printed when there is one again.

    Every option can be given in the environment too: MNIST_CONNECT for --connect, and so on.
    """
    if follow and not as_json:
        raise click.UsageError("--follow goes with --json; without it the display is live anyway")
    if events and (once or follow):
        raise click.UsageError("--events goes on until Ctrl-C, with neither --once nor --follow")
    set_up_logs(log_level, format=log_format)
    printer = Printer(as_json) if events else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    answered = False
    try:
        with StatusNode(address=values.pop("connect") or None, on_event=printer, **values) as node:
            node.process_status_async()
            if sys.stderr.isatty() and log_format == "text":
                click.echo("looking for a main node; Ctrl-C ends", err=True)
            answered = node.wait(timeout_seconds)
            if not answered:
                _end(Exit.NO_NODE, _nobody(node, timeout_seconds, values["domain"]))
            if printer is not None:
                printer.wait()
            if values["discover"] and not follow:
                time.sleep(SETTLE_SECONDS)
            _tell(node, once, as_json, follow)
    except KeyboardInterrupt:
        sys.exit(Exit.DONE if answered else Exit.INTERRUPTED)
    except (AddressError, KeysError) as error:
        _end(Exit.USAGE, str(error))
    except NodeError as error:
        _end(Exit.REFUSED, str(error))


def _tell(node: StatusNode, once: bool, as_json: bool, follow: bool) -> None:
    if as_json:
        _print_json(node, follow)
    elif once or not sys.stdout.isatty():
        _print(node)
    else:
        _show(node)


def _nobody(node: StatusNode, seconds: float, domain: int) -> str:
    """Return what there is to say where no main node has answered."""
    views = node.overviews()
    if not views:
        ignored = "".join(f"; {reason}" for reason in node.ignored)
        return (
            f"no main node of domain {domain} was found in this network after {seconds:g} s"
            f"{ignored or ' (it needs --announce, and multicast)'}"
        )
    return "\n".join(f"no answer from {v.address} after {seconds:g} s: {_why(v)}" for v in views)


def _why(view: Overview) -> str:
    host, _ = split_address(view.address, 1)
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return f"there is no host {host}"
    return view.trouble or "nothing listens there; is the main node started, and the address right?"


def as_plain(overviews: Sequence[Overview]) -> dict[str, object]:
    """Return what `--json` prints."""
    return {
        "mains": [
            {
                "address": view.address, "id": view.main.id, "state": view.main.state,
                "about": jsonable(view.about), "jobs": jsonable(view.jobs),
                "nodes": [_plain(node) for node in view.nodes.values()],
            }
            for view in overviews
        ]
    }  # fmt: skip


def _plain(node: NodeStatus) -> dict[str, object]:
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
        console.print(render(view, names=300), soft_wrap=True)


def _show(node: StatusNode) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    with Live(console=console, refresh_per_second=4, screen=False) as live:
        while True:
            views = [render(view, width=console.width) for view in node.overviews()]
            live.update(Group(*views))
            time.sleep(LOOK_SECONDS)


def render(view: Overview, names: int = 28, width: int = 80) -> Any:
    """Return what people see of a main node and its nodes.

    Args:
        view: the main node.
        names: letters of a node's name that are shown; a longer one is cut in the middle.
        width: of the terminal, letters.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    state, here = view.main.state, view.main.state == NodeState.RUNNING.value
    ended = state == NodeState.STOPPED.value
    why = f": {view.main.reason}" if view.main.reason else ""
    if ended and view.about.get("done") is True:
        state, why = "done", ""
    head = Text.assemble(
        (f"{_SIGNS.get(state, '?')} ", _COLOURS.get(state, "")),
        (view.main.id or "a main node", "bold"), f" at {view.address}",
        "" if here else f", {state}{why}",
    )  # fmt: skip
    table = Table(box=None, padding=(0, gap(width)), header_style="dim")
    for title in ("node", "state", "waiting", "solved"):
        table.add_column(title, no_wrap=True)
    table.add_column("doing")  # gives way in a narrow terminal: only it may be cut
    for node in sorted(view.nodes.values(), key=lambda node: node.state != "running"):
        if node.kind == "status":
            continue
        # Nobody tells how they are any more, and nobody needs to worry: it has let them go.
        now = "let go" if ended and node.state == NodeState.UNKNOWN.value else node.state
        shown = Text(f"{_SIGNS.get(now, '?')} {now}", _COLOURS.get(now, ""))
        table.add_row(
            Text(shortened(node.id, names)), shown,
            str(node.waiting or ""), str(node.solved),
            Text(_doing(node), no_wrap=True, overflow="ellipsis"),
        )  # fmt: skip
    watchers = sum(n.kind == "status" and n.state == "running" for n in view.nodes.values())
    last = [Text(f"{watchers} watching", "dim")] if here else []
    lines = [line for line in (_about(view.about), _jobs(view)) if line]
    return Group(head, *(Text(f"  {line}") for line in lines), table, *last)


def _about(about: Mapping[str, Any]) -> str:
    """Return what a program says of itself: `mnist-main` its run; others anything."""
    told = {name: safe_line(str(value), 80) for name, value in about.items()}
    if "run" not in told:
        return ", ".join(f"{safe_name(name)} {value}" for name, value in told.items())
    line = [f"run {told['run']}"]
    if "done" in told:
        line.append("done")
    if "round" in told:
        line.append(f"round {told['round']} of {told.get('rounds')}")
        line.append(f"{told.get('round_done')} of {told.get('round_jobs')} jobs of it done")
    if isinstance(about.get("accuracy"), float):
        line.append(f"accuracy {about['accuracy']:.2%}")
    return ", ".join(line)


def _jobs(view: Overview) -> str:
    jobs = {name: n for name, n in view.jobs.items() if isinstance(n, (int, float))}
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
