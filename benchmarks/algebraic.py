"""Algebraic learning: error against CPU seconds, beside the reference engine and the targets.

Seconds are CPU seconds of one thread: learning, counting what contradicts the atoms, and
merging; the test set's prediction is not in them. The reference engine's figures were recorded
with Open-AML-Engine on a machine of this kind (two cores); targets are those of issue 4.

Usage: python -m benchmarks.algebraic [PART ...] [--plot PNG]
       PART: speed, reference, targets, merging, others, beyond, rounds; all: some 45 minutes
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from learning import Action, Solution, Turn, create
from learning import merging as strategies
from learning.algebraic.compiling import prepare
from learning.algebraic.counting import Count
from learning.algebraic.course import USUAL, BatchSizes, Course, embedded
from learning.algebraic.embedding import ImageEmbedding, TableEmbedding, shifted
from learning.algebraic.model import AlgebraicModel, from_arrays, to_arrays
from loaders import OneAgainstRest, Rows, load, shard
from loaders.rows import Array, Arrays

from .common import HEAD, machine

FASHION = "/usr/share/datasets/fashion-mnist"  # Debian: dataset-fashion-mnist
Curve = list[tuple[float, float]]


@dataclass
class Learned:
    """A model and what it took."""

    model: AlgebraicModel
    seconds: float
    batches: int
    #: CPU seconds and error, on the way.
    curve: Curve = field(default_factory=list)


def pixels(rows: Rows) -> Array:
    return rows.arrays["image"]


def one_against_rest(rows: Rows, target: int) -> Rows:
    return Rows(OneAgainstRest(rows.source, target), rows.split, rows.numbers)


def error(model: AlgebraicModel, test: Rows) -> float:
    return float(np.mean(model.predict(pixels(test)) != test.labels))


def learn(
    train: Rows, *, shifts: int = 0, seconds: float = float("inf"), batches: int = 1_000_000,
    seed: int = 0, at: tuple[float, ...] = (), test: Rows | None = None,
    sizes: BatchSizes = USUAL,
) -> Learned:  # fmt: skip
    """Learn one model until so many CPU seconds or batches are spent."""
    images = pixels(train)
    embedding = ImageEmbedding(*images.shape[1:])
    begun = time.process_time()
    terms = embedded(embedding, train.classes, images)
    variants = [embedded(embedding, train.classes, m) for m in shifted(images, shifts)]
    course = Course(embedding, train.classes, seed, sizes=sizes)
    looking = 0.0  # not learning
    curve: Curve = []
    number = 0
    for batch in course.learn(terms, train.labels, batches, variants=variants):
        number = batch.number + 1
        spent = time.process_time() - begun - looking
        if test is not None and len(curve) < len(at) and spent >= at[len(curve)]:
            before = time.process_time()
            model = course.model(terms, train.labels)
            counted = time.process_time() - before
            curve.append((spent + counted, error(model, test)))
            looking += time.process_time() - before
        if spent >= seconds:
            break
    model = course.model(terms, train.labels)
    return Learned(model, time.process_time() - begun - looking, number, curve)


def row(what: str, ours: str, reference: str = "", target: str = "") -> str:
    return f"| {what} | {ours} | {reference} | {target} |"


def reference() -> Iterator[str]:
    """Equal data and equal batches, beside the reference engine."""
    mnist, test = load("mnist"), load("mnist", "test")
    yield "\n### Beside the reference engine: the same data and as many batches\n"
    yield "| images, batches | ours | reference | ratio of CPU |\n|---|---|---|---|"
    rows = ((1000, 20, 48.9, 13.7), (2000, 20, 53.4, 11.5), (50_000, 30, 520.0, 10.8),
            (50_000, 60, 2166.0, 6.5))  # fmt: skip
    for images, batches, seconds, their_error in rows:
        runs = [
            learn(mnist.limited(images), batches=batches, seed=seed)
            for seed in range(3 if images < 10_000 else 1)
        ]
        ours = float(np.median([run.seconds for run in runs]))
        wrong = float(np.median([error(run.model, test) for run in runs]))
        yield row(
            f"{images:,}, {batches}", f"{ours:.2f} s, {wrong:.1%}",
            f"{seconds:g} s, {their_error} %", f"{seconds / ours:.0f} (target 80)",
        )  # fmt: skip
    data = one_against_rest(mnist.limited(20_000), 0)
    made = learn(data, batches=50, sizes=BatchSizes(1000, 0, 1000))  # the tutorial's batches
    wrong = error(made.model, one_against_rest(test, 0))
    yield row(
        "digit 0, 20,000, 50", f"{made.seconds:.2f} s, {wrong:.2%}", "61.6 s, 0.65 %",
        f"{61.6 / made.seconds:.0f} (target 80)",
    )  # fmt: skip


def targets() -> Iterator[str]:
    """The errors that were to be reached in so many CPU seconds, and the curve to them."""
    mnist, test = load("mnist"), load("mnist", "test")
    yield "\n### Targets\n"
    yield "| images, CPU seconds | ours as is | ours, images also shifted | target |"
    yield "|---|---|---|---|"
    for images, seconds, wanted in ((1000, 5.0, 11.5), (2000, 5.0, 9.2), (8000, 6.0, 7.2)):
        cells = []
        for shifts in (0, 1):
            made = learn(mnist.limited(images), seconds=seconds, shifts=shifts)
            cells.append(f"{error(made.model, test):.2%} ({made.seconds:.1f} s)")
        yield row(f"{images:,}, {seconds:g}", cells[0], cells[1], f"{wanted} %")
    # Looked at a little early: counting what contradicts the atoms takes seconds too.
    runs = [
        learn(mnist.limited(50_000), seconds=190.0, shifts=shifts, at=(23.0, 85.0, 188.0),
              test=test)
        for shifts in (0, 1)
    ]  # fmt: skip
    for number, (seconds, wanted) in enumerate(((25.0, 5.2), (90.0, 3.8), (200.0, 3.5))):
        cells = ["{1:.2%} ({0:.1f} s)".format(*run.curve[number]) for run in runs]
        yield row(f"50,000, {seconds:g}", cells[0], cells[1], f"{wanted} %")
    made = learn(one_against_rest(mnist.limited(20_000), 0), seconds=2.0)
    wrong = error(made.model, one_against_rest(test, 0))
    yield row("digit 0, 20,000, 2", f"{wrong:.2%} ({made.seconds:.1f} s)", "", "0.6 %")


def beyond() -> Iterator[str]:
    """As far as 300 CPU seconds go."""
    yield "\n### Beyond: 60,000 images, 300 CPU seconds, one core\n"
    yield "| CPU seconds | as is | images also shifted |\n|---|---|---|"
    mnist, test = load("mnist"), load("mnist", "test")
    at = (5.0, 10.0, 20.0, 40.0, 80.0, 150.0, 290.0)
    runs = [learn(mnist, shifts=s, seconds=300.0, at=at, test=test) for s in (0, 1)]
    for (seconds, plain), (other, moved) in zip(runs[0].curve, runs[1].curve, strict=False):
        yield f"| {seconds:.0f} / {other:.0f} | {plain:.2%} | {moved:.2%} |"
    for run in runs:
        CURVES["shifted" if run is runs[1] else "as is"] = run.curve
    yield (
        f"\nAfter {runs[1].seconds:.0f} s and {runs[1].batches} batches:"
        f" {error(runs[1].model, test):.2%} (target 3.0 %), {len(runs[1].model.atoms):,} atoms,"
        f" {int(runs[1].model.strict.sum()):,} strict."
    )


def rounds() -> Iterator[str]:
    """As far as merging goes."""
    mnist, test = load("mnist"), load("mnist", "test")
    yield "\n8 shards of 60,000 images, merged, with rounds of 30 batches, all CPU of all shards:\n"
    yield "| round | CPU seconds | error |\n|---|---|---|"
    curve: Curve = []
    for number, (model, spent, _) in enumerate(_rounds(mnist, 8, "disjoint", 5, 30, shifts=1), 1):
        curve.append((spent, error(model, test)))
        yield f"| {number} | {spent:.0f} | {curve[-1][1]:.2%} |"
    CURVES["8 shards, merged"] = curve


#: Of the merging table.
ROUNDS, BATCHES = 4, 12

CURVES: dict[str, Curve] = {}


def _rounds(
    data: Rows, shards: int, sharding: str, rounds: int, batches: int, shifts: int = 0
) -> Iterator[tuple[AlgebraicModel, float, list[Solution]]]:
    """Yield the merged model of each round, the CPU seconds so far, and the shards' solutions."""
    parts = [data.of(rows) for rows in shard(data.labels, shards, sharding, 0)]
    strategy, spent = strategies.create("union", {}), 0.0
    arrays: Arrays = {}
    made = {"batches": batches, "shifts": shifts}
    for round_ in range(rounds):
        begun = time.process_time()
        learner = create("algebraic", made, Turn(round_, rounds))
        solutions = [
            learner.fit(part, arrays, seed=1000 * round_ + number, progress=_nothing,
                        cancelled=lambda: False)
            for number, part in enumerate(parts)
        ]  # fmt: skip
        merged = strategies.merge(strategy, solutions, arrays, {}).model
        arrays = learner.settle(merged, lambda make: (_counted(make(part)) for part in parts))
        spent += time.process_time() - begun
        yield from_arrays(arrays), spent, solutions


