"""The house: what may stand on what, and that one more of a kind is one more file."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mnist_merge

from .conftest import make_idx_folder
from .processes import Process, run

ROOT = Path(__file__).parent.parent
CONFIG = ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
PACKAGES = CONFIG["options"]["packages"].split()
TOP = {package.partition(".")[0] for package in PACKAGES}


def copied(folder: Path) -> Path:
    """Return a copy of all packages, to be built on."""
    for package in TOP:
        shutil.copytree(ROOT / package, folder / package)
    shutil.copy(mnist_merge.__file__, folder)
    shutil.copy(ROOT / "setup.cfg", folder)
    return folder


#: A file, a line that is added to it, the contract that this breaks, and what is said of it there.
MISPLACED = [
    ("protocol/machine/added.py", "import zmq", "know ZeroMQ", "zmq"),
    ("protocol/wire/added.py", "import zmq.asyncio", "know ZeroMQ", "zmq"),
    ("protocol/machine/added.py", "from ..carrier import sockets",
     "decides", "protocol.carrier.sockets"),
    ("learning/added.py", "import torch", "know torch", "torch"),
    ("learning/algebraic/added.py", "from torch import nn", "know torch", "torch"),
    ("learning/merging/mean.py", "import numba", "know numba", "numba"),
    ("learning/added.py", "import main_node", "stands below", "main_node"),
    ("learning/merging/mean.py", "from ..neural import nets",
     "needs the nets", "learning.neural.nets"),
    ("main_node/run/added.py", "from learning.neural import nets",
     "needs the nets", "learning.neural.nets"),
    ("learning/algebraic/checks.py", "from . import sparse",
     "need no compiler", "learning.algebraic.sparse"),
    ("console/added.py", "import learning", "stands below", "learning"),
    ("protocol/options.py", "from .carrier import sockets", "decides", "protocol.carrier.sockets"),
    ("protocol/added.py", "import time", "decides", ""),
    ("main_node/added.py", "import time", "store knows no run", ""),
    ("main_node/waiting.py", "from .store import memory",
     "store knows no run", "main_node.store.memory"),
    ("computing_node/added.py", "import main_node", "stands below", "main_node"),
    ("main_node/store/added.py", "from ..run import events",
     "store knows no run", "main_node.run.events"),
    ("main_node/run/added.py", "from ..views import terminal",
     "store knows no run", "main_node.views.terminal"),
]  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Misplace all of these at once; return what is said of each contract, by its name."""
    copy = copied(tmp_path_factory.mktemp("misplaced"))
    for file, text, *_ in MISPLACED:
        with (copy / file).open("a") as there:
            there.write(f"\n{text}\n")
    done = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache", cwd=copy)
    assert done.returncode != 0
    names = [line.removesuffix(" BROKEN") for line in done.stdout.splitlines() if "BROKEN" in line]
    _, _, told = done.stdout.partition("\nBroken contracts\n")
    parts = re.split("|".join(f"^{re.escape(name)}$" for name in names), told, flags=re.MULTILINE)
    return dict(zip(names, parts[1:], strict=True))


@pytest.mark.parametrize(("file", "text", "contract", "target"), MISPLACED)
def test_a_file_that_stands_at_the_wrong_place_is_told(
    broken: dict[str, str], file: str, text: str, contract: str, target: str
) -> None:
    (said,) = [said for name, said in broken.items() if contract in name]
    module = file.removesuffix(".py").replace("/", ".")
    told = f"{module} -> {target} (l." if target else f"not listed as layers:\n\n- {module}\n"
    assert told in said, said


VIEW = '''
"""Counts what happens."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from protocol.options import option


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where it is counted."""

    tally: str | None = option(None, "Count what happens in this file.", metavar="FILE")


class Tally:
    def __init__(self, path):
        self._path, self._counts = Path(path), Counter()

    def close(self):
        self._path.write_text("".join(f"{n} {k}\\n" for k, n in self._counts.items()))

    def on(self, event):
        self._counts[type(event).__name__] += 1


def view(options):
    return None if options.tally is None else Tally(options.tally)
'''


#: Where a view fails: what is put into which of its methods.
FAILING = {
    "made": ("__init__(self, path)", "raise RuntimeError('made')"),
    "told": ("on(self, event)", "raise RuntimeError('told')"),
    "exits": ("on(self, event)", "raise SystemExit(9)"),
    "closed": ("close(self)", "raise RuntimeError('closed')"),
}
MAIN = (sys.executable, "-m", "main_node")


@dataclass
class Ran:
    """What came of a run in a house that was built on.

    Args:
        house: the copy of all packages.
        main: the process.
        result: what it printed.
    """

    house: Path
    main: Process
    result: dict[str, Any]


