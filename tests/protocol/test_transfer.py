"""Arrays over a line with a rate, a length and a queue: in time, nothing twice, no long queue."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest

from protocol import RemoteProtocolError
from protocol.codec import specify
from protocol.limits import CHUNK_BYTES, WINDOW
from protocol.messages import AnyArray, Chunk, Need
from protocol.transfer import Cache, Inbox, Spared, answer

MIB = 1 << 20


@dataclass
class Line:
    """One direction of a connection: whatever is sent waits for what was sent before.

    Args:
        arrays: that the far side has.
        mbit: a second.
        seconds: that a byte takes there and back, beside its turn.
    """

    arrays: list[AnyArray]
    mbit: float
    seconds: float
    now: float = 0.0
    carried: int = 0
    longest_queue: float = 0.0
    inbox: Inbox = field(default_factory=Inbox)
    here: dict[bytes, AnyArray] = field(default_factory=dict)
    _free: float = 0.0
    _under_way: list[tuple[float, int, Chunk]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._held = {specify(array).digest: array for array in self.arrays}

    def ask(self, needs: list[Need]) -> None:
        rate = self.mbit * 1e6 / 8
        for need in needs:
            at = self.now + self.seconds / 2
            for chunk in answer(need, self._held[need.digest]):
                self._free = max(self._free, at) + (len(chunk.data) + 100) / rate
                self.longest_queue = max(self.longest_queue, self._free - at)
                self.carried += len(chunk.data)
                arrival = self._free + self.seconds / 2
                heapq.heappush(self._under_way, (arrival, next(self._numbers), chunk))

    def carry(self, limit: float = 1e6) -> float:
        """Fetch all arrays; return the time that it takes, to what the line takes for them."""
        for array in self.arrays:
            self.ask(self.inbox.want(specify(array), 0.0))
        tick = 0.0
        while len(self.here) < len(self._held):
            assert self.now < limit
            if self._under_way and self._under_way[0][0] <= tick:
                self.now, _, chunk = heapq.heappop(self._under_way)
                needs, content = self.inbox.receive(chunk, self.now)
                if content is not None:
                    self.here[chunk.digest] = content
                self.ask(needs)
            else:
                self.now = tick
                tick += 0.25
                self.ask(self.inbox.tick(self.now))
        nbytes = sum(array.nbytes for array in self.arrays)
        return self.now / (nbytes / (self.mbit * 1e6 / 8) + self.seconds)


def arrays_of(number: int, nbytes: int) -> list[AnyArray]:
    return [np.full(nbytes, n, np.uint8) for n in range(number)]


@pytest.mark.parametrize("number", [1, 4, 8])
@pytest.mark.parametrize("mbit", [1, 2, 20, 200])
def test_a_line_is_used_and_nothing_goes_over_it_twice(mbit: float, number: int) -> None:
    """Found in review: four arrays of 24 MiB at 5 Mbit/s took hours, and 100,000 chunks for 96."""
    line = Line(arrays_of(number, int(mbit * 1e6 / 8 * 30 / number)), mbit, 0.01)
    assert line.carry() < 1.1
    assert line.carried == sum(array.nbytes for array in line.arrays)
    assert line.longest_queue < 0.6


@pytest.mark.parametrize("seed", range(100))
def test_any_line_is_used_fairly_well(seed: int) -> None:
    chance = random.Random(seed)
    mbit, seconds = 10 ** chance.uniform(-0.5, 2.5), 10 ** chance.uniform(-3.5, -0.5)
    sizes = [int(10 ** chance.uniform(4, 7)) for _ in range(chance.randint(1, 8))]
    arrays = [np.full(size, n, np.uint8) for n, size in enumerate(sizes)]
    line = Line(arrays, mbit, seconds)
    nbytes = sum(sizes)
    ratio = line.carry()
    assert line.carried == nbytes, "something was asked for twice"
    # Some trips over the line are for finding out how long it is.
    assert ratio < 1.15 + 20 * seconds / (nbytes * 8e-6 / mbit + seconds)
    assert line.longest_queue < max(1.0, 3 * 2 * CHUNK_BYTES * 8e-6 / mbit)
    for array in arrays:
        np.testing.assert_array_equal(line.here[specify(array).digest], array)


def test_a_line_that_becomes_slow_is_not_asked_again_and_again() -> None:
    line = Line(arrays_of(2, 20 * MIB), 100, 0.01)
    for array in line.arrays:
        line.ask(line.inbox.want(specify(array), 0.0))
    for _ in range(40):
        line.now, _, chunk = heapq.heappop(line._under_way)
        line.ask(line.inbox.receive(chunk, line.now)[0])
    line.mbit = 2
    line.arrays = []
    line.carry()
    assert line.carried < 1.05 * 40 * MIB


def test_a_small_array_does_not_wait_for_large_ones() -> None:
    inbox = Inbox()
    large, small = np.zeros(50 * MIB, np.uint8), np.ones(3 * CHUNK_BYTES, np.uint8)
    needs = inbox.want(specify(large), 0.0)
    inbox.want(specify(small), 0.0)
    needs, _ = inbox.receive(answer(needs[0], large)[0], 0.5)  # a slow line
    assert {need.digest for need in needs} == {specify(small).digest}


def test_a_window_never_exceeds_its_limit() -> None:
    inbox = Inbox()
    array = np.zeros(100 * MIB, np.uint8)
    needs, asked, most = inbox.want(specify(array), 0.0), 0, 0
    while needs:
        need = needs.pop(0)
        asked += need.count
        for chunk in answer(need, array):
            most = max(most, inbox._asked)
            needs += inbox.receive(chunk, 0.0)[0]
    assert most == WINDOW
    assert asked == 100 * MIB // CHUNK_BYTES


def test_runs_that_overlap_are_taken_for_what_is_new() -> None:
    inbox = Inbox()
    array = np.random.default_rng(0).integers(0, 255, 9 * CHUNK_BYTES + 5, dtype=np.uint8)
    digest = specify(array).digest
    (need,) = inbox.want(specify(array), 0.0)
    inbox.receive(answer(need, array)[0], 0.001)
    for first, number in ((4, 2), (3, 4), (1, 3), (6, 4)):
        (chunk,) = answer(Need(digest, first, number), array)
        _, content = inbox.receive(chunk, 0.1)
    np.testing.assert_array_equal(content, array)


def test_chunks_that_do_not_fit_are_refused() -> None:
    for first, nbytes in ((1, 100), (1, CHUNK_BYTES + 1), (8, 6), (9, 6), (1, 20 * CHUNK_BYTES)):
        inbox = Inbox()
        spec = specify(np.zeros(9 * CHUNK_BYTES + 5, np.uint8))
        inbox.want(spec, 0.0)
        inbox.receive(Chunk(spec.digest, 0, bytes(CHUNK_BYTES)), 0.001)
        with pytest.raises(RemoteProtocolError, match="does not fit"):
            inbox.receive(Chunk(spec.digest, first, bytes(nbytes)), 0.1)


# The cache.


def test_an_array_larger_than_the_cache_leaves_the_others_there() -> None:
    """Found in review: it emptied the cache, and was not kept either."""
    cache = Cache(1000)
    cache.put(b"a", np.zeros(900, np.uint8))
    cache.put(b"b", np.zeros(2000, np.uint8))
    assert cache.get(b"a") is not None
    assert cache.nbytes == 900


def test_what_is_kept_makes_room_for_what_comes() -> None:
    """Found in review: where shared memory is small, every job failed for the old ones' arrays."""
    cache = Cache(1 << 30)

    class Small:
        def allocate(self, nbytes: int) -> AnyArray:
            if cache.nbytes + nbytes > 1000:
                raise OSError(28, "No space left on device")
            return np.zeros(nbytes, np.uint8)

        def reserve(self, array: AnyArray, start: int, stop: int) -> None:
            return

    memory = Spared(Small(), cache.drop)
    for number in range(20):
        cache.put(bytes([number]), memory.allocate(300))
    assert cache.nbytes == 900
    with pytest.raises(OSError, match="No space"):
        memory.allocate(1001)
