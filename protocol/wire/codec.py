"""Messages to frames and back.

One ZeroMQ message carries one or more messages of `messages.py`:

    frame 0    magic: b"MNM", one byte with the major version, xxh3-64 of frame 1
    frame 1    header: msgpack, a list of [kind, field, field, ...]
    frame 2..  raw buffers, in the order in which the header names them

Nothing that arrives is executed, everything has a limit (`limits.py`) that is checked before
anything is built or allocated for it, words pass their door (`words.py`), and the only exception
that `decode` raises is a `RemoteProtocolError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, get_type_hints

import msgpack
import numpy as np
import xxhash

from ..errors import DecodeError, LocalProtocolError, VersionMismatch
from .checks import (
    CHECKS,
    DTYPES,
    Check,
    as_count,
    as_fields,
    as_list,
    as_spec,
    as_text,
    complaint,
)
from .limits import (
    BATCH_HEADER_BYTES,
    EVENT_BYTES,
    INLINE_BYTES,
    MAX_ARRAYS,
    MAX_BATCH,
    MAX_CONTAINERS,
    MAX_ELEMENTS,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    MAX_HEADER_BYTES,
    MAX_IDS,
    MAX_PLAIN_BYTES,
    SMALL_HEADER_BYTES,
)
from .messages import (
    Accepted,
    AnyArray,
    ArraysOrSpecs,
    ArraySpec,
    Busy,
    Bye,
    Cancel,
    Chunk,
    Control,
    Controlled,
    Fields,
    Follow,
    Happened,
    Heartbeat,
    Hello,
    JobOffer,
    Message,
    Need,
    Ready,
    Recall,
    Refuse,
    Reject,
    Returned,
    SolutionReady,
    Status,
    Stop,
    TaskFailed,
    Unknown,
    Unreached,
    Waiting,
    Watch,
    Welcome,
)
from .words import is_array_name, safe_line

VERSION = 3
MAGIC = b"MNM" + bytes([VERSION])

#: The wire number of each kind. Never reused; new kinds are appended.
KINDS: dict[int, type[Any]] = {
    1: Hello, 2: Welcome, 3: Refuse, 4: Ready, 5: JobOffer, 6: SolutionReady, 7: TaskFailed,
    8: Accepted, 9: Cancel, 10: Recall, 11: Returned, 12: Waiting, 13: Busy, 14: Heartbeat,
    15: Need, 16: Chunk, 17: Bye, 18: Stop, 19: Watch, 20: Status, 21: Reject,
    22: Control, 23: Controlled, 24: Follow, 25: Happened, 26: Unreached,
}  # fmt: skip
_NUMBERS = {kind: number for number, kind in KINDS.items()}

Frame = bytes | memoryview


def digest(array: AnyArray) -> bytes:
    """Return xxh3-128 of a C-contiguous array's bytes, 16 bytes. Cost: some 30 GB/s."""
    return xxhash.xxh3_128_digest(raw(array))


def raw(array: AnyArray) -> memoryview:
    """Return the bytes of a C-contiguous array without a copy."""
    return array.reshape(-1).view(np.uint8).data


def specify(array: AnyArray) -> ArraySpec:
    """Return what `array` is, with its digest.

    Raises:
        LocalProtocolError: an element type, or a shape, that does not travel.
    """
    if array.dtype.name not in DTYPES:
        raise LocalProtocolError(
            f"arrays of {array.dtype} can't be sent; use one of {sorted(DTYPES)}"
        )
    spec = ArraySpec(array.dtype.name, array.shape, digest(array))
    try:
        as_spec(spec.dtype, list(spec.shape), spec.digest)
    except DecodeError as error:  # nobody would take it
        raise LocalProtocolError(f"an array can't be sent: {error}") from error
    return spec


def portable(array: AnyArray) -> AnyArray:
    """Return `array` as it can travel: little-endian, C order; itself where it is so already."""
    wanted = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)


