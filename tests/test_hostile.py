"""Whatever a peer sends, the main node goes on serving the others."""

from __future__ import annotations

import random
import resource
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import psutil
import pytest
import xxhash
import zmq

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode, JobFailed
from protocol import JobDataType, JobSolutionDataType
from protocol.codec import MAGIC, decode, encode, specify
from protocol.messages import (
    ArraySpec,
    Bye,
    Chunk,
    Heartbeat,
    Hello,
    JobOffer,
    Message,
    Need,
    Refuse,
    SolutionReady,
)

from .conftest import Heard
from .processes import COMPUTE, MAIN, Start, free_port

SECONDS = 20
HELLO = Hello("id", "odd", 0, ("",), {}, 1, 1, "", 1, 0)


class Peer:
    """A raw DEALER that says what it likes."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)
        self._heard: list[Message] = []

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def send(self, *messages: Message) -> None:
        self.socket.send_multipart(encode(messages))

    def hear(self, kind: type[Message]) -> Message:
        """Return the next message of a kind; those before it are gone."""
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if type(message) is kind:
                    return message
            if not self.socket.poll(SECONDS * 1000):
                raise TimeoutError(f"no {kind.__name__}")
            self._heard += decode(self.socket.recv_multipart())


@pytest.fixture
def peers() -> Iterator[Callable[[str], Peer]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[Peer] = []

    def make(address: str) -> Peer:
        made.append(Peer(context, address))
        return made[-1]

    yield make
    for peer in made:
        peer.socket.close()
    context.term()


def damaged(frames: list[bytes], chance: random.Random) -> list[bytes]:
    """Return frames with something wrong in them."""
    frames = [bytes(frame) for frame in frames]
    how = chance.randrange(5)
    place = chance.randrange(len(frames))
    if how == 0:
        return frames[:place]
    if how == 1:
        return [chance.randbytes(chance.randrange(60)) for _ in frames]
    if how == 2:
        return [*frames, b"more"]
    if how == 3:
        frames[place] = frames[place][: chance.randrange(len(frames[place]) or 1)]
        return frames
    header = bytearray(frames[1])
    header[chance.randrange(len(header))] ^= 1 << chance.randrange(8)
    frames[1] = bytes(header)
    frames[0] = MAGIC + xxhash.xxh3_64_digest(frames[1])  # the lie is well-formed
    return frames


def test_the_main_node_serves_on_whatever_it_is_sent(
    main_node: Callable[..., AsyncMainNode],
    computing_node: Callable[..., AsyncComputingNode],
    peers: Callable[[str], Peer],
) -> None:
    main = main_node()
    computing_node(main)
    chance = random.Random(5)
    array = np.arange(10.0)
    honest: list[list[Message]] = [
        [HELLO],
        [HELLO, Heartbeat((1, 2), {1: 0.5})],
        [HELLO, SolutionReady(1, {"a": 1}, b"x", {"w": array})],
        [HELLO, Need(b"d" * 16, 0, 1 << 50)],
        [HELLO, Chunk(b"d" * 16, 1 << 40, b"data")],
        [HELLO, Bye("bye")],
    ]
    peer = peers(main.address)
    for round_ in range(300):
        frames = [bytes(frame) for frame in encode(chance.choice(honest))]
        peer.say(*(damaged(frames, chance) or [b""]))
        if round_ % 30 == 0:
            assert main.submit(JobDataType("still")).result(SECONDS).to_string() == "STILL"
    assert main.submit(JobDataType("there")).result(SECONDS).to_string() == "THERE"


def test_a_peer_that_breaks_the_rules_is_told_so(
    main_node: Callable[..., AsyncMainNode], peers: Callable[[str], Peer]
) -> None:
    main = main_node()
    peer = peers(main.address)
    peer.say(b"GET / HTTP/1.1", b"")
    refuse = peer.hear(Refuse)
    assert isinstance(refuse, Refuse)
    assert refuse.code == "malformed"
    assert "not a message of this protocol" in refuse.reason
    header = msgpack.packb([])
    peer.say(b"MNM\x09" + xxhash.xxh3_64_digest(header), header)
    refuse = peer.hear(Refuse)
    assert isinstance(refuse, Refuse)
    assert refuse.code == "version"
    assert "protocol version 9 is not 1" in refuse.reason


def test_a_solution_for_somebody_elses_job_changes_nothing(
    main_node: Callable[..., AsyncMainNode],
    computing_node: Callable[..., AsyncComputingNode],
    peers: Callable[[str], Peer],
) -> None:
    main = main_node()
    future = main.submit(JobDataType("mine"))
    liar = peers(main.address)
    liar.send(HELLO)  # credit 0: it is given nothing
    liar.send(*[SolutionReady(task, {}, b"a lie", {}) for task in range(50)])
    main.wait_for_nodes(1, SECONDS)
    computing_node(main)
    assert future.result(SECONDS).to_string() == "MINE"


def test_a_job_that_is_answered_a_thousand_times_is_solved_once(
    main_node: Callable[..., AsyncMainNode], peers: Callable[[str], Peer]
) -> None:
    """Before its time, twice, and after it is over, in one go and one by one."""
    solutions: Counter[int] = Counter()
    last = threading.Event()

    def count(solution: JobSolutionDataType, task_id: int, server_id: str) -> None:
        solutions[task_id] += 1
        if solution.to_string() == "last":
            last.set()

    main = main_node(callback=count)
    peer = peers(main.address)
    peer.send(replace(HELLO, credit=9, tasks=9))
    peer.send(*[SolutionReady(task, {}, b"too early", {}) for task in range(5)])
    jobs = [main.request_job_solution(JobDataType(str(n))) for n in range(3)]
    offers = [peer.hear(JobOffer) for _ in range(3)]
    for offer in (*offers, *offers):
        assert isinstance(offer, JobOffer)
        answers = [SolutionReady(offer.task, {}, b"right", {})] * 100
        peer.send(*answers)
        for answer in answers:
            peer.send(answer)
    final = main.request_job_solution(JobDataType("last"))
    offer = peer.hear(JobOffer)
    assert isinstance(offer, JobOffer)
    peer.send(SolutionReady(offer.task, {}, b"last", {}))
    assert last.wait(SECONDS)
    assert solutions == dict.fromkeys([*jobs, final], 1)


def test_nothing_is_allocated_for_what_is_only_claimed(
    main_node: Callable[..., AsyncMainNode],
    computing_node: Callable[..., AsyncComputingNode],
    peers: Callable[[str], Peer],
) -> None:
    main = main_node()
    liar = peers(main.address)
    liar.send(replace(HELLO, credit=9, tasks=9))
    main.wait_for_nodes(1, SECONDS)
    futures = [main.submit(JobDataType(str(n))) for n in range(4)]
    memory = psutil.Process().memory_info
    before = memory().rss
    chunk = bytes(1 << 20)
    for place, nbytes in enumerate((3 << 30, 4 << 30, 5 << 30, 1 << 40)):
        offer = liar.hear(JobOffer)
        assert isinstance(offer, JobOffer)
        spec = ArraySpec("uint8", (nbytes,), bytes([place]) * 16)
        liar.send(SolutionReady(offer.task, {}, b"", {"x": spec}))
        liar.send(Chunk(spec.digest, 0, chunk), Chunk(spec.digest, (nbytes >> 20) - 1, chunk))
    computing_node(main)
    liar.send(Bye("enough"))
    assert [future.result(SECONDS).to_string() for future in futures] == ["0", "1", "2", "3"]
    assert memory().rss - before < 100 << 20


def test_a_peer_that_never_reads_is_dropped_and_nobody_else_notices(
    main_node: Callable[..., AsyncMainNode],
    computing_node: Callable[..., AsyncComputingNode],
    peers: Callable[[str], Peer],
    heard: Heard,
) -> None:
    main = main_node()
    deaf = peers(main.address)
    deaf.socket.rcvhwm = 1
    deaf.send(replace(HELLO, node="deaf", name="deaf", credit=1))
    main.wait_for_nodes(1, SECONDS)
    array = np.zeros(32 << 20, np.uint8)
    future = main.submit(JobDataType({"x": array}))
    digest = specify(array).digest
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(20):
        deaf.send(*[Need(digest, 0, 16)] * 200)
    computing_node(main, callback=lambda job, task, client: JobSolutionDataType(b"done"))
    for n in range(100):
        assert main.submit(JobDataType(str(n))).result(SECONDS).to_string() == "done"
    assert process.memory_info().rss - before < 200 << 20
    heard.wait_for("peer.dropped", "it does not read")
    assert all(not node.name.startswith("deaf") for node in main.view().nodes)
    assert future.result(SECONDS).to_string() == "done"


def test_a_peer_that_takes_every_job_and_begins_none_keeps_none(
    main_node: Callable[..., AsyncMainNode],
    computing_node: Callable[..., AsyncComputingNode],
    peers: Callable[[str], Peer],
) -> None:
    """It is alive and says so; idle nodes are given what it sits on."""
    main = main_node()
    hoarder = peers(main.address)
    hoarder.send(replace(HELLO, name="hoarder", credit=1 << 50, tasks=1 << 50))
    main.wait_for_nodes(1, SECONDS)
    computing_node(main)
    main.wait_for_nodes(2, SECONDS)
    futures = [main.submit(JobDataType(str(n))) for n in range(30)]
    while not all(future.done() for future in futures):
        hoarder.send(Heartbeat())
        wait(futures, 1)
    assert [future.result().to_string() for future in futures] == [str(n) for n in range(30)]


def test_a_job_that_kills_every_node_that_takes_it_is_stopped(
    main_node: Callable[..., AsyncMainNode], program: Callable[..., subprocess.Popen[str]]
) -> None:
    main = main_node()
    for _ in range(6):
        program("fragile.py", main.address)
    main.wait_for_nodes(6, SECONDS)
    deadly = main.submit(JobDataType("die"))
    others = [main.submit(JobDataType(f"live {n}")) for n in range(50)]
    with pytest.raises(JobFailed) as failed:
        deadly.result(SECONDS)
    assert [future.result(SECONDS).to_string() for future in others] == [
        f"LIVE {n}" for n in range(50)
    ]
    story = failed.value.story
    assert {attempt.kind for attempt in story} <= {"lost", "undelivered"}
    assert len({attempt.node for attempt in story}) == len(story)


def test_ten_thousand_connections_do_not_disturb_a_run(
    start: Start, idx_folder: Path, tmp_path: Path
) -> None:
    """They say nothing, or nonsense; a node that comes after them works as ever."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = min(10_000, hard - 1000)
    assert wanted >= 1000, f"the system allows {hard} descriptors only"
    port = free_port()
    main = start(
        *MAIN, "--bind", f"tcp://127.0.0.1:{port}", "--data", str(idx_folder), "--rounds", "1",
        "--epochs", "1", "--json", "--run-dir", str(tmp_path),
    )  # fmt: skip
    main.wait_for("listening at")
    crowd = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for number in range(wanted):
            crowd.append(socket.create_connection(("127.0.0.1", port)))
            if number % 3 == 0:
                crowd[-1].sendall(b"GET / HTTP/1.1\r\n\r\n" if number % 2 else bytes(64))
        node = start(*COMPUTE, "--connect", f"tcp://127.0.0.1:{port}", "--name", "honest")
        node.wait_for("main.joined")
        result = main.result()
    finally:
        for connection in crowd:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sum(result["nodes"].values()) == 4
    assert main.never_said("Traceback")
    assert len([line for line in main.seen if "connection.refused" in line]) < 10
