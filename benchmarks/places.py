"""Data from two real stores of S3, and from behind HTTP, beside the same bytes by bare clients.

These are s3fs and fsspec's client of HTTP. They read as whoever has only them would: one file after
the other where files are large, all together where they are small. What a process computes is told
beside what it waits: servers run on this machine, too.

Usage: python -m benchmarks.places [seaweedfs|juicefs|http]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loaders import load, open_source, places
from loaders.fetching import fetch_mnist
from loaders.known import MNIST
from tests.stores import STORES, Store

from .common import HEAD, Row, alternate, machine

RUNS, SMALL, SMALL_BYTES, PARTS = 7, 500, 300, 10
#: What it is, how much, of what; ours, and theirs.
_Case = tuple[str, float, str, Callable[[], Any], Callable[[], Any]]


def measure(kind: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        if kind == "http":
            yield from _http(Path(folder))
            return
        store = STORES[kind](Path(folder))
        try:
            store.start()
            yield from _s3(kind, store)
        finally:
            store.kill()


def _files(folder: Path) -> dict[str, bytes]:
    """Return MNIST's four files, whole, in parts, and as arrays, by the path of each."""
    import numpy as np

    mnist, files = fetch_mnist(), {}
    for name in MNIST.files:
        content = files[f"mnist/{name}"] = (mnist / name).read_bytes()
        size = -(-len(content) // PARTS)
        for part in range(PARTS):
            files[f"parts/{name}/part-{part}"] = content[part * size :][:size]
    for split in ("train", "test"):
        rows = load(mnist, split)
        for name, array in (("x", rows.read()["image"]), ("y", rows.labels)):
            np.save(folder / "array.npy", array)
            files[f"npy/{name}_{split}.npy"] = (folder / "array.npy").read_bytes()
    return files


def _beside(kind: str, client: str, cases: list[_Case]) -> Iterator[Row]:
    """Yield ours beside theirs, what is waited and what is computed, in turns.

    Args:
        kind: of the server.
        client: that is bare.
        cases: to measure.
    """

    def both(what: Callable[[], object]) -> tuple[Callable[[], float], Callable[[], float]]:
        cpu = 0.0

        def waited() -> float:
            nonlocal cpu
            what()  # stores keep in memory what was asked for last
            begun, cpu_begun = time.perf_counter(), time.process_time()
            what()
            cpu = time.process_time() - cpu_begun
            return time.perf_counter() - begun

        return waited, lambda: cpu

    measures = [m for *_, ours, theirs in cases for each in (ours, theirs) for m in both(each)]
    taken = iter(alternate(RUNS, *measures))
    for what, amount, unit, _, _ in cases:
        ours, ours_cpu, bare, bare_cpu = (next(taken) for _ in range(4))
        for told, mine, theirs in (("", ours, bare), (", CPU", ours_cpu, bare_cpu)):
            limit = amount / theirs
            yield Row(
                f"{what}, {kind}{told}", amount / mine, unit, limit, client, 0.8 * limit, more=True
            )


def _megabytes(files: dict[str, bytes], begins: str) -> float:
    return sum(len(each) for path, each in files.items() if path.startswith(begins)) / 1e6


_SOURCES = {
    "mnist/": "MNIST, 4 files", "parts/": f"MNIST, {4 * PARTS} parts", "npy/": "MNIST, .npy",
}  # fmt: skip


def _s3(kind: str, store: Store) -> Iterator[Row]:
    os.environ.update(store.environment)
    fs = store.fs
    fs.mkdir("bench")
    files = _files(store.folder)
    small = {f"small/{n}.png": os.urandom(SMALL_BYTES) for n in range(SMALL)}
    fs.pipe({f"bench/{path}": content for path, content in (files | small).items()})
    largest = next(iter(MNIST.files))
    first = f"bench/mnist/{largest}"
    images, many = places.at(f"s3://{first}"), [f"bench/{path}" for path in small]
    there = places.entries(places.at("s3://bench/small"), SMALL)

    def source(begins: str) -> _Case:
        paths = [f"bench/{path}" for path in files if path.startswith(begins)]
        return (
            f"{_SOURCES[begins]}, as a source", _megabytes(files, begins), "MB/s",
            lambda: open_source(f"s3://bench/{begins}"),
            lambda: [fs.cat_file(path) for path in paths],
        )  # fmt: skip

    alone = len(files[f"mnist/{largest}"]) / 1e6
    yield from _beside(
        kind, "s3fs",
        [
            (f"{alone:.0f} MB object", alone, "MB/s",
             lambda: places.read(images), lambda: fs.cat_file(first)),
            *map(source, _SOURCES),
            (f"{SMALL} objects of {SMALL_BYTES} bytes", SMALL, "objects/s",
             lambda: list(places.read_each(there)), lambda: fs.cat(many)),
        ],
    )  # fmt: skip


def _http(folder: Path) -> Iterator[Row]:
    from fsspec.implementations.http import HTTPFileSystem

    fs = HTTPFileSystem()
    files = _files(folder)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        root = f"http://127.0.0.1:{server.stdout.readline().partition('port ')[2].split()[0]}"

        def source(begins: str) -> _Case:
            paths = [f"{root}/{path}" for path in files if path.startswith(begins)]
            return (
                f"{_SOURCES[begins]}, as a source", _megabytes(files, begins), "MB/s",
                lambda: open_source(f"{root}/{begins}"),
                lambda: [fs.cat_file(path) for path in paths],
            )  # fmt: skip

        try:
            yield from _beside("http", "fsspec", [*map(source, _SOURCES)])
        finally:
            server.kill()


if __name__ == "__main__":
    print(machine(), "", HEAD, sep="\n")
    for kind in sys.argv[1:] or (*STORES, "http"):
        print(*measure(kind), sep="\n", flush=True)
