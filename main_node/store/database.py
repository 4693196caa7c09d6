"""`run.db`: what happened in a run, for people and for the run's next start (SQLite).

The solutions themselves are files of their own, each with a checksum: a run whose `run.db` is
damaged loses its history, and no solution.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from console.formats import check_format
from protocol.wire.words import from_json, safe_line

from ..errors import StorageError

#: Its `user_version`. 1, where that is 0: what the first release wrote. 2: says so, and data and
#: options have other digests among the facts (`learning/first.py`).
FORMAT = 2
#: Its `application_id` is this and the format: so one changed byte makes no other format.
_APPLICATION = int.from_bytes(b"MNM\0", "big")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, node TEXT, kept_at REAL);
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY, job INTEGER NOT NULL, node TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS events (at REAL NOT NULL, kind TEXT NOT NULL, what TEXT NOT NULL);
"""
#: The same as SQLite keeps them, and has since the first release.
_TABLES = {
    " ".join(each.split()).replace("IF NOT EXISTS ", "") for each in _SCHEMA.split(";") if each
}
#: What the columns of each table hold.
_KINDS: dict[str, tuple[Any, ...]] = {
    "facts": (str, str), "jobs": (int, str, str | None, float | None),
    "tasks": (int, int, str, float), "events": (float, str, str),
}  # fmt: skip
#: Of the disk, for the last that is to be written.
_SPARE_BYTES = 64 << 10
#: What a damaged database is called from then on.
DAMAGED = "run.db.damaged"


