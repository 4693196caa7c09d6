"""The Python in the documents is run: what a reader pastes works."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .conftest import PROGRAMS
from .documents import DOCUMENTS, Program, programs
from .processes import SECONDS, free_port, run

KEYS = "mnist-keys new keys lab1"
#: What those of a group say, by the document and the group.
SAID = {
    ("README.md", "1"): ["HELLO from node."],
    ("algebraic.md", "1"): ["0.9", "7 has "],
    ("data.md", "1"): [],
    ("library.md", "hello"): ["HELLO from node."],
    ("library.md", "power"): ["array([   0,    1,    4,", "{'length': 99} node."],
    ("library.md", "5"): [],
    ("library.md", "6"): ["nodes connect to tcp://127.0.0.1:"],
    ("library.md", "10"): ["image: uint8 28 x 28 ('cat', 'dog') {'train': 80, 'test': 20}"],
    ("library.md", "11"): ["image: float32 32 x 32 x 3"],
    ("library.md", "needles"): [
        "listening at tcp://127.0.0.1:", "{'round': 3}", "'what': 'a needle'",
    ],
    ("own-model.md", "1"): [],
    ("where.md", "1"): [],
    ("where.md", "2"): [],
}  # fmt: skip
ALL = {(path.name, name): each for path in DOCUMENTS for name, each in programs(path).items()}


@contextmanager
def running(program: Program, port: int, file: Path) -> Iterator[subprocess.Popen[str]]:
    file.write_text(program.code)
    process = subprocess.Popen(
        [sys.executable, "-u", PROGRAMS / "document.py", str(port), file.name], cwd=file.parent,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(program: Program, process: subprocess.Popen[str]) -> str:
    """See a program to its end; return all that it said.

    One that waits for Enter gets it: once it has said something, if nobody needs it any more then.
    """
    said, codes, waits = "", [0], "input(" in program.code
    if waits and not program.to_the_end:
        assert process.stdout is not None
        said = process.stdout.readline()
    elif program.to_the_end and not waits:
        process.send_signal(signal.SIGINT)
        codes = [0, -signal.SIGINT]
    output, errors = process.communicate("\n" if waits else None, timeout=SECONDS)
    assert process.returncode in codes, errors
    return said + output


@pytest.mark.parametrize(
    ("document", "group"), SAID, ids=[f"{name}-{group}" for name, group in SAID]
)
def test_python_in_documents_runs(document: str, group: str, tmp_path: Path) -> None:
    if any("keys=" in each.code.replace("keys=...", "") for each in ALL[document, group]):
        assert KEYS in next(path for path in DOCUMENTS if path.name == document).read_text()
        name, *words = KEYS.split()
        assert run(str(Path(sys.executable).with_name(name)), *words, cwd=tmp_path).returncode == 0
    port, said = free_port(), ""
    with ExitStack() as stack:
        both = [
            (each, stack.enter_context(running(each, port, tmp_path / f"program{number}.py")))
            for number, each in enumerate(ALL[document, group])
        ]
        for each, process in sorted(both, key=lambda pair: pair[0].to_the_end):
            said += ended(each, process)
    for expected in SAID[document, group]:
        assert expected in said, said


def test_all_python_in_documents_is_run() -> None:
    assert set(SAID) == set(ALL)
