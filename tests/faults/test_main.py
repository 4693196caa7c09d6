"""Main nodes are killed, interrupted, run out of disk, and go on: nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from main_node.commands.runs import summarize
from main_node.run.evaluation import TEST_JOBS

from ..processes import MAIN, SECONDS, run
from .conftest import TRIAL, Cluster, first_of_all

#: Lines that a main node says on its way, each a place to be hit at.
STAGES = [
    "main.listening",
    "node.joined",
    "job.offered",
    "job.accepted",
    "job.offered job=round-001-job",
    "job.accepted job=round-001-job",
    "round 1 of 2 merged",
    "job.accepted job=round-002-job-0001",
    "round 1: accuracy",
    "round 2 of 2 merged",
    "round 2: accuracy",
]


def nothing_twice(cluster: Cluster, before: set[str]) -> None:
    """Check that no job whose solution was on disk was given to a node again."""
    again = {name for name, tasks in cluster.tasks().items() if any(map(cluster.start_of, tasks))}
    assert not before & again, "a finished job was computed again"


@pytest.mark.parametrize("stage", STAGES)
def test_a_main_node_is_killed_and_resumed(cluster: Cluster, stage: str) -> None:
    """The nodes are there all the while, and come back by themselves."""
    nodes = [cluster.node("a"), cluster.node("b")]
    main = cluster.main()
    main.wait_for(stage)
    main.kill()
    before = cluster.solved()
    again = cluster.resume()
    cluster.same(again.result())
    assert cluster.run.exists()
    nothing_twice(cluster, before)
    for node in nodes:
        assert node.never_said("Traceback")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_a_main_node_is_interrupted_and_resumed(cluster: Cluster, stage: str, number: int) -> None:
    main = cluster.main("--local-nodes", "1")
    main.wait_for(stage)
    locals_ = psutil.Process(main.popen.pid).children(recursive=True)
    main.send(number)
    code, output = main.end()
    if code == 0:  # it had come to its end
        cluster.same(json.loads(output))
        return
    assert code == 130
    assert main.never_said("Traceback")
    _, left = psutil.wait_procs(locals_, SECONDS)
    assert not left, "a local node is left"
    if not cluster.runs.exists():  # nothing of it is left
        assert "interrupted; before any job was done" in main.seen[-1]
        return
    assert (
        main.seen[-1] == f"mnist-main: interrupted; go on with: mnist-main --resume {cluster.run}\n"
    )
    before = cluster.solved()
    cluster.same(cluster.resume("--local-nodes", "1").result())
    nothing_twice(cluster, before)


def test_nodes_hand_over_what_they_hold_when_the_main_node_comes_back(cluster: Cluster) -> None:
    """As when its host is started anew: what was solved meanwhile is not solved again."""
    node = cluster.node("a")
    main = cluster.main()
    node.wait_for("action=fit")
    main.kill()
    node.wait_for("task.solved", times=3)  # one in its hands, one waiting; the trial was before
    assert cluster.solved() == {TRIAL}
    cluster.same(cluster.resume().result())
    started = [line.split("job=")[1].split()[0] for line in node.seen if "task.started" in line]
    assert len(started) == len(set(started)), "a job was begun twice"
    old = [t for tasks in cluster.tasks().values() for t in tasks if not cluster.start_of(t)]
    assert len(old) == 3


def test_a_host_that_shuts_down_leaves_the_nodes_with_what_they_hold(cluster: Cluster) -> None:
    node = cluster.node("a")
    main = cluster.main()
    node.wait_for("action=fit")
    main.send(signal.SIGTERM)
    assert main.end()[0] == 130
    node.wait_for("task.solved", times=3)
    assert node.never_said("main.ended")
    cluster.same(cluster.resume().result())  # though nothing was solved before
    assert len([line for line in node.seen if "action=fit" in line]) == 8


def test_a_resumed_run_is_resumed_again_and_again(cluster: Cluster) -> None:
    cluster.node("a")
    main = cluster.main()
    for stage in (
        "job.accepted",
        "job.accepted job=round-001",
        "round 1 of 2 merged",
        "job.accepted",
    ):
        main.wait_for(stage)
        main.kill()
        main = cluster.resume("--log-level", "debug")
    assert cluster.same(main.result())["starts"] == 5


def test_a_finished_run_says_so(cluster: Cluster) -> None:
    first = cluster.main("--local-nodes", "1").result()
    code, output = cluster.resume().end()
    assert code == 0
    assert json.loads(output) == first


def test_a_run_that_was_killed_at_its_very_end_is_mended(cluster: Cluster) -> None:
    first = cluster.main("--local-nodes", "1").result()
    (cluster.run / "confusion.png").unlink()
    database = sqlite3.connect(cluster.run / "run.db")
    database.execute("UPDATE facts SET value = '' WHERE name = 'ending'")
    database.commit()
    database.close()
    assert summarize(cluster.run).state == "done"
    assert cluster.resume().result() == first
    assert (cluster.run / "confusion.png").exists()


def test_what_was_left_out_is_remembered(cluster: Cluster, tmp_path: Path) -> None:
    one_shard_diverges(cluster, tmp_path)
    main = cluster.main("--partial", "--max-attempts", "2")
    cluster.node("a", env=first_of_all(tmp_path))
    main.wait_for("round 1 of 2 merged")
    main.kill()
    result = cluster.resume().result()
    assert result["left_out"] == ["round 1 job 2", "round 2 job 2"]


@pytest.fixture
def cut_short(cluster: Cluster) -> Cluster:
    """Return a cluster whose main node was killed in the second round."""
    main = cluster.main("--local-nodes", "1")
    main.wait_for("round 1 of 2 merged")
    main.wait_for("job.accepted job=round-002")
    main.kill()
    return cluster


def damage(path: Path) -> None:
    """Change a byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_run_that_is_damaged_by_hand_is_read_as_far_as_it_is_good(cut_short: Cluster) -> None:
    cluster = cut_short
    solutions = cluster.run / "solutions"
    damage(solutions / "round-002-job-0001.safetensors")
    (solutions / "round-001-test-1.safetensors").unlink(missing_ok=True)
    (solutions / ".round-002-job-0002.safetensors.part").write_bytes(b"half a write")
    damage(cluster.run / "models" / "round-001.safetensors")  # made anew from its solutions,
    half = solutions / "round-001-job-0003.safetensors"  # one of which is half a file
    half.write_bytes(half.read_bytes()[:1000])
    again = cluster.resume("--local-nodes", "1")
    result = cluster.same(again.result())
    again.wait_for(
        "models/round-001.safetensors: damaged: its content does not match its checksum;"
    )
    assert "; merged again" in again.wait_for("models/round-001.safetensors")
    assert "; done again" in again.wait_for("round-001-job-0003.safetensors: not a file")
    assert "; done again" in again.wait_for("round-002-job-0001.safetensors: damaged")
    again.wait_for("round 1: 3 jobs solved before")
    assert result["starts"] == 2


