"""Pictures in folders by class: as tools write them, as people leave them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import loaders
from loaders import CorruptDataset, DatasetNotFound, LoaderError, Numbered
from main_node.commands.pictures import colour_picture, grey_picture

from ..conftest import make_idx_folder


def write_pictures(
    folder: Path, idx: Path, ending: str = "png", name: Callable[[int], str] = "{:05}".format
) -> Path:
    """Write an IDX folder's pictures into folders by class; return where they are."""
    source = loaders.open_source(idx)
    for split in source.splits:
        labels, images = source.labels(split), source.read(split, slice(None))["image"]
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{name(row)}.{ending}")
    return folder


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    return make_idx_folder(tmp_path / "idx", 60, 30)


@pytest.fixture
def folder(tmp_path: Path, idx: Path) -> Path:
    return write_pictures(tmp_path / "pictures", idx)


def test_pictures_are_the_rows_that_they_were_made_from(folder: Path, idx: Path) -> None:
    source = loaders.open_source(folder)
    assert source.form.classes == Numbered(10)
    assert source.digest == loaders.open_source(idx).digest


def test_numbers_in_names_are_numbers(tmp_path: Path, idx: Path) -> None:
    folder = write_pictures(tmp_path / "plain", idx, "bmp", "img{}".format)
    assert loaders.open_source(folder).digest == loaders.open_source(idx).digest


def test_grey_pictures_in_colours_are_grey(tmp_path: Path, folder: Path, idx: Path) -> None:
    for number, path in enumerate(sorted((folder / "train").glob("*/*.png"))):
        with Image.open(path) as image:
            kind = ("L", "RGB", "RGBA", "P")[number % 4]
            image.convert(kind).save(path)
    assert loaders.open_source(folder).digest == loaders.open_source(idx).digest


def colour(path: Path, size: tuple[int, int] = (6, 4), shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, shade, 10)).save(path)


def test_colours_and_the_names_of_classes_are_kept(tmp_path: Path) -> None:
    for name in ("cat", "dog", "äpfel"):
        for number in range(10):
            colour(tmp_path / name / f"{number}.png", shade=number)
    rows = loaders.load(tmp_path)
    assert rows.form.fields["image"].shape == (4, 6, 3)
    assert rows.form.classes == ("cat", "dog", "äpfel")
    assert rows.labels.tolist() == [0, 1, 2] * 10  # by the files' names, then the classes'
    assert rows.arrays["image"][::3, 0, 0].tolist() == [[200, shade, 10] for shade in range(10)]
    assert "test" not in rows.source.splits  # one is drawn where it is wanted


@pytest.mark.parametrize(
    ("names", "splits", "said"),
    [
        (("training", "testing"), {"train": 2, "test": 2}, ""),
        (("Train", "VAL"), {"train": 2, "test": 2}, "VAL is the test set"),
        (
            ("train", "test", "val"),
            {"train": 2, "test": 2},
            "test is the test set; val is not read",
        ),
        (("train",), {"train": 2}, ""),
        (("cat", "test"), {"train": 2}, ""),
    ],
)
def test_splits_are_folders(
    tmp_path: Path, names: tuple[str, ...], splits: dict[str, int], said: str
) -> None:
    told: list[str] = []
    for name in names:
        inner = ("a", "b") if splits != {"train": 2} or name == "train" else ("",)
        for class_ in inner:
            colour(tmp_path / name / class_ / "one.png")
    assert loaders.open_source(tmp_path, told.append).splits == splits
    assert told == [f"{tmp_path}: {said}"] * bool(said)


def test_classes_are_those_of_both_splits(tmp_path: Path) -> None:
    colour(tmp_path / "train" / "a" / "1.png")
    colour(tmp_path / "test" / "b" / "1.png")
    source = loaders.open_source(tmp_path)
    assert source.form.classes == ("a", "b")
    assert source.labels("test").tolist() == [1]


def test_pictures_of_several_sizes_are_scaled_and_that_is_said(tmp_path: Path) -> None:
    for number, size in enumerate([(30, 20), (200, 100), (80, 90)]):
        colour(tmp_path / "a" / f"{number}.jpg", size)
    told: list[str] = []
    rows = loaders.load(tmp_path, say=told.append)
    assert rows.form.fields["image"].shape == (64, 64, 3)
    assert "3 sizes, from 20 x 30 to 100 x 200 pixels; all are scaled to 64 x 64" in told[0]
    assert np.abs(rows.arrays["image"].astype(int) - (200, 0, 10)).max() < 8


def test_what_else_lies_about_is_left_out(folder: Path, idx: Path) -> None:
    (folder / "train" / "3" / "Thumbs.db").write_bytes(b"x")
    (folder / "train" / "3" / ".hidden.png").write_bytes(b"x")
    (folder / "train" / ".cache").mkdir()
    (folder / "readme.txt").write_text("hello")
    told: list[str] = []
    assert loaders.open_source(folder, told.append).digest == loaders.open_source(idx).digest
    assert told == [f"{folder}/train: 2 files in its folders of classes no picture, left out"]


