"""A run's directory: its configuration, its solutions, its models, its metrics."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from learning import DamagedFile, ModelError
from learning.durable import read_arrays, sync, write_arrays, write_text
from learning.model import Model, load, save, sha256
from loaders.rows import Arrays
from protocol.files import read_small
from protocol.wire.words import from_json, safe_line

from ..errors import ConfigError, StorageError

#: The lock of a run directory is tried so often, so many seconds apart: somebody who only looks
#: whether it is held (`locked`) holds it for a moment.
LOCK_TRIES, LOCK_SECONDS = 5, 0.05
#: A folder could be there, and written, if the disk or its owner had nothing against it.
_OF_THE_DISK = frozenset(
    [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG]
)
#: A lock says which process holds it, in so many bytes at most.
_MOST_OF_A_LOCK = 4096
#: Later is nobody's clock.
_LAST_YEAR = 9999
#: In a merged model's notes: what became of each solution.
SOLUTIONS = "solutions"
_STAMP = "%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class Kept:
    """A solution on disk.

    Args:
        node: name of the node that made it.
        values: its metrics.
        arrays: what it holds.
    """

    node: str
    values: dict[str, Any]
    arrays: Arrays


class RunDirectory:
    """The directory of one run, locked against other main nodes while this is open.

    Args:
        path: where it is, or is to be.
        new: whether to make it.

    Raises:
        ConfigError: there can be none, it is not there, or another main node works in it.
        StorageError: there is no room for it, or it may not be written.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path = path
        self.run_id = Path(os.path.realpath(path)).name  # a loop of links, too, has one
        self._solutions, self._models = path / "solutions", path / "models"
        #: Folders that were made for this run, the deepest first.
        self._made: list[Path] = []
        if not new and not is_run(path):
            raise ConfigError(f"{path}: no run; `mnist-runs list` shows those that there are")
        self._lock: _Lock | None = None
        try:
            here = path.absolute()
            for folder in [*reversed(here.parents), here] if new else []:
                if folder == here or not folder.exists():
                    folder.mkdir(exist_ok=folder != here)
                    self._made.insert(0, folder)
            for folder in (self._solutions, self._models):
                folder.mkdir(exist_ok=True)
            self._lock = _lock(path)
            for folder in [path, *(folder.parent for folder in self._made)]:
                sync(folder)
        except OSError as error:
            self._unmake()
            hint = "name another with --run-dir" if new else "it must be writable to go on"
            what = StorageError if error.errno in _OF_THE_DISK else ConfigError
            raise what(
                f"the run directory {path} can't be {'made' if new else 'used'}"
                f" ({error.strerror}); {hint}"
            ) from error
        except BaseException:  # a signal
            self._unmake()
            raise

    @classmethod
    def make(cls, parent: Path) -> RunDirectory:
        """Make the directory of a new run in `parent`.

        Raises:
            ConfigError: there can be none.
            StorageError: there is no room for it, or nothing may be written there.
        """
        return cls(parent / f"{_stamp(parent)}-{secrets.token_hex(2)}", new=True)

    def close(self) -> None:
        """Unlock the directory; twice is once."""
        if self._lock is not None:
            self._lock.close()

    @property
    def empty(self) -> bool:
        """Whether nothing was learned: a trial at most, which is done again in no time."""
        return not any(self._solutions.glob("*-job-*.safetensors"))  # nor if it is gone

    def _unmake(self) -> None:
        """Leave nothing of a directory that could not be made."""
        if self._lock is not None:
            self._lock.close()
        self.remove()

    def remove(self) -> None:
        """Remove what this made: the directory, and those above it that are empty."""
        for folder in self._made:
            if folder == self.path.absolute():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                with suppress(OSError):  # others have made something there
                    folder.rmdir()

    # Solutions.

    def has_solution(self, name: str) -> bool:
        """Whether there is a file with the solution of the job of this name, good or not."""
        with _storing(self._solution(name)):
            return self._solution(name).exists()

    def drop_solution(self, name: str) -> None:
        """Forget the solution of a job that is no good."""
        with _storing(self._solution(name)):
            self._solution(name).unlink(missing_ok=True)

    def write_solution(self, name: str, work: str, kept: Kept) -> None:
        """Keep the solution of a job, on disk for sure.

        Args:
            name: of the job.
            work: digest of all that the job is made of.
            kept: the solution.

        Raises:
            StorageError: it can't be written.
        """
        notes = {"work": work, "node": kept.node, "values": json.dumps(kept.values)}
        with _storing(self._solution(name)):
            write_arrays(self._solution(name), kept.arrays, notes)

    def solution(self, name: str, is_of: Callable[[str], bool]) -> Kept | None:
        """Return the solution of a job; None where there is none.

        Args:
            name: of the job.
            is_of: whether a digest is of all that the job is made of.

        Raises:
            DamagedFile: what there is can't be used, and why.
        """
        path = self._solution(name)
        try:
            arrays, notes = read_arrays(path)
        except FileNotFoundError:
            return None
        if not is_of(notes.get("work", "")):
            raise DamagedFile(f"{path}: the solution of another job than this run's")
        return Kept(notes["node"], json.loads(notes["values"]), arrays)

    def _solution(self, name: str) -> Path:
        return self._solutions / f"{name}.safetensors"

    # Models.

    def write_merged(self, round_: int, model: Model) -> None:
        """Keep a round's merged model."""
        with _storing(self._merged(round_)):
            save(model, self._merged(round_))

    def merged(self, round_: int, fits: Callable[[Mapping[str, str]], bool]) -> Model | None:
        """Return a round's merged model, if it is here and whole.

        Args:
            round_: counted from 0.
            fits: whether a model with such notes is one of this run's.

        Raises:
            DamagedFile: there is one that can't be used, and why.
        """
        path = self._merged(round_)
        with _storing(path):
            if not path.exists():
                return None
        try:
            model = load(path)
        except ModelError as error:
            raise DamagedFile(str(error)) from error
        if not fits(model.notes):
            raise DamagedFile(f"{path}: the model of another run, or of other data")
        return model

    def _merged(self, round_: int) -> Path:
        return self._models / f"round-{round_ + 1:03d}.safetensors"

    # A strategy's state beside them, and its clients' parts by shard.

    def write_state(self, round_: int, state: Arrays) -> str:
        """Keep what a strategy goes on with after a round, counted from 0; return its digest."""
        return _keep(self._state(round_), state)

    def state(self, round_: int, digest: str) -> Arrays:
        """Return what a strategy goes on with after a round.

        Raises:
            DamagedFile: it is gone, can't be used, or is another.
        """
        return _kept(self._state(round_), digest)

    def write_client(self, round_: int, part: int, own: Arrays) -> str:
        """Keep what a shard, counted from 1, goes on with after a round; return its digest."""
        return _keep(self._client(round_, part), own)

    def client(self, round_: int, part: int, digest: str) -> Arrays:
        """Return what a shard goes on with after a round.

        Raises:
            DamagedFile: it is gone, can't be used, or is another.
        """
        return _kept(self._client(round_, part), digest)

    def _state(self, round_: int) -> Path:
        return self._models / f"round-{round_ + 1:03d}.state"

    def _client(self, round_: int, part: int) -> Path:
        return self._models / f"round-{round_ + 1:03d}.client-{part:04d}"

    def write_model(self, model: Model) -> Path:
        """Keep the model that the run ends with; return its file."""
        path = self.path / "model.safetensors"
        with _storing(path):
            save(model, path)
        return path

    # Texts.

    def write_config(self, text: str) -> None:
        """Keep the options as they were resolved."""
        with _storing(self.path):
            write_text(self.path / "config.yaml", text)

    def write_code(self, files: Mapping[str, bytes]) -> None:
        """Keep a user's own code, by path, as the run began with it."""
        with _storing(self.path):
            for name, content in files.items():
                path = self.path / "code" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Keep the result."""
        with _storing(self.path):
            write_text(self.path / "metrics.json", json.dumps(metrics, indent=2) + "\n")

    def drop_metrics(self) -> None:
        """Forget the result: the run goes on."""
        with _storing(self.path):
            (self.path / "metrics.json").unlink(missing_ok=True)


def _stamp(runs: Path) -> str:
    """Return the time that a new run is named by: later than any run's that is there.

    The newest is found by its name, and a clock may be put back.
    """
    latest = 0.0
    with suppress(OSError):
        for path in runs.iterdir():
            with suppress(ValueError, OverflowError):
                stamp = time.strptime(path.name[:15], _STAMP)
                if stamp.tm_year < _LAST_YEAR:
                    latest = max(latest, time.mktime(stamp))
    return time.strftime(_STAMP, time.localtime(max(time.time(), latest + 1)))


def _keep(path: Path, arrays: Arrays) -> str:
    with _storing(path):
        write_arrays(path, arrays, {})
    return sha256(arrays)


def _kept(path: Path, digest: str) -> Arrays:
    try:
        arrays = read_arrays(path)[0]
    except FileNotFoundError as error:
        raise DamagedFile(f"{path}: no such file") from error
    if sha256(arrays) != digest:
        raise DamagedFile(f"{path}: of another round, or of another run")
    return arrays


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Turn what the system says of a full or broken disk into a `StorageError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        what = "reached" if isinstance(error, PermissionError) else "written"
        raise StorageError(f"{path}: can't be {what}: {reason}") from error


class _Lock:
    """Holds a run directory; the directory itself, and a file that says who holds it.

    Raises:
        BlockingIOError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        with ExitStack() as held:
            folder = os.open(path, os.O_RDONLY)
            held.callback(os.close, folder)
            with suppress(_Unlockable):  # on some network's disks only files can be
                _flock(folder, fcntl.LOCK_EX)
            self.file = held.enter_context(_own_file(path / "lock"))
            _flock(self.file.fileno(), fcntl.LOCK_EX)
            self._held = held.pop_all()

    def close(self) -> None:
        """Let go; twice is once."""
        self._held.close()


