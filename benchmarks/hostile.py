"""A run beside a peer that does the worst it may, against the same run beside a busy core.

One honest node trains. What is measured: the longest silence of the main node towards somebody who
asks it ten times a second who it is, the most memory that it takes beyond what it takes beside a
process that only burns a core, how many lines and bytes it logs, and how much longer the run takes
than beside that process.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
import zmq

from protocol.carrier.keys import node_keys
from protocol.wire.codec import encode
from protocol.wire.messages import Watch

from .common import machine
from .hostile_peer import ENDLESS, MESSAGES, TAKING

SILENCE_SECONDS, MOST_MB, MOST_RATIO = 1.0, 300.0, 1.5
#: Attacks that need no key, or none that counts. (Who has a key can take jobs. Without keys nobody
#: tells whose a node is, and who comes from the same host as the others can make jobs fail.)
OTHERS = ("come and go", "half commands", "properties", "deaf watchers")
KEYED = (
    "unknown kinds", "hellos", "join and leave", "needs", "solutions", "large solutions", "chunks",
    "lists", "almost too much", "come and go", "half commands", "deaf watchers", *TAKING,
)  # fmt: skip
ATTACKS = (*MESSAGES, *ENDLESS, *OTHERS, *TAKING)
HEAD = (
    "| attack | keys | longest silence | memory above calm | log | run, beside a busy core | |\n"
    "|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Figures:
    """What a run came to."""

    silence: float
    megabytes: float  # at most, beyond those at the beginning
    lines: int
    nbytes: int
    seconds: float


def write_data(folder: Path) -> None:
    """Write a small data set in IDX files."""
    chance = np.random.default_rng(0)
    for split, rows in (("train", 2000), ("t10k", 200)):
        images = chance.integers(0, 255, (rows, 28, 28), dtype=np.uint8)
        labels = (np.arange(rows) % 10).astype(np.uint8)
        head = np.array([0x803, rows, 28, 28], ">u4").tobytes()
        (folder / f"{split}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = np.array([0x801, rows], ">u4").tobytes()
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


class Probe:
    """Asks a main node who it is, ten times a second, and notes how long that took at most."""

    def __init__(self, address: str, keys: Path | None) -> None:
        self.longest = 0.0
        self._address, self._keys = address, keys
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        made = context.socket(zmq.DEALER)
        made.linger = 0
        if self._keys is not None:
            mine = node_keys(self._keys)
            made.curve_publickey, made.curve_secretkey = mine.public, mine.secret
            made.curve_serverkey = mine.main
        made.connect(self._address)
        while not self._over.is_set():
            begun = time.monotonic()
            made.send_multipart(encode([Watch("", "", 0)]))
            while not made.poll(50) and not self._over.is_set():
                if not self._listens():  # the run is over
                    self._over.set()
                else:
                    self.longest = max(self.longest, time.monotonic() - begun)
            if not self._over.is_set():
                made.recv_multipart()
                self.longest = max(self.longest, time.monotonic() - begun)
            time.sleep(0.1)  # who asks all the time is a nuisance, too
        made.close()
        context.term()

    def _listens(self) -> bool:
        """Whether there is somebody to ask; a connection would tell, and wait in a flood."""
        wanted = f":{int(self._address.rpartition(':')[2]):04X}"
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        return any(line.split()[1].endswith(wanted) and line.split()[3] == "0A" for line in lines)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@contextlib.contextmanager
def ended(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for a block, and end it then."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(attack: str, connections: int, folder: Path, keyed: bool) -> Figures:
    """Train once beside an attack."""
    keys = folder / "keys" if keyed else None
    flags = [] if keys is None else ["--keys", str(keys)]
    main = subprocess.Popen(
        [sys.executable, "-m", "main_node", "--bind", "tcp://127.0.0.1:0", "--data",
         str(folder / "data"), "--jobs", "2", "--rounds", "2", "--epochs", "8", "--run-dir",
         str(folder / "runs"), "--log-level", "info", "--min-nodes", "1", *flags],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert main.stderr is not None
    lines = [main.stderr.readline() for _ in range(2)]
    while not (found := re.search(r"listening at (tcp://\S+\d)", lines[-1])):
        lines.append(main.stderr.readline())
    address = found[1]
    reading = threading.Thread(target=lambda: lines.extend(main.stderr or ()), daemon=True)
    reading.start()
    process, most = psutil.Process(main.pid), 0
    calm = process.memory_info().rss
    own = [] if keys is None else ["--keys", str(keys / "nodes" / "honest")]
    bad = [] if keys is None else [str(keys / "nodes" / "bad")]
    probe = Probe(address, None if keys is None else keys / "nodes" / "probe")
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended("computing_node", "--connect", address, "--name", "honest", *own))
        while not any("node.joined" in line for line in lines):
            time.sleep(0.05)
        stack.enter_context(
            ended("benchmarks.hostile_peer", attack, address, str(connections), *bad)
        )
        begun = time.monotonic()
        while main.poll() is None and time.monotonic() - begun < 300:
            with contextlib.suppress(psutil.Error):
                most = max(most, process.memory_info().rss)
            time.sleep(0.01)
        seconds = time.monotonic() - begun
        probe.close()
    main.kill()
    if main.wait():
        print("".join(lines[-8:]), file=sys.stderr)
        seconds = float("inf")
    reading.join()
    log = [line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    return Figures(probe.longest, (most - calm) / 1e6, len(log), sum(map(len, log)), seconds)


def measure(connections: int, attacks: list[str]) -> Iterator[str]:
    """Yield a row of the table for each attack."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_data(folder / "data")
        subprocess.run(
            [sys.executable, "-c", "from main_node.commands.keys import main; main()", "new",
             str(folder / "keys"), "honest", "bad", "probe"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for keyed in (False, True):
            wanted = [
                a for a in attacks or ATTACKS
                if (a in KEYED if keyed else a not in TAKING)
            ]  # fmt: skip
            if wanted:
                busy = [run("burn", 1, folder, keyed) for _ in range(2)]
                calm = min(busy, key=lambda each: each.seconds)
                yield row("a busy core", keyed, busy[0], calm)
            for attack in wanted:
                yield row(attack, keyed, run(attack, connections, folder, keyed), calm)


def row(attack: str, keyed: bool, figures: Figures, calm: Figures) -> str:
    """Return a row of the table."""
    ratio = figures.seconds / calm.seconds
    megabytes = figures.megabytes - calm.megabytes
    right = figures.silence <= SILENCE_SECONDS and megabytes <= MOST_MB and ratio <= MOST_RATIO
    return (
        f"| {attack} | {'yes' if keyed else 'no'} | {figures.silence:.2f} s"
        f" | {megabytes:.0f} MB | {figures.lines} lines, {figures.nbytes / 1e3:.0f} kB"
        f" | {ratio:.2f} | {'reached' if right else 'MISSED'} |"
    )


@click.command()
@click.argument("connections", default=1)
@click.argument(
    "attacks", nargs=-1, type=click.Choice(sorted({*MESSAGES, *ENDLESS, *OTHERS, *TAKING}))
)
def command(connections: int, attacks: tuple[str, ...]) -> None:
    """Measure runs beside ATTACKS (all of them, if none is named) by CONNECTIONS at a time."""
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    print(machine(), "", HEAD, sep="\n")
    for line in measure(connections, list(attacks)):
        print(line, flush=True)


if __name__ == "__main__":
    command()
