"""Whatever stands in a configuration or a run's folder is read or told, soon, in little memory.

Some are made of valid bytes, changed here and there, others of valid values, of which some are odd:
those get further. In the deep lane there are thousands of each.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import resource
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml

from console.formats import LaterFormat
from learning.model import Model, save
from main_node.commands import runs as runs_
from main_node.commands.options import TrainOptions, read_config, resumed
from main_node.errors import StorageError
from main_node.store.database import DAMAGED, RunDatabase
from main_node.store.directory import RunDirectory, host_of
from main_node.store.memory import RunMemory
from main_node.store.results import finished
from protocol.errors import ConfigError

from .lanes import depth
from .test_places import FORM, RESULT, config, make_run, spoil

#: That a case may take: much more than it does, and less than anybody would wait.
SECONDS, BYTES = 1.0, 200 << 20

PIECES = [
    b"[", b"]", b"{", b"}", b": ", b"- ", b"&a ", b"*a ", b"!!int ", b"!!binary ", b"!x ", b"'",
    b'"', b"|\n", b">\n", b"#", b"%", b"? ", b"\n", b"  ", b"\t", b"<<: ", b"---\n", b"...\n",
    b"\0", b"\xff", b"\xef\xbb\xbf", b"9" * 20, b"1e999", b".nan", b"~", b"!!set ", b"!!merge ",
    b"\xe2\x80\xa8", b"@", b"`",
]  # fmt: skip
#: Values that an option, a fact or a result does not have.
ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf,
    -math.inf, "", " ", "\0", "\n", "a\nb", "\u202e", "é●", "\ud800", "~", "~/x", "~nobody/x",
    "../..", "/dev/zero", "nan", "1e5", "0x10", "-1", "yes", "no", "null", "2026-11-27", "*a", "&a",
    "{", "%", "a" * 3000, "9" * 5000, "tcp://[::1]:x", [], {}, [[]], [1, "a"], {"a": 1},
    {1: [None]}, datetime.date(2026, 11, 27), b"\xff\0",
]  # fmt: skip


#: Of the deep lane's, some thousand, on a machine that has other things to do.
LONG = pytest.mark.timeout(600)


def number_of(fast: int, deep: int) -> int:
    """Return how many cases there are in this lane."""
    return fast if depth() == 1 else deep


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let this process have little more memory than it has; see how long what is done takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    begun = time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - begun < SECONDS


def mutated(content: bytes, random: Random) -> bytes:
    """Return something like it."""
    made = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at, length = random.randrange(len(made) + 1), random.randrange(12)
        piece = random.choice([*PIECES, random.randbytes(3), bytes(made[at : at + length])])
        made[at : at + random.choice([0, 0, 1, length])] = piece * random.choice([1, 1, 1, 30])
    return bytes(made)


def altered(values: dict[str, Any], random: Random) -> dict[Any, Any]:
    """Return values of which a few are odd, gone, elsewhere, or called otherwise."""
    made: dict[Any, Any] = dict(values)
    for _ in range(random.choice([1, 1, 2, 3])):
        name, how = random.choice(list(made) or [""]), random.randrange(8)
        if how == 0:
            made.pop(name, None)
        elif how == 1:
            key = random.choice(ODD)
            made[key if key.__hash__ else name] = made.pop(name, None)
        elif how == 2:
            made[name] = made[random.choice(list(made) or [name])] if made else None
        elif how == 3:
            made[name] = nested(random)
        else:
            made[name] = random.choice(ODD)
    return made


def nested(random: Random) -> Any:
    """Return odd values in lists and mappings, some deep."""
    value = random.choice(ODD)
    for _ in range(random.choice([1, 2, 5, 30])):
        value = [value, random.choice(ODD)] if random.random() < 0.5 else {"a": value}
    return value


def as_yaml(values: dict[Any, Any], random: Random) -> str:
    """Return values as YAML, in one of its many styles."""
    return yaml.dump(
        values, default_style=random.choice([None, None, None, "'", '"', "|", ">"]),
        default_flow_style=random.choice([None, True, False]), allow_unicode=random.random() < 0.5,
        explicit_start=random.random() < 0.1, sort_keys=False,
    )  # fmt: skip


def read(path: Path) -> bool:
    """Read a configuration, and go on with a run that has it; return whether that can be."""
    try:
        with bounded():
            options = TrainOptions.of(**read_config(path))
            text = options.as_yaml()
    except ConfigError as error:
        assert 0 < len(str(error)) < 2000
        return False
    path.write_text(text)
    assert TrainOptions.of(**read_config(path)).as_yaml() == text
    with bounded(), contextlib.suppress(ConfigError):
        resumed(options, set(), path.parent)
    return True


@LONG
@pytest.mark.deep
def test_whatever_stands_in_a_configuration_is_read_or_refused(tmp_path: Path) -> None:
    random, whole = Random(1), TrainOptions.of(jobs=7, keys="k").as_yaml().encode()
    few = b"format: 2\njobs: &a 4\nlr: 1e-3\nlearner: neural\ndata: ~/d\nstall: *a\nkeys: 'b'\n"
    tries = number_of(400, 4000)
    good = sum(
        read(config(tmp_path, mutated(few if number % 10 else whole, random)))
        for number in range(tries)
    )
    assert 0 < good < tries / 2


@LONG
@pytest.mark.deep
def test_whatever_values_stand_in_a_configuration_are_read_or_refused(tmp_path: Path) -> None:
    random, tries = Random(3), number_of(100, 2000)
    whole = yaml.safe_load(TrainOptions.of(jobs=7, keys="k").as_yaml())
    good = sum(
        read(config(tmp_path, as_yaml(altered(whole, random), random).encode(errors="replace")))
        for _ in range(tries)
    )
    assert 0 < good < tries / 2


FACTS = ("starts", "ending", "accuracy", "main", "software", "data", "options", "address", "domain",
         "keys", "shortcoming")  # fmt: skip
TABLES = {
    "facts": ("name", "value"), "jobs": ("id", "name", "node", "kept_at"),
    "tasks": ("id", "job", "node", "at"), "events": ("at", "kind", "what"),
}  # fmt: skip


def endless(columns: tuple[str, ...]) -> str:
    """Return a query for rows without an end."""
    counted = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
    return f"{counted} SELECT {', '.join('x AS ' + each for each in columns)} FROM c"


#: What `run.db` of the next format is called (`store/database.py`).
LATER = int.from_bytes(b"MNM\3", "big")
STATEMENTS = [
    "INSERT OR REPLACE INTO facts VALUES (:fact, :odd)", "UPDATE facts SET value = :odd",
    "DELETE FROM facts", "INSERT INTO jobs VALUES (:number, :odd, :odd, :number)",
    "UPDATE jobs SET name = :odd", "UPDATE jobs SET kept_at = :odd, node = :odd",
    "UPDATE jobs SET id = :number", "INSERT INTO tasks VALUES (:number, :number, :odd, :odd)",
    "UPDATE tasks SET job = :odd", "INSERT INTO events VALUES (:number, :odd, :odd)",
    "UPDATE events SET what = :json", "UPDATE events SET at = :odd",
    "UPDATE events SET kind = :odd",
    "DROP TABLE {table}", "ALTER TABLE {table} RENAME TO other", "DELETE FROM {table}",
    "ALTER TABLE {table} ADD COLUMN more", "PRAGMA user_version = 1", "PRAGMA user_version = 3",
    f"PRAGMA user_version = 3;; PRAGMA application_id = {LATER}",
    "DROP TABLE {table};; CREATE TABLE {table} (a, b)",
    "DROP TABLE {table};; CREATE TABLE {table} (a, b, c AS (zeroblob(1000000000)))",
    "DROP TABLE {table};; CREATE VIEW {table} AS SELECT 1, 2, 3, 4",
    *(f"DROP TABLE {name};; CREATE VIEW {name} AS {endless(TABLES[name])}" for name in TABLES),
    "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN INSERT INTO tasks"
    f" {endless(TABLES['tasks'])}; END",
]  # fmt: skip


def alter_database(path: Path, random: Random) -> None:
    """Have SQLite itself write odd things."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for _ in range(random.choice([1, 1, 2, 4])):
            plain = [each for each in ODD if isinstance(each, None | str | int | float | bytes)]
            odd = random.choice(plain)
            said = ["[" * 100_000, "{}", "[]", "1", json.dumps({"a": str(odd)})]
            values = {
                "fact": random.choice(FACTS), "odd": odd, "json": random.choice(said),
                "number": random.choice([1, 2, -1, 1e300]),
            }  # fmt: skip
            statement = random.choice(STATEMENTS).format(table=random.choice(list(TABLES)))
            for each in statement.split(";; "):
                with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeError):
                    connection.execute(each, values)
            if "TRIGGER" in statement:  # what comes next would have no end
                return


