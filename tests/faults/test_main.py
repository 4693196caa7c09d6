"""Main nodes are killed, interrupted, run out of disk, and go on: nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from main_node.run.evaluation import TEST_JOBS

from ..processes import MAIN, MAIN_HERE, RUNS_HERE, SECONDS, Process, Relay, Start, has, here, run
from .conftest import (
    NET,
    TRIAL,
    Calm,
    Cluster,
    child_of,
    copied,
    first_of_all,
    fits,
    no_traceback,
    of_round,
)

Stage = tuple[str, dict[str, Any]]
#: What a main node tells on its way, each a place to be hit at. A run is hit at every second one:
#: so each comes to pass only after the start before it was hit, and hundreds of milliseconds after.
STAGES: dict[str, list[Stage]] = {
    "some": [
        ("main.listening", {}),
        ("job.offered", {"job": TRIAL}),
        ("job.offered", {"job": of_round(1)}),
        ("run.round-merged", {"round": 0}),
        ("run.round-evaluated", {"round": 0}),
    ],
    "others": [
        ("node.joined", {}),
        ("job.accepted", {"job": TRIAL}),
        ("job.accepted", {"job": of_round(1)}),
        ("job.accepted", {"job": "round-002-job-0001"}),
        ("run.round-merged", {"round": 1}),
    ],
}


def staged(fast: str) -> list[Any]:
    """Return the stages as parameters: one list for the fast lane, the other for the deep one."""
    return [
        pytest.param(stages, id=name, marks=[] if name == fast else pytest.mark.lane("deep"))
        for name, stages in STAGES.items()
    ]


RUNS = (MAIN[0], "-c", "import mnist_merge; mnist_merge.runs()")


def nothing_twice(cluster: Cluster, *solved: set[str]) -> None:
    """Check that no job was given to a node again whose solution was on disk.

    Args:
        cluster: whose run.
        solved: the jobs whose solutions there were at the end of each start but the last.
    """
    last = {name: max(map(cluster.start_of, tasks)) for name, tasks in cluster.tasks().items()}
    for start, before in enumerate(solved):
        again = {name for name in before if last.get(name, 0) > start}
        assert not again, "a finished job was computed again"


@pytest.mark.parametrize("stages", staged(fast="some"))
def test_a_main_node_is_killed_and_resumed(cluster: Cluster, stages: list[Stage]) -> None:
    """The nodes are there all the while, and come back by themselves."""
    nodes = [cluster.node("a"), cluster.node("b")]
    main, solved = cluster.main(), list[set[str]]()
    for event, fields in stages:
        main.event(event, **fields)
        main.kill()
        solved.append(cluster.solved())
        main = cluster.resume()
    # The last stage may have been the end of everything.
    assert cluster.same(main)["starts"] in (len(stages), len(stages) + 1)
    assert cluster.run.exists()
    nothing_twice(cluster, *solved)
    assert no_traceback(*nodes)


@pytest.mark.parametrize("stages", staged(fast="others"))
def test_a_main_node_is_interrupted_and_resumed(cluster: Cluster, stages: list[Stage]) -> None:
    """By Ctrl-C and by SIGTERM in turn, which end it in one way."""
    main, solved = cluster.main("--local-nodes", "1"), list[set[str]]()
    for (event, fields), number in zip(stages, cycle((signal.SIGINT, signal.SIGTERM))):
        main.event(event, **fields)
        locals_ = psutil.Process(main.popen.pid).children(recursive=True)
        main.send(number)
        code, output = main.end()
        assert no_traceback(main)
        _, left = psutil.wait_procs(locals_, SECONDS)
        assert not left, "a local node is left"
        if event == "run.round-evaluated" and output:  # it had come to its end
            cluster.check(json.loads(output))
            return nothing_twice(cluster, *solved)
        assert code == 130
        (ended,) = main.events("command.failed", code=130)
        if cluster.runs.exists():
            assert ended["says"] == f"interrupted; go on with: mnist-main --resume {cluster.run}"
            solved.append(cluster.solved())
            main = cluster.resume("--local-nodes", "1")
        else:  # nothing of it is left
            assert not solved
            assert ended["says"] == "interrupted; before any job was done; start it again"
            main = cluster.main("--local-nodes", "1")
    cluster.same(main)
    return nothing_twice(cluster, *solved)


def test_nodes_hand_over_what_they_hold_when_the_main_node_comes_back(cluster: Cluster) -> None:
    """As when its host dies: what was solved meanwhile is not solved again."""
    node = cluster.node("a")
    main = cluster.main()
    node.event("task.started", action="fit")
    main.kill()
    node.event("task.solved", times=2)  # what was in its hands; the trial was before
    assert cluster.solved() == {TRIAL}
    cluster.same(cluster.resume())
    begun_once(node)
    old = [t for tasks in cluster.tasks().values() for t in tasks if not cluster.start_of(t)]
    assert len(old) >= 2  # and one that waited, if it had come already


def test_a_host_that_shuts_down_leaves_the_nodes_with_what_they_hold(cluster: Cluster) -> None:
    node = cluster.node("a")
    main = cluster.main()
    node.event("task.started", action="fit")
    main.send(signal.SIGTERM)
    assert main.end()[0] == 130
    node.event("task.solved", times=2)
    assert node.never("main.ended")
    cluster.same(cluster.resume())  # though nothing was solved before
    assert len(fits(node)) == 8


def begun_once(node: Process) -> None:
    """Check that a node has begun no job of any main node twice."""
    started = [(entry["main"], entry["job"]) for entry in node.events("task.started")]
    assert len(started) == len(set(started)), "a job was begun twice"


def test_a_finished_run_says_so(cluster: Cluster, calm: Calm) -> None:
    result = copied(calm, cluster.runs)
    again = cluster.resume()
    code, output = again.end()
    assert code == 0
    assert json.loads(output) == result
    assert again.events("run.done_already", run=cluster.run.name)


def test_a_run_that_was_killed_at_its_very_end_is_mended(cluster: Cluster, calm: Calm) -> None:
    result = copied(calm, cluster.runs)
    database = sqlite3.connect(cluster.run / "run.db")
    database.execute("UPDATE facts SET value = '' WHERE name = 'ending'")
    database.commit()
    database.close()
    assert listed(cluster)["state"] == "done"
    assert cluster.resume().result() == result
    assert run(*MAIN, "--resume", str(cluster.run)).returncode == 0  # it draws, too
    assert (cluster.run / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def kill_in_second_round(cluster: Cluster) -> None:
    """Begin a run, and kill its main node once a job of the second round is done."""
    main = cluster.main("--local-nodes", "1")
    main.event("run.round-merged", round=0)
    main.event("job.accepted", job=of_round(2))
    main.kill()


@pytest.fixture(scope="module")
def begun(
    small: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:  # fmt: skip
    """Return the directory of runs of a main node that was killed in the second round."""
    yield from _begun(small, tmp_path_factory, Cluster.shape)


@pytest.fixture(scope="module")
def begun_net(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the same of a run that trains the net."""
    yield from _begun(small, tmp_path_factory, NET)


