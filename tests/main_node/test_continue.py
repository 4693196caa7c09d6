"""`mnist-main --continue`: the same command, again and again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from console.exits import Exit
from main_node.commands.options import TrainOptions, cut_short

from ..brought.linear import GATE
from ..conftest import make_idx_folder
from ..processes import MAIN, MAIN_HERE, Start, here


def make_run(runs: Path, name: str, done: bool = False, **options: Any) -> Path:
    path = runs / name
    (path / "solutions").mkdir(parents=True)
    (path / "config.yaml").write_text(TrainOptions.of(run_dir=str(runs), **options).as_yaml())
    if done:
        (path / "metrics.json").write_text(json.dumps({"run": name, "model_sha256": ""}))
    return path


def test_the_newest_run_of_the_same_kind_that_was_cut_short_is_taken(tmp_path: Path) -> None:
    make_run(tmp_path, "1", jobs=4)
    wanted = make_run(tmp_path, "2", jobs=4)
    make_run(tmp_path, "3", jobs=5)
    make_run(tmp_path, "4", jobs=4, domain=7)
    make_run(tmp_path, "5", jobs=4, data="elsewhere")
    (make_run(tmp_path, "6", jobs=4) / "config.yaml").write_text("jobs: nonsense")
    config = TrainOptions.of(run_dir=str(tmp_path), jobs=4)
    assert cut_short(config) == wanted
    assert cut_short(TrainOptions.of(run_dir=str(tmp_path), jobs=6)) is None
    assert cut_short(TrainOptions.of(run_dir=str(tmp_path / "none"), jobs=4)) is None


def test_a_killed_run_goes_on_and_a_finished_one_is_followed_by_another(
    start: Start, tmp_path: Path
) -> None:
    data, runs = make_idx_folder(tmp_path / "data", 160, 40), tmp_path / "runs"
    command = (
        *MAIN, "--data", str(data), "--run-dir", str(runs), "--local-nodes", "1", "--json",
        "--rounds", "2", "--learner", "linear", "--bind", "tcp://127.0.0.1:0", "--continue",
    )  # fmt: skip

    def cut_short(name: str) -> None:
        """Kill it when a round is merged; the next does not end before that."""
        (tmp_path / name).mkdir()
        process = start(*command, env={**os.environ, GATE: str(tmp_path / name)})
        process.event("run.round-merged", round=0)
        process.kill()

    cut_short("first")
    second = start(*command)
    result = second.result()
    assert result["starts"] == 2
    second.event("run.noted", text="round 1 of 2 was merged before")
    third = start(*command).result()
    assert (third["starts"], third["model_sha256"]) == (1, result["model_sha256"])
    assert third["run"] != result["run"]
    # Cut short once more, and the data is another when it comes back: that is another run.
    cut_short("fourth")
    before = set(runs.iterdir())
    make_idx_folder(data, 120, 40)
    fifth = start(*command)
    told = fifth.event("run.begun_anew", command="mnist-main")
    assert "the data is not what run" in told["says"]
    assert told["says"].endswith(": beginning one")
    opened = fifth.event("run.opened")
    fifth.kill()
    assert len(before) == 3
    assert {Path(opened["directory"])} == set(runs.iterdir()) - before


def test_the_code_of_somebody_elses_run_is_not_run_unless_it_is_named(tmp_path: Path) -> None:
    code = tmp_path / "data.py"
    code.write_text("from pathlib import Path\nPath(__file__).with_name('it ran').touch()\n")
    run = make_run(tmp_path, "1", data=f"{code}:load", learner="linear")
    for each in (run, run / "config.yaml"):
        before = each.stat().st_mode
        each.chmod(before | 0o002)  # anybody may have written it
        done = here(MAIN_HERE, "--resume", str(run))
        assert done.returncode == Exit.USAGE
        assert "to have it run, name it yourself, with --data" in done.stderr
        assert not (tmp_path / "it ran").exists()
        each.chmod(before)
    named = here(MAIN_HERE, "--resume", str(run), "--data", f"{code}:load")
    assert "has no function 'load'" in named.stderr
    assert (tmp_path / "it ran").exists()
    assert "has no function 'load'" in here(MAIN_HERE, "--resume", str(run)).stderr


def test_an_address_with_another_signature_is_of_the_same_run(tmp_path: Path) -> None:
    address = "https://host/d.npz?X-Amz-Signature="
    options = TrainOptions.of(run_dir=str(tmp_path), data=f"{address}1")
    run = make_run(tmp_path, "1")
    (run / "config.yaml").write_text(options.kept())
    assert "Signature=***" in options.kept()
    assert cut_short(TrainOptions.of(run_dir=str(tmp_path), data=f"{address}2")) == run
    assert cut_short(TrainOptions.of(run_dir=str(tmp_path), data="https://host/d.npz")) is None
