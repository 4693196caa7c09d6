"""How good models are, and what they cost: presets, plain torch, the first release's way; MNIST.

Whole commands, from the shell to the end, in turns: seconds of the wall clock, and of CPU in all
processes. Ours cut the data into 4 jobs for 2 local nodes; plain torch learns from all of it in one
process, with two threads. Mean and spread are of the seeds.

Usage: python -m benchmarks.accuracy [SEEDS] [NAME ...], names of `WAYS`
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from .common import machine

#: By name, what is run: options of mnist-main, or epochs of plain torch.
WAYS: dict[str, list[str] | int] = {
    "fast": ["--preset", "fast"],
    "standard": ["--preset", "standard"],
    "best": ["--preset", "best"],
    "fast, 16 jobs": ["--preset", "fast", "--jobs", "16"],
    "standard, 16 jobs": ["--preset", "standard", "--jobs", "16"],
    "first": ["--preset", "first"],
    "2,000 rows": ["--limit", "2000"],
    "fashion": ["--data", "fashion-mnist"],
    "fashion, best": ["--data", "fashion-mnist", "--preset", "best", "--set", "flip=true"],
    "plain torch, 1 epoch": 1,
    "plain torch, 4 epochs": 4,
    "plain torch, 8 epochs": 8,
}
MOST_USED = ("fast", "standard", "first", "plain torch, 4 epochs", "plain torch, 8 epochs")


@dataclass
class Taken:
    """What runs of one way came to."""

    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        good = [100 * each for each in self.accuracies]
        spread = statistics.stdev(good) if len(good) > 1 else 0.0
        return (
            f"{statistics.mean(good):.2f} +- {spread:.2f} % |"
            f" {statistics.median(self.seconds):.1f} s | {statistics.median(self.cpu):.1f} s |"
        )


def _run(way: list[str] | int, seed: int) -> float:
    """Return how good the model of one run is."""
    if isinstance(way, int):
        output = _output("benchmarks.bare", "2", str(way), str(seed))
        return float(output.split()[0])
    with tempfile.TemporaryDirectory() as folder:
        output = _output(
            "main_node", "--jobs", "4", "--local-nodes", "2", "--bind", "tcp://127.0.0.1:0",
            "--json", "--quiet", "--seed", str(seed), "--run-dir", folder, *way,
        )  # fmt: skip
    return float(json.loads(output)["accuracy"])


def _output(*words: str) -> str:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(seeds: int, names: list[str]) -> None:
    print(machine(), "", "| what | accuracy | median | of CPU |", "|---|---|---|---|", sep="\n")
    taken = {name: Taken() for name in names}
    for seed in range(seeds):
        for name, each in taken.items():
            begun, before = time.perf_counter(), _cpu()
            each.accuracies.append(_run(WAYS[name], seed))
            each.seconds.append(time.perf_counter() - begun)
            each.cpu.append(_cpu() - before)
            last = each.accuracies[-1], each.seconds[-1], each.cpu[-1]
            told = "{:.2%}, {:.1f} s, {:.1f} s of CPU".format(*last)
            print(f"{name}, seed {seed}: {told}", file=sys.stderr, flush=True)  # it takes long
    for name, each in taken.items():
        print(f"| {name} | {each}", flush=True)


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["3"])[0]), sys.argv[2:] or list(MOST_USED))
