"""Ways to cut a data set's rows into the shards of a run's jobs."""

from __future__ import annotations

import numpy as np

from .errors import LoaderError
from .rows import Labels, RowNumbers


def disjoint(labels: Labels, jobs: int, random: np.random.Generator) -> list[RowNumbers]:
    """Return a random partition: every row in one shard, sizes equal but for one."""
    return np.array_split(random.permutation(len(labels)), jobs)


def sample(labels: Labels, jobs: int, random: np.random.Generator) -> list[RowNumbers]:
    """Return for each job its own random sample of rows/jobs, as AML-IP's tutorial does."""
    size = len(labels) // jobs
    return [random.choice(len(labels), size, replace=False) for _ in range(jobs)]


def by_label(labels: Labels, jobs: int, random: np.random.Generator) -> list[RowNumbers]:
    """Return a partition skewed by label: rows sorted by label, two runs of them a shard.

    Source: McMahan et al. 2017, section 3, the "pathological" non-IID partition.
    """
    ordered = random.permutation(len(labels))
    ordered = ordered[np.argsort(labels[ordered], kind="stable")]
    runs = np.array_split(ordered, 2 * jobs)
    pairs = random.permutation(2 * jobs).reshape(jobs, 2)
    return [np.concatenate([runs[first], runs[second]]) for first, second in pairs]


SHARDINGS = {"disjoint": disjoint, "sample": sample, "labels": by_label}


def shard(labels: Labels, jobs: int, how: str = "disjoint", seed: int = 0) -> list[RowNumbers]:
    """Return the rows of each job's shard: `jobs` arrays of row numbers, int64.

    Args:
        labels: int64, shape (n,).
        jobs: how many shards.
        how: `disjoint`, `sample` or `labels`.
        seed: equal seeds give equal shards.

    Raises:
        LoaderError: fewer rows than jobs need, or no such way.
    """
    if how not in SHARDINGS:
        raise LoaderError(f"no sharding {how!r}; there is {', '.join(SHARDINGS)}")
    least = 2 * jobs if how == "labels" else jobs
    if jobs < 1 or len(labels) < least:
        raise LoaderError(
            f"{len(labels)} rows can't be cut into {jobs} jobs ({how}); use fewer jobs or more rows"
        )
    return SHARDINGS[how](labels, jobs, np.random.default_rng([seed, len(labels), jobs]))
