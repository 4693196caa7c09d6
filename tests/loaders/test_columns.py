"""Columns of tables as a model knows them: by their names, in any order, with other texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import loaders
from loaders import CorruptDataset, DatasetNotFound, Source
from loaders.columns import in_columns
from loaders.sources import open_rows

TRAINED = "size,colour,code=a,label\n7,red,1,x\n8,blue,0,y\n9,,1,x\n"
COLUMNS = ("size", "colour=blue", "colour=red", "code=a")
NAN = np.nan


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Source:
    return loaders.open_source(table(tmp_path / "trained.csv", TRAINED))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("colour,size,code=a\nblue,1,0\nred,2,1\n", [[1, 1, 0, 0], [2, 0, 1, 1]]),
        ("code=a,size,colour\n0,1,red\n1,,\n", [[1, 0, 1, 0], [NAN, NAN, NAN, 1]]),
        ("size,colour,code=a\n1,green,0\n2,red,0\n", [[1, 0, 0, 0], [2, 0, 1, 0]]),
        ("size,colour,code=a\n1,,0\n2,,0\n", [[1, NAN, NAN, 0], [2, NAN, NAN, 0]]),
        ("id,size,colour,code=a\nk1,1,red,0\nk2,3,red,1\n", [[1, 0, 1, 0], [3, 0, 1, 1]]),
    ],
    ids=["in another order", "a text less", "a text more", "nothing known", "a column more"],
)
def test_columns_are_those_of_the_model_by_their_names(
    model: Source, tmp_path: Path, text: str, rows: list[list[float]]
) -> None:
    assert model.form.fields["row"].columns == COLUMNS
    there = in_columns(open_rows(table(tmp_path / "new.csv", text), COLUMNS), model.form.fields)
    assert there.form.fields == model.form.fields
    np.testing.assert_array_equal(there.read("all", slice(None))["row"], rows)
    lines = text.split()
    labelled = "\n".join([lines[0] + ",label", *(line + ",x" for line in lines[1:])])
    found = loaders.open_source(table(tmp_path / "labelled.csv", labelled))
    np.testing.assert_array_equal(
        in_columns(found, model.form.fields).read("train", slice(None))["row"], rows
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "size,code=a\n1,2\n",
            "knows the columns 'colour=blue', 'colour=red', which are not there",
        ),
        ("a,b\n1,2\n", r"none of the columns that the model knows \('size', .* there are 'a', 'b'"),
        ("size,colour,code=a\n1,5,0\n", "column 'colour' holds numbers; the model knows texts of"),
    ],
)
def test_columns_that_are_not_there_are_named(
    model: Source, tmp_path: Path, text: str, told: str
) -> None:
    file = table(tmp_path / "new.csv", text)
    with pytest.raises(CorruptDataset, match=told):
        in_columns(open_rows(file, COLUMNS), model.form.fields).read("all", slice(None))


def test_what_is_left_out_is_said(model: Source, tmp_path: Path) -> None:
    said: list[str] = []
    text = "size,colour,code=a,when,label\n1,green,0,now,x\n2,red,1,then,y\n"
    found = loaders.open_source(table(tmp_path / "new.csv", text))
    in_columns(found, model.form.fields, said.append)
    assert len(said) == 2
    assert "colour=green: unknown to the model" in said[0]
    assert "'when': left out" in said[1]


def test_rows_without_labels_are_of_one_table(tmp_path: Path) -> None:
    pixels = "".join(f",pixel{k}" for k in range(9))
    image = table(tmp_path / "digits.csv", f"label{pixels}\n3{',9' * 9}\n")
    assert open_rows(image).form.fields["image"].shape == (3, 3)
    with pytest.raises(DatasetNotFound, match="no such table"):
        open_rows(tmp_path / "nowhere.csv")
    with pytest.raises(DatasetNotFound, match="not a table"):
        (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xe0")
        open_rows(tmp_path / "picture")
