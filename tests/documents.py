"""Commands in documents that tests run as they stand.

A block of them is preceded by `<!-- test: NAME host=HOST HOW -->`, which names its test, or by
`<!-- not run here: REASON -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DEPLOY = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text()
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
