"""Large arrays, moved in chunks that the receiver asks for.

The receiver knows an array's `ArraySpec` and asks for runs of chunks (`Need`); the sender
answers (`Chunk`, several in one message where many are wanted) and remembers nothing. So no
message can be lost that another would not bring back, no queue grows beyond the window (`flow.py`),
and nothing is allocated before the bytes that go there are here.

A connection loses nothing and keeps the order. So what is under way is asked for again over a new
one, or where no chunk at all comes for a while, then for twice as long each time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import xxhash

from ..errors import RemoteProtocolError
from .codec import as_array, raw
from .flow import Flow
from .limits import CHUNK_BYTES, KIB, OWN_WINDOW, RUN_BYTES, WINDOW
from .messages import AnyArray, ArraysOrSpecs, ArraySpec, Chunk, Need

#: Without any chunk for this long, what is missing is asked for again; the wait doubles each time.
STALL_SECONDS, MAX_STALL_SECONDS = 3.0, 12.0
#: On a line where a chunk takes longer, for so many times what one took lately, but not for ever.
STALL_TIMES, SLOWEST_SECONDS = 2.0, 60.0
#: ArraysOrSpecs of so many chunks go before larger ones that are under way.
SMALL_CHUNKS = 8
#: An array that arrives damaged this often is given up.
MAX_DAMAGED = 3
#: What was asked for and is not wanted any more may still come for so long.
LATE_SECONDS = 30.0
#: What came in part over an earlier connection is kept for so long.
PARKED_SECONDS = 60.0


class Memory(Protocol):
    """Where arrays arrive."""

    def allocate(self, nbytes: int) -> AnyArray:
        """Return a flat uint8 array of so many bytes, which are only claimed yet.

        Raises:
            OSError, MemoryError: there can be none.
        """

    def reserve(self, array: AnyArray, start: int, stop: int) -> None:
        """Make sure that these bytes of it can be written.

        Raises:
            OSError, MemoryError: there is no room for them.
        """


class Plain:
    """Memory of this process, which the system gives when it is written."""

    def allocate(self, nbytes: int) -> AnyArray:
        """Return an array."""
        return np.empty(nbytes, np.uint8)

    def reserve(self, array: AnyArray, start: int, stop: int) -> None:
        """Leave it to the system."""


class Spared:
    """Memory that is taken from a cache where the system has no more.

    Args:
        memory: where arrays arrive.
        drop: lets go of one kept array; returns False if there is none.
    """

    def __init__(self, memory: Memory, drop: Callable[[], bool]) -> None:
        self._memory, self._drop = memory, drop

    def allocate(self, nbytes: int) -> AnyArray:
        """Return an array."""
        while True:
            try:
                return self._memory.allocate(nbytes)
            except (MemoryError, OSError):
                if not self._drop():
                    raise

    def reserve(self, array: AnyArray, start: int, stop: int) -> None:
        """Make sure that these bytes can be written."""
        while True:
            try:
                return self._memory.reserve(array, start, stop)
            except (MemoryError, OSError):
                if not self._drop():
                    raise


class Window:
    """Chunks that may be on their way from all peers together, beyond a few from each."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks


