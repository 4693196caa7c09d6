"""The table of layouts in docs/data.md: each line is made as it stands there, and read."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import loaders

from ..documents import ROOT, programs

DOCUMENT = ROOT / "docs" / "data.md"
#: Name, and the Python that makes it; lines that are made otherwise have none.
LINES = re.findall(r"^\|[^|]*\| `([^`]+)` \| `([^`]+)` \|$", DOCUMENT.read_text(), re.MULTILINE)


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("name", "code"), LINES, ids=[name for name, _ in LINES])
def test_each_layout_is_made_and_read(
    name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = {"np": np, "pa": pa, "pq": pq, "png": png}
    exec(programs(DOCUMENT)["1"][0].code, there)
    for folder in re.findall(r"\"(\w+)/", code):
        Path(folder).mkdir(exist_ok=True)
    exec(code, there)
    source = loaders.open_source(name)
    x, y, x_train, y_train, x_test, y_test = (
        np.asarray(there[each]) for each in ["x", "y", "x_train", "y_train", "x_test", "y_test"]
    )
    if source.form.image is None:
        assert source.form.fields["row"].columns[0] in ("size", "a")
        return
    wanted = {
        1797: loaders.from_arrays(x, y),
        1500: loaders.from_arrays(x_train, y_train, x_test, y_test)
        if "test" in source.splits
        else loaders.from_arrays(x_train, y_train),
    }[source.splits["train"]]
    assert source.digest == wanted.digest


def test_the_table_has_every_layout_that_is_made_here() -> None:
    assert len(LINES) > 10
