"""docs/deploy.md, run as it stands: its hosts are network namespaces, its names resolve."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .. import BROUGHT
from ..documents import Block, blocks, named_tests
from ..processes import SECONDS, Process, Start, has, run
from .conftest import Host, Networks

pytestmark = pytest.mark.lane("machines")
ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


def test_every_command_is_run_by_a_test_or_marked() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in named_tests():
        assert f"def {name}(" in tests, name


class Walk:
    """The document's hosts, each with a home folder, and names that all of them know."""

    def __init__(self, networks: Networks, home: Path, data: Path, **hosts: str) -> None:
        self.hosts = {name: networks.host(name, *nets) for name, nets in hosts.items()}
        self.home = home
        self._data = data
        self._names: list[Path] = []
        self.running: list[Process] = []
        self.gate = home / "linear-gate"
        self.gate.mkdir()
        (self.gate / "open").touch()
        for host in self.hosts.values():
            self._give_names(host)
        for name in hosts:
            (home / name).mkdir()

    def _give_names(self, host: Host) -> None:
        """Let a host know those by name that it can reach: `ip netns exec` shows it this file."""
        lines = ["127.0.0.1 localhost"]
        for name, other in self.hosts.items():
            common = [a for net, a in other.addresses.items() if net in host.addresses]
            lines += [f"{address} {name}.example" for address in common]
        folder = Path("/etc/netns") / host.name
        folder.mkdir(parents=True)
        (folder / "hosts").write_text("\n".join([*lines, ""]))
        self._names.append(folder)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "MNIST_DATA": str(self._data),
            "MNIST_ROUNDS": "2", "MNIST_LEARNER": "linear", "LINEAR_GATE": str(self.gate),
            "PYTHONPATH": f"{BROUGHT}:{os.environ.get('PYTHONPATH', '')}",
        }  # fmt: skip

    def start(self, block: Block) -> Process:
        process = self.hosts[block.host].start(
            "bash", "-ec", f"exec {block.commands}", cwd=self.home / block.host,
            env=self._environment(),
        )  # fmt: skip
        self.running.append(process)
        return process

    def run(self, block: Block) -> str:
        """Run a block to its end, which must be good; return what it printed."""
        done = subprocess.run(
            self.hosts[block.host].command("bash", "-ec", block.commands),
            cwd=self.home / block.host, env=self._environment(), capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.commands}: {done.stdout}{done.stderr}"
        return done.stdout

    def walk(self, test: str) -> list[str]:
        """Run the blocks of a test; return what those printed that end by themselves."""
        printed = []
        todo = blocks(test)
        while todo:
            block = todo.pop(0)
            if block.how == "background":
                self.start(block)
            elif todo and todo[0].how == "during":  # the next one looks on
                looked, _ = self.look(block, todo.pop(0))
                printed.append(looked)
            else:
                printed.append(self.run(block))
        return printed

    def look(self, main: Block, during: Block) -> tuple[str, str]:
        """Run a main node to its end, which must be good, and a block while nodes are at work.

        Return what both printed, the block first.
        """
        (self.gate / "open").unlink()
        process = self.start(main)
        # One job of the round passes the gate; others stand before it.
        passed = process.event("run.job-solved", label=has("round-002-job"))["label"]
        process.event(
            "run.job-started", times=2,
            label=lambda label: "round-002-job" in label and label != passed,
        )  # fmt: skip
        looked = self.run(during)
        (self.gate / "open").touch()
        code, output = process.end()
        assert code == 0, "".join(process.seen)
        return looked, output

    def main(self) -> Process:
        """Return the main node that runs in the background."""
        (main,) = [p for p in self.running if "mnist-main" in str(p.popen.args)]
        return main

    def copy(self, source: str, *targets: str) -> None:
        """Do what the document does with scp."""
        place = self.home / source
        for target in targets:
            there = self.home / target / place.name
            (shutil.copytree if place.is_dir() else shutil.copy)(place, there)

    def close(self) -> None:
        for folder in self._names:
            shutil.rmtree(folder)


@pytest.fixture
def walk(networks: Networks, tmp_path: Path, idx_folder: Path) -> Iterator[Any]:
    made: list[Walk] = []

    def make(**hosts: str) -> Walk:
        made.append(Walk(networks, tmp_path, idx_folder, **hosts))
        return made[-1]

    yield make
    for each in made:
        each.close()


