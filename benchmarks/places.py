"""Data from two real stores of S3 beside the same bytes by the bare client, s3fs.

Usage: python -m benchmarks.places [seaweedfs|juicefs]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loaders import open_source, places
from loaders.fetching import fetch_mnist
from loaders.known import MNIST
from tests.stores import STORES, Store

from .common import HEAD, Row, alternate, machine

RUNS, SMALL, SMALL_BYTES = 5, 500, 300


def measure(kind: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store = STORES[kind](Path(folder))
        try:
            store.start()
            yield from _measured(kind, store)
        finally:
            store.kill()


def _measured(kind: str, store: Store) -> Iterator[Row]:
    os.environ.update(store.environment)
    fs = store.fs
    fs.mkdir("bench")
    folder = fetch_mnist()
    idx = [f"bench/mnist/{name}" for name in MNIST.files]
    fs.pipe({path: (folder / Path(path).name).read_bytes() for path in idx})
    fs.pipe({f"bench/small/{n}.png": os.urandom(SMALL_BYTES) for n in range(SMALL)})
    images, small = places.at(f"s3://{idx[0]}"), places.at("s3://bench/small")
    there = places.entries(small, SMALL)
    nbytes = len(fs.cat_file(idx[0])) / 1e6

    def seconds(what: Callable[[], object]) -> Callable[[], float]:
        def timed() -> float:
            what()  # stores keep in memory what was asked for last
            begun = time.perf_counter()
            what()
            return time.perf_counter() - begun

        return timed

    ours, bare, source, every, many, each = alternate(
        RUNS,
        seconds(lambda: places.read(images)), seconds(lambda: fs.cat_file(idx[0])),
        seconds(lambda: open_source("s3://bench/mnist")),
        seconds(lambda: [fs.cat_file(path) for path in idx]),
        seconds(lambda: list(places.read_each(there))),
        seconds(lambda: fs.cat([f"bench/small/{n}.png" for n in range(SMALL)])),
    )  # fmt: skip
    for what, took, beside, amount, unit in (
        (f"{nbytes:.0f} MB object", ours, bare, nbytes, "MB/s"),
        ("MNIST as a source, four objects", source, every, 1.167 * nbytes, "MB/s"),
        (f"{SMALL} objects of {SMALL_BYTES} bytes", many, each, SMALL, "objects/s"),
    ):
        limit = amount / beside
        yield Row(f"{what}, {kind}", amount / took, unit, limit, "s3fs", 0.8 * limit, more=True)


if __name__ == "__main__":
    print(machine(), "", HEAD, sep="\n")
    for kind in sys.argv[1:] or STORES:
        print(*measure(kind), sep="\n", flush=True)
