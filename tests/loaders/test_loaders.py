"""Data: what users give, what they get, and what they are told when it is wrong."""

from __future__ import annotations

import gzip
import shutil
import struct
import time
from pathlib import Path

import mnist as python_mnist
import numpy as np
import pytest

import loaders
from loaders import MNIST, CorruptDataset, DatasetNotFound, LoaderError, Rows
from loaders.fetching import fetch_mnist

from ..conftest import make_idx_folder, write_idx

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def test_mnist_is_what_it_should_be(mnist: Rows) -> None:
    images = mnist.arrays["image"]
    assert images.shape == (60000, 28, 28)
    assert images.dtype == np.uint8
    assert mnist.labels.dtype == np.int64
    assert mnist.classes == 10
    assert np.bincount(mnist.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    test = loaders.load("mnist", "test")
    assert len(test) == 10000
    assert mnist.digest == loaders.load("mnist").digest != test.digest


def test_the_training_set_is_parsed_in_a_tenth_of_a_second(mnist: Rows) -> None:
    folder = fetch_mnist()
    times = []
    for _ in range(3):
        begun = time.process_time()
        images, labels = MNIST(str(folder)).load_training()
        times.append(time.process_time() - begun)
    assert min(times) < 0.1
    assert (images.shape, images.dtype) == ((60000, 784), np.uint8)
    assert (labels.shape, labels.dtype.kind) == ((60000,), "i")
    np.testing.assert_array_equal(images.reshape(-1, 28, 28), mnist.arrays["image"])


def test_our_loader_reads_what_python_mnist_reads(idx_folder: Path) -> None:
    lists, labels = python_mnist.MNIST(str(idx_folder)).load_testing()
    ours, our_labels = MNIST(str(idx_folder)).load_testing()
    assert ours.tolist() == lists
    assert our_labels.tolist() == list(labels)
    batches = list(MNIST(str(idx_folder)).load_training_in_batches(100))
    assert [len(images) for images, _ in batches] == [100, 100]


@pytest.mark.parametrize("mode", ["randomly_binarized", "rounded_binarized"])
def test_binarized_modes_give_zeros_and_ones(idx_folder: Path, mode: str) -> None:
    images, _ = MNIST(str(idx_folder), mode=mode).load_testing()
    assert set(np.unique(images)) == {0, 1}


def test_compressed_files_are_read_with_and_without_being_told(tmp_path: Path) -> None:
    plain = make_idx_folder(tmp_path / "plain", 20, 10)
    packed = tmp_path / "packed"
    packed.mkdir()
    for file in plain.iterdir():
        (packed / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert loaders.load(packed).digest == loaders.load(plain).digest
    images, _ = MNIST(str(packed), gz=True).load_training()
    assert len(images) == 20


def test_a_folder_of_other_sizes_is_a_data_set(tmp_path: Path) -> None:
    folder = make_idx_folder(tmp_path / "wide", 30, 10, side=32)
    rows = loaders.load(str(folder), "train", limit=7)
    assert rows.arrays["image"].shape == (7, 32, 32)
    assert len(loaders.load(folder, "test")) == 10


def break_file(folder: Path, what: str) -> None:
    images, labels = folder / IMAGES, folder / LABELS
    content = images.read_bytes()
    if what == "cut":
        images.write_bytes(content[:-100])
    elif what == "header":
        images.write_bytes(content[:7])
    elif what == "nothing":
        images.write_bytes(b"")
    elif what == "long":
        images.write_bytes(content + b"x")
    elif what == "magic":
        images.write_bytes(struct.pack(">I", 1234) + content[4:])
    elif what == "swapped":
        shutil.copy(labels, images)
    elif what == "fewer labels":
        write_idx(labels, np.zeros(199, np.uint8))
    elif what == "not gzip":
        images.unlink()
        (folder / f"{IMAGES}.gz").write_bytes(b"not compressed at all")
    elif what == "cut gzip":
        images.unlink()
        (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(content)[:-20])
    elif what == "no rows":
        write_idx(images, np.zeros((0, 28, 28), np.uint8))
        write_idx(labels, np.zeros(0, np.uint8))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("cut", f"{IMAGES}: truncated: 156716 bytes where its header .* makes 156816"),
        ("header", f"{IMAGES}: truncated: 7 bytes"),
        ("nothing", f"{IMAGES}: truncated: 0 bytes"),
        ("long", f"{IMAGES}: too long"),
        ("magic", f"{IMAGES}: not an IDX file: it begins with the bytes 00 00 04 d2"),
        ("swapped", f"{IMAGES}: not an IDX file of images: its array has 1 axes .labels have"),
        ("fewer labels", "holds 200 images.*holds 199 labels"),
        ("not gzip", f"{IMAGES}.gz: not an IDX file, but text: 'not compressed at all'"),
        ("cut gzip", f"{IMAGES}.gz: can't be read"),
        ("no rows", "hold no rows"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, what: str, words: str) -> None:
    folder = make_idx_folder(tmp_path / "broken")
    break_file(folder, what)
    with pytest.raises(CorruptDataset, match=words):
        loaders.load(folder)


def test_a_folder_that_lacks_files_is_told_which(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="it is empty; a source is a name"):
        loaders.load(tmp_path)
    write_idx(tmp_path / IMAGES, np.zeros((1, 28, 28)))
    with pytest.raises(DatasetNotFound, match="lacks train-labels"):
        loaders.load(tmp_path)
    with pytest.raises(DatasetNotFound, match="no such file or folder; a source is"):
        loaders.load(tmp_path / "nowhere")
    whole = make_idx_folder(tmp_path / "ok")
    with pytest.raises(DatasetNotFound, match="no split 'validation'; there is train and test"):
        loaders.load(whole, "validation")
    with pytest.raises(LoaderError, match="limit of 0 rows"):
        loaders.load(whole, limit=0)


def test_a_file_address_is_of_this_machine(idx_folder: Path) -> None:
    for address in (f"file://{idx_folder}", f"file://localhost{idx_folder}"):
        assert loaders.open_source(address).digest == loaders.open_source(idx_folder).digest
    with pytest.raises(DatasetNotFound, match="file://photos: file:// is followed by a whole path"):
        loaders.open_source("file://photos")
