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
from ..processes import SECONDS
from .conftest import LONG, SHORT, Calm, Project, wait_until
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
    cluster = project()
    (block,) = blocks("test_up_trains_merges_and_returns_the_main_nodes_exit_code")
    code, output = cluster.start(block).end()
    assert code == 0, output
    line = next(line for line in output.splitlines() if '"model_sha256"' in line)
    result, _ = json.JSONDecoder().raw_decode(line, line.index("{"))
    assert result["model_sha256"] == calm(SHORT)
    assert sum(result["nodes"].values()) == 12
    (run,) = cluster.runs.iterdir()  # on this host, and its owner's
    assert (run / "model.safetensors").stat().st_uid == 1000
    assert json.loads((run / "metrics.json").read_text()) == result


def test_the_exit_code_tells_of_a_mistake(project: Projects) -> None:
    cluster = project("--data", "/nowhere")
    (block,) = blocks("test_up_trains_merges_and_returns_the_main_nodes_exit_code")
    code, output = cluster.start(block).end()
    assert code == Exit.DATA, output
    assert "/nowhere" in output


def test_a_killed_container_costs_no_job(project: Projects, calm: Calm) -> None:
    cluster = project(shape=LONG)
    log = cluster.up()
    container = cluster.at_work(log)
    call("docker", "kill", container)
    log.wait_for(f"node {container}")
    assert cluster.result()["model_sha256"] == calm(LONG)


def test_a_paused_container_costs_no_job(project: Projects, calm: Calm) -> None:
    cluster = project("--silence", "2", shape=LONG)
    log = cluster.up()
    container = cluster.at_work(log)
    pause(container)
    log.wait_for("silent for")
    call("docker", "unpause", container)
    log.wait_for("node.joined", 4)  # it is welcome again
    assert cluster.result()["model_sha256"] == calm(LONG)


def test_a_container_without_network_comes_back_at_another_address(
    project: Projects, calm: Calm
) -> None:
    cluster = project("--silence", "2", shape=LONG)
    log = cluster.up()
    container = cluster.at_work(log)
    network = f"{cluster.name}_default"
    call("docker", "network", "disconnect", network, container)
    log.wait_for("silent for")
    call("docker", "run", "-d", "--network", network, "--name", f"{cluster.name}_taker", IMAGE,
         "sleep", "300")  # fmt: skip
    call("docker", "network", "connect", network, container)
    log.wait_for("node.joined", 4)
    call("docker", "rm", "-f", f"{cluster.name}_taker")
    assert cluster.result()["model_sha256"] == calm(LONG)


def test_a_cluster_is_scaled_up_and_down_while_it_works(project: Projects, calm: Calm) -> None:
    cluster = project("--min-nodes", "1", shape=LONG)
    (block,) = blocks("test_a_cluster_is_scaled_up_and_down_while_it_works")
    first, more = block.commands.splitlines()
    cluster.run(first)
    log = cluster.logs("main")
    log.wait_for("is here")
    cluster.run(more)
    log.wait_for("is here", 4)
    cluster.compose("up", "-d", "--no-recreate", "--scale", "compute=2", "-t", "5")
    log.wait_for("is gone", 2)
    states = [node["state"] for node in cluster.status()["nodes"] if node["kind"] == "computing"]
    assert sorted(states) == ["running", "running", "stopped", "stopped"]
    assert cluster.result()["model_sha256"] == calm(LONG)


def test_a_cluster_is_asked_while_it_works_and_afterwards(
    project: Projects, tmp_path: Path
) -> None:
    during, afterwards, copy = blocks("test_a_cluster_is_asked_while_it_works_and_afterwards")
    cluster = project(shape=LONG)
    log = cluster.up(2)
    log.wait_for("is here", 2)
    told = cluster.run(during.commands)
    assert told.count("● running") == 2
    assert "0 failed" in told
    cluster.run(copy.commands.replace("compute-keys", str(tmp_path / "keys")))
    assert node_keys(tmp_path / "keys").secret
    cluster.result()
    told = cluster.run(afterwards.commands)
    (run,) = cluster.runs.iterdir()
    assert re.search(rf"{run.name} +done +12/12 +9\d\.\d\d%", told), told


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
    log.wait_for("round 1 of 2 merged")
    (main,) = cluster.containers("main")
    call("kill", "-9", pid_of(main))  # its own, not by `docker kill`, which is a user's wish
    cluster.restarted().wait_for("round 1 of 2 was merged before")
    result = cluster.result(starts=2)
    assert result["model_sha256"] == calm(LONG)
    assert len(list(cluster.runs.iterdir())) == 1


def test_another_project_with_another_domain_does_not_disturb(
    project: Projects, calm: Calm
) -> None:
    first, second = project(), project(MNIST_DOMAIN="7")
    log = first.up(2)
    second.up(2)
    log.wait_for("is here", 2)
    # Somebody with the first one's keys and the second one's domain, in the first one's network.
    stranger = subprocess.run(
        ["docker", "run", "--rm", "--network", f"{first.name}_default", "-v",
         f"{first.name}_node-keys:/keys:ro", IMAGE, "mnist-compute", "--connect",
         "tcp://main:5555", "--keys", "/keys", "--domain", "7"],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert stranger.returncode == Exit.REFUSED, stranger.stderr
    assert "serves domain 0, not 7" in stranger.stderr
    results = first.result(), second.result()
    assert [result["model_sha256"] for result in results] == [calm(SHORT)] * 2
    assert not set(results[0]["nodes"]) & set(results[1]["nodes"])


def test_a_container_without_the_right_keys_gets_nothing(
    project: Projects, calm: Calm, tmp_path: Path
) -> None:
    cluster, other = project(), project()
    other.compose("up", "-d", "init")
    log = cluster.up(2)
    log.wait_for("is here", 2)
    network = ["--network", f"{cluster.name}_default"]
    foreign = ["-v", f"{other.name}_node-keys:/keys:ro"]
    strangers = {
        f"{cluster.name}_bare": ([], []), f"{cluster.name}_foreign": (foreign, ["--keys", "/keys"])
    }  # fmt: skip
    try:
        for name, (volumes, options) in strangers.items():
            call("docker", "run", "-d", "--name", name, *network, *volumes, IMAGE,
                 "mnist-compute", "--connect", "tcp://main:5555", *options)  # fmt: skip
        result = cluster.result()
        assert result["model_sha256"] == calm(SHORT)
        assert len(result["nodes"]) == 2
        for name in strangers:
            told = subprocess.run(
                ["docker", "logs", name], capture_output=True, text=True, check=True
            ).stderr
            assert "connection.failed" in told, told
            assert "main.joined" not in told
    finally:
        call("docker", "rm", "-f", *strangers)


def test_containers_are_healthy_limited_and_can_not_write_their_system(project: Projects) -> None:
    cluster = project("--min-nodes", "9")  # it waits
    log = cluster.up(1)
    log.wait_for("is here")
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


def test_a_frozen_node_is_unhealthy(project: Projects) -> None:
    cluster = project("--min-nodes", "9")
    cluster.up(1).wait_for("is here")
    (compute,) = cluster.containers("compute")
    processes = call("pgrep", "-P", pid_of(compute)).split()
    call("kill", "-STOP", *processes)
    wait_until(partial(is_, "unhealthy", compute))
    call("kill", "-CONT", *processes)
