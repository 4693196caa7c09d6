"""What data is like, held against counting by hand; and what is said of it."""

from __future__ import annotations

import math
import statistics
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import (
    ArraySource,
    Concern,
    Examined,
    Field,
    Form,
    LoaderError,
    Numbered,
    Rows,
    concerns,
    examine,
    examining,
)
from loaders.cells import Numbers, parts_of
from loaders.examining import TOLD, Row, Some
from loaders.splits import with_test
from loaders.verdict import row_named, trainable

NAN, INF = math.nan, math.inf
#: By type, values of which some are equal and some are none.
VALUES: dict[str, list[Any]] = {
    "bool": [False, True], "uint8": [0, 1, 255], "int64": [-(1 << 62) - 1, 0, 5],
    "float16": [0, -0.0, 0.5, NAN], "float32": [0, -0.0, 1.5, INF, -INF, NAN],
    "float64": [0.0, -0.0, 1e-3, 7, NAN, INF],
}  # fmt: skip
SHAPES = [(), (1,), (2,), (2, 1), (1, 2, 3), (2, 1, 1), (2, 1, 2), (0,)]
CLASSES, TWO = 4, Numbered(2)


@st.composite
def sources(draw: st.DrawFn) -> ArraySource:
    """Return a small source, some of whose rows are equal."""
    dtype, shape = draw(st.sampled_from(sorted(VALUES))), draw(st.sampled_from(SHAPES))
    several = draw(st.booleans())
    form = Form(
        {"a": Field(dtype, shape)} | ({"b": Field("uint8", (2,))} if several else {}),
        Numbered(CLASSES),
    )
    splits = {}
    for split in draw(st.sampled_from([["train"], ["train", "test"], ["test", "train", "more"]])):
        rows = draw(st.integers(0, 9))
        arrays = {
            name: np.array(
                draw(st.lists(st.sampled_from(VALUES[each.dtype]), min_size=many, max_size=many)),
                each.dtype,
            ).reshape(rows, *each.shape)
            for name, each in form.fields.items()
            for many in [rows * math.prod(each.shape)]
        }
        labels = draw(st.lists(st.integers(0, CLASSES - 1), min_size=rows, max_size=rows))
        splits[split] = arrays, np.array(labels, np.int64)
    return ArraySource("drawn", form, splits)


def told(value: Any) -> Any:
    """Return a cell so that equal ones compare equal."""
    value = value.item()
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0
    return value


def rows_of(source: ArraySource, split: str) -> list[tuple[Any, ...]]:
    """Return each row as plain values."""
    arrays = Rows(source, split).arrays
    return [
        tuple(told(cell) for name in sorted(arrays) for cell in arrays[name][row].ravel())
        for row in range(source.splits[split])
    ]


def is_blank(row: tuple[Any, ...], image: Field) -> bool:
    channels = (*image.shape, 1)[2]
    pixels = [row[each : each + channels] for each in range(0, len(row), channels)]
    return len(pixels) > 1 and len(set(pixels)) == 1 and "nan" not in row


def some(split: str, numbers: list[int]) -> tuple[int, tuple[Row, ...]]:
    return len(numbers), tuple(Row(split, number) for number in numbers[:TOLD])


def same(found: Some, split: str, numbers: list[int]) -> bool:
    return (found.rows, found.first) == some(split, numbers)


@given(sources(), st.sampled_from([1, 5, 1 << 20]))
def test_rows_are_counted_as_by_hand(source: ArraySource, block: int) -> None:
    with mock.patch.object(examining, "_CELLS", block):
        found = examine(source)
    assert found.digest == source.digest
    assert list(found.splits) == sorted(source.splits, key=["train", "test", "more"].index)
    for split, told_ in found.splits.items():
        rows, labels = rows_of(source, split), source.labels(split).tolist()
        numbers = range(len(rows))
        assert (told_.rows, told_.digest) == (len(rows), Rows(source, split).digest)
        assert told_.counts == Counter(labels)
        copies = [each for each in numbers if rows[each] in rows[:each]]
        assert same(told_.copies, split, copies)
        assert [row.number for row in told_.copies.other] == [
            rows.index(rows[each]) for each in copies[:TOLD]
        ]
        pairs = list(zip(rows, labels, strict=True))
        odd = [
            each for each in numbers
            if any(row == rows[each] and label != labels[each] for row, label in pairs)
        ]  # fmt: skip
        assert same(told_.contradictions, split, odd)
        for row, other in zip(told_.contradictions.first, told_.contradictions.other, strict=True):
            assert rows[row.number] == rows[other.number]
            assert labels[row.number] != labels[other.number]
        odd_cells = {"nan", INF, -INF}
        assert same(told_.broken, split, [each for each in numbers if odd_cells & set(rows[each])])
        image = source.form.image
        blank = [each for each in numbers if image is not None and is_blank(rows[each], image)]
        assert same(told_.blank, split, blank)