def alter_result(path: Path, random: Random) -> None:
    """Write a result with odd values, or one that is too deep."""
    text = json.dumps(altered(json.loads(path.read_text()), random), default=str, skipkeys=True)
    if random.random() < 0.05:
        text = text.replace(": ", ": " + "[" * 100_000, 1)
    path.write_text(text, errors="replace")


def alter_config(path: Path, random: Random) -> None:
    """Write options with odd values."""
    values = altered(yaml.safe_load(path.read_text()), random)
    path.write_text(as_yaml(values, random), errors="replace")


def alter_folder(path: Path, random: Random) -> None:
    """Put something else in the place of a file or folder."""
    name = random.choice([each.name for each in path.iterdir()])
    if (path / name).is_dir() and not (path / name).is_symlink():
        shutil.rmtree(path / name)
    how = random.choice(["nothing", "zeros", "pipe", "/dev/zero", "folder", "gone", "x", "odd"])
    if how == "gone":
        (path / name).unlink(missing_ok=True)
    elif how == "odd":
        (path / name).mkdir(exist_ok=True) if not (path / name).exists() else None
        with contextlib.suppress(OSError):
            (path / name / "a\n\u202e-job-\udcff.safetensors").touch()
    else:
        spoil(path / name, how)


def open_run(path: Path) -> None:
    """Open a run as who goes on with it does."""
    with contextlib.closing(RunDirectory(path, new=False)) as directory:
        database = RunDatabase(path / "run.db")
        with contextlib.closing(database):
            memory = RunMemory(directory, database)
            memory.begin()
            assert memory.first_task
            assert memory.tasks is not None
            assert database.solved_by() is not None
            assert database.failed_attempts() >= 0


