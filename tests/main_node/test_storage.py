"""What is on disk for sure, which run is the newest, and what a run was computed with."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.model import Model, sha256
from loaders import Field, Form, Numbered
from main_node.commands.options import TrainOptions, cut_short, find_run, read_config
from main_node.commands.runs import summarize, tell
from main_node.errors import ConfigError, StorageError
from main_node.store import memory
from main_node.store.database import RunDatabase
from main_node.store.directory import Kept, RunDirectory, locked, runs_in
from main_node.store.memory import RunMemory
from main_node.store.results import Result, finished
from protocol.machine.effects import Joined
from protocol.wire.messages import Hello

from .test_continue import make_run


def test_a_fact_is_on_disk_for_sure_though_somebody_reads_meanwhile(tmp_path: Path) -> None:
    """Found in review: then the checkpoint was refused, and nobody looked."""
    database = RunDatabase(tmp_path / "run.db")
    database.state(starts=1)
    reader = sqlite3.connect(tmp_path / "run.db")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM facts").fetchall()
    synced: list[str] = []

    def trace(statement: str) -> None:
        synced.append(statement)

    database._connection.set_trace_callback(trace)
    database.state(starts=2)
    # SQLite syncs its log with each transaction then; what the disk has is these two files.
    assert synced.index("PRAGMA synchronous = FULL") < synced.index("COMMIT")
    for name in ("run.db", "run.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / f"copy{name[6:]}")
    (tmp_path / "copy").rename(tmp_path / "copy.db")
    (tmp_path / "copy-wal").rename(tmp_path / "copy.db-wal")
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert copy.execute("SELECT value FROM facts WHERE name = 'starts'").fetchall() == [("2",)]
    for each in (reader, copy):
        each.close()
    database.close()


def test_every_folder_that_is_made_for_a_run_is_synced_into_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: a power cut took a new `runs` with all that was in it."""
    synced: list[Path] = []
    monkeypatch.setattr("main_node.store.directory.sync", synced.append)
    directory = RunDirectory.make(tmp_path / "new" / "runs")
    for folder in (directory.path, tmp_path / "new" / "runs", tmp_path / "new", tmp_path):
        assert folder in synced
    directory.close()


