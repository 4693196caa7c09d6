"""A run that the first release began goes on, to the model that it would have come to."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

import loaders
from learning import Solution, merging
from learning.durable import read_arrays, write_arrays
from loaders.rows import Arrays
from main_node.run.evaluation import TEST_JOBS
from main_node.run.label import Label

from ..conftest import make_idx_folder
from ..processes import COMPUTE, MAIN_HERE, Process, free_port, here

JOBS, ROUNDS, SEED = 3, 3, 4
MAKE: dict[str, dict[str, Any]] = {
    "neural": {"epochs": 2, "batch_size": 16, "lr": 0.05, "threads": 1},
    "algebraic": {"batches": 4, "levels": 1, "shifts": 1},
}
OPTIONS = {
    "neural": ("--preset", "first", "--epochs", "2", "--lr", "0.05", "--set", "batch-size=16"),
    "algebraic": ("--learner", "algebraic", "--batches", "4", "--count", "nodes"),
}


class First:
    """Writes the files of a run anew, as the first release wrote them.

    Args:
        path: the run's directory.
        data: folder of its data.
        learner: what learned.
    """

    def __init__(self, path: Path, data: Path, learner: str) -> None:
        self.path, self.learner = path, learner
        self.train, self.test = loaders.load(data), loaders.load(data, "test")
        cut = loaders.shard(self.train.labels, JOBS, "disjoint", SEED)
        self.shards = [self.train.of(rows) for rows in cut]
        data_options = {"jobs": JOBS, "limit": None, "sharding": "disjoint", "target_digit": None}
        plan = {"learner": learner, "rounds": ROUNDS, "seed": SEED}
        self.options = json.dumps({**data_options, **MAKE[learner], **plan}, sort_keys=True)

    def data_digest(self, rows: loaders.Rows) -> str:
        images = rows.arrays["image"]
        hash_ = xxhash.xxh3_128(f"{images.shape} 10".encode())
        hash_.update(np.ascontiguousarray(images).data)
        hash_.update(np.ascontiguousarray(rows.labels).data)
        return hash_.hexdigest()

    def job_digest(
        self, values: Mapping[str, Any], rows: loaders.Rows, labels: bool, start: Arrays
    ) -> str:
        arrays = {"images": rows.arrays["image"], **({"labels": rows.labels} if labels else {})}
        arrays |= {f"start/{name}": array for name, array in start.items()}
        hash_ = xxhash.xxh3_128(json.dumps([self.learner, values], sort_keys=True).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            hash_.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
            hash_.update(array.reshape(-1).view(np.uint8).data)
        return hash_.hexdigest()

    def work(self, label: Label) -> str:
        """Return what it called a job."""
        make, neural = MAKE[self.learner], self.learner == "neural"
        values: dict[str, Any]
        if label.kind == "test":
            values = {"action": "evaluate" if neural else "predict", "make": make}
            rows = self.test.parts(TEST_JOBS)[label.part - 1]
            return self.job_digest(values, rows, neural, self.model(label.round))
        rows = self.shards[label.part - 1]
        if label.kind == "count":
            values = {"action": "count", "make": make, "classes": 10}
            return self.job_digest(values, rows, True, self.uncounted(label.round))
        entropy = np.random.SeedSequence([SEED, label.round, label.part - 1])
        turn = {"round": label.round, "rounds": ROUNDS, "initial_seed": SEED}
        values = {
            "action": "fit", "make": {**make, **turn}, "classes": 10,
            "seed": int(entropy.generate_state(1)[0]),
        }  # fmt: skip
        return self.job_digest(values, rows, True, self.model(label.round - 1))

    def model(self, round_: int) -> Arrays:
        if round_ < 0:
            return {}
        return read_arrays(self.path / "models" / f"round-{round_ + 1:03d}.safetensors")[0]

    def uncounted(self, round_: int) -> Arrays:
        """Return what was merged, before anything was counted."""
        solutions = []
        for part in range(1, JOBS + 1):
            name = Label(round_, "job", part).name
            arrays, _ = read_arrays(self.path / "solutions" / f"{name}.safetensors")
            solutions.append(Solution(arrays, 1))
        return merging.create("union", {}).merge(solutions, self.model(round_ - 1), {})[0]

    def rewrite(self) -> None:
        """Rewrite what is there."""
        config = self.path / "config.yaml"
        lines = config.read_text().splitlines(keepends=True)
        new = ("merge:", "preset:", "width:", "shift:", "flip:")
        assert all(any(line.startswith(each) for line in lines) for each in new)
        config.write_text("".join(line for line in lines if not line.startswith(new)))
        for path in (self.path / "solutions").iterdir():
            label = Label.parse(path.stem)
            if label.kind == "trial":
                path.unlink()
                continue
            arrays, notes = read_arrays(path)
            write_arrays(path, arrays, {**notes, "work": self.work(label)})
        for round_ in range(ROUNDS):
            path = self.path / "models" / f"round-{round_ + 1:03d}.safetensors"
            arrays, notes = read_arrays(path)
            kept = {name: notes[name] for name in ("learner", "round", "left_out")}
            about = {"format": "mnist-merge 1", "classes": "10", "height": "28", "width": "28"}
            data = self.data_digest(self.train)
            write_arrays(path, arrays, {**kept, **about, "data": data, "options": self.options})
        digests = f"{self.data_digest(self.train)}+{self.data_digest(self.test)}"
        with closing(sqlite3.connect(self.path / "run.db")) as database, database:
            for name, value in (("data", digests), ("options", self.options), ("ending", "")):
                database.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))
            trial = "(SELECT id FROM jobs WHERE name LIKE '%-trial-%')"
            database.execute(f"DELETE FROM tasks WHERE job IN {trial}")
            database.execute(f"DELETE FROM jobs WHERE id IN {trial}")

    def cut_short(self, *gone: str) -> None:
        """Remove what had not come yet."""
        for pattern in gone:
            for path in self.path.glob(pattern):
                path.unlink()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("data") / "idx", 300, 80)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return where every run finds the one node that is there for all of them."""
    where = f"tcp://127.0.0.1:{free_port()}"
    node = Process(*COMPUTE, "--connect", where)
    yield where
    node.send(signal.SIGTERM)
    node.end()
    node.close()


