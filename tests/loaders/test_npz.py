"""Arrays in archives and in files: by which names they are found, and what is none of them."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loaders
from loaders import CorruptDataset, DatasetNotFound, LoaderError, Numbered

X = np.arange(6 * 8 * 9, dtype=np.uint8).reshape(6, 8, 9) % 251
Y = np.array([0, 1, 2, 0, 1, 2])
XT, YT = X[:2], Y[:2]
WANTED = loaders.from_arrays(X, Y, XT, YT).digest
TRAIN_ONLY = loaders.from_arrays(X, Y).digest


def npy_bytes(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "names",
    [
        "x_train y_train x_test y_test", "X_train y_train X_test y_test",
        "train_images train_labels test_images test_labels", "train-x train-y test-x test-y",
        "traindata trainlabels testdata testlabels", "Xtr ytr Xte yte",
        "training_data training_targets testing_data testing_targets",
        "mnist_x_train mnist_y_train mnist_x_test mnist_y_test",
    ],
)  # fmt: skip
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_says_by_names_what_its_arrays_are(
    names: str, save: Any, tmp_path: Path
) -> None:
    file = tmp_path / "data.npz"
    if names.startswith("mnist"):  # a set's own name is none of an archive's
        save(file, **dict(zip(names.split(), (X, Y, XT, YT), strict=True)))
        with pytest.raises(CorruptDataset, match="not for certain rows and their labels"):
            loaders.open_source(file)
        return
    save(file, **dict(zip(names.split(), (X, Y, XT, YT), strict=True)))
    assert loaders.open_source(file).digest == WANTED
    assert loaders.open_source(tmp_path).digest == WANTED  # the only one in a folder
    file.rename(tmp_path / "other name")
    assert loaders.open_source(tmp_path / "other name").digest == WANTED


@pytest.mark.parametrize("names", ["images labels", "X y", "data target", "x_train y_train"])
def test_an_archive_may_have_no_test_set(names: str, tmp_path: Path) -> None:
    said: list[str] = []
    arrays: dict[str, Any] = dict(zip(names.split(), (X, Y), strict=True))
    np.savez(tmp_path / "a.npz", **arrays, x_val=X, y_val=Y, mean=np.ones(3))
    assert loaders.open_source(tmp_path / "a.npz", said.append).digest == TRAIN_ONLY
    assert said == [f"{tmp_path / 'a.npz'}: x_val and y_val are left out"]


def test_arrays_without_names_are_taken_where_it_is_certain(tmp_path: Path) -> None:
    for arrays in ((X, Y), (Y, X), (X, Y[:, None])):
        np.savez(tmp_path / "a.npz", *arrays)
        assert loaders.open_source(tmp_path / "a.npz").digest == TRAIN_ONLY
    for others in ((X, np.eye(3)[Y]), (Y, Y), (X, Y, XT, YT), (X,)):
        np.savez(tmp_path / "a.npz", *others)
        with pytest.raises(CorruptDataset, match=r"holds arr_0 \(.*\), and not for certain rows"):
            loaders.open_source(tmp_path / "a.npz")


def test_a_folder_may_have_an_archive_for_each_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=X, y=Y)
    np.savez(tmp_path / "test.npz", x=XT, y=YT)
    assert loaders.open_source(tmp_path).digest == WANTED
    np.savez(tmp_path / "train.npz", x_train=X, y_train=Y)
    assert loaders.open_source(tmp_path).digest == WANTED
    (tmp_path / "train.npz").rename(tmp_path / "more.npz")
    with pytest.raises(DatasetNotFound, match="holds more.npz, test.npz; name one of them"):
        loaders.open_source(tmp_path)


def test_an_archive_without_what_is_wanted_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, foo=X, bar=np.float32(1), baz=np.array(["a"]))
    wanted = r"holds foo \(uint8 6 x 8 x 9\), bar \(float32 alone\), baz \(str32 1\), and not"
    with pytest.raises(CorruptDataset, match=wanted) as caught:
        loaders.open_source(file)
    assert "an archive has x_train, y_train, x_test and y_test, or" in str(caught.value)
    np.savez(file, images=X, data=X, labels=Y)
    with pytest.raises(CorruptDataset, match="a.npz: images and data may both be rows; keep one"):
        loaders.open_source(file)
    np.savez(file, x_train=X, y_train=Y[:4])
    with pytest.raises(CorruptDataset, match="x_train holds 6 rows, y_train holds 4 labels"):
        loaders.open_source(file)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        ("x_train y_train x_test y_test", "x_train"), ("train-data train-labels test-data "
         "test-labels", "test-labels"), ("traindata trainlabels testdata testlabels", "testdata"),
        ("train train-labels test test-labels", "train"), ("digits-train digits-train_labels "
         "digits-test digits-test_labels", "digits-test"),
        ("train/images train/labels test/images test/labels", None),
        ("a/train/x a/train/y a/test/x a/test/y", None),
    ],
)  # fmt: skip
def test_pairs_are_found_by_their_names(names: str, named: str | None, tmp_path: Path) -> None:
    for name, array in zip(names.split(), (X, Y, XT, YT), strict=True):
        file = tmp_path / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)
    assert loaders.open_source(tmp_path).digest == WANTED
    if named is not None:
        assert loaders.open_source(tmp_path / f"{named}.npy").digest == WANTED


@pytest.mark.parametrize(
    "names", ["X X-labels", "mine mine_labels", "images labels", "data target"]
)
def test_naming_one_of_a_pair_finds_the_other(names: str, tmp_path: Path) -> None:
    rows, labels = (tmp_path / f"{name}.npy" for name in names.split())
    np.save(rows, X)
    np.save(labels, Y)
    for each in (rows, labels, tmp_path):
        source = loaders.open_source(each)
        assert source.digest == TRAIN_ONLY
        assert source.form.classes == Numbered(3)
    rows.unlink()
    with pytest.raises(DatasetNotFound, match="the rows that belong to it are not beside it"):
        loaders.open_source(labels)


def test_pairs_that_are_none_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X)
    (tmp_path / "table.csv").write_text("a,y\n1,0\n2,1\n")
    assert loaders.open_source(tmp_path).form.fields["row"].columns == ("a",)
    (tmp_path / "table.csv").unlink()
    with pytest.raises(DatasetNotFound, match=r"its arrays \(a.npy, b.npy\) are no pairs"):
        loaders.open_source(tmp_path)
    with pytest.raises(DatasetNotFound, match=r"a.npy: the labels that belong .*a-labels.npy, or"):
        loaders.open_source(tmp_path / "a.npy")
    for name in "ab":
        np.save(tmp_path / f"{name}-labels.npy", Y)
    with pytest.raises(DatasetNotFound, match="holds 2 data sets, by the names of its arrays"):
        loaders.open_source(tmp_path)
    assert loaders.open_source(tmp_path / "a.npy").digest == TRAIN_ONLY
    said: list[str] = []
    for name, array in {"x_train": X, "y_train": Y, "x_val": X, "y_val": Y}.items():
        (tmp_path / "more").mkdir(exist_ok=True)
        np.save(tmp_path / "more" / f"{name}.npy", array)
    assert loaders.open_source(tmp_path / "more", said.append).digest == TRAIN_ONLY
    assert said == [f"{tmp_path / 'more'}: x_val.npy and its labels are left out"]


HUGE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 28, 28), }"


def lying(rows: int) -> bytes:
    """Return an array that says it has so many pictures, and has none."""
    text = HUGE % rows
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


GOOD = npy_bytes(X)
BROKEN = {
    "cut": (GOOD[:-5], r"truncated: 427 bytes where its header \(uint8 6 x 8 x 9\) makes 432"),
    "long": (GOOD + b"x", "too long: 433 bytes"),
    "header": (GOOD[:40], "can't be read"),
    "nothing": (b"", "not an array of NumPy"),
    "text": (b"hello there", "but text: 'hello there'"),
    "version": (GOOD[:6] + b"\x09" + GOOD[7:], "can't be read: .*version"),
    "huge": (lying(10**15), "truncated: 0 bytes where its header"),
    "negative": (lying(-5), "its header says uint8 -5 x 28"),
    "objects": (npy_bytes(np.array([{}], object)), "holds Python's objects, which only unpickling"),
    "structured": (npy_bytes(np.zeros(6, "i4,f4")), "is of the type"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_array_is_named_and_takes_no_memory(what: str, tmp_path: Path) -> None:
    content, words = BROKEN[what]
    pair, archive = tmp_path / "pair", tmp_path / "data.npz"
    pair.mkdir()
    (pair / "x_train.npy").write_bytes(content)
    np.save(pair / "y_train.npy", Y)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x_train.npy", content)
        file.writestr("y_train.npy", npy_bytes(Y))
    tracemalloc.start()
    with pytest.raises(CorruptDataset, match=f"x_train.npy.*{words}"):
        loaders.open_source(pair)
    with pytest.raises(CorruptDataset, match="data.npz.*x_train"):
        loaders.open_source(archive)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_an_archive_that_lies_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", lying(10**9) + bytes(10))
        archive.writestr("y_train.npy", npy_bytes(Y))
    content = file.read_bytes()
    size = len(lying(10**9)) + 10
    said = 784 * 10**9 + size - 10
    content = content.replace(
        size.to_bytes(4, "little"), min(said, 2**32 - 2).to_bytes(4, "little")
    )
    file.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(LoaderError, match="a.npz"):
        loaders.open_source(file)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    file = tmp_path / "mnist.npz"
    file.write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(CorruptDataset, match="mnist.npz: an HTML page, not data"):
        loaders.open_source(file)
    np.savez(file, x_train=X, y_train=Y)
    content = file.read_bytes()
    file.write_bytes(content[:-30])
    with pytest.raises(CorruptDataset, match="mnist.npz: can't be read: File is not a zip file"):
        loaders.open_source(file)
    at = content.index(X.tobytes()[:50])
    file.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    with pytest.raises(CorruptDataset, match="x_train: can't be read: Bad CRC-32"):
        loaders.open_source(file)


def header_of(shape: tuple[int, ...]) -> bytes:
    """Return a `.npy` file of no bytes but a header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    length = 1 << 28
    head = b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little")
    with (
        zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x_train.npy", "w") as file,
    ):
        file.write(head)
        for _ in range(length >> 22):
            file.write(b" " * (1 << 22))
    tracemalloc.start()
    with pytest.raises(CorruptDataset, match="268,435,456 letters"):
        loaders.open_source(tmp_path / "d.npz")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 24


def test_labels_of_no_numbers_are_told(tmp_path: Path) -> None:
    """However many of them there are said to be: a header takes no bytes for it."""
    for name in ("x", "y"):
        (tmp_path / f"{name}.npy").write_bytes(header_of((10**12, 0)))
    with pytest.raises(CorruptDataset, match="y.npy has labels of no numbers"):
        loaders.open_source(tmp_path)


def test_what_is_called_by_its_split_alone_is_no_rows_where_others_are(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.zeros_like(X))
    np.save(tmp_path / "train-images.npy", X)
    np.save(tmp_path / "train-labels.npy", Y)
    assert loaders.open_source(tmp_path).digest == TRAIN_ONLY


@pytest.mark.parametrize("other", ["X_train", "train-images"])
@pytest.mark.parametrize("named", ["", "x_train.npy"])
def test_two_arrays_that_may_be_the_same_are_told(other: str, named: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x_train.npy", X)
    np.save(tmp_path / f"{other}.npy", X + 1)
    np.save(tmp_path / "y_train.npy", Y)
    with pytest.raises(CorruptDataset, match="may both be the rows; keep one of them"):
        loaders.open_source(tmp_path / named)
