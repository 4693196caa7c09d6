"""Parquet: tables, lists of numbers, and pictures as Hugging Face's data sets have them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import loaders
from loaders import CorruptDataset, DatasetNotFound, Field, ReadingOptions
from loaders.rows import Source
from loaders.sources import open_rows

NAN = float("nan")
PICTURES = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
TRUTH = np.arange(12) % 3
WANTED = loaders.from_arrays(PICTURES, TRUTH, PICTURES[:5], TRUTH[:5]).digest


def png(picture: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


def faces(pictures: Any, labels: Any, classes: list[str] | None = None) -> pa.Table:
    """Return a table as Hugging Face's data sets have it."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    contents = [{"bytes": png(each), "path": "a.png"} for each in pictures]
    table = pa.table({"image": pa.array(contents, kind), "label": pa.array(labels)})
    if classes is None:
        return table
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": classes}}
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def written(path: Path, table: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path, **options)
    return path


def opened(path: Path, label: str | None = None, **options: Any) -> Source:
    return loaders.open_source(path, reading=ReadingOptions(label=label), **options)


def only(source: Source, split: str = "train") -> np.ndarray:
    (array,) = source.read(split, slice(None)).values()
    return array


def test_what_is_left_out_is_not_read(tmp_path: Path) -> None:
    """Neither a type that nothing can be learned from, nor pictures that are damaged."""
    table = {
        "when": pa.array([1, 2], pa.timestamp("s")), "photo": [b"no picture", b"neither"],
        "a": [1.5, 2.5], "label": [0, 1],
    }  # fmt: skip
    file = written(tmp_path / "a.parquet", table)
    with pytest.raises(CorruptDataset, match="'when' is of the type .*: --leave-out when leaves"):
        opened(file)
    reading = ReadingOptions(leave_out=("0", "photo"), label="-1")
    source = loaders.open_source(file, reading=reading)
    assert source.form.fields == {"row": Field("float64", (1,), ("a",))}
    assert source.labels("train").tolist() == [0, 1]
    assert only(loaders.open_source(file, columns=["a"])).tolist() == [[1.5], [2.5]]
    assert only(open_rows(file, ["a"]), "all").tolist() == [[1.5], [2.5]]


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-{}-of-3.parquet", "data/test-00000-of-00001.parquet"),
        ("default/train/{:04}.parquet", "default/test/0000.parquet"),
        ("train_{}.parquet", "test.parquet"),
    ],
)  # fmt: skip
def test_pictures_of_hugging_faces_are_found_in_their_order(
    names: tuple[str, str], tmp_path: Path
) -> None:
    for number, rows in ((1, slice(0, 4)), (2, slice(4, 5)), (10, slice(5, None))):
        table = faces(PICTURES[rows], TRUTH[rows], ["0", "1", "2"])
        written(tmp_path / names[0].format(number), table, row_group_size=3)
    written(tmp_path / names[1], faces(PICTURES[:5], TRUTH[:5], ["0", "1", "2"]))
    assert opened(tmp_path).digest == WANTED


def test_classes_are_called_as_the_files_say(tmp_path: Path) -> None:
    file = written(tmp_path / "a.parquet", faces(PICTURES, TRUTH, ["cat", "dog", "cow", "hen"]))
    assert opened(file).form.classes == ("cat", "dog", "cow", "hen")
    texts = faces(PICTURES, ["b", "a", "b"] * 4)
    file.rename(tmp_path / "no name")
    assert opened(tmp_path / "no name").form.classes == ("cat", "dog", "cow", "hen")
    assert opened(written(file, texts)).form.classes == ("a", "b")
    odd = texts.replace_schema_metadata({"huggingface": "{"})
    assert opened(written(file, odd)).form.classes == ("a", "b")
    few = faces(PICTURES, TRUTH, ["cat", "dog"])
    with pytest.raises(CorruptDataset, match="labels from 0 to 2, and there are names for 2 class"):
        opened(written(file, few))


def test_pictures_of_other_kinds(tmp_path: Path) -> None:
    file, said = tmp_path / "a.parquet", list[str]()
    colours = np.stack([PICTURES] * 3, 3)
    raw = {"img": [png(each) for each in colours], "id": range(12), "fine_label": TRUTH}
    source = opened(written(file, raw), "fine_label", say=said.append)
    assert source.digest == loaders.from_arrays(colours, TRUTH).digest
    assert said == [f"{file}: rows are made of column 'img'; id: left out"]
    mixed = {"img": [png(PICTURES[0]), png(colours[1])], "label": [0, 1]}
    source = opened(written(file, mixed), say=said.append)
    np.testing.assert_array_equal(only(source), colours[:2])
    assert "1 of 2 pictures are grey; they are put into colours" in said[-1]


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.uint8(), 64), pa.list_(pa.uint8()), pa.large_list(pa.uint8()),
     pa.list_(pa.list_(pa.uint8())), pa.list_(pa.list_(pa.uint8(), 8), 8),
     pa.list_(pa.list_(pa.int64()))],
    ids=str,
)  # fmt: skip
def test_lists_of_numbers_are_pictures(kind: pa.DataType, tmp_path: Path) -> None:
    nested = pa.types.is_list(kind.value_type) or pa.types.is_fixed_size_list(kind.value_type)
    rows = (PICTURES if nested else PICTURES.reshape(12, 64)).tolist()
    for split, count in (("train", 12), ("test", 5)):
        table = {"x": pa.array(rows[:count], kind), "y": [str(each) for each in TRUTH[:count]]}
        written(tmp_path / f"{split}.parquet", table, row_group_size=5)
    assert opened(tmp_path).digest == WANTED


