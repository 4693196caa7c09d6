"""The project as a whole: what is installed, what the documents say, what the examples do."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from computing_node import AsyncComputingNode
from computing_node.command import main as compute
from console.exits import EXIT_MEANINGS, Exit
from loaders import Rows
from main_node import AsyncMainNode
from main_node.commands.datasets import main as datasets
from main_node.commands.keys import main as keys
from main_node.commands.merge import main as merge
from main_node.commands.predict import main as predict
from main_node.commands.runs import main as runs
from main_node.commands.train import main as main_
from protocol import JobDataType, JobSolutionDataType
from relay_node.command import main as relay
from status_node.command import main as status

from .documents import DOCUMENTS
from .test_house import CONFIG, TOP

ROOT = Path(__file__).parent.parent
PACKAGES = TOP
VERSION = CONFIG["metadata"]["version"]


def test_a_wheel_holds_our_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in (
        *PACKAGES,
        "mnist_merge.py",
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        place = ROOT / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, source / name)
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    subprocess.run([*pip, "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob(f"mnist_merge-{VERSION}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "mnist_merge.py",
        *PACKAGES,
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    wanted = {
        str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py")
    }
    assert wanted <= set(names)


@pytest.mark.parametrize(
    "command",
    [
        main_,
        compute,
        predict,
        merge,
        runs,
        datasets,
        keys,
        status,
        relay,
        *runs.commands.values(),
        *datasets.commands.values(),
        *keys.commands.values(),
    ],
    ids=lambda command: command.name,
)  # fmt: skip
def test_every_command_and_option_has_help(command: click.Command) -> None:
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("group", [runs, datasets, keys], ids=lambda group: group.name)
def test_lists_of_commands_fit_a_terminal(group: click.Group) -> None:
    """A line that is cut ends in dots."""
    shown = CliRunner().invoke(group, ["--help"], terminal_width=80, max_content_width=80).output
    assert all(f"  {name} " in shown for name in group.commands)
    assert "..." not in shown.partition("Commands:")[2]


def test_the_document_of_commands_has_a_word_for_every_value() -> None:
    assert " None]" not in (ROOT / "docs" / "commands.md").read_text()


@pytest.mark.parametrize(
    "command",
    ["mnist-main", "mnist-compute", "mnist-predict", "mnist-runs", "mnist-datasets", "mnist-keys",
     "mnist-status", "mnist-relay", "mnist-merge"],
)  # fmt: skip
def test_the_commands_are_installed_and_say_their_version(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(sys.executable).with_name(command)
    (entry,) = metadata.entry_points(group="console_scripts", name=command)
    module, _, name = entry.value.partition(":")
    assert f"from {module} import {name}\n" in path.read_text()
    before = [*sys.path]
    monkeypatch.setattr(sys, "argv", [str(path), "--version"])
    with pytest.raises(SystemExit) as end:  # as its script does it, without a process
        entry.load()()
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{command}, version {VERSION}\n"
    assert sys.path == before  # a program that calls it finds its own modules still


def test_an_installed_command_is_a_program() -> None:
    path = Path(sys.executable).with_name("mnist-compute")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mnist-compute, version {VERSION}\n"


def test_the_version_stands_in_one_place() -> None:
    """In setup.cfg: what is installed is made of that, and only the changelog tells it, too."""
    assert metadata.version("mnist-merge") == VERSION, "out of date: run scripts/setup test"
    word = re.compile(rf"(?<![\w.]){re.escape(VERSION)}(?![\w.])")
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    ours = [path for path in files if path.is_file() and not path.is_relative_to(ROOT / "tests")]
    telling = {path.name for path in ours if word.search(path.read_bytes().decode("latin-1"))}
    assert telling == {"setup.cfg", "CHANGELOG.md"}


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## \[(.*)\] - (unreleased|\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert len(heads) == len(re.findall(r"^## ", text, re.MULTILINE)) > 0
    assert heads[0][0] == VERSION
    assert all(when != "unreleased" for _, when in heads[1:])
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_exit_code_has_a_meaning() -> None:
    assert set(EXIT_MEANINGS) == set(Exit)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_file_named_is_there(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), target
    for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|md))`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(("document", "least"), [("guarantees.md", 50), ("aml-ip.md", 12)])
def test_every_test_that_a_document_names_is_there(document: str, least: int) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / document).read_text()))
    theirs = {name for name in named if name.startswith("test_one_main_one_computing")}
    named -= theirs
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    assert len(named) > least
    assert named <= there, named - there


def test_a_program_in_the_style_of_aml_ip_runs(
    mnist: Rows, program: Callable[..., subprocess.Popen[str]]
) -> None:
    main = program("../../examples/mean_images_main.py", "tcp://127.0.0.1:0", "2000")
    assert main.stdout is not None
    address = main.stdout.readline().split()[-1]
    nodes = [program("../../examples/mean_images_computing.py", address) for _ in range(2)]
    output, _ = main.communicate(timeout=110)
    assert output.count("solution of task") == 2
    accuracy = re.search(r"accuracy (\d+\.\d)%", output)
    assert accuracy is not None
    assert float(accuracy[1]) > 70
    for node in nodes:
        node.send_signal(signal.SIGINT)
        assert node.wait(20) == 0


def test_a_job_may_be_as_much_text_as_all_of_mnist_is(
    main_node: Callable[..., AsyncMainNode], computing_node: Callable[..., AsyncComputingNode]
) -> None:
    """As in that program with 60000 rows, and back."""
    main, text = main_node(), "x: " + "[[0, 128, 255]], " * (70_000_000 // 17)
    computing_node(main, callback=lambda job, *_: JobSolutionDataType(job.to_string() + " y"))
    assert main.submit(JobDataType(text)).result(60).to_string() == text + " y"
