"""Users' own code through the commands: found, shipped where both sides allow it, else told."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from console.exits import Exit
from learning.own import kinds

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
EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ("--data", "digits", "--jobs", "2", "--rounds", "2", "--epochs", "4", "--json", "--quiet")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Return a file with a net, that imports another beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "blocks.py").write_text(dedent(BLOCKS))
    (folder / "net.py").write_text(dedent(NET))
    return folder / "net.py"


def done_here(*arguments: str, runs: Path) -> dict[str, Any]:
    """Return what a run came to, whose main node is in this process."""
    done = here(MAIN_HERE, "--run-dir", str(runs), "--bind", ANY_PORT, "--json", "--quiet",
                *arguments)  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


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
    result = done_here("--config", str(config), *SMALL, "--local-nodes", "1", runs=runs)
    assert result["learner"] == "net:Net"
    assert result["options"]["batch_size"] == 32
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
    kinds._learner_at.cache_clear()  # as another command does
    gone = here(MAIN_HERE, "--resume", str(folder), "--bind", ANY_PORT)
    assert gone.returncode == 2
    assert "no such file" in gone.stderr
    moved = ("--resume", str(folder), "--learner", f"{elsewhere}/net.py:Net")
    assert done_here(*moved, runs=runs)["model_sha256"] == result["model_sha256"]
    (folder / "metrics.json").unlink()
    with (elsewhere / "blocks.py").open("a") as file:
        file.write("# changed\n")
    kinds._learner_at.cache_clear()
    other = here(MAIN_HERE, *moved, "--bind", ANY_PORT)
    assert other.returncode == 2
    assert "has been changed since run" in other.stderr
    kept = ("--resume", str(folder), "--learner", f"{folder}/code/net.py:Net")
    assert done_here(*kept, runs=runs)["model_sha256"] == result["model_sha256"]


def test_code_goes_where_its_owner_and_the_nodes_owner_allow_it(
    tmp_path: Path, start: Start
) -> None:
    port = free_port()
    address, runs = f"tcp://127.0.0.1:{port}", tmp_path / "runs"
    mine, there = tmp_path / "mine", tmp_path / "there"
    for folder in (mine, there):
        folder.mkdir()
    linear = (Path(__file__).parent / "brought" / "linear.py").read_text()  # which needs no torch
    (mine / "lines.py").write_text(f"{linear}\nimport beside\n")
    (mine / "beside.py").write_text("")
    main = (
        "--learner", f"{mine}/lines.py:LinearLearner", "--bind", address, "--data", "digits",
        "--jobs", "2", "--rounds", "2",
    )  # fmt: skip
    plain = start(*COMPUTE, "--connect", address, "--name", "plain", cwd=there)
    for ship, why in (
        ((), "there is no module 'lines'"),
        (("--ship-code",), "takes no code that comes"),
    ):
        refused = here(MAIN_HERE, *main, *ship, "--run-dir", str(runs), "--timeout", "5")
        assert refused.returncode == 5
        assert why in refused.stderr
        plain.event("source.unreachable", reason=has(why))
    assert not runs.exists()  # of a run that could not begin

    takes = start(*COMPUTE, "--connect", address, "--name", "takes", "--accept-code", cwd=there)
    result = done_here(*main, "--ship-code", "--min-nodes", "2", runs=runs)
    assert result["accuracy"] > 0.8
    assert [name.partition(".")[0] for name in result["nodes"]] == ["takes"]
    assert plain.never("task.solved")

    # Who has the same files needs no permission: named by its owner, or on PYTHONPATH.
    takes.kill()
    has_it = start(*COMPUTE, "--connect", address, "--name", "has", "--code", str(mine))
    again = done_here(*main, "--min-nodes", "2", runs=runs)
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
    assert "dropout=NUMBER" in help_.stdout
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


UNIT = """
import torch
from torch import nn
from learning import KubeDataset, KubeModel

class Digits(KubeDataset):
    def __init__(self):
        super().__init__("digits")

    def __getitem__(self, index):
        return torch.from_numpy(self.data[index]).float().div(255), self.labels[index]

class Model(KubeModel):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    def train(self, x, y, batch_index):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def validate(self, x, y, batch_index):
        loss = nn.functional.cross_entropy(self(x), y)
        return (self(x).argmax(1) == y).float().mean().item(), loss.item()

def main():
    torch.manual_seed(42)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return Model(net, Digits()).start()
"""


def test_a_unit_of_kubeml_is_run_as_it_is_on_the_data_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "unit.py"
    file.write_text(UNIT)
    printed = here(MAIN_HERE, "--learner", f"{file}:main", "--print-config")
    assert "\ndata: digits\n" in printed.stdout
    result = done_here(
        "--learner", f"{file}:main", "--jobs", "2", "--rounds", "3", "--epochs", "4", "--lr", "0.1",
        "--local-nodes", "1", runs=tmp_path / "runs",
    )  # fmt: skip
    assert result["data"]["source"] == "digits"
    assert result["learner"] == "unit:main"
    assert result["accuracy"] > 0.85
    for name, told in (
        ("Model", "can't be made without arguments"), ("Digits", "a class of torch's nn.Module"),
    ):  # fmt: skip
        done = here(MAIN_HERE, "--learner", f"{file}:{name}", "--data", "digits")
        assert done.returncode == 2
        assert told in done.stderr


@pytest.mark.lane("deep")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--learner", "own_net.py:Net", "--data", "digits", "--set", "units=4"),
        ("--learner", "own_resnet.py:ResNet", "--data", f"{EXAMPLES}/colour_digits.py:load",
         "--limit", "200", "--rounds", "1"),
        ("--learner", "kubeml_lenet.py:main", "--limit", "200", "--rounds", "1"),
    ],
    ids=lambda arguments: arguments[1],
)  # fmt: skip
def test_examples_are_learned(arguments: tuple[str, ...], tmp_path: Path) -> None:
    flag, name, *others = arguments
    done = here(
        MAIN_HERE, "--run-dir", str(tmp_path / "runs"), "--bind", ANY_PORT, "--json", "--quiet",
        flag, f"{EXAMPLES / name}", *others, "--jobs", "2", "--local-nodes", "1", "--epochs", "2",
    )  # fmt: skip
    assert done.returncode in (Exit.DONE, Exit.NOT_GOOD), done.stderr  # of so few rows
    assert json.loads(done.stdout)["learner"] == name.replace(".py", "")
