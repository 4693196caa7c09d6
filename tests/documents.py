"""Commands and programs in documents that tests run as they stand.

A block of commands is preceded by `<!-- test: NAME host=HOST HOW -->`, which names its test, or by
`<!-- not run here: REASON -->`.

A block of Python is a program of its own. Those that need each other are each preceded by
`<!-- beside each other: NAME -->`, and those among them that don't end by themselves by
`<!-- beside each other: NAME, to the end -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")), ROOT / "CONTRIBUTING.md"]
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
_BLOCK = re.compile(r"<!-- (test|not run here): (.*?) -->\n```bash\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands of a document.

    Args:
        host: where they are run; empty where there is only one.
        how: `background`, `during` (while those before are running), or to their end.
        commands: for bash.
    """

    host: str
    how: str
    commands: str


def blocks(test: str) -> list[Block]:
    """Return what a test has to run, in order."""
    found = []
    for kind, what, commands in _BLOCK.findall(DEPLOY):
        name, *words = what.split()
        if kind == "test" and name == test:
            host = "".join(word[5:] for word in words if word.startswith("host="))
            how = "".join(word for word in words if not word.startswith("host="))
            found.append(Block(host, how, commands))
    assert found, f"docs/deploy.md has nothing for {test}"
    return found


def named_tests() -> set[str]:
    """Return the tests that the document names; every block of commands must have one or more."""
    found = _BLOCK.findall(DEPLOY)
    assert DEPLOY.count("```bash") == len(found) > 15
    return {
        name
        for kind, what, _ in found
        for name in ([what.split()[0]] if kind == "test" else re.findall(r"\btest_\w+", what))
    }


_PYTHON = re.compile(
    r"(?:<!-- beside each other: (\w+)(, to the end)? -->\n)?```python\n(.*?)```", re.DOTALL
)


@dataclass(frozen=True)
class Program:
    """A program in a document.

    Args:
        to_the_end: whether it runs until those beside it have ended.
        code: in Python.
    """

    to_the_end: bool
    code: str


def programs(document: Path) -> dict[str, list[Program]]:
    """Return the programs of a document, by what runs beside each other."""
    text = document.read_text()
    found: dict[str, list[Program]] = {}
    for number, (group, to_the_end, code) in enumerate(_PYTHON.findall(text), 1):
        found.setdefault(group or str(number), []).append(Program(bool(to_the_end), code))
    # None escapes by being written otherwise.
    assert sum(map(len, found.values())) == len(re.findall(r"^\s*[`~]{3,} *py", text, re.MULTILINE))
    return found