class RunDatabase:
    """The database of one run, open for writing by its only main node.

    Args:
        path: of the file; made where there is none.

    Attributes:
        damage: why the old file could not be read and was put aside; empty if it could.

    Raises:
        LaterFormat: a later release has written it; it is left as it is.
        StorageError: it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self._lock = threading.RLock()
        try:
            self._check_links()
            self._connection = self._open()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) and _of_the_disk(error):
                raise StorageError(f"{path}: can't be used: {error}") from error
            self.damage = safe_line(str(error))
            self._put_aside()
            self._connection = self._open()

    def _check_links(self) -> None:
        """See that nothing is written to another's file, which a link may lead to.

        Raises:
            sqlite3.DatabaseError: the database is one.
            StorageError: a link can't be removed.
        """
        for left in ("-wal", "-shm", "-journal"):
            beside = self.path.with_name(self.path.name + left)
            if beside.is_symlink():
                try:
                    beside.unlink()
                except OSError as error:
                    raise StorageError(f"{beside}: a link that can't be removed") from error
        if self.path.is_symlink():
            raise sqlite3.DatabaseError("it is a link to another file")
        if self.path.exists() and not self.path.is_file():
            raise sqlite3.DatabaseError("it is not a file")

    def _put_aside(self) -> None:
        """Keep a damaged database under another name."""
        try:
            self.path.replace(self.path.with_name(DAMAGED))
            for left in ("-wal", "-shm"):
                self.path.with_name(self.path.name + left).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.path} is damaged ({self.damage}), and can't be put aside: {error.strerror}"
            ) from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        try:
            _check_format(self.path, connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            (found,) = connection.execute("PRAGMA integrity_check").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(f"malformed: {found}")
            for table, kinds in _KINDS.items():
                for row in connection.execute(f"SELECT * FROM {table}"):
                    columns = zip(row, kinds, strict=False)
                    if not all(isinstance(value, kind) for value, kind in columns):
                        raise sqlite3.DatabaseError(f"malformed: {row!r:.80} in {table}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {_APPLICATION + FORMAT}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    self._spare.unlink(missing_ok=True)
                    raise StorageError(f"{self.path}: {error}") from error
                raise

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Write everything out into one file, and let go; twice is once."""
        with self._lock:
            with suppress(sqlite3.Error):  # somebody reads it: then it stays three files
                self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.close()
            with suppress(OSError):
                self._spare.unlink(missing_ok=True)

    # Where the disk is full.

    def keep_spare(self) -> None:
        """Take some room on the disk, that is given back where it is full, as far as there is any.

        What was given to nodes a moment before can be written down then.
        """
        with suppress(OSError):
            self._spare.write_bytes(bytes(_SPARE_BYTES))

    @property
    def _spare(self) -> Path:
        return self.path.with_name(f"{self.path.name}-spare")

    # Facts.

    def fact(self, name: str) -> str | None:
        """Return a fact about the run."""
        rows = self._read("SELECT value FROM facts WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def state(self, **facts: object) -> None:
        """Set facts about the run, on disk for sure, whoever reads it meanwhile."""
        with self._lock:
            self._set("synchronous = FULL")  # each transaction is synced, in run.db-wal
            try:
                with self._writing() as connection:
                    connection.executemany(
                        "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                        [(name, str(value)) for name, value in facts.items()],
                    )
            finally:
                self._set("synchronous = NORMAL")

    def _set(self, pragma: str) -> None:
        try:
            self._connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: {error}") from error

    # Jobs and tasks.

    def jobs(self) -> dict[str, int]:
        """Return the id of every job so far, by name."""
        return {str(name): int(job) for name, job in self._read("SELECT name, id FROM jobs")}

    def solved(self) -> set[str]:
        """Return the names of the jobs whose solutions are known to be on disk."""
        return {str(n) for (n,) in self._read("SELECT name FROM jobs WHERE kept_at IS NOT NULL")}

    def add_jobs(self, jobs: Mapping[str, int]) -> None:
        """Remember the ids of new jobs."""
        if jobs:
            with self._writing() as connection:
                connection.executemany("INSERT INTO jobs (name, id) VALUES (?, ?)", jobs.items())

    def job_kept(self, job: int, node: str) -> None:
        """Remember that a job's solution is on disk, and who made it."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE jobs SET node = ?, kept_at = ? WHERE id = ?", (node, time.time(), job)
            )

    def job_forgotten(self, job: int, name: str) -> None:
        """Forget a job, who worked on it, and what came of that."""
        with self._writing() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
            connection.execute("DELETE FROM tasks WHERE job = ?", (job,))
            connection.execute("DELETE FROM events WHERE json_extract(what, '$.job') = ?", (name,))

    def tasks(self) -> dict[int, tuple[str, int, str]]:
        """Return every task so far: id -> (name of its job, job id, id of its node)."""
        rows = self._read(
            "SELECT tasks.id, jobs.name, jobs.id, tasks.node FROM tasks"
            " JOIN jobs ON jobs.id = tasks.job"
        )
        return {task: (name, job, node) for task, name, job, node in rows}

    def write(
        self, tasks: Iterable[tuple[int, int, str]], events: Iterable[tuple[str, Mapping[str, Any]]]
    ) -> None:
        """Remember tasks, (id, job id, node id), and events, (kind, values)."""
        now = time.time()
        tasks_ = [(*task, now) for task in tasks]
        events_ = [(now, kind, json.dumps(dict(what))) for kind, what in events]
        spare = self._spare.exists()
        try:
            self._insert(tasks_, events_)
        except StorageError:
            if not spare:
                raise
            self._insert(tasks_, events_)  # where the spare room was

    def _insert(
        self, tasks: list[tuple[int, int, str, float]], events: list[tuple[float, str, str]]
    ) -> None:
        with self._writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?)", tasks)
            connection.executemany("INSERT INTO events VALUES (?, ?, ?)", events)

    def solved_by(self) -> dict[str, int]:
        """Return how many jobs that were fitted each node has solved, by its name."""
        rows = self._read(
            "SELECT node, count(*) FROM jobs WHERE node IS NOT NULL"
            " AND name LIKE '%-job-%' GROUP BY node ORDER BY node"
        )
        return {str(node): int(count) for node, count in rows}

    def failed_attempts(self) -> int:
        """Return how many attempts have failed, in every life."""
        ((count,),) = self._read("SELECT count(*) FROM events WHERE kind = 'attempt'")
        return int(count)


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    """Raise where a database is of no format that this release reads, or not of our tables only.

    Raises:
        LaterFormat: a later release has written it.
        sqlite3.DatabaseError: it is of none that there is.
    """
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != (_APPLICATION + number if number else 0):
        raise sqlite3.DatabaseError(f"malformed: format {number} of {application}")
    check_format(path, number or 1, FORMAT)
    for (statement,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
        if " ".join(str(statement).split()) not in _TABLES:  # a view may have rows without an end
            raise sqlite3.DatabaseError(f"malformed: it has another table: {statement!r:.80}")


def _moment(at: Any) -> float:
    """Return a time as seconds that a calendar has.

    Raises:
        ValueError, OverflowError, TypeError: it is none.
    """
    time.localtime(float(at))
    return float(at)


def _said(what: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in what.items())


def _of_the_disk(error: sqlite3.OperationalError) -> bool:
    """Whether the file may be good, and can't be read or written."""
    signs = ("unable to open", "readonly", "locked", "disk I/O", "full", "access permission")
    return any(sign in str(error) for sign in signs)


class RunHistory:
    """What `run.db` says, read by somebody else than the main node, which may be writing it.

    Whoever can write there may have written anything: words come as they may be shown.

    Args:
        path: of the file.

    Raises:
        LaterFormat: a later release has written it.
        StorageError: it can't be read.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise StorageError(f"{path}: can't be read: it is not a file")
        try:
            try:
                self._fill(path, "mode=ro")
            except sqlite3.OperationalError:  # on a disk that can't be written, say
                self._fill(path, "immutable=1")
        except (sqlite3.Error, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise StorageError(f"{path}: can't be read: {safe_line(str(error))}") from error

    def _fill(self, path: Path, how: str) -> None:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)
        try:
            _check_format(path, connection)
            self.facts = {
                str(name): safe_line(str(value))
                for name, value in connection.execute("SELECT * FROM facts")
            }
            self.accuracy = float(self.facts["accuracy"]) if "accuracy" in self.facts else None
            self.starts = int(self.facts.get("starts", 0))
            #: Of jobs that are solved: the name, and who solved it.
            self.solved = [
                (safe_line(str(name)), safe_line(str(node)))
                for name, node in connection.execute(
                    "SELECT name, node FROM jobs WHERE kept_at IS NOT NULL"
                )
            ]
            #: What happened: when, the kind, and what is to be said of it.
            self.events = [
                (_moment(at), safe_line(str(kind)), safe_line(_said(from_json(what))))
                for at, kind, what in connection.execute("SELECT * FROM events ORDER BY rowid")
            ]
        finally:
            connection.close()
