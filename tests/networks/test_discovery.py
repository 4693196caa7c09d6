"""Nodes that find their main nodes without addresses, over multicast between hosts."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from ..processes import COMPUTE, MAIN, Process, has
from .conftest import Host, Networks

pytestmark = pytest.mark.lane("machines")
DISCOVER = (*COMPUTE, "--discover", "--name", "n")
#: It waits for nodes that never come, and so is there until it is told to end.
PATIENT = ("--min-nodes", "9", "--jobs", "2", "--rounds", "1")


def command(name: str) -> str:
    """Return the path of one of our commands."""
    return str(Path(sys.executable).with_name(name))


def announce(host: Host, data: Path, folder: Path, *options: str) -> Process:
    """Start a main node that announces itself, on any port."""
    return host.start(
        *MAIN, "--bind", "tcp://0.0.0.0:0", "--announce", "--data", str(data),
        "--run-dir", str(folder), "--json", "--learner", "linear", *options,
    )  # fmt: skip


def address(main: Process, host: Host) -> str:
    """Return where a main node is for other hosts."""
    port = main.event("run.opened")["address"].rpartition(":")[2]
    return f"tcp://{host.address}:{port}"


def test_a_run_needs_no_addresses(networks: Networks, idx_folder: Path, tmp_path: Path) -> None:
    a, b, c = (networks.host(name, "a") for name in "abc")
    nodes = [host.start(*DISCOVER, "--insecure") for host in (b, c)]
    main = announce(a, idx_folder, tmp_path, "--insecure", "--min-nodes", "2", "--rounds", "1")
    result = main.result()
    assert sum(result["nodes"].values()) == 4
    for node in nodes:
        node.event("main.ended")
        node.event("main.gone")


def test_main_nodes_come_and_go(networks: Networks, idx_folder: Path, tmp_path: Path) -> None:
    """Several at once, those that come later, those that end, and those that are killed."""
    a, b, c = (networks.host(name, "a") for name in "abc")
    common = (*PATIENT, "--insecure")
    first = announce(a, idx_folder, tmp_path / "1", *common)
    node = b.start(*DISCOVER, "--insecure")
    node.event("main.joined", address=address(first, a))
    second = announce(c, idx_folder, tmp_path / "2", *common)
    node.event("main.joined", address=address(second, c))
    first.send(signal.SIGINT)
    node.event("main.gone")
    third = announce(a, idx_folder, tmp_path / "3", *common)
    node.event("main.joined", address=address(third, a))
    third.kill()
    node.event("main.disconnected", address=address(third, a))
    fourth = announce(a, idx_folder, tmp_path / "4", *common)
    node.event("main.joined", address=address(fourth, a))
    told = b.run(command("mnist-status"), "--discover", "--insecure", "--json")
    states = {m["address"]: m["state"] for m in json.loads(told.stdout)["mains"]}
    assert states[address(second, c)] == states[address(fourth, a)] == "running"
    for main in (second, fourth):
        main.send(signal.SIGINT)
        assert main.end()[0] == 130


def test_a_node_finds_its_own_domain_only(
    networks: Networks, idx_folder: Path, tmp_path: Path
) -> None:
    a, b = networks.host("a", "a"), networks.host("b", "a")
    common = (*PATIENT, "--insecure")
    other = announce(a, idx_folder, tmp_path / "1", *common, "--domain", "1")
    own = announce(a, idx_folder, tmp_path / "2", *common, "--domain", "2")
    address(other, a)
    node = b.start(*DISCOVER, "--insecure", "--domain", "2")
    node.event("main.joined", address=address(own, a))
    assert node.never("main.found", address=has(address(other, a)))
    assert node.never("main.joined", address=address(other, a))


def test_with_keys_discovery_gives_the_address_and_never_the_trust(
    networks: Networks, idx_folder: Path, tmp_path: Path, key_folder: Path
) -> None:
    """Somebody announces itself with our main node's public key, and gets no node."""
    a, b, liar = (networks.host(name, "a") for name in ("a", "b", "liar"))
    forged = tmp_path / "forged"
    lie = liar.start(
        sys.executable, "-c", LIE, (key_folder / "main.pub").read_text().strip(), liar.address
    )
    lie.event("announced")
    node = b.start(*DISCOVER, "--keys", str(key_folder / "nodes" / "lab1"))
    node.event("connection.failed", address=has(f"//{liar.address}:"))
    main = announce(a, idx_folder, forged, "--keys", str(key_folder), "--rounds", "1")
    id_ = node.event("node.looking")["id"]
    assert set(main.result()["nodes"]) == {f"{id_} (key lab1)"}
    assert node.never("main.joined", address=has(f"//{liar.address}:"))