def _begun(
    small: Path, folders: pytest.TempPathFactory, shape: tuple[str, ...]
) -> Iterator[Path]:  # fmt: skip
    started: list[Process] = []

    def start(*command: str, **options: Any) -> Process:
        started.append(Process(*command, **options))
        return started[-1]

    runs = folders.mktemp("begun") / "runs"
    kill_in_second_round(Cluster(start, Relay, small, runs, "", shape))
    yield runs
    for process in started:
        process.close()


@pytest.fixture
def cut_short(cluster: Cluster, begun: Path) -> Cluster:
    """Return a cluster whose main node was killed in the second round."""
    shutil.copytree(begun, cluster.runs)
    return cluster


@pytest.fixture
def cut_short_net(
    start: Start, small: Path, tmp_path: Path, begun_net: Path
) -> Cluster:  # fmt: skip
    """Return the same with the net, which commands in this process know too."""
    shutil.copytree(begun_net, tmp_path / "runs")
    return Cluster(start, Relay, small, tmp_path / "runs", "", NET)


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
    assert cluster.same(again)["starts"] == 2
    warned = [entry["text"].partition("models/")[2] for entry in again.events("run.warned")]
    assert any(
        text.startswith("round-001.safetensors: damaged: its content does not match its checksum;")
        and text.endswith("; merged again")
        for text in warned
    )
    warned = [entry["text"].partition("solutions/")[2] for entry in again.events("run.warned")]
    for file, what in (("round-001-job-0003", "not a file"), ("round-002-job-0001", "damaged")):
        (told,) = (text for text in warned if text.startswith(file))
        assert told.startswith(f"{file}.safetensors: {what}")
        assert told.endswith("; done again")
    assert again.events("run.noted", text="round 1: 3 jobs solved before")
    story = json.loads(here(RUNS_HERE, "show", str(cluster.run), "--json", "--events").stdout)
    assert (story["state"], story["starts"]) == ("done", 2)
    assert story["rounds"] == {"round-001": 4, "round-002": 4}
    assert any(" joined node=local-1" in event for event in story["events"])