@pytest.mark.parametrize("how", ["garbage", "gone", "cut"])
def test_a_damaged_database_costs_the_history_and_no_solution(cut_short: Cluster, how: str) -> None:
    cluster = cut_short
    database = cluster.run / "run.db"
    for left in ("run.db-wal", "run.db-shm"):
        (cluster.run / left).unlink(missing_ok=True)
    if how == "gone":
        database.unlink()
    elif how == "garbage":
        database.write_bytes(os.urandom(5000))
    else:
        database.write_bytes(database.read_bytes()[:2500])
    before = cluster.solved()
    again = cluster.resume("--local-nodes", "1")
    cluster.same(again.result())
    again.wait_for("the run's history is lost, its solutions are not")
    assert not before & cluster.tasks().keys(), "a finished job was computed again"


def test_a_damaged_configuration_is_named(cut_short: Cluster) -> None:
    (cut_short.run / "config.yaml").write_text("jobs: [")
    code, _ = (again := cut_short.resume()).end()
    assert code == 2
    assert "config.yaml, line 1: not YAML" in again.seen[-1]


def test_data_that_has_changed_since_is_refused(cut_short: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(cut_short.data, other)
    damage(other / "train-images-idx3-ubyte")
    config = cut_short.run / "config.yaml"
    config.write_text(config.read_text().replace(str(cut_short.data), str(other)))
    code, _ = (again := cut_short.resume()).end()
    assert code == 2
    assert "the data is not what run" in again.seen[-1]
    assert cut_short.run.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("jobs: 4", "jobs: 5"), "config.yaml has been changed since the run began"),
        (("lr: 0.05", "lr: 0.06"), "config.yaml has been changed since the run began"),
        (("rounds: 2", "rounds: 0"), "config.yaml: rounds is 0, less than 1"),
        (("log_level: debug", "log_level: foo"), "config.yaml: log_level is 'foo', not one of"),
        (("jobs: 4", ""), "config.yaml: not whole: no jobs"),
    ],
)
def test_a_configuration_that_was_changed_is_refused(
    cut_short: Cluster, change: tuple[str, str], told: str
) -> None:
    config = cut_short.run / "config.yaml"
    assert change[0] in config.read_text()
    config.write_text(config.read_text().replace(*change))
    code, _ = (again := cut_short.resume()).end()
    assert code == 2
    assert told in again.seen[-1]