@pytest.fixture(scope="module", params=["neural", "algebraic"])
def whole(
    request: pytest.FixtureRequest, address: str, data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Return the result of a run of this release, and its learner."""
    done = here(
        MAIN_HERE, "--bind", address, "--data", str(data), "--json", "--jobs", str(JOBS),
        "--rounds", str(ROUNDS), "--seed", str(SEED), "--run-dir",
        str(tmp_path_factory.mktemp("whole")), *OPTIONS[request.param],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), request.param


END = ("model.safetensors", "metrics.json", "*.png")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        # Two rounds were merged; of the third, one job is solved.
        (
            ("models/round-003*", "solutions/round-003-job-0002*", "solutions/round-003-job-0003*",
             "solutions/round-003-[ct]*"),
            ("round 1 of 3 was merged before", "round 2 of 3 was merged before",
             "round 3: 1 job solved before"),
        ),
        # Nothing was merged; all jobs of the first round are solved.
        (
            ("models/*", "solutions/round-00[23]*", "solutions/round-001-[ct]*"),
            ("round 1: 3 jobs solved before",),
        ),
        # All was done but for the end.
        ((), ("round 3 of 3 was merged before",)),
    ],
    ids=["third round", "first round", "end"],
)  # fmt: skip
def test_a_run_of_the_first_release_comes_to_the_same_model(
    whole: tuple[dict[str, Any], str], address: str, data: Path, tmp_path: Path,
    gone: tuple[str, ...], said: tuple[str, ...],
) -> None:  # fmt: skip
    result, learner = whole
    path = tmp_path / result["run"]
    shutil.copytree(Path(result["model"]).parent, path)
    first = First(path, data, learner)
    first.rewrite()
    first.cut_short(*END, *gone)
    kept = {each: each.read_bytes() for each in path.glob("[ms]*/*.safetensors")}
    done = here(MAIN_HERE, "--resume", str(path), "--bind", address, "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["model_sha256"] == result["model_sha256"]
    assert again["accuracy_by_round"] == result["accuracy_by_round"]
    assert (again["starts"], again["retries"], again["left_out"]) == (2, 0, [])
    for line in said:
        assert line in done.stderr
    for word in ("again", "Traceback", "lost"):
        assert word not in done.stderr
    assert all(each.read_bytes() == content for each, content in kept.items())


def test_other_data_is_refused_under_its_first_name_too(
    whole: tuple[dict[str, Any], str], data: Path, tmp_path: Path
) -> None:
    result, learner = whole
    path = tmp_path / result["run"]
    shutil.copytree(Path(result["model"]).parent, path)
    first = First(path, data, learner)
    first.rewrite()
    first.cut_short(*END)
    make_idx_folder(tmp_path / "other", 300, 81)
    done = here(MAIN_HERE, "--resume", str(path), "--data", str(tmp_path / "other"))
    assert done.returncode == 2
    assert "the data is not what run" in done.stderr


def test_where_the_data_is_gone_it_is_said_how_to_name_it_anew(
    whole: tuple[dict[str, Any], str], data: Path, tmp_path: Path
) -> None:
    result, learner = whole
    path = tmp_path / result["run"]
    shutil.copytree(Path(result["model"]).parent, path)
    First(path, data, learner).cut_short(*END)
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace(str(data), str(tmp_path / "gone")))
    done = here(MAIN_HERE, "--resume", str(path))
    assert done.returncode == 3
    assert f"{tmp_path / 'gone'}: no such file or folder" in done.stderr
    assert f"mnist-main --resume {path} --data SOURCE" in done.stderr
    named = here(MAIN_HERE, "--resume", str(path), "--data", str(tmp_path / "nowhere"))
    assert (named.returncode, "--data SOURCE" in named.stderr) == (3, False)