@given(sources(), st.sampled_from([1, 5, 1 << 20]))
def test_test_rows_that_training_has_seen_are_found(source: ArraySource, block: int) -> None:
    with mock.patch.object(examining, "_CELLS", block):
        found = examine(source)
    train, test = (
        list(zip(rows_of(source, split), source.labels(split).tolist(), strict=True))
        if split in source.splits
        else []
        for split in ("train", "test")
    )
    seen = [row for row, _ in train]
    leaked = [each for each, (row, _) in enumerate(test) if row in seen]
    assert same(found.leaked, "test", leaked)
    assert list(found.leaked.other) == [
        Row("train", seen.index(test[each][0])) for each in leaked[:TOLD]
    ]
    assert same(found.mislabelled, "test", [each for each in leaked if test[each] not in train])


def numbers_by_hand(cells: list[Any]) -> tuple[Any, ...]:
    """Return what `Numbers` tells of cells: how many of each kind, range, mean, deviation."""
    finite = [each for each in cells if each not in ("nan", INF, -INF)]
    return (
        len(finite), cells.count("nan"), len(cells) - len(finite) - cells.count("nan"),
        min(finite, default=None), max(finite, default=None),
        statistics.fmean(finite) if finite else NAN,
        statistics.pstdev(map(float, finite)) if finite else NAN,
    )  # fmt: skip


@given(sources(), st.sampled_from([1, 5, 1 << 20]))
def test_cells_are_added_up_as_by_hand(source: ArraySource, block: int) -> None:
    with mock.patch.object(examining, "_CELLS", block):
        found = examine(source)
    for split, split_found in found.splits.items():
        for name, field in source.form.fields.items():
            array = Rows(source, split).arrays[name]
            flat = [[told(cell) for cell in row.ravel()] for row in array]
            parts, many = split_found.fields[name].parts, math.prod(field.shape)
            columns = [[row[each] for row in flat] for each in range(many)]
            assert split_found.fields[name].cells == many
            fixed = sum(len(set(column)) == 1 for column in columns)
            assert split_found.fields[name].constant == fixed
            assert [part.name for part in parts] == list(parts_of(field))
            for number, part in enumerate(parts):
                cells = [cell for row in flat for cell in row[number :: len(parts)]]
                check(part, cells, alone=len(parts) == many)


def check(part: Numbers, cells: list[Any], alone: bool) -> None:
    kinds = (part.cells, part.missing, part.infinite, part.least, part.most)
    *expected, mean, deviation = numbers_by_hand(cells)
    assert kinds == tuple(expected)
    scale = max(map(abs, (part.least or 0, part.most or 0, 1)))
    assert part.mean == pytest.approx(mean, abs=1e-12 * scale, nan_ok=True)
    assert part.deviation == pytest.approx(deviation, abs=1e-12 * scale, nan_ok=True)
    if alone or not part.infinite:
        assert part.constant == (len(set(cells)) == 1)
    bare = [("nan" in step, *step) for step in pairwise(cells)]
    rises = all(not nan and a < b for nan, a, b in bare)
    falls = all(not nan and a > b for nan, a, b in bare)
    assert part.rising == (alone and len(cells) > 1 and (rises or falls))


def test_ranges_are_exact_and_large_numbers_raise_nothing() -> None:
    x = np.array([[1 << 62, 1], [(1 << 62) + 1, 2]])
    form = Form({"row": Field("int64", (2,))}, Numbered(2))
    found = examine(ArraySource("big", form, {"train": ({"row": x}, np.array([0, 1]))}))
    first, _ = found.splits["train"].fields["row"].parts
    assert (first.least, first.most) == (1 << 62, (1 << 62) + 1)
    huge = np.array([[1e308], [-1e308], [1e308]])
    form = Form({"row": Field("float64", (1,))}, Numbered(2))
    source = ArraySource("huge", form, {"train": ({"row": huge}, np.array([0, 1, 0]))})
    (part,) = examine(source).splits["train"].fields["row"].parts
    assert (part.least, part.most) == (-1e308, 1e308)


def test_it_takes_a_block_of_memory_whatever_the_data_takes() -> None:
    """A source that makes its rows when they are read: all of them would be 120 MB."""

    class Made:
        name, digest = "made", "0"
        form = Form({"image": Field("float32", (100, 100))}, Numbered(2))
        splits = {"train": 3000}

        def labels(self, split: str) -> np.ndarray:
            return np.arange(3000) % 2

        def read(self, split: str, numbers: Any) -> dict[str, np.ndarray]:
            chosen = np.arange(3000)[numbers]
            assert len(chosen) <= examining._CELLS // 10_000
            return {"image": np.full((len(chosen), 100, 100), chosen[0], np.float32)}

    tracemalloc.start()
    try:
        found = examine(Made())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.splits["train"].rows == found.splits["train"].blank.rows == 3000
    assert most < 64 << 20, most


