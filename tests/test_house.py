"""The house: what may stand on what, and that one more of a kind is one more file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from .conftest import make_idx_folder
from .processes import run

ROOT = Path(__file__).parent.parent
CONFIG = ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
PACKAGES = CONFIG["options"]["packages"].split()
TOP = {package.partition(".")[0] for package in PACKAGES}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of all packages, to be built on."""
    copy = tmp_path / "house"
    for package in TOP:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "setup.cfg", copy)
    return copy


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    command = str(Path(sys.executable).with_name("lint-imports"))
    return run(command, "--no-cache", cwd=house)


@pytest.mark.parametrize(
    ("file", "text", "contract"),
    [
        ("protocol/machine/added.py", "import zmq", "know ZeroMQ"),
        ("protocol/wire/added.py", "import zmq.asyncio", "know ZeroMQ"),
        ("protocol/machine/added.py", "from ..carrier import sockets", "decides"),
        ("learning/added.py", "import torch", "know torch"),
        ("learning/algebraic/added.py", "from torch import nn", "know torch"),
        ("learning/neural/learner.py", "import torch", "know torch"),
        ("learning/merging/mean.py", "import numba", "know numba"),
        ("learning/added.py", "import main_node", "stands below"),
        ("learning/merging/mean.py", "from ..neural import nets", "needs the nets"),
        ("main_node/run/added.py", "from learning.neural import nets", "needs the nets"),
        ("learning/algebraic/checks.py", "from . import sparse", "need no compiler"),
        ("learning/merging/union.py", "from ..algebraic import sparse", "need no compiler"),
        ("loaders/sources/added.py", "import learning", "stands below"),
        ("console/added.py", "import learning", "stands below"),
        ("protocol/options.py", "from .carrier import sockets", "decides"),
        ("protocol/added.py", "import time", "decides"),
        ("main_node/added.py", "import time", "store knows no run"),
        ("main_node/waiting.py", "from .store import memory", "store knows no run"),
        ("computing_node/added.py", "import main_node", "stands below"),
        ("main_node/store/added.py", "from ..run import events", "store knows no run"),
        ("main_node/run/added.py", "from ..views import terminal", "store knows no run"),
    ],
)
def test_a_file_that_stands_at_the_wrong_place_is_told(
    house: Path, file: str, text: str, contract: str
) -> None:
    path = house / file
    path.write_text((path.read_text() if path.exists() else "") + f"\n{text}\n")
    done = lint(house)
    assert done.returncode != 0
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(contract in line for line in broken), done.stdout


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


def test_a_view_with_an_option_is_one_file(house: Path, tmp_path: Path) -> None:
    (house / "main_node" / "views" / "tally.py").write_text(VIEW)
    data = make_idx_folder(tmp_path / "data", 400, 100)
    main = (sys.executable, "-m", "main_node")
    assert "--tally FILE" in run(*main, "--help", cwd=house).stdout
    done = run(
        *main, "--data", str(data), "--jobs", "2", "--rounds", "2", "--epochs", "1",
        "--local-nodes", "1", "--bind", "tcp://127.0.0.1:0", "--tally", str(tmp_path / "tally"),
        cwd=house,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = {}
    for line in (tmp_path / "tally").read_text().splitlines():
        count, kind = line.split()
        counts[kind] = int(count)
    once = {"Opened": 1, "NodeJoined": 1, "Ended": 1}
    assert once.items() <= counts.items()
    twice = {"RoundMerged": 2, "RoundEvaluated": 2}
    assert twice.items() <= counts.items()
    assert counts["JobSolved"] == 4
    (config,) = (house / "runs").glob("*/config.yaml")
    assert f"tally: {tmp_path / 'tally'}" in config.read_text()


@pytest.mark.parametrize("place", ["made", "told", "exits", "closed"])
def test_a_view_that_fails_is_said_and_costs_nothing(
    house: Path, tmp_path: Path, place: str
) -> None:
    view = VIEW.replace("tally", place).replace("Tally", "Failing")
    line = "raise SystemExit(9)" if place == "exits" else f"raise RuntimeError('{place}')"
    where = {"made": "__init__(self, path)", "closed": "close(self)"}.get(place, "on(self, event)")
    view = view.replace(f"def {where}:\n", f"def {where}:\n        {line}\n")
    (house / "main_node" / "views" / f"{place}.py").write_text(view)
    data = make_idx_folder(tmp_path / "data", 400, 100)
    done = run(
        sys.executable, "-m", "main_node", "--data", str(data), "--jobs", "2", "--rounds", "1",
        "--epochs", "1", "--local-nodes", "1", "--bind", "tcp://127.0.0.1:0", "--json",
        f"--{place}", str(tmp_path / "tally"), cwd=house,
    )  # fmt: skip
    (house / "main_node" / "views" / f"{place}.py").unlink()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rounds"] == 1
    assert "view.failed" in done.stderr or "Failing is told no more" in done.stderr


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
    assert set(CONFIG["importlinter"]["root_packages"].split()) == TOP
    checked = {name.strip() for name in CONFIG["mypy"]["files"].split(",")}
    assert checked >= TOP
    image = (ROOT / "Dockerfile").read_text()
    assert {line.split()[1] for line in image.splitlines() if line.startswith("COPY ")} >= TOP
    kept = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{top}" for top in TOP} <= set(kept)