def _counted(action: Action) -> Any:
    learner = create("algebraic", {})
    return action.read(learner, *action.perform(learner, _nothing, lambda: False))


def _nothing(fraction: float, note: str = "", /) -> None:
    return


def merging() -> Iterator[str]:
    """Shards apart, merged, and one model of equal CPU."""
    mnist, test = load("mnist"), load("mnist", "test")
    yield (
        f"\n### Merging: errors in percent; {ROUNDS} rounds of {BATCHES} batches, images as they"
        " are\n"
    )
    yield (
        "| images, shards | shards alone, round 1 | merged, round 1 | at the end, strict"
        " | at the end | one model, same CPU | bytes an atom"
        " | violated by strict atoms |\n|---|---|---|---|---|---|---|---|"
    )
    for images, shards, sharding in (
        (2000, 2, "disjoint"), (8000, 4, "disjoint"), (8000, 16, "disjoint"),
        (20_000, 8, "disjoint"), (2000, 2, "labels"),
    ):  # fmt: skip
        yield _merged(mnist.limited(images), test, shards, sharding, f"{images:,}, {shards}")
    zero = one_against_rest(mnist.limited(20_000), 0)
    yield _merged(zero, one_against_rest(test, 0), 8, "disjoint", "digit 0, 20,000, 8")


