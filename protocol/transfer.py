"""Large arrays, moved in chunks that the receiver asks for.

The receiver knows an array's `ArraySpec` and asks for runs of chunks (`Need`); the sender
answers each run (`Chunk`) and remembers nothing. So no message can be lost that another would
not bring back, no queue grows beyond the window, and nothing is allocated before the bytes that
go there are here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import xxhash

from .codec import as_array, raw
from .errors import RemoteProtocolError
from .limits import CHUNK_BYTES, KIB, LEAST_WINDOW, WINDOW
from .messages import AnyArray, Arrays, ArraySpec, Chunk, Need

#: Without a chunk for this long, what is missing is asked for again.
STALL_SECONDS = 3.0
#: An array that arrives damaged this often is given up.
MAX_DAMAGED = 3
#: What was asked for and is not wanted any more may still come for so long.
LATE_SECONDS = 30.0


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
    """Return how many chunks an array of `nbytes` bytes travels in."""
    return -(-nbytes // CHUNK_BYTES)


def answer(need: Need, array: AnyArray | None) -> list[Chunk]:
    """Return the chunks that `need` asks for, as views of `array`.

    Args:
        array: C-contiguous; None where it is not held (any more): the answer says so.
    """
    if array is None:
        return [Chunk(need.digest, 0, b"")]
    content = raw(array)
    last = min(need.first + min(need.count, WINDOW), chunks_of(len(content)))
    return [
        Chunk(need.digest, index, content[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
        for index in range(need.first, last)
    ]


def fill(arrays: Arrays, contents: Mapping[bytes, AnyArray]) -> Arrays:
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
    #: Moment of the last sign of it, for the stall clock.
    heard: float
    content: AnyArray | None = None
    have: set[int] = field(default_factory=set)
    #: Chunks below this have been asked for.
    asked: int = 0
    #: Chunks below this are here and hashed.
    hashed: int = 0
    hash: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)
    damaged: int = 0
    #: Chunks of the whole array.
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = chunks_of(self.spec.nbytes)

    @property
    def under_way(self) -> int:
        """Chunks that are asked for and not here."""
        return self.asked - len(self.have)

    def ask(self, chunks: int) -> Need:
        """Return the request for so many chunks more."""
        self.asked += chunks
        return Need(self.spec.digest, self.asked - chunks, chunks)

    def again(self) -> Iterator[Need]:
        """Yield requests for what was asked for and is missing, after a stall."""
        first = self.hashed
        while first < self.asked:
            last = first
            while last < self.asked and last not in self.have:
                last += 1
            if last > first:
                yield Need(self.spec.digest, first, last - first)
            first = last + 1

    def put(self, index: int, data: memoryview | bytes, memory: Memory) -> bool:
        """Take one chunk in; return whether the array is whole (hash not yet compared)."""
        start = index * CHUNK_BYTES
        wanted = min(CHUNK_BYTES, self.spec.nbytes - start)
        if index >= self.total or len(data) != wanted:
            raise RemoteProtocolError(
                f"chunk {index} of {len(data)} bytes does not fit an array of {self.spec.nbytes}"
            )
        if index not in self.have:
            self._room(memory, start, start + wanted)[:] = np.frombuffer(data, np.uint8)
            self.have.add(index)
            assert self.content is not None
            while self.hashed in self.have:  # in order, while the bytes are still in the cache
                at = self.hashed * CHUNK_BYTES
                self.hash.update(self.content[at : at + CHUNK_BYTES].data)
                self.hashed += 1
        return self.hashed == self.total

    def _room(self, memory: Memory, start: int, stop: int) -> AnyArray:
        """Return the place of some bytes, which can be written."""
        try:
            if self.content is None:
                self.content = memory.allocate(self.spec.nbytes)
            memory.reserve(self.content, start, stop)
        except (MemoryError, OSError, ValueError) as error:
            raise RemoteProtocolError(
                f"no memory for an array of {self.spec.nbytes} bytes: {error}"
            ) from error
        return self.content[start:stop]

    def restart(self) -> None:
        """Forget every byte: they did not match the digest."""
        self.damaged += 1
        self.have.clear()
        self.asked = self.hashed = 0
        self.hash = xxhash.xxh3_128()


class Inbox:
    """The arrays that one side is asking the other for.

    Args:
        memory: where they arrive.
        shared: of all peers; None: this is the only one.
    """

    def __init__(self, memory: Memory | None = None, shared: Window | None = None) -> None:
        self._memory = memory or Plain()
        self._shared = shared
        self._arrivals: dict[bytes, Arrival] = {}
        self._wanting: dict[bytes, Arrival] = {}  # those of which something is not asked for yet
        self._asked = 0  # chunks, of all arrivals, not yet here
        self._late, self._late_until = 0, 0.0  # chunks that may still come, unwanted
        self._now = 0.0
        #: Chunks that came and that nobody had asked for.
        self.surplus = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    def held(self, digest: bytes) -> int:
        """Return how many chunks of an array that is on its way are here."""
        arrival = self._arrivals.get(digest)
        return len(arrival.have) if arrival else 0

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
        self._arrivals[spec.digest] = self._wanting[spec.digest] = Arrival(spec, now)
        return self._fill()

    def _fill(self) -> list[Need]:
        """Return the requests that keep the window full, the first array's first."""
        needs = []
        while self._wanting and (room := self._room()) > 0:
            digest, arrival = next(iter(self._wanting.items()))
            chunks = min(room, arrival.total - arrival.asked)
            if chunks == arrival.total - arrival.asked:
                del self._wanting[digest]
            if chunks:
                if not arrival.under_way:
                    arrival.heard = self._now
                needs.append(arrival.ask(chunks))
                self._count(chunks)
        return needs

    def _room(self) -> int:
        """Return how many chunks more may be asked for."""
        room = WINDOW - self._asked
        if self._shared is not None:
            room = min(room, max(LEAST_WINDOW - self._asked, 0) + max(self._shared.left, 0))
        return room

    def _count(self, chunks: int) -> None:
        """Count chunks that are asked for, or, below zero, are here or given up."""
        before = max(self._asked - LEAST_WINDOW, 0)
        self._asked += chunks
        if self._shared is not None:
            self._shared.left -= max(self._asked - LEAST_WINDOW, 0) - before

    def forget(self, digest: bytes) -> None:
        """Stop fetching an array; late chunks of it are ignored."""
        arrival = self._arrivals.pop(digest, None)
        self._wanting.pop(digest, None)
        if arrival is not None and arrival.under_way:
            self._expect_late(arrival.under_way)
            self._count(-arrival.under_way)

    def _expect_late(self, chunks: int) -> None:
        if chunks:
            self._late = min(self._late + chunks, 2 * WINDOW)
            self._late_until = self._now + LATE_SECONDS

    def close(self) -> None:
        """Fetch nothing any more: the other side is gone."""
        self._arrivals.clear()
        self._wanting.clear()
        self._count(-self._asked)

    def receive(self, chunk: Chunk, now: float) -> tuple[list[Need], AnyArray | None]:
        """Take a chunk in; return what to ask for next, and the array's bytes once whole.

        Raises:
            RemoteProtocolError: the chunk does not fit, the sender does not hold the array, or
                it arrived damaged time and again. The array is no longer fetched.
        """
        self._now = now
        arrival = self._arrivals.get(chunk.digest)
        if arrival is None or (chunk.data and self._unasked(arrival, chunk.index)):
            if self._late:
                self._late -= 1
            else:
                self.surplus += 1
            return [], None
        try:
            content = self._put(arrival, chunk)
        except RemoteProtocolError:
            self.forget(chunk.digest)
            raise
        return self._fill(), content

    @staticmethod
    def _unasked(arrival: Arrival, index: int) -> bool:
        """Whether a chunk is here already, or was never asked for."""
        return index in arrival.have or arrival.asked <= index < arrival.total

    def _put(self, arrival: Arrival, chunk: Chunk) -> AnyArray | None:
        if not chunk.data:
            raise RemoteProtocolError("the other side does not hold an array that it named")
        arrival.heard = self._now
        whole = arrival.put(chunk.index, chunk.data, self._memory)
        self._count(-1)
        if not whole:
            return None
        if arrival.hash.digest() == arrival.spec.digest:
            self.forget(chunk.digest)
            return arrival.content
        self._count(-arrival.under_way)
        arrival.restart()
        self._wanting[chunk.digest] = arrival
        if arrival.damaged == MAX_DAMAGED:
            raise RemoteProtocolError(f"an array arrived damaged {MAX_DAMAGED} times")
        return None

    def tick(self, now: float) -> list[Need]:
        """Return requests for whatever has not moved for `STALL_SECONDS`, and for what has room."""
        self._now = now
        if now > self._late_until:
            self._late = 0
        needs: list[Need] = []
        for arrival in self._arrivals.values():
            if arrival.under_way and now - arrival.heard >= STALL_SECONDS:
                arrival.heard = now
                needs += arrival.again()
        self._expect_late(sum(need.count for need in needs))  # both may come
        return needs + self._fill()


class Cache:
    """Arrays' bytes by digest, the least recently used dropped beyond a limit.

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