def test_test_data_that_has_changed_is_refused_and_data_may_move(
    cut_short: Cluster, tmp_path: Path
) -> None:
    other = tmp_path / "moved"
    shutil.copytree(cut_short.data, other)
    cut_short.same(cut_short.resume("--data", str(other), "--local-nodes", "1").result())
    shutil.rmtree(cut_short.run / "models")
    (cut_short.run / "metrics.json").unlink()
    damage(other / "t10k-images-idx3-ubyte")
    code, _ = (again := cut_short.resume("--data", str(other))).end()
    assert code == 2
    assert "the data is not what run" in again.seen[-1]


def test_options_that_shape_the_model_can_not_change(cut_short: Cluster) -> None:
    code, _ = (again := cut_short.resume("--jobs", "5")).end()
    assert code == 2
    assert "--jobs 5 can't be: run" in again.seen[-1]
    again = cut_short.resume("--jobs", "4", "--local-nodes", "2")
    cut_short.same(again.result())


def test_a_log_that_can_not_be_written_costs_the_log(cluster: Cluster) -> None:
    main = cluster.main("--local-nodes", "1")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*MAIN, "--bind", "tcp://127.0.0.1:0", "--data", str(cluster.data), "--run-dir",
             str(cluster.runs.with_name("other")), "--jobs", "1", "--rounds", "1", "--epochs", "1",
             "--local-nodes", "1", "--json"],
            stdout=subprocess.PIPE, stderr=full, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["left_out"] == []
    cluster.same(main.result())


def test_two_main_nodes_can_not_share_a_run_directory(cluster: Cluster) -> None:
    main = cluster.main()
    main.wait_for("main.listening")
    code, _ = (second := cluster.resume()).end()
    assert code == 2
    assert f"is in use by process {main.popen.pid} on" in second.seen[-1]
    cluster.node("a")
    cluster.same(main.result())