@pytest.mark.parametrize("kind", [pa.uint8(), pa.int64(), pa.float64()], ids=str)
def test_columns_of_pixels_are_pictures(kind: pa.DataType, tmp_path: Path) -> None:
    for split, count in (("train", 12), ("test", 5)):
        flat = PICTURES[:count].reshape(count, 64)
        columns = {f"pixel{k}": pa.array(flat[:, k]).cast(kind) for k in range(64)}
        written(tmp_path / f"{split}.parquet", {"label": TRUTH[:count], **columns})
    assert opened(tmp_path).digest == WANTED


def test_a_table_is_that_of_the_same_csv(tmp_path: Path) -> None:
    columns = {
        "size": pa.array([1, None, 3], pa.int32()),
        "weight": pa.array([0.5, 2, None], pa.float32()),
        "old": pa.array([True, False, None]),
        "colour": pa.array(["red", None, "blue"]),
        "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
        "price": pa.array([1, 2, 3]).cast(pa.decimal128(30, 2)),
        "nothing": pa.nulls(3),
        "Class": pa.array([7, 9, 7]),
    }
    source = opened(written(tmp_path / "a.parquet", columns))
    (tmp_path / "a.csv").write_text(
        "size,weight,old,colour,kind,price,nothing,Class\n"
        "1,.5,1,red,u,1.00,,7\n,2,0,,v,2.00,,9\n3,,,blue,u,3.00,,7\n"
    )
    assert source.digest == opened(tmp_path / "a.csv").digest
    assert source.form.fields["row"].columns[2:5] == ("old", "colour=blue", "colour=red")
    np.testing.assert_array_equal(only(source)[1], [NAN, 2, 0, NAN, NAN, 0, 1, 2, NAN])
    assert source.form.classes == ("7", "9")


def test_a_label_that_is_true_or_false_is_of_two_classes(tmp_path: Path) -> None:
    file = written(tmp_path / "a.parquet", {"a": [1.0, 2.0], "y": [True, False]})
    assert opened(file).form.fields == {"row": Field("float64", (1,), ("a",))}
    assert opened(file).labels("train").tolist() == [1, 0]


def column(values: Any, kind: Any = None) -> dict[str, Any]:
    return {"a": pa.array(values, kind), "label": [0, 1]}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (column([0, 1], pa.date32()), r"column 'a' is of the type date32\[day\]; there are"),
        (column([[1], [1, 2]]), "column 'a' holds lists of 1 to 2; all must be of one length"),
        (column([[1], None]), "column 'a': some rows have nothing"),
        (column([[1], [None]]), "column 'a' holds lists of int64, some of them missing"),
        (column([["u"], ["v"]]), "column 'a' holds lists of string"),
        (column([{"x": 1}, {"x": 2}]), "column 'a' is of the type struct"),
        (column([b"hello", b"there"]), "row 0 of column 'a': not a picture"),
        (column([png(PICTURES[0]), None]), "row 1 of column 'a': there is no picture"),
        (column([png(PICTURES[0]), png(PICTURES[0])[:-30]]), "row 1 of column 'a': not a picture"),
        (column([png(PICTURES[0]), png(PICTURES[0, :4])]),
         "row 1 of column 'a' has 4 x 8 pixels, .*row 0 of column 'a' has 8 x 8; all must be of"),
        ({**column([png(PICTURES[0])] * 2), "b": [png(PICTURES[0])] * 2},
         "the columns a, b all hold arrays or pictures"),
        ({"a": [1, 2], "label": [[1], [2]]}, "column 'label', its label, holds arrays"),
        ({"a": pa.array([], pa.int64()), "label": pa.array([], pa.int64())}, "it holds no rows"),
    ],
)  # fmt: skip
def test_what_can_not_be_learned_from_is_told(table: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptDataset, match=f"a.parquet.*{words}"):
        opened(written(tmp_path / "a.parquet", table))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "a.parquet", {"a": range(100), "label": [0, 1] * 50})
    content = file.read_bytes()
    for broken in (content[:-20], content[:4], content[:100] + content[200:]):
        file.write_bytes(broken)
        with pytest.raises(CorruptDataset, match=r"a.parquet: can't be read"):
            opened(file)
    file.write_bytes(b"<html>")
    with pytest.raises(CorruptDataset, match="a.parquet: an HTML page"):
        opened(file)
    with pytest.raises(DatasetNotFound, match="no column is called label"):
        opened(written(file, {"a": [1], "b": [2]}))


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path) -> None:
    file = written(tmp_path / "a.parquet", {"a": [1], "label": [2]})
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import loaders\n"
        "try:\n    loaders.open_source(sys.argv[1])\n"
        "except loaders.DatasetNotFound as error:\n    print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert "pip install 'mnist-merge[parquet]'" in said


@pytest.mark.parametrize("encoded", [False, True])
def test_an_empty_text_is_nothing_as_in_csv(tmp_path: Path, encoded: bool) -> None:
    colours = pa.array(["red", "", "blue", " ", None, "red"])
    table = {"colour": colours.dictionary_encode() if encoded else colours, "label": [0, 1] * 3}
    source = opened(written(tmp_path / "t.parquet", table))
    assert source.form.fields["row"].columns == ("colour=blue", "colour=red")
    wanted = [[0, 1], [NAN] * 2, [1, 0], [NAN] * 2, [NAN] * 2, [0, 1]]
    np.testing.assert_array_equal(only(source), wanted)