def _merged(data: Rows, test: Rows, shards: int, sharding: str, what: str) -> str:
    rounds = list(_rounds(data, shards, sharding, ROUNDS, BATCHES))
    solutions = rounds[0][2]
    alone = sorted(100 * error(from_arrays(s.arrays), test) for s in solutions)
    once = error(rounds[0][0], test)
    model, spent, _ = rounds[-1]
    strict = AlgebraicModel(
        model.embedding, model.classes, model.atoms[model.strict], model.violations[model.strict],
        model.epochs[model.strict],
    )  # fmt: skip
    one = learn(data, seconds=spent)
    sent = sum(a.nbytes for s in solutions for n, a in s.arrays.items() if n != "history")
    atoms = sum(len(s.arrays["sizes"]) for s in solutions)
    violated = int(_counted(Count(rows=data, model=to_arrays(strict))).sum())
    skewed = ", skewed labels" if sharding == "labels" else ""
    return (
        f"| {what}{skewed} | {alone[0]:.2f}-{alone[-1]:.2f} | {100 * once:.2f}"
        f" | {100 * error(strict, test):.2f} | {100 * error(model, test):.2f}"
        f" | {100 * error(one.model, test):.2f} |"
        f" {sent / atoms:.1f} | {violated} |"
    )


def others() -> Iterator[str]:
    """Other data sets."""
    yield "\n### Other data\n"
    yield "| data | error | CPU seconds |\n|---|---|---|"
    if Path(FASHION).is_dir():
        train, test = load(FASHION), load(FASHION, "test")
        for levels in (2, 4):
            yield _fashion(train, test, levels)
    else:
        yield f"| Fashion-MNIST | not here ({FASHION}; Debian: dataset-fashion-mnist) | |"
    yield _digits()