#: A main node's announcement by somebody who has another secret key.
LIE = """
import signal, sys, tempfile, pathlib
from main_node import AsyncMainNode
from protocol.carrier import keys
from protocol.carrier.discovery import Announcement
from protocol.carrier.sockets import make_pair
folder = pathlib.Path(tempfile.mkdtemp())
keys.create(folder, ["n"], make_pair)
main = AsyncMainNode("liar", address="tcp://0.0.0.0:0", keys=folder)
port = main.address.rpartition(":")[2]
lie = Announcement("liar", 0, f"tcp://{sys.argv[2]}:{port}", sys.argv[1].encode())
print('{"event": "announced"}', file=sys.stderr, flush=True)
signal.pause()
"""


def test_without_keys_other_machines_are_left_alone(
    networks: Networks, idx_folder: Path, tmp_path: Path, key_folder: Path
) -> None:
    a, b = networks.host("a", "a"), networks.host("b", "a")
    announce(a, idx_folder, tmp_path / "1", *PATIENT, "--insecure")
    node = b.start(*DISCOVER)
    node.event("main.ignored", cause=has("is on another machine and has no keys"))
    announce(a, idx_folder, tmp_path / "2", *PATIENT, "--keys", str(key_folder))
    node.event("main.ignored", cause=has("lets nobody in without keys: give --keys DIR"))
    keyed = b.start(*DISCOVER, "--keys", str(key_folder / "nodes" / "lab1"))
    keyed.event("main.ignored", cause=has("has not the key of ours"))
    keyed.event("main.joined")


def test_a_main_node_in_several_networks_is_reached_in_each(
    networks: Networks, idx_folder: Path, tmp_path: Path
) -> None:
    """It announces all its addresses; a node tries those that it can reach."""
    a = networks.host("a", "x", "y")
    left, right = networks.host("left", "x"), networks.host("right", "y")
    nodes = [host.start(*DISCOVER, "--insecure") for host in (left, right)]
    main = announce(a, idx_folder, tmp_path, "--insecure", "--min-nodes", "2", "--rounds", "1")
    for node in nodes:
        node.event("main.joined")
    assert main.result()["jobs"] == 4


def test_on_one_machine_loopback_is_enough(
    networks: Networks, idx_folder: Path, tmp_path: Path
) -> None:
    """A host without any network: what it announces to itself is found."""
    alone = networks.host("alone")
    node = alone.start(*DISCOVER)
    main = alone.start(
        *MAIN, "--bind", "tcp://127.0.0.1:0", "--announce", "--data", str(idx_folder),
        "--run-dir", str(tmp_path), "--rounds", "1", "--json",
        "--learner", "linear",
    )  # fmt: skip
    node.event("main.joined")
    assert main.result()["jobs"] == 4


def test_a_node_waits_for_a_network(networks: Networks, idx_folder: Path, tmp_path: Path) -> None:
    """Found in review: started before the network, at boot say, it ended for good."""
    a, late = networks.host("a", "a"), networks.host("late")
    late.run("ip", "address", "flush", "dev", "lo")
    node = late.start(*DISCOVER, "--insecure")
    node.event("discovery.waiting", cause=has("no multicast in this network"))
    main = announce(a, idx_folder, tmp_path, "--insecure", "--rounds", "1")
    main.event("run.opened")
    networks.plug(late, "a")
    node.event("main.joined")
    assert main.result()["jobs"] == 4


def test_interfaces_that_come_later_are_listened_on(
    networks: Networks, idx_folder: Path, tmp_path: Path
) -> None:
    """Of the node, and of the main node, which announces what addresses it has by now."""
    a, b = networks.host("a", "a"), networks.host("b", "b")
    main = announce(a, idx_folder, tmp_path, *PATIENT, "--insecure")
    node = b.start(*DISCOVER, "--insecure")
    main.event("run.opened")
    node.event("node.looking")
    networks.plug(b, "c", 1)
    networks.plug(a, "c", 1)
    assert f"//{a.addresses['c']}:" in node.event("main.joined")["address"]


def test_a_main_node_whose_address_changes_is_found_again(
    networks: Networks, idx_folder: Path, tmp_path: Path
) -> None:
    a, b = networks.host("a", "a"), networks.host("b", "a")
    main = announce(a, idx_folder, tmp_path, *PATIENT, "--insecure", "--silence", "3")
    node = b.start(*DISCOVER, "--insecure")
    node.event("main.joined", address=address(main, a))
    a.run("ip", "addr", "add", "10.97.0.77/24", "dev", "eth0")
    a.run("ip", "addr", "del", f"{a.address}/24", "dev", "eth0")
    a.run("ip", "addr", "add", "10.97.0.77/24", "dev", "eth0")
    node.event("main.joined", address=has("//10.97.0.77:"))


def test_made_up_names_keep_no_main_node_out(
    networks: Networks, idx_folder: Path, tmp_path: Path
) -> None:
    """Found in review: sixty packets, twelve hundred names, and no new main node was found.

    And found under load: nor, every other time, was one that came twenty seconds later.
    """
    a, b, c = (networks.host(name, "a") for name in "abc")
    node = b.start(*DISCOVER, "--insecure")
    node.event("node.looking")
    flood = c.start(sys.executable, "-c", FLOOD, "90")
    node.event("discovery.flood")
    flood.event("flooded")
    main = announce(a, idx_folder, tmp_path, "--insecure", "--rounds", "1")
    node.event("main.joined")
    assert main.result()["jobs"] == 4
    flood.kill()


