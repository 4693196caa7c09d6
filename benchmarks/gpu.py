"""What a GPU makes of a run, in one table: seconds, equal bits, use, and places on its host.

Usage: scripts/gpu-check [--device cpu] [--data FOLDER] ...

It runs from a tree, without installation, on a machine without a network: the first lines say which
packages are missing. With `--device cpu` it is small, and says what was not run. It ends with 1
where equal runs came to different bits, or one failed; a time that is missed is only said.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from mnist_merge import ROOT, command
from protocol.wire.words import plural

#: What a GPU should take for MNIST, seconds. `first` is the first release's default: 5 rounds of 3
#: epochs, 16 rows a step.
TARGETS = {"first": 6.0, "standard": 4.0}
#: What a run may take before it is given up.
PATIENCE = 300.0
#: Packages that a run needs, of those that are installed with this project; others draw or serve.
NEEDED = frozenset(
    {
        "click", "filelock", "msgpack", "numpy", "pooch", "python-mnist", "pyyaml", "pyzmq", "rich",
        "safetensors", "torch", "xxhash", "zeroconf",
    }
)  # fmt: skip
#: A net of a user's.
_OWN = str(Path(ROOT) / "examples" / "own_net.py") + ":Net"
#: Tells how busy the GPU is, twice a second.
_SMI = (
    "nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits",
    "--loop-ms=500",
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a run came to: its seconds, how good its model is, and the digest of that."""

    training: float
    total: float
    accuracy: float
    sha: str
    devices: tuple[str, ...]
    use: str = ""


@dataclass
class Table:
    """The figures, printed as they come: nothing is lost where time runs out."""

    differ: bool = False
    failed: list[str] = field(default_factory=list)

    def row(self, what: str, figure: str, wanted: str = "") -> None:
        """Print a figure."""
        print(f"| {what} | {figure} | {wanted} |", flush=True)

    def skipped(self, what: str, why: str) -> None:
        """Say that something was not run."""
        self.row(what, "not run", why)

    def same(self, what: str, digests: Sequence[str]) -> None:
        """Say whether models are equal to the bit."""
        equal = len(set(digests)) == 1
        self.differ |= not equal
        shown = digests[0][:12] if equal else ", ".join(each[:12] for each in digests)
        self.row(what, f"sha {shown}", "equal bits" if equal else "BITS DIFFER")


def missing() -> dict[str, bool]:
    """Return the packages that are not here of those that installation brings; whether needed."""
    config = configparser.ConfigParser()
    config.read(Path(ROOT) / "setup.cfg")
    names = [
        re.split(r"[<>=\[; ]", line, maxsplit=1)[0]
        for line in config["options"]["install_requires"].split("\n") if line
    ]  # fmt: skip
    found = {}
    for name in names:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found[name] = name in NEEDED
    return found


@contextmanager
def watched(device: str) -> Iterator[list[str]]:
    """See how busy the GPU is meanwhile; what comes of it is in the list once that is over."""
    told: list[str] = []
    if device == "cpu" or shutil.which("nvidia-smi") is None:
        yield told
        return
    with tempfile.TemporaryFile("w+") as lines:
        process = subprocess.Popen(_SMI, stdout=lines, stderr=subprocess.DEVNULL)
        try:
            yield told
        finally:
            process.kill()
            process.wait()
        lines.seek(0)
        pairs = [line.split(",") for line in lines if re.fullmatch(r"\s*\d+\s*,\s*\d+\s*", line)]
    if pairs:
        busy, memory = ([float(pair[n]) for pair in pairs] for n in (0, 1))
        told.append(
            f"busy {statistics.mean(busy):.0f} % (most {max(busy):.0f}),"
            f" memory {max(memory):,.0f} MiB"
        )


