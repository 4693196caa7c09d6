"""Whatever a peer sends, the main node goes on serving the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgpack
import numpy as np
import pytest
import xxhash
import zmq

from computing_node import AsyncComputingNode
from main_node import AsyncMainNode
from protocol import JobDataType
from protocol.codec import MAGIC, decode, encode
from protocol.messages import Bye, Chunk, Heartbeat, Hello, Message, Need, Refuse, SolutionReady

SECONDS = 20
HELLO = Hello("id", "odd", 0, ("",), {}, 1, 1, "", 1, 0)


class Peer:
    """A raw DEALER that says what it likes."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def send(self, *messages: Message) -> None:
        self.socket.send_multipart(encode(messages))

    def hear(self, kind: type[Message]) -> Message:
        """Return the next message of a kind."""
        while self.socket.poll(SECONDS * 1000):
            for message in decode(self.socket.recv_multipart()):
                if type(message) is kind:
                    return message
        raise TimeoutError(f"no {kind.__name__}")


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
