"""Commands wherever they are started: what lies there, and what they are given to write to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import mnist_merge
from console.exits import Exit

from .processes import COMPUTE, MAIN, MAIN_HERE, Start, free_port, here, run

COMMANDS = ("main", "compute", "predict", "relay", "keys", "runs", "datasets", "status")
RUN = ("--bind", "tcp://127.0.0.1:0", "--learner", "linear", "--rounds", "1", "--local-nodes", "1")


def installed(command: str) -> str:
    """Return a command as it was installed."""
    return str(Path(sys.executable).with_name(f"mnist-{command}"))


def uncounted() -> dict[str, str]:
    """Return the environment without what would import a library before any line of ours runs."""
    return {name: told for name, told in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}


def test_packages_of_the_same_names_on_the_path_are_not_taken_for_ours(
    tmp_path: Path, idx_folder: Path
) -> None:
    for name in mnist_merge.PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import os\nos._exit(99)\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run(
        installed("main"), *RUN, "--data", str(idx_folder), "--json", cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "whole"), [(":{}", True), ("{}:", False), ("{}::/nowhere", False)]
)
def test_an_empty_part_of_pythonpath_is_not_the_current_folder(
    path: str, whole: bool, tmp_path: Path, idx_folder: Path
) -> None:
    """`PYTHONPATH=$PYTHONPATH:/mine` leaves one where there was nothing before.

    What a command makes of it is what the processes that it starts have: one run shows that.
    """
    for name in ("queue", "msgpack", "numpy", "yaml", "linear", "random", "console"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(99)\n")
    root = str(Path(mnist_merge.__file__).parent)
    there = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run(
        installed("main"), *RUN, "--data", str(idx_folder), "--json",
        *([] if whole else ["--print-config"]), cwd=tmp_path,
        env={**uncounted(), "PYTHONPATH": path.format(there)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_program_that_calls_a_command_keeps_what_its_path_has(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "from mnist_merge import runs\n"
        "sys.argv[1:] = ['--version']\n"
        "try:\n"
        "    runs()\n"
        "finally:\n"
        "    import mine\n"
    )
    root = str(Path(mnist_merge.__file__).parent)
    for program in ("program.py", str(tmp_path / "program.py")):
        done = run(
            sys.executable, program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{root}:"}
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("package", "name"),
    [("main_node", "AsyncMainNode"), ("computing_node", "AsyncComputingNode"),
     ("relay_node", "RelayNode"), ("status_node", "StatusNode")],
)  # fmt: skip
def test_a_programs_own_module_that_hides_a_package_is_named(
    tmp_path: Path, package: str, name: str
) -> None:
    (tmp_path / "protocol.py").write_text("")
    program = tmp_path / "program.py"
    program.write_text(f"from {package} import {name}\n")
    done = run(sys.executable, str(program), cwd=tmp_path)
    *_, last = done.stderr.splitlines()
    assert last == (
        f"ImportError: {tmp_path}/protocol.py has the name of a package that this project's are"
        " built on (protocol): give it another"
    )


def test_a_folder_whose_name_only_begins_as_ours_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SimpleNamespace(__file__=str(tmp_path / "house2" / "protocol.py"))
    monkeypatch.setattr(mnist_merge, "ROOT", str(tmp_path / "house"))
    monkeypatch.setattr(mnist_merge, "PACKAGES", frozenset({"protocol"}))
    monkeypatch.setitem(sys.modules, "protocol", other)
    with pytest.raises(ImportError, match="give it another"):
        mnist_merge.take("main_node", ".nowhere", "nothing")


def test_a_log_that_takes_no_more_ends_no_run(tmp_path: Path, idx_folder: Path) -> None:
    words = " ".join([*RUN, "--data", str(idx_folder), "--run-dir", str(tmp_path), "--json"])
    for redirected in ("2>&-", "2>/dev/full", "2> >(true)"):
        done = run("bash", "-c", f"{installed('main')} {words} {redirected}")
        assert json.loads(done.stdout)["accuracy"] > 0


def test_a_folder_whose_name_is_not_utf_8_is_no_trouble(tmp_path: Path, idx_folder: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9 \xe2\x97\x8f"
    for encoding in ("utf-8:strict", "ascii:strict"):
        done = subprocess.run(
            [*MAIN, *RUN, "--data", str(idx_folder), "--run-dir", folder],
            capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr


def test_a_terminal_that_is_closed_ends_a_command_as_a_signal_does(
    start: Start, idx_folder: Path, tmp_path: Path
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    node = start(*COMPUTE, "--connect", address)
    node.event("node.looking")
    main = start(
        *MAIN, "--bind", address, "--data", str(idx_folder), "--run-dir", str(tmp_path),
        "--learner", "linear", "--pause", "1",
    )  # fmt: skip
    main.event("run.opened")
    for process, code in ((main, Exit.INTERRUPTED), (node, Exit.DONE)):
        process.send(signal.SIGHUP)
        assert process.end()[0] == code
        assert "Traceback" not in "".join(process.seen)


def test_what_is_chosen_may_be_written_in_capitals_and_help_is_short_too() -> None:
    assert here(MAIN_HERE, "-h").stdout == here(MAIN_HERE, "--help").stdout
    told = here(MAIN_HERE, "--log-level", "INFO", "--print-config")
    assert (told.returncode, told.stderr) == (0, "")
    assert "log_level: info\n" in told.stdout
