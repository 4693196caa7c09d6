"""A run whose disk fails at fifty points, or whose power goes at fifty moments: the same model.

A calm run counts how often the main node's process writes a file, commits to its database, syncs
and renames. Then each of so many points, spread over these, fails in a run of its own (EIO, once,
or from there on; a write leaves half), and the run is resumed. And so many times a run is killed
and its directory left as a power cut would: of what was not synced a part is missing, or all. The
model must be that of the calm run, or the run must say that there is nothing to go on with.

Usage: python -m benchmarks.storage [TIMES]
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from console.exits import Exit

from .common import machine

OPTIONS = (
    "--jobs", "4", "--rounds", "2", "--epochs", "1", "--local-nodes", "1", "--json", "--log-level",
    "error", "--bind", "tcp://127.0.0.1:0",
)  # fmt: skip
SECONDS = 120
#: Loaded into the main node's process: it counts, notes what is synced, and fails at a point.
_SHIM = """
import functools, os, pathlib, sqlite3, sys
if any("main_node" in word for word in sys.orig_argv):
    at, on = int(os.environ.get("FAIL_AT", "0")), os.environ.get("FAIL_ON") == "1"
    log = open(os.environ["SYNC_LOG"], "a", buffering=1)
    count = 0
    def step(what, path):
        global count
        count += 1
        print(count, what, path, file=log)
        if at and (count == at or (on and count > at)):
            raise OSError(5, "Input/output error", str(path))
    sync, replace = os.fsync, pathlib.Path.replace
    def fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        step("sync", path)
        sync(descriptor)
        size = os.fstat(descriptor).st_size
        print(0, "synced", path, size, file=log)
    def rename(self, target):
        step("rename", target)
        return replace(self, target)
    os.fsync, pathlib.Path.replace = fsync, rename
    write_text = pathlib.Path.write_text
    def write(self, text, *options, **more):
        try:
            step("write", self)
        except OSError:
            write_text(self, text[: len(text) // 2], *options, **more)
            raise
        return write_text(self, text, *options, **more)
    pathlib.Path.write_text = write
    class Connection(sqlite3.Connection):
        def commit(self):
            try:
                step("commit", "run.db")
            except OSError as error:
                self.rollback()
                raise sqlite3.OperationalError("disk I/O error") from error
            super().commit()
    sqlite3.dbapi2.connect = functools.partial(sqlite3.connect, factory=Connection)
    import safetensors.numpy
    save_file = safetensors.numpy.save_file
    def save(arrays, path, notes):
        save_file(arrays, path, notes)
        try:
            step("write", path)
        except OSError:
            os.truncate(path, os.path.getsize(path) // 2)
            raise
    safetensors.numpy.save_file = save
"""


def _write_idx(folder: Path) -> None:
    """Write a small data set of ten classes of noise, each about a mean of its own."""
    chance = np.random.default_rng(0)
    means = chance.integers(0, 200, (10, 28, 28))
    folder.mkdir()
    for split, rows in (("train", 400), ("t10k", 50)):
        labels = chance.integers(0, 10, rows).astype(np.uint8)
        images = (means[labels] + chance.integers(0, 50, (rows, 28, 28))).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = np.array([0x0800 | array.ndim, *array.shape], ">i4").tobytes()
            (folder / f"{split}-{name}-ubyte").write_bytes(head + array.tobytes())


class Bench:
    """A folder with data, runs, and the shim."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "sync.log"
        _write_idx(folder / "data")
        (folder / "shim").mkdir()
        (folder / "shim" / "sitecustomize.py").write_text(_SHIM)

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Start a main node."""
        path = os.pathsep.join(
            filter(None, [str(self.folder / "shim"), os.environ.get("PYTHONPATH")])
        )
        return subprocess.Popen(
            [sys.executable, "-m", "main_node", *options], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "SYNC_LOG": str(self.log), **environment},
        )  # fmt: skip

    def begin(self, runs: Path, **environment: str) -> subprocess.Popen[str]:
        """Start a new run in a folder of its own."""
        self.log.write_text("")
        return self.start(
            *OPTIONS, "--data", str(self.folder / "data"), "--run-dir", str(runs), **environment
        )

    def resume(self, runs: Path) -> str:
        """Go on with the run in a folder; return its sha, or `nothing`, or what is wrong."""
        found = [path for path in runs.glob("*") if (path / "config.yaml").is_file()]
        if not found:
            return "nothing"
        return _outcome(
            self.start("--resume", str(found[0]), "--json", "--bind", "tcp://127.0.0.1:0")
        )


def _outcome(main: subprocess.Popen[str]) -> str:
    output, errors = main.communicate(timeout=SECONDS)
    if main.returncode == Exit.DONE:
        return str(json.loads(output)["model_sha256"])
    return f"exit code {main.returncode}: {errors.strip()[-300:]}"


def points(bench: Bench, times: int, sha: str, steps: int) -> Counter[str]:
    """Fail at so many points; return how often what came of it."""
    came: Counter[str] = Counter()
    for number, at in enumerate(np.linspace(1, steps, times, dtype=int)):
        runs = bench.folder / f"point-{number}"
        main = bench.begin(runs, FAIL_AT=str(at), FAIL_ON=str(number % 2))
        first = _outcome(main)
        told = "Traceback" not in first
        then = sha if first == sha else bench.resume(runs)
        came[_kind(then, sha) if told else f"a traceback: {first}"] += 1
        shutil.rmtree(runs, ignore_errors=True)
    return came


def cuts(bench: Bench, times: int, sha: str, seconds: float) -> Counter[str]:
    """Cut the power at so many moments; return how often what came of it."""
    came: Counter[str] = Counter()
    for number in range(times):
        chance = random.Random(number)
        runs = bench.folder / f"cut-{number}"
        main = bench.begin(runs)
        time.sleep(chance.random() * seconds)
        main.kill()
        main.wait()
        _forget(runs, bench.log.read_text().splitlines(), chance)
        came[_kind(bench.resume(runs), sha)] += 1
        shutil.rmtree(runs, ignore_errors=True)
    return came


def _forget(runs: Path, log: Sequence[str], chance: random.Random) -> None:
    """Leave of a run's files what is on disk for sure, and of the rest any part of it."""
    synced: dict[str, int] = {}
    for line in log:
        words = line.split()
        if words[1] == "synced":
            synced[words[2]] = int(words[3])
            final = Path(words[2]).with_name(
                Path(words[2]).name.removeprefix(".").removesuffix(".part")
            )
            synced[str(final)] = int(words[3])
    for path in runs.rglob("*"):
        if not path.is_file() or path.name.startswith("run.db"):  # SQLite sees to its own
            continue
        size, sure = path.stat().st_size, synced.get(str(path), 0)
        if sure < size:
            if chance.random() < 0.3:
                path.unlink()
            else:
                os.truncate(path, chance.randint(sure, size))


def _kind(outcome: str, sha: str) -> str:
    return "the same model" if outcome == sha else outcome


def main(times: int) -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        begun = time.monotonic()
        sha = _outcome(bench.begin(bench.folder / "calm"))
        seconds = time.monotonic() - begun
        steps = sum(not line.startswith("0") for line in bench.log.read_text().splitlines())
        print(f"calm: {sha[:12]}, {steps} writes, commits, syncs and renames, {seconds:.1f} s")
        for what, came in (
            ("failing points", points(bench, times, sha, steps)),
            ("power cuts", cuts(bench, times, sha, seconds)),
        ):
            for outcome, count in came.most_common():
                print(f"{what}: {count} of {times}: {outcome}")


if __name__ == "__main__":
    arguments: list[Any] = sys.argv[1:]
    main(int(arguments[0]) if arguments else 50)
