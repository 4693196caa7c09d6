"""Relays between main nodes and computing nodes that can't reach each other."""

from __future__ import annotations

import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from computing_node import AsyncComputingNode, ComputingNode
from main_node import AsyncMainNode, MainNode
from protocol import InsecureAddress, JobDataType, JobSolutionDataType, KeysError
from protocol.carrier import keys
from protocol.carrier.sockets import make_pair
from relay_node import ConfigError, RelayNode

from ..conftest import ANY_PORT, Heard, upper
from ..processes import Relay as BadNetwork
from ..processes import free_port

SECONDS = 30
JOBS = 40
Relays = Callable[..., RelayNode]
Mains = Callable[..., AsyncMainNode]
Nodes = Callable[..., AsyncComputingNode]


def local(port: int = 0) -> str:
    return f"tcp://127.0.0.1:{port}"


@pytest.fixture
def relays() -> Iterator[Relays]:
    """Make relays; they are stopped at the end."""
    made: list[RelayNode] = []

    def make(**options: Any) -> RelayNode:
        made.append(RelayNode(**options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    keys.create_secret(tmp_path / "secret")
    return tmp_path / "secret"


def lower(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
    return JobSolutionDataType(job.to_string().lower())


class Asking:
    """AML-IP's client in its agent tests: one job after another, in a thread."""

    def __init__(self, main: MainNode, mark: str = "") -> None:
        self.solved = 0
        self._main, self._mark = main, mark
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        for n in range(JOBS):
            text = f"TEST_SEND_{n}{self._mark}"
            solution, _ = self._main.request_job_solution(JobDataType(text), timeout=SECONDS)
            assert solution.to_string() == text.lower()
            self.solved += 1

    def end(self) -> int:
        """Wait for the last; return how many were solved."""
        self._thread.join(SECONDS)
        return self.solved


class Answering:
    """AML-IP's computing side in its agent tests: one job after another, in a thread."""

    def __init__(self, *addresses: str, jobs: int = JOBS) -> None:
        self.solved = 0
        self._addresses, self._jobs = addresses, jobs
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        with AsyncComputingNode(
            "c", 0, callback=lower, address=self._addresses, max_jobs=self._jobs
        ) as node:  # fmt: skip
            assert node.wait(SECONDS)
        self.solved = self._jobs

    def end(self) -> int:
        self._thread.join(SECONDS)
        return self.solved


def never_solved(*asking: Asking) -> bool:
    """Whether nothing is solved though there was time: a job takes a millisecond."""
    time.sleep(0.3)  # nothing tells that nothing happens
    return not any(each.solved for each in asking)


def test_client_and_server(relays: Relays, secret: Path) -> None:
    """AML-IP's `client_server`: nothing before the bridge exists, and then exactly 40."""
    port, entry = free_port(), free_port()
    with MainNode("main", address=ANY_PORT) as main:
        asking, answering = Asking(main), Answering(local(entry))
        assert never_solved(asking)
        relays(dial=[local(port)], connect=[main.address], secret=secret)
        assert never_solved(asking)
        relays(bind=[local(entry)], accept=[local(port)], secret=secret)
        assert (asking.end(), answering.end()) == (JOBS, JOBS)


def test_client_repeater_client(relays: Relays, secret: Path) -> None:
    """AML-IP's `client_repeater_client`: both sides can only dial out."""
    meeting, public, entry = free_port(), free_port(), free_port()
    with MainNode("main", address=ANY_PORT) as main:
        asking, answering = Asking(main), Answering(local(entry))
        relays(dial=[local(meeting)], connect=[main.address], secret=secret)
        assert never_solved(asking)
        relays(bind=[local(entry)], connect=[local(public)])
        assert never_solved(asking)
        relays(bind=[local(public)], accept=[local(meeting)], secret=secret)
        assert (asking.end(), answering.end()) == (JOBS, JOBS)


def test_repeater_and_three_clients(relays: Relays, secret: Path) -> None:
    """AML-IP's `repeater_n_clients`: 120 jobs of three main nodes for one computing node."""
    meetings, public = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    mains = [MainNode(f"main{n}", address=ANY_PORT) for n in range(3)]
    try:
        asking = [Asking(main, f"_{n}") for n, main in enumerate(mains)]
        for main, port in zip(mains, meetings, strict=True):
            relays(dial=[local(port)], connect=[main.address], secret=secret)
        there = relays(bind=[ANY_PORT] * 3, connect=[local(port) for port in public])
        answering = Answering(*there.addresses, jobs=3 * JOBS)
        assert never_solved(*asking)
        relays(
            bind=[local(port) for port in public], accept=[local(port) for port in meetings],
            secret=secret,
        )  # fmt: skip
        assert [each.end() for each in asking] == [JOBS] * 3
        assert answering.end() == 3 * JOBS
    finally:
        for main in mains:
            main.close()


def test_the_synchronous_nodes_meet_over_a_relay(relays: Relays) -> None:
    with MainNode("main", address=ANY_PORT) as main:
        way = relays(bind=[ANY_PORT], connect=[main.address]).addresses[0]
        asking = Asking(main)
        for _ in range(JOBS):  # a new node, and a new connection, each time
            ComputingNode("c", callback=lower, address=way).process_job(timeout=SECONDS)
        assert asking.end() == JOBS


def test_a_relay_dies_and_comes_back_and_no_job_is_lost(
    relays: Relays, main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    port = free_port()
    counted: list[str] = []

    def slow(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        counted.append(job.to_string())
        time.sleep(0.02)
        return upper(job, task_id, client_id)

    first = relays(bind=[local(port)], connect=[main.address])
    node = AsyncComputingNode("n", callback=slow, address=local(port), tasks=2)
    with node:
        futures = [main.submit(JobDataType(f"job {n}")) for n in range(100)]
        futures[10].result(SECONDS)
        first.stop()
        relays(bind=[local(port)], connect=[main.address])
        futures[60].result(SECONDS)
        assert [f.result(SECONDS).to_string() for f in futures] == [f"JOB {n}" for n in range(100)]
    assert len(counted) == 100  # what it held, it went on with
    assert main.view().done == 100


def test_a_chain_of_relays_carries_large_arrays_unchanged(
    relays: Relays, main_node: Mains, computing_node: Nodes
) -> None:
    main = main_node()
    way = main.address
    for _ in range(3):
        way = relays(bind=[ANY_PORT], connect=[way]).addresses[0]

    def double(job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        return JobSolutionDataType({"y": job.arrays["x"] * 2})

    with AsyncComputingNode("n", callback=double, address=way):
        x = np.random.default_rng(0).random(3_000_000)
        solution = main.submit(JobDataType({"x": x})).result(SECONDS)
    np.testing.assert_array_equal(solution.arrays["y"], 2 * x)


@pytest.fixture
def key_folder(tmp_path: Path) -> Path:
    keys.create(tmp_path / "keys", ["n"], make_pair)
    return tmp_path / "keys"


def test_a_relay_can_not_read_what_it_carries(
    relays: Relays, main_node: Mains, key_folder: Path, relay: Callable[[str], BadNetwork]
) -> None:
    """A word of a job passes in clear without keys, and never with them."""
    for folder in (None, key_folder):
        main = main_node(keys=folder)
        wire = Wiretap(main.address)
        way = relays(bind=[ANY_PORT], connect=[wire.address]).addresses[0]
        options = {} if folder is None else {"keys": folder / "nodes" / "n"}
        with AsyncComputingNode("n", callback=upper, address=way, **options):  # type: ignore[arg-type]
            word = "the secret word"
            assert main.submit(JobDataType(word)).result(SECONDS).to_string() == word.upper()
        wire.close()
        assert (word.encode() in wire.heard) == (folder is None)


class Wiretap:
    """Somebody who hears everything between a relay and a main node."""

    def __init__(self, target: str) -> None:
        self.heard = b""
        self.connections = 0
        self._target = int(target.rpartition(":")[2])
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = local(self._server.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            there = socket.create_connection(("127.0.0.1", self._target))
            for source, sink in ((here, there), (there, here)):
                self._threads.append(
                    threading.Thread(target=self._pour, args=(source, sink), daemon=True)
                )
                self._threads[-1].start()

    def _pour(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self.heard += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def test_a_main_node_without_keys_is_not_opened_to_others(
    relays: Relays, main_node: Mains, heard: Heard
) -> None:
    """A relay that other machines can reach carries nobody to a main node without keys."""
    main = main_node()
    relay = relays(bind=["tcp://0.0.0.0:0"], connect=[main.address])
    port = relay.addresses[0].rpartition(":")[2]
    with AsyncComputingNode("n", callback=upper, address=local(int(port))):
        cause = heard.event("connection.refused", kind="no-keys")["cause"]
        assert "no keys" in cause
        assert "--insecure" in cause
    assert not main.view().nodes
    open_ = relays(bind=["tcp://0.0.0.0:0"], connect=[main.address], insecure=True)
    port = open_.addresses[0].rpartition(":")[2]
    with AsyncComputingNode("n", callback=upper, address=local(int(port))):
        assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"


def test_with_keys_a_relay_may_be_open_to_all(
    relays: Relays, main_node: Mains, key_folder: Path
) -> None:
    main = main_node(keys=key_folder)
    relay = relays(bind=["tcp://0.0.0.0:0"], connect=[main.address])
    way = local(int(relay.addresses[0].rpartition(":")[2]))
    with AsyncComputingNode("n", callback=upper, address=way, keys=key_folder / "nodes" / "n"):
        assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"


def test_who_does_not_speak_zeromq_is_not_carried(
    relays: Relays, main_node: Mains, heard: Heard
) -> None:
    main = main_node()
    relay = relays(bind=[ANY_PORT], connect=[main.address])
    port = int(relay.addresses[0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        cause = heard.event("connection.refused", kind="not-zeromq")["cause"]
        assert "ZeroMQ" in cause
        assert "GET" in cause
        stranger.settimeout(SECONDS)
        while stranger.recv(1000):
            pass


def test_relays_with_different_secrets_do_not_meet(
    relays: Relays, secret: Path, tmp_path: Path, heard: Heard
) -> None:
    keys.create_secret(tmp_path / "other")
    there = relays(bind=[ANY_PORT], accept=[ANY_PORT], secret=secret)
    relays(dial=list(there.meetings), connect=[local(free_port())], secret=tmp_path / "other")
    unreached = heard.event("relay.unreached")
    refused = heard.event("relay.refused")  # on both sides
    assert all("another secret" in told["cause"] for told in (unreached, refused))
    port = int(there.meetings[0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as liar:
        liar.sendall(b"MNRELAY1" + bytes(32))
        liar.recv(64)
        liar.sendall(bytes(32))
        assert not liar.recv(100)


def test_a_node_behind_a_relay_waits_for_its_main_node(
    relays: Relays, computing_node: Nodes, heard: Heard
) -> None:
    port = free_port()
    way = relays(bind=[ANY_PORT], connect=[local(port)]).addresses[0]
    with AsyncComputingNode("n", callback=upper, address=way):
        heard.event("main.unreached")
        with AsyncMainNode("main", address=local(port)) as main:
            assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"


def test_mistakes_are_told_at_once(secret: Path, tmp_path: Path) -> None:
    for options in (
        {}, {"bind": [ANY_PORT]}, {"connect": local(1)}, {"bind": local(7), "connect": local(7)},
        {"bind": ANY_PORT, "connect": local(1), "secret": secret},
        {"bind": [ANY_PORT], "dial": [local(1)], "connect": [local(1)]},
        {"bind": [ANY_PORT, ANY_PORT], "connect": [local(1)]},
        {"dial": [local(1)], "connect": [local(1)], "announce": True},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            RelayNode(**options)
    with pytest.raises(InsecureAddress, match="mnist-keys secret"):
        RelayNode(bind=[ANY_PORT], accept=["tcp://0.0.0.0:0"])
    secret.chmod(0o644)
    with pytest.raises(KeysError, match="chmod 600"):
        RelayNode(bind=[ANY_PORT], accept=[ANY_PORT], secret=secret)
    (tmp_path / "short").write_text("short")
    with pytest.raises(KeysError, match="mnist-keys secret"):
        RelayNode(bind=[ANY_PORT], accept=[ANY_PORT], secret=tmp_path / "short")


class Wire:
    """A stranger's connection to a relay."""

    def __init__(self, relay: RelayNode) -> None:
        port = int(relay.addresses[0].rpartition(":")[2])
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ended(self) -> bool:
        try:
            while self._socket.recv(1000):
                pass
        except ConnectionResetError:
            pass
        self._socket.close()
        return True


def test_an_old_version_of_zeromqs_protocol_is_no_way_around_the_keys(
    relays: Relays, main_node: Mains, heard: Heard
) -> None:
    """Found in review: ZMTP 1.0 has no mechanisms; its first bytes could be made to say CURVE."""
    main = main_node()
    future = main.submit(JobDataType("x"))
    relay = relays(bind=["tcp://0.0.0.0:0"], connect=[main.address])
    wire = Wire(relay)
    #  signature, then version 1.0 and what would stand where the mechanism does
    wire.send(b"\xff" + bytes(7) + b"\x01\x7f" + b"\x00\x00" + b"CURVE" + bytes(47))
    assert wire.ended()
    assert "old version" in heard.event("connection.refused", kind="not-zeromq")["cause"]
    assert not main.view().nodes
    assert not future.done()


def test_nothing_of_a_node_passes_before_the_main_node_has_shown_that_it_has_keys(
    relays: Relays, main_node: Mains
) -> None:
    main = main_node()
    wiretap = Wiretap(main.address)
    relay = relays(bind=["tcp://0.0.0.0:0"], connect=[wiretap.address])
    wire = Wire(relay)
    greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
    wire.send(greeting + b"and more, all at once")
    assert wire.ended()
    assert b"and more" not in wiretap.heard
    wiretap.close()


def test_who_says_nothing_costs_the_main_node_nothing(
    relays: Relays, main_node: Mains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay_node.carrying.GREETING_SECONDS", 2.0)
    main = main_node()
    wiretap = Wiretap(main.address)
    relay = relays(bind=[ANY_PORT], connect=[wiretap.address])
    silent = [Wire(relay) for _ in range(100)]
    with AsyncComputingNode("n", callback=upper, address=relay.addresses[0]):
        # Those of one host are limited, and this is one; they are let go after a while.
        assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"
    assert wiretap.connections <= 2
    assert silent
    wiretap.close()


def test_connections_that_died_while_they_waited_are_not_waited_for(
    relays: Relays, main_node: Mains, secret: Path, computing_node: Nodes
) -> None:
    """Found in review: a dialling relay whose host lost power left some that were taken first."""
    there = relays(bind=[ANY_PORT], accept=[ANY_PORT], secret=secret)
    port = int(there.meetings[0].rpartition(":")[2])
    word = keys.read_secret(secret)
    dead = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(4)]
    for connection in dead:
        mine = bytes(32)
        connection.sendall(b"MNRELAY1" + mine)
        theirs = connection.recv(64, socket.MSG_WAITALL)[:32]
        connection.sendall(hmac.digest(word, b"dial" + mine + theirs, "sha256"))
    for connection in dead:
        assert connection.recv(1) == b"\0"  # it waits
    main = main_node()
    begun = time.monotonic()
    with AsyncComputingNode("n", callback=upper, address=there.addresses[0]):
        relays(dial=list(there.meetings), connect=[main.address], secret=secret)
        assert main.submit(JobDataType("x")).result(SECONDS).to_string() == "X"
    assert time.monotonic() - begun < 12  # four at 2 s each, at worst
    for connection in dead:
        connection.close()


@pytest.mark.parametrize("host", ["a..b", "no.such.host.example"])
def test_a_name_that_is_none_is_told_and_ends_nothing(
    relays: Relays, heard: Heard, host: str
) -> None:
    way = relays(bind=[ANY_PORT], connect=[f"tcp://{host}:5555"])
    with AsyncComputingNode("n", callback=upper, address=way.addresses[0]):
        assert host in heard.event("main.unreached")["cause"]
    with AsyncComputingNode("n", callback=upper, address=way.addresses[0]):
        heard.event("main.unreached")
    assert not way.failure
