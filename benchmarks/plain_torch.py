"""The peer of `benchmarks.training`: the same net and the same data, in one process.

Usage: python -m benchmarks.plain_torch THREADS EPOCHS
"""

from __future__ import annotations

import sys
import time

import loaders
from learning import create


def main(threads: int, epochs: int) -> None:
    begun = time.perf_counter()
    train, test = loaders.load("mnist"), loaders.load("mnist", "test")
    learner = create("neural", {"epochs": epochs, "threads": threads})
    solution = learner.fit(
        train, learner.initial(train.form), seed=0, progress=lambda fraction, note="": None,
        cancelled=lambda: False,
    )  # fmt: skip
    labels = learner.predict(solution.arrays, test)
    print((labels == test.labels).mean(), time.perf_counter() - begun)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
