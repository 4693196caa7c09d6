"""Places on the machine: users without a home, folders that can not be written, a tilde."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from computing_node import AsyncComputingNode
from console import yaml12
from console.exits import Exit
from learning.model import Model, sha256
from loaders import DatasetNotFound, Field, Form, Numbered, load
from loaders.caches import cache_folder, homeless_folder
from loaders.fetching import fetch_mnist
from main_node import AsyncMainNode
from main_node.commands import runs as runs_
from main_node.commands import train
from main_node.commands.options import OPTIONS, TrainOptions, read_config
from main_node.errors import JobFailed
from main_node.options import JobOptions, ListenOptions
from main_node.run.company import invitation
from main_node.store.database import DAMAGED, RunDatabase
from main_node.store.directory import Kept, RunDirectory
from main_node.store.results import Result, finished
from main_node.views.ending.pictures import draw
from main_node.views.ending.summary import print_summary
from protocol.carrier.keys import create, create_secret
from protocol.carrier.sockets import make_pair
from protocol.errors import ConfigError
from protocol.machine.ledger import Attempt
from protocol.machine.watching import Watching
from protocol.options import at_home
from protocol.wire.messages import Message, NodeStatus, Status, Stop, Watch
from relay_node import RelayNode
from status_node import StatusNode
from status_node.command import render

from .conftest import ANY_PORT, make_idx_folder, upper
from .processes import AS_STRANGER, MAIN, MAIN_HERE, PREDICT_HERE, RUNS_HERE, STRANGER, here, run

FORM = Form({"image": Field("uint8", (28, 28))}, Numbered(10))
RESULT = Result(
    run="run", data={"source": "mnist"}, target_digit=None, learner="neural", jobs=1, rounds=1,
    nodes={}, accuracy=1.0, macro_f1=1.0, confusion=[[1]], examples=1, accuracy_by_round=[1.0],
    loss_by_round=[None], seconds={"total": 1.0}, starts=1, retries=0, left_out=[], model="",
    model_sha256=sha256({"a": np.ones(3)}), model_parts={"weights": 3},
)  # fmt: skip


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every user may write to, and reach."""
    folder = Path(tempfile.mkdtemp(prefix="places-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def as_stranger(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as a user without an entry, a home, or the right to write."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        assert os.environ.get("CI") != "true", "only root can be somebody else"
        pytest.skip("only root can be somebody else")
    kept = {name: value for name, value in os.environ.items() if name != "HOME"}
    return run(
        *AS_STRANGER, *command,
        cwd=folder, env={**kept, "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **env},
    )  # fmt: skip


# No home.


def test_a_user_without_an_entry_or_a_home_has_caches(place: Path) -> None:
    """Found in the field: MNIST ended in an error, and compiled kernels in a folder named `~`."""
    done = as_stranger(
        place, sys.executable, "-c",
        "import numba, learning.algebraic.kernels\n"
        "from loaders.caches import cache_folder\n"
        "print(cache_folder())\n"
        "print(numba.config.CACHE_DIR)\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = place / f"mnist-merge-{STRANGER}"
    assert done.stdout.split() == [str(own), str(own / "numba")]
    assert (own.stat().st_uid, stat.S_IMODE(own.stat().st_mode)) == (STRANGER, 0o700)
    assert not (place / "~").exists()


@pytest.mark.parametrize("other", ["theirs", "writable", "link", "file"])
def test_a_folder_that_others_may_write_to_is_not_taken(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept there is executed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = tmp_path / f"mnist-merge-{os.getuid()}"
    if other == "link":
        (tmp_path / "elsewhere").mkdir()
        usual.symlink_to(tmp_path / "elsewhere")
    elif other == "file":
        usual.touch()
    else:
        usual.mkdir()
        usual.chmod(0o777 if other == "writable" else 0o700)
    if other == "theirs":
        uid = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
        usual.rename(tmp_path / f"mnist-merge-{uid + 1}")
    taken = homeless_folder()
    assert taken.parent == tmp_path
    assert taken.name.removeprefix("mnist-merge-") not in (str(os.getuid()), "")
    assert stat.S_IMODE(taken.stat().st_mode) == 0o700
    assert not taken.is_symlink()


def test_a_home_that_is_named_from_here_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    assert cache_folder().is_absolute()


# Caches that can't be made.


@pytest.mark.parametrize("what", ["in the way", "no folder can be there"])
def test_a_cache_that_can_not_be_made_is_named(what: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" if what == "in the way" else Path("/proc/caches")
    done = here(
        MAIN_HERE, "--bind", "tcp://127.0.0.1:0", "--run-dir", str(tmp_path / "runs"),
        env={"MNIST_CACHE": str(cache)},
    )  # fmt: skip
    assert done.returncode == 3
    assert f"to be kept in {cache / 'mnist'}, which can't be made or written" in done.stderr
    assert "MNIST_CACHE" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_cache_that_can_not_be_written_is_named(place: Path) -> None:
    (place / "mnist").mkdir(mode=0o755)
    done = as_stranger(
        place, sys.executable, "-c",
        "from loaders.fetching import fetch_mnist\n"
        "fetch_mnist(print)\n",
        MNIST_CACHE=str(place),
    )  # fmt: skip
    assert f"to be kept in {place / 'mnist'}, which can't be made or written (Perm" in done.stderr
    assert "fetching" not in done.stdout


def test_a_cache_in_a_home_is_where_the_home_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MNIST_CACHE", "~/kept")
    (tmp_path / "kept").touch()
    assert cache_folder() == tmp_path / "kept"
    with pytest.raises(DatasetNotFound, match=f"kept in {tmp_path}/kept/mnist"):
        fetch_mnist()


# A tilde.


def test_a_tilde_is_a_home_in_every_way_to_give_an_option(tmp_path: Path) -> None:
    home, told = {"HOME": str(tmp_path)}, "--print-config"
    (tmp_path / "c.yaml").write_text("run_dir: ~/r\nkeys: ~/k\ndata: ~/d\n")
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--run-dir", "~/r", "--keys=~/k", "--data", "~/d"], {}),
        ([], {"MNIST_RUN_DIR": "~/r", "MNIST_KEYS": "~/k", "MNIST_DATA": "~/d"}),
        (["--config", "~/c.yaml"], {}),
        ([], {"MNIST_CONFIG": "~/c.yaml"}),
    ]
    for arguments, env in ways:
        done = here(MAIN_HERE, *arguments, told, env={**home, **env})
        assert done.returncode == 0, done.stderr
        for line in (f"run_dir: {tmp_path}/r", f"keys: {tmp_path}/k", f"data: {tmp_path}/d"):
            assert line in done.stdout.splitlines()


#: Commands that can't do what they are told, and say where: each path is one in the home.
NOT_THERE = [
    (PREDICT_HERE, ["~/m.safetensors", "x.png"]),
    (PREDICT_HERE, ["--export", "json", "~/m.safetensors"]),
    (RUNS_HERE, ["list", "--run-dir", "~/runs"]),
    (RUNS_HERE, ["show", "x", "--run-dir", "~/runs"]),
    (RUNS_HERE, ["stop", "x", "--run-dir", "~/runs"]),
    (MAIN_HERE, ["--config", "~/c.yaml"]),
    ("main_node.commands.datasets:main", ["check", "digits", "--picture", "~/no/sheet.png"]),
    ("main_node.commands.keys:main", ["list", "~/keys"]),
    ("main_node.commands.keys:main", ["revoke", "~/keys", "a"]),
    ("computing_node.command:main", ["--keys", "~/keys", "--connect", "tcp://127.0.0.1:1"]),
    ("status_node.command:main", ["--keys", "~/keys", "--connect", "tcp://127.0.0.1:1"]),
    ("relay_node.command:main",
     ["--secret", "~/secret", "--accept", "tcp://127.0.0.1:0", "--bind", "tcp://127.0.0.1:0"]),
]  # fmt: skip


@pytest.mark.parametrize(("place_", "arguments"), NOT_THERE)
def test_a_tilde_is_a_home_for_every_command(
    place_: str, arguments: list[str], tmp_path: Path
) -> None:
    done = here(place_, *arguments, env={"HOME": str(tmp_path)})
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "~" not in done.stderr


def test_a_tilde_is_a_home_in_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in review: `keys="~/keys"` was a folder named `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    create(tmp_path / "keys", ["node"], make_pair)
    create_secret(tmp_path / "secret")
    digits = make_idx_folder(tmp_path / "digits", 20, 10)
    with (
        AsyncMainNode("main", address=ANY_PORT, keys="~/keys") as main,
        AsyncComputingNode("node", callback=upper, address=main.address, keys="~/keys/nodes/node"),
        StatusNode("status", address=main.address, keys=Path("~/keys")),
        RelayNode(bind=ANY_PORT, accept=ANY_PORT, secret="~/secret"),
    ):
        pass
    assert load("~/digits").digest == load(digits).digest


def test_a_tilde_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: STRANGER)
    with pytest.raises(ConfigError, match="~/runs: this user has no home; .* HOME"):
        at_home("~/runs")
    assert [at_home(each) for each in ("a~", "./~", "~no-such-user/x", "")] == [
        "a~", "./~", "~no-such-user/x", ""
    ]  # fmt: skip


def test_an_option_that_is_a_path_says_so() -> None:
    """What is in a file or folder's place on the command line may begin with a tilde."""
    named = {each.name for each in OPTIONS.values() if each.about.metavar in ("DIR", "FILE")}
    assert named
    assert named <= {each.name for each in OPTIONS.values() if each.about.path}


# What is suggested.


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        (["deadline", "lost", "deadline"], " --deadline 5 (a job had too little time)"),
        (["stalled"], " --stall 240 (a job had too little time)"),
        (["stalled", "deadline"], " --deadline 5 --stall 240 (a job had too little time)"),
        (["raised", "crashed"], ""),
    ],
)
def test_who_ran_out_of_time_is_not_told_to_do_the_same_again(
    kinds: list[str], options: str, tmp_path: Path
) -> None:
    failed = JobFailed(1, tuple(Attempt("node", kind, "words") for kind in kinds))
    more = train._more_time(failed, JobOptions(deadline_seconds=2.5))
    told = f"go on with: mnist-main --resume {tmp_path}{options}"
    assert train._how_to_go_on(tmp_path, more) == told


def test_commands_are_suggested_as_a_shell_takes_them(tmp_path: Path) -> None:
    """Found in the field: a folder with a space in its name was two arguments."""
    runs, output = tmp_path / "my runs", io.StringIO()
    runs.mkdir()
    result = replace(RESULT, model=str(runs / "model.safetensors"), data={"source": "a b"})
    print_summary(result, Console(file=output, width=200))
    print_summary(replace(result, data={"source": "a b", "kind": "row"}), Console(file=output))
    (first, second) = (line for line in output.getvalue().splitlines() if "mnist-predict" in line)
    assert shlex.split(first)[2:] == ["mnist-predict", result.model, "IMAGE.png"]
    assert shlex.split(second)[2:] == ["mnist-predict", result.model, "--data", "a b"]
    done = here("main_node.commands.keys:main", "new", str(tmp_path / "my keys"))
    told = done.stdout.splitlines()[0].partition("start the main node with ")[2]
    assert shlex.split(told) == ["--keys", str(tmp_path / "my keys")]
    again = here("main_node.commands.keys:main", "new", str(tmp_path / "my keys"))
    told = again.stderr.partition("add nodes with ")[2]
    assert shlex.split(told) == ["mnist-keys", "add", str(tmp_path / "my keys"), "NAME"]
    at = "tcp://[::1]:5555"  # brackets are a pattern to a shell
    assert f"--connect '{at}'" in invitation(ListenOptions(), at)


# A run's directory.


@pytest.mark.parametrize("new", [True, False])
def test_a_place_that_may_not_be_written_is_a_fault_of_storage(new: bool, place: Path) -> None:
    (place / "runs").mkdir(mode=0o755)
    if not new:
        RunDirectory(place / "runs" / "run", new=True).close()
        (place / "runs" / "run" / "config.yaml").write_text(TrainOptions.of().as_yaml())
    make_idx_folder(place / "data", 20, 10)
    what = ["--resume", str(place / "runs" / "run")] if not new else ["--run-dir", "runs"]
    done = as_stranger(
        place, *MAIN, "--bind", "tcp://127.0.0.1:0", "--data", "data", *what, "--quiet"
    )
    assert done.returncode == 7, done.stderr
    assert "(Permission denied)" in done.stderr
    assert ("name another with --run-dir" if new else "must be writable to go on") in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_linked_from_a_run_directory_is_left_as_it_is(tmp_path: Path) -> None:
    """A run is left where others may write, say: nothing is written through their links."""
    path, victims = tmp_path / "run", tmp_path / "victims"
    victims.mkdir()
    RunDirectory(path, new=True).close()
    names = ["config.yaml", "metrics.json", "model.safetensors", "learning.png", "confusion.png",
             "lock", "run.db", "run.db-wal", "run.db-shm", "run.db-journal",
             "solutions/a.safetensors", "models/round-001.safetensors"]  # fmt: skip
    names += [".config.yaml.part", ".metrics.json.part", ".model.safetensors.part",
              "solutions/.a.safetensors.part", "models/.round-001.safetensors.part"]  # fmt: skip
    for number, name in enumerate(names):
        (victims / str(number)).write_text("" if name.startswith("run.db") else "somebody's")
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(victims / str(number))
    before = {each: each.read_text() for each in victims.iterdir()}
    with contextlib.closing(RunDirectory(path, new=False)) as directory:
        database = RunDatabase(path / "run.db")
        assert database.damage == "it is a link to another file"
        database.state(main="main.1")
        directory.write_config("jobs: 4\n")
        directory.write_metrics(RESULT.as_json())
        model = Model({"a": np.ones(3)}, "neural", FORM)
        directory.write_model(model)
        directory.write_merged(0, model)
        directory.write_solution("a", "work", Kept("node", {}, {"a": np.ones(3)}))
        draw(RESULT, path)
        database.close()
    assert {each: each.read_text() for each in victims.iterdir()} == before
    assert finished(path) is not None
    assert not [each for each in path.rglob("*") if each.is_symlink() and each.name != DAMAGED]
    assert (path / "learning.png").stat().st_size > 1000
    assert not list(path.glob(".drawn-*"))


# Lists of runs.


def make_run(folder: Path, name: str) -> Path:
    """Make a run that has been cut short."""
    path = folder / name
    with contextlib.closing(RunDirectory(path, new=True)) as directory:
        directory.write_config(TrainOptions.of(run_dir=str(folder)).as_yaml())
        with contextlib.closing(RunDatabase(path / "run.db")) as database:
            database.state(starts=1, ending="interrupted", accuracy=0.5)
            database.write([], [("attempt", {"job": "a", "node": "b"})])
    return path


#: What becomes of which file.
DAMAGES = [
    ("config.yaml", "nothing"), ("config.yaml", "zeros"), ("config.yaml", "folder"),
    ("config.yaml", "pipe"), ("config.yaml", "/dev/zero"), ("config.yaml", "config.yaml"),
    ("run.db", "nothing"), ("run.db", "folder"), ("run.db", "pipe"), ("run.db", "/dev/zero"),
    ("solutions", "nothing"), ("metrics.json", "folder"), ("metrics.json", "pipe"),
    ("lock", "pipe"), ("lock", "/dev/zero"),
]  # fmt: skip


def spoil(path: Path, how: str) -> None:
    """Put something else in a file or folder's place; how: what, or where a link leads."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if how in ("nothing", "zeros"):
        path.write_bytes(bytes(0 if how == "nothing" else 1000))
    elif how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(how)


@pytest.mark.parametrize(("file", "how"), DAMAGES)
def test_a_damaged_run_hides_no_other(file: str, how: str, tmp_path: Path) -> None:
    for name in "123":
        make_run(tmp_path, name)
    spoil(tmp_path / "2" / file, how)
    done = here(RUNS_HERE, "list", "--run-dir", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    runs = {each["run"]: each["state"] for each in json.loads(done.stdout)}
    assert runs.keys() == set("123")
    assert runs["1"] == runs["3"] == "interrupted"
    assert here(RUNS_HERE, "list", "--run-dir", str(tmp_path)).stdout.count("interrupted") >= 2
    assert here(RUNS_HERE, "show", "2", "--run-dir", str(tmp_path)).returncode == 0


def test_a_list_that_breaks_at_one_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever nobody has thought of."""
    for name in "12":
        make_run(tmp_path, name)

    def broken(path: Path) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr(runs_, "summarize", broken)
    done = here(RUNS_HERE, "list", "--run-dir", str(tmp_path), "--json")
    assert [each["ending"] for each in json.loads(done.stdout)] == 2 * [
        "AttributeError: no such thing"
    ]


def test_a_run_whose_model_is_not_good_enough_is_shown_as_such(tmp_path: Path) -> None:
    path, why = make_run(tmp_path, "1"), "its loss on the test images is not finite"
    with contextlib.closing(RunDatabase(path / "run.db")) as database:
        database.state(ending="done", accuracy=0.1, shortcoming=why)
    at = ["--run-dir", str(tmp_path)]
    assert re.search("^ *1 +not good  .* 10.00%", here(RUNS_HERE, "list", *at).stdout, re.MULTILINE)
    (listed,) = json.loads(here(RUNS_HERE, "list", "--json", *at).stdout)
    assert (listed["state"], listed["shortcoming"]) == ("done", why)
    told = here(RUNS_HERE, "show", "1", *at).stdout.splitlines()
    assert told[1:3] == ["     state  done, accuracy 10.00%", f"  not good  as a model: {why}"]


def test_a_folder_that_is_not_there_is_not_a_folder_without_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typo = tmp_path / "typo"
    for done in (
        here(RUNS_HERE, "list", "--run-dir", str(typo)),
        here(RUNS_HERE, "list", "--json", env={"MNIST_RUN_DIR": str(typo)}),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{typo}: no such folder" in done.stderr
    typo.touch()
    assert f"{typo}: not a folder" in here(RUNS_HERE, "list", "--run-dir", str(typo)).stderr
    monkeypatch.chdir(tmp_path)  # before the first run there is none by its usual name
    assert here(RUNS_HERE, "list").stdout == "no runs in runs\n"


@pytest.mark.parametrize("target", ["runs", "nowhere/runs", "/proc/self/mem"])
def test_a_run_directory_behind_a_link_that_leads_nowhere_is_told(
    target: str, tmp_path: Path, idx_folder: Path
) -> None:
    (tmp_path / "runs").symlink_to(target)
    done = here(
        MAIN_HERE, "--bind", "tcp://127.0.0.1:0", "--data", str(idx_folder), "--run-dir",
        str(tmp_path / "runs"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "can't be made" in done.stderr


def test_a_run_directory_that_may_hold_no_file_so_large_is_full(
    tmp_path: Path, idx_folder: Path
) -> None:
    words = shlex.join(["--data", str(idx_folder), "--run-dir", str(tmp_path / "r")])
    done = run("bash", "-c", f"ulimit -f 0; {shlex.join(MAIN)} --bind tcp://127.0.0.1:0 {words}")
    assert done.returncode == 7
    assert "can't be made (File too large)" in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_command_whose_folder_is_gone_says_so(tmp_path: Path, idx_folder: Path) -> None:
    (tmp_path / "gone").mkdir()
    words = shlex.join([*MAIN, "--bind", "tcp://127.0.0.1:0", "--data", str(idx_folder)])
    done = run("bash", "-c", f"rmdir ../gone; {words}", cwd=tmp_path / "gone")
    assert done.returncode == 7
    assert "the current folder is gone" in done.stderr


def test_a_machine_that_allows_no_more_threads_is_told_of(
    tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # as Python does

    monkeypatch.setattr(threading.Thread, "start", refused)
    done = here(
        MAIN_HERE, "--bind", "tcp://127.0.0.1:0", "--data", str(idx_folder), "--run-dir",
        str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 7
    assert "no more threads" in done.stderr.splitlines()[-1]


# Options in files.


def test_options_may_come_through_a_pipe_and_one_without_a_writer_is_told(tmp_path: Path) -> None:
    words = shlex.join([*MAIN, "--print-config", "--config"])
    for written in ("echo jobs: 7", "echo jobs: 7; sleep 0.1; echo rounds: 3"):
        done = run("bash", "-c", f"{words} <({written})")
        assert done.returncode == 0, done.stderr
        assert yaml12.load(done.stdout)["jobs"] == 7  # type: ignore[index]
    os.mkfifo(tmp_path / "pipe")
    done = here(MAIN_HERE, "--config", str(tmp_path / "pipe"))
    assert done.returncode == 2
    assert "a pipe that nobody writes to" in done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7), ("1e-3", 0.001),
        ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("1:30", "1:30"),
        ("1_000", "1_000"), ("0b1", "0b1"), ("on", "on"), ("yes", "yes"), ("No", "No"),
        ("y", "y"), ("true", True), ("FALSE", False), ("~", None), ("", None), ("null", None),
        ("2026-11-27", "2026-11-27"), ("08", 8), ("'010'", "010"), ("=", "="), ("<<", "<<"),
        ("1.2.3", "1.2.3"), ("0o8", "0o8"), ("-0x1", "-0x1"), ("e3", "e3"), (".", "."),
    ],
)  # fmt: skip
def test_words_are_what_yaml_1_2_says(text: str, value: object) -> None:
    found: Any = yaml12.load(f"a: {text}")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    "value",
    ["010", "1:30", "1e-3", "1e3", "0o7", "0x1", "on", "no", "~", "", "2026-11-27", "a: b", "#",
     "&a", "1_000", ".5", "=", "<<", 10, 0.001, 1e-5, 1e300, True, False, None, ["yes", 1]],
)  # fmt: skip
def test_what_is_written_is_read_by_either_version(value: object) -> None:
    text = yaml12.dump({"a": value})
    assert yaml12.load(text) == {"a": value} == yaml.safe_load(text)


def config(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_options_are_read_as_people_mean_them(tmp_path: Path) -> None:
    read = read_config(config(tmp_path, "jobs: 010\nlr: 1e-3\ninsecure: yes\njson: off\nkeys: no"))
    assert read == {"jobs": 10, "lr": 0.001, "insecure": True, "json": False, "keys": "no"}


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(9 * [f'*{a}'])}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "more than 16 aliases"), ("jobs: " + "[" * 3000, "more than 16 lists in lists"),
        ("a: {" * 3000, "more than 16 lists in lists"), ("x" * 65_537, "more than 65,536 bytes"),
        ("jobs: &a [*a]", "not a whole number"), ("jobs: !!python/name:os.system", "no option is"),
        ("jobs: !!timestamp x", "no option is"), ("jobs: !!int x", "'x' is no int"),
        ("jobs: !!bool maybe", "'maybe' is no bool"), ("? [a]\n: 1", "not YAML"),
        ("a" * 1000 + ": 1", "no such option: a{200}$"), (b"\xff\xfe\x00", "not YAML"),
        ("--- 1\n--- 2", "not YAML"), ("jobs: " + "9" * 5000, "not YAML"), ("&a", "^{}$"),
    ],
)  # fmt: skip
def test_options_that_say_too_much_are_refused_at_once(
    text: str | bytes, words: str, tmp_path: Path
) -> None:
    """Found in the field: 400 bytes of aliases took for ever."""
    path, begun = config(tmp_path, text), time.process_time()
    try:
        told = str(read_config(path))
    except ConfigError as error:
        told = str(error)
    assert re.search(words, told), told
    assert len(told) < 1000
    assert time.process_time() - begun < 2


# A run that has ended.


def seen(*messages: Message) -> str:
    """Return what people are shown of a main node that has said this."""
    watching = Watching(Watch("w", "watcher", 0), "tcp://127.0.0.1:1")
    watching.greet(0.0)
    for message in messages:
        watching.receive(message, 0.0)
    watching.cut()
    output = io.StringIO()
    Console(file=output, width=200).print(render(watching.overview))
    return output.getvalue()


def test_a_run_that_is_done_is_done_for_who_looks_on_while_it_ends() -> None:
    """Found in the field: what was seen last of a good run was `? unknown`."""
    node = NodeStatus("lab1", "computing", "running", solved=4)
    about = {"run": "r1", "rounds": 1, "accuracy": 0.99, "done": True}
    told = seen(Status(0, 0, "main.1", (node,), {}, about), Stop("the main node has ended"))
    assert "✓ main.1 at tcp://127.0.0.1:1, done\n" in told
    assert "run r1, done, accuracy 99.00%" in told
    assert "○ let go" in told
    assert "unknown" not in told
    del about["done"]
    told = seen(Status(0, 0, "main.1", (node,), {}, about), Stop("it was interrupted"))
    assert "○ main.1 at tcp://127.0.0.1:1, stopped: it was interrupted\n" in told
    assert "unknown" not in told
    told = seen(Status(0, 0, "main.1", (node,), {}, about))
    assert "✗ main.1" in told
    assert "? unknown" in told


def test_where_nothing_may_be_written_no_run_begins(place: Path) -> None:
    """What a run of hours comes to is wanted in a folder that is not this user's to write."""
    closed = place / "theirs"
    closed.mkdir()
    closed.chmod(0o555)
    data = make_idx_folder(place / "data", 60, 20)
    done = as_stranger(
        place, *MAIN, "--data", str(data), "--run-dir", "r", "--publish", str(closed / "a" / "b"),
    )  # fmt: skip
    assert done.returncode == Exit.USAGE
    assert f"--publish {closed}/a/b: {closed} can't be written to by you" in done.stderr
    assert not (place / "r").exists()
