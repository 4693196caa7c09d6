"""Arrays of a program: what is taken for pictures, what for a table, classes, and what is none."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from loaders import CorruptDataset, Field, LoaderError, Numbered, from_arrays, from_torch
from loaders.arrays import Texts
from loaders.naming import named, table_named
from loaders.rows import ArraySource

PICTURES = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
TRUTH = np.array([0, 2, 1, 2])


def only(source: ArraySource, split: str = "train") -> np.ndarray:
    (array,) = source.read(split, slice(None)).values()
    return array


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (PICTURES, Field("uint8", (6, 5))),
        (PICTURES[..., None], Field("uint8", (6, 5))),
        (PICTURES[:, None], Field("uint8", (6, 5))),
        (np.stack([PICTURES] * 3, 3), Field("uint8", (6, 5, 3))),
        (np.stack([PICTURES] * 3, 1), Field("uint8", (6, 5, 3))),
        (np.asfortranarray(PICTURES), Field("uint8", (6, 5))),
        (PICTURES.astype(">i4"), Field("uint8", (6, 5))),
        (PICTURES.astype(np.int8), Field("uint8", (6, 5))),
        (PICTURES.astype(np.int64) * 10, Field("int64", (6, 5))),
        (PICTURES.astype(">f4") / 255, Field("float32", (6, 5))),
        (PICTURES.astype(np.longdouble), Field("float64", (6, 5))),
        (PICTURES > 3, Field("bool", (6, 5))),
        (PICTURES.reshape(4, 30), Field("float64", (30,))),
        (np.arange(256, dtype=np.uint8).reshape(4, 64), Field("uint8", (8, 8))),
        (np.arange(256).reshape(4, 64), Field("float64", (64,))),
        (np.arange(256, dtype=np.uint8).reshape(4, 64) % 2, Field("float64", (64,))),
        (np.zeros((4, 49), np.uint8) + 9, Field("float64", (49,))),
        ([[1, 2.5], [3, 4], [5, 6], [7, 8]], Field("float64", (2,))),
    ],
)  # fmt: skip
def test_what_a_row_is_is_told_by_its_shape_and_type(given: Any, field: Field) -> None:
    source = from_arrays(given, TRUTH)
    assert source.form.fields == {"image" if len(field.shape) > 1 else "row": field}
    assert source.splits == {"train": 4}
    wanted = np.asarray(given)
    if wanted.ndim == 4 and wanted.shape[1] in (1, 3) and wanted.shape[3] not in (1, 3):
        wanted = np.moveaxis(wanted, 1, 3)
    np.testing.assert_array_equal(only(source), wanted.reshape(4, *field.shape))
    assert not only(source).flags.writeable


def test_whatever_they_lie_in_equal_rows_are_equal_data() -> None:
    source = from_arrays(PICTURES, TRUTH, PICTURES[:2], TRUTH[:2])
    for rows in (PICTURES[..., None], PICTURES[:, None], PICTURES.astype("<i8")):
        again = from_arrays(rows, TRUTH.astype(float)[:, None], rows[:2], np.eye(3)[TRUTH[:2]])
        assert again.digest == source.digest
    assert from_arrays(PICTURES, TRUTH).digest != source.digest


@pytest.mark.parametrize(
    ("truth", "classes", "numbers"),
    [
        ([0, 2, 1, 2], Numbered(3), [0, 2, 1, 2]),
        ([7, -3, 7, 100], ("-3", "7", "100"), [1, 0, 1, 2]),
        ([1, 2, 1, 2], ("1", "2"), [0, 1, 0, 1]),
        ([2.0, 0.0, 1.0, 0.0], Numbered(3), [2, 0, 1, 0]),
        (["b", "a", "b", "c"], ("a", "b", "c"), [1, 0, 1, 2]),
        (["1", "0", "2", "0"], Numbered(3), [1, 0, 2, 0]),
        (["10", "9", "8", "9"], ("8", "9", "10"), [2, 1, 0, 1]),
        (["01", "1", "01", "1"], ("01", "1"), [0, 1, 0, 1]),
        ([b"b", b"a", b"b", b"\xc3\xa4"], ("a", "b", "ä"), [1, 0, 1, 2]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
        (np.array(["b", "a", "b", "c"], object), ("a", "b", "c"), [1, 0, 1, 2]),
        (np.eye(5, dtype=bool)[[1, 0, 3, 0]], Numbered(5), [1, 0, 3, 0]),
        (np.array([3, 0, 3, 0], np.uint64), ("0", "3"), [1, 0, 1, 0]),
        ([1 << 40, 0, 0, 0], ("0", str(1 << 40)), [1, 0, 0, 0]),
    ],
)
def test_classes_are_called_as_labels_say(truth: Any, classes: Any, numbers: list[int]) -> None:
    source = from_arrays(PICTURES, truth)
    assert source.form.classes == classes
    assert type(source.form.classes) is type(classes)
    assert source.labels("train").tolist() == numbers
    assert from_arrays(PICTURES, np.array(truth).reshape(4, -1)).digest == source.digest


def test_classes_are_those_of_all_splits() -> None:
    source = from_arrays(PICTURES, [3, 3, 5, 5], PICTURES[:1], [4])
    assert source.form.classes == ("3", "4", "5")
    assert source.labels("test").tolist() == [1]
    mixed = from_arrays(PICTURES, [3, 3, 5, 5], PICTURES[:1], ["four"])
    assert mixed.form.classes == ("3", "5", "four")


def test_classes_may_be_named() -> None:
    named_ = from_arrays(PICTURES, TRUTH, classes=["cat", "dog", "a cow", "none"])
    assert named_.form.classes == ("cat", "dog", "a cow", "none")
    texts = from_arrays(PICTURES, ["dog", "cat", "dog", "dog"], classes=("dog", "cat"))
    assert texts.labels("train").tolist() == [0, 1, 0, 0]
    assert from_arrays(PICTURES, TRUTH, classes=["0", "1", "2"]).form.classes == Numbered(3)
    for classes, words in (
        (["a", "b"], "labels from 0 to 2, and there are names for 2"),
        (["a", "b", "a"], "two of the 3 classes have one name"),
    ):
        with pytest.raises(CorruptDataset, match=words):
            from_arrays(PICTURES, TRUTH, classes=classes)
    with pytest.raises(CorruptDataset, match="y_train has 'cow', which is no class"):
        from_arrays(PICTURES, ["cow"] * 4, classes=["a"])


@pytest.mark.parametrize(
    ("rows", "truth", "words"),
    [
        (PICTURES, TRUTH[:3], "x_train holds 4 rows, y_train holds 3 labels"),
        (PICTURES[:0], TRUTH[:0], "x_train holds no rows"),
        (np.zeros((4, 0)), TRUTH, "x_train has rows of no numbers: 0"),
        (5, TRUTH, "x_train is a number alone"),
        (np.zeros(4), TRUTH, "x_train has the shape 4; pictures are"),
        (np.zeros((4, 2, 2, 2, 2)), TRUTH, "x_train has the shape 4 x 2 x 2 x 2 x 2; pictures are"),
        (np.zeros((4, 2, 2, 4)), TRUTH, "neither 2 nor 4 can be its channels"),
        (np.zeros((4, 2), complex), TRUTH, "x_train is of the type complex128"),
        (np.full((4, 2), None), TRUTH, "x_train is of the type object"),
        (np.full((4, 2), "a"), TRUTH, "x_train is of the type <U1"),
        (np.zeros((4, 2), "M8[s]"), TRUTH, "x_train is of the type datetime64"),
        (PICTURES, [0, 1, np.nan, 1], "y_train: row 2 has no label, but nan"),
        (PICTURES, [0, 1, 0.5, 1], "y_train: row 2 has the label 0.5; classes are named by whole"),
        (PICTURES, [0, 1, np.inf, 1], "y_train: row 2 has no label, but inf"),
        (PICTURES, ["a", "", "b", "a"], "y_train: row 1 has no label"),
        (PICTURES, ["a", None, "b", "a"], "y_train is of the type object"),
        (PICTURES, np.zeros((4, 3)), "4 x 3 and is not one-hot: row 0 holds 0, 0, 0"),
        (PICTURES, np.ones((4, 3)), "4 x 3 and is not one-hot: row 0 holds 1, 1, 1"),
        (PICTURES, np.eye(4) * 2, "4 x 4 and is not one-hot: row 0 holds 2, 0"),
        (PICTURES, np.zeros((4, 2, 2)), "y_train has the shape 4 x 2 x 2"),
        (PICTURES, np.full((4, 2), "a"), "y_train has the shape 4 x 2"),
        (PICTURES, [b"\xff"] * 4, "y_train: its bytes are no text in UTF-8"),
        (PICTURES, [2**63] + [0] * 3, "labels from 0.0 to 9.22.*; these are no classes"),
    ],
)
def test_what_can_not_be_rows_and_classes_is_told(rows: Any, truth: Any, words: str) -> None:
    with pytest.raises(CorruptDataset, match=f"^mine: .*{words}"):
        from_arrays(rows, truth, name="mine")


def test_splits_must_be_alike() -> None:
    with pytest.raises(CorruptDataset, match="those of x_train are 6 x 5, those of x_test are 5 x"):
        from_arrays(PICTURES, TRUTH, PICTURES.swapaxes(1, 2), TRUTH)
    with pytest.raises(CorruptDataset, match="are of the types float64 and uint8; both must be"):
        from_arrays(PICTURES, TRUTH, PICTURES / 255, TRUTH)
    with pytest.raises(LoaderError, match="given together, or neither"):
        from_arrays(PICTURES, TRUTH, PICTURES)
    mixed = from_arrays(PICTURES.astype(np.int32), TRUTH, PICTURES, TRUTH)
    assert only(mixed).dtype == only(mixed, "test").dtype == np.uint8


def test_columns_keep_their_names() -> None:
    class Frame:  # what numpy and we need to know of one
        columns = ("height", "width\n")

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.ones((4, 2))

    fields = from_arrays(Frame(), TRUTH).form.fields
    assert fields == {"row": Field("float64", (2,), ("height", "width "))}


def test_what_is_handed_over_is_not_changed() -> None:
    rows = PICTURES.copy()
    source = from_arrays(rows, TRUTH)
    assert rows.flags.writeable
    assert np.shares_memory(only(source), rows)


class Pairs(torch.utils.data.Dataset[Any]):
    def __init__(self, rows: Any, truth: Any, classes: Any = None) -> None:
        self.rows, self.truth = rows, truth
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return self.rows[number], self.truth[number]


def test_torchs_data_sets_are_what_their_items_are() -> None:
    wanted = from_arrays(PICTURES, TRUTH).digest
    pictures = [Image.fromarray(each) for each in PICTURES]
    for rows in (PICTURES, torch.tensor(PICTURES), torch.tensor(PICTURES)[:, None], pictures):
        for truth in (TRUTH, TRUTH.tolist(), torch.tensor(TRUTH)):
            assert from_torch(Pairs(rows, truth)).digest == wanted
            assert from_torch([*zip(rows, truth, strict=True)]).digest == wanted
            assert from_torch(zip(rows, truth, strict=True)).digest == wanted


def test_tensors_stay_fractions_and_their_channels_are_put_last() -> None:
    colours = torch.rand(4, 3, 6, 5)
    source = from_torch(Pairs(colours, ["b", "a", "b", "a"]), Pairs(colours[:1], ["a"]))
    assert source.form.fields == {"image": Field("float32", (6, 5, 3))}
    np.testing.assert_array_equal(only(source), np.moveaxis(colours.numpy(), 1, 3))
    assert source.form.classes == ("a", "b")
    assert source.splits == {"train": 4, "test": 1}
    own = from_torch(Pairs(colours, TRUTH, ["cat", "dog", "cow"]))
    assert own.form.classes == ("cat", "dog", "cow")
    given = from_torch(Pairs(colours, TRUTH, ["cat", "dog", "cow"]), classes=["0", "1", "2"])
    assert given.form.classes == Numbered(3)
    texts = from_torch(Pairs(colours, ["b", "a", "b", "a"], ["B", "A"]))
    assert texts.form.classes == ("a", "b")


def test_what_torchs_data_sets_can_not_hold_is_told() -> None:
    sizes = [PICTURES[0], PICTURES[1, :2], PICTURES[2]]
    with pytest.raises(CorruptDataset, match="item 1 of the train set is 2 x 5, the first is 6 x"):
        from_torch(Pairs(sizes, TRUTH))
    with pytest.raises(CorruptDataset, match="the test set holds no rows"):
        from_torch(Pairs(PICTURES, TRUTH), Pairs([], []))
    with pytest.raises(CorruptDataset, match="item 0 of the train set is a Tensor, not a pair"):
        from_torch(torch.rand(4, 2))


def test_texts_are_kept_once() -> None:
    texts = Texts.joined([Texts.of(["a", None, "b"]), Texts.of(["c", "a", ""])])
    assert texts.codes.tolist() == [0, -1, 1, 2, 0, -1]
    assert texts.values == ("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("x_train", ("", "train", "rows")), ("Y_Test", ("", "test", "labels")),
        ("train-labels", ("", "train", "labels")), ("trainData", ("", "train", "rows")),
        ("xtr", ("", "train", "rows")), ("test.images", ("", "test", "rows")),
        ("X", ("", "", "rows")), ("X-labels", ("", "", "labels")),
        ("mnist_val_targets", ("mnist", "validation", "labels")), ("train", ("", "train", "")),
        ("arr_0", ("arr-0", "", "")), ("digits", ("digits", "", "")),
    ],
)  # fmt: skip
def test_a_name_says_what_an_array_is(name: str, wanted: tuple[str, str, str]) -> None:
    assert named(name) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("train", ("", "train")), ("mnist_test", ("mnist", "test")),
        ("train-00003-of-00010-a1b2c3", ("", "train")), ("train.part-2", ("", "train")),
        ("test_labels", ("labels", "test")), ("iris", ("iris", "")),
    ],
)  # fmt: skip
def test_a_name_says_what_a_table_is(name: str, wanted: tuple[str, str]) -> None:
    assert table_named(name)[:2] == wanted


def test_nothing_of_it_needs_torch() -> None:
    program = (
        "import sys, numpy as np, loaders;"
        "loaders.from_torch([(np.ones((2, 2)), 0)]); loaders.from_arrays([[1]], [0]);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
