"""Other splits of the same rows: a test set where there is none, rows kept aside, rows left out.

They are drawn by class and seed, so that whoever reads the same data has the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import xxhash

from protocol.wire.words import plural

from .errors import CorruptDataset, LoaderError
from .rows import Array, Arrays, Labels, RowNumbers, Rows, Source, bytes_of

#: What tells rows apart: 128 bits of each, uint64, shape (n, 2).
Keys = npt.NDArray[np.uint64]

#: Of the rows of data that has no test set.
TEST_FRACTION = 0.2
#: Pairs of rows that contradict each other, that are told.
_TOLD = 5
#: Draws of one seed that are no part of each other.
_TEST, _VALIDATION = 1, 2


class Cut:
    """The same rows in other splits.

    Args:
        source: of the rows.
        splits: by name: the source's split, and which of its rows.
    """

    def __init__(self, source: Source, splits: Mapping[str, tuple[str, RowNumbers]]) -> None:
        self._source, self._splits = source, dict(splits)
        self.name, self.form = source.name, source.form
        self.absent = getattr(source, "absent", {})
        self.splits = {name: len(numbers) for name, (_, numbers) in splits.items()}

    @property
    def digest(self) -> str:
        """The source's, and which rows of it."""
        hash_ = xxhash.xxh3_128(self._source.digest.encode())
        for name, (of, numbers) in sorted(self._splits.items()):
            hash_.update(f"{name} {of} {len(numbers)}".encode())
            hash_.update(np.ascontiguousarray(numbers, np.int64).data)
        return hash_.hexdigest()

    def labels(self, split: str) -> Labels:
        """Return the labels of a whole split."""
        of, mine = self._splits[split]
        return self._source.labels(of)[mine]

    def read(self, split: str, numbers: RowNumbers | slice) -> Arrays:
        """Return the fields of some rows."""
        of, mine = self._splits[split]
        return self._source.read(of, mine[numbers])

    def origin(self, split: str, number: int) -> tuple[str, int]:
        """Return the split and the number that a row has in the source that this is cut from."""
        of, mine = self._splits[split]
        return of, int(mine[number])

    def called(self, split: str, number: int) -> str:
        """Return what people call a row; empty: nobody has a name for it."""
        called = getattr(self._source, "called", None)
        return called(*self.origin(split, number)) if called else ""

    def cut(self, split: str, name: str, numbers: RowNumbers) -> Cut:
        """Return it with some rows of a split, ascending, in one of another name."""
        of, mine = self._splits[split]
        rest = np.setdiff1d(np.arange(len(mine)), numbers)
        return Cut(
            self._source, {**self._splits, split: (of, mine[rest]), name: (of, mine[numbers])}
        )


def cut(source: Source, split: str, name: str, numbers: RowNumbers) -> Cut:
    """Return a source with some rows of a split, ascending, in one of another name."""
    whole = {each: (each, np.arange(rows)) for each, rows in source.splits.items()}
    return Cut(source, whole).cut(split, name, numbers)


def drawn(labels: Labels, fraction: float, seed: int, which: int) -> RowNumbers:
    """Return a fraction of rows, ascending: so many of each class, one at least if it has two.

    Args:
        labels: int64, shape (n,).
        fraction: 0 to 1.
        seed: equal seeds give equal rows.
        which: of the draws with a seed.
    """
    chosen = []
    for class_ in np.unique(labels):
        rows = np.flatnonzero(labels == class_)
        many = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        random = np.random.default_rng([seed, which, int(class_)])
        chosen.append(random.permutation(rows)[:many])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def with_test(
    source: Source, fraction: float | None, seed: int, say: Callable[[str], object] = str
) -> Source:
    """Return a source with a test set: its own, or one that is drawn from its training rows.

    Args:
        source: maybe without one.
        fraction: of the rows of each class; None: `TEST_FRACTION`, where it does not say itself why
            it has none.
        seed: of the draw.
        say: told of it.

    Raises:
        LoaderError: it has a test set, and a fraction is given; or too few rows.
    """
    rows = source.splits.get("train", 0)
    if "test" in source.splits or "train" not in source.splits:
        if fraction is not None and "test" in source.splits:
            raise LoaderError(
                f"{source.name} has a test set of {source.splits['test']:,} rows; leave out"
                " --test-fraction, which is for data without one"
            )
        return source
    if fraction is None and "test" in getattr(source, "absent", {}):
        return source
    numbers = drawn(source.labels("train"), fraction or TEST_FRACTION, seed, _TEST)
    if not len(numbers):
        raise CorruptDataset(
            f"{source.name}: {plural(rows, 'row')}, and no class with two: no test set can be drawn"
        )
    say(
        f"{source.name} has no test set: {len(numbers):,} of its {rows:,} rows are kept for one,"
        f" drawn from each class (--test-fraction {fraction or TEST_FRACTION:g}, --seed {seed})"
    )
    return cut(source, "train", "test", numbers)