def _own_file(path: Path) -> IO[str]:
    """Return a file, open to write behind what is there; a link to another's file is replaced."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError:
        if not path.is_symlink():
            raise
        path.unlink()
        descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o666)
    return os.fdopen(descriptor, "a+")


class _Unlockable(OSError):
    """The system can't lock this."""


def _flock(descriptor: int, how: int) -> None:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise _Unlockable(error.errno, error.strerror) from error


def _lock(path: Path) -> _Lock:
    """Return the lock of a run directory.

    Raises:
        ConfigError: another process holds it.
    """
    for _ in range(LOCK_TRIES):
        try:
            lock = _Lock(path)
        except BlockingIOError:
            time.sleep(LOCK_SECONDS)
            continue
        lock.file.truncate(0)
        lock.file.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.file.flush()
        return lock
    holder = ""
    with suppress(OSError):
        holder = read_small(path / "lock", _MOST_OF_A_LOCK).decode(errors="replace").strip()
    raise ConfigError(
        f"run {path.name} is in use by {holder or 'another process'}: two main nodes can't share a"
        " run directory"
    )


def host_of(path: Path) -> str:
    """Return the host whose main node works in a run directory, or did; empty if nobody knows."""
    if not (path / "lock").is_file():
        return ""
    try:
        told = read_small(path / "lock", _MOST_OF_A_LOCK).decode(errors="replace")
        return safe_line(told.rpartition(" on ")[2].strip())
    except OSError:
        return ""


