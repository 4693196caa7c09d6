"""How rows are cut into shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import SHARDINGS, LoaderError, shard
from loaders.sharding import skew

LABELS = np.random.default_rng(1).integers(0, 10, 1000)


@given(
    st.integers(1, 50),
    st.integers(0, 5),
    st.sampled_from(["disjoint", "labels", "dirichlet:0.001", "dirichlet:0.5", "dirichlet:1e6"]),
)
def test_a_partition_holds_every_row_once(jobs: int, seed: int, how: str) -> None:
    shards = shard(LABELS, jobs, how, seed)
    assert len(shards) == jobs
    assert sorted(np.concatenate(shards).tolist()) == list(range(len(LABELS)))
    assert min(map(len, shards)) >= 1
    if not how.startswith("dirichlet"):
        assert max(map(len, shards)) - min(map(len, shards)) <= 2


def test_the_concentration_says_how_skewed_shards_are() -> None:
    def classes(how: str) -> float:
        return float(np.mean([len(set(LABELS[rows])) for rows in shard(LABELS, 5, how)]))

    assert classes("dirichlet:0.01") < 4 < classes("dirichlet:0.3") < classes("dirichlet:100") == 10


@given(st.integers(1, 20), st.sampled_from(["disjoint", "sample", "labels", "dirichlet:0.1"]))
def test_shared_rows_are_in_every_shard_once(jobs: int, how: str) -> None:
    alone, together = shard(LABELS, jobs, how, 3), shard(LABELS, jobs, how, 3, shared=0.02)
    assert all(np.array_equal(a, t[: len(a)]) for a, t in zip(alone, together, strict=True))
    assert all(len(set(rows.tolist())) == len(rows) for rows in together)
    everywhere = set.intersection(*(set(rows.tolist()) for rows in together))
    assert len(everywhere) >= 20
    if how != "sample":
        others = set().union(
            *(set(t[len(a) :].tolist()) for a, t in zip(alone, together, strict=True))
        )
        assert others <= everywhere
        assert len(everywhere) == (20 if jobs > 1 else 1000)


@given(st.integers(1, 50), st.integers(0, 5))
def test_samples_are_of_rows_by_jobs_without_repeats(jobs: int, seed: int) -> None:
    for rows in shard(LABELS, jobs, "sample", seed):
        assert len(set(rows.tolist())) == len(rows) == len(LABELS) // jobs


@pytest.mark.parametrize("how", [*SHARDINGS, "dirichlet:0.5"])
def test_equal_seeds_give_equal_shards(how: str) -> None:
    first, second, other = (shard(LABELS, 4, how, seed) for seed in (3, 3, 4))
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


@pytest.mark.parametrize(("jobs", "classes"), [(10, 1), (20, 1), (4, 3), (7, 2), (1, 10)])
def test_shards_have_as_many_classes_as_they_are_to_have(jobs: int, classes: int) -> None:
    cut = shard(LABELS, jobs, f"classes:{classes}")
    assert [len(set(LABELS[rows])) for rows in cut] == [classes] * jobs
    assert sorted(np.concatenate(cut)) == list(range(len(LABELS)))


def test_skew_is_told_where_it_is_more_than_chance() -> None:
    """It is the part of the rows that would have to change places."""
    found = {
        how: skew(LABELS, shard(LABELS, 10, how))
        for how in ("disjoint", "dirichlet:100", "dirichlet:0.5", "labels", "classes:1")
    }
    assert found["disjoint"] < 0.02
    assert found["dirichlet:100"] < 0.1
    assert 0.2 < found["dirichlet:0.5"] < found["labels"] < found["classes:1"]
    assert found["classes:1"] == pytest.approx(0.9, abs=0.15)
    shared = skew(LABELS, shard(LABELS, 10, "classes:1", shared=0.5))
    assert shared < 0.5 * found["classes:1"]


def test_by_label_is_skewed_and_disjoint_is_not() -> None:
    skewed = [len(set(LABELS[rows])) for rows in shard(LABELS, 5, "labels")]
    even = [len(set(LABELS[rows])) for rows in shard(LABELS, 5, "disjoint")]
    assert max(skewed) <= 5
    assert min(even) == 10


@pytest.mark.parametrize(
    ("rows", "jobs", "how", "words"),
    [
        (3, 4, "disjoint", "3 rows can't be cut into 4 jobs"),
        (7, 4, "labels", "use fewer jobs"),
        (10, 0, "disjoint", "can't be cut into 0"),
        (10, 2, "stripes", "no sharding 'stripes'; there is disjoint"),
        (10, 2, "dirichlet", "dirichlet:ALPHA"),
        (10, 2, "dirichlet:0", "dirichlet:ALPHA"),
        (10, 2, "dirichlet:nan", "dirichlet:ALPHA"),
        (10, 2, "labels:2", "no sharding 'labels:2'"),
        (100, 9, "classes:1", "of 10 classes: .* and --jobs 10 or more"),
        (100, 20, "classes:1.5", "take a whole number"),
        (100, 2, "classes:11", "10 at most"),
        (12, 12, "classes:1", "one would have no row"),
    ],
)
def test_what_can_not_be_cut_is_told(rows: int, jobs: int, how: str, words: str) -> None:
    with pytest.raises(LoaderError, match=words):
        shard(LABELS[:rows], jobs, how)