@pytest.mark.parametrize("above", ["shapes", "images"])
def test_folders_may_be_alone_in_others_as_archives_are_unpacked(
    folder: Path, idx: Path, tmp_path: Path, above: str
) -> None:
    home = tmp_path / "unpacked"
    (home / above).parent.mkdir(parents=True)
    folder.rename(home / above)
    (home / "__MACOSX" / above / "train" / "1").mkdir(parents=True)
    (home / "__MACOSX" / above / "train" / "1" / "._00003.png").write_bytes(b"\0\5\x16\7")
    (home / "README.txt").write_text("pictures")
    said: list[str] = []
    found = loaders.open_source(home, said.append)
    assert found.digest == loaders.open_source(idx).digest
    assert f"its pictures are in {home / above}" in said[0]


def test_damaged_pictures_are_all_told(folder: Path) -> None:
    broken = sorted((folder / "train").glob("*/*.png"))[:7]
    for number, path in enumerate(broken):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number % 2 else b"<html>")
    with pytest.raises(CorruptDataset) as caught:
        loaders.load(folder)
    assert str(broken[0]) in str(caught.value)
    assert "and 2 more: replace 7 such files" in str(caught.value)


def test_a_class_without_pictures_is_told(folder: Path) -> None:
    (folder / "train" / "10").mkdir()
    (folder / "train" / "10" / "notes.txt").touch()
    with pytest.raises(DatasetNotFound, match=r"train/10: a class without a picture .* notes.txt"):
        loaders.load(folder)


def test_a_bomb_is_a_damaged_picture(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a" / "large.png")
    with pytest.raises(LoaderError, match="more than 100 million pixels"):
        loaders.load(tmp_path)


def test_pictures_beside_no_class_are_no_data(tmp_path: Path) -> None:
    colour(tmp_path / "one.png")
    with pytest.raises(DatasetNotFound, match="without data that is known: it holds one.png") as e:
        loaders.load(tmp_path)
    told = f"a folder for each class, whose name is the class's: {tmp_path}/cat/one.png"
    assert told in str(e.value)


def test_pictures_that_are_asked_about_are_made_as_those_that_were_learned_from(
    tmp_path: Path,
) -> None:
    """They were stretched, where those of the folder were cut to their proportions."""
    folder = photographs(tmp_path / "photos")
    with Image.open(folder / "a" / "0.png") as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(folder / "a" / "0.png")
    source = loaders.open_source(folder)
    rows = source.read("train", slice(None))["image"]
    files = sorted(folder.glob("*/*.png"), key=lambda each: int(each.stem))
    assert rows.shape[1:] == (60, 60, 3)
    for row, file in zip(rows, files, strict=True):
        assert np.array_equal(colour_picture(file, (60, 60)).pixels, row), file
    for file in files:  # of grey ones alone
        with Image.open(file) as image:
            dark = image.convert("RGB").convert("L").point(lambda level: level // 3)
        dark.save(file)
    rows = loaders.open_source(folder).read("train", slice(None))["image"]
    for row, file in zip(rows, files, strict=True):
        assert np.array_equal(grey_picture(file, (60, 60), whole=True).pixels, row), file


def photographs(folder: Path, count: int = 12) -> Path:
    """Write pictures of two sizes and two classes, grey and in colours."""
    for number in range(count):
        shape = ((60, 80, 3), (80, 60, 3), (70, 90))[number % 3]
        pixels = (np.arange(np.prod(shape)) * (number + 3) % 256).astype(np.uint8)
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.reshape(shape)).save(place / f"{number}.png")
    return folder


def test_pictures_for_which_there_is_no_room_are_read_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [loaders.open_source(each).digest for each in (photographs(tmp_path / "p"), folder)]
    for room in (0, 40_000):
        monkeypatch.setattr("loaders.sources.pictures._HELD", room)
        assert [loaders.open_source(each).digest for each in (tmp_path / "p", folder)] == wanted


def test_photographs_take_the_memory_of_what_is_made_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.sources.pictures._HELD", 1 << 18)
    (tmp_path / "a").mkdir()
    for number in range(20):
        size = (500, 501) if number % 2 else (501, 500)  # 750 kB each
        Image.new("RGB", size, (number, 7, 9)).save(tmp_path / "a" / f"{number}.png")
    tracemalloc.start()
    assert loaders.open_source(tmp_path).splits == {"train": 20}
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8_000_000  # of 15 MB


def test_a_picture_that_is_another_when_it_is_read_again_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.sources.pictures._HELD", 0)
    photographs(tmp_path)

    def say(line: str) -> None:  # all were looked at
        assert "all are scaled" in line
        Image.new("L", (9, 9)).save(tmp_path / "a" / "0.png")

    with pytest.raises(CorruptDataset, match=r"a/0\.png: it has changed while it was read"):
        loaders.open_source(tmp_path, say)