def is_run(path: Path) -> bool:
    """Whether there is a run in a directory, though its solutions may have been deleted."""
    try:
        begun = any((path / name).exists() for name in ("run.db", "lock"))
        return (path / "solutions").is_dir() or (begun and (path / "config.yaml").is_file())
    except OSError:  # a path too long, say
        return False


def runs_in(folder: Path) -> list[Path]:
    """Return the directories of the runs that are kept in a folder, the oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if is_run(path))
    except OSError:
        return []


def solutions_in(path: Path) -> dict[int, list[dict[str, Any]]]:
    """Return what is told of the solutions of each round, counted from 1, that is kept and whole.

    Args:
        path: of a run's directory.

    Returns:
        Of each its `job` and `node`, `distance` from the merged model, where models are numbers,
        and how much of its way was `taken`, where it is not all.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    for file in sorted((path / "models").glob("round-*.safetensors")):
        try:
            told = from_json(load(file).notes.get(SOLUTIONS, ""))
            round_ = int(file.stem.removeprefix("round-"))
        except (ModelError, ValueError):  # nothing is kept, or an earlier release has written it
            continue
        if isinstance(told, list) and all(isinstance(each, dict) for each in told):
            found[round_] = told
    return found


def locked(path: Path) -> bool:
    """Whether a main node works in a run directory at this moment."""
    try:
        folder = os.open(path, os.O_RDONLY)
        try:
            with suppress(_Unlockable):
                _flock(folder, fcntl.LOCK_SH)
            # A pipe that somebody has put there is not waited for.
            file = os.open(path / "lock", os.O_RDONLY | os.O_NONBLOCK)
            try:
                _flock(file, fcntl.LOCK_SH)
            finally:
                os.close(file)
        finally:
            os.close(folder)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