def test_what_a_failed_start_made_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("main_node.store.directory.sync", full)
    with pytest.raises(StorageError):
        RunDirectory.make(tmp_path / "new" / "runs")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "something").touch()
    with pytest.raises(StorageError):
        RunDirectory.make(tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["something"]


def test_the_newest_run_is_the_one_that_began_last_whatever_the_clock_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: where a clock was put back, `--continue` took an older run."""
    made = []
    for now in (1.8e9, 1.8e9 - 3600, 1.7e9, 1.8e9 - 7200):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        directory = RunDirectory.make(tmp_path)
        directory.write_config(TrainOptions.of(run_dir=str(tmp_path)).as_yaml())
        directory.close()
        made.append(directory.path)
    assert runs_in(tmp_path) == made
    assert cut_short(TrainOptions.of(run_dir=str(tmp_path))) == made[-1]


def test_a_run_without_its_solutions_can_be_gone_on_with(tmp_path: Path) -> None:
    run = make_run(tmp_path, "1")
    (run / "lock").touch()
    shutil.rmtree(run / "solutions")
    assert find_run("1", tmp_path) == run
    directory = RunDirectory(run, new=False)
    assert directory.empty
    assert (run / "solutions").is_dir()
    directory.close()


def test_a_run_of_which_only_the_trial_is_done_holds_nothing_to_go_on_with(tmp_path: Path) -> None:
    """So that whoever interrupts it at once finds nothing left of it, as ever."""
    directory = RunDirectory(tmp_path / "run", new=True)
    assert directory.empty
    for name, empty in (("round-001-trial-1", True), ("round-001-job-0002", False)):
        directory.write_solution(name, "work", Kept("node", {}, {}))
        assert directory.empty is empty
    directory.close()


OLD = {"python": "3.11.7", "numpy": "2.0.0", "torch": "2.13.0", "cpu": "one"}
NEW = {**OLD, "torch": "2.14.0"}


def remember(path: Path, said: list[str], main: dict[str, str], **nodes: dict[str, str]) -> None:
    """Start a run once, with these versions at its main node and its nodes."""
    directory = RunDirectory(path, new=not path.exists())
    database = RunDatabase(path / "run.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "software", lambda: main)
        run = RunMemory(directory, database, said.append)
        run.begin()
    for name, versions in nodes.items():
        hello = Hello(name, name, 0, ("",), versions, 1, 1, "", 1, 1)
        run.note([Joined(f"{name}.1", hello)])
    database.close()
    directory.close()


@pytest.mark.parametrize(
    ("main", "nodes", "told"),
    [
        (OLD, {"a": OLD}, []),
        (OLD, {"a": NEW, "b": NEW}, ["node a.1 computes with torch 2.14.0 (was 2.13.0)"]),
        (NEW, {}, ["this machine computes with torch 2.14.0 (was 2.13.0)"]),
        ({**OLD, "cpu": "two"}, {}, ["this machine computes with cpu two (was one)"]),
    ],
)
def test_a_run_that_goes_on_with_other_versions_says_so(
    tmp_path: Path, main: dict[str, str], nodes: dict[str, Any], told: list[str]
) -> None:
    said: list[str] = []
    remember(tmp_path / "run", said, OLD, a=OLD, other={**OLD, "cpu": "three"})
    assert not said  # the first time, whoever computes with whatever
    remember(tmp_path / "run", said, main, **nodes)
    assert [line.partition(":")[0] for line in said] == told
    before = len(said)
    remember(tmp_path / "run", said, main, **nodes)  # by now it is known
    assert len(said) == before


def test_any_byte_of_a_database_may_be_another_one(tmp_path: Path) -> None:
    """Found by one who tried: 80 of 722 changed bytes ended a resumed run in a traceback."""
    remember(tmp_path / "run", [], OLD, a=OLD)
    path = tmp_path / "run" / "run.db"
    database = RunDatabase(path)
    database.add_jobs({f"round-001-job-000{n}": n for n in range(1, 5)})
    database.write([(n, n, "a.1") for n in range(1, 5)], [("solved", {"node": "a"})] * 3)
    database.job_kept(1, "a")
    database.state(accuracy=0.5, ending="interrupted")
    database.close()
    whole, chance = path.read_bytes(), random.Random(0)
    written = [place for place, byte in enumerate(whole) if byte]
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.choice(written)] = chance.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(StorageError):
            tell(tmp_path / "run")
        summarize(tmp_path / "run")
        directory = RunDirectory(tmp_path / "run", new=False)
        with contextlib.suppress(StorageError), contextlib.closing(RunDatabase(path)) as again:
            run = RunMemory(directory, again)
            run.begin()
            assert run.starts >= 1
            assert len(run.tasks) <= 4
            again.solved_by()
            again.failed_attempts()
        directory.close()
        path.with_name("run.db.damaged").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "text", ["keys: !!timestamp 2026-99-99", "jobs: " + "9" * 5000, "[" * 2000]
)
def test_options_that_are_no_options_are_told_in_words(tmp_path: Path, text: str) -> None:
    """And the other runs are listed, all the same."""
    run = make_run(tmp_path, "1")
    (run / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_config(run / "config.yaml")
    assert summarize(run).state == "damaged"


def test_a_run_whose_lock_file_is_deleted_is_locked(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", new=True)
    (tmp_path / "run" / "lock").unlink()
    assert locked(tmp_path / "run")
    with pytest.raises(ConfigError, match="in use"):
        RunDirectory(tmp_path / "run", new=False)
    directory.close()
    assert not locked(tmp_path / "run")


def test_a_result_that_lacks_anything_is_none(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run", new=True)
    arrays = {"a": np.ones(3)}
    form = Form({"image": Field("uint8", (28, 28))}, Numbered(10))
    directory.write_model(Model(arrays, "neural", form))
    result = Result(
        run="run", data={}, target_digit=None, learner="neural", jobs=1, rounds=1, nodes={},
        accuracy=1.0, macro_f1=1.0, confusion=[[1]], examples=1, accuracy_by_round=[1.0],
        loss_by_round=[None], seconds={"total": 1.0}, starts=1, retries=0, left_out=[], model="",
        model_sha256=sha256(arrays), model_parts={"weights": 3},
    ).as_json()  # fmt: skip
    directory.write_metrics(result)
    assert finished(tmp_path / "run") is not None
    later = (
        "loss_by_round", "merge", "merged", "classes", "shortcoming", "validation_rows",
        "test_loss", "devices", "model_round", "ended_by", "ended", "options",
    )  # fmt: skip
    for name in later:  # as of an earlier release
        del result[name]
    directory.write_metrics(result)
    assert finished(tmp_path / "run") is not None
    for name in result:
        directory.write_metrics({other: result[other] for other in result if other != name})
        assert finished(tmp_path / "run") is None, name
    directory.close()


def test_what_nodes_were_given_is_written_down_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the suite: a job that a node had was computed once more after a full disk."""
    database = RunDatabase(tmp_path / "run.db")
    database.keep_spare()
    database.add_jobs({"a": 1})
    full, insert = database.path.with_name("run.db-spare"), RunDatabase._insert

    def limited(self: RunDatabase, *rows: Any) -> None:
        with self._writing():
            if full.exists():
                raise sqlite3.OperationalError("database or disk is full")
        insert(self, *rows)

    monkeypatch.setattr(RunDatabase, "_insert", limited)
    database.write([(7, 1, "node")], [])
    assert database.tasks() == {7: ("a", 1, "node")}
    assert not full.exists()
    database.close()
