"""Ways to cut a data set's rows into the shards of a run's jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from protocol.options import is_choice

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


def by_class(
    labels: Labels, jobs: int, random: np.random.Generator, classes: float
) -> list[RowNumbers]:
    """Return a partition whose shards have rows of so many classes, and of no other.

    Classes are dealt out in turn, so that all are as often there as can be, and the rows of each
    are cut evenly among the shards that have it.

    Source: Li et al. 2022, "Federated Learning on Non-IID Data Silos" (NIID-Bench), section IV-A,
    #C = k.

    Raises:
        LoaderError: a class would be in no shard, or a shard without rows.
    """
    there = random.permutation(np.unique(labels))
    each = int(classes)
    if each != classes or each > len(there) or jobs * each < len(there):
        least = math.ceil(len(there) / max(1, each))
        raise LoaderError(
            f"{jobs} jobs of {classes:g} classes can't hold each of {len(there)} classes: take a"
            f" whole number of classes a job, {len(there)} at most, and --jobs {least} or more"
        )
    dealt = [there[(each * job + n) % len(there)] for job in range(jobs) for n in range(each)]
    parts: list[list[RowNumbers]] = [[] for _ in range(jobs)]
    for class_ in there:
        having = [place // each for place, dealt_ in enumerate(dealt) if dealt_ == class_]
        rows = random.permutation(np.flatnonzero(labels == class_))
        for job, some in zip(having, np.array_split(rows, len(having)), strict=True):
            parts[job].append(some)
    joined = [np.concatenate(each) for each in parts]
    if not all(map(len, joined)):
        raise LoaderError(f"{jobs} jobs of {classes:g} classes: one would have no row")
    return joined


def skew(labels: Labels, shards: Sequence[RowNumbers]) -> float:
    """Return how far shards' classes are from those of all rows, 0 to 1, beyond what is by chance.

    That is the mean over shards, by their rows, of the total variation distance between the
    frequencies of classes, less what it is, about, where rows are drawn at random.
    """
    classes, whole = np.unique(labels, return_counts=True)
    found = 0.0
    for rows in shards:
        counts = np.bincount(np.searchsorted(classes, labels[rows]), minlength=len(classes))
        apart = float(np.abs(counts / len(rows) - whole / len(labels)).sum()) / 2
        chance = math.sqrt(len(classes) / (2 * math.pi * len(rows)))
        found += len(rows) * max(0.0, apart - chance)
    return found / max(1, sum(map(len, shards)))


def dirichlet(
    labels: Labels, jobs: int, random: np.random.Generator, alpha: float
) -> list[RowNumbers]:
    """Return a partition whose shards have each class in shares drawn from Dirichlet(alpha).

    The smaller alpha, the more skewed: at 100 shards are alike, at 0.1 most have few classes. No
    shard is left empty: one that would be is given a row of the largest.

    Source: Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated
    Visual Classification", section 3; here by class, as Li et al. 2022 (NIID-Bench) have it.
    """
    shards: list[list[RowNumbers]] = [[] for _ in range(jobs)]
    for class_ in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == class_))
        shares = random.dirichlet(np.full(jobs, alpha))
        cuts = np.rint(np.cumsum(np.nan_to_num(shares, nan=1 / jobs))[:-1] * len(rows)).astype(int)
        for shard_, part in zip(shards, np.split(rows, cuts), strict=True):
            shard_.append(part)
    joined = [np.concatenate(parts) for parts in shards]
    for number, rows in enumerate(joined):
        if not len(rows):
            largest = max(range(jobs), key=lambda each: len(joined[each]))
            joined[number], joined[largest] = joined[largest][:1], joined[largest][1:]
    return joined


SHARDINGS = {"disjoint": disjoint, "sample": sample, "labels": by_label}
#: Those that have a number behind their name.
NUMBERED = {"dirichlet": dirichlet, "classes": by_class}
CHOICES = (*SHARDINGS, "classes:COUNT", "dirichlet:ALPHA")


def shard(
    labels: Labels, jobs: int, how: str = "disjoint", seed: int = 0, shared: float = 0.0
) -> list[RowNumbers]:
    """Return the rows of each job's shard: `jobs` arrays of row numbers, int64.

    Args:
        labels: int64, shape (n,).
        jobs: how many shards.
        how: `disjoint`, `sample`, `labels`, `classes:COUNT`, or `dirichlet:ALPHA`, with numbers.
        seed: equal seeds give equal shards.
        shared: the fraction of the rows, drawn at random, that every shard has, whatever else it
            has: a few of them halve what skewed labels cost.

    Raises:
        LoaderError: fewer rows than jobs need, or no such way.
    """
    name, _, number = how.partition(":")
    if not is_choice(CHOICES, how):
        raise LoaderError(f"no sharding {how!r}; there is {', '.join(CHOICES)}")
    least = 2 * jobs if how == "labels" else jobs
    if jobs < 1 or len(labels) < least:
        raise LoaderError(
            f"{len(labels)} rows can't be cut into {jobs} jobs ({how}); use fewer jobs or more rows"
        )
    random = np.random.default_rng([seed, len(labels), jobs])
    if number:
        shards = NUMBERED[name](labels, jobs, random, float(number))
    else:
        shards = SHARDINGS[name](labels, jobs, random)
    if not shared:
        return shards
    some = np.random.default_rng([seed, len(labels), 1]).permutation(len(labels))
    some = some[: max(1, round(shared * len(labels)))]
    return [np.concatenate([rows, np.setdiff1d(some, rows)]) for rows in shards]
