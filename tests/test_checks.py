"""The checks: one list of them, run before each commit and before the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .processes import run

ROOT = Path(__file__).parent.parent
CHECKS = ("ruff check", "ruff format --check", "mypy", "lint-imports", "scripts/docs.py --check")


def test_there_is_one_list_of_checks() -> None:
    """In scripts/check; scripts/test runs that, and nothing of it by itself."""
    here, all_ = (ROOT / "scripts" / name for name in ("check", "test"))
    assert "\nscripts/check\n" in all_.read_text()
    for each in CHECKS:
        assert f"\n{each}" in here.read_text().replace("\npython ", "\n"), each
        assert each not in all_.read_text(), each


def test_without_their_tools_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check", tmp_path / "scripts")
    done = run(str(tmp_path / "scripts" / "check"))
    assert done.returncode == 1
    assert "scripts/setup test" in done.stderr


def test_every_check_is_run_though_one_fails(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check", tmp_path / "scripts")
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports", "python"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*"\n[ "$*" != "check ." ]\n')
        (tools / name).chmod(0o755)
    done = run(str(tmp_path / "scripts" / "check"))
    assert done.returncode == 1
    assert done.stderr == "failed: ruff check .\n"
    ran = [line.strip().removeprefix("python ") for line in done.stdout.splitlines()]
    assert ran == ["ruff check .", "ruff format --check .", *CHECKS[2:]]


def test_a_commit_that_the_checks_refuse_is_not_made(tmp_path: Path) -> None:
    """The hook of .pre-commit-config.yaml, with checks that fail and then don't."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = {
        "HOME": str(tmp_path), "PRE_COMMIT_HOME": str(tmp_path / "cache"),
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@localhost",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@localhost",
    }  # fmt: skip

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return run(*command, cwd=work, env={**kept, **settings})

    work = tmp_path / "work"
    (work / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / ".pre-commit-config.yaml", work)
    check = work / "scripts" / "check"
    check.write_text("#!/bin/sh\necho this is not right\nexit 1\n")
    check.chmod(0o755)
    assert call("git", "init", "-q").returncode == 0
    installed = call(sys.executable, "-m", "pre_commit", "install")
    assert installed.returncode == 0, installed.stdout
    call("git", "add", ".")
    refused = call("git", "commit", "-m", "one")
    assert refused.returncode != 0
    assert "this is not right" in refused.stdout + refused.stderr
    check.write_text("#!/bin/sh\nexit 0\n")
    call("git", "add", ".")
    made = call("git", "commit", "-m", "one")
    assert made.returncode == 0, made.stdout + made.stderr
