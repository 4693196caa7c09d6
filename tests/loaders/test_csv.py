"""Tables in text, however they are written: cells, names, labels, pixels, texts and gaps."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loaders
from loaders import (
    CorruptDataset,
    DatasetNotFound,
    Field,
    LoaderError,
    Numbered,
    ReadingOptions,
    Rows,
    delimited,
)
from loaders.delimited import read_csv
from loaders.rows import ArraySource, Source
from loaders.sources import open_rows

IRIS = "5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,versicolor\n"
NAN = float("nan")


def table(
    path: Path, text: str | bytes, label: str | None = None, leave_out: tuple[str, ...] = (),
    **options: Any,
) -> Source:  # fmt: skip
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    reading = ReadingOptions(label=label, leave_out=leave_out)
    return loaders.open_source(path, reading=reading, **options)


def only(source: Source, split: str = "train") -> np.ndarray:
    (array,) = source.read(split, slice(None)).values()
    return array


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


PLAIN = "height,width,class\n1.5,2,b\n2,-3e1,a\n"
WRITTEN = {
    "plain": PLAIN.encode(),
    "without an end": PLAIN.rstrip().encode(),
    "windows": PLAIN.replace("\n", "\r\n").encode(),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": PLAIN.encode("utf-16"),
    "packed": gzip.compress(PLAIN.encode()),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "decimal commas": PLAIN.replace(",", ";").replace(".", ",").encode(),
    "as Excel says": b"sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n").encode(),
    "as Excel says, UTF-16": ('"sep=|"\n' + PLAIN.replace(",", "|")).encode("utf-16"),
    "as Excel says, one line": b"SEP=:\n" + PLAIN.replace(",", ":").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "quoted": b'"height","width","class"\n"1.5","2","b"\n"2","-3e1","a"\n',
    "spaces": PLAIN.replace(",", ", ").encode(),
    "blank lines": PLAIN.replace("\n", "\n\n").encode(),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_table_is_what_it_says_however_it_is_written(how: str, file: Path) -> None:
    source = table(file, WRITTEN[how])
    assert source.form.fields == {"row": Field("float64", (2,), ("height", "width"))}
    assert source.form.classes == ("a", "b")
    assert only(source).tolist() == [[1.5, 2], [2, -30]]
    assert source.labels("train").tolist() == [1, 0]
    if "utf-16" not in how.lower():  # by what is in it, not by its name
        assert table(file.with_name("table.data"), WRITTEN[how]).digest == source.digest


def test_text_is_a_column_for_each_and_what_is_missing_is_nan(file: Path) -> None:
    source = table(
        file,
        'colour,size,"a ""name"", quoted",y\nred,1,x,0\n,?,"x\ny",1\nblue,NA, x ,0\nred,,N/A,1\n',
    )
    (field,) = source.form.fields.values()
    assert field.columns == (
        "colour=blue", "colour=red", "size", 'a "name", quoted=x', 'a "name", quoted=x y',
    )  # fmt: skip
    np.testing.assert_array_equal(
        only(source),
        [[0, 1, 1, 1, 0], [NAN, NAN, NAN, 0, 1], [1, 0, NAN, 1, 0], [0, 1, NAN, NAN, NAN]],
    )


def test_the_label_is_named_or_numbered_or_called_as_it_mostly_is(file: Path) -> None:
    for name in ("Label", "CLASS", "target", "y"):
        assert table(file, f"a,{name},b\n1,5,2\n3,7,4\n").form.classes == ("5", "7")
    text = "y,a,class\n1,5,u\n2,6,v\n"
    assert table(file, text).form.classes == ("u", "v")
    for label, classes in (("a", ("5", "6")), ("0", ("1", "2")), ("-1", ("u", "v"))):
        assert table(file, text, label).form.classes == classes
    assert table(file, "u,v,w\n2,3,9\n3,4,8\n", "1").form.classes == ("3", "4")
    with pytest.raises(DatasetNotFound, match="there is no column 'b'; its 3 columns are y, a, cl"):
        table(file, text, "b")
    with pytest.raises(DatasetNotFound, match="there is no column '3'"):
        table(file, text, "3")
    wanted = "no column is called label, class, target or y; its 2 columns are a, b; say .*--label"
    with pytest.raises(DatasetNotFound, match=wanted):
        table(file, "a,b\n1,2\n")


def test_a_first_line_that_is_data_is_a_row(file: Path) -> None:
    source = table(file, IRIS, "-1")
    assert source.splits == {"train": 3}
    assert source.form.fields == {"row": Field("float64", (2,), ("0", "1"))}
    wanted = (
        "of columns without names none .* its 3 columns are 0, 1, 2; its first row: 5.1, 3.5, s"
    )
    with pytest.raises(DatasetNotFound, match=wanted):
        table(file, IRIS)
    letters = table(file, "p,x,s\ne,x,y\np,b,s\n", "0")  # texts alone, and they come again
    assert letters.splits == {"train": 3}
    assert letters.form.classes == ("e", "p")
    votes = table(file, "republican,n,y\ndemocrat,y,n\nrepublican,n,y\n", "0")  # y is for yes
    assert votes.splits == {"train": 3}
    mixed = table(file, "y,0,1\n5,1,2\n6,3,4\n")
    assert mixed.form.fields["row"].columns == ("0", "1")


def test_columns_of_a_data_frame(file: Path) -> None:
    said: list[str] = []
    source = table(file, ",a,label\n0,5,1\n1,6,0\n", say=said.append)
    assert source.form.fields["row"].columns == ("a",)
    assert said == [f"{file}: column '' numbers the rows: left out"]
    numbered = table(file, "0,1,2,3,4,5,6,7,8\n" + "9,9,9,9,9,9,9,9,1\n" * 3, "8")
    assert numbered.splits == {"train": 3}
    twice = table(file, "a,a,a.1,y\n1,2,3,0\n4,5,6,1\n")
    assert twice.form.fields["row"].columns == ("a", "a.1", "a.1.1")


def test_a_column_that_has_a_text_further_down_is_of_texts(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK", 1 << 16)
    rows = "1,2,0\n" * 50_000  # some blocks of numbers alone
    source = table(file, f"a,b,y\n{rows}1,x,1\n")
    assert source.form.fields["row"].columns == ("a", "b=2", "b=x")
    assert source.splits == {"train": 50_001}
    assert only(source)[-1].tolist() == [1, 0, 1]
    finer = table(file, f"a,b,y\n{rows}1.5,-2,1\n")
    assert only(finer)[-1].tolist() == [1.5, -2]
    late = table(file, f"a,b,y\n{rows}1,,1\n")
    np.testing.assert_array_equal(only(late)[-1], [1, NAN])
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "train.csv").write_text("a,y\n1,0\n2,1\n")
    (folder / "test.csv").write_text("a,y\n1,0\nx,1\n")
    both = loaders.open_source(folder)
    assert both.form.fields["row"].columns == ("a=1", "a=2", "a=x")
    assert only(both, "test").tolist() == [[1, 0, 0], [0, 0, 1]]


def pixels(source: ArraySource, split: str, head: str = "", order: int = 1) -> str:
    """Return pictures as lines of text, labels first."""
    rows = only(source, split).reshape(source.splits[split], -1)
    lines = np.concatenate([source.labels(split)[:, None], rows], 1)[:, ::order]
    return head + "".join(",".join(map(str, line)) + "\n" for line in lines.tolist())


@pytest.fixture
def pictures() -> ArraySource:
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (30, 8, 8), np.uint8)
    labels = np.arange(30) % 10
    return loaders.from_arrays(rows, labels, rows[:10], labels[:10])


@pytest.mark.parametrize(
    "head",
    ["", "label," + ",".join(f"pixel{k}" for k in range(64)) + "\n",
     "label," + ",".join(f"{k // 8 + 1}x{k % 8 + 1}" for k in range(64)) + "\n",
     "label," + ",".join(f'"{k}"' for k in range(64)) + "\n"],
    ids=["none", "Kaggle's", "by row and column", "numbers"],
)  # fmt: skip
def test_columns_of_pixels_are_pictures(head: str, pictures: ArraySource, tmp_path: Path) -> None:
    (tmp_path / "mnist_train.csv").write_text(pixels(pictures, "train", head))
    (tmp_path / "mnist_test.csv").write_text(pixels(pictures, "test", head))
    said: list[str] = []
    source = loaders.open_source(tmp_path, said.append)
    assert source.digest == pictures.digest
    assert "64 columns of whole numbers from 0 to 255 are taken as pixels, 8 x 8" in said[0]


def test_what_may_be_no_pixels_is_a_table(pictures: ArraySource, file: Path) -> None:
    names = [f"pixel{k}" for k in range(64)]
    text = pixels(pictures, "train", ",".join(["label", *names]) + "\n")
    assert table(file, text.replace(",7,", ",7.5,")).form.image is None
    assert table(file, text.replace(",7,", ",,")).form.image is None
    assert table(file, text.replace(",7,", ",256,")).form.image is None
    assert table(file, text.replace("pixel5,", "size,")).form.image is None
    flags = ",".join(["label", *names]) + "\n" + ("1," * 64 + "0\n") * 3
    assert table(file, flags).form.image is None
    with pytest.raises(DatasetNotFound, match="of columns without names"):
        table(file, "7,1,2,3,4\n5,9,9,9,9\n")  # 2 x 2? nobody knows


def test_a_test_set_without_labels_is_none(pictures: ArraySource, tmp_path: Path) -> None:
    head = "label," + ",".join(f"pixel{k}" for k in range(64)) + "\n"
    (tmp_path / "train.csv").write_text(pixels(pictures, "train", head))
    unlabelled = [line.partition(",")[2] for line in pixels(pictures, "test", head).splitlines()]
    (tmp_path / "test.csv").write_text("\n".join(unlabelled))
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    said: list[str] = []
    source = loaders.open_source(tmp_path, said.append)
    assert source.splits == {"train": 30}
    assert getattr(source, "absent", {}) == {}
    assert f"{tmp_path}: sample_submission.csv: left out" in said
    assert f"{tmp_path / 'test.csv'}: it has no column 'label': its rows are no test set" in said


def test_tables_of_both_splits_are_of_one_form(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("a,colour,y\n1,red,0\n2,blue,1\n")
    test.write_text("y,more,colour,a\n1,9,green,5\n")
    said: list[str] = []
    source = loaders.open_source(tmp_path, said.append)
    assert source.form.fields["row"].columns == ("a", "colour=blue", "colour=green", "colour=red")
    assert only(source, "test").tolist() == [[5, 0, 1, 0]]
    assert said == [f"{test}: more: left out, because {train} has it not"]
    test.write_text("y,colour\n1,green\n")
    with pytest.raises(CorruptDataset, match="test.csv lacks the columns 'a', which .*train.csv"):
        loaders.open_source(tmp_path)


def test_parts_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for k in (10, 2, 1):
        (tmp_path / f"train-{k}-of-10.csv").write_text(f"a,y\n{k},0\n{k},1\n")
    (tmp_path / "validation.csv").write_text("a,y\n1,0\n")
    said: list[str] = []
    source = loaders.open_source(tmp_path, said.append)
    assert only(source)[:, 0].tolist() == [1, 1, 2, 2, 10, 10]
    assert said == [f"{tmp_path}: validation.csv: left out"]
    (tmp_path / "train-3-of-10.csv").write_text("a,b,y\n1,2,0\n")
    with pytest.raises(CorruptDataset, match="train-3-of-10.csv has other columns"):
        loaders.open_source(tmp_path)


def test_of_several_tables_one_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("a,y\n1,0\n2,1\n")
    with pytest.raises(DatasetNotFound, match="holds a.csv, b.csv; name one of them, or call them"):
        loaders.open_source(tmp_path)
    assert loaders.open_source(tmp_path / "a.csv").splits == {"train": 2}
    (tmp_path / "a.csv").unlink()
    assert loaders.open_source(tmp_path).splits == {"train": 2}
    for name in ("u", "v"):
        (tmp_path / f"{name}_train.csv").write_text("a,y\n1,0\n2,1\n")
    with pytest.raises(DatasetNotFound, match="holds 2 data sets, by the names of its files"):
        loaders.open_source(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,y\n1,0\n1,2,3\n", "line 3 has 3 cells, the first has 2: '1,2,3'"),
        ("a,y\n" + "1,0\n" * 40_000 + "1\n", "line 40,002 has 1 cells, the first has 2: '1'"),
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("a,y\n", "it holds no rows, only the names of columns"),
        ("<!DOCTYPE html><html></html>", "an HTML page, not data"),
        ("version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs, not the data; run"),
        ("a,y\n1,0\n2,\n", "column 'y' of .*: row 1 has no label"),
        ("a,y\n1,0\n2,0.5\n", "column 'y' of .*: row 1 has the label 0.5"),
        ("a,y\n1,b\n2,\n", "column 'y' of .*: row 1 has no label"),
        ("y\n1\n0\n", "beside its label it has no columns"),
        ("id,y\n" + "".join(f"n{k},{k % 2}\n" for k in range(1001)),
         r"column 'id' has 1,001 different texts .*n0.*an id, or .*\? --leave-out id leaves it"),
        ("sep=;\na;y\n1;0\n1;2;3\n", "line 4 has 3 cells, the first has 2: '1;2;3'"),
        ("sep=;\n", "it is empty"),
        (b"a,y\n1,\xff\n", "no text in UTF-8: .*; save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not a table in text: it begins with 89 50 4e 47"),
        (gzip.compress(b"a,y\n1,0\n", mtime=0)[:-9], "can't be read: "),
        ('a,y\n1,"0\n', "can't be read: unexpected end of data"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_told(
    text: str | bytes, words: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "_BLOCK", 1 << 16)
    with pytest.raises(CorruptDataset, match=f"table.csv.*{words}"):
        table(file, text)


IDS = "id,name,size,class\n" + "".join(f"{k},n {k},{k % 7},{k % 2}\n" for k in range(1500))


@pytest.mark.parametrize("leave_out", [("id", "name"), ("name", "0"), ("-4", "1", "id")])
def test_columns_are_left_out_by_name_or_number(file: Path, leave_out: tuple[str, ...]) -> None:
    source = table(file, IDS, leave_out=leave_out)
    assert source.form.fields == {"row": Field("float64", (1,), ("size",))}
    assert only(source)[:3].tolist() == [[0], [1], [2]]
    assert source.labels("train").tolist() == [0, 1] * 750


def test_of_columns_left_out_none_is_the_label_and_none_is_looked_at(tmp_path: Path) -> None:
    """What has a number in one part and a text in the other is nobody's business."""
    text = "code,label,a,y\n1,7,0.5,a\n2,8,1,b\n"
    source = table(tmp_path / "t.csv", text, leave_out=("label", "code"))
    assert source.form.classes == ("a", "b")
    (tmp_path / "parts").mkdir()
    for name, code in (("train", "1"), ("test", "A1")):
        table(tmp_path / "parts" / f"{name}.csv", f"code,a,y\n{code},1,0\n{code},2,1\n")
    reading = ReadingOptions(leave_out=("code",))
    source = loaders.open_source(tmp_path / "parts", reading=reading)
    assert (source.splits, source.form.fields["row"].columns) == ({"train": 2, "test": 2}, ("a",))