_BUFFERED = {ArraysOrSpecs: "arrays", memoryview | bytes: "chunk"}


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one kind of message is read and written.

    A field's place is that in an entry; the kind is at place 0.
    """

    kind: type[Any]
    #: Returns a message's fields.
    values: Callable[[Any], tuple[Any, ...]]
    #: An entry's length.
    length: int
    #: The places of fields, and what checks them.
    checks: tuple[tuple[int, Check], ...]
    #: The places of those that have buffers, and which method of `_Buffers` reads them.
    buffered: tuple[tuple[int, str], ...]


def _plan(kind: type[Any]) -> _Plan:
    hints = get_type_hints(kind, include_extras=True)
    names = [f.name for f in fields(kind)]
    get = attrgetter(*names)
    wanted = [(place, hints[name]) for place, name in enumerate(names, 1)]
    return _Plan(
        kind,
        get if len(names) > 1 else lambda message: (get(message),),
        len(names) + 1,
        tuple((place, CHECKS[hint]) for place, hint in wanted if hint not in _BUFFERED),
        tuple((place, _BUFFERED[hint]) for place, hint in wanted if hint in _BUFFERED),
    )


_PLANS = {number: _plan(kind) for number, kind in KINDS.items()}
_STRICT = {
    "raw": False, "strict_map_key": False,
    "max_array_len": MAX_ELEMENTS, "max_map_len": MAX_ELEMENTS,
}  # fmt: skip


def _unpack(packed: Frame) -> Any:
    if len(packed) <= SMALL_HEADER_BYTES:
        return msgpack.unpackb(packed, ext_hook=_no_extension, **_STRICT)
    count = _Containers()
    return msgpack.unpackb(
        packed, ext_hook=_no_extension, list_hook=count, object_hook=count, **_STRICT
    )


class _Containers:
    """Counts the lists and maps of a header while they are built."""

    def __init__(self) -> None:
        self._left = MAX_CONTAINERS

    def __call__(self, container: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise DecodeError(f"more than {MAX_CONTAINERS} lists and maps in one message")
        return container


def packed_bytes(values: Fields) -> int:
    """Return how many bytes plain values take in a message."""
    return len(_packers.packer.pack(values))


def check_plain(values: Fields) -> int:
    """Return how many bytes these values take in a message that the receiver will accept.

    Raises:
        LocalProtocolError: a name that is no text, a value that is not plain, or too many.
    """
    try:
        packed = msgpack.packb(values)
        as_fields(_unpack(packed))  # not everything that can be packed can be unpacked
    except (TypeError, ValueError, OverflowError, RecursionError, DecodeError) as error:
        if "exceeds max_" in str(error):  # of msgpack
            raise LocalProtocolError(
                f"a list or map of more than {MAX_ELEMENTS:,} values; send an array instead"
            ) from error
        raise LocalProtocolError(f"only plain values can be sent: {error}") from error
    if len(packed) > MAX_PLAIN_BYTES:
        raise LocalProtocolError(
            f"{len(packed):,} bytes of plain values are more than {MAX_PLAIN_BYTES:,};"
            " send arrays instead"
        )
    return len(packed)


def pack_event(event: Fields) -> bytes:
    """Return an event as it travels.

    Raises:
        LocalProtocolError: it is no map of plain values by name, or of more than `EVENT_BYTES`.
    """
    if not isinstance(event, Mapping):
        raise LocalProtocolError(f"an event is plain values by name, not {type(event).__name__}")
    event = dict(event)
    check_plain(event)
    packed: bytes = _packers.packer.pack(event)
    if len(packed) > EVENT_BYTES:
        raise LocalProtocolError(
            f"an event of {len(packed):,} bytes, more than {EVENT_BYTES:,}: say less of it"
        )
    return packed


def unpack_event(packed: Frame) -> Fields:
    """Return an event that has come; its words have passed no door yet.

    Raises:
        DecodeError: it is none.
    """
    try:
        return as_fields(_unpack(packed))
    except DecodeError:
        raise
    except Exception as error:  # msgpack raises a dozen kinds, all of them the peer's fault
        raise DecodeError(f"an event is not msgpack: {safe_line(str(error))}") from error


def _attach(value: Any, buffers: list[Frame]) -> Any:
    """Return a field that carries buffers as the header shows it, and append those buffers."""
    if type(value) is dict and not value:
        return ()
    if isinstance(value, Mapping):  # arrays by name
        return [_attach_array(name, array, buffers) for name, array in value.items()]
    buffers.append(value)
    return [len(value), xxhash.xxh3_64_digest(value)]


def _attach_array(name: str, array: AnyArray | ArraySpec, buffers: list[Frame]) -> list[Any]:
    if isinstance(array, ArraySpec):
        return [name, array.dtype, array.shape, array.digest, False]
    array = portable(array)
    spec = specify(array)
    buffers.append(raw(array))
    return [name, spec.dtype, spec.shape, spec.digest, True]


class _Packers(threading.local):
    """A packer for each thread; to make one takes as long as to use it."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer()


