"""Users' own code through the commands: found, shipped where both sides allow it, else told."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from .conftest import ANY_PORT
from .processes import (
    COMPUTE,
    MAIN,
    MAIN_HERE,
    PREDICT_HERE,
    Start,
    free_port,
    has,
    here,
    run,
)

NET = """
from torch import nn
from blocks import block

class Net(nn.Module):
    def __init__(self, channels: int, height: int, width: int, classes: int, dropout: float = 0.0):
        super().__init__()
        self.body = block(channels)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(8 * height * width, classes)

    def forward(self, x):
        return self.head(self.drop(self.body(x)).view(len(x), -1))
"""
BLOCKS = """
from torch import nn

def block(channels):
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
"""
SMALL = ("--data", "digits", "--jobs", "2", "--rounds", "2", "--epochs", "4", "--json", "--quiet")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Return a file with a net, that imports another beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "blocks.py").write_text(dedent(BLOCKS))
    (folder / "net.py").write_text(dedent(NET))
    return folder / "net.py"


def made(command: tuple[str, ...], *arguments: str, folder: Path) -> dict[str, Any]:
    """Return what a run came to."""
    done = run(*command, "--run-dir", str(folder), *arguments)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_net_in_a_file_is_trained_resumed_and_used(net: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"format: 2\nlearner:\n  name: {net}:Net\n  dropout: 0.1\n  optimizer: Adam\nlr: 0.01\n"
    )
    runs = tmp_path / "runs"
    result = made(
        MAIN, "--config", str(config), *SMALL, "--bind", ANY_PORT, "--local-nodes", "1", folder=runs
    )
    assert result["learner"] == "net:Net"
    assert result["accuracy"] > 0.85
    (folder,) = runs.iterdir()

    # Nobody runs the code of a model that has not been named.
    plain = here(PREDICT_HERE, str(folder), "--data", "digits")
    assert plain.returncode != 0
    assert "--learner FILE.py:Net" in plain.stderr
    named = here(PREDICT_HERE, str(folder), "--data", "digits", "--json", "--learner", f"{net}:Net")
    assert json.loads(named.stdout)["accuracy"] == result["accuracy"]

    # The run is what its code was; that may lie elsewhere by now.
    for name in ("model.safetensors", "metrics.json"):
        (folder / name).unlink()
    elsewhere = tmp_path / "elsewhere"
    net.parent.rename(elsewhere)
    gone = run(*MAIN, "--resume", str(folder), "--bind", ANY_PORT)
    assert gone.returncode == 2
    assert "no such file" in gone.stderr
    again = made(
        MAIN, "--resume", str(folder), "--learner", f"{elsewhere}/net.py:Net", "--json", "--quiet",
        "--bind", ANY_PORT, folder=runs,
    )  # fmt: skip
    assert again["model_sha256"] == result["model_sha256"]
    (folder / "metrics.json").unlink()
    with (elsewhere / "blocks.py").open("a") as file:
        file.write("# changed\n")
    other = run(
        *MAIN, "--resume", str(folder), "--learner", f"{elsewhere}/net.py:Net", "--bind", ANY_PORT
    )
    assert other.returncode == 2
    assert "has been changed since run" in other.stderr


def test_code_goes_where_its_owner_and_the_nodes_owner_allow_it(
    net: Path, tmp_path: Path, start: Start
) -> None:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    main = (*MAIN, "--learner", f"{net}:Net", "--bind", address, *SMALL)
    there = tmp_path / "there"
    there.mkdir()
    plain = start(*COMPUTE, "--connect", address, "--name", "plain", cwd=there)
    for ship, why in (
        ((), "there is no module 'net'"),
        (("--ship-code",), "takes no code that comes"),
    ):
        refused = run(*main, *ship, "--run-dir", str(tmp_path / "none"), "--timeout", "3")
        assert refused.returncode == 5
        assert why in refused.stderr
        plain.event("source.unreachable", reason=has(why))
    assert not (tmp_path / "none").exists()  # of a run that could not begin

    takes = start(*COMPUTE, "--connect", address, "--name", "takes", "--accept-code", cwd=there)
    result = made(main, "--ship-code", "--min-nodes", "2", folder=tmp_path / "runs")
    assert result["accuracy"] > 0.85
    assert [name.partition(".")[0] for name in result["nodes"]] == ["takes"]
    assert plain.never("task.solved")

    # Who has the same files needs no permission: named by its owner, or on PYTHONPATH.
    takes.kill()
    has_it = start(*COMPUTE, "--connect", address, "--name", "has", "--code", str(net.parent))
    again = made(main, "--min-nodes", "2", folder=tmp_path / "runs")
    assert again["model_sha256"] == result["model_sha256"]
    assert has_it.events("task.solved")
    assert not [*there.iterdir()]


@pytest.mark.parametrize(
    "arguments",
    [("--connect", "tcp://10.0.0.9:5555"), ("--discover",), ("--discover", "--insecure")],
    ids=" ".join,
)
def test_code_is_taken_from_another_machine_only_with_keys(arguments: tuple[str, ...]) -> None:
    done = run(*COMPUTE, "--accept-code", *arguments)
    assert done.returncode == 2
    assert "--accept-code without --keys takes code from this machine only" in done.stderr


def test_a_net_that_can_not_learn_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(dedent(
        """
        from torch import nn
        class Bad(nn.Module):
            def __init__(self, classes):
                super().__init__()
                self.dense = nn.Linear(7, classes)
            def forward(self, x):
                return self.dense(x)  # of another width
        """
    ))  # fmt: skip
    done = run(
        *MAIN, "--learner", f"{file}:Bad", "--local-nodes", "1", "--bind", ANY_PORT, *SMALL,
        "--run-dir", str(tmp_path / "runs"),
    )  # fmt: skip
    assert done.returncode == 4
    told = done.stderr.partition("mnist-main:")[2]
    assert "mat1 and mat2 shapes cannot be multiplied" in told
    assert f'{file}", line 8, in forward' in told
    assert "learning/actions.py" not in told
    assert "before any job was done" in told
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_worked_on_meanwhile_is_used_as_it_was(tmp_path: Path) -> None:
    """Who edits a net while it is trained must not have the run wait for what nobody has."""
    file = tmp_path / "net.py"
    file.write_text(dedent(
        """
        import os
        from pathlib import Path
        from torch import nn
        class Net(nn.Module):
            def __init__(self, classes):
                super().__init__()
                self.dense = nn.Linear(64, classes)
            def forward(self, x):
                if self.training and Path(FILE).read_text()[-1] != "#":
                    Path(FILE).open("a").write("#")
                    os._exit(1)  # whoever does it next finds another version
                return self.dense(x.view(len(x), -1))
        """
    ).replace("FILE", repr(str(file))))  # fmt: skip
    done = run(
        *MAIN, "--learner", f"{file}:Net", "--local-nodes", "1", "--bind", ANY_PORT, *SMALL,
        "--rounds", "1", "--run-dir", str(tmp_path / "runs"), "--timeout", "30",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert file.read_text().endswith("#")


def test_options_of_a_net_are_told_and_checked_before_anything_runs(net: Path) -> None:
    help_ = here(MAIN_HERE, "--learner", f"{net}:Net", "--help")
    assert help_.returncode == 0
    assert "dropout=float" in help_.stdout
    for given, told in (
        ("dropuot=1", "did you mean dropout?"), ("dropout=x", "not a number"),
        ("optimizer=Foo", "torch.optim has no such class"), ("width=3", "is for --learner neural"),
    ):  # fmt: skip
        done = here(MAIN_HERE, "--learner", f"{net}:Net", "--set", given, "--data", "digits")
        assert done.returncode == 2
        assert told in done.stderr


@pytest.mark.lane("deep")
def test_a_users_net_is_the_same_for_one_node_and_for_four(net: Path, tmp_path: Path) -> None:
    found = {
        made(
            MAIN, "--learner", f"{net}:Net", "--set", "dropout=0.2", "--jobs", "4", "--limit",
            "2000", "--rounds", "3", "--epochs", "2", "--json", "--bind", ANY_PORT,
            "--local-nodes", str(nodes), folder=tmp_path / "runs",
        )["model_sha256"]
        for nodes in (1, 4)
    }  # fmt: skip
    assert len(found) == 1
