"""The same rows are the same data, whatever they lie in; and however it is damaged, it is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import loaders
from loaders import Rows

from ..conftest import make_idx_folder, write_idx
from ..lanes import depth
from .test_parquet import faces

KINDS = ("idx", "npz", "npy", "csv", "parquet", "pictures.parquet")


def write(kind: str, folder: Path, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write rows in a layout; return what they are named by."""
    folder.mkdir()
    if kind == "npz":
        names = {
            f"{w}_{s}": a for s, pair in splits.items() for w, a in zip("xy", pair, strict=True)
        }
        np.savez_compressed(folder / "mnist.npz", **names)  # type: ignore[arg-type]
        return folder / "mnist.npz"
    for split, (x, y) in splits.items():
        flat = x.reshape(len(x), -1)
        if kind == "idx":
            name = {"train": "train", "test": "t10k"}[split]
            write_idx(folder / f"{name}-images-idx3-ubyte", x)
            write_idx(folder / f"{name}-labels-idx1-ubyte", y)
        elif kind == "npy":
            np.save(folder / f"{split}-data.npy", x[..., None])
            np.save(folder / f"{split}-labels.npy", y)
        elif kind == "csv":
            lines = np.concatenate([y[:, None], flat], 1).tolist()
            text = "".join(",".join(map(str, line)) + "\n" for line in lines)
            (folder / f"mnist_{split}.csv").write_text(text)
        elif kind == "parquet":
            columns = {f"pixel{k}": np.ascontiguousarray(flat[:, k]) for k in range(flat.shape[1])}
            pq.write_table(pa.table({"label": y, **columns}), folder / f"{split}.parquet")
        else:
            half = len(x) // 2
            for part, rows in enumerate((slice(half), slice(half, None))):
                table = faces(x[rows], y[rows], [str(k) for k in range(10)])
                pq.write_table(table, folder / f"{split}-{part:05}-of-00002.parquet")
    return folder


def of(source: loaders.Source) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        split: (source.read(split, slice(None))["image"], source.labels(split))
        for split in source.splits
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> loaders.Source:
    return loaders.open_source(make_idx_folder(tmp_path_factory.mktemp("idx") / "i", 60, 30))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_are_the_same_data(kind: str, small: loaders.Source, tmp_path: Path) -> None:
    found = loaders.open_source(write(kind, tmp_path / kind, of(small)))
    assert found.form == small.form
    assert found.digest == small.digest


@pytest.mark.lane("deep")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_mnist_is_mnist(kind: str, mnist: Rows, tmp_path: Path) -> None:
    found = loaders.open_source(write(kind, tmp_path / kind, of(mnist.source)))
    assert found.digest == mnist.source.digest


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_however_a_file_is_damaged_it_is_told(small: loaders.Source, tmp_path: Path) -> None:
    # In a process of its own, whose memory is bounded, and which may be ended by a library.
    splits = {split: (x[:20, :8, :8], y[:20]) for split, (x, y) in of(small).items()}
    program = "from pathlib import Path; from tests.loaders import damage; damage.bound();"
    for kind in KINDS[1:]:
        write(kind, tmp_path / kind, splits)
        count = max(60, 15 * depth() ** 2)
        program += f"damage.fuzz(Path({str(tmp_path / kind)!r}), {kind!r}, {count});"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], check=False, capture_output=True,
        text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