def on_path(house: Path) -> dict[str, str]:
    """Return an environment in which what is in a folder is installed."""
    path = os.pathsep.join(filter(None, [str(house), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Build a view on, some that fail, and the learner and strategy of docs/where.md; use all."""
    house = copied(tmp_path_factory.mktemp("built"))
    views = house / "main_node" / "views"
    (views / "tally.py").write_text(VIEW)
    for place, (method, line) in FAILING.items():
        view = VIEW.replace("tally", place).replace("Tally", place.title())
        assert f"def {method}:\n" in view
        view = view.replace(f"def {method}:\n", f"def {method}:\n        {line}\n")
        (views / f"{place}.py").write_text(view)
    learner, strategy = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/where.md").read_text(), re.DOTALL
    )
    brought = house / "my_package"
    brought.mkdir()
    (brought / "__init__.py").touch()
    (brought / "nearest.py").write_text(learner)
    (house / "learning" / "merging" / "momentum.py").write_text(strategy)
    installed = house / "my_package-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(
        "[mnist_merge.learners]\nnearest = my_package.nearest:NearestMean\n"
    )
    data = make_idx_folder(tmp_path_factory.mktemp("data") / "idx", 400, 100)
    seen = [f"--{name}" for name in ("tally", *FAILING)]
    main = Process(
        *MAIN, "--data", str(data), "--jobs", "2", "--rounds", "2", "--learner", "nearest",
        "--merge", "momentum", "--scale", "2", "--local-nodes", "1", "--json", "--bind",
        "tcp://127.0.0.1:0", *(word for flag in seen for word in (flag, str(house / flag[2:]))),
        cwd=house, env=on_path(house),
    )  # fmt: skip
    try:
        yield Ran(house, main, main.result())
    finally:
        main.close()


def test_a_view_with_an_option_is_one_file(ran: Ran) -> None:
    assert "--tally FILE" in run(*MAIN, "--help", cwd=ran.house, env=on_path(ran.house)).stdout
    counts = {}
    for line in (ran.house / "tally").read_text().splitlines():
        count, kind = line.split()
        counts[kind] = int(count)
    once = {"Opened": 1, "NodeJoined": 1, "Ended": 1}
    assert once.items() <= counts.items()
    twice = {"RoundMerged": 2, "RoundEvaluated": 2}
    assert twice.items() <= counts.items()
    assert counts["JobSolved"] == 4
    (config,) = (ran.house / "runs").glob("*/config.yaml")
    assert f"tally: {ran.house / 'tally'}" in config.read_text()


@pytest.mark.parametrize("place", FAILING)
def test_a_view_that_fails_is_said_and_costs_nothing(ran: Ran, place: str) -> None:
    """Neither the run, nor the view that does not fail: see above."""
    assert ran.result["rounds"] == 2
    if place in ("told", "exits"):
        (failed,) = ran.main.events("listener.failed", listener=place.title())
        (warned,) = ran.main.events("run.warned", text=lambda text: place.title() in text)
        raised = {"told": "RuntimeError('told')", "exits": "SystemExit(9)"}[place]
        assert warned["text"] == f"{place.title()} is told no more: it raised {raised}"
    else:
        view = {"made": "main_node.views.made", "closed": "Closed"}[place]
        (failed,) = ran.main.events("view.failed", view=view)
    assert failed["traceback"]


def test_there_is_one_list_of_packages() -> None:
    """In setup.cfg; whoever else needs one has the same."""
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in TOP
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(PACKAGES) == there
    folders = {path.parent for top in TOP for path in (ROOT / top).rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()
    assert TOP == mnist_merge.PACKAGES
    assert set(CONFIG["importlinter"]["root_packages"].split()) == TOP
    checked = {name.strip() for name in CONFIG["mypy"]["files"].split(",")}
    assert checked >= TOP
    image = (ROOT / "Dockerfile").read_text()
    assert {line.split()[1] for line in image.splitlines() if line.startswith("COPY ")} >= TOP
    kept = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{top}" for top in TOP} <= set(kept)


def test_the_learner_and_the_strategy_of_the_documents_work(ran: Ran) -> None:
    """docs/where.md, as it stands: a file each, and an entry point."""
    assert (ran.result["learner"], ran.result["merge"]) == ("nearest", "momentum")
    assert ran.result["accuracy"] > 0.3
    (folder,) = (ran.house / "runs").iterdir()
    assert (folder / "models" / "round-002.state").exists()


def test_annotations_say_what_things_are() -> None:
    """`Any` is for the wire, and for what other libraries don't tell; elsewhere it is rare."""
    hints = [hint for path in sources() for hint in hints_in(ast.parse(path.read_text()))]
    loose = [hint for hint in hints if any(_is_any(part) for part in ast.walk(hint))]
    assert len(hints) > 3_000
    assert len(loose) / len(hints) <= 0.03


def sources() -> list[Path]:
    files = [path for top in TOP for path in (ROOT / top).rglob("*.py")]
    return [path for path in files if "wire" not in path.relative_to(ROOT).parts]


def hints_in(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns


def _is_any(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "Any"
