"""Forms, sources and rows: what is read, in which order, and what is told of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import (
    ArraySource,
    CorruptDataset,
    Field,
    Form,
    LoaderError,
    Numbered,
    OneAgainstRest,
    Rows,
    rows_of,
)
from loaders.classes import in_classes
from loaders.rows import MOST_CLASSES, Arrays, Labels, RowNumbers

FORM = Form({"x": Field("int64", ())}, Numbered(3))


def numbers(rows: int, name: str = "numbers") -> Rows:
    """Return rows that are their own numbers."""
    split = {"x": np.arange(rows)}, np.arange(rows) % 3
    return Rows(ArraySource(name, FORM, {"train": split}), "train")


def batches(rows: Rows, *arguments: Any, **options: Any) -> list[list[int]]:
    """Return the batches of `numbers`; see that fields and labels belong together."""
    told = []
    for fields, labels in rows.batches(*arguments, **options):
        assert fields.keys() == {"x"}
        assert (labels == fields["x"] % 3).all()
        told.append(fields["x"].tolist())
    return told


class Slow:
    """A source that is read by its numbers, as one whose rows are on disk; counts what it reads."""

    def __init__(self, rows: Rows) -> None:
        self._source = rows.source
        self.name, self.form, self.splits = "slow", rows.form, rows.source.splits
        self.read_at_once: list[int] = []

    @property
    def digest(self) -> str:
        return self._source.digest

    def labels(self, split: str) -> Labels:
        return self._source.labels(split)

    def read(self, split: str, numbers: RowNumbers | slice) -> Arrays:
        found = self._source.read(split, numbers)
        self.read_at_once.append(len(found["x"]))
        return found


# Batches.


def flat(told: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(told))


@given(
    st.integers(0, 60), st.integers(1, 70), st.none() | st.integers(0, 9),
    st.none() | st.integers(1, 70),
)  # fmt: skip
def test_batches_hold_each_row_once_in_batches_of_one_size(
    count: int, size: int, seed: int | None, buffer: int | None
) -> None:
    told = batches(numbers(count), size, seed, buffer)
    assert sorted(flat(told)) == list(range(count))
    assert all(len(batch) == size for batch in told[:-1])
    assert all(0 < len(batch) <= size for batch in told)
    assert told == batches(numbers(count), size, seed, buffer)
    if seed is None:
        assert flat(told) == list(range(count))


@pytest.mark.parametrize("buffer", [None, 8, 30])
def test_a_seed_is_an_order_and_a_generator_goes_on(buffer: int | None) -> None:
    rows = numbers(100)
    one, other = batches(rows, 7, 1, buffer), batches(rows, 7, 2, buffer)
    assert one != other
    assert flat(one) != list(range(100)) != flat(other)
    random = np.random.default_rng(1)
    first, second = (batches(rows, 7, random, buffer) for _ in range(2))
    assert first == one
    assert second != first
    assert sorted(flat(second)) == list(range(100))


def test_data_that_is_larger_than_memory_is_read_in_blocks_that_lie_together() -> None:
    slow = Slow(numbers(95))
    told = batches(Rows(slow, "train"), 7, 3, 20)
    assert Counter(slow.read_at_once) == {20: 4, 15: 1}
    order = flat(told)
    first = {row // 20 for row in order[:15]}
    assert len(first) == 1, "the first rows are of one block"
    assert order[:15] != sorted(order[:15]), "which is mixed"
    blocks = list(dict.fromkeys(row // 20 for row in order))
    assert sorted(blocks) == list(range(5))
    assert len({tuple(dict.fromkeys(r // 20 for r in flat(batches(numbers(95), 7, seed, 20))))
                for seed in range(9)}) > 1, "blocks come in random order"  # fmt: skip


def test_a_batch_may_be_larger_than_the_rows_that_are_read_together() -> None:
    slow = Slow(numbers(50))
    told = batches(Rows(slow, "train"), 20, 1, 3)
    assert [len(batch) for batch in told] == [20, 20, 10]
    assert max(slow.read_at_once) == 20


def test_all_of_it_is_read_once_where_it_fits() -> None:
    slow = Slow(numbers(50))
    rows = Rows(slow, "train")
    for _ in range(3):
        batches(rows, 7, 1)
        batches(rows, 7, 1, 50)
    assert slow.read_at_once == [50]


@pytest.mark.parametrize(("size", "buffer"), [(0, None), (-1, None), (4, 0), (4, -3)])
def test_batches_of_nothing_are_refused(size: int, buffer: int | None) -> None:
    with pytest.raises(LoaderError, match="give 1 or more"):
        next(numbers(10).batches(size, None, buffer))


def test_some_rows_are_in_batches_as_they_are_chosen() -> None:
    some = numbers(100).of(np.array([5, 90, 7, 7]))
    assert batches(some, 3) == [[5, 90, 7], [7]]
    assert batches(some, 3, None, 2) == [[5, 90, 7], [7]]
    assert Counter(flat(batches(some, 3, 1, 2))) == {5: 1, 90: 1, 7: 2}


# Which rows.


@given(st.integers(1, 80), st.integers(1, 12))
def test_parts_are_all_rows_one_after_the_other(count: int, parts: int) -> None:
    rows = numbers(count)
    told = [part.arrays["x"].tolist() for part in rows.parts(parts)]
    assert len(told) == parts
    assert flat(told) == list(range(count))
    assert max(map(len, told)) - min(map(len, told)) <= 1


def test_rows_of_rows_are_those_of_the_source() -> None:
    rows = numbers(100).of(slice(50, 100))
    assert len(rows) == 50
    some = rows.of(np.array([0, 49, 3]))
    assert some.arrays["x"].tolist() == [50, 99, 53]
    assert some.labels.tolist() == [50 % 3, 99 % 3, 53 % 3]
    assert some.of(slice(1, None)).arrays["x"].tolist() == [99, 53]
    assert some.labels.dtype == np.int64
    assert len(rows.of(slice(0, 0)).arrays["x"]) == 0


def test_rows_are_read_when_they_are_wanted_and_once() -> None:
    slow = Slow(numbers(10))
    some = Rows(slow, "train").of(slice(2, 5))
    assert (len(some), some.classes, some.digest) == (3, 3, some.digest)
    assert slow.read_at_once == []
    assert some.arrays is some.arrays
    assert slow.read_at_once == [3]


def test_what_lies_together_is_not_copied() -> None:
    rows = numbers(100)
    whole = rows.arrays["x"]
    assert np.shares_memory(rows.of(np.arange(20, 40)).arrays["x"], whole)
    assert np.shares_memory(rows.parts(3)[1].arrays["x"], whole)
    assert not np.shares_memory(rows.of(np.array([3, 1])).arrays["x"], whole)


def test_a_limit_is_the_first_rows_or_all() -> None:
    rows = numbers(10)
    assert rows.limited(4).arrays["x"].tolist() == [0, 1, 2, 3]
    for more in (None, 10, 10**9):
        assert rows.limited(more) is rows
    for less in (0, -1):
        with pytest.raises(LoaderError, match=f"a limit of {less} rows leaves nothing"):
            rows.limited(less)
    assert len(rows_of(rows.source, "train", 3)) == 3


# Digests.


def test_equal_data_has_an_equal_digest_whatever_it_is_called() -> None:
    assert numbers(10).digest == numbers(10, "other").digest
    assert numbers(10).limited(3).digest == numbers(10).of(np.array([0, 1, 2])).digest
    fortran = np.asfortranarray(np.arange(6).reshape(2, 3))
    form = Form({"x": Field("int64", (3,))}, Numbered(3))
    one, other = (
        ArraySource("a", form, {"train": ({"x": x}, np.zeros(2, np.int64))}).digest
        for x in (fortran, fortran.copy("C"))
    )
    assert one == other
    assert len(one) == 32
    int(one, 16)


def test_whatever_is_another_has_another_digest() -> None:
    def of(
        fields: Mapping[str, Any], labels: Any, classes: Any = None, split: str = "train",
        **more: Any,
    ) -> str:  # fmt: skip
        form = Form({n: Field(a.dtype.name, a.shape[1:]) for n, a in fields.items()},
                    Numbered(3) if classes is None else classes)  # fmt: skip
        splits = {split: (fields, np.array(labels, np.int64)), **more}
        return Rows(ArraySource("a", form, splits), split).digest

    x = np.arange(6, dtype=np.uint8)
    test = {"x": x[:1]}, np.zeros(1, np.int64)
    digests = [
        of({"x": x}, [0, 1, 2, 0, 1, 2]),
        of({"x": x}, [0, 1, 2, 0, 1, 1]),  # a label
        of({"x": x[::-1]}, [0, 1, 2, 0, 1, 2]),  # a number
        of({"y": x}, [0, 1, 2, 0, 1, 2]),  # a name
        of({"x": x.astype(np.int8)}, [0, 1, 2, 0, 1, 2]),  # a type
        of({"x": x.reshape(6, 1)}, [0, 1, 2, 0, 1, 2]),  # a shape
        of({"x": x}, [0, 1, 2, 0, 1, 2], Numbered(4)),  # how many classes
        of({"x": x}, [0, 1, 2, 0, 1, 2], ("0", "1", "2")),  # names instead of none
        of({"x": x}, [0, 1, 2, 0, 1, 2], ("a", "b", "c")),
        of({"x": x}, [0, 1, 2, 0, 1, 2], ("a", "c", "b")),
        of({"x": x}, [0, 1, 2, 0, 1, 2], split="test"),
        of({"x": x}, [0, 1, 2, 0, 1, 2], test=test),  # another split
        of({"x": x[:3], "y": x[3:]}, [0, 1, 2]),
    ]
    assert len(set(digests)) == len(digests)


def test_other_rows_of_a_source_have_another_digest() -> None:
    rows = numbers(10)
    some = [
        rows, rows.limited(9), rows.limited(8), rows.of(np.array([0, 1])),
        rows.of(np.array([1, 0])), rows.of(np.array([0, 1, 1])), rows.of(np.zeros(0, np.int64)),
        *rows.parts(3),
    ]  # fmt: skip
    assert len({each.digest for each in some}) == len(some)
    assert rows.of(np.array([0, 1], np.int32)).digest == rows.of(np.array([0, 1])).digest


# Forms.


def good() -> tuple[dict[str, Any], Any]:
    return {"a": np.zeros((4, 2), np.float32), "b": np.zeros(4, np.int16)}, np.array([0, 1, 2, 2])


TWO = Form({"a": Field("float32", (2,)), "b": Field("int16", ())}, ("x", "y", "z"))


def test_rows_of_a_form_are_counted() -> None:
    fields, labels = good()
    assert TWO.check(fields, labels) == TWO.check(fields, None) == 4
    assert TWO.check({name: array[:0] for name, array in fields.items()}, labels[:0]) == 0


@pytest.mark.parametrize(
    ("fields", "labels", "told"),
    [
        ({"a": None}, None, r"fields \['b'\], not \['a', 'b'\]"),
        ({"c": np.zeros(4)}, None, r"fields \['a', 'b', 'c'\], not"),
        ({"a": np.zeros((4, 2))}, None, r"a is float64 of shape \(4, 2\), not float32 of"),
        ({"a": np.zeros((4, 2), ">f4")}, None, "a is >f4 of shape"),
        ({"a": np.zeros((4, 3), np.float32)}, None, r"of shape \(4, 3\), not float32 of \(rows, 2"),
        ({"a": np.zeros(4, np.float32)}, None, r"a is float32 of shape \(4,\)"),
        ({"b": np.zeros((), np.int16)}, None, r"b is int16 of shape \(\)"),
        ({"b": np.zeros((4, 1), np.int16)}, None, r"b is int16 of shape \(4, 1\)"),
        ({"b": np.array([None] * 4)}, None, "b is object"),
        ({"b": np.array(["x"] * 4)}, None, "b is <U1"),
        ({"b": np.zeros(3, np.int16)}, None, r"fields and labels don't match: \[3, 4\] rows"),
        ({}, np.array([0, 1, 2]), r"fields and labels don't match: \[3, 4\] rows"),
        ({}, np.array([0, 1, 2, 3]), "labels from 0 to 3 where there are 3 classes"),
        ({}, np.array([0, -1, 2, 2]), "labels from -1 to 2"),
        ({}, np.array([0, 1, 2, 2], np.int32), "labels are int32"),
        ({}, np.array([0.0, 1, 2, 2]), "labels are float64"),
        ({}, np.zeros((4, 1), np.int64), r"labels are int64 of shape \(4, 1\), not one a row"),
    ],
)
def test_rows_of_another_form_are_refused_in_words(fields: Any, labels: Any, told: str) -> None:
    arrays, truth = good()
    arrays = {name: array for name, array in {**arrays, **fields}.items() if array is not None}
    truth = truth if labels is None else labels
    with pytest.raises(CorruptDataset, match=told):
        TWO.check(arrays, truth)
    with pytest.raises(CorruptDataset, match=f"mine: .*{told}"):
        ArraySource("mine", TWO, {"train": good(), "test": (arrays, truth)})


def test_a_form_is_read_as_it_is_told() -> None:
    again = Form.of_values(TWO.as_values())
    assert again.fields == TWO.fields
    assert again.classes == Numbered(3)  # names don't go along
    most = Form({}, Numbered(MOST_CLASSES))
    assert Form.of_values(most.as_values()) == most
    assert TWO.tell() == "a: float32 2, b: int16 alone"


def test_columns_are_told_where_they_have_names() -> None:
    named = Form({"row": Field("float64", (2,), ("height", "width"))}, ("a", "b"))
    assert named.as_values()["fields"] == {"row": ["float64", [2], ["height", "width"]]}
    assert Form.of_values(named.as_values()).fields == named.fields
    nameless = Form({"row": Field("float64", (2,))}, ("a", "b"))
    assert nameless.as_values()["fields"] == {"row": ["float64", [2]]}
    arrays = {"train": ({"row": np.zeros((1, 2))}, np.zeros(1, np.int64))}
    assert ArraySource("t", named, arrays).digest != ArraySource("t", nameless, arrays).digest


def field_of(*told: Any) -> dict[str, Any]:
    return {"fields": {"x": list(told)}, "classes": 3}


@pytest.mark.parametrize(
    "values",
    [
        None, 1, "form", [], {}, {"fields": {}}, {"classes": 3}, {"fields": [], "classes": 3},
        {"fields": {}, "classes": 0}, {"fields": {}, "classes": -1}, {"fields": {}, "classes": "3"},
        {"fields": {}, "classes": True}, {"fields": {}, "classes": 3.0},
        {"fields": {}, "classes": MOST_CLASSES + 1}, {"fields": {}, "classes": 10**400},
        {"fields": {str(n): ["uint8", []] for n in range(65)}, "classes": 3},
        {"fields": {"x": None}, "classes": 3}, field_of(), field_of("uint8"),
        field_of("uint8", [1], 2), field_of("uint8", None), field_of("uint8", "ab"),
        field_of("uint8", {}), field_of("uint8", [-1]), field_of("uint8", [1.0]),
        field_of("uint8", [True]), field_of("uint8", ["1"]), field_of("uint8", [1] * 9),
        field_of("uint8", [10**40]), field_of("object", [1]), field_of("O", []),
        field_of("<U5", []), field_of("complex64", []), field_of("datetime64[s]", []),
        field_of(None, []),
        field_of("None", []), field_of(b"uint8", []), field_of(1, []), field_of(["a"], []),
        field_of({"names": ["a"], "formats": ["u1"]}, []), field_of("u1", []), field_of(">i2", []),
        field_of("(3,)f4", []), field_of("f4,((((", []), field_of("f4," * 10**5, []),
        field_of("(" * 10**5, []), field_of("\ud800", []), field_of("", []),
    ],
    ids=lambda values: repr(values)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_what_is_no_form_is_refused_whoever_says_so(values: Any) -> None:
    with pytest.raises(CorruptDataset, match="not a form of data"):
        Form.of_values(values)


def test_classes_without_names_take_no_memory() -> None:
    many = Numbered(MOST_CLASSES)
    assert len(many) == MOST_CLASSES
    assert (many[0], many[-1], many[7:9]) == ("0", str(MOST_CLASSES - 1), ("7", "8"))
    assert many != Numbered(3)
    assert many != ("0", "1", "2")
    assert Numbered(3) == ("0", "1", "2") == tuple(Numbered(3))
    assert Numbered(3) != ("0", "1", "3")
    assert Numbered(3) != 3
    assert hash(Numbered(3)) == hash(("0", "1", "2"))
    with pytest.raises(IndexError):
        Numbered(3)[3]


def test_rows_are_as_frozen_as_their_numbers() -> None:
    rows = numbers(3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rows.split = "other"  # type: ignore[misc]


# Sources of any kind.


def test_one_class_against_the_rest() -> None:
    form = Form({"x": Field("int64", ())}, ("cat", "dog", "eel"))
    split = {"x": np.arange(6)}, np.array([0, 1, 2, 2, 1, 0])
    source = ArraySource("animals", form, {"train": split, "test": split})
    dogs = OneAgainstRest(source, 1)
    assert dogs.form.classes == ("not dog", "dog")
    rows = rows_of(dogs, "train")
    assert rows.labels.tolist() == [0, 1, 0, 0, 1, 0]
    assert rows.labels.dtype == np.int64
    assert rows.arrays["x"].tolist() == list(range(6))
    assert rows.of(np.array([4, 0])).labels.tolist() == [1, 0]
    digests = {source.digest, *(OneAgainstRest(source, target).digest for target in range(3))}
    assert len(digests) == 4
    for target in (3, -1):
        with pytest.raises(LoaderError, match=f"no class {target}: animals has 0 to 2"):
            OneAgainstRest(source, target)


def test_classes_are_those_of_a_model_by_their_names() -> None:
    form = Form({"x": Field("int64", ())}, ("cat", "dog", "eel"))
    split = {"x": np.arange(4)}, np.array([0, 1, 2, 2])
    source = ArraySource("animals", form, {"train": split})
    other = in_classes(source, ("ant", "eel", "cat"))
    assert other.form.classes == ("ant", "eel", "cat", "dog")
    assert rows_of(other, "train").labels.tolist() == [2, 3, 1, 1]
    assert rows_of(other, "train").arrays["x"].tolist() == [0, 1, 2, 3]
    assert len({source.digest, other.digest, in_classes(source, ("eel",)).digest}) == 3
    assert in_classes(source, form.classes) is source
    some = ArraySource("some", Form(form.fields, ("2", "7", "12")), {"train": split})
    assert in_classes(some, Numbered(10)).form.classes == (*map(str, range(10)), "12")
    assert in_classes(some, Numbered(13)).labels("train").tolist() == [2, 7, 12, 12]
    numbered = ArraySource("n", Form(form.fields, Numbered(3)), {"train": split})
    assert in_classes(numbered, Numbered(10)) is numbered


def test_pictures_in_colour_keep_their_channels() -> None:
    form = Form({"photo": Field("uint8", (4, 5, 3))}, ("a", "b"))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)
    rows = Rows(ArraySource("photos", form, {"all": ({"photo": pixels}, np.arange(9) % 2)}), "all")
    assert rows.kind == "image"
    assert form.image == Field("uint8", (4, 5, 3))
    assert form.tell() == "photo: uint8 4 x 5 x 3"
    for fields, labels in rows.batches(4, 1):
        assert fields["photo"].shape == (len(labels), 4, 5, 3)
    assert (rows.of(np.array([8, 1])).arrays["photo"] == pixels[[8, 1]]).all()


def test_a_table_keeps_its_columns() -> None:
    form = Form({"height": Field("float64", ()), "weight": Field("float64", ())}, ("a", "b"))
    columns = {"height": np.arange(7.0), "weight": np.arange(7.0) * 10}
    rows = Rows(ArraySource("people", form, {"all": (columns, np.arange(7) % 2)}), "all")
    assert (rows.kind, form.image) == ("row", None)
    for fields, labels in rows.batches(3, 5, 4):
        assert fields.keys() == {"height", "weight"}
        assert (fields["weight"] == 10 * fields["height"]).all()
        assert (labels == fields["height"] % 2).all()
    assert form.tell() == "height: float64 alone, weight: float64 alone"


@pytest.mark.parametrize("classes", [255, 256, 100_000])
def test_labels_are_of_as_many_classes_as_there_are(classes: int) -> None:
    form = Form({"x": Field("float32", (1,))}, Numbered(classes))
    labels = np.array([0, classes - 1, classes // 2])
    source = ArraySource("many", form, {"all": ({"x": np.zeros((3, 1), np.float32)}, labels)})
    rows = Rows(source, "all")
    assert rows.classes == classes
    assert [batch.tolist() for _, batch in rows.batches(1)] == [[label] for label in labels]
    with pytest.raises(CorruptDataset, match=f"where there are {classes} classes"):
        ArraySource("x", form, {"all": ({"x": np.zeros((1, 1), np.float32)}, np.array([classes]))})
