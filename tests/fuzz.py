"""A fuzzer for the codec and both state machines: liars beside honest nodes, from a seed.

Every other seed has keys: liars have some too, and say that they are somebody else. Liars send
every kind of message with fields drawn from what is interesting at that moment (ids of real tasks,
digests of real arrays, numbers at the edge of what is allowed), batches of them, replays of what
others said, and the bytes of all that with bits flipped, cut off and put together anew, under a
checksum that fits. No exception but the declared ones may come out, every job must be solved by an
honest node, and no honest node may lose its place to a liar.

Then there are messages that are made to cost as much as they can: as large as a frame may be, full
of what takes little on the wire and much in memory. What one costs, in time and memory, while it is
read and afterwards, has a limit.

Usage: python -m tests.fuzz [MESSAGES [SEED]]      a million messages take a minute
"""

from __future__ import annotations

import gc
import random
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

import msgpack
import numpy as np
import xxhash

from protocol import JobDataType, JobSolutionDataType, RemoteProtocolError
from protocol.machine.dispatch import Dispatcher
from protocol.machine.effects import Accept, Effect, Fail, Keep, Left, NodeEffect, Run, Send, Tell
from protocol.machine.ledger import Job
from protocol.machine.limits import Limits
from protocol.machine.session import Session, SessionState
from protocol.wire.codec import KINDS, MAGIC, decode, encode
from protocol.wire.key import Key
from protocol.wire.limits import MAX_COUNT, MAX_HEADER_BYTES, MIB
from protocol.wire.messages import (
    AnyArray,
    ArraysOrSpecs,
    ArraySpec,
    Block,
    Chunk,
    Events,
    Fields,
    Heartbeat,
    Hello,
    Ids,
    JobOffer,
    Line,
    LongName,
    Message,
    Name,
    Priority,
    SolutionReady,
    TaskFailed,
    Texts,
    Versions,
)

OPEN_JOBS = 30
HONEST, LIARS = 2, 4
NUMBERS = (0, 1, 2, 3, 7, 255, 1 << 20, 1 << 32, MAX_COUNT - 1, MAX_COUNT)
DTYPES = ("uint8", "float32", "float64", "complex128", "bool")


