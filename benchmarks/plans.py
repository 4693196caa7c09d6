"""A search for plans: how accurate a merged model is by shards, skew, rounds and strategy.

Runs are gone through in this process and its workers, without nodes and messages: the same shards,
seeds, learner and strategies as `mnist-main` has, so that the same model comes of it. Plans are
tried on training rows that are kept aside; `--test` tries them on the test set instead.

Usage: python -m benchmarks.plans [--data mnist] [--rows N] [--seeds N] [--test] [--plot FILE]
    TRY|GROUP ...

A TRY is words with commas between them, those of `mnist-main`: `jobs=16,sharding=labels,rounds=8,
shared_rows=0.02,preset=fast,lr=0.1,merge=fedavgm:momentum=0.5`; a GROUP is some of them, `GROUPS`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import loaders
from learning import Learner, Solution, Turn, create, merging
from learning.merging.strategy import Client
from loaders import Rows
from loaders.rows import Arrays
from loaders.sharding import shard

from .common import machine

#: Of the training rows, kept aside.
ASIDE = 5_000
#: Parts in which rows are predicted.
PARTS = 4
_SHARDS = (1, 2, 4, 8, 16)
_SKEWS = ("dirichlet:0.3", "classes:2", "classes:1")
_MERGES = ("mean", "fedavgm", "fedadam", "fedprox", "fednova", "scaffold", "median")
#: Tries by what is asked of them.
GROUPS: dict[str, tuple[str, ...]] = {
    # What merging costs: shards as the preset has them, and the same passes by one process.
    "shards": tuple(f"jobs={jobs}" for jobs in _SHARDS),
    "fast": tuple(f"jobs={jobs},preset=fast" for jobs in _SHARDS),
    "equal": tuple(
        f"jobs={jobs},rounds={rounds},epochs={8 / rounds:g},lr={lr}"
        for jobs, rounds, lr in ((1, 1, 0.3), (2, 8, 0.3), (4, 8, 0.3), (8, 16, 0.4), (16, 32, 0.4))
    ),
    # What skew costs, by how it is met; `--rows 12000`.
    "skew": tuple(
        f"jobs=10,preset=fast,sharding={skew},{more}"
        for skew in _SKEWS
        for more in (
            *(f"merge={name}" for name in _MERGES),
            "shared_rows=0.02",
            "rounds=9,epochs=1",
        )
    ),
}


class Try(NamedTuple):
    """A run that is gone through.

    Args:
        data: name of the set.
        rows: that it learns from, at most; 0: all but those kept aside.
        test: whether models are tried on the test set.
        seed: of everything random.
        words: the rest, by name, as `mnist-main` has it.
    """

    data: str
    rows: int
    test: bool
    seed: int
    words: tuple[tuple[str, str], ...]

    @property
    def said(self) -> dict[str, str]:
        """The words by name."""
        return dict(self.words)

    @property
    def jobs(self) -> int:
        """How many shards there are."""
        return int(self.said.get("jobs", 4))

    @property
    def merge(self) -> str:
        """What merges."""
        return self.said.get("merge", "mean")

    def made(self) -> dict[str, object]:
        """Return what the learner is made with."""
        own = {"preset": str, "epochs": float, "steps": int, "batch_size": int, "lr": float,
               "width": int, "shift": int}  # fmt: skip
        said = {name: kind(self.said[name]) for name, kind in own.items() if name in self.said}
        return {"preset": "standard", "flip": self.said.get("flip") == "true", **said}


@cache
def _sets(data: str, rows: int, test: bool) -> tuple[Rows, Rows]:
    """Return what is learned from, and what models are tried on."""
    source = loaders.open_source(data)
    every = Rows(source, "train")
    if test:
        return every.of(slice(0, rows or len(every))), Rows(source, "test")
    there = len(every) - ASIDE
    return every.of(slice(0, min(rows or there, there))), every.of(slice(there, len(every)))


@cache
def _shards(try_: Try) -> list[Rows]:
    train, _ = _sets(try_.data, try_.rows, try_.test)
    said = try_.said
    cut = shard(
        train.labels, try_.jobs, said.get("sharding", "disjoint"), try_.seed,
        float(said.get("shared_rows", 0)),
    )  # fmt: skip
    return [train.of(each) for each in cut]


def _learner(try_: Try, made: Mapping[str, object], turn: Turn) -> Learner:
    return create("neural", dict(made), turn)


class Told(NamedTuple):
    """A job, as a worker is told of it."""

    try_: Try
    made: Mapping[str, object]
    turn: Turn


def fresh(told: Told) -> Arrays:
    """Return a fresh model, begun with the whole data; in a worker."""
    train, _ = _sets(told.try_.data, told.try_.rows, told.try_.test)
    learner = _learner(*told)
    return learner.begin(learner.initial(train.form), train)


def fit(told: Told, part: int, start: Arrays, shared: Arrays, own: Arrays) -> Solution:
    """Return what comes of a shard, counted from 0; in a worker."""
    strategy, rows = merging.parse(told.try_.merge), _shards(told.try_)[part]
    client: Client[Any] | None = None
    if strategy.client is not None:
        client = strategy.client(shared, own)
    entropy = np.random.SeedSequence([told.try_.seed, told.turn.round, part])
    return _learner(*told).fit(
        rows, start, seed=int(entropy.generate_state(1)[0]),
        progress=lambda done, note="", /: None, cancelled=lambda: False, client=client,
    )  # fmt: skip


def right(told: Told, model: Arrays, part: int) -> int:
    """Return how many rows of a part a model predicts rightly; in a worker."""
    _, tried = _sets(told.try_.data, told.try_.rows, told.try_.test)
    rows = list(tried.parts(PARTS))[part]
    return int(np.count_nonzero(_learner(*told).predict(model, rows) == rows.labels))


def rounds_of(try_: Try, pool: Executor) -> Iterator[float]:
    """Go through a run; yield the accuracy after each round."""
    train, tried = _sets(try_.data, try_.rows, try_.test)
    first = create("neural", try_.made(), Turn(0, 1, try_.seed))
    wanted = try_.said.get("rounds")
    made, rounds = first.suited(
        train.form, len(train), try_.jobs, None if wanted is None else int(wanted)
    )
    values = {name: value for name, value in vars(made).items() if value is not None}
    strategy = merging.parse(try_.merge)
    told = Told(try_, values, Turn(0, rounds, try_.seed))
    model = pool.submit(fresh, told).result()
    learned = first.learned(model)
    state = strategy.begin(learned)
    own = [strategy.own(learned)] * try_.jobs
    for number in range(rounds):
        told = told._replace(turn=Turn(number, rounds, try_.seed))
        shared = strategy.shared(state)
        asked = [
            pool.submit(fit, told, n, model, dict(shared), dict(own[n])) for n in range(try_.jobs)
        ]
        solutions = [
            Solution(s.arrays, s.examples, s.metrics, s.client, given, model)
            for s, given in zip((each.result() for each in asked), own, strict=True)
        ]
        own = [each.client for each in solutions]
        merged = merging.merge(strategy, solutions, model, state)
        state, model = merged.state, first.settle(merged.model, lambda make: iter(()))
        found = [pool.submit(right, told, model, part) for part in range(PARTS)]
        yield sum(each.result() for each in found) / len(tried)


def _told(text: str) -> tuple[tuple[str, str], ...]:
    """Return the words of a TRY; behind `merge` commas are its own."""
    before, _, merge = text.partition("merge=")
    words = [each.partition("=")[::2] for each in before.split(",") if each]
    return (
        *((name.strip(), value) for name, value in words),
        *([("merge", merge)] if merge else []),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--plot", metavar="FILE", help="draw accuracy against rounds")
    parser.add_argument("tries", nargs="+")
    asked = parser.parse_args()
    tries = [each for told in asked.tries for each in GROUPS.get(told, (told,))]
    curves: dict[str, list[list[float]]] = {}
    _sets(asked.data, asked.rows, asked.test)
    print(machine())
    print("| run | accuracy, % | wall clock |", "|---|---|---|", sep="\n", flush=True)
    for text in tries:
        began, last = time.monotonic(), []
        for seed in range(asked.seeds):
            try_ = Try(asked.data, asked.rows, asked.test, seed, _told(text))
            with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as pool:
                found = [100 * each for each in rounds_of(try_, pool)]
            last.append(found[-1])
            curves.setdefault(text, []).append(found)
            told = " ".join(f"{each:.2f}" for each in found)
            print(f"  {text}, seed {seed}: {told}", file=sys.stderr, flush=True)
        spread = f" +- {statistics.stdev(last):.2f}" if len(last) > 1 else ""
        took = time.monotonic() - began
        print(f"| {text} | {statistics.mean(last):.2f}{spread} | {took:.0f} s |", flush=True)

    if asked.plot:
        _draw(curves, Path(asked.plot), asked.data)


def _draw(curves: Mapping[str, list[list[float]]], file: Path, data: str) -> None:
    """Draw accuracy against rounds, the mean of the seeds; chance and the first rounds are cut."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for text, runs in curves.items():
        mean = np.mean(runs, axis=0)
        axes.plot(range(1, len(mean) + 1), mean, marker=".", label=f"{text}: {mean[-1]:.2f} %")
    best = max(float(np.mean(runs, axis=0).max()) for runs in curves.values())
    axes.set_ylim(best - 4, best + 0.2)
    axes.set(xlabel="rounds", ylabel=f"accuracy on {data}'s rows, %", title="Merged models")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
