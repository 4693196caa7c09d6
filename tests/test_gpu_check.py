"""What looks at a GPU runs where there is none, and says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import gpu

from .conftest import make_idx_folder

SCRIPT = Path(__file__).parent.parent / "scripts" / "gpu-check"
SMALL = ("--device", "cpu", "--jobs", "2", "--rows", "120", "--nodes", "1")


def check(*arguments: str, data: Path) -> str:
    """Return what it prints; the last words where it fails."""
    done = subprocess.run(
        [SCRIPT, *SMALL, "--data", data, *arguments], capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_it_prints_a_table_and_what_was_not_run(tmp_path: Path) -> None:
    data = make_idx_folder(tmp_path / "data", 200, 50)
    told = check("--presets", "standard", "--repeat", "1", "--counts", "--places", data=data)
    assert told.startswith("missing: nothing\n")
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ")]
    assert all(len(row) == 3 for row in rows)
    what = {row[0].removeprefix("| "): row[1] for row in rows}
    assert "training" in what["preset standard, 1 node"]
    assert what["steps one by one and as a graph"] == "not run"


@pytest.mark.lane("deep")
def test_all_of_it_runs_without_a_gpu(tmp_path: Path) -> None:
    data = make_idx_folder(tmp_path / "data", 400, 50)
    told = check("--repeat", "2", "--places", "2", "1000", data=data)
    assert told.count("equal bits") == 5
    assert "2 jobs at once on" in told
    assert "| 1000 places | not run |" in told


def test_what_is_missing_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "missing", lambda: {"pyzmq": True, "tqdm": False})
    assert gpu.main(["--device", "cpu"]) == 1
    told = capsys.readouterr().out
    assert told.startswith("missing: pyzmq, tqdm\n")
    assert "pip install --no-index --find-links wheels pyzmq" in told
    assert "| what |" not in told


def test_models_that_differ_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    table = gpu.Table()
    found = []
    for other in "ab":
        table.same("the model", ["a" * 64, other * 64])
        found.append(table.differ)
    assert found == [False, True]
    assert "BITS DIFFER" in capsys.readouterr().out
