"""Functions that return data: by file or by module; what they may return, and what goes wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import loaders
from loaders import DatasetNotFound, LoaderError, Numbered
from loaders.sources import lasting

from ..conftest import make_idx_folder
from ..processes import run

PICTURES = (np.arange(4 * 8 * 8) % 251).astype(np.uint8).reshape(4, 8, 8)
TRUTH = np.array([0, 1, 2, 1])
WANTED = loaders.from_arrays(PICTURES, TRUTH, PICTURES[:2], TRUTH[:2]).digest
BEGIN = """
import numpy as np
import loaders
from there import x, y

"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Return a folder of a module that a user's file imports, and that is no package of ours."""
    np.savez(tmp_path / "d.npz", x=PICTURES, y=TRUTH)
    (tmp_path / "there.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n"
        "x, y = np.load(Path(__file__).with_name('d.npz')).values()\n"
    )
    yield tmp_path
    sys.modules.pop("there", None)


def opened(place: Path, code: str, name: str = "load") -> Any:
    (place / "mine.py").write_text(BEGIN + dedent(code))
    return loaders.open_source(f"{place / 'mine.py'}:{name}")


def test_a_file_without_a_function_says_which_it_has_and_is_not_run(place: Path) -> None:
    file = place / "mine.py"

    def told(code: str) -> str:
        file.write_text(f"import os\nos._exit(9)\n{code}")
        with pytest.raises(DatasetNotFound) as caught:
            loaders.open_source(file)
        return str(caught.value)

    code = (
        "def load(limit=None): ...\ndef other(*, seed=1): ...\ndef _mine(): ...\n"
        "def needs(rows): ...\ndef needs_too(*, rows): ...\nclass A:\n def inner(self): ...\n"
        "async def later(): ...\nx = '\\d'\n"
    )
    assert told(code).endswith(f"returns data, it is run then: {file}:load, {file}:other")
    assert told("x = 1\n").endswith("a function that takes no argument and returns data; name it")
    assert "can't be read, line 3: invalid syntax" in told("def load(:\n")
    assert "as a file of Python's it can't be read" in told("(" * 5000)


@pytest.mark.parametrize(
    "returned",
    [
        "loaders.from_arrays(x, y, x[:2], y[:2])",
        "{'train': (x, y), 'test': (x[:2], y[:2])}",
        "(x, y), (x[:2], y[:2])",
        "Pairs(x, y), Pairs(x[:2], y[:2])",
        "{'train': (x.tolist(), y.tolist()), 'test': [x[:2].astype(int), np.eye(3)[y[:2]]]}",
    ],
)
def test_what_a_function_returns_is_data(returned: str, place: Path) -> None:
    source = opened(
        place,
        f"""
        class Pairs:
            def __init__(self, x, y): self.x, self.y = x, y
            def __len__(self): return len(self.x)
            def __getitem__(self, n): return self.x[n], int(self.y[n])

        def load():
            return {returned}
        """,
    )
    np.testing.assert_array_equal(source.read("train", slice(None))["image"].ravel()[:5], range(5))
    assert source.form.classes == Numbered(3)
    assert source.digest == WANTED


def test_one_data_set_is_for_training(place: Path) -> None:
    source = opened(place, "def load(): return (pair for pair in zip(x, y))")
    assert source.splits == {"train": 4}
    assert opened(place, "def load(): return {'train': (x, y)}").splits == {"train": 4}


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (
            "other = 1\ndef another(): pass",
            DatasetNotFound,
            "has no function 'load'; it has another",
        ),
        ("load = 1", DatasetNotFound, "has no function 'load'; it has none"),
        (
            "def load(): return 5",
            LoaderError,
            "it returned a int; it may return a source, as loade",
        ),
        ("def load(): return x", LoaderError, "it returned a ndarray; it may return"),
        ("def load(): return x, y", LoaderError, "it returned a tuple; it may return"),
        ("def load(): return {'train': x}", LoaderError, "its 'train' is a ndarray, not a pair"),
        ("def load(): return {'val': (x, y)}", LoaderError, "a split 'val'; there are 'train' and"),
        (
            "def load(): return {'train': (x, y[:2])}",
            LoaderError,
            "the rows of 'train' holds 4 row",
        ),
        ("def load(): return {}", LoaderError, "there is neither a training set"),
        ("def load(n): return x", LoaderError, "it raised TypeError: load.. missing 1 required"),
        (
            "def load():\n  n = 0\n  return 1 / n",
            LoaderError,
            r"ZeroDivisionError.*\(line 8 of .*mi",
        ),
        ("def load(): raise SystemExit(3)", LoaderError, "it raised SystemExit: 3"),
        ("import nowhere_at_all", LoaderError, "ModuleNotFoundError: No module named 'nowhere_at"),
        ("def load(:", LoaderError, "it raised SyntaxError"),
    ],
)
def test_what_a_function_does_wrong_is_told(
    code: str, kind: type[Exception], words: str, place: Path
) -> None:
    before = [*sys.path]
    with pytest.raises(kind, match=f"mine.py:load: .*{words}"):
        opened(place, code)
    assert sys.path == before


def test_a_file_or_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="nowhere.py: no such file"):
        loaders.open_source(f"{tmp_path}/nowhere.py:load")
    with pytest.raises(DatasetNotFound, match="no module 'nowhere_at_all' that is installed or on"):
        loaders.open_source("nowhere_at_all.data:load")
    with pytest.raises(DatasetNotFound, match="no module 'loaders.nowhere' that is installed"):
        loaders.open_source("loaders.nowhere:load")


OPEN = "import sys, loaders; print(loaders.open_source(sys.argv[1]).splits)"


def test_modules_are_those_of_the_path_and_never_of_the_current_folder(tmp_path: Path) -> None:
    package = tmp_path / "installed" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "data.py").write_text("def load(): return {'train': ([[1.0], [2.0]], [0, 1])}")
    ours = str(Path(loaders.__file__).parents[1])
    command = (sys.executable, "-c", OPEN, "pack.data:load")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([ours, str(package.parent)])}
    assert run(*command, cwd=tmp_path, env=env).stdout == "{'train': 2}\n"
    env["PYTHONPATH"] = ours
    done = run(*command, cwd=package.parent, env=env)
    assert "there is no module 'pack' that is installed or on PYTHONPATH" in done.stderr
    (package.parent / "queue.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "mine.py").write_text("import queue\ndef load(): return {'train': ([[1.0]], [0])}")
    done = run(sys.executable, "-c", OPEN, "../mine.py:load", cwd=package.parent, env=env)
    assert done.stdout == "{'train': 1}\n"


def test_a_source_is_called_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "data").mkdir()
    assert lasting("mine.py:load") == f"{tmp_path}/mine.py:load"
    assert lasting("data") == f"{tmp_path}/data"
    for name in ("mnist", "pack.data:load", "s3://bucket/data", "nowhere", "x" * 5000, "\0"):
        assert lasting(name) == name
    (tmp_path / "mnist").mkdir()
    assert lasting("mnist") == "mnist"


def test_a_run_learns_from_a_function(tmp_path: Path) -> None:
    folder = make_idx_folder(tmp_path / "idx", 60, 20)
    (tmp_path / "mine.py").write_text(
        f"import loaders\ndef load(): return loaders.open_source({str(folder)!r})\n"
    )
    digests = [loaders.open_source(each).digest for each in (folder, f"{tmp_path}/mine.py:load")]
    assert digests[0] == digests[1]


def test_what_a_function_prints_is_no_output_of_a_command(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(place, "def load():\n    print('hello')\n    return {'train': (x, y)}\n")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")
