"""A relay between the nodes and their main node is killed, frozen and started again."""

from __future__ import annotations

import signal

import pytest

from ..processes import free_port
from .conftest import RELAY, Cluster, Gate


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.lane("deep"))])
def test_a_relay_with_four_nodes_is_killed_and_started_again_time_after_time(
    cluster: Cluster, gate: Gate, kills: int
) -> None:
    way = f"tcp://127.0.0.1:{free_port()}"
    main, relay = cluster.main(), cluster.relay_at(way)
    nodes = [cluster.node(name, address=way, env=gate.env) for name in "abcd"]
    for times in range(1, kills + 1):
        for node in nodes:
            node.event("main.joined", times=times)
            node.event("task.started")
        relay.kill()
        main.event("node.left", times=4 * times, reason="connection lost")
        relay = cluster.relay_at(way)
    gate.open()
    result = cluster.same(main)
    assert sum(result["nodes"].values()) == 8
    # What a node held when the relay died it went on with: nothing was computed twice, neither
    # the trial, nor the eight shards, nor the four parts of the test set after each round.
    assert sum(len(node.events("task.solved")) for node in nodes) == 1 + 8 + 2 * 4
    relay.send(signal.SIGTERM)
    assert relay.end()[0] == 0


def test_relays_of_both_sides_are_killed(cluster: Cluster, gate: Gate) -> None:
    """The main node's side dials out; each of the two relays is killed while nodes train."""
    meeting, way = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    commands = {
        "there": (*RELAY, "--bind", way, "--accept", meeting),
        "here": (*RELAY, "--dial", meeting, "--connect", cluster.address),
    }
    main = cluster.main()
    relays = {name: cluster.start(*command) for name, command in commands.items()}
    nodes = [cluster.node(name, address=way, env=gate.env) for name in "ab"]
    for times, name in enumerate(("there", "here"), 1):
        for node in nodes:
            node.event("main.joined", times=times)
        nodes[0].event("task.started")
        relays[name].kill()
        main.event("node.left", times=2 * times, reason="connection lost")
        relays[name] = cluster.start(*commands[name])
    gate.open()
    cluster.same(main)
