"""The cluster of docker-compose.yml: it trains, and what happens to its containers costs no job."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from console.exits import Exit
from protocol.carrier.keys import node_keys

from ..documents import blocks
from ..processes import SECONDS, has
from .conftest import LONG, NET, SHORT, Calm, Project, wait_until
from .engine import IMAGE, call, pause

Projects = Callable[..., Project]
#: Each has time for a slow network.
pytestmark = [pytest.mark.lane("machines"), pytest.mark.timeout(900)]


def pid_of(container: str) -> str:
    """Return the process id, on this machine, of a container's first process."""
    return call("docker", "inspect", "-f", "{{.State.Pid}}", container).strip()


def is_(health: str, container: str) -> bool:
    """Whether a container's health is such."""
    return call("docker", "inspect", "-f", "{{.State.Health.Status}}", container).strip() == health


def inside(container: str, *command: str) -> str:
    """Run a command of this machine in a container's network."""
    return call("nsenter", "-t", pid_of(container), "-n", *command)


def test_up_trains_merges_and_returns_the_main_nodes_exit_code(
    project: Projects, calm: Calm
) -> None:
    """The README's command."""
    cluster = project(shape=NET)
    (block,) = blocks("test_up_trains_merges_and_returns_the_main_nodes_exit_code")
    code, output = cluster.start(block).end()
    assert code == 0, output
    line = next(line for line in output.splitlines() if '"model_sha256"' in line)
    result, _ = json.JSONDecoder().raw_decode(line, line.index("{"))
    assert result["model_sha256"] == calm(NET)
    assert sum(result["nodes"].values()) == 12
    (run,) = cluster.runs.iterdir()  # on this host, and its owner's
    assert (run / "model.safetensors").stat().st_uid == 1000
    assert json.loads((run / "metrics.json").read_text()) == result


def test_a_store_beside_it_is_filled_learned_from_and_published_to(
    project: Projects, calm: Calm, store_image: str
) -> None:
    """MinIO's image is replaced, and all else as it is: what fills, learns, publishes, predicts."""
    cluster = project(MINIO_IMAGE=store_image)
    train, predict = blocks("test_a_store_beside_it_is_filled_learned_from_and_published_to")
    code, output = cluster.start(train).end()
    assert code == 0, output
    line = next(line for line in output.splitlines() if '"model_sha256"' in line)
    result, _ = json.JSONDecoder().raw_decode(line, line.index("{"))
    assert result["model_sha256"] == calm(SHORT)
    assert result["data"]["source"] == "s3://datasets/mnist"
    told = cluster.run(predict.commands)
    assert f"{result['accuracy']:.2%}" in told, told


def test_the_exit_code_tells_of_a_mistake(project: Projects) -> None:
    # Else what ends may be one that Docker has just started again, as all is taken down.
    cluster = project("--data", "/nowhere", MNIST_RESTART="no")
    (block,) = blocks("test_up_trains_merges_and_returns_the_main_nodes_exit_code")
    code, output = cluster.start(block).end()
    assert code == Exit.DATA, output
    assert "/nowhere" in output


def test_a_killed_container_costs_no_job(project: Projects, calm: Calm) -> None:
    cluster = project(shape=LONG)
    log = cluster.up()
    container = cluster.at_work(log)
    call("docker", "kill", container)
    log.event("node.left", node=has(container))
    assert cluster.result()["model_sha256"] == calm(LONG)


def test_a_paused_container_costs_no_job(project: Projects, calm: Calm) -> None:
    cluster = project("--silence", "2", shape=LONG)
    log = cluster.up()
    container = cluster.at_work(log)
    pause(container)
    log.event("node.left", node=has(container), reason=has("silent for"))
    call("docker", "unpause", container)
    log.event("node.joined", node=has(container), times=2)  # it is welcome again
    assert cluster.result()["model_sha256"] == calm(LONG)


def test_a_container_without_network_comes_back_at_another_address(
    project: Projects, calm: Calm
) -> None:
    cluster = project("--silence", "2", shape=LONG)
    log = cluster.up()
    container = cluster.at_work(log)
    network = f"{cluster.name}_default"
    call("docker", "network", "disconnect", network, container)
    log.event("node.left", node=has(container), reason=has("silent for"))
    call("docker", "run", "-d", "--network", network, "--name", f"{cluster.name}_taker", IMAGE,
         "sleep", "300")  # fmt: skip
    call("docker", "network", "connect", network, container)
    log.event("node.joined", node=has(container), times=2)
    call("docker", "rm", "-f", f"{cluster.name}_taker")
    assert cluster.result()["model_sha256"] == calm(LONG)


def test_a_cluster_is_scaled_up_and_down_while_it_works(project: Projects, calm: Calm) -> None:
    shape = (*LONG, "--rounds", "4")
    cluster = project("--min-nodes", "1", shape=shape)
    (block,) = blocks("test_a_cluster_is_scaled_up_and_down_while_it_works")
    first, more = block.commands.splitlines()
    cluster.run(first)
    log = cluster.main_log()
    log.event("run.node-joined")
    cluster.run(more)
    log.event("run.node-joined", times=4)
    cluster.compose("up", "-d", "--no-recreate", "--scale", "compute=2", "-t", "5")
    log.event("run.node-left", times=2)
    states = [node["state"] for node in cluster.status()["nodes"] if node["kind"] == "computing"]
    assert sorted(states) == ["running", "running", "stopped", "stopped"]
    assert cluster.result()["model_sha256"] == calm(shape)


