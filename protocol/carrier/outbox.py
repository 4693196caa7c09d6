"""What waits to be sent to one peer, in order, with a limit in bytes."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable

from ..errors import LocalProtocolError
from ..wire.codec import Frame, pack
from ..wire.entry import Entry
from ..wire.messages import Chunk, Message, Status

log = logging.getLogger("mnist.protocol")

#: What a message that waits costs, without its arrays, which are not copied; and each node that
#: it tells of.
_MESSAGE_BYTES = 300
_NODE_BYTES = 400


class Outbox:
    """Messages that wait, cut into those of ZeroMQ when they are sent.

    Chunks of arrays come last, so that what is short need not wait for what is long.

    Attributes:
        waits_since: since when nothing at all could be sent; infinity: it could.
    """

    __slots__ = ("_chunks", "_messages", "_nodes", "_packed", "waits_since")

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._chunks: dict[tuple[bytes, int, int], Chunk] = {}  # in order
        #: The next frames to go, and how many of `_messages` they are; 0: the first chunk.
        self._packed: tuple[list[Frame], int] | None = None
        self._nodes = 0  # that are told of
        self.waits_since = math.inf

    def __len__(self) -> int:
        return len(self._messages) + len(self._chunks)

    @property
    def nbytes(self) -> int:
        """What the messages cost, about."""
        return _MESSAGE_BYTES * len(self) + _NODE_BYTES * self._nodes

    def put(self, message: Message) -> None:
        """Send this; a chunk that waits already is not sent twice."""
        if type(message) is Chunk:
            self._chunks[message.digest, message.index, len(message.data)] = message
            return
        if type(message) is Status:
            self._nodes += len(message.nodes)
        self._messages.append(message)

    def extend(self, messages: Iterable[Message]) -> None:
        """Send these."""
        for message in messages:
            self.put(message)

    def send(self, send: Callable[[list[Frame]], bool], now: float) -> bool:
        """Send what there is; return whether something has to wait.

        Args:
            send: sends the frames of a ZeroMQ message; returns False where there is no room.
            now: the time.
        """
        while self._messages or self._chunks:
            if self._packed is None:
                try:
                    self._packed = self._pack()
                except LocalProtocolError:  # a bug: what can't be sent is refused on the way in
                    kind = type(self._messages[0]).__name__
                    log.exception(Entry("message.unsendable", kind=kind))
                    self._drop(1)
                    continue
            frames, count = self._packed
            if not send(frames):
                self.waits_since = min(self.waits_since, now)
                return True
            self._packed = None
            self.waits_since = math.inf
            self._drop(count)
        return False

    def _pack(self) -> tuple[list[Frame], int]:
        if self._messages:
            return pack(self._messages)
        frames, _ = pack([next(iter(self._chunks.values()))])
        return frames, 0

    def _drop(self, count: int) -> None:
        """Be done with so many messages; 0: with a chunk."""
        if count == len(self._messages) > 0:
            self._messages.clear()
            self._nodes = 0
            return
        if not count:
            del self._chunks[next(iter(self._chunks))]
        for _ in range(count):
            message = self._messages.popleft()
            if type(message) is Status:
                self._nodes -= len(message.nodes)

    def clear(self) -> None:
        """Send nothing of it."""
        self._messages.clear()
        self._chunks.clear()
        self._packed = None
        self._nodes = 0
        self.waits_since = math.inf
