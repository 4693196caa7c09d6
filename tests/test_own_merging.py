"""Users' own ways to merge: at the main node alone, or with a part whose code nodes must have."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from learning.own import kinds
from loaders.errors import SourceUnreachable

from .conftest import ANY_PORT
from .processes import COMPUTE, MAIN_HERE, Start, free_port, has, here

#: A strategy with a state and an option, whose file imports another beside it.
MINE = """
from dataclasses import dataclass
from beside import goes_on
from learning.merging import Merged, Strategy
from learning.sums import weighted_mean
from protocol.options import Checked, option

@dataclass(frozen=True, kw_only=True)
class MineOptions(Checked):
    hold: float = option(0.5, "How much of the last way is gone again.", least=0, most=1)

class Mine(Strategy):
    name, options = "mine", MineOptions

    def begin(self, initial):
        return {name: 0 * array for name, array in initial.items() if array.dtype.kind == "f"}

    def merge(self, solutions, before, state):
        mean, after = weighted_mean(solutions), {}
        for name, way in state.items():
            after[name] = self.made.hold * way + (mean[name] - before[name])
        return Merged({**mean, **goes_on(before, after)}, after)

    def tell(self, state):
        return {"arrays": len(state)}

class Wide(Strategy):
    name = "wide"

    def merge(self, solutions, before, state):
        return {name: array.astype("float64") for name, array in before.items()}, {}

class Mute(Strategy):
    name = "mute"

    def merge(self, solutions, before, state):
        return weighted_mean(solutions), {}

    def tell(self, state):
        return {"more": object()}

class Broken(Strategy):
    name = "broken"

    def merge(self, solutions, before, state):
        raise RuntimeError("out of order")

def function():
    import learning
"""
BESIDE = """
def goes_on(before, ways):
    return {name: (before[name] + way).astype(before[name].dtype) for name, way in ways.items()}