def with_validation(source: Source, fraction: float, seed: int) -> Source:
    """Return a source with a fraction of its training rows as `validation`, drawn by class.

    Raises:
        CorruptDataset: it has too few rows.
    """
    if not fraction:
        return source
    numbers = drawn(source.labels("train"), fraction, seed, _VALIDATION)
    if not len(numbers):
        raise CorruptDataset(f"{source.name}: too few rows to keep some for validation")
    return cut(source, "train", "validation", numbers)


def without_contradictions(
    source: Source, how: str | None, seen: Callable[[Rows], Array],
    say: Callable[[str], object] = str,
) -> Source:  # fmt: skip
    """Return a source without equal training rows of different classes, or raise if it has some.

    Args:
        source: of the rows.
        how: `raise` or `drop`; None: leave them.
        seen: returns what a learner sees of each row, shape (n, anything): equal if it can't tell
            two rows apart.
        say: told which are dropped.

    Raises:
        CorruptDataset: there are some, and `how` is `raise`.
    """
    if how is None:
        return source
    labels = source.labels("train")
    first, other = contradictory(seen(Rows(source, "train")), labels)
    if not len(first):
        return source
    pairs = ", ".join(
        f"row {a + 1:,} ({source.form.classes[labels[a]]}) and row {b + 1:,}"
        f" ({source.form.classes[labels[b]]})"
        for a, b in list(zip(other.tolist(), first.tolist(), strict=True))[:_TOLD]
    )
    more = " and others" * (len(first) > _TOLD)
    if how == "raise":
        raise CorruptDataset(
            f"{source.name}: equal training rows of different classes: {pairs}{more};"
            " --contradictions drop leaves them out"
        )
    equal = np.union1d(first, other)
    say(
        f"{source.name}: {plural(len(equal), 'training row')} left out, equal to others of"
        f" different classes: {pairs}{more}"
    )
    return _without(source, equal)


def _without(source: Source, numbers: RowNumbers) -> Source:
    splits = {each: (each, np.arange(rows)) for each, rows in source.splits.items()}
    splits["train"] = "train", np.setdiff1d(splits["train"][1], numbers)
    return Cut(source, splits)


def contradictory(seen: Array, labels: Labels) -> tuple[RowNumbers, RowNumbers]:
    """Return which rows are equal to another of a different class, and one such for each.

    Args:
        seen: what there is to see of each row, shape (n, anything).
        labels: int64, shape (n,).

    Returns:
        The rows, ascending, and for each another that is equal and of a different class.
    """
    return contradictory_keys(keys_of(seen), labels)


def keys_of(seen: Array) -> Keys:
    """Return a key for each row, of equal bytes equal ones: uint64, shape (n, 2).

    Args:
        seen: what there is to see of each row, shape (n, anything).
    """
    wide = math.prod(seen.shape[1:]) * seen.dtype.itemsize
    flat = np.frombuffer(bytes_of(seen), np.uint8).reshape(len(seen), wide)
    digests = b"".join(xxhash.xxh3_128_digest(row.data) for row in flat)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def groups_of(keys: Keys) -> RowNumbers:
    """Return a number for each row, of equal keys equal ones, from 0 on."""
    order = np.lexsort(keys.T)
    group = np.zeros(len(keys), np.int64)
    group[order[1:]] = np.cumsum((keys[order[1:]] != keys[order[:-1]]).any(axis=1))
    return group


def contradictory_keys(keys: Keys, labels: Labels) -> tuple[RowNumbers, RowNumbers]:
    """Return what `contradictory` does, of rows by their keys, as `keys_of` makes them."""
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    group = groups_of(keys)
    order = np.lexsort((labels, group))
    group, sorted_ = group[order], labels[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    ends = np.r_[starts[1:], len(group)] - 1
    each = np.repeat(np.arange(len(starts)), ends - starts + 1)
    lowest, highest = sorted_[starts][each], sorted_[ends][each]
    odd = lowest != highest
    other = np.where(sorted_ == lowest, order[ends][each], order[starts][each])
    rows = order[odd]
    back = np.argsort(rows)
    return rows[back], other[odd][back]