#: Made-up names, twelve hundred of them each second for so many seconds, that live for hours. Says
#: when they are more than the library keeps, and it has long asked for the last time who is there.
FLOOD = """
import itertools, sys, time
from zeroconf import DNSOutgoing, DNSPointer, IPVersion, Zeroconf, const
SERVICE = "_mnist-merge._tcp.local."
zeroconf = Zeroconf(ip_version=IPVersion.V4Only)
numbers = itertools.count()
for second in range(int(sys.argv[1])):
    for _ in range(60):
        out = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
        for number in itertools.islice(numbers, 20):
            name = f"made-up-{number}.{SERVICE}"
            out.add_answer_at_time(
                DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, 4500, name), 0
            )
        zeroconf.send(out)
    if second == 20:
        print('{"event": "flooded"}', file=sys.stderr, flush=True)
    time.sleep(1)
"""


def test_a_main_node_that_was_killed_is_forgotten(networks: Networks) -> None:
    """Found in review: the library keeps a name for twenty minutes. (Here its life is 6 s.)"""
    a, b = networks.host("a", "a"), networks.host("b", "a")
    main = a.start(sys.executable, "-c", SHORT, a.address)
    main.event("announced")
    node = b.start(*DISCOVER, "--insecure")
    node.event("main.found")
    main.kill()
    node.event("main.gone")


def test_a_main_node_that_could_not_be_heard_is_found_again(networks: Networks) -> None:
    """Found in review: what had been forgotten once was not looked for any more."""
    a, b = networks.host("a", "a"), networks.host("b", "a")
    a.start(sys.executable, "-c", SHORT, a.address)
    node = b.start(*DISCOVER, "--insecure")
    node.event("main.found")
    networks.set(a, "a", "down")
    node.event("main.gone")
    networks.set(a, "a", "up")
    node.event("main.found", times=2)


def test_a_strangers_goodbye_is_asked_about(networks: Networks) -> None:
    """Found by one who tried: the main node was found no more, once its line had been down."""
    a, b, c = (networks.host(name, "a") for name in "abc")
    a.start(sys.executable, "-c", SHORT, a.address)
    node = b.start(*DISCOVER, "--insecure")
    node.event("main.found")
    assert c.run(sys.executable, "-c", GOODBYE).returncode == 0
    node.event("main.gone")
    node.event("main.found", times=2)


#: Anybody's goodbye for the main node of `SHORT`.
GOODBYE = """
from zeroconf import DNSOutgoing, DNSPointer, IPVersion, Zeroconf, const
SERVICE = "_mnist-merge._tcp.local."
zeroconf = Zeroconf(ip_version=IPVersion.V4Only)
out = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
out.add_answer_at_time(
    DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, 0, f"short-1.{SERVICE}"), 0
)
zeroconf.send(out)
zeroconf.close()
"""


def test_made_up_names_let_nobody_be_forgotten(networks: Networks) -> None:
    """Found in review: the library keeps ten thousand records, and drops those that end soonest."""
    a, b, c = (networks.host(name, "a") for name in "abc")
    a.start(sys.executable, "-c", SHORT, a.address)
    node = b.start(*DISCOVER, "--insecure")
    node.event("main.found")
    c.start(sys.executable, "-c", FLOOD, "15").end()  # 18,000 names, more than two lives
    assert node.never("main.gone")


SHORT = """
import signal, sys
import protocol.carrier.discovery
protocol.carrier.discovery.TTL_SECONDS = 6
main = protocol.carrier.discovery.Announcement("short.1", 0, f"tcp://{sys.argv[1]}:5555")
print('{"event": "announced"}', file=sys.stderr, flush=True)
signal.pause()
"""


def test_a_relay_is_found_where_its_main_node_can_not_be(
    networks: Networks, idx_folder: Path, tmp_path: Path, key_folder: Path
) -> None:
    a, b, between = networks.host("a", "a"), networks.host("b", "b"), networks.host("r", "a", "b")
    main = a.start(
        *MAIN, "--bind", "tcp://0.0.0.0:5555", "--keys", str(key_folder), "--data",
        str(idx_folder), "--run-dir", str(tmp_path), "--rounds", "1", "--json",
        "--learner", "linear",
    )  # fmt: skip
    node = b.start(*DISCOVER, "--keys", str(key_folder / "nodes" / "lab2"))
    relay = between.start(
        command("mnist-relay"), "--bind", "tcp://10.98.0.2:0", "--connect", f"tcp://{a.address}:5555",
        "--announce",
    )  # fmt: skip
    relay.event("relay.ready")
    node.event("main.joined")
    assert main.result()["jobs"] == 4
