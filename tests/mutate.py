"""Do the tests notice? Lines chosen at random are made wrong, one at a time, in a copy.

    python -m tests.mutate --seed 1 --lines 10 [FILE ...]

For each line: what was changed, and the first test of the fast lane that noticed. It ends with 1
if nobody noticed something: then a test is missing, or the line could as well not be there, or what
was changed makes no difference, which is to be seen by reading.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILES = (
    "protocol/machine/dispatch.py", "protocol/machine/session.py", "protocol/wire/transfer.py",
    "main_node/store/memory.py", "learning/neural/learner.py", "learning/neural/nets.py",
)  # fmt: skip
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult, ast.Div: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
#: What is not said to anybody but people.
TALK = re.compile(r"\b(log|Entry|raise|assert)\b")
Change = tuple[ast.AST, str]


def changes(node: ast.AST) -> Iterator[Change]:
    """Yield what can be made of a piece of code, and of what is in it: the piece, and its text."""
    wrong: ast.AST | None = None
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        wrong = ast.Compare(node.left, [_swapped(node.ops[0]), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        wrong = ast.BoolOp(_swapped(node.op), node.values)
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        wrong = ast.BinOp(node.left, _swapped(node.op), node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        wrong = node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        wrong = ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        wrong = ast.Constant(node.value + 1)
    elif isinstance(node, ast.Continue | ast.Break):
        wrong = ast.Break() if isinstance(node, ast.Continue) else ast.Continue()
    elif isinstance(node, ast.AugAssign | ast.Delete) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        wrong = ast.Pass()
    if wrong is not None:
        yield node, f"({ast.unparse(wrong)})" if isinstance(wrong, ast.expr) else "pass"
    if isinstance(node, ast.If | ast.While):
        yield node.test, f"(not ({ast.unparse(node.test)}))"


def _swapped(operator: ast.AST) -> Any:
    return SWAPS[type(operator)]()


def lines_of(text: str) -> dict[int, list[Change]]:
    """Return what can be changed, by the number of the line, from 1."""
    found: dict[int, list[Change]] = {}
    lines = text.splitlines()
    tree = ast.parse(text)
    hints = {
        id(part)
        for node in ast.walk(tree)
        for name in ("annotation", "returns")
        if (hint := getattr(node, name, None)) is not None
        for part in ast.walk(hint)
    }
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in (part for statement in function.body for part in ast.walk(statement)):
            if id(node) in hints:
                continue
            for change in changes(node):
                line = change[0].lineno  # type: ignore[attr-defined]
                if not TALK.search(lines[line - 1]) and change not in found.get(line, []):
                    found.setdefault(line, []).append(change)
    return found


def changed(text: str, change: Change) -> str:
    """Return a file with a change made."""
    node: ast.expr | ast.stmt = change[0]  # type: ignore[assignment]
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    before = b"".join([*lines[: node.lineno - 1], lines[node.lineno - 1][: node.col_offset]])
    after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    return (before + change[1].encode() + after).decode()


def copied(place: Path) -> Path:
    """Return a copy of everything that git knows of."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, names.split("\0")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    for words in (["init", "-q"], ["add", "-A"]):  # some tests ask git
        subprocess.run(["git", *words], cwd=place, check=True)
    return place


def near(copy: Path, file: str) -> list[str]:
    """Return the tests of a file's package, and those that import it, or one beside it."""
    words = re.compile(
        rf"^(?:from|import) .*\b({Path(file).stem}|{Path(file).parent.name})\b", re.M
    )
    found = [
        str(path.relative_to(copy))
        for path in (copy / "tests").rglob("test_*.py")
        if path.parent.name == Path(file).parts[0] or words.search(path.read_text())
    ]
    return sorted(found)


def noticed(copy: Path, file: str) -> str:
    """Return the first test that fails in a copy; nothing if none does."""
    for tests in (near(copy, file), []):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-n", "3", "--dist", "loadfile",
             "--lane", "fast", "--no-header", "-p", "no:cacheprovider", *tests],
            cwd=copy, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(copy)},
        )  # fmt: skip
        if done.returncode not in (0, 5):
            named = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
            return named[0] if named else done.stdout[-300:] + done.stderr[-300:]
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", type=int, default=10)
    parser.add_argument("files", nargs="*", default=FILES)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    texts = {file: (ROOT / file).read_text() for file in options.files}
    found = {file: lines_of(text) for file, text in texts.items()}
    every = [(file, line) for file in texts for line in sorted(found[file])]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        for file, line in chance.sample(every, options.lines):
            change = chance.choice(found[file][line])
            (copy / file).write_text(changed(texts[file], change))
            who = noticed(copy, file)
            (copy / file).write_text(texts[file])
            missed += not who
            was = texts[file].splitlines()[line - 1].strip()
            print(
                f"{file}:{line}: {was}\n    -> {change[1]}\n    {who or 'NOT NOTICED'}", flush=True
            )
    print(f"seed {options.seed}: {options.lines - missed} of {options.lines} noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
