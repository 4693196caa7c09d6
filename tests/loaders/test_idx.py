"""IDX files from elsewhere: of any name, packing and type; what is no data is called what it is."""

from __future__ import annotations

import errno
import gzip
import os
import random
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import loaders
from loaders import MNIST, CorruptDataset, DatasetNotFound, LoaderError, OneAgainstRest
from loaders.idx import read_images, read_labels

from ..conftest import make_idx_folder, write_idx

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
_TYPES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def write_typed(path: Path, array: np.ndarray, dtype: str) -> None:
    """Write an IDX file of any type that the format has."""
    head = bytes([0, 0, _TYPES[dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(f">{dtype}").tobytes())


def renamed(folder: Path, name: Callable[[str], str]) -> Path:
    """Give every file of a folder another name, maybe in a folder below."""
    contents = {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.rmtree(folder)
    for old, content in contents.items():
        new = folder / name(old)
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_idx_folder(tmp_path / "idx", 20, 10)


@pytest.mark.parametrize(
    "name",
    [
        lambda name: name.replace("-idx", ".idx"),
        lambda name: f"MNIST/raw/{name}",
        lambda name: f"{name}/{name}",
        lambda name: "qmnist-" + name.replace("t10k", "test"),
        lambda name: name.replace("-", "_").replace("_ubyte", ""),
        str.upper,
    ],
    ids=["dots", "torchvision", "a folder of each", "qmnist", "underscores", "capitals"],
)
def test_files_are_found_whatever_they_are_called(folder: Path, name: Callable[[str], str]) -> None:
    wanted = loaders.load(folder).digest
    assert loaders.load(renamed(folder, name)).digest == wanted


def test_what_is_packed_is_told_by_its_bytes(folder: Path) -> None:
    wanted = loaders.load(folder).digest
    for name in (IMAGES, TEST_LABELS):  # packed, and not called so
        file = folder / name
        file.write_bytes(gzip.compress(file.read_bytes()))
    (folder / LABELS).rename(folder / f"{LABELS}.gz")  # called so, and not packed
    assert loaders.load(folder).digest == wanted
    assert len(MNIST(str(folder)).load_training()[0]) == 20


def test_emnists_pictures_are_upright(folder: Path) -> None:
    upright = loaders.load(folder).arrays["image"]
    for name in (IMAGES, TEST_IMAGES):
        write_idx(folder / name, read_images(folder / name).swapaxes(1, 2))
    said: list[str] = []
    renamed(folder, lambda name: "emnist-letters-" + name.replace("t10k", "test"))
    rows = loaders.load(folder, say=said.append)
    np.testing.assert_array_equal(rows.arrays["image"], upright)
    assert "put upright" in said[0]
    reader = MNIST(str(folder))
    reader.select_emnist("letters")
    np.testing.assert_array_equal(reader.load_training()[0], upright.reshape(20, -1))


def test_of_several_data_sets_one_is_named(folder: Path) -> None:
    renamed(folder, lambda name: f"emnist-digits-{name}")
    for file in list(folder.iterdir()):
        shutil.copy(file, folder / file.name.replace("digits", "letters"))
    wanted = "holds 2 data sets; name one of them: .*/emnist-digits, .*/emnist-letters"
    with pytest.raises(DatasetNotFound, match=wanted):
        loaders.load(folder)
    assert len(loaders.load(folder / "emnist-letters")) == 20
    assert len(loaders.load(folder / f"emnist-letters-{IMAGES}", "test")) == 10
    make_idx_folder(folder, 7, 3)  # MNIST's own names go first
    assert len(loaders.load(folder)) == 7


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f4", "f8"])
def test_numbers_of_any_type_are_read(folder: Path, dtype: str) -> None:
    images, labels = read_images(folder / IMAGES), read_labels(folder / LABELS)
    images = images // 2  # i1 has no more
    write_typed(folder / IMAGES, images, dtype)
    write_typed(folder / LABELS, labels, dtype)
    rows = loaders.load(folder)
    np.testing.assert_array_equal(rows.arrays["image"], images)
    np.testing.assert_array_equal(rows.labels, labels)
    assert rows.form.fields["image"].dtype == "uint8"


def test_fractions_are_pixels_and_qmnists_labels_are_the_first_column(folder: Path) -> None:
    images, labels = read_images(folder / IMAGES), read_labels(folder / LABELS)
    write_typed(folder / IMAGES, images / 255, "f4")
    (folder / LABELS).unlink()
    columns = np.concatenate([labels[:, None], np.full((20, 7), -1)], 1)
    write_typed(folder / "train-labels-idx2-int", columns, "i4")
    rows = loaders.load(folder)
    np.testing.assert_array_equal(rows.arrays["image"], images)
    np.testing.assert_array_equal(rows.labels, labels)


def test_colours_are_read(folder: Path) -> None:
    for name in (IMAGES, TEST_IMAGES):
        grey = read_images(folder / name)
        write_idx(folder / name, np.stack([grey, grey, grey], 3))
    assert loaders.load(folder).form.fields["image"].shape == (28, 28, 3)
    write_idx(folder / IMAGES, read_images(folder / IMAGES)[..., :1])
    wanted = "its train images are 28 x 28, its test images are 28 x 28 x 3 pixels"
    with pytest.raises(CorruptDataset, match=wanted):
        loaders.load(folder)


@pytest.mark.parametrize(
    ("name", "array", "dtype", "words"),
    [
        (IMAGES, np.full((20, 2, 2), 256), "i4", "pixels from 256 to 256; they should be"),
        (IMAGES, np.full((20, 2, 2), np.nan), "f4", "pixels from nan to nan"),
        (IMAGES, np.full((20, 2, 2), -1), "i2", "pixels from -1"),
        (LABELS, np.full(20, -1), "i4", "labels from -1 to -1; they should be whole"),
        (LABELS, np.full(20, 1.5), "f4", "labels from 1.5"),
        (LABELS, np.full(20, np.inf), "f8", "labels from inf"),
        (LABELS, np.full(20, 2**31 - 1), "i4", "labels from"),
        (LABELS, np.eye(20, 10), "u1", "20 x 10 numbers where there should be a label a row"),
    ],
)
def test_numbers_that_can_not_be_are_told(
    folder: Path, name: str, array: np.ndarray, dtype: str, words: str
) -> None:
    write_typed(folder / name, array, dtype)
    with pytest.raises(CorruptDataset, match=f"{name}: {words}"):
        loaders.load(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html><html><body>404", "an HTML page, not data"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs, not the data; run: git lfs"),
        (b"outs:\n- md5: 1234", "a pointer of dvc, not the data; run: dvc pull"),
        (b"PK\x03\x04\x14\x00", "a zip archive; unpack it"),
        (b"BZh91AY&SY", "compressed by bzip2; unpack it"),
        (gzip.compress(b"x", mtime=0), "compressed by gzip twice"),
        (b"\x93NUMPY\x01\x00", "an array of NumPy's"),
        ("Zugriff verweigert: 403 \u00fc".encode(), "but text: 'Zugriff verweigert"),
        (b"\x1b[2J\x80\x81", "not an IDX file: it begins with the bytes 1b 5b 32 4a"),
        (b"\0\0\x08\xff" * 600, "not an IDX file of images: its array has 255 axes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "which can't be"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_data_is_called_what_it_is(
    folder: Path, content: bytes, words: str, packed: bool
) -> None:
    (folder / IMAGES).write_bytes(gzip.compress(content) if packed or "twice" in words else content)
    with pytest.raises(CorruptDataset, match=f"{IMAGES}: .*{words}"):
        loaders.load(folder)


def test_a_split_that_is_not_there_is_missed_where_it_is_wanted(folder: Path) -> None:
    for name in (IMAGES, LABELS):
        (folder / name).unlink()
    assert len(loaders.load(folder, "test")) == 10
    lacks = f"lacks {IMAGES}, {LABELS} .or .gz.; it holds {TEST_IMAGES}, {TEST_LABELS}"
    with pytest.raises(DatasetNotFound, match=lacks):
        loaders.load(folder)
    with pytest.raises(DatasetNotFound, match=lacks):
        loaders.rows_of(OneAgainstRest(loaders.open_source(folder), 3), "train")


def test_what_is_there_is_told_where_nothing_fits(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02}\x1b[2J.doc").touch()
    with pytest.raises(DatasetNotFound, match=r"it holds 00 \[2J.doc, .*07 \[2J.doc and 4 more"):
        loaders.load(tmp_path)
    for name in (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS):
        (tmp_path / f"{name}.dvc").write_text("outs:\n")
    with pytest.raises(DatasetNotFound, match="run dvc pull"):
        loaders.load(tmp_path)


@pytest.mark.parametrize("target", ["loop", "nowhere", "/proc/1/cwd", "/proc/self/mem", "."])
def test_a_link_that_leads_nowhere_hides_no_files(target: str, folder: Path) -> None:
    """A folder with one link to where nobody may look could not be read."""
    (folder / "loop").symlink_to(target)
    assert len(loaders.load(folder)) == 20


def test_what_bears_the_name_of_a_file_and_is_none_is_told(folder: Path) -> None:
    """It was said to be missing, and to be there."""
    (folder / LABELS).unlink()
    (folder / LABELS).symlink_to(".git/annex/objects/x")
    with pytest.raises(DatasetNotFound, match=rf"{LABELS} \(a link that leads nowhere\)"):
        loaders.load(folder)
    (folder / LABELS).unlink()
    os.mkfifo(folder / LABELS)
    with pytest.raises(DatasetNotFound, match=rf"{LABELS} \(no file\)"):
        loaders.load(folder)


def test_a_folder_that_may_not_be_looked_into_is_not_said_to_be_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)  # root may look everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DatasetNotFound, match=f"{folder} can't be looked into"):
        loaders.load(folder)


def test_images_of_no_pixels_are_told(folder: Path) -> None:
    write_idx(folder / IMAGES, np.zeros((20, 0, 28), np.uint8))
    with pytest.raises(CorruptDataset, match="images of no pixels"):
        loaders.load(folder)


def test_a_label_that_makes_a_million_classes_is_told(folder: Path) -> None:
    """Every model has weights for each class: jobs failed for lack of memory, time and again."""
    labels = np.zeros(20, np.int64)
    for most in (9_999, 10_000, 999_999):
        labels[0] = most
        write_typed(folder / LABELS, labels, "i4")
        if most < 10_000:
            assert len(loaders.load(folder).form.classes) == most + 1
            continue
        with pytest.raises(CorruptDataset, match=f"a label of {most:,} among 30 rows"):
            loaders.load(folder)


def test_python_mnists_arrays_may_be_written_and_a_runs_may_not(folder: Path) -> None:
    for images, labels in (MNIST(str(folder)).load_training(), MNIST(str(folder)).load_testing()):
        images[0], labels[0] = 7, 7
    with pytest.raises(ValueError, match="read-only"):
        loaders.load(folder).arrays["image"][0] = 7


def _mutated(content: bytes, chance: random.Random) -> bytes:
    """Return a file's content, damaged in one of the ways that files are."""
    changed = bytearray(content)
    place = chance.randrange(min(len(changed), chance.choice([4, 24, len(changed)])))
    how = chance.randrange(5)
    if how == 0:
        del changed[place:]
    elif how == 1:
        changed[place:place] = chance.randbytes(chance.randrange(1, 600))
    elif how == 2:
        changed[place : place + 4] = chance.choice([b"\xff" * 4, b"\0\0\0\0", b"\x7f\xff\xff\xff"])
    else:
        for _ in range(chance.choice([1, 1, 3, 20])):
            changed[place] = chance.randrange(256)
            place = chance.randrange(min(len(changed), 32))
    return bytes(changed)


def test_no_damage_to_a_file_does_anything_but_be_told(tmp_path: Path) -> None:
    chance, array = random.Random(1), np.random.default_rng(1)
    files, file = [], tmp_path / "file"
    for dtype in _TYPES:
        for read, shape in ((read_images, (5, 6, 4)), (read_labels, (9,)), (read_labels, (4, 8))):
            write_typed(file, array.integers(0, 99, shape), dtype)
            files += [(read, file.read_bytes()), (read, gzip.compress(file.read_bytes()))]
    told, begun = 0, time.process_time()
    tracemalloc.start()
    try:
        for number in range(3_000):
            read, content = files[number % len(files)]
            file.write_bytes(_mutated(content, chance))
            try:
                assert read(file).size < 10_000
            except LoaderError as error:
                told += str(file) in str(error)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 20
    assert 1_000 < told < 3_000
