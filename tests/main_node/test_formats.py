"""Formats of a run's files: what earlier releases wrote is read, what later ones wrote is told."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from console import options
from console.formats import LaterFormat
from main_node.commands.options import TrainOptions, read_config
from main_node.commands.runs import summarize, tell
from main_node.errors import ConfigError
from main_node.store import database
from main_node.store.database import RunDatabase, RunHistory

from ..processes import MAIN, run

RUNS = (str(Path(sys.executable).with_name("mnist-runs")),)
KEPT = Path(__file__).parent / "formats"
#: Every format but today's has runs there.
EARLIER = [str(number) for number in range(1, max(options.FORMAT, database.FORMAT))]


@pytest.fixture(params=EARLIER)
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT / request.param, tmp_path / "runs"))


def number_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def make_later(path: Path) -> None:
    """Give a database the number of the next release's format."""
    later = database.FORMAT + 1
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'MNM', 'big') * 256 + later}")
        connection.execute(f"PRAGMA user_version = {later}")


def test_runs_of_an_earlier_format_are_shown(runs: Path) -> None:
    finished, killed = summarize(runs / "finished"), summarize(runs / "killed")
    assert (finished.state, finished.accuracy, finished.done) == ("done", 1.0, 9)
    assert (killed.state, killed.starts, killed.done, killed.jobs) == ("died", 1, 4, 9)
    assert tell(runs / "finished").rounds == {f"round-00{number}": 3 for number in (1, 2, 3)}
    shown = run(*RUNS, "show", "finished", "--run-dir", str(runs), "--json")
    assert (shown.returncode, json.loads(shown.stdout)["learner"]) == (0, "algebraic")


def test_a_run_of_an_earlier_format_is_resumed_to_the_same_model(runs: Path) -> None:
    whole = json.loads((runs / "finished" / "metrics.json").read_text())
    path = runs / "killed"
    solutions = {each: each.read_bytes() for each in (path / "solutions").iterdir()}
    done = run(
        *MAIN, "--resume", str(path), "--data", str(runs / "data"), "--json", timeout=110
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["starts"], result["retries"]) == (2, 0)
    assert result["model_sha256"] == whole["model_sha256"]
    assert "round 1 of 3 was merged before" in done.stderr
    assert "round 2: 1 job solved before" in done.stderr
    assert all(each.read_bytes() == content for each, content in solutions.items())
    assert number_of(path / "run.db") == database.FORMAT
    again = run(*MAIN, "--resume", str(runs / "finished"), "--json")
    assert json.loads(again.stdout)["model_sha256"] == whole["model_sha256"]


def test_files_say_their_format(tmp_path: Path) -> None:
    text = TrainOptions.of(jobs=7).as_yaml()
    assert yaml.safe_load(text)["format"] == options.FORMAT
    (tmp_path / "config.yaml").write_text(text)
    assert read_config(tmp_path / "config.yaml")["jobs"] == 7
    RunDatabase(tmp_path / "run.db").close()
    assert number_of(tmp_path / "run.db") == database.FORMAT
    RunHistory(tmp_path / "run.db")


def test_a_configuration_of_a_later_format_is_told(runs: Path) -> None:
    """Before anything else of it: an option that only the later release has is no mistake."""
    config = runs / "killed" / "config.yaml"
    config.write_text(f"format: {options.FORMAT + 1}\nwarp: 9\n{config.read_text()}")
    resumed = run(*MAIN, "--resume", str(runs / "killed"))
    assert resumed.returncode == 2
    words = f"{config}: its format is {options.FORMAT + 1}, a later release's"
    assert words in resumed.stderr
    assert "use the release that wrote it" in resumed.stderr
    summary = summarize(runs / "killed")
    assert summary.state == "too new"
    assert words in summary.ending


@pytest.mark.parametrize("number", ["two", "0", "-1", "true", "2.0", "[1]", "null"])
def test_a_format_that_is_no_number_is_told(tmp_path: Path, number: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"format: {number}\njobs: 4\n")
    with pytest.raises(ConfigError, match="format is .*, not the number of one"):
        read_config(file)


def test_a_database_of_a_later_format_is_told_and_left_as_it_is(runs: Path) -> None:
    path = runs / "killed" / "run.db"
    make_later(path)
    before = path.read_bytes()
    words = f"{path}: its format is {database.FORMAT + 1}, a later release's"
    with pytest.raises(LaterFormat, match="later release"):
        RunDatabase(path)
    resumed = run(*MAIN, "--resume", str(runs / "killed"), "--data", str(runs / "data"))
    assert resumed.returncode == 2
    assert words in resumed.stderr
    summary = summarize(runs / "killed")
    assert (summary.state, words in summary.ending) == ("too new", True)
    shown = run(*RUNS, "show", "killed", "--run-dir", str(runs))
    assert words in shown.stdout
    assert path.read_bytes() == before
    assert not path.with_name(database.DAMAGED).exists()