_packers = _Packers()


def _entry(message: Message, buffers: list[Frame]) -> bytes:
    """Return a message's entry in the header, packed; append its buffers.

    Raises:
        LocalProtocolError: it can't be sent, or nobody would take it.
    """
    number = _NUMBERS[type(message)]
    plan = _PLANS[number]
    entry: list[Any] = [number, *plan.values(message)]
    for place, _ in plan.buffered:
        entry[place] = _attach(entry[place], buffers)
    try:
        packed: bytes = _packers.packer.pack(entry)
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"not a plain value that can be sent: {error}") from error
    if len(packed) > MAX_HEADER_BYTES - 8:
        raise LocalProtocolError(
            f"{len(packed):,} bytes of values and names are more than {MAX_HEADER_BYTES:,}:"
            " send arrays, and not so many"
        )
    return packed


def _frames(entries: list[bytes], buffers: list[Frame]) -> list[Frame]:
    """Return the frames of one ZeroMQ message.

    Raises:
        LocalProtocolError: nobody would take it.
    """
    count = len(entries)
    start = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    header = b"".join([start, *entries])
    frames = [MAGIC + xxhash.xxh3_64_digest(header), header, *buffers]
    largest = max(map(len, frames))
    if len(header) > MAX_HEADER_BYTES or len(frames) > MAX_FRAMES or largest > MAX_FRAME_BYTES:
        raise LocalProtocolError(
            f"too much for one message: a header of {len(header):,} bytes, {len(frames)} frames,"
            f" the largest of {largest:,} bytes"
        )
    return frames


def encode(messages: Iterable[Message]) -> list[Frame]:
    """Return the frames of one ZeroMQ message that carries all of `messages`, in order.

    The buffers of arrays are views: whoever sends them must not change the arrays meanwhile.

    Raises:
        LocalProtocolError: a field can't be packed, or it would be too much.
    """
    buffers: list[Frame] = []
    return _frames([_entry(message, buffers) for message in messages], buffers)


def pack(messages: Iterable[Message]) -> tuple[list[Frame], int]:
    """Return the frames that carry the first of `messages`, and how many of them that are.

    As many travel together as are small; a chunk of an array travels alone.

    Raises:
        LocalProtocolError: the first one can't be sent.
    """
    entries: list[bytes] = []
    buffers: list[Frame] = []
    header = inline = 0
    for message in messages:
        alone = type(message) is Chunk
        if entries and (alone or len(entries) == MAX_BATCH):
            break
        own: list[Frame] = []
        try:
            entry = _entry(message, own)
        except LocalProtocolError:
            if entries:
                break  # its own turn to be told
            raise
        header += len(entry)
        if entries and header > BATCH_HEADER_BYTES:
            break
        if own:
            inline += sum(map(len, own))
            many = len(buffers) + len(own) > MAX_FRAMES - 2
            if entries and (many or inline > INLINE_BYTES):
                break
            buffers += own
        entries.append(entry)
        if alone:
            break
    return _frames(entries, buffers), len(entries)


