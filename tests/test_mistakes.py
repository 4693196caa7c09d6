"""Mistakes that people make, with the last line and the exit code of each: `mistakes.md`.

The table is to be read by somebody: is that what he would want to be told?

    python -m tests.test_mistakes     # writes it anew
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from unittest import mock

from console.exits import Exit

from .conftest import make_idx_folder
from .processes import here

TABLE = Path(__file__).parent / "mistakes.md"
PLACES = {
    "mnist-main": "main_node.commands.train:main", "mnist-compute": "computing_node.command:main",
    "mnist-predict": "main_node.commands.predict:main", "mnist-relay": "relay_node.command:main",
    "mnist-keys": "main_node.commands.keys:main", "mnist-runs": "main_node.commands.runs:main",
    "mnist-datasets": "main_node.commands.datasets:main",
    "mnist-status": "status_node.command:main", "mnist-merge": "main_node.commands.merge:main",
}  # fmt: skip
#: As they are typed in a folder that holds what `prepare` puts there.
MISTAKES = """
mnist-main --jobs 0
mnist-main --jobs many
mnist-main --job 4
MNIST_JOB=4 mnist-main
mnist-main --jobs 9999 --data bars
mnist-main --lr nan
mnist-main --steps 100 --epochs 2 --data bars
mnist-main --min-nodes 3 --max-nodes 2 --data bars
mnist-main --goal-accuracy 98 --data bars
mnist-main --sharding stripes
mnist-main --learner psychic
mnist-main --merge medium
mnist-main --learner algebraic --lr 1
mnist-main --data nowhere
mnist-main --data empty
mnist-main --data page
mnist-main --data bars/letters
mnist-main --data gs://bucket/digits
mnist-main --data bars --publish https://host/models
mnist-main --bind 5555
mnist-main --bind localhost:5555
mnist-main --bind tcp://8.8.8.8:5555
mnist-main --keys nowhere
mnist-main --config nowhere.yaml
mnist-main --config typo.yaml
mnist-main --config broken.yaml
mnist-main --config bars
mnist-main --config run
mnist-main --resume nothing
mnist-main --run-dir page/train-images-idx3-ubyte --data bars
mnist-main --timeout 0 --data bars --bind tcp://127.0.0.1:0
mnist-main --resume nothing --continue
mnist-main 20261120-091415-95b1
mnist-main --deadline 5m
mnist-main --target-digit 10 --data bars
mnist-compute --connect localhost
mnist-compute --connect tcp://127.0.0.1
mnist-compute --connect http://127.0.0.1:5555
mnist-compute --connect tcp://127.0.0.1:99999
mnist-compute --max-memory 10
mnist-compute --keys nowhere
mnist-compute lab1
mnist-predict model.safetensors digit.png
mnist-predict page/train-images-idx3-ubyte digit.png
mnist-predict bars digit.png
mnist-predict model.safetensors
mnist-merge run -o merged
mnist-merge run run
mnist-merge run run -o nowhere/merged
mnist-merge run run -o bars
mnist-merge run nowhere -o merged
mnist-merge run run -o merged --weights 1,none
mnist-merge run run -o merged --weights 1
mnist-merge run run -o merged --limit 5
mnist-runs show nothing
mnist-runs list --run-dir typo
mnist-runs stop --connect tcp://127.0.0.1:1 --timeout 0.1
mnist-datasets check nowhere
mnist-datasets check page
mnist-datasets check bars --test-fraction 0.1
mnist-datasets check bars --picture sheet.jpg
mnist-datasets check bars --picture nowhere/sheet.png
mnist-datasets check
mnist-keys new keys lab/1
mnist-keys add nowhere lab2
mnist-keys roles nowhere lab1 work
mnist-relay
MNIST_RELAY_BIN=tcp://127.0.0.1:5556 mnist-relay
mnist-relay --connect tcp://127.0.0.1:5555
mnist-status --connect tcp://127.0.0.1:1 --timeout 0.1
mnist-status --follow
mnist-status --connect 5555
""".strip().splitlines()
HEAD = """# Mistakes, and what is said of them

Made by `python -m tests.test_mistakes`, and read by a person: a test holds it.

| typed | exit code | last line |
|---|---|---|
"""


def prepare(folder: Path) -> None:
    """Put there what the mistakes are made with."""
    make_idx_folder(folder / "bars")
    (folder / "empty").mkdir()
    (folder / "page").mkdir()
    page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (folder / "page" / name).write_text(page)
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("jobs: 4\n")
    (folder / "typo.yaml").write_text("jobz: 4\n")
    (folder / "broken.yaml").write_text("jobs: 4\n  rounds: [1, 2\n")


def told(mistake: str) -> tuple[int, str]:
    """Return how a mistake ends, and the last line that is said of it."""
    words = shlex.split(mistake)
    variables = dict(word.split("=", 1) for word in words if word.startswith("MNIST_"))
    command, *arguments = words[len(variables) :]
    done = here(PLACES[command], *arguments, env={**variables, "COLUMNS": "80"})
    assert done.stdout == "", mistake
    line = [each for each in done.stderr.splitlines() if each.strip()][-1].strip()
    line = line.replace(PLACES[command], command).replace(str(Path.cwd()), ".")
    line = re.sub(r"(?<=0\.[01]:)\d{5}\b", "PORT", line)
    return done.returncode, re.sub(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b", "RUN", line)


def table() -> str:
    """Make all mistakes in a new folder; return what is said of them."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("MNIST_")]:
            del os.environ[name]
        prepare(Path(folder))
        os.chdir(folder)
        try:
            rows = [(mistake, *told(mistake)) for mistake in MISTAKES]
        finally:
            os.chdir(before)
    for mistake, code, line in rows:
        assert code in set(Exit) - {Exit.DONE}, mistake
        assert "Traceback" not in line, mistake
    return HEAD + "".join(
        f"| `{mistake}` | {code} | {line.replace('|', chr(92) + '|')} |\n"
        for mistake, code, line in rows
    )


def test_what_is_said_of_mistakes_is_what_was_read() -> None:
    assert table() == TABLE.read_text(), "read what has changed; python -m tests.test_mistakes"


if __name__ == "__main__":
    TABLE.write_text(table())
    sys.exit()