def look(path: Path, opened: bool = True) -> str:
    """Have a run's folder read by all that reads it; return its state.

    Args:
        path: of the folder.
        opened: whether the run is gone on with, too, which takes twice as long.
    """
    with bounded():
        summary = runs_.summarize(path)
        assert summary.ending.isprintable()
        assert summary.shortcoming.isprintable()
        with contextlib.suppress(StorageError, LaterFormat):
            runs_.tell(path)
        finished(path)
        host_of(path)
    if opened:
        with bounded(), contextlib.suppress(StorageError, ConfigError):
            open_run(path)
    return summary.state


def make(folder: Path) -> Path:
    """Make a run that is done, and was asked for more than once."""
    path = make_run(folder, "whole")
    model = Model({"a": np.ones(3)}, "neural", FORM)
    save(model, path / "model.safetensors")
    (path / "metrics.json").write_text(json.dumps(RESULT.as_json()))
    (path / "lock").write_text("process 1 on host")
    with contextlib.closing(RunDatabase(path / "run.db")) as database:
        database.state(software=json.dumps({"main": ["{}"]}), address="tcp://[::1]:1")
        database.add_jobs({"round-001-job-0001": 1, "round-001-job-0002": 2})
        database.job_kept(1, "lab1.1")
        database.write([(1, 1, "lab1.1")], [("attempt", {"job": "round-001-job-0001"})])
    assert finished(path) is not None
    return path


@LONG
@pytest.mark.deep
def test_whatever_stands_in_a_run_folder_is_told(tmp_path: Path) -> None:
    random, whole, path = Random(2), make(tmp_path), tmp_path / "run"
    files = ("config.yaml", "run.db", "metrics.json", "lock")
    states = set()
    for _ in range(number_of(40, 1500)):
        shutil.copytree(whole, path)
        for name in random.sample(files, random.choice([1, 1, 2])):
            (path / name).write_bytes(mutated((path / name).read_bytes(), random))
        states.add(look(path, opened=random.random() < 0.5))
        shutil.rmtree(path)
    assert {"damaged", "interrupted"} <= states


@pytest.mark.parametrize("table", TABLES)
def test_a_table_without_an_end_is_not_read(table: str, tmp_path: Path) -> None:
    """Found by odd values: `mnist-runs list` would read rows that a query makes, for ever."""
    path = make_run(tmp_path, "run")
    with contextlib.closing(sqlite3.connect(path / "run.db")) as connection:
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"CREATE VIEW {table} AS {endless(TABLES[table])}")
    assert look(path) == "died"  # as of a run without a history
    assert (path / DAMAGED).exists()


@LONG
@pytest.mark.deep
def test_whatever_values_stand_in_a_run_folder_are_told(tmp_path: Path) -> None:
    random, whole, path = Random(4), make(tmp_path), tmp_path / "run"
    states, aside = set(), 0
    for _ in range(number_of(30, 1500)):
        shutil.copytree(whole, path)
        alter_database(path / "run.db", random)
        if random.random() < 0.3:
            alter_result(path / "metrics.json", random)
        if random.random() < 0.2:
            alter_config(path / "config.yaml", random)
        if random.random() < 0.2:
            alter_folder(path, random)
        states.add(look(path, opened=random.random() < 0.5))
        aside += (path / DAMAGED).exists()
        shutil.rmtree(path)
    assert {"damaged", "interrupted", "too new"} <= states
    assert aside