def chunks_of(nbytes: int) -> int:
    """Return how many chunks an array, or a run, of `nbytes` bytes is."""
    return -(-nbytes // CHUNK_BYTES)


def answer(need: Need, array: AnyArray | None) -> list[Chunk]:
    """Return the chunks that `need` asks for, as views of `array`, in runs of `RUN_BYTES` at most.

    Args:
        need: what is asked for.
        array: C-contiguous; None where it is not held (any more): the answer says so.
    """
    if array is None:
        return [Chunk(need.digest, 0, b"")]
    content = raw(array)
    last = min(need.first + min(need.count, WINDOW), chunks_of(len(content)))
    end = min(last * CHUNK_BYTES, len(content))
    step = max(1, RUN_BYTES // CHUNK_BYTES)
    return [
        Chunk(
            need.digest, index,
            content[index * CHUNK_BYTES : min((index + step) * CHUNK_BYTES, end)],
        )
        for index in range(need.first, last, step)
    ]  # fmt: skip


def asked_of(chunks: Sequence[Chunk]) -> int:
    """Return how many chunks these messages carry."""
    return sum(chunks_of(len(chunk.data)) for chunk in chunks)


def fill(arrays: ArraysOrSpecs, contents: Mapping[bytes, AnyArray]) -> ArraysOrSpecs:
    """Return `arrays` with those that are named by a digest put in place.

    Raises:
        RemoteProtocolError: one digest is said to be that of arrays of two sizes.
    """
    filled: dict[str, AnyArray | ArraySpec] = {}
    for name, array in arrays.items():
        if isinstance(array, ArraySpec):
            content = contents[array.digest]
            if content.nbytes != array.nbytes:
                raise RemoteProtocolError("one digest for arrays of two sizes")
            filled[name] = as_array(array, content)
        else:
            filled[name] = array
    return filled


@dataclass(slots=True)
class Arrival:
    """One array on its way here."""

    spec: ArraySpec
    content: AnyArray | None = None
    #: Chunks below this are here and hashed.
    hashed: int = 0
    #: Those beyond that are here.
    ahead: set[int] = field(default_factory=set)
    #: Chunks below this have been asked for.
    asked: int = 0
    hash: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)
    damaged: int = 0
    #: Chunks of the whole array.
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = chunks_of(self.spec.nbytes)

    @property
    def here(self) -> int:
        """Chunks that are here."""
        return self.hashed + len(self.ahead)

    @property
    def under_way(self) -> int:
        """Chunks that are asked for and not here."""
        return self.asked - self.here

    def ask(self, chunks: int) -> Need:
        """Return the request for so many chunks more."""
        self.asked += chunks
        return Need(self.spec.digest, self.asked - chunks, chunks)

    def bytes_of(self, first: int, count: int) -> int:
        """Return how many bytes so many chunks are."""
        return min((first + count) * CHUNK_BYTES, self.spec.nbytes) - first * CHUNK_BYTES

    @property
    def missing(self) -> int:
        """Bytes that are asked for and not here."""
        nbytes = self.under_way * CHUNK_BYTES
        last = self.total - 1
        if nbytes and self.asked == self.total and self.hashed <= last and last not in self.ahead:
            nbytes -= self.total * CHUNK_BYTES - self.spec.nbytes
        return nbytes

    def again(self) -> Iterator[Need]:
        """Yield requests for what was asked for and is missing."""
        first = self.hashed
        while first < self.asked:
            last = first
            while last < self.asked and last not in self.ahead:
                last += 1
            if last > first:
                yield Need(self.spec.digest, first, last - first)
            first = last + 1

    def lacks(self, first: int, count: int) -> int:
        """Return how many of these chunks are asked for and not here."""
        last = min(first + count, self.asked)
        first = max(first, self.hashed)
        if not self.ahead:
            return max(0, last - first)
        return sum(index not in self.ahead for index in range(first, last))

    def put(self, index: int, data: memoryview | bytes, memory: Memory) -> int:
        """Take a run of chunks in, and return how many of them were not here.

        Raises:
            RemoteProtocolError: it does not fit, or there is no memory for it.
        """
        start, nbytes = index * CHUNK_BYTES, len(data)
        count = chunks_of(nbytes)
        if start + nbytes != min((index + count) * CHUNK_BYTES, self.spec.nbytes):
            raise RemoteProtocolError(
                f"chunk {index} of {nbytes} bytes does not fit an array of {self.spec.nbytes}"
            )
        new = self.lacks(index, count)
        if not new:
            return 0
        if new < count:  # some of it is here, and hashed
            for each in range(index, index + count):
                if self.lacks(each, 1):
                    part = data[(each - index) * CHUNK_BYTES : (each - index + 1) * CHUNK_BYTES]
                    self._write(each, part, memory)
            return new
        self._write(index, data, memory)
        return new

    def _write(self, index: int, data: memoryview | bytes, memory: Memory) -> None:
        start = index * CHUNK_BYTES
        content = self._room(memory, start, start + len(data))
        content[start : start + len(data)] = np.frombuffer(data, np.uint8)
        if index == self.hashed:  # in order, while the bytes are still in the processor's cache
            self.hash.update(data)
            self.hashed += chunks_of(len(data))
        else:
            self.ahead.update(range(index, index + chunks_of(len(data))))
        while self.hashed in self.ahead:
            self.ahead.remove(self.hashed)
            at = self.hashed * CHUNK_BYTES
            self.hash.update(content[at : at + CHUNK_BYTES].data)
            self.hashed += 1

    def _room(self, memory: Memory, start: int, stop: int) -> AnyArray:
        """Return the array's place, of which some bytes can be written."""
        try:
            if self.content is None:
                self.content = memory.allocate(self.spec.nbytes)
            memory.reserve(self.content, start, stop)
        except (MemoryError, OSError, ValueError) as error:
            raise RemoteProtocolError(
                f"no memory for an array of {self.spec.nbytes} bytes: {error}"
            ) from error
        return self.content

    def restart(self) -> None:
        """Forget every byte: they did not match the digest."""
        self.damaged += 1
        self.ahead.clear()
        self.asked = self.hashed = 0
        self.hash = xxhash.xxh3_128()


class Inbox:
    """The arrays that one side is asking the other for, over one connection.

    Args:
        memory: where they arrive.
        shared: of all peers; None: this is the only one.
        parked: arrays of which a part came over an earlier connection, by digest (`park`).
    """

    def __init__(
        self,
        memory: Memory | None = None,
        shared: Window | None = None,
        parked: Mapping[bytes, Arrival] | None = None,
    ) -> None:
        self._memory = memory or Plain()
        self._parked = dict(parked or {})
        self._parked_until = math.inf  # known when the time is
        self._shared = shared
        self._arrivals: dict[bytes, Arrival] = {}
        # Those of which something is not asked for yet: small ones, which go first, and large ones.
        self._small: dict[bytes, Arrival] = {}
        self._large: dict[bytes, Arrival] = {}
        self._flow = Flow()
        self._asked = self._missing = 0  # chunks, and bytes, of all arrivals, not yet here
        self._late, self._late_until = 0, 0.0  # chunks that may still come, unwanted
        self._given_up: dict[bytes, int] = {}  # those that were asked for once, by digest
        self._now = 0.0
        self._moved, self._patience = 0.0, STALL_SECONDS
        # Since when a chunk is waited for, and how long that may take where nothing is wrong.
        self._since, self._usual = 0.0, STALL_SECONDS
        #: Messages with chunks that nobody had asked for.
        self.surplus = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    def held(self, digest: bytes) -> int:
        """Return how many chunks of an array that is on its way are here."""
        arrival = self._arrivals.get(digest)
        return arrival.here if arrival else 0

    @property
    def due(self) -> int:
        """Bytes that the other side may have sent because they were asked for."""
        return (self._asked + self._late) * (CHUNK_BYTES + KIB)

    def want(self, spec: ArraySpec, now: float) -> list[Need]:
        """Begin to fetch an array; return what to ask the other side.

        Raises:
            RemoteProtocolError: it is under way already, with another size.
        """
        self._now = now
        under_way = self._arrivals.get(spec.digest)
        if under_way is not None:
            if under_way.spec.nbytes != spec.nbytes:
                raise RemoteProtocolError("one digest for arrays of two sizes")
            return []
        arrival = self._parked.pop(spec.digest, None)
        if arrival is None or arrival.spec.nbytes != spec.nbytes:
            arrival = Arrival(spec)
        self._arrivals[spec.digest] = arrival
        self._queue(arrival)
        return self._fill()

    def _queue(self, arrival: Arrival) -> None:
        queue = self._small if arrival.total <= SMALL_CHUNKS else self._large
        queue[arrival.spec.digest] = arrival

    def _fill(self) -> list[Need]:
        """Return the requests that keep the window full, the first array's first."""
        needs: list[Need] = []
        while (queue := self._small or self._large) and (room := self._room()) > 0:
            digest, arrival = next(iter(queue.items()))
            left = arrival.total - arrival.asked
            window, free = self._flow.window, self._flow.window - self._missing
            # Of a large one, a part: the next request is on its way then.
            part = max(1, min(free, window // 4) // CHUNK_BYTES)
            chunks = min(room, left, part)
            nbytes = arrival.bytes_of(arrival.asked, chunks)
            if self._asked and (nbytes > free or (chunks < left and free < window // 8)):
                break  # no room, or not worth a request of its own
            if not self._asked:
                self._since = self._moved = self._now
                self._patience = self._usual
                self._given_up.clear()
            self._flow.ask(nbytes, self._missing, self._now)
            needs.append(arrival.ask(chunks))
            self._count(chunks, nbytes)
            if chunks == left:
                del queue[digest]
        return needs

    def _room(self) -> int:
        """Return how many chunks more may be asked for, whatever their bytes."""
        room = WINDOW - self._asked
        if self._shared is not None:
            room = min(room, max(OWN_WINDOW - self._asked, 0) + max(self._shared.left, 0))
        return room

    def _count(self, chunks: int, nbytes: int) -> None:
        """Count chunks that are asked for, or, below zero, are here or given up."""
        before = max(self._asked - OWN_WINDOW, 0)
        self._asked += chunks
        self._missing += nbytes
        if self._shared is not None:
            self._shared.left -= max(self._asked - OWN_WINDOW, 0) - before

    def forget(self, digest: bytes) -> None:
        """Stop fetching an array; late chunks of it are ignored."""
        arrival = self._arrivals.pop(digest, None)
        self._small.pop(digest, None)
        self._large.pop(digest, None)
        if arrival is not None and arrival.under_way:
            self._expect_late(arrival.under_way)
            self._given_up[digest] = arrival.under_way
            self._count(-arrival.under_way, -arrival.missing)

    def _expect_late(self, chunks: int) -> None:
        if chunks:
            self._late = min(self._late + chunks, 2 * WINDOW)
            self._late_until = self._now + LATE_SECONDS

    def park(self) -> dict[bytes, Arrival]:
        """Fetch nothing any more; return what has come in part, for when the other side is back."""
        parked = {**self._parked, **self._arrivals}
        self.close()
        for arrival in parked.values():
            arrival.ahead.clear()
            arrival.asked = arrival.hashed
        return {digest: arrival for digest, arrival in parked.items() if arrival.hashed}

    def close(self) -> None:
        """Fetch nothing any more: the other side is gone."""
        self._arrivals.clear()
        self._small.clear()
        self._large.clear()
        self._count(-self._asked, -self._missing)

    def receive(self, chunk: Chunk, now: float) -> tuple[list[Need], AnyArray | None]:
        """Take chunks in; return what to ask for next, and the array's bytes once whole.

        Raises:
            RemoteProtocolError: they do not fit, the sender does not hold the array, or it arrived
                damaged time and again. The array is no longer fetched.
        """
        self._now = now
        arrival = self._arrivals.get(chunk.digest)
        count = chunks_of(len(chunk.data))
        if arrival is None or (chunk.data and self._unasked(arrival, chunk.index, count)):
            self._take_late(chunk, count)
            return self._fill(), None
        try:
            content = self._put(arrival, chunk)
        except RemoteProtocolError:
            self.forget(chunk.digest)
            raise
        return self._fill(), content

    def _take_late(self, chunk: Chunk, count: int) -> None:
        """Count chunks that are not wanted, or not wanted any more."""
        if not self._late:
            self.surplus += 1
            return
        self._late = max(0, self._late - max(1, count))
        left = self._given_up.pop(chunk.digest, 0)
        if left:  # else it is here twice
            if left > max(1, count):
                self._given_up[chunk.digest] = left - max(1, count)
            self._flow.get(len(chunk.data), self._now)

    @staticmethod
    def _unasked(arrival: Arrival, index: int, count: int) -> bool:
        """Whether chunks fit, and are all here already, or were never asked for."""
        return index + count <= arrival.total and not (
            index + count <= arrival.asked and arrival.lacks(index, count)
        )

    def _put(self, arrival: Arrival, chunk: Chunk) -> AnyArray | None:
        if not chunk.data:
            raise RemoteProtocolError("the other side does not hold an array that it named")
        chunks, missing = arrival.under_way, arrival.missing
        try:
            arrival.put(chunk.index, chunk.data, self._memory)
        finally:  # some may be here though there is no memory for the rest
            new = missing - arrival.missing
            self._count(arrival.under_way - chunks, -new)
        took = STALL_TIMES * (self._now - self._since)
        self._usual = min(max(STALL_SECONDS, took, 0.75 * self._usual), SLOWEST_SECONDS)
        self._since = self._moved = self._now
        self._patience = self._usual
        self._flow.get(new, self._now)
        if arrival.hashed < arrival.total:
            return None
        if arrival.hash.digest() == arrival.spec.digest:
            self.forget(chunk.digest)
            return arrival.content
        self._count(-arrival.under_way, -arrival.missing)
        arrival.restart()
        self._queue(arrival)
        if arrival.damaged == MAX_DAMAGED:
            raise RemoteProtocolError(f"an array arrived damaged {MAX_DAMAGED} times")
        return None

    def cross(self, now: float) -> None:
        """Chunks go the other way over the same line."""
        self._flow.cross(now)

    def tick(self, now: float) -> list[Need]:
        """Return requests for what does not come, after a while, and for what has room."""
        self._now = now
        if now > self._late_until:
            self._late = 0
            self._given_up.clear()
        if self._parked:
            self._parked_until = min(self._parked_until, now + PARKED_SECONDS)
            if now >= self._parked_until:
                self._parked.clear()
        needs: list[Need] = []
        if self._asked and now - self._moved >= self._patience:
            patience = min(2 * self._patience, max(MAX_STALL_SECONDS, 2 * self._usual))
            needs = self.again(now)
            self._expect_late(sum(need.count for need in needs))  # both may come
            self._patience = patience
        return needs + self._fill()

    def again(self, now: float) -> list[Need]:
        """Ask once more for all that is under way: over a new connection, or after a while."""
        self._now = self._moved = now
        self._patience = self._usual
        self._flow.restart(self._missing)
        return [need for arrival in self._arrivals.values() for need in arrival.again()]


class Cache:
    """ArraysOrSpecs' bytes by digest, the least recently used dropped beyond a limit.

    Args:
        limit_bytes: of all that is kept; one array larger than this is not kept at all.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.nbytes = 0
        self._held: OrderedDict[bytes, AnyArray] = OrderedDict()

    def get(self, digest: bytes) -> AnyArray | None:
        """Return an array's bytes (uint8, flat, read-only) if they are held."""
        content = self._held.get(digest)
        if content is not None:
            self._held.move_to_end(digest)
        return content

    def put(self, digest: bytes, content: AnyArray) -> None:
        """Keep an array's bytes (uint8, flat), read-only from now on."""
        content.flags.writeable = False
        if digest in self._held or content.nbytes > self.limit_bytes:
            return
        self._held[digest] = content
        self.nbytes += content.nbytes
        while self.nbytes > self.limit_bytes:
            self.drop()

    def drop(self) -> bool:
        """Let go of the array that was used longest ago; return False if there is none."""
        if not self._held:
            return False
        _, dropped = self._held.popitem(last=False)
        self.nbytes -= dropped.nbytes
        return True