def test_a_cluster_is_asked_while_it_works_and_afterwards(
    project: Projects, tmp_path: Path
) -> None:
    during, afterwards, copy = blocks("test_a_cluster_is_asked_while_it_works_and_afterwards")
    cluster = project(shape=LONG)
    log = cluster.up(2)
    cluster.at_work(log)
    told = cluster.run(during.commands)
    assert told.count("● running") == 2
    assert "0 failed" in told
    cluster.run(copy.commands.replace("compute-keys", str(tmp_path / "keys")))
    assert node_keys(tmp_path / "keys").secret
    cluster.result()
    told = cluster.run(afterwards.commands)
    (run,) = cluster.runs.iterdir()
    assert re.search(rf"{run.name} +done +12/12 +\d\d\.\d\d%", told), told


@pytest.mark.parametrize("bad", ["20% loss", "1 Mbit/s"])
def test_a_bad_line_costs_no_job(project: Projects, calm: Calm, bad: str) -> None:
    cluster = project("--min-nodes", "3")
    cluster.compose("up", "-d", "--scale", "compute=3", "init", "compute")
    container = cluster.containers("compute")[0]
    if bad == "20% loss":
        for chain in ("INPUT", "OUTPUT"):
            inside(container, "iptables", "-A", chain, "-m", "statistic", "--mode", "random",
                   "--probability", "0.2", "-j", "DROP")  # fmt: skip
    else:
        inside(container, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit",
               "burst", "32kbit", "latency", "400ms")  # fmt: skip
    cluster.up()
    assert cluster.result()["model_sha256"] == calm(SHORT)


def test_a_killed_main_node_is_started_again_and_goes_on(project: Projects, calm: Calm) -> None:
    cluster = project(shape=LONG)
    log = cluster.up()
    (main,) = cluster.containers("main")
    pid = pid_of(main)
    log.event("run.round-merged", round=0)
    call("kill", "-9", pid)  # its own, not by `docker kill`, which is a user's wish
    log = cluster.restarted()
    result = cluster.result(starts=2)
    assert result["model_sha256"] == calm(LONG)
    log.event("run.opened", times=2)
    log.event("run.ended")
    assert len(log.events("run.job-solved", label=has("round-001-job"))) == 6  # none of them again
    assert len(log.events("run.round-merged", round=0)) == 1
    assert len(list(cluster.runs.iterdir())) == 1


def test_another_project_with_another_domain_does_not_disturb(
    project: Projects, calm: Calm
) -> None:
    first, second = project("--min-nodes", "3"), project(MNIST_DOMAIN="7")
    log = first.up(2)
    second.up(2)
    log.event("run.opened")
    # Somebody with the first one's keys and the second one's domain, in the first one's network.
    stranger = subprocess.run(
        ["docker", "run", "--rm", "--network", f"{first.name}_default", "-v",
         f"{first.name}_node-keys:/keys:ro", IMAGE, "mnist-compute", "--connect",
         "tcp://main:5555", "--keys", "/keys", "--domain", "7"],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert stranger.returncode == Exit.REFUSED, stranger.stderr
    assert "serves domain 0, not 7" in stranger.stderr
    first.up(3)
    results = first.result(), second.result()
    assert [result["model_sha256"] for result in results] == [calm(SHORT)] * 2
    assert not set(results[0]["nodes"]) & set(results[1]["nodes"])


def test_a_container_without_the_right_keys_gets_nothing(project: Projects, calm: Calm) -> None:
    cluster, other = project("--min-nodes", "3"), project()
    other.compose("up", "-d", "init")
    cluster.up(2).event("run.node-joined", times=2)
    network = ["--network", f"{cluster.name}_default"]
    foreign = ["-v", f"{other.name}_node-keys:/keys:ro"]
    strangers = {
        f"{cluster.name}_bare": ([], []), f"{cluster.name}_foreign": (foreign, ["--keys", "/keys"])
    }  # fmt: skip
    try:
        for name, (volumes, options) in strangers.items():
            call("docker", "run", "-d", "--name", name, "-e", "MNIST_LOG_FORMAT=json", *network,
                 *volumes, IMAGE, "mnist-compute", "--connect", "tcp://main:5555",
                 *options)  # fmt: skip
        logs = [cluster.log(name) for name in strangers]
        for told in logs:
            told.event("connection.failed")
        cluster.up(3)
        result = cluster.result()
        assert result["model_sha256"] == calm(SHORT)
        assert len(result["nodes"]) <= 3
        assert all(told.never("main.joined") for told in logs)
    finally:
        call("docker", "rm", "-f", *strangers)


def test_containers_are_limited_and_can_not_write_their_system_and_a_frozen_one_is_unhealthy(
    project: Projects,
) -> None:
    cluster = project("--min-nodes", "9")  # it waits
    cluster.up(1).event("run.node-joined")
    (main,), (compute,) = cluster.containers("main"), cluster.containers("compute")
    for container in (main, compute):
        assert call("docker", "exec", container, "id", "-u").strip() == "1000"
        denied = subprocess.run(
            ["docker", "exec", container, "touch", "/opt/venv/x"], capture_output=True, check=False
        )
        assert b"Read-only" in denied.stderr
        wait_until(partial(is_, "healthy", container))
    limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"
    assert call("docker", "inspect", "-f", limits, compute).split() == [
        str(2 << 30), "1000000000", "512",
    ]  # fmt: skip
    # The computing node does not have the main node's secret key.
    assert "main.key" not in call("docker", "exec", compute, "ls", "/keys")
    processes = call("pgrep", "-P", pid_of(compute)).split()
    call("kill", "-STOP", *processes)
    wait_until(partial(is_, "unhealthy", compute))
    call("kill", "-CONT", *processes)