@pytest.mark.cost
def test_mnist_takes_three_seconds_of_one_core_at_most() -> None:
    """It takes 0.4 on a machine that does nothing else."""
    form = Form({"image": Field("uint8", (28, 28))}, Numbered(10))
    x = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), np.uint8)
    source = ArraySource("random", form, {"train": ({"image": x}, np.arange(60_000) % 10)})
    begun = time.process_time()
    examine(source)
    assert time.process_time() - begun < 3


def test_a_source_that_reads_other_rows_than_it_says_is_told() -> None:
    form = Form({"row": Field("float64", (1,))}, Numbered(2))
    source = ArraySource("odd", form, {"train": ({"row": np.ones((3, 1))}, np.array([0, 1, 0]))})
    source.splits["train"] = 4
    with pytest.raises(LoaderError, match="odd: fewer train rows than it says"):
        examine(source)


def test_rows_of_a_test_set_that_was_drawn_are_told_as_the_source_has_them() -> None:
    x = np.arange(100.0).reshape(50, 2)
    x[7] = x[3]
    form = Form({"row": Field("float64", (2,))}, Numbered(2))
    whole = ArraySource("mine", form, {"train": ({"row": x}, np.arange(50) % 2)})
    seen = set()
    for seed in range(20):
        found = examine(with_test(whole, None, seed))
        some_ = found.leaked if found.leaked.rows else found.splits["train"].copies
        some_ = some_ if some_.rows else found.splits["test"].copies
        ((row,), (other,)) = some_.first, some_.other
        assert {row, other} == {Row("train", 7), Row("train", 3)}
        seen.add(found.leaked.rows)
    assert seen == {0, 1}


# What is said of it.