def test_a_damaged_database_costs_the_history_and_no_solution(cut_short: Cluster) -> None:
    cluster, before = cut_short, cut_short.solved()
    database = cluster.run / "run.db"
    for how in ("gone", "cut", "garbage"):
        for left in ("run.db-wal", "run.db-shm"):
            (cluster.run / left).unlink(missing_ok=True)
        if how == "gone":
            database.unlink()
        elif how == "garbage":
            database.write_bytes(os.urandom(5000))
        else:
            database.write_bytes(database.read_bytes()[:2500])
        again = cluster.resume(*(("--local-nodes", "1") if how == "garbage" else ()))
        again.event("run.warned", text=has("the run's history is lost, its solutions are not"))
        again.event("run.noted", text="round 1: 4 jobs solved before")
        if how == "garbage":
            cluster.same(again)
        again.kill()
    assert not before & cluster.tasks().keys(), "a finished job was computed again"


def test_a_damaged_configuration_is_named(cut_short_net: Cluster) -> None:
    (cut_short_net.run / "config.yaml").write_text("jobs: [")
    done = cut_short_net.resume_here()
    assert done.returncode == 2
    assert "config.yaml, line 1: not YAML" in done.stderr.splitlines()[-1]


def test_data_that_has_changed_since_is_refused(cut_short_net: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(cut_short_net.data, other)
    damage(other / "train-images-idx3-ubyte")
    config = cut_short_net.run / "config.yaml"
    config.write_text(config.read_text().replace(str(cut_short_net.data), str(other)))
    done = cut_short_net.resume_here()
    assert done.returncode == 2
    assert "the data is not what run" in done.stderr.splitlines()[-1]
    assert cut_short_net.run.exists()


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
    cut_short_net: Cluster, change: tuple[str, str], told: str
) -> None:
    config = cut_short_net.run / "config.yaml"
    assert change[0] in config.read_text()
    config.write_text(config.read_text().replace(*change))
    done = cut_short_net.resume_here()
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]


def test_test_data_that_has_changed_is_refused(
    cluster: Cluster, calm: Calm, tmp_path: Path
) -> None:
    copied(calm, cluster.runs)
    other = tmp_path / "moved"
    shutil.copytree(cluster.data, other)
    shutil.rmtree(cluster.run / "models")
    (cluster.run / "metrics.json").unlink()
    damage(other / "t10k-images-idx3-ubyte")
    code, _ = (again := cluster.resume("--data", str(other))).end()
    assert code == 2
    assert again.event("command.failed")["says"].startswith("the data is not what run")


def test_options_that_shape_the_model_can_not_change(cut_short_net: Cluster) -> None:
    done = cut_short_net.resume_here("--jobs", "5")
    assert done.returncode == 2
    assert "--jobs 5 can't be: run" in done.stderr.splitlines()[-1]


def test_a_net_comes_to_the_same_bits_after_any_of_this(
    cluster: Cluster, cut_short_net: Cluster, tmp_path: Path
) -> None:
    """A node's child dies, a node can't load torch, a main node is killed: the same."""
    calm = Cluster(cluster.start, cluster.relay, cluster.data, tmp_path / "calm", "", NET)
    main = calm.main("--min-nodes", "2", "--max-attempts", "5")
    calm.node("bad", env=broken_torch(tmp_path))
    node = calm.node("good")
    node.event("task.started", action="fit")
    child_of(node).kill()
    result = main.result()
    main.event("job.retried", kind="crashed", message=lambda told: "killed (SIGKILL)" in told)
    main.event("job.retried", kind="raised", message="ImportError: this torch is broken")
    cut_short_net.calm = result["model_sha256"]
    again = cut_short_net.resume("--jobs", "4", "--local-nodes", "1")  # as it was: no change
    assert cut_short_net.same(again)["starts"] == 2


def broken_torch(folder: Path) -> dict[str, str]:
    """Return an environment in which torch can't be imported."""
    (folder / "torch.py").write_text("raise ImportError('this torch is broken')\n")
    return first_of_all(folder)