class _Buffers:
    """The raw frames of a message, taken in order as the header names them."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = iter(frames)

    def take(self, nbytes: int) -> memoryview:
        frame = next(self._frames, None)
        if frame is None:
            raise DecodeError("the header names more buffers than there are frames")
        view = memoryview(frame)
        if view.nbytes != nbytes:
            raise DecodeError(f"a buffer of {view.nbytes} bytes where the header says {nbytes}")
        return view

    def arrays(self, value: Any) -> ArraysOrSpecs:
        """Return a message's arrays by name."""
        if not as_list(value):  # nearly always
            return {}
        if len(value) > MAX_ARRAYS:
            raise DecodeError(f"{len(value)} arrays, more than {MAX_ARRAYS}")
        return dict(map(self._array, value))

    def chunk(self, value: Any) -> memoryview:
        """Return a chunk's data."""
        if len(as_list(value)) != 2:
            raise DecodeError("a chunk without length and checksum")
        nbytes, checksum = value
        view = self.take(as_count(nbytes))
        if xxhash.xxh3_64_digest(view) != checksum:
            raise DecodeError("a chunk does not match its checksum")
        return view

    def _array(self, entry: Any) -> tuple[str, AnyArray | ArraySpec]:
        if len(as_list(entry)) != 5:
            raise DecodeError(f"an array of {len(entry)} fields, not 5")
        name, dtype, shape, digest_, here = entry
        if not is_array_name(as_text(name)):
            raise DecodeError("an array's name that can't be shown, or is too long")
        spec = as_spec(dtype, shape, digest_)
        if type(here) is not bool:
            raise complaint("whether an array is here is wanted", here)
        if not here:
            if not spec.nbytes:
                raise DecodeError(f"array {name!r} is empty and yet not here")
            return name, spec
        view = self.take(spec.nbytes)
        if xxhash.xxh3_128_digest(view) != spec.digest:
            raise DecodeError(f"array {name!r} does not match its digest")
        return name, as_array(spec, np.frombuffer(view, np.uint8))

    def finish(self) -> None:
        if next(self._frames, None) is not None:
            raise DecodeError("more frames than the header names")


def as_array(spec: ArraySpec, content: AnyArray) -> AnyArray:
    """Return `content` (uint8, flat) seen as `spec` says; copied only where it is unaligned."""
    array = content.view(spec.dtype).reshape(spec.shape)
    return array if array.flags.aligned else array.copy()


def _check_magic(magic: Frame, header: Frame) -> None:
    """Raise unless the first frame is of this protocol and major version, and fits the header."""
    start = bytes(magic[:4])
    if start != MAGIC:
        if len(start) == 4 and start[:3] == MAGIC[:3]:
            raise VersionMismatch(VERSION, start[3])
        raise DecodeError(f"not a message of this protocol: it begins with {start!r}")
    if len(header) > MAX_HEADER_BYTES:
        raise DecodeError(f"a header of {len(header)} bytes, more than {MAX_HEADER_BYTES}")
    if magic[4:] != xxhash.xxh3_64_digest(header):
        raise DecodeError("the header does not match its checksum")


def decode(frames: Sequence[Frame]) -> list[Message]:
    """Return the messages that the frames of one ZeroMQ message carry.

    ArraysOrSpecs are views of the frames, read-only; nothing is copied.

    Raises:
        DecodeError: not a message of this protocol.
        VersionMismatch: a message of another major version.
    """
    if not 2 <= len(frames) <= MAX_FRAMES:
        raise DecodeError(f"a message of {len(frames)} frames, not two to {MAX_FRAMES}")
    _check_magic(frames[0], frames[1])
    try:
        header = _unpack(frames[1])
    except DecodeError:
        raise
    except Exception as error:  # msgpack raises a dozen kinds, all of them the peer's fault
        raise DecodeError(f"the header is not msgpack: {safe_line(str(error))}") from error
    buffers = _Buffers(frames[2:])
    if len(as_list(header)) > MAX_IDS:
        raise DecodeError(f"{len(header)} messages in one, more than {MAX_IDS}")
    messages = [_message(entry, buffers) for entry in header]
    if not any(type(message) is Unknown for message in messages):
        buffers.finish()  # an unknown message's buffers can't be told from surplus ones
    return messages


def _no_extension(code: int, data: bytes) -> None:
    raise DecodeError(f"msgpack extension {code} is not allowed")


def _message(entry: Any, buffers: _Buffers) -> Message:
    if not as_list(entry) or type(entry[0]) is not int:
        raise DecodeError("a message without a kind")
    plan = _PLANS.get(entry[0])
    if plan is None:
        return Unknown(entry[0])
    if len(entry) != plan.length:
        raise DecodeError(
            f"{plan.kind.__name__} has {plan.length - 1} fields, not {len(entry) - 1}"
        )
    for place, check in plan.checks:
        entry[place] = check(entry[place])
    for place, read in plan.buffered:
        entry[place] = getattr(buffers, read)(entry[place])
    message: Message = plan.kind(*entry[1:])
    return message