class Fuzzer:
    """One dispatcher between honest nodes and liars, and one session with a lying main node.

    Args:
        seed: of everything.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.messages = 0
        self.refused = 0
        self.unfit = 0
        self.solved = 0
        self._keyed = bool(seed % 2)
        self.dispatcher = Dispatcher("main", limits=Limits(max_attempts=1 << 30), keeps=True)
        self._jobs = 0
        self._begun: list[tuple[bytes, Run]] = []
        self._solutions: dict[int, JobSolutionDataType] = {}
        self._tasks: list[int] = [0]
        self._offered: dict[bytes, list[int]] = {}
        self._liar = b""  # who speaks
        self._digests: list[bytes] = [bytes(16)]
        self._heard: list[Message] = []
        self._honest = {b"honest%d" % n: self._node(f"honest{n}") for n in range(HONEST)}
        self._names = {f"honest{n}.honest{n}" for n in range(HONEST)}
        self._liars = [b"liar%d" % n for n in range(LIARS)]
        self._victim = self._node("victim")
        for peer, session in self._honest.items():  # before anybody can know their ids
            self._tell(peer, session.greet(self.now))
        self._kinds = [*KINDS.values(), *[SolutionReady, TaskFailed, Heartbeat, Chunk] * 3]
        self._make = {
            kind: [
                self._field(hint)
                for name, hint in get_type_hints(kind, include_extras=True).items()
                if name in {field.name for field in fields(kind)}
            ]
            for kind in KINDS.values()
        }  # fmt: skip

    @staticmethod
    def _node(name: str) -> Session:
        secret = b"of " + name.encode()
        return Session(Hello(name, name, 0, ("",), {}, 1, 1, "", 1, 2, secret=secret))

    def _key(self, peer: bytes) -> Key | None:
        """Return the key that brings what a peer says; two liars share one."""
        name = peer.decode()
        if not self._keyed:
            return None
        return Key(peer.ljust(40, b"."), name) if peer in self._honest else Key(b"e" * 40, "eve")

    def _hear(self, peer: bytes, message: Message) -> list[Effect]:
        """Let the dispatcher hear what a peer says, each from a host of its own."""
        return self.dispatcher.receive(peer, message, self.now, self._key(peer), peer.decode())

    # What is said.

    def _field(self, hint: Any) -> Callable[[], Any]:
        makers: dict[Any, Callable[[], Any]] = {
            int: self._count, float: self._seconds, bytes: self._bytes,
            bool: lambda: self.chance.random() < 0.5,
            Name: self._text, LongName: self._text, Line: self._text, Block: self._text,
            Versions: lambda: {self._text(): self._text()},
            Ids: lambda: tuple(self._count() for _ in range(self.chance.randrange(4))),
            Texts: lambda: ("",) * self.chance.randrange(3),
            Priority: lambda: self.chance.choice((-100, 0, 0, 7, 100)),
            Events: lambda: tuple(
                self.chance.randbytes(self.chance.randrange(9)) for _ in range(3)
            ),
            Fields: lambda: {self._text(): self._count()} if self.chance.random() < 0.5 else {},
            ArraysOrSpecs: self._arrays, memoryview | bytes: self._bytes,
        }  # fmt: skip
        return makers.get(hint, lambda: {self._count(): self.chance.random()})

    def _count(self) -> int:
        pick = self.chance.random()
        if pick < 0.5:
            return self.chance.choice(self._offered.get(self._liar) or self._tasks)
        return self.chance.choice(NUMBERS) if pick < 0.9 else self.chance.randrange(MAX_COUNT)

    def _text(self) -> str:
        texts = ("", "main", "victim", "honest0", "liar", "unknown", "\x00\u202e" * 5, "x" * 300)
        return self.chance.choice(texts)

    def _seconds(self) -> float:
        return self.chance.choice((0.0, 1e-9, 0.5, 1.0, 1e9))

    def _bytes(self) -> bytes:
        if self.chance.random() < 0.6:
            return self.chance.choice(self._digests)
        return self.chance.randbytes(self.chance.choice((0, 1, 8, 15, 16, 17, 1000)))

    def _arrays(self) -> dict[str, AnyArray | ArraySpec]:
        arrays: dict[str, AnyArray | ArraySpec] = {}
        for _ in range(self.chance.randrange(3)):
            shape = tuple(self.chance.choice((0, 1, 2, 3)) for _ in range(self.chance.randrange(3)))
            if self.chance.random() < 0.5:
                arrays[self._text()] = np.zeros(shape, self.chance.choice(DTYPES))
                continue
            huge = (self.chance.choice((1, 5, 1 << 20, 1 << 30, 1 << 37)),)
            dtype = self.chance.choice(("uint8", "float32"))
            arrays[self._text()] = ArraySpec(dtype, huge, self._digest())
        return arrays

    def _digest(self) -> bytes:
        fits = [digest for digest in self._digests[-4:] if len(digest) == 16]
        return self.chance.choice(fits) if fits else bytes(16)

    def _message(self) -> Message:
        if self._heard and self.chance.random() < 0.2:
            return self.chance.choice(self._heard)  # a replay
        if self.chance.random() < 0.1:
            return self._hello()
        kind = self.chance.choice(self._kinds)
        message: Message = kind(*(make() for make in self._make[kind]))
        return message

    def _hello(self) -> Hello:
        """Return a Hello that is believed, so that what follows is heard at all."""
        name = self.chance.choice(("liar0", "liar1", "liar2", "liar3", "honest0"))
        holds = tuple(self._count() for _ in range(self.chance.randrange(3)))
        # With keys even its secret, once read, makes nobody another node.
        secret = b"of " + name.encode() if self._keyed else b"a guess at " + name.encode()
        return Hello(
            name, f"liar{self.chance.randrange(1000)}", 0, ("",), {}, 1, 1, "",
            self.chance.choice((1, 2, MAX_COUNT)), self.chance.choice((1, 3, MAX_COUNT)),
            "main", holds, secret,
        )  # fmt: skip

    def _lie(self) -> list[bytes]:
        """Return the frames of a lie; a third is damaged, under a checksum that fits."""
        batch = [self._message() for _ in range(self.chance.choice((1, 1, 1, 2, 5)))]
        frames = [bytes(frame) for frame in encode(batch)]
        if self.chance.random() < 0.67:
            return frames
        header = bytearray(frames[1])
        for _ in range(self.chance.choice((1, 1, 2, 8))):
            how, place = self.chance.randrange(4), self.chance.randrange(len(header) or 1)
            if how == 0 and header:
                header[place] ^= 1 << self.chance.randrange(8)
            elif how == 1:
                del header[place:]
            elif how == 2:
                header[place:place] = self.chance.randbytes(self.chance.randrange(6))
            else:
                header[place:place] = msgpack.packb(self.chance.choice(NUMBERS))
        frames[1] = bytes(header)
        if self.chance.random() < 0.95:
            frames[0] = MAGIC + xxhash.xxh3_64_digest(frames[1])
        if self.chance.random() < 0.1:
            frames = [*frames[: self.chance.randrange(len(frames) + 1)], b"more"]
        return frames

    # What comes of it.

    def step(self) -> None:
        """Let a liar lie to the main node or to a node, and everybody else go on."""
        self.now += self.chance.choice((0.0, 0.001, 0.01, 0.1))
        if self.dispatcher.open < OPEN_JOBS:
            self._submit()
        pick = self.chance.random()
        if pick < 0.7:
            self._hear_lie(self.chance.choice(self._liars))
        elif pick < 0.9:
            self._lie_to_victim()
        else:
            self._go_on()

    def _submit(self) -> None:
        self._jobs += 1
        rows = self.chance.choice((0, 0, 3, 40))
        data = JobDataType({"x": np.full(rows, self._jobs)}) if rows else JobDataType(b"job")
        job = Job.of(self._jobs, data)
        self._digests = [*self._digests[-20:], *job.blobs]
        self._main(self.dispatcher.submit(job, self.now))

    def _hear_lie(self, peer: bytes) -> None:
        self._liar = peer
        try:
            for message in decode(self._lie()):
                self.messages += 1
                effects = self._hear(peer, message)
                self._main(effects)
        except RemoteProtocolError:
            self.messages += 1
            self.refused += 1
            self._main(self.dispatcher.drop(peer, "it lies", self.now))
            self._offered.pop(peer, None)

    def _lie_to_victim(self) -> None:
        try:
            for message in decode(self._lie()):
                self.messages += 1
                self._victim_does(self._victim.receive(message, self.now))
        except RemoteProtocolError:
            self.messages += 1
            self.refused += 1
        if self._victim.state in (SessionState.REFUSED, SessionState.LEFT):
            self._victim = self._node("victim")
        self._victim_does(self._victim.tick(self.now))

    def _victim_does(self, effects: list[NodeEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Run):
                self._victim.started(effect.task, self.now)
                solution = JobSolutionDataType(b"solution")
                self._victim_does(self._victim.solved(effect.task, solution, 0.1, self.now))
            elif isinstance(effect, Tell):
                encode([effect.message])

    def _go_on(self) -> None:
        """Let time pass at the main node and at the honest nodes."""
        self._main(self.dispatcher.tick(self.now))
        for peer, session in self._honest.items():
            self._tell(peer, session.tick(self.now))
        begun, self._begun = self._begun, []
        for peer, run in begun:
            session = self._honest[peer]
            if session.started(run.task, self.now):
                solution = JobSolutionDataType(b"right %d" % run.job_id)
                self._tell(peer, session.solved(run.task, solution, 0.1, self.now))

    def _tell(self, peer: bytes, effects: list[NodeEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Tell):
                said = effect.message
                if isinstance(said, Hello) and not self._keyed:
                    said = replace(said, secret=b"")  # nobody reads others' connections
                self._heard = [*self._heard[-30:], said]
                self._main(self._hear(peer, effect.message))
            elif isinstance(effect, Run):
                self._begun.append((peer, effect))

    def _main(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                session = self._honest.get(effect.peer)
                if session is not None:
                    self._tell(effect.peer, session.receive(effect.message, self.now))
                    assert session.state not in (SessionState.REFUSED, SessionState.LEFT)
                elif isinstance(effect.message, JobOffer):
                    task = effect.message.task
                    self._tasks = [*self._tasks[-10:], task]
                    self._offered[effect.peer] = [*self._offered.get(effect.peer, [])[-5:], task]
            elif isinstance(effect, Keep):
                right = effect.solution.to_bytes() == b"right %d" % effect.job
                if right:
                    self._main(self.dispatcher.kept(effect.task, effect.solution, self.now))
                else:
                    self.unfit += 1
                    self._main(self.dispatcher.unfit(effect.task, "a lie", self.now))
            elif isinstance(effect, Accept):
                assert effect.job not in self._solutions, "accepted twice"
                assert effect.node.startswith("honest")
                self._solutions[effect.job] = effect.solution
                self.solved += 1
            elif isinstance(effect, Left):
                assert effect.node not in self._names, "an honest node lost its place"
            else:
                assert not isinstance(effect, Fail)

    def finish(self) -> None:
        """Let the liars be silent; every job must be solved before long."""
        for _ in range(4000):
            self.now += 0.1
            self._go_on()
            if not self.dispatcher.open:
                return
        raise AssertionError(f"{self.dispatcher.open} jobs are left")


def fuzz(messages: int, seed: int) -> Fuzzer:
    """Send so many messages; raise what nobody declared."""
    fuzzer = Fuzzer(seed)
    while fuzzer.messages < messages:
        fuzzer.step()
    fuzzer.finish()
    return fuzzer


# What one message may cost.

#: Processor time for a message, generous: this machine may be slow, and others use it.
MOST_SECONDS = 0.25
#: Memory while it is read, and what of it is kept afterwards.
MOST_BYTES, MOST_KEPT = 48 * MIB, 2 * MIB
#: What takes little on the wire, and much in memory or time.
FILLERS: tuple[bytes, ...] = (
    b"\x90", b"\x80", b"\x91\x90", b"\x81\xa0\x80", b"\xc0", b"\xcd\x7f\xff",
    b"\xcb" + struct.pack(">d", 1.5), b"\xa2ab", b"\xa0", b"\xc4\x00", b"\x91" * 900 + b"\x01",
    b"\x91\x63", b"\x92\x04\x00", b"\x92\x08\x90", b"\x92\x0c\xdc\x00\x00",
    msgpack.packb([1, "a", "a", 0, [], {}, 1, 1, "", 1, 0, "", [], b"", 0, 0.0]),
    msgpack.packb([14, list(range(200)), dict.fromkeys(range(200), 0.5), {}]),
    msgpack.packb([15, b"d" * 16, 0, 16]), msgpack.packb([19, "a", "b", 0, 0]),
    msgpack.packb([6, 1, {"a": [[], []] * 9}, b"", [["x", "uint8", [1], b"d" * 16, False]]]),
    msgpack.packb(["x", "uint8", [1 << 30], b"d" * 16, False]),
)  # fmt: skip


@dataclass
class Cost:
    """The most that a message has cost: processor seconds, bytes while it was read, and after."""

    seconds: float = 0.0
    nbytes: int = 0
    kept: int = 0

    def take(self, seconds: float, nbytes: int, kept: int) -> None:
        self.seconds, self.nbytes = max(self.seconds, seconds), max(self.nbytes, nbytes)
        self.kept = max(self.kept, kept)


def _listing(elements: bytes, count: int) -> bytes:
    return b"\xdd" + struct.pack(">I", count) + elements


def costly(chance: random.Random) -> list[bytes]:
    """Return the frames of a message that is made to cost much."""
    filler = chance.choice(FILLERS)
    size = chance.choice((1 << 10, 1 << 14, (1 << 14) + 1, 1 << 16, 1 << 18, MAX_HEADER_BYTES))
    count = max(1, (size - 200) // len(filler))
    how = chance.randrange(6)
    if how == 0:  # so many messages
        header = _listing(filler * count, count)
    elif how == 1:  # one that has the filler in a field
        number = chance.choice([*KINDS, 99])
        header = b"\x91" + _listing(bytes([number]) + filler * count, count + 1)
    elif how == 2:  # plain values: many lists, none of them too long
        each = min(count, 60_000)
        parts = [_listing(filler * each, each)] * (count // each)
        values = b"\x81\xa1a" + _listing(b"".join(parts), len(parts))
        header = b"\x91\x95\x06\x01" + values + b"\xc4\x00\x90"
    elif how == 3:  # arrays by name
        header = b"\x91\x95\x06\x01\x80\xc4\x00" + _listing(filler * count, count)
    elif how == 4:  # what a node says of its software
        start = msgpack.packb([1, "a", "a", 0, []])[1:]
        rest = msgpack.packb([1, 1, "", 1, 0, "", [], b"", 0, 0.0])[1:]
        header = b"\x91\xdc\x00\x10" + start + _listing(filler * count, count) + rest
    else:  # a long word
        words = chance.choice((b"\x1b", "\u202e".encode(), b"\n", b"x")) * (size // 3)
        packed = b"\xdb" + struct.pack(">I", len(words)) + words
        header = b"\x91\x95\x07\x01" + packed * 3
    return [MAGIC + xxhash.xxh3_64_digest(header), header]


def _hear(dispatcher: Dispatcher, frames: list[bytes], now: float) -> None:
    try:
        for message in decode(frames):
            dispatcher.receive(b"peer", message, now)
    except RemoteProtocolError:
        dispatcher.drop(b"peer", "it lies", now)


def amplify(messages: int, seed: int) -> Cost:
    """Send messages that cost as much as they can to a dispatcher; raise if one costs too much."""
    chance, cost = random.Random(seed), Cost()
    dispatcher = Dispatcher("main", keeps=True)
    dispatcher.submit(Job.of(1, JobDataType(b"job")), 0.0)
    dispatcher.receive(b"peer", Hello("a", "a", 0, ("",), {}, 1, 1, "", 1, 2), 0.0)
    gc.collect()
    gc.freeze()  # what this process holds of other tests is not a message's to look through
    try:
        _amplify(dispatcher, messages, chance, cost)
    finally:
        gc.unfreeze()
    return cost


def _amplify(dispatcher: Dispatcher, messages: int, chance: random.Random, cost: Cost) -> None:
    for number in range(messages):
        frames = costly(chance)
        traced = number % 4 == 0  # tracing takes many times as long
        if traced:
            tracemalloc.start()
        begun = time.thread_time()
        _hear(dispatcher, frames, number / 10)
        seconds = time.thread_time() - begun
        if traced:
            kept, nbytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            cost.take(0.0, nbytes, kept)
        else:
            cost.take(seconds, 0, 0)
        assert cost.seconds <= MOST_SECONDS, f"{cost} for {bytes(frames[1][:40])!r}"
        assert cost.nbytes <= MOST_BYTES, f"{cost} for {bytes(frames[1][:40])!r}"
        assert cost.kept <= MOST_KEPT, f"{cost} for {bytes(frames[1][:40])!r}"


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    begun = time.perf_counter()
    sent = refused = unfit = solved = 0
    while sent < wanted:
        fuzzer = fuzz(min(10_000, wanted - sent), first)
        sent, refused = sent + fuzzer.messages, refused + fuzzer.refused
        unfit, solved = unfit + fuzzer.unfit, solved + fuzzer.solved
        first += 1
    print(
        f"{sent:,} messages, {refused:,} refused as malformed, {unfit:,} solutions that were lies,"
        f" {solved:,} jobs solved by honest nodes, {time.perf_counter() - begun:.0f} s,"
        f" last seed {first - 1}"
    )
    count = max(100, wanted // 500)
    most = amplify(count, first)
    print(
        f"{count:,} messages made to cost much: at most {most.seconds * 1e3:.0f} ms of a processor,"
        f" {most.nbytes / MIB:.1f} MiB while one is read, {most.kept / MIB:.2f} MiB afterwards"
    )