def test_a_log_that_can_not_be_written_costs_the_log(cluster: Cluster) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*MAIN, "--bind", "tcp://127.0.0.1:0", "--data", str(cluster.data), "--run-dir",
             str(cluster.runs), *cluster.shape, "--local-nodes", "1", "--json"],
            stdout=subprocess.PIPE, stderr=full, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert (result["left_out"], result["model_sha256"]) == ([], cluster.calm)


def test_two_main_nodes_can_not_share_a_run_directory(cluster: Cluster) -> None:
    main = cluster.main()
    main.event("main.listening")
    assert listed(cluster)["state"] == "running"
    second = cluster.resume()
    assert second.end()[0] == 2
    assert f"is in use by process {main.popen.pid} on" in second.event("command.failed")["says"]
    cluster.node("a")
    cluster.same(main)


def test_local_nodes_end_with_their_main_node_and_its_address_is_not_insisted_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Nor is the folder of the data."""
    main = cluster.main("--bind", "tcp://127.0.0.1:0", "--local-nodes", "2")
    main.event("job.accepted", job=of_round(1))
    processes = psutil.Process(main.popen.pid).children(recursive=True)
    assert len(processes) >= 2
    main.kill()
    _, alive = psutil.wait_procs(processes, SECONDS)
    assert not alive
    address = main.event("run.opened")["address"]
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        moved = shutil.copytree(cluster.data, tmp_path / "moved")
        again = cluster.resume("--data", str(moved), "--local-nodes", "1")
        cluster.same(again)
    assert again.event("run.opened")["address"] != address
    assert again.events(
        "run.warned", text=f"{address}, where this run listened before, is taken"
    )  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk with room for little."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=364k", "none", str(place)],
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
    says = main.event("command.failed", code=7)["says"]
    assert "No space left on device" in says or "database or disk is full" in says
    assert f"go on with: mnist-main --resume {cluster.run}" in says
    assert no_traceback(main)
    before = cluster.solved()
    assert before > {TRIAL}
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    cluster.same(cluster.resume())
    nothing_twice(cluster, before)
    begun_once(node)


def test_a_run_directory_that_can_not_be_made_is_named(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    runs = str(tmp_path / "file" / "runs")
    done = here(
        MAIN_HERE, "--bind", cluster.address, "--data", str(cluster.data), "--run-dir", runs
    )
    assert done.returncode == 2
    assert "can't be made (Not a directory); name another with --run-dir" in done.stderr


def test_a_run_directory_that_is_somebody_elses_is_named(cut_short_net: Cluster) -> None:
    """Root may write anywhere, so the command runs as nobody."""
    for path in [cut_short_net.run, *cut_short_net.run.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in [cut_short_net.runs, *cut_short_net.runs.parents]:
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
        f"main_node.commands.train.main(['--resume', {str(cut_short_net.run)!r}, '--quiet'])\n"
    )
    done = run(MAIN[0], "-c", program)
    assert done.returncode == 7
    assert "can't be used (Permission denied); it must be writable to go on" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_left_out_is_said_and_remembered(cluster: Cluster, tmp_path: Path) -> None:
    """One shard's training diverges wherever it runs; with --partial the others are enough."""
    one_shard_diverges(cluster, tmp_path)
    main = cluster.main("--partial", "--max-attempts", "2")
    cluster.node("a", env=first_of_all(tmp_path))
    main.event("run.round-merged", round=0)
    main.kill()
    for main_, label in ((main, "round-001-job-0002"), (cluster.resume(), "round-002-job-0002")):
        reason = main_.event("run.job-failed", label=label)["reason"]
        assert "failed for good after 2 attempts" in reason
        assert "unfit: array 'layer.bias' holds numbers that are not finite" in reason
    result = main_.result()
    assert result["left_out"] == ["round 1 job 2", "round 2 job 2"]
    assert result["model_sha256"] != cluster.calm