"""
SHAPE = ("--learner", "linear", "--data", "digits", "--jobs", "2", "--rounds", "3")
TETHER = (Path(__file__).parent / "seams" / "tether.py").read_text()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return the file of the strategy."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.py").write_text(dedent(MINE))
    (folder / "beside.py").write_text(dedent(BESIDE))
    return folder / "mine.py"


def forget() -> None:
    """Know nothing of what was read, as another command does."""
    kinds._strategy_at.cache_clear()


def done(*arguments: str, runs: Path) -> dict[str, Any]:
    """Return what a run came to, whose main node is in this process."""
    ended = here(MAIN_HERE, "--run-dir", str(runs), "--json", "--quiet", *arguments)
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def test_a_strategy_without_a_part_at_nodes_is_the_main_nodes_own(
    mine: Path, tmp_path: Path, start: Start
) -> None:
    address, runs = f"tcp://127.0.0.1:{free_port()}", tmp_path / "runs"
    node = start(*COMPUTE, "--connect", address, "--learners", "linear", cwd=tmp_path)
    merge = f"{mine}:Mine:hold=0.75"
    result = done(*SHAPE, "--merge", merge, "--bind", address, runs=runs)
    assert node.events("task.solved")  # who has nothing of it
    assert (result["merge"], result["options"]["merge"]) == ("mine:Mine:hold=0.75",) * 2
    assert result["merged"] == {"arrays": 3}
    (folder,) = runs.iterdir()
    assert {path.name for path in (folder / "code").iterdir()} == {"mine.py", "beside.py"}

    # The run is what its strategy was; that may lie elsewhere by now.
    def again(*options: str) -> Any:
        forget()
        for name in ("model.safetensors", "metrics.json"):
            (folder / name).unlink(missing_ok=True)
        return here(MAIN_HERE, "--resume", str(folder), "--json", "--quiet", *options)

    elsewhere = mine.parent.rename(tmp_path / "elsewhere")
    gone = again()
    assert gone.returncode == 2
    assert "no such file" in gone.stderr
    other = again("--merge", f"{elsewhere}/mine.py:Mine:hold=0.5")
    assert other.returncode == 2
    assert "its model would be another" in other.stderr
    for model in (folder / "models").glob("round-00[23]*"):  # which are merged again
        model.unlink()
    moved = again("--merge", f"{elsewhere}/mine.py:Mine:hold=0.75")
    assert json.loads(moved.stdout)["model_sha256"] == result["model_sha256"]
    (elsewhere / "beside.py").write_text(f"{BESIDE}# changed\n")
    changed = again("--merge", f"{elsewhere}/mine.py:Mine:hold=0.75")
    assert changed.returncode == 2
    assert "has been changed since run" in changed.stderr
    assert "with --merge" in changed.stderr
    kept = again("--merge", f"{folder}/code/mine.py:Mine:hold=0.75")
    assert json.loads(kept.stdout)["model_sha256"] == result["model_sha256"]


def test_nodes_must_have_the_code_of_a_part_in_their_steps(tmp_path: Path, start: Start) -> None:
    address, runs = f"tcp://127.0.0.1:{free_port()}", tmp_path / "runs"
    ours, there = tmp_path / "ours", tmp_path / "there"
    for folder in (ours, there):
        folder.mkdir()
    (ours / "tied.py").write_text(TETHER)
    main = (*SHAPE, "--merge", f"{ours}/tied.py:Tether:hold=0.3", "--bind", address)
    plain = start(*COMPUTE, "--connect", address, "--name", "plain", cwd=there)
    for ship, why in (
        ((), "there is no module 'tied'"),
        (("--ship-code",), "takes no code that comes"),
    ):
        refused = here(MAIN_HERE, *main, *ship, "--run-dir", str(runs), "--timeout", "2")
        assert refused.returncode == 5
        assert why in refused.stderr
        plain.event("source.unreachable", reason=has(why))
    assert not runs.exists()

    # Whose owner wants jobs of one learner only has no code of others run.
    told = {"module": "tied", "name": "Tether", "digest": "0" * 32}
    with pytest.raises(SourceUnreachable, match="--learners own does"):
        kinds.Finder(merges=False).strategy(told, None)
    narrow = start(
        *COMPUTE, "--connect", address, "--name", "narrow", "--learners", "linear",
        "--accept-code", cwd=there,
    )  # fmt: skip
    takes = start(*COMPUTE, "--connect", address, "--name", "takes", "--accept-code", cwd=there)
    result = done(*main, "--ship-code", "--min-nodes", "3", runs=runs)
    assert result["merge"] == "tied:Tether:hold=0.3"
    assert [name.partition(".")[0] for name in result["nodes"]] == ["takes"]
    for process in (takes, narrow):
        process.kill()

    # Who has the same files needs no permission.
    start(*COMPUTE, "--connect", address, "--name", "has", "--code", str(ours))
    again = done(*main, "--min-nodes", "2", runs=runs)
    assert again["model_sha256"] == result["model_sha256"]
    assert not [*there.iterdir()]
    local = done(*main[:-1], ANY_PORT, "--local-nodes", "1", runs=runs)
    assert local["model_sha256"] == result["model_sha256"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("function", "mine:function is a function; a class of Strategy is wanted"),
        ("MineOptions", "mine:MineOptions is a type; a class of Strategy is wanted"),
        ("Nobody", "defines no class or function 'Nobody'"),
        ("Mine:hold=2", "hold is 2.0, more than 1"),
        ("Mine:held=1", "has no option 'held'; it has hold"),
    ],
)
def test_what_does_not_merge_is_told_before_anything_begins(
    mine: Path, tmp_path: Path, name: str, why: str
) -> None:
    forget()
    refused = here(MAIN_HERE, *SHAPE, "--merge", f"{mine}:{name}", "--run-dir", str(tmp_path / "r"))
    assert refused.returncode == 2
    assert why in refused.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Broken", "merging by 'mine:Broken': RuntimeError: out of order"),
        ("Wide", "float64 of shape"),
    ],
)
def test_a_strategy_that_fails_does_so_before_any_job(
    mine: Path, tmp_path: Path, name: str, why: str
) -> None:
    forget()
    refused = here(
        MAIN_HERE, *SHAPE, "--merge", f"{mine}:{name}", "--run-dir", str(tmp_path / "r"),
        "--bind", ANY_PORT, "--local-nodes", "1",
    )  # fmt: skip
    assert refused.returncode == 2
    assert why in refused.stderr
    assert not (tmp_path / "r").exists()


def test_a_strategy_that_can_not_tell_what_it_came_to_has_a_model(
    mine: Path, tmp_path: Path
) -> None:
    forget()
    merge = ("--merge", f"{mine}:Mute", "--bind", ANY_PORT, "--local-nodes", "1")
    ended = here(MAIN_HERE, *SHAPE, *merge, "--run-dir", str(tmp_path / "r"), "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["merged"] == {}
    assert "merging by 'mine:Mute' can't tell of it: TypeError" in ended.stderr


def test_the_options_of_ones_own_strategy_are_told(mine: Path) -> None:
    forget()
    told = here(MAIN_HERE, "--merge", f"{mine}:Mine", "--help")
    assert told.returncode == 0
    assert "hold=NUMBER" in told.stdout


def test_files_of_one_name_are_refused(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    linear = (Path(__file__).parent / "brought" / "linear.py").read_text()
    (other / "mine.py").write_text(linear)
    forget()
    refused = here(
        MAIN_HERE, "--learner", f"{other}/mine.py:LinearLearner", "--merge", f"{mine}:Mine",
        "--data", "digits", "--run-dir", str(tmp_path / "r"),
    )  # fmt: skip
    assert refused.returncode == 2
    assert "its mine.py is another than the learner's" in refused.stderr
