"""Large arrays, moved in chunks that the receiver asks for.

The receiver knows an array's `ArraySpec` and asks for runs of chunks (`Need`); the sender
answers each run (`Chunk`) and remembers nothing. So no message can be lost that another would
not bring back, no queue grows beyond the window, and nothing is allocated before the first
bytes of the array are here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import xxhash

from .codec import as_array, raw
from .errors import RemoteProtocolError
from .messages import AnyArray, Arrays, ArraySpec, Chunk, Need

CHUNK_BYTES = 1 << 20
#: Chunks asked for and not yet here, at most: the byte window of one array.
WINDOW = 16
#: Without a chunk for this long, what is missing is asked for again.
STALL_SECONDS = 3.0
#: An array that arrives damaged this often is given up.
MAX_DAMAGED = 3


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


def fill(arrays: Arrays, digest: bytes, content: AnyArray) -> Arrays:
    """Return `arrays` with those that are named by this digest put in place."""
    return {
        name: as_array(array, content)
        if isinstance(array, ArraySpec) and array.digest == digest
        else array
        for name, array in arrays.items()
    }


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

    @property
    def total(self) -> int:
        """Chunks of the whole array."""
        return chunks_of(self.spec.nbytes)

    def next_need(self) -> list[Need]:
        """Return the request that keeps the window full, if it has room."""
        count = min(self.hashed + WINDOW, self.total) - self.asked
        if count <= 0:
            return []
        self.asked += count
        return [Need(self.spec.digest, self.asked - count, count)]

    def again(self) -> list[Need]:
        """Return a request for what is missing, after a stall."""
        self.asked = self.hashed
        return self.next_need()

    def put(self, index: int, data: memoryview | bytes) -> bool:
        """Take one chunk in; return whether the array is whole (hash not yet compared)."""
        start = index * CHUNK_BYTES
        wanted = min(CHUNK_BYTES, self.spec.nbytes - start)
        if index >= self.total or len(data) != wanted:
            raise RemoteProtocolError(
                f"chunk {index} of {len(data)} bytes does not fit an array of {self.spec.nbytes}"
            )
        assert self.content is not None
        if index not in self.have:
            self.have.add(index)
            self.content[start : start + wanted] = np.frombuffer(data, np.uint8)
            while self.hashed in self.have:  # in order, while the bytes are still in the cache
                at = self.hashed * CHUNK_BYTES
                self.hash.update(self.content[at : at + CHUNK_BYTES].data)
                self.hashed += 1
        return self.hashed == self.total

    def restart(self) -> None:
        """Forget every byte: they did not match the digest."""
        self.damaged += 1
        self.have.clear()
        self.asked = self.hashed = 0
        self.hash = xxhash.xxh3_128()


class Inbox:
    """The arrays that one side is asking the other for.

    Args:
        allocate: returns a flat uint8 array of so many bytes for an array to arrive in.
    """

    def __init__(self, allocate: Callable[[int], AnyArray] | None = None) -> None:
        self._allocate = allocate or (lambda nbytes: np.empty(nbytes, np.uint8))
        self._arrivals: dict[bytes, Arrival] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    def held(self, digest: bytes) -> int:
        """Return how many chunks of an array that is on its way are here."""
        arrival = self._arrivals.get(digest)
        return len(arrival.have) if arrival else 0

    def want(self, spec: ArraySpec, now: float) -> list[Need]:
        """Begin to fetch an array; return what to ask the other side.

        Raises:
            RemoteProtocolError: it is under way already, with another size.
        """
        under_way = self._arrivals.get(spec.digest)
        if under_way is not None:
            if under_way.spec.nbytes != spec.nbytes:
                raise RemoteProtocolError("one digest for arrays of two sizes")
            return []
        arrival = self._arrivals[spec.digest] = Arrival(spec, now)
        return arrival.next_need()

    def forget(self, digest: bytes) -> None:
        """Stop fetching an array; late chunks of it are ignored."""
        self._arrivals.pop(digest, None)

    def receive(self, chunk: Chunk, now: float) -> tuple[list[Need], AnyArray | None]:
        """Take a chunk in; return what to ask for next, and the array's bytes once whole.

        Raises:
            RemoteProtocolError: the chunk does not fit, the sender does not hold the array, or
                it arrived damaged time and again. The array is no longer fetched.
        """
        arrival = self._arrivals.get(chunk.digest)
        if arrival is None:  # a repeat of a chunk of an array that is whole already
            return [], None
        try:
            return self._put(arrival, chunk, now)
        except RemoteProtocolError:
            self.forget(chunk.digest)
            raise

    def _put(
        self, arrival: Arrival, chunk: Chunk, now: float
    ) -> tuple[list[Need], AnyArray | None]:
        if not chunk.data:
            raise RemoteProtocolError("the other side does not hold an array that it named")
        if arrival.content is None:
            try:
                arrival.content = self._allocate(arrival.spec.nbytes)
            except (MemoryError, OSError, ValueError) as error:
                raise RemoteProtocolError(
                    f"no memory for an array of {arrival.spec.nbytes} bytes: {error}"
                ) from error
        arrival.heard = now
        if not arrival.put(chunk.index, chunk.data):
            return arrival.next_need(), None
        if arrival.hash.digest() == arrival.spec.digest:
            self.forget(chunk.digest)
            return [], arrival.content
        arrival.restart()
        if arrival.damaged == MAX_DAMAGED:
            raise RemoteProtocolError(f"an array arrived damaged {MAX_DAMAGED} times")
        return arrival.next_need(), None

    def tick(self, now: float) -> list[Need]:
        """Return requests for whatever has not moved for `STALL_SECONDS`."""
        needs = []
        for arrival in self._arrivals.values():
            if now - arrival.heard >= STALL_SECONDS:
                arrival.heard = now
                needs += arrival.again()
        return needs


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
        if digest in self._held:
            return
        self._held[digest] = content
        self.nbytes += content.nbytes
        while self.nbytes > self.limit_bytes:
            _, dropped = self._held.popitem(last=False)
            self.nbytes -= dropped.nbytes
