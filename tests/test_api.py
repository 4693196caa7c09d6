"""The documentation that is made from docstrings has what programs import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from .processes import run

ROOT = Path(__file__).parent.parent
API = str(ROOT / "scripts" / "api.py")
NAMES = """
import json, runpy
print(json.dumps(runpy.run_path({api!r})["public"]()))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    done = run(sys.executable, API, str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_public_name_is_documented(pages: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NAMES.format(api=API)], capture_output=True, text=True, check=True
    )
    public = json.loads(done.stdout)
    assert {path.stem for path in pages.glob("*.html")} == {*public, "index"}
    for package, names in public.items():
        page = (pages / f"{package}.html").read_text()
        missing = [name for name in names if f'id="{name}"' not in page]
        assert (package, missing) == (package, [])
        assert names


def test_a_page_has_arguments_types_and_errors(pages: Path) -> None:
    text = (pages / "main_node.html").read_text()
    method = text[text.index('id="MainNode.request_job_solution"') :]
    said = unescape(re.sub(r"<[^>]+>", "", method[: method.index("</section>")]))
    for words in ("what to solve", "seconds to wait", "Raises", "JobFailed", "JobSolutionDataType"):
        assert words in said, words


def test_a_page_has_what_its_classes_inherit_and_types_in_few_words(pages: Path) -> None:
    page = (pages / "protocol.html").read_text()
    for name in ("to_string", "to_bytes", "arrays"):
        assert f'id="JobDataType.{name}"' in page, name
        assert f'id="JobSolutionDataType.{name}"' in page, name
    said = unescape(re.sub(r"<[^>]+>", "", page))
    assert "Arrays by name" in said
    assert "Mapping[str, numpy.ndarray]" in said
    for file in pages.glob("*.html"):
        assert "numpy.dtype[typing.Any]" not in unescape(re.sub(r"<[^>]+>", "", file.read_text()))