def table(rows: int = 200, **splits: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """Return a train and a test split of a table that nothing is wrong with."""
    random = np.random.default_rng(0)
    made = {
        split: (random.normal(size=(many, 3)), np.arange(many) % 2)
        for split, many in (("train", rows), ("test", rows // 2))
    }
    return {**made, **splits}


def said(splits: dict[str, Any], classes: Any = TWO, **options: Any) -> list[Concern]:
    """Return what is said of the arrays and labels of splits."""
    (first, _), *_ = splits.values()
    name = "row" if first.ndim == 2 else "image"
    form = Form({name: Field(first.dtype.name, first.shape[1:])}, classes)
    source = ArraySource(
        "mine", form, {split: ({name: x}, y) for split, (x, y) in splits.items()}, **options
    )
    return concerns(examine(source))


def kinds(*of: Any, **options: Any) -> list[tuple[str, bool]]:
    return [(each.kind, each.grave) for each in said(*of, **options)]


@pytest.fixture
def good() -> Iterator[dict[str, Any]]:
    """A table that nothing is wrong with, to be spoiled."""
    splits = table()
    assert said(splits) == []
    yield splits


def test_what_lacks_is_told(good: dict[str, Any]) -> None:
    (told_,) = said({"train": good["train"]}, absent={"test": "mine lacks t10k-images"})
    assert (told_.kind, told_.grave, told_.what) == ("no_test", True, "mine lacks t10k-images")
    assert "--test-fraction" in told_.advice
    assert kinds({"test": good["test"]}) == [("no_train", True)]
    empty = good["test"][0][:0], good["test"][1][:0]
    assert kinds({**good, "test": empty}) == [("no_test", True)]


def test_classes_that_can_not_be_learned_or_tried_are_told(good: dict[str, Any]) -> None:
    x, y = good["train"]
    assert kinds({**good, "train": (x, 0 * y)}) == [
        ("one_class", True),
        ("untrained_classes", True),
    ]
    names = ("ham", "spam", "egg")
    y = y.copy()
    y[:5] = 2
    told_ = said({**good, "train": (x, y)}, names)
    assert [each.kind for each in told_] == ["untested_classes", "few_rows", "imbalance"]
    assert not any(each.grave for each in told_)
    assert told_[0].what == "1 class without test rows: egg"
    assert told_[1].what == "1 class with fewer than 10 training rows: egg"
    assert "(egg)" in told_[2].what
    assert "macro F1" in told_[2].advice
    y[:15] = 2  # ten times fewer are few enough
    assert kinds({**good, "train": (x, y)}, names) == [("untested_classes", False)]


def test_equal_rows_are_grave_from_a_hundredth_on(good: dict[str, Any]) -> None:
    (x, y), (test_x, test_y) = good["train"], good["test"]
    for rows, grave in ((1, True), (0, None)):  # of 100
        spoiled = test_x.copy()
        spoiled[:rows] = x[:rows]
        expected = [("leak", grave)] if rows else []
        assert kinds({**good, "test": (spoiled, test_y)}) == expected
    spoiled[0] = x[1]  # of class 1
    (leak,) = said({**good, "test": (spoiled, test_y)})
    assert leak.what == (
        "1 test row (1.0%) equal to a training row, 1 of them of another class:"
        " test row 1 = train row 2"
    )
    spoiled = x.copy()
    spoiled[4] = spoiled[1]
    told_ = said({**good, "train": (spoiled, y)})
    assert [(each.kind, each.grave) for each in told_] == [("contradictions", True)]
    assert (
        told_[0].what == "2 training rows equal to one of another class: train row 2 = train row 5"
    )
    assert "--contradictions drop" in told_[0].advice
    large = table(2000)
    large["train"][0][4] = large["train"][0][1]
    assert kinds(large) == [("contradictions", False)]
    spoiled = x.copy()
    spoiled[4:8] = x[4:8][::2].repeat(2, axis=0)
    assert kinds({**good, "train": (spoiled, np.r_[y[:4], 0, 0, 1, 1, y[8:]])}) == [
        ("copies_train", False)
    ]
    test = {**good, "test": (np.r_[test_x[:9], test_x[8:9], test_x[10:]], test_y)}
    assert kinds(test) == [("contradictions_test", True), ("copies_test", False)]


def test_columns_that_say_nothing_or_too_much_are_told(good: dict[str, Any]) -> None:
    x, y = good["train"]
    for column, kind in (
        (np.ones(200), "constant_columns"), (np.arange(200) - 100.5, "rising_columns"),
        (-np.arange(200) + 99.5, "rising_columns"),
    ):  # fmt: skip
        spoiled = x.copy()
        spoiled[:, 1] = column
        test = good["test"][0].copy()
        test[:, 1] = column.mean()
        (told_,) = said({**good, "train": (spoiled, y), "test": (test, good["test"][1])})
        assert (told_.kind, told_.grave) == (kind, False)
        assert told_.what.endswith(": column 2")
    spoiled = x.copy()
    spoiled[3, 0], spoiled[5, 2] = NAN, INF
    (told_,) = said({**good, "train": (spoiled, y)})
    assert (told_.kind, told_.grave) == ("broken_train", True)
    assert told_.what == (
        "2 training rows with infinite cells (train row 4, train row 6),"
        " in column 1 (1), column 3 (1)"
    )


def pictures(rows: int = 100) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        split: (random.integers(0, 256, (rows, 4, 4, 3), np.uint8), np.arange(rows) % 2)
        for split in ("train", "test")
    }


def test_pictures_that_show_nothing_or_something_else_are_told() -> None:
    good = pictures()
    assert said(good) == []
    x, y = good["train"]
    spoiled = x.copy()
    spoiled[3] = 9
    (blank,) = said({**good, "train": (spoiled, y)})
    assert (blank.kind, blank.grave) == ("blank_train", True)
    assert blank.what == "1 blank training picture: train row 4"
    assert ("all_equal", True) in kinds({**good, "train": (0 * x, y)})
    # Of another scale: one of the two was divided by 255, or is of 16 bits.
    dark = {**good, "test": (good["test"][0] // 200, good["test"][1])}
    assert ("other_values", True) in kinds(dark)
    (told_,) = said({**good, "test": ((good["test"][0] // 8 + 112).astype(np.uint8), y)})
    assert told_.kind == "other_values"
    assert "red (mean" in told_.what


def test_what_stands_against_training_comes_first_and_every_sentence_is_whole() -> None:
    good = table()
    x, y = good["train"]
    spoiled = x.copy()
    spoiled[:, 0], spoiled[9, 1], spoiled[1] = 1, NAN, spoiled[2]
    told_ = said({**good, "train": (spoiled, y)})
    assert [each.grave for each in told_] == sorted((each.grave for each in told_), reverse=True)
    assert {each.kind for each in told_} >= {"constant_columns", "broken_train", "contradictions"}
    for each in told_:
        assert each.what and each.advice
        assert not each.what.endswith((".", ":", " ")) and "None" not in each.what
    odd = said(table(), ("\x1b[31mred", "b" * 500))
    assert odd == []


def test_whether_a_run_could_begin_is_told() -> None:
    good = table()
    form = Form({"row": Field("float64", (3,))}, Numbered(2))

    def found(*splits: str) -> Examined:
        arrays = {split: ({"row": good[split][0]}, good[split][1]) for split in splits}
        return examine(ArraySource("mine", form, arrays))

    assert trainable(found("train", "test"))
    assert not trainable(found("train"))
    assert not trainable(found("test"))
    assert row_named(Row("train", 0)) == "train row 1"