class Check:
    """Has everything run, one after the other.

    Args:
        asked: the options.
        table: takes the figures.
    """

    def __init__(self, asked: argparse.Namespace, table: Table) -> None:
        self._asked, self._table = asked, table
        self._folder = Path(tempfile.mkdtemp(prefix="gpu-check-"))

    def run(self) -> None:
        """Measure, and fill the table."""
        asked, table = self._asked, self._table
        try:
            runs = {preset: self._repeated(preset) for preset in asked.presets}
            self._nodes(runs.get("standard", []))
            self._own()
            self._captured()
            self._places()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        for what in table.failed:
            table.row(what, "FAILED", "its last words are above")

    # Runs.

    def _repeated(self, preset: str) -> list[Told]:
        """Run a preset several times: how long, how good, and whether to the same bits."""
        asked, target = self._asked, TARGETS[preset]
        what = f"preset {preset}, {plural(asked.nodes, 'node')}"
        found = [self._main(what, asked.nodes, preset) for _ in range(asked.repeat)]
        runs = [each for each in found if each is not None]
        if not runs:
            return []
        seconds = ", ".join(f"{each.training:.2f}" for each in runs)
        whole = statistics.median(each.total for each in runs)
        middle = statistics.median(each.training for each in runs)
        wanted = "no target on the processor"
        if asked.device != "cpu":
            reached = "reached" if middle <= target else "MISSED"
            wanted = f"at most {target:g} s: {reached}"
        accuracy = ", ".join(f"{each.accuracy:.2%}" for each in runs)
        self._table.row(what, f"training {seconds} s; whole {whole:.2f} s", wanted)
        self._table.row("- accuracy", accuracy, f"on {' and '.join(runs[0].devices)}")
        if runs[-1].use:
            self._table.row("- the GPU meanwhile", runs[-1].use)
        self._table.same(f"- the model, {len(runs)} times", [each.sha for each in runs])
        return runs

    def _nodes(self, before: list[Told]) -> None:
        """See that the model is the same by other numbers of nodes."""
        for count in self._asked.counts:
            what = f"preset standard, {plural(count, 'node')}"
            told = self._main(what, count, "standard")
            if told is None:
                continue
            self._table.row(
                what, f"training {told.training:.2f} s; whole {told.total:.2f} s", told.use
            )
            self._table.same("- the model", [each.sha for each in (*before[:1], told)])

    def _own(self) -> None:
        """See that a net of a user's is the same by each number of nodes."""
        shas = []
        for count in self._asked.counts:
            what = f"a net of one's own, {plural(count, 'node')}"
            told = self._main(what, count, "standard", ("--learner", _OWN))
            if told is None:
                continue
            self._table.row(what, f"training {told.training:.2f} s; {told.accuracy:.2%}", told.use)
            shas.append(told.sha)
        if shas:
            self._table.same("- the model", shas)

    def _main(self, what: str, nodes: int, preset: str, more: tuple[str, ...] = ()) -> Told | None:
        """Run the command; return what it came to."""
        asked = self._asked
        arguments = [
            "main_node", "--json", "--bind", "tcp://127.0.0.1:0", "--data", asked.data,
            "--device", asked.device, "--local-nodes", str(nodes), "--jobs", str(asked.jobs),
            "--run-dir", str(self._folder / "runs"), "--log-level", "warning",
            "--timeout", "60", "--preset", preset, *more,
        ]  # fmt: skip
        if asked.rows:
            arguments += ["--limit", str(asked.rows)]
        for name in ("rounds", "epochs"):
            if getattr(asked, name):
                arguments += [f"--{name}", str(getattr(asked, name))]
        with watched(asked.device) as use:
            values = self._result(what, command(*arguments))
        if values is None:
            return None
        seconds = values["seconds"]
        return Told(
            seconds["training"], seconds["total"], values["accuracy"], values["model_sha256"],
            tuple(values["devices"]), "".join(use),
        )  # fmt: skip

    def _result(self, what: str, arguments: Sequence[str]) -> dict[str, Any] | None:
        """Run a command; return the JSON object that it prints, or say that it failed."""
        try:
            done = subprocess.run(
                arguments, capture_output=True, text=True, timeout=PATIENCE, check=False,
                cwd=ROOT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
            words = getattr(error, "stderr", None) or error
            if not isinstance(error, subprocess.TimeoutExpired | OSError):
                words = done.stderr or error
            print(f"{what}: {words}"[-2000:], file=sys.stderr, flush=True)
            self._table.failed.append(what)
            return None
        return values

    # A shard by itself.

    def _captured(self) -> None:
        """Learn from one shard step by step, and by graphs: the same bits, in less time."""
        asked = self._asked
        if asked.device == "cpu":
            return self._table.skipped(
                "steps one by one and as a graph", "there are none on the processor"
            )
        for preset in asked.presets:
            found = {}
            for how in ("eager", "graph"):
                what = f"one shard of preset {preset}, {how}"
                told = self._result(
                    what, self._fitting(preset, how, asked.device, asked.epochs or 0)
                )
                if told is None:
                    continue
                found[how] = told["sha"]
                each = told["seconds"] / told["steps"] * 1e6
                self._table.row(what, f"{told['seconds']:.2f} s for {told['steps']:,} steps",
                                f"{each:.0f} us a step")  # fmt: skip
            if len(found) == 2:
                self._table.same("- the model, eager and as a graph", list(found.values()))
        return None

    def _fitting(self, preset: str, how: str, device: str, epochs: int) -> list[str]:
        asked = self._asked
        return [
            sys.executable, "-m", "benchmarks.gpu", "--fit", how, "--preset", preset,
            "--device", device, "--data", asked.data, "--epochs", str(epochs),
            "--rows", str((asked.rows or 60_000) // asked.jobs),
        ]  # fmt: skip

    # Many places on one host.

    def _places(self) -> None:
        """Solve as many jobs on the processor as there are places; the same in bare processes."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        alone: dict[str, float] = {}
        for count in (1, *self._asked.places) if self._asked.places else ():
            if count > (cores or 1):
                self._table.skipped(f"{count} places", f"there are {cores} cores")
                continue
            bare, ours = self._bare(count), self._placed(count)
            if bare is None or ours is None:
                continue
            alone.setdefault("bare", bare)
            alone.setdefault("ours", ours)
            speed = {"bare": count * alone["bare"] / bare, "ours": count * alone["ours"] / ours}
            self._table.row(
                f"{plural(count, 'job')} at once on {cores} cores, one thread each",
                f"a node {ours:.2f} s, bare processes {bare:.2f} s",
                f"{speed['ours']:.2f} and {speed['bare']:.2f} times one",
            )

    def _bare(self, count: int) -> float | None:
        """Return the seconds that so many processes take, each with its own shard, once ready."""
        what = f"bare processes, {count} at once"
        arguments = self._fitting("first", "held", "cpu", self._asked.epochs or 1)
        processes = [
            subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for _ in range(count)
        ]  # fmt: skip
        try:
            for each in processes:
                assert each.stdout is not None
                each.stdout.readline()
            begun = time.perf_counter()
            for each in processes:
                assert each.stdin is not None
                each.stdin.write("\n")
                each.stdin.flush()
            ended = [each.stdout.readline() for each in processes if each.stdout is not None]
            seconds = time.perf_counter() - begun
        except OSError as error:
            print(f"{what}: {error}", file=sys.stderr)
            ended = [""]
        finally:
            for each in processes:
                each.kill()
                each.wait()
        if not all(ended):
            self._table.failed.append(what)
            return None
        return seconds

    def _placed(self, count: int) -> float | None:
        """Return the seconds that one node with so many places takes for as many jobs, once warm.

        That is the time between two rounds' ends: the first has every place get ready.
        """
        asked, what = self._asked, f"a node with {count} places"
        port, folder = _free_port(), self._folder / f"places-{count}"
        node = subprocess.Popen(
            command("computing_node", "--connect", f"tcp://127.0.0.1:{port}", "--tasks", str(count),
                    "--device", "cpu", "--log-level", "error"),
            cwd=ROOT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        rows = (asked.rows or 60_000) // asked.jobs
        try:
            told = self._result(what, command(
                "main_node", "--json", "--bind", f"tcp://127.0.0.1:{port}", "--data", asked.data,
                "--jobs", str(count), "--rounds", "3", "--preset", "first", "--device", "cpu",
                "--epochs", str(asked.epochs or 1), "--limit", str(rows * count),
                "--run-dir", str(folder), "--log-level", "warning", "--timeout", "60",
            ))  # fmt: skip
        finally:
            node.terminate()
            node.wait()
        if told is None:
            return None
        return _between_rounds(folder)


def _between_rounds(folder: Path) -> float:
    """Return the seconds from the last solution of one round to the last of the next, at best."""
    import sqlite3

    (path,) = folder.glob("*/run.db")
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "SELECT name, kept_at FROM jobs WHERE name LIKE '%-job-%'"
        ).fetchall()
    last: dict[str, float] = {}
    for name, at in rows:
        round_ = name.partition("-job-")[0]
        last[round_] = max(last.get(round_, 0.0), at)
    ends = [last[name] for name in sorted(last)]
    return min(later - sooner for sooner, later in pairwise(ends))


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def fit(how: str, preset: str, device: str, data: str, rows: int, epochs: int) -> None:
    """Learn from one shard in this process, and print what came of it.

    Args:
        how: `graph`, `eager`, or `held`: not before a line comes on standard input.
        preset: of the learner.
        device: that computes.
        data: where it is.
        rows: of the shard.
        epochs: 0: the preset's.
    """
    import loaders
    from learning import Turn, create
    from learning.devices import computing_on
    from learning.model import sha256
    from learning.neural import steps

    steps.GRAPHS = how != "eager"
    source = loaders.open_source(data, lambda text: None, loaders.ReadingOptions())
    train = loaders.rows_of(source, "train", rows)
    make: dict[str, object] = {"preset": preset, **({"epochs": epochs} if epochs else {})}
    with computing_on(device):
        plain = create("neural", make)
        made: Any
        made, rounds = plain.suited(train.form, rows, 1, None)
        learner = create("neural", {**vars(made)}, Turn(0, rounds))
        start = learner.begin(learner.initial(train.form), train)
        few = train.of(slice(0, 4 * made.batch_size))  # what takes long at first is not a step's
        learner.fit(few, start, seed=1, progress=_silent, cancelled=_never)
        if how == "held":
            print("ready", flush=True)
            sys.stdin.readline()
        begun = time.perf_counter()
        solution = learner.fit(train, start, seed=1, progress=_silent, cancelled=_never)
        seconds = time.perf_counter() - begun
    taken = made.epochs * max(1, round(rows / made.batch_size))
    sha = sha256(solution.arrays)
    print(json.dumps({"seconds": seconds, "steps": taken, "sha": sha}), flush=True)


def _silent(fraction: float, note: str = "", /) -> None:
    return


def _never() -> bool:
    return False


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--data", default="mnist", help="a folder of IDX files, or a known name")
    parser.add_argument("--rows", type=int, help="train on so many only (cpu: 2,000)")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: the preset's (cpu: 2)")
    parser.add_argument("--epochs", type=int, help="default: the preset's (cpu: 1)")
    parser.add_argument("--presets", nargs="*", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--counts", type=int, nargs="*", default=[1, 3], help="nodes that come to the same bits"
    )
    parser.add_argument("--places", type=int, nargs="*", default=[4, 8, 16])
    parser.add_argument("--fit", choices=["graph", "eager", "held"], help=argparse.SUPPRESS)
    parser.add_argument("--preset", default="standard", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.device == "cpu" and asked.fit is None:
        for name, value in (("rows", 2000), ("rounds", 2), ("epochs", 1)):
            if getattr(asked, name) is None:
                setattr(asked, name, value)
    return asked


def _machine(device: str) -> str:
    """Return what this runs on, in a line."""
    torch, gpus = "no torch", ["no GPU asked for"]
    if device != "cpu":
        done = subprocess.run(
            command("learning.neural.device"), capture_output=True, text=True, check=False
        )
        lines = done.stdout.splitlines() or ["[]"]
        gpus = json.loads(lines[-1]) or ["torch finds no GPU"]
    with suppress(metadata.PackageNotFoundError):
        torch = f"torch {metadata.version('torch')}"
    return f"{', '.join(gpus)}; {os.cpu_count()} cores, {torch}, Python {platform.python_version()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    asked = _asked(arguments)
    if asked.fit is not None:
        fit(asked.fit, asked.preset, asked.device, asked.data, asked.rows, asked.epochs)
        return 0
    lacking = missing()
    print(f"missing: {', '.join(sorted(lacking)) or 'nothing'}")
    needed = sorted(name for name, is_needed in lacking.items() if is_needed)
    if needed:
        names = " ".join(needed)
        version = ".".join(platform.python_version_tuple()[:2])
        print(
            f"without {names} nothing runs; where there is a network: pip download -d wheels"
            f" --only-binary=:all: --python-version {version} {names}; then here: pip install"
            f" --no-index --find-links wheels {names}"
        )
        return 1
    print(_machine(asked.device), "", "| what | figure | wanted |", "|---|---|---|", sep="\n")
    if asked.device == "cpu":
        what = f"{asked.rows:,} rows, rounds {asked.rounds}, epochs {asked.epochs}"
        print(f"| small, on the processor | {what} | nothing was run on a GPU |", flush=True)
    table = Table()
    Check(asked, table).run()
    return 1 if table.differ or table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
