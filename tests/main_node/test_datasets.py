"""`mnist-datasets`: what a person sees of some data, at any width and on any stream."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.text import Text

from console.exits import Exit
from loaders import ArraySource, Field, Form, Numbered, concerns, examine, known, load
from loaders.splits import with_test
from main_node.commands import sheet
from main_node.commands.examined import CLASSES, COLUMNS, ENDS, show

from ..conftest import make_idx_folder
from ..processes import here, run

DATASETS = "main_node.commands.datasets:main"
WIDTHS = (40, 60, 80, 140)


def check(*arguments: str, **env: str) -> Any:
    return here(DATASETS, "check", *arguments, env={"COLUMNS": "80", **env})


def screen(source: Any, width: int = 80, encoding: str = "utf-8") -> list[str]:
    """Return the lines that a person sees of a source."""
    found = examine(source)
    output = io.BytesIO()
    stream = io.TextIOWrapper(output, encoding, errors="replace")
    show(found, concerns(found), "a made one", "", Console(file=stream, width=width))
    stream.flush()
    return [line.rstrip() for line in output.getvalue().decode(encoding).splitlines()]


def pictures(
    classes: int = 10, rows: int = 300, shape: tuple[int, ...] = (8, 8), dtype: str = "uint8",
    names: Any = None, most: float = 255,
) -> ArraySource:  # fmt: skip
    random = np.random.default_rng(0)
    form = Form({"image": Field(dtype, shape)}, names or Numbered(classes))
    splits = {
        split: (
            {"image": (random.random((many, *shape)) * most).astype(dtype)},
            np.arange(many, dtype=np.int64) % classes,
        )
        for split, many in (("train", rows), ("test", rows // 3))
    }
    return ArraySource("mine", form, splits)


def table(columns: int = 9, names: Any = ("yes", "no")) -> ArraySource:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, columns))
    x[5, columns - 1] = np.nan
    form = Form({"row": Field("float64", (columns,))}, names)
    return ArraySource("mine", form, {"train": ({"row": x}, np.arange(200) % len(names))})


# One screen.


def test_mnists_shape_of_data_fits_one_screen() -> None:
    lines = screen(pictures(10, 3000, (28, 28)))
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "image: uint8 28 x 28; values 0 to 254" in text
    assert "✓ nothing stands against training" in text
    assert "largest : smallest = 1 : 1" in text
    assert re.search(r"^ +train +test +class train test$", text, re.MULTILINE)
    assert re.search(r"^rows +3,000 1,000 +0 +300 +100 █+", text, re.MULTILINE)
    assert text.count("█") > 100


SOURCES: dict[str, Callable[[], Any]] = {
    "grey": pictures,
    "colour": lambda: pictures(shape=(6, 6, 3)),
    "share": lambda: pictures(shape=(6, 6, 3), dtype="float32", most=1),
    "many": lambda: pictures(62, names=tuple(f"class of a name {each}" for each in range(62))),
    "table": lambda: with_test(table(), None, 0),
    "wide": lambda: with_test(table(784), None, 0),
    "names": lambda: pictures(3, names=("漢字の名前がとても長い", "[bold]x[/bold]", "\x1b[31m\n")),
    "two": lambda: ArraySource(
        "two", Form({"a": Field("uint8", (2, 2)), "b": Field("float32", ())}, Numbered(2)),
        {"train": ({"a": np.ones((4, 2, 2), np.uint8), "b": np.ones(4, np.float32)},
                   np.array([0, 1, 0, 1]))},
    ),
    "none": lambda: ArraySource(
        "none", Form({"image": Field("uint8", (2, 2))}, Numbered(10)),
        {"train": ({"image": np.ones((0, 2, 2), np.uint8)}, np.zeros(0, np.int64))},
    ),
    "nothing": lambda: ArraySource("nothing", Form({}, Numbered(10)), {}),
}  # fmt: skip


@pytest.mark.parametrize("width", [20, *WIDTHS])
@pytest.mark.parametrize("name", SOURCES)
def test_a_screen_fits_whatever_its_width(name: str, width: int) -> None:
    for encoding in ("utf-8", "ascii"):
        lines = screen(SOURCES[name](), width, encoding)
        assert max(Text(line).cell_len for line in lines) <= width
        text = " ".join(" ".join(lines).split())
        assert "against training" in text or width < 40
        assert "\x1b" not in text
        if encoding == "ascii":
            assert text.isascii()
            assert "####" in text or width < 40 or name in ("none", "nothing", "two")
        if width >= 40 and name not in ("none", "nothing", "two"):
            assert "largest : smallest" in text
            for word in ("copies", "contradictions", "also in train", "broken"):
                assert word in text


def test_of_many_classes_the_largest_and_smallest_are_told() -> None:
    names = tuple(f"c{each:02}" for each in range(40))
    labels = np.repeat(np.arange(30), np.arange(30) + 1)
    form = Form({"image": Field("uint8", (2, 2))}, names)
    x = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2), np.uint8)
    test = x[:3] // 2, np.array([0, 29, 31])
    source = ArraySource("mine", form, {"train": ({"image": x}, labels),
                                        "test": ({"image": test[0]}, test[1])})  # fmt: skip
    lines = screen(source)
    told = [word for line in lines for word in line.split() if word in names]
    assert told[: 2 * ENDS] == [f"c{each:02}" for each in (29, 28, 27, 26, 25, 3, 2, 1, 0, 31)]
    text = " ".join(" ".join(lines).split())
    assert f"... {31 - 2 * ENDS} more" in text
    assert "largest : smallest = 30 : 1; 1 not in train; 28 not in test; 9 of 40" in text
    assert CLASSES == 2 * ENDS


def test_of_a_table_odd_columns_come_first() -> None:
    lines = screen(with_test(table(9), None, 0))
    at = next(n for n, line in enumerate(lines) if line.startswith("column (of 9)"))
    assert lines[at].split()[3:] == ["least", "most", "mean", "deviation"]
    assert lines[at + 1].startswith("column 9 ") and lines[at + 1].endswith("1 missing")
    assert [line.split()[1] for line in lines[at + 2 : at + 1 + COLUMNS]] == list("12345")
    assert not lines[at + 1 + COLUMNS]
    assert "9 columns of float64" in "\n".join(lines)


# The command.


def test_a_folder_is_checked(idx_folder: Path) -> None:
    done = check(str(idx_folder))
    assert (done.returncode, done.stderr) == (0, "")
    rows = load(idx_folder)
    assert rows.source.digest in done.stdout
    told = " ".join(done.stdout.split())
    assert str(idx_folder) in done.stdout.replace("\n       ", "")
    assert "a folder of IDX files" in told
    assert f"{len(rows):,}" in done.stdout


def test_numbers_are_had_as_json(idx_folder: Path) -> None:
    done = check(str(idx_folder), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    train, test = load(idx_folder), load(idx_folder, "test")
    assert told["digest"] == train.source.digest
    for rows in (train, test):
        split = told["splits"][rows.split]
        assert (split["rows"], split["digest"]) == (len(rows), rows.digest)
        (part,) = split["fields"]["image"]["parts"]
        pixels = rows.arrays["image"]
        assert part["mean"] == pytest.approx(pixels.mean())
        assert part["deviation"] == pytest.approx(pixels.std())
        counts = {each["label"]: each["rows"][rows.split] for each in told["classes"]}
        assert {label: n for label, n in counts.items() if n} == {
            int(label): int(n)
            for label, n in zip(*np.unique(rows.labels, return_counts=True), strict=True)
        }
    assert told["what"] == "a folder of IDX files"
    assert told["where"] == str(idx_folder)
    assert told["trainable"]


def test_numbers_that_are_none_are_null() -> None:
    from main_node.commands.examined import as_values

    x = np.full((4, 2), np.nan)
    source = ArraySource(
        "nan", Form({"row": Field("float64", (2,))}, Numbered(2)),
        {"train": ({"row": x}, np.array([0, 1, 0, 1]))},
    )  # fmt: skip
    found = examine(source)
    text = json.dumps(as_values(found, concerns(found)), allow_nan=False)
    assert json.loads(text)["splits"]["train"]["fields"]["row"]["parts"][0]["mean"] is None


def test_a_test_set_is_drawn_as_a_run_draws_it(tmp_path: Path) -> None:
    make_idx_folder(tmp_path)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).unlink()
    done = check(str(tmp_path))
    assert done.returncode == Exit.DATA
    *_, last = done.stderr.splitlines()
    assert "lacks t10k-images-idx3-ubyte" in last
    assert "--test-fraction" in last
    assert "against training" in done.stdout  # what there is to see is shown all the same
    whole = load(tmp_path).source
    for seed in (0, 7):
        done = check(str(tmp_path), "--test-fraction", "0.3", "--seed", str(seed), "--json")
        assert done.returncode == 0, done.stderr
        assert f"--seed {seed}" in done.stderr
        assert json.loads(done.stdout)["digest"] == with_test(whole, 0.3, seed).digest
    again = check(str(tmp_path), "--json", MNIST_TEST_FRACTION="0.3", MNIST_SEED="7")
    assert json.loads(again.stdout) == json.loads(done.stdout)


def test_what_can_not_be_read_or_trained_from_is_exit_code_3(tmp_path: Path) -> None:
    done = check(str(tmp_path / "nowhere"), "--json")
    assert (done.returncode, done.stdout) == (Exit.DATA, "")
    assert "no such file or folder" in done.stderr
    make_idx_folder(tmp_path / "test")
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / "test" / name).unlink()
    done = check(str(tmp_path / "test"), "--json")
    assert done.returncode == Exit.DATA
    assert [each["kind"] for each in json.loads(done.stdout)["against"]] == ["no_train"]


def test_pictures_are_told_by_their_files_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for class_ in ("cat", "dog"):
        (tmp_path / class_).mkdir()
        for number in range(20):
            pixels = random.integers(0, 256, (6, 6, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / class_ / f"{class_}{number}.png")
    Image.new("RGB", (6, 6), "red").save(tmp_path / "cat" / "red.png")
    whole = (tmp_path / "cat" / "cat7.png").read_bytes()
    (tmp_path / "dog" / "copy.png").write_bytes(whole)
    seen = set()
    for seed in range(6):
        done = check(str(tmp_path), "--seed", str(seed), COLUMNS="200")
        assert done.returncode == 0, done.stderr
        assert "cat/red.png" in done.stdout
        line = next(line for line in done.stdout.splitlines() if "cat/cat7.png" in line)
        assert "dog/copy.png" in line
        seen.add("test row" in line)
        told = json.loads(check(str(tmp_path), "--seed", str(seed), "--json").stdout)
        blank = [split["blank"] for split in told["splits"].values() if split["blank"]["rows"]]
        assert blank[0]["first"][0]["called"] == "cat/red.png"
    assert seen == {False, True}


def test_a_table_is_told_by_its_columns(tmp_path: Path) -> None:
    lines = [f"{each},{each % 7 or ''},{'ab'[each % 2]},{each % 3}" for each in range(60)]
    (tmp_path / "t.csv").write_text("id,size,letter,label\n" + "\n".join(lines) + "\n")
    done = check(str(tmp_path / "t.csv"))
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "a row 4 columns of float64" in told
    assert "letter=a" in told and "letter=b" in told
    assert "in size (" in told
    assert "from row to row: id " in told
    assert str(tmp_path / "t.csv") in told.replace(" ", "")
    by_id = json.loads(check(str(tmp_path / "t.csv"), "--label", "letter", "--json").stdout)
    assert [each["class"] for each in by_id["classes"]] == ["a", "b"]
    sheet_ = check(str(tmp_path / "t.csv"), "--picture", str(tmp_path / "s.png"))
    assert (sheet_.returncode, sheet_.stdout) == (Exit.USAGE, "")
    assert "draws rows that are pictures" in sheet_.stderr


def test_a_tilde_is_a_home(tmp_path: Path) -> None:
    make_idx_folder(tmp_path / "digits")
    done = check("~/digits", "--json", "--picture", "~/sheet.png", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["where"] == str(tmp_path / "digits")
    assert (tmp_path / "sheet.png").exists()


def test_a_source_must_be_named() -> None:
    assert check(" ").returncode == Exit.USAGE
    assert check().returncode == Exit.USAGE


def test_a_stream_in_ascii_is_shown_all(idx_folder: Path) -> None:
    done = run(
        sys.executable, "-c", "import mnist_merge, sys; sys.argv[0] = 'x'; mnist_merge.datasets()",
        "check", str(idx_folder),
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict", "COLUMNS": "60"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "##" in done.stdout and "\\u" not in done.stdout


# Contact sheets.


def red_green_blue() -> ArraySource:
    """Return pictures of one colour for each class, light in one corner."""
    x = np.zeros((30, 8, 8, 3), np.uint8)
    y = np.arange(30) % 3
    x[np.arange(30), :, :, y] = 200
    x[:, :2, :2] = 255
    form = Form({"image": Field("uint8", (8, 8, 3))}, ("red $x", "green", "漢"))
    return ArraySource("colours", form, {"train": ({"image": x}, y)})


def drawn(source: Any, path: Path) -> np.ndarray:
    sheet.draw(source, examine(source), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), np.int64)


def test_a_sheet_shows_a_row_of_pictures_for_each_class(tmp_path: Path) -> None:
    pixels = drawn(red_green_blue(), tmp_path / "sheet.png")
    side = 56 + 3
    high, wide = pixels.shape[:2]
    assert (high, wide) == (34 + 3 * side + 3, 190 + sheet.EACH * side + 3)
    for class_ in range(3):
        for each in range(sheet.EACH):
            y, x = 34 + class_ * side, 190 + each * side
            tile = pixels[y : y + 56, x : x + 56]
            expected = np.zeros(3, np.int64)
            expected[class_] = 200
            assert np.array_equal(tile[40, 40], expected)
            assert np.array_equal(tile[5, 5], [255, 255, 255])
            assert np.array_equal(tile[55, 55], expected)
    assert (pixels[34:, :190] < 128).any()  # names
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("dtype", "most", "value", "seen"),
    [("uint8", 255, 51, 51), ("bool", 1, 1, 255), ("float32", 1, 0.2, 51), ("float32", 255, 51, 51),
     ("uint16", 65535, 13107, 51), ("int8", 127, 127, 127)],
)  # fmt: skip
def test_grey_of_any_numbers_is_drawn(
    tmp_path: Path, dtype: str, most: float, value: float, seen: int
) -> None:
    x = np.full((4, 7, 7), value).astype(dtype)
    x[1], x[3] = 0, np.array(most).astype(dtype)
    form = Form({"image": Field(dtype, (7, 7))}, Numbered(2))
    source = ArraySource("mine", form, {"train": ({"image": x}, np.array([0, 1, 0, 1]))})
    pixels = drawn(source, tmp_path / "sheet.png")
    assert np.abs(pixels[34 + 20, 190 + 20] - seen).max() <= 1
    assert np.array_equal(pixels[34 + 59 + 20, 190 + 20], [0, 0, 0])


def test_of_many_classes_twenty_are_drawn_and_large_pictures_are_made_smaller(
    tmp_path: Path,
) -> None:
    pixels = drawn(pictures(30, 60, (200, 100)), tmp_path / "sheet.png")
    assert pixels.shape[:2] == (34 + 20 * (112 + 3) + 3, 190 + 10 * (56 + 3) + 3)


def test_a_sheet_is_asked_for_where_it_can_be_drawn(tmp_path: Path, idx_folder: Path) -> None:
    path = tmp_path / "sheet.png"
    done = check(str(idx_folder), "--picture", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"drew {path}\n"
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    for odd in ("sheet.jpg", "nowhere/sheet.png", ".png/"):
        done = check(str(idx_folder), "--picture", str(tmp_path / odd))
        assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    (tmp_path / "sheet.png").chmod(0o400)
    assert check(str(idx_folder), "--picture", str(path)).returncode == 0  # a new one in its place
    assert not sheet.drawable(table().form)
    assert not sheet.drawable(pictures(shape=(4, 4, 2)).form)
    assert sheet.drawable(pictures(shape=(4, 4, 1)).form)


def test_a_sheet_that_can_not_be_written_is_told(
    tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sheet, "_write", full)
    path = tmp_path / "sheet.png"
    done = check(str(idx_folder), "--picture", str(path))
    assert done.returncode == Exit.STORAGE
    assert done.stderr == f"mnist-datasets: {path}: can't be written: No space left on device\n"
    assert "against training" in done.stdout


def umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


# Names.


def test_the_names_are_listed(tmp_path: Path) -> None:
    env = {"MNIST_CACHE": str(tmp_path)}
    told = json.loads(here(DATASETS, "list", "--json", env=env).stdout)
    assert {"mnist", "fashion-mnist", "emnist-letters", "cifar10", "digits"} <= {
        each["name"] for each in told
    }
    kept = {each["name"]: each["kept"] for each in told}
    assert kept["mnist"] == kept["emnist-digits"] == kept["cifar10"] == ""
    assert kept["digits"]
    (tmp_path / "mnist").mkdir()
    for name in known.MNIST.files:
        (tmp_path / "mnist" / name).write_bytes(b"")
    (tmp_path / "emnist" / "files").mkdir(parents=True)
    told = json.loads(here(DATASETS, "list", "--json", env=env).stdout)
    kept = {each["name"]: each["kept"] for each in told}
    assert kept["mnist"] == str(tmp_path / "mnist")
    assert kept["emnist-digits"] == str(tmp_path / "emnist" / "files")


@pytest.mark.parametrize("width", [20, *WIDTHS])
def test_the_list_fits_whatever_its_width(width: int, tmp_path: Path) -> None:
    env = {"MNIST_CACHE": str(tmp_path), "COLUMNS": str(width)}
    done = here(DATASETS, "list", env=env)
    lines = done.stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert any(line.startswith("emnist-bymerge") for line in lines)
    assert ("697,932 + 116,323" in done.stdout) == (width >= 36)
    assert ("CC BY-SA 3.0" in done.stdout) == (width >= 76)
    wide = here(DATASETS, "list", env={"MNIST_CACHE": str(tmp_path)}).stdout
    assert "COLUMNS" in os.environ or "https://ossci-datasets" in wide
