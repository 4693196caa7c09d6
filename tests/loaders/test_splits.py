"""A test set that is drawn, rows kept aside, and rows that contradict each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import ArraySource, CorruptDataset, Field, Form, LoaderError, Numbered, Rows, load
from loaders.splits import (
    contradictory,
    drawn,
    with_test,
    with_validation,
    without_contradictions,
)

from ..conftest import make_idx_folder

LABELS = np.random.default_rng(1).integers(0, 4, 200)


def source(rows: int = 200, seed: int = 0) -> ArraySource:
    x = np.random.default_rng(seed).integers(0, 256, (rows, 3, 3), dtype=np.uint8)
    form = Form({"image": Field("uint8", (3, 3))}, Numbered(4))
    return ArraySource("mine", form, {"train": ({"image": x}, LABELS[:rows])})


def pixels(rows: Rows) -> np.ndarray:
    return np.asarray(rows.arrays["image"])


@given(st.lists(st.integers(0, 5), max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_a_draw_takes_its_share_of_each_class_and_leaves_some(
    labels: list[int], fraction: float, seed: int
) -> None:
    array = np.array(labels, np.int64)
    numbers = drawn(array, fraction, seed, 1)
    assert np.array_equal(numbers, drawn(array, fraction, seed, 1))
    assert np.array_equal(numbers, np.unique(numbers))
    for class_ in set(labels):
        rows, taken = labels.count(class_), int(np.sum(array[numbers] == class_))
        assert taken == min(max(1, round(fraction * rows)), rows - 1)


def test_where_there_is_no_test_set_one_is_drawn_and_said() -> None:
    said: list[str] = []
    whole = source()
    cut = with_test(whole, None, 7, said.append)
    assert "mine has no test set: 40 of its 200 rows are kept for one" in said[0]
    assert "--seed 7" in said[0]
    train, test = Rows(cut, "train"), Rows(cut, "test")
    assert (len(train), len(test)) == (160, 40)
    both = np.concatenate([pixels(train), pixels(test)])
    order = np.lexsort(both.reshape(200, -1).T)
    expected = Rows(whole, "train").arrays["image"]
    assert np.array_equal(both[order], expected[np.lexsort(expected.reshape(200, -1).T)])
    assert with_test(whole, None, 7).digest == cut.digest != with_test(whole, None, 8).digest
    assert with_test(whole, 0.5, 7).splits == {"train": 100, "test": 100}


def test_a_test_set_that_is_there_is_the_test_set(idx_folder: Path) -> None:
    rows = load(idx_folder)
    assert with_test(rows.source, None, 0) is rows.source
    with pytest.raises(LoaderError, match=r"has a test set of .* leave out --test-fraction"):
        with_test(rows.source, 0.1, 0)


def test_why_there_is_no_test_set_is_not_overlooked(tmp_path: Path) -> None:
    folder = make_idx_folder(tmp_path / "idx")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    rows = load(folder)
    assert "test" not in with_test(rows.source, None, 0).splits
    assert 0.2 < with_test(rows.source, 0.25, 0).splits["test"] / len(rows) < 0.3


def test_rows_that_are_kept_aside_are_not_the_test_set() -> None:
    cut = with_validation(with_test(source(), 0.2, 0), 0.1, 0)
    assert cut.splits == {"train": 145, "test": 40, "validation": 15}
    seen = [pixels(Rows(cut, split)).reshape(-1, 9) for split in cut.splits]
    assert len(np.unique(np.concatenate(seen), axis=0)) == 200
    for rows in (Rows(cut, split) for split in cut.splits):
        assert np.array_equal(rows.of(slice(3, 7)).arrays["image"], pixels(rows)[3:7])
        assert np.array_equal(rows.of(slice(3, 7)).labels, rows.labels[3:7])


def one_of_each() -> ArraySource:
    labels = np.arange(4)
    form = Form({"image": Field("uint8", (1,))}, Numbered(4))
    x = np.zeros((4, 1), np.uint8)
    return ArraySource("few", form, {"train": ({"image": x}, labels)})


def test_too_few_rows_are_told() -> None:
    with pytest.raises(CorruptDataset, match="few: 4 rows, and no class with two"):
        with_test(one_of_each(), None, 0)
    with pytest.raises(CorruptDataset, match="few: too few rows"):
        with_validation(one_of_each(), 0.5, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=40))
def test_contradictions_are_found(rows: list[tuple[int, int]]) -> None:
    seen, labels = np.array([[x, 0] for x, _ in rows]), np.array([y for _, y in rows])
    found, other = contradictory(seen, labels)
    expected = [k for k, (x, y) in enumerate(rows) if any(a == x and b != y for a, b in rows)]
    assert found.tolist() == expected
    for row, against in zip(found, other, strict=True):
        assert rows[row][0] == rows[against][0]
        assert rows[row][1] != rows[against][1]


def flat(rows: Rows) -> np.ndarray:
    return pixels(rows).reshape(len(rows), -1)


def test_contradictions_are_told_or_dropped() -> None:
    clean = source()
    x, labels = pixels(Rows(clean, "train")).copy(), LABELS.copy()
    x[9], x[150] = x[3], x[3]
    labels[[3, 9, 150]] = 1, 2, 1
    odd = ArraySource("odd", clean.form, {"train": ({"image": x}, labels)})
    assert without_contradictions(odd, None, flat) is odd
    assert without_contradictions(clean, "raise", flat) is clean
    with pytest.raises(CorruptDataset, match=r"row 10 \(2\) and row 4 \(1\).*drop leaves them out"):
        without_contradictions(odd, "raise", flat)
    said: list[str] = []
    rows = Rows(without_contradictions(odd, "drop", flat, said.append), "train")
    assert "3 training rows left out" in said[0]
    assert np.array_equal(pixels(rows), np.delete(x, [3, 9, 150], axis=0))
    assert np.array_equal(rows.labels, np.delete(labels, [3, 9, 150]))