def test_a_part_of_the_test_set_may_be_left_out_too(cluster: Cluster, tmp_path: Path) -> None:
    """Found in review: one test job that failed ended a run with --partial."""
    (tmp_path / "sitecustomize.py").write_text(
        "import linear\n"
        "predict = linear.LinearLearner.evaluate\n"
        "def fail(self, model, rows):\n"
        "    if int(rows.arrays['image'][:3].sum()) == FIRST:\n"
        "        raise ValueError('not these')\n"
        "    return predict(self, model, rows)\n"
        "linear.LinearLearner.evaluate = fail\n".replace("FIRST", str(first_images(cluster.data)))
    )
    main = cluster.main("--partial", "--max-attempts", "2")
    cluster.node("a", env=first_of_all(tmp_path))
    result = main.result()
    assert result["model_sha256"] == cluster.calm
    assert result["left_out"] == ["round 1 test 2", "round 2 test 2"]
    assert sum(map(sum, result["confusion"])) == 150
    assert main.events("run.warned", text="round 2: scored on 150 of 200 test images")


def first_images(data: Path) -> int:
    """Return the sum of the first images of the second part of the test set."""
    import loaders

    images = loaders.load(str(data), "test").arrays["image"]
    return int(np.array_split(images, TEST_JOBS)[1][:3].sum())


def one_shard_diverges(cluster: Cluster, folder: Path) -> None:
    """Put a module into a folder of PYTHONPATH that makes the second shard's training diverge."""
    (folder / "sitecustomize.py").write_text(
        "import linear\n"
        "fit = linear.LinearLearner.fit\n"
        "def diverge(self, shard, start, *, seed, **more):\n"
        "    solution = fit(self, shard, start, seed=seed, **more)\n"
        "    if int(shard.labels[:3].sum()) == FIRST:\n"
        "        solution.arrays['layer.bias'][0] = float('nan')\n"
        "    return solution\n"
        "linear.LinearLearner.fit = diverge\n".replace("FIRST", str(first_labels(cluster.data)))
    )


def first_labels(data: Path) -> int:
    """Return the sum of the first labels of the second shard, different from the other shards'."""
    import loaders

    labels = loaders.load(data).labels
    sums = [int(labels[rows][:3].sum()) for rows in loaders.shard(labels, 4, "disjoint", 0)]
    assert sums.count(sums[1]) == 1
    return sums[1]


def listed(cluster: Cluster) -> dict[str, Any]:
    """Return what is listed of the only run."""
    where = ("--run-dir", str(cluster.runs))
    (row,) = json.loads(here(RUNS_HERE, "list", *where, "--json").stdout)
    return dict(row)


def test_runs_are_listed_and_shown(cut_short: Cluster, tmp_path: Path) -> None:
    where = ("--run-dir", str(cut_short.runs))
    (row,) = json.loads(run(*RUNS, "list", *where, "--json").stdout)
    assert (row["state"], row["jobs"], row["accuracy"]) == ("died", 8, None)
    assert 4 < row["done"] < 8
    shown = here(RUNS_HERE, "show", row["run"], *where).stdout
    assert f"go on with  mnist-main --resume {cut_short.run}" in shown
    missing = here(RUNS_HERE, "show", "nothing", *where)
    assert missing.returncode == 2
    assert "nothing: no run, neither here nor in" in missing.stderr
    assert "no runs in" in here(RUNS_HERE, "list", "--run-dir", str(tmp_path)).stdout
    nowhere = here(RUNS_HERE, "list", "--run-dir", "/nowhere")
    assert (nowhere.returncode, "no such folder" in nowhere.stderr) == (2, True)


def test_what_is_shown_of_a_run_draws_nothing_else(cluster: Cluster, calm: Calm) -> None:
    """Whoever wrote its history."""
    result = copied(calm, cluster.runs)
    show = (RUNS_HERE, "show", str(cluster.run), "--json")
    story = json.loads(here(*show).stdout)
    assert (story["state"], story["accuracy"]) == ("done", result["accuracy"])
    with closing(sqlite3.connect(cluster.run / "run.db")) as database, database:
        forged = json.dumps({"node": "a\x1b[2Jb", "reason": "c\nforged line"})
        database.execute("INSERT INTO events VALUES (1, 'left\x1b[1A', ?)", (forged,))
        database.execute("UPDATE facts SET value = 'done\x1b]52;c;eA==\x07' WHERE name = 'ending'")
        database.execute("UPDATE jobs SET node = 'd\x1b[31me\nforged line'")
    where = ("--run-dir", str(cluster.runs))
    for command in (["list", *where], ["show", str(cluster.run), "--events"]):
        for flags in ([], ["--json"]):
            said = here(RUNS_HERE, *command, *flags).stdout
            assert said
            assert not any(ord(letter) < 32 and letter != "\n" for letter in said)
            assert not any(line.startswith("forged") for line in said.splitlines())