def make_keys(walk: Walk) -> None:
    """Do what the document did under "by hand"."""
    walk.run(Block("main", "", "mnist-keys new keys lab1 lab2"))
    walk.copy("main/keys/nodes/lab1", "lab1")


def test_one_host(walk: Any) -> None:
    (status,) = walk(main="").walk("test_one_host")
    assert status.count("● running") == 2
    assert "round-002-" in status
    assert status.count("local-") == 2


def test_several_hosts(walk: Any) -> None:
    there = walk(main="a", lab1="a", lab2="a")
    first, *rest = blocks("test_several_hosts")
    assert first.commands == "mnist-keys new keys lab1 lab2\n"
    there.run(first)
    for name in ("lab1", "lab2"):
        there.copy(f"main/keys/nodes/{name}", name)
    nodes = [there.start(block) for block in rest[:2]]
    status, output = there.look(rest[2], rest[3])
    assert status.count("● running") == 2
    assert "by 2 nodes" in output
    for node in nodes:
        node.event("main.joined", address="tcp://main.example:5555")


def test_without_addresses(walk: Any) -> None:
    there = walk(main="a", lab1="a", lab2="a")
    make_keys(there)
    (summary,) = there.walk("test_without_addresses")
    assert "accuracy" in summary


def test_a_relay_between_two_networks(walk: Any) -> None:
    there = walk(main="a", gate="ab", lab1="b")
    make_keys(there)
    there.walk("test_a_relay_between_two_networks")
    assert_can_not_reach(there)
    assert there.main().end()[0] == 0


def test_both_sides_behind_nat(walk: Any) -> None:
    there = walk(main="a", gate="ab", lab1="b")
    make_keys(there)
    first, *rest = blocks("test_both_sides_behind_nat")
    there.run(first)
    there.copy("gate/relay.secret", "main")
    for block in rest:
        there.start(block)
    assert_can_not_reach(there)
    assert there.main().end()[0] == 0


def assert_can_not_reach(walk: Walk) -> None:
    """The node's host has no way to the main node's."""
    address = walk.hosts["main"].address
    tried = walk.hosts["lab1"].run(
        sys.executable, "-c", f"import socket; socket.create_connection(('{address}', 5555), 2)"
    )
    assert "Network is unreachable" in tried.stderr


def test_the_unit_is_one(tmp_path: Path) -> None:
    """systemd takes it, with the path of this installation."""
    if shutil.which("systemd-analyze") is None:
        assert os.environ.get("CI") != "true", "no systemd-analyze: apt-get install systemd"
        pytest.skip("no systemd-analyze: apt-get install systemd")
    unit = (ROOT / "deploy" / "mnist-compute.service").read_text()
    assert "ExecStart=/opt/mnist-merge/bin/mnist-compute" in unit
    path = tmp_path / "mnist-compute.service"
    path.write_text(unit.replace("/opt/mnist-merge/bin", str(BIN)).replace("=mnist\n", "=root\n"))
    done = run("systemd-analyze", "verify", "--man=no", str(path))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_what_the_unit_starts(start: Start, tmp_path: Path) -> None:
    """With the environment file's options it looks for its main node and tells systemd so."""
    text = (ROOT / "deploy" / "mnist-compute.env").read_text()
    values = dict(re.findall(r"^#?(MNIST_\w+)=(.*)$", text, re.MULTILINE))
    set_ = dict(re.findall(r"^(MNIST_\w+)=(.*)$", text, re.MULTILINE))
    assert set(values) >= {"MNIST_CONNECT", "MNIST_DISCOVER", "MNIST_KEYS", "MNIST_TASKS"}
    run(str(BIN / "mnist-keys"), "new", str(tmp_path / "keys"), "lab1")
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(SECONDS)
    environment = {
        **set_, "MNIST_CONNECT": "tcp://127.0.0.1:1 tcp://127.0.0.1:2",
        "MNIST_KEYS": str(tmp_path / "keys" / "nodes" / "lab1"), "PATH": os.environ["PATH"],
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }  # fmt: skip
    node = start(str(BIN / "mnist-compute"), env=environment)
    assert node.event("node.looking")["for"] == "tcp://127.0.0.1:1, tcp://127.0.0.1:2"
    heard = {told.recv(100), told.recv(100)}
    assert heard == {b"READY=1", b"WATCHDOG=1"}
    assert told.recv(100) == b"WATCHDOG=1"
    told.close()
