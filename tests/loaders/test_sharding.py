"""How rows are cut into shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import SHARDINGS, LoaderError, shard

LABELS = np.random.default_rng(1).integers(0, 10, 1000)


@given(st.integers(1, 50), st.integers(0, 5), st.sampled_from(["disjoint", "labels"]))
def test_a_partition_holds_every_row_once(jobs: int, seed: int, how: str) -> None:
    shards = shard(LABELS, jobs, how, seed)
    assert len(shards) == jobs
    assert sorted(np.concatenate(shards).tolist()) == list(range(len(LABELS)))
    assert max(map(len, shards)) - min(map(len, shards)) <= 2


@given(st.integers(1, 50), st.integers(0, 5))
def test_samples_are_of_rows_by_jobs_without_repeats(jobs: int, seed: int) -> None:
    for rows in shard(LABELS, jobs, "sample", seed):
        assert len(set(rows.tolist())) == len(rows) == len(LABELS) // jobs


@pytest.mark.parametrize("how", SHARDINGS)
def test_equal_seeds_give_equal_shards(how: str) -> None:
    first, second, other = (shard(LABELS, 4, how, seed) for seed in (3, 3, 4))
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


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
    ],
)
def test_what_can_not_be_cut_is_told(rows: int, jobs: int, how: str, words: str) -> None:
    with pytest.raises(LoaderError, match=words):
        shard(LABELS[:rows], jobs, how)
