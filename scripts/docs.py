"""Write the parts of the documents that are made from the code, or check that they are up to date.

Such a part stands between `<!-- made: NAME -->` and `<!-- end -->`.

Usage: python scripts/docs.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import grimp

from computing_node.command import main as compute
from console.exits import EXIT_MEANINGS
from learning import merging
from main_node.commands.datasets import main as datasets
from main_node.commands.keys import main as keys
from main_node.commands.merge import main as merge
from main_node.commands.predict import main as predict
from main_node.commands.runs import main as runs
from main_node.commands.train import main as main_
from main_node.run import events
from main_node.run.telling import kind_of
from protocol.machine.ledger import JOB_TRANSITIONS
from protocol.machine.session import SESSION_TRANSITIONS
from protocol.options import declared
from protocol.wire import messages
from protocol.wire.codec import KINDS
from relay_node.command import main as relay
from status_node.command import main as status

ROOT = Path(__file__).parent.parent
_CONFIG = ConfigParser()
_CONFIG.read(ROOT / "setup.cfg")
PACKAGES = _CONFIG["importlinter"]["root_packages"].split()
_PART = re.compile(r"(<!-- made: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TO_NODE = {"Welcome", "Refuse", "JobOffer", "Accepted", "Reject", "Cancel", "Recall", "Stop"}
_WATCHER = {
    "Watch": "watcher → main", "Status": "main → watcher",
    "Follow": "watcher → main", "Happened": "main → watcher",
    "Control": "who controls → main", "Controlled": "main → who controls",
}  # fmt: skip
_BOTH = {"Heartbeat", "Need", "Chunk"}


def _states(table: dict[tuple[Any, str], Any]) -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    for (start, event), end in table.items():
        arrows.setdefault((start.value, end.value), []).append(event)
    first = next(iter(table))[0].value
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items()]
    ends = {end.value for end in table.values()} - {start.value for start, _ in table}
    lines += [f"    {end} --> [*]" for end in sorted(ends)]
    return "\n".join([*lines, "```"])


def _floors() -> str:
    graph = grimp.build_graph(*PACKAGES)
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        for other in PACKAGES:
            imports = package != other and graph.direct_import_exists(
                importer=package, imported=other, as_packages=True
            )
            if imports:
                lines.append(f"    {package} --> {other}")
    return "\n".join([*lines, "```"])


def _messages() -> str:
    lines = ["| no. | message | from → to | fields | |", "|---|---|---|---|---|"]
    for number, kind in KINDS.items():
        way = "main → node" if kind.__name__ in _TO_NODE else "node → main"
        way = _WATCHER.get(kind.__name__, "both" if kind.__name__ in _BOTH else way)
        names = ", ".join(f"`{field.name}`" for field in fields(kind))
        doc = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        lines.append(f"| {number} | `{kind.__name__}` | {way} | {names} | {doc} |")
    return "\n".join(lines)


def _options(command: click.Command) -> str:
    lines = ["| option | default | |", "|---|---|---|"]
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or parameter.hidden:
            continue
        default = parameter.default
        shown = "" if parameter.is_flag or not isinstance(default, (int, float, str)) else default
        text = re.sub(r"\s+\[default: (.*)\]", r" (default: \1)", parameter.help or "")
        lines.append(f"| `{parameter.opts[0]}` | {shown} | {text} |")
    return "\n".join(lines)


def _group(program: str, group: click.Group) -> str:
    lines = ["| command | |", "|---|---|"]
    for name, command in group.commands.items():
        words = [name]
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                words.append(parameter.make_metavar(click.Context(command)))
            else:
                metavar = parameter.metavar or parameter.type.name.upper()
                value = "" if getattr(parameter, "is_flag", False) else f" {metavar}"
                words.append(f"[{parameter.opts[0]}{value}]")
        text = " ".join((command.help or "").split())
        lines.append(f"| `{program} {' '.join(words)}` | {text} |")
    return "\n".join(lines)


def _strategies() -> str:
    lines = ["| name | | options | source |", "|---|---|---|---|"]
    for name in merging.names():
        kind = merging.strategy(name)
        doc = inspect.getdoc(kind) or ""
        first = doc.split("\n\n")[0].replace("\n", " ")
        found = re.search(r"Source: ([^\"]*(?:\"[^\"]*\")?)", doc)
        source = " ".join(found[1].split()).rstrip(",.").rstrip('"') if found else ""
        source += '"' * (source.count('"') % 2)
        said = [
            f"`{each.name}`: {each.about.unset}" if each.default is None
            else f"`{each.name}={each.default}`" for each in declared(kind.options)
        ]  # fmt: skip
        lines.append(f"| `{name}` | {first} | {', '.join(said)} | {source} |")
    return "\n".join(lines)


def _exits() -> str:
    rows = [f"| {int(code)} | {meaning} |" for code, meaning in EXIT_MEANINGS.items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def _run_events() -> str:
    lines = ["| event | fields | |", "|---|---|---|"]
    for kind in [each for each in vars(events).values() if _is_told(each)]:
        names = ", ".join(f"`{field.name}`" for field in fields(kind) if field.name != "at")
        doc = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        lines.append(f"| `run.{kind_of(kind)}` | {names} | {doc} |")
    return "\n".join(lines)


def _is_told(kind: object) -> bool:
    told = isinstance(kind, type) and issubclass(kind, events.Event)
    return told and kind not in (events.Event, events.Stood)


PARTS: dict[str, Callable[[], str]] = {
    "floors": _floors,
    "job-states": lambda: _states(JOB_TRANSITIONS),
    "session-states": lambda: _states(SESSION_TRANSITIONS),
    "messages": _messages,
    "mnist-main": lambda: _options(main_),
    "mnist-compute": lambda: _options(compute),
    "mnist-status": lambda: _options(status),
    "mnist-relay": lambda: _options(relay),
    "mnist-predict": lambda: _options(predict),
    "mnist-merge": lambda: _options(merge),
    "mnist-runs": lambda: _group("mnist-runs", runs),
    "mnist-datasets": lambda: _group("mnist-datasets", datasets),
    "mnist-keys": lambda: _group("mnist-keys", keys),
    "exit-codes": _exits,
    "run-events": _run_events,
    "strategies": _strategies,
}


def remade(text: str) -> str:
    """Return a document with its made parts made anew."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}\n{part[3]}", text)


def main(check: bool) -> int:
    """Write or check every document; return how many are out of date."""
    stale = 0
    assert messages.__doc__
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        new = remade(text)
        if new != text:
            stale += 1
            print(f"{path.relative_to(ROOT)}: {'out of date' if check else 'written'}")
            if not check:
                path.write_text(new)
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