def test_pixels_beside_an_id_are_pixels(file: Path) -> None:
    names = ",".join(f"pixel{k}" for k in range(4))
    source = table(file, f"id,label,{names}\n7,1,0,1,2,3\n8,0,4,5,6,255\n", leave_out=("id",))
    assert source.form.fields == {"image": Field("uint8", (2, 2))}


@pytest.mark.parametrize(
    ("label", "leave_out", "error", "words"),
    [
        (None, ("nmae",), DatasetNotFound,
         r"no column 'nmae' to leave out \(--leave-out\); its 4 columns are id, name, size, class"),
        (None, ("id", "9"), DatasetNotFound, "no column '9' to leave out"),
        ("class", ("name", "3"), LoaderError, "column 'class' can't be the label .* and left out"),
        (None, ("id", "name", "size"), CorruptDataset, "beside its label it has no columns"),
        (None, ("class",), DatasetNotFound, "no column is called label, class"),
    ],
)  # fmt: skip
def test_what_can_not_be_left_out_is_told(
    file: Path, label: str | None, leave_out: tuple[str, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        table(file, IDS, label, leave_out)


def test_rows_for_a_model_have_its_columns_whatever_else_there_is(file: Path) -> None:
    said: list[str] = []
    table(file, IDS, leave_out=("id", "name"))
    more = "when,name,size,other,class\n" + "".join(f"d{k},n{k},3,t{k},0\n" for k in range(1500))
    for columns in (["size"], ["size", "width"]):  # width is not there, which is told later
        source = table(file, more, leave_out=("id", "name"), columns=columns, say=said.append)
        assert source.form.fields["row"].columns == ("size",)
    assert said == [f"{file}: 'when', 'other': left out, the model does not know them"] * 2
    rows = open_rows(file, ["size"], said.append, ReadingOptions(leave_out=("id", "name")))
    assert only(rows, "all").tolist() == [[3.0]] * 1500
    assert said[-1] == f"{file}: 'when', 'other', 'class': left out, the model does not know it"


@pytest.mark.cost
@pytest.mark.lane("deep")
def test_mnist_is_read_in_a_few_seconds(mnist: Rows, file: Path) -> None:
    labels, rows = mnist.labels[:, None], mnist.arrays["image"].reshape(60_000, -1)
    with file.open("w") as out:
        for line in np.concatenate([labels, rows], 1).tolist():
            out.write(",".join(map(str, line)) + "\n")
    begun = time.process_time()
    found = read_csv(file)
    assert time.process_time() - begun < 5  # 1.3 s where nothing else runs
    assert found.numbers.dtype == np.uint8
    assert loaders.open_source(file).form.classes == Numbered(10)


def test_tables_of_very_many_columns_are_read_in_seconds(tmp_path: Path) -> None:
    """As those of genes: twenty thousand columns, in a line that is longer than a cell may be."""
    names = [f"gene{number}" for number in range(20_000)]
    values = (np.arange(4 * len(names)) % 977 / 8).reshape(4, -1)
    lines = [",".join([*names, "label"])]
    lines += [",".join([*map(str, row), str(k % 2)]) for k, row in enumerate(values.tolist())]
    (tmp_path / "wide.csv").write_text("\n".join(lines) + "\n")
    begun = time.process_time()
    source = loaders.open_source(tmp_path / "wide.csv")
    assert time.process_time() - begun < 5  # 0.6 s; 15 s where each column is looked up in a list
    assert source.form.fields["row"].columns == tuple(names)
    assert np.array_equal(source.read("train", slice(None))["row"], values)


def test_columns_of_one_name_are_told_apart(file: Path) -> None:
    file.write_text(",".join([*["a"] * 3, "a.1", "label"]) + "\n1,2,3,4.5,x\n1,2,3,4.5,y\n")
    columns = loaders.open_source(file).form.fields["row"].columns
    assert columns == ("a", "a.1", "a.2", "a.1.1")
    many = 50_000
    begun = time.process_time()
    names, row = ",".join([*["a"] * many, "label"]), ",".join([*["1.5"] * many, "x"])
    file.write_text(f"{names}\n{row}\n")
    assert len(read_csv(file).columns) == many + 1
    assert time.process_time() - begun < 10


def test_every_part_counts_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.sources.MOST_ENTRIES", 10)
    for number in range(25):
        (tmp_path / f"train-{number:02}.csv").write_text(f"a,label\n{number}.5,{number % 2}\n")
    rows = loaders.load(tmp_path)
    assert rows.arrays["row"][:, 0].tolist() == [number + 0.5 for number in range(25)]


def test_a_line_without_an_end_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.delimited._LONGEST", 1 << 17)
    with gzip.open(tmp_path / "t.csv.gz", "wb", 1) as file:
        file.write(b"a,b,label\n1,x,2\n" + b"3,y,4\n" * 20_000 + b"0" * (1 << 20))
    with pytest.raises(CorruptDataset, match="a line of it does not end"):
        loaders.open_source(tmp_path / "t.csv.gz")


def test_labels_that_float64_has_not_are_not_made_one(file: Path) -> None:
    file.write_text("a,label\n1.5,9007199254740993\n2.5,9007199254740992\n")
    with pytest.raises(CorruptDataset, match="two may be one"):
        loaders.open_source(file)


@pytest.mark.parametrize("other", ["train.csv.gz", "TRAIN.csv", "training.tsv", "train/0.csv.gz"])
def test_a_copy_is_no_further_part(other: str, tmp_path: Path) -> None:
    """Rows would be learned from twice."""
    text = b"a,b,label\n1.5,2,x\n3.5,4,y\n"
    copy = tmp_path / other
    copy.parent.mkdir(exist_ok=True)
    first = copy.parent / ("0.csv" if other.startswith("train/") else "train.csv")
    first.write_bytes(text)
    copy.write_bytes(gzip.compress(text) if other.endswith("gz") else text)
    with pytest.raises(CorruptDataset, match="may both be the same rows; keep one of them"):
        loaders.open_source(tmp_path)


def test_texts_of_too_many_kinds_take_no_memory(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.tables.MOST_COLUMNS", 50)
    rows = [",".join([*(f"t{row + k}" for k in range(6)), "x"]) for row in range(10)]
    file.write_text("\n".join(["a,b,c,d,e,f,label", *rows]) + "\n")
    with pytest.raises(CorruptDataset, match="6 columns of texts would become 60 columns"):
        loaders.open_source(file)