def test_an_address_that_is_taken_meanwhile_is_not_insisted_on(cluster: Cluster) -> None:
    main = cluster.main("--bind", "tcp://127.0.0.1:0", "--local-nodes", "1")
    main.wait_for("job.accepted job=round-001-job")
    main.kill()
    import socket

    port = int(main.wait_for("listening at").split(",")[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        again = cluster.resume()
        cluster.same(again.result())
    again.wait_for("where this run listened before, is taken")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk with room for little."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1300k", "none", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        reason = f"a small disk can't be mounted: {mounted.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_ends_the_run_and_loses_nothing(cluster: Cluster, small_disk: Path) -> None:
    """The nodes keep what is not on disk; with more room the run goes on from there."""
    cluster.runs = small_disk
    node = cluster.node("a")
    main = cluster.main()
    code, _ = main.end()
    assert code == 7, "".join(main.seen)
    assert "No space left on device" in "".join(main.seen[-2:])
    assert f"go on with: mnist-main --resume {cluster.run}" in main.seen[-1]
    assert main.never_said("Traceback")
    before = cluster.solved()
    assert before > {TRIAL}
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    cluster.same(cluster.resume().result())
    nothing_twice(cluster, before)
    started = [line.split("job=")[1].split()[0] for line in node.seen if "task.started" in line]
    assert len(started) == len(set(started)), "a job was begun twice"


def test_a_run_directory_that_can_not_be_made_is_named(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run(*MAIN, "--data", str(cluster.data), "--run-dir", str(tmp_path / "file" / "runs"))
    assert done.returncode == 2
    assert "can't be made (Not a directory); name another with --run-dir" in done.stderr


def test_a_run_directory_that_is_somebody_elses_is_named(cut_short: Cluster) -> None:
    """Root may write anywhere, so the command runs as nobody."""
    for path in [cut_short.run, *cut_short.run.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in [cut_short.runs, *cut_short.runs.parents]:
        if parent.stat().st_mode & 0o055 != 0o055 and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    program = (
        "import os, contextlib, yaml, main_node.commands.train, loaders.sources\n"
        "loaders.sources.kinds()\n"
        "with contextlib.suppress(SystemExit):\n"
        # It imports what nobody can not read.
        "    main_node.commands.train.main(['--resume', '/nowhere'])\n"
        "if os.geteuid() == 0:\n"
        "    os.setuid(65534)\n"
        f"main_node.commands.train.main(['--resume', {str(cut_short.run)!r}, '--quiet'])\n"
    )
    done = run(MAIN[0], "-c", program)
    assert done.returncode == 2
    assert "can't be used (Permission denied); it must be writable to go on" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_left_out_is_said_and_the_rest_is_merged(cluster: Cluster, tmp_path: Path) -> None:
    """One shard's training diverges wherever it runs; with --partial the others are enough."""
    one_shard_diverges(cluster, tmp_path)
    main = cluster.main("--partial", "--max-attempts", "2")
    cluster.node("a", env=first_of_all(tmp_path))
    result = main.result()
    assert result["left_out"] == ["round 1 job 2", "round 2 job 2"]
    assert result["model_sha256"] != cluster.calm
    line = main.wait_for("left out: round 1 job 2 failed for good after 2 attempts")
    assert "unfit: array 'conv1.bias' holds numbers that are not finite" in line


def test_a_part_of_the_test_set_may_be_left_out_too(cluster: Cluster, tmp_path: Path) -> None:
    """Found in review: one test job that failed ended a run with --partial."""
    (tmp_path / "sitecustomize.py").write_text(
        "import learning.neural.learner as neural\n"
        "predict = neural.NeuralLearner.evaluate\n"
        "def fail(self, model, rows):\n"
        "    if int(rows.arrays['image'][:3].sum()) == FIRST:\n"
        "        raise ValueError('not these')\n"
        "    return predict(self, model, rows)\n"
        "neural.NeuralLearner.evaluate = fail\n".replace("FIRST", str(first_images(cluster.data)))
    )
    main = cluster.main("--partial", "--max-attempts", "2")
    cluster.node("a", env=first_of_all(tmp_path))
    result = main.result()
    assert result["model_sha256"] == cluster.calm
    assert result["left_out"] == ["round 1 test 2", "round 2 test 2"]
    assert sum(map(sum, result["confusion"])) == 150
    main.wait_for("round 2: scored on 150 of 200 test images")


def first_images(data: Path) -> int:
    """Return the sum of the first images of the second part of the test set."""
    import loaders

    images = loaders.load(str(data), "test").arrays["image"]
    return int(np.array_split(images, TEST_JOBS)[1][:3].sum())


def one_shard_diverges(cluster: Cluster, folder: Path) -> None:
    """Put a module into a folder of PYTHONPATH that makes the second shard's training diverge."""
    (folder / "sitecustomize.py").write_text(
        "import learning.neural.learner as neural\n"
        "fit = neural.NeuralLearner.fit\n"
        "def diverge(self, shard, start, *, seed, **more):\n"
        "    solution = fit(self, shard, start, seed=seed, **more)\n"
        "    if int(shard.labels[:3].sum()) == FIRST:\n"
        "        solution.arrays['conv1.bias'][0] = float('nan')\n"
        "    return solution\n"
        "neural.NeuralLearner.fit = diverge\n".replace("FIRST", str(first_labels(cluster.data)))
    )


def first_labels(data: Path) -> int:
    """Return the sum of the first labels of the second shard, different from the other shards'."""
    import loaders

    labels = loaders.load(data).labels
    sums = [int(labels[rows][:3].sum()) for rows in loaders.shard(labels, 4, "disjoint", 0)]
    assert sums.count(sums[1]) == 1
    return sums[1]


def test_local_nodes_are_gone_when_their_main_node_is_killed(cluster: Cluster) -> None:
    main = cluster.main("--local-nodes", "2")
    main.wait_for("job.accepted job=round-001-job")
    processes = psutil.Process(main.popen.pid).children(recursive=True)
    assert len(processes) >= 2
    main.kill()
    _, alive = psutil.wait_procs(processes, SECONDS)
    assert not alive


def test_runs_are_listed_and_shown(cut_short: Cluster) -> None:
    runs = (MAIN[0], "-c", "from main_node.__main__ import run_runs; run_runs()")
    where = ("--run-dir", str(cut_short.runs))
    (listed,) = json.loads(run(*runs, "list", *where, "--json").stdout)
    assert (listed["state"], listed["jobs"], listed["accuracy"]) == ("died", 8, None)
    assert 4 < listed["done"] < 8
    shown = run(*runs, "show", listed["run"], *where).stdout
    assert f"go on with  mnist-main --resume {cut_short.run}" in shown
    main = cut_short.resume("--local-nodes", "1")
    main.wait_for("node local-1")
    (listed,) = json.loads(run(*runs, "list", *where, "--json").stdout)
    assert listed["state"] == "running"
    result = cut_short.same(main.result())
    story = json.loads(run(*runs, "show", str(cut_short.run), "--json", "--events").stdout)
    assert (story["state"], story["accuracy"]) == ("done", result["accuracy"])
    assert story["rounds"] == {"round-001": 4, "round-002": 4}
    assert story["starts"] == 2
    assert any(" joined node=local-1" in event for event in story["events"])
    with sqlite3.connect(cut_short.run / "run.db") as database:  # whoever wrote that
        forged = json.dumps({"node": "a\x1b[2Jb", "reason": "c\nforged line"})
        database.execute("INSERT INTO events VALUES (1, 'left\x1b[1A', ?)", (forged,))
        database.execute("UPDATE facts SET value = 'done\x1b]52;c;eA==\x07' WHERE name = 'ending'")
        database.execute("UPDATE jobs SET node = 'd\x1b[31me\nforged line'")
    for command in (["list", *where], ["show", str(cut_short.run), "--events"]):
        for flags in ([], ["--json"]):
            said = run(*runs, *command, *flags).stdout
            assert not any(ord(letter) < 32 and letter != "\n" for letter in said)
            assert not any(line.startswith("forged") for line in said.splitlines())
    missing = run(*runs, "show", "nothing", *where)
    assert missing.returncode == 2
    assert "nothing: no run, neither here nor in" in missing.stderr
    assert "no runs in" in run(*runs, "list", "--run-dir", "/nowhere").stdout