def _fashion(train: Rows, test: Rows, levels: int) -> str:
    begun = time.process_time()
    embedding = ImageEmbedding.of_levels(28, 28, levels)
    terms = embedded(embedding, 10, pixels(train))
    _, first, which = np.unique(terms, axis=0, return_index=True, return_inverse=True)
    same = train.labels == train.labels[first[which.ravel()]]  # as far as the model can tell
    terms, train = terms[same], train.of(np.flatnonzero(same))
    course = Course(embedding, 10, 0)
    for _ in course.learn(terms, train.labels, 1_000_000):
        if time.process_time() - begun > 60:
            break
    model = course.model(terms, train.labels)
    spent = time.process_time() - begun
    wrong = error(model, test)
    out = int((~same).sum())
    return f"| Fashion-MNIST, {levels} levels, {out} rows left out | {wrong:.1%} | {spent:.0f} |"


def _digits() -> str:
    from sklearn.datasets import load_digits

    table, labels = load_digits(return_X_y=True)
    held = np.random.RandomState(0).permutation(len(labels))
    train, test = held[450:], held[:450]
    begun = time.process_time()
    embedding = TableEmbedding.of(table[train], labels[train])
    course = Course(embedding, 10, 0)
    terms = embedded(embedding, 10, table[train])
    list(course.learn(terms, labels[train].astype(np.int64), 50))
    model = course.model(terms, labels[train].astype(np.int64))
    spent = time.process_time() - begun
    wrong = np.mean(model.predict(table[test]) != labels[test])
    return f"| scikit-learn's digits, 1,347 to learn from, 450 held | {wrong:.1%} | {spent:.1f} |"


def speed() -> Iterator[str]:
    """Prediction, counting and start-up."""
    mnist, test = load("mnist"), load("mnist", "test")
    made = learn(mnist.limited(8000), batches=40).model
    ten = slice(0, 10_000)
    model = AlgebraicModel(
        made.embedding, made.classes, made.atoms[ten], made.violations[ten], made.epochs[ten]
    )
    begun = time.process_time()
    model.predict(pixels(test))
    spent = time.process_time() - begun
    yield "\n### Speed\n"
    yield "| | ours | reference | |\n|---|---|---|---|"
    yield row("10,000 images by 10,000 atoms", f"{spent:.2f} s", "14.3 s", f"{14.3 / spent:.0f}")
    for what, code in (
        ("import learning.algebraic", "import learning.algebraic"),
        ("import numpy, for comparison", "import numpy"),
    ):
        yield row(what, f"{_started(code):.2f} s")
    cold = _started("from learning.algebraic.compiling import prepare; prepare(print)", cold=True)
    warm = _started("from learning.algebraic.compiling import prepare; prepare(print)")
    yield row("kernels ready, never compiled before / before", f"{cold:.1f} s / {warm:.1f} s")


def _started(code: str, cold: bool = False) -> float:
    """Return the least CPU seconds, of three, of a Python that runs some code and ends."""
    import tempfile

    seconds = []
    for _ in range(1 if cold else 3):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, **({"NUMBA_CACHE_DIR": folder} if cold else {})}
            before = os.times()
            subprocess.run(
                [sys.executable, "-c", code], check=True, env=environment,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            after = os.times()
            seconds.append(
                after.children_user + after.children_system
                - before.children_user - before.children_system
            )  # fmt: skip
    return min(seconds)


def plot(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in CURVES.items():
        axes.plot(*zip(*((s, 100 * e) for s, e in curve), strict=True), marker="o", label=name)
    their = [(520.0, 10.8), (2166.0, 6.5)]
    axes.plot(*zip(*their, strict=True), marker="x", color="gray", label="reference engine, 50,000")
    wanted = [(25.0, 5.2), (90.0, 3.8), (200.0, 3.5), (300.0, 3.0)]
    axes.plot(*zip(*wanted, strict=True), "k_", markersize=12, label="targets")
    axes.set(xscale="log", yscale="log", xlabel="CPU seconds", ylabel="error on the test set, %")
    axes.set_yticks([2, 3, 4, 5, 6, 8, 10], ["2", "3", "4", "5", "6", "8", "10"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title("MNIST, ten classes")
    figure.savefig(path, dpi=120)


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "speed": speed, "reference": reference, "targets": targets, "merging": merging,
    "others": others, "beyond": beyond, "rounds": rounds,
}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    print(machine(), "", HEAD, sep="\n")
    prepare(lambda text: print(text, file=sys.stderr))
    for name in asked.parts or PARTS:
        for line in PARTS[name]():
            print(line, flush=True)
    if asked.plot and CURVES:
        plot(asked.plot)
