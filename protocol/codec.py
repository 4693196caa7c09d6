"""Messages to frames and back.

One ZeroMQ message carries one or more messages of `messages.py`:

    frame 0    magic: b"MNM", one byte with the major version, xxh3-64 of frame 1
    frame 1    header: msgpack, a list of [kind, field, field, ...]
    frame 2..  raw buffers, in the order in which the header names them

Nothing that arrives is executed, every number is bounded before anything is allocated for it,
and the only exception that `decode` raises is a `RemoteProtocolError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, get_type_hints

import msgpack
import numpy as np
import xxhash

from .errors import DecodeError, LocalProtocolError, VersionMismatch
from .messages import (
    Accepted,
    AnyArray,
    Arrays,
    ArraySpec,
    Busy,
    Bye,
    Cancel,
    Chunk,
    Fields,
    Heartbeat,
    Hello,
    Ids,
    JobOffer,
    Message,
    Need,
    NodeStatus,
    Ready,
    Recall,
    Refuse,
    Returned,
    SolutionReady,
    Status,
    Statuses,
    Stop,
    TaskFailed,
    Texts,
    Unknown,
    Waiting,
    Watch,
    Welcome,
)

VERSION = 1
MAGIC = b"MNM" + bytes([VERSION])

#: Arrays up to this size travel inside the message that names them; larger ones in chunks.
INLINE_BYTES = 1 << 20
#: A header larger than this is refused before it is parsed.
MAX_HEADER_BYTES = 8 << 20
#: A single array may not be larger than this.
MAX_ARRAY_BYTES = 1 << 40
MAX_COUNT = 1 << 53
#: Ids that one message carries, at most; no node holds as many tasks.
MAX_IDS = 4096
#: Messages that travel together, at most.
MAX_BATCH = 256
MAX_DIMENSIONS = 32
#: Plain values of one message, packed.
MAX_PLAIN_BYTES = 512 << 10
#: Nodes that one message tells of.
MAX_NODES = 4096
#: What a message with texts or plain values counts for when messages are cut into batches.
_WORDY_BYTES = INLINE_BYTES // 8

#: Plain numbers only: nothing that holds a pointer, a time zone or a byte order.
DTYPES = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
     "float16", "float32", "float64", "complex64", "complex128"]
)  # fmt: skip

#: The wire number of each kind. Never reused; new kinds are appended.
KINDS: dict[int, type[Any]] = {
    1: Hello, 2: Welcome, 3: Refuse, 4: Ready, 5: JobOffer, 6: SolutionReady, 7: TaskFailed,
    8: Accepted, 9: Cancel, 10: Recall, 11: Returned, 12: Waiting, 13: Busy, 14: Heartbeat,
    15: Need, 16: Chunk, 17: Bye, 18: Stop, 19: Watch, 20: Status,
}  # fmt: skip
_NUMBERS = {kind: number for number, kind in KINDS.items()}

Frame = bytes | memoryview
Check = Callable[[Any], Any]


def digest(array: AnyArray) -> bytes:
    """Return xxh3-128 of a C-contiguous array's bytes, 16 bytes. Cost: some 30 GB/s."""
    return xxhash.xxh3_128_digest(raw(array))


def raw(array: AnyArray) -> memoryview:
    """Return the bytes of a C-contiguous array without a copy."""
    return array.reshape(-1).view(np.uint8).data


def specify(array: AnyArray) -> ArraySpec:
    """Return what `array` is, with its digest.

    Raises:
        LocalProtocolError: an element type that does not travel.
    """
    if array.dtype.name not in DTYPES:
        raise LocalProtocolError(
            f"arrays of {array.dtype} can't be sent; use one of {sorted(DTYPES)}"
        )
    return ArraySpec(array.dtype.name, array.shape, digest(array))


def portable(array: AnyArray) -> AnyArray:
    """Return `array` as it can travel: little-endian, C order; itself where it is so already."""
    wanted = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)


# Checks: each takes one decoded value and returns it as the message wants it, or raises.


def _fail(what: str, value: object) -> DecodeError:
    return DecodeError(f"{what}, not {type(value).__name__} {str(value)[:40]!r}")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _fail("a text is wanted", value)
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise _fail(f"a count from 0 to {MAX_COUNT} is wanted", value)
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (float, int) or not 0 <= value <= 1e9:
        raise _fail("a finite number of seconds is wanted", value)
    return float(value)


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise _fail("bytes are wanted", value)
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise _fail("a list is wanted", value)
    return value


def _ids(value: Any) -> Ids:
    if len(_list(value)) > MAX_IDS:
        raise DecodeError(f"a list of {len(value)} ids, more than {MAX_IDS}")
    return tuple(map(_count, value))


def _texts(value: Any) -> Texts:
    return tuple(map(_text, _list(value)))


def _fields(value: Any) -> Fields:
    if type(value) is not dict:
        raise _fail("a map is wanted", value)
    for key in value:
        _text(key)
    return value


def _progress(value: Any) -> Mapping[int, float]:
    if type(value) is not dict or len(value) > MAX_IDS:
        raise _fail(f"a map of progress of at most {MAX_IDS} tasks is wanted", value)
    return {_count(task): _fraction(done) for task, done in value.items()}


def _notes(value: Any) -> Mapping[int, str]:
    if type(value) is not dict or len(value) > MAX_IDS:
        raise _fail(f"a map of notes on at most {MAX_IDS} tasks is wanted", value)
    return {_count(task): safe_line(_text(note), 200) for task, note in value.items()}


def _fraction(value: Any) -> float:
    if type(value) not in (float, int) or not 0 <= value <= 1:
        raise _fail("a fraction from 0 to 1 is wanted", value)
    return float(value)


def _statuses(value: Any) -> Statuses:
    if len(_list(value)) > MAX_NODES:
        raise DecodeError(f"a list of {len(value)} nodes, more than {MAX_NODES}")
    return tuple(map(_status, value))


def _status(value: Any) -> NodeStatus:
    if len(_list(value)) != len(NodeStatus._fields):
        raise DecodeError(f"a node's status of {len(value)} fields, not {len(NodeStatus._fields)}")
    node, kind, state, reason, running, waiting, solved, note, tasks, cores = value
    if len(_list(running)) > MAX_IDS or any(len(_list(job)) != 2 for job in running):
        raise _fail("a list of running jobs is wanted", running)
    return NodeStatus(
        safe_name(_text(node), 200), safe_name(_text(kind)), safe_name(_text(state)),
        safe_line(_text(reason)),
        tuple((safe_name(_text(job), 200), _fraction(done)) for job, done in running),
        _count(waiting), _count(solved), safe_line(_text(note), 200), _count(tasks), _count(cores),
    )  # fmt: skip


def _spec(dtype: Any, shape: Any, digest_: Any) -> ArraySpec:
    if type(dtype) is not str or dtype not in DTYPES:
        raise _fail("a known element type is wanted", dtype)
    lengths = _ids(shape)
    if len(lengths) > MAX_DIMENSIONS:
        raise DecodeError(f"an array of {len(lengths)} dimensions, more than {MAX_DIMENSIONS}")
    if math.prod(max(1, n) for n in lengths) * np.dtype(dtype).itemsize > MAX_ARRAY_BYTES:
        raise DecodeError(f"an array of shape {lengths} is larger than {MAX_ARRAY_BYTES} bytes")
    if len(_bytes(digest_)) != 16:
        raise DecodeError(f"a digest of {len(digest_)} bytes, not 16")
    return ArraySpec(dtype, lengths, digest_)


_CHECKS: dict[Any, Check] = {
    str: _text, int: _count, float: _seconds, bytes: _bytes, Ids: _ids, Texts: _texts,
    Fields: _fields, Mapping[int, float]: _progress, Mapping[int, str]: _notes, Statuses: _statuses,
}  # fmt: skip


_BUFFERED = {Arrays: "arrays", memoryview | bytes: "chunk"}


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one kind of message is read and written."""

    #: Returns a message's fields.
    values: Callable[[Any], tuple[Any, ...]]
    #: The check of each field, or which method of `_Buffers` reads it.
    checks: tuple[Check | str, ...]
    buffered: bool


def _plan(kind: type[Any]) -> _Plan:
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    get = attrgetter(*names)
    checks = tuple(_CHECKS.get(hints[name]) or _BUFFERED[hints[name]] for name in names)
    return _Plan(
        get if len(names) > 1 else lambda message: (get(message),),
        checks,
        any(type(check) is str for check in checks),
    )


_PLANS = {number: _plan(kind) for number, kind in KINDS.items()}
_STRICT = {"raw": False, "strict_map_key": False}


def _unpack(packed: Frame) -> Any:
    return msgpack.unpackb(packed, ext_hook=_no_extension, **_STRICT)


def safe_text(text: str, limit: int = 64_000) -> str:
    """Return `text` as it can be sent: cut in the middle where long, no lone surrogates."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}\n[...]\n{text[-limit // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode()


def safe_line(text: str, limit: int = 2_000) -> str:
    """Return a peer's words as a terminal may show them: one line, printable, not too long."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:limit])


def safe_block(text: str) -> str:
    """Return a peer's text as a terminal may show it: printable lines."""
    return "\n".join(safe_line(line) for line in text.splitlines())


def safe_name(text: str, limit: int = 80) -> str:
    """Return a name as it can be shown: printable, not too long."""
    return "".join(letter for letter in text[:limit] if letter.isprintable()) or "unnamed"


def check_plain(values: Fields) -> None:
    """Raise unless a message can carry these values and the receiver will take them.

    Raises:
        LocalProtocolError: a name that is no text, or a value that is not plain.
    """
    try:
        _fields(dict(values))
        packed = msgpack.packb(values)
        _unpack(packed)  # not everything that can be packed can be unpacked
    except (TypeError, ValueError, OverflowError, DecodeError) as error:
        raise LocalProtocolError(f"only plain values can be sent: {error}") from error
    if len(packed) > MAX_PLAIN_BYTES:
        raise LocalProtocolError(f"{len(packed)} bytes of plain values; send arrays instead")


def batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Cut messages into runs that may travel together; a chunk of an array travels alone."""
    batch: list[Message] = []
    nbytes = 0
    for message in messages:
        size = 0
        if isinstance(message, JobOffer):
            size = _size(message.payload, message.arrays, message.parameters)
        elif isinstance(message, SolutionReady):
            size = _size(message.payload, message.arrays, message.metrics)
        elif type(message) is TaskFailed or type(message) is Status:
            size = _WORDY_BYTES
        if batch and (
            type(message) is Chunk or nbytes + size > INLINE_BYTES or len(batch) == MAX_BATCH
        ):
            yield batch
            batch, nbytes = [], 0
        batch.append(message)
        nbytes += size if type(message) is not Chunk else INLINE_BYTES + 1
    if batch:
        yield batch


def _size(payload: bytes, arrays: Arrays, plain: Fields) -> int:
    size = len(payload) + (_WORDY_BYTES if plain else 0)
    if arrays:
        size += sum(array.nbytes for array in arrays.values() if isinstance(array, np.ndarray))
    return size


def _attach(value: Any, buffers: list[Frame]) -> Any:
    """Return a field that carries buffers as the header shows it, and append those buffers."""
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


def encode(messages: Iterable[Message]) -> list[Frame]:
    """Return the frames of one ZeroMQ message that carries all of `messages`, in order.

    The buffers of arrays are views: whoever sends them must not change the arrays meanwhile.

    Raises:
        LocalProtocolError: a field can't be packed, or the header would be too large.
    """
    header, buffers = [], list[Frame]()
    for message in messages:
        number = _NUMBERS[type(message)]
        plan = _PLANS[number]
        entry: list[Any] = [number, *plan.values(message)]
        if plan.buffered:
            for place, check in enumerate(plan.checks, 1):
                if type(check) is str:
                    entry[place] = _attach(entry[place], buffers)
        header.append(entry)
    try:
        packed = msgpack.packb(header)
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"not a plain value that can be sent: {error}") from error
    if len(packed) > MAX_HEADER_BYTES:
        raise LocalProtocolError(f"a header of {len(packed)} bytes is more than {MAX_HEADER_BYTES}")
    return [MAGIC + xxhash.xxh3_64_digest(packed), packed, *buffers]


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

    def arrays(self, value: Any) -> Arrays:
        """Return a message's arrays by name."""
        return dict(map(self._array, _list(value)))

    def chunk(self, value: Any) -> memoryview:
        """Return a chunk's data."""
        if len(_list(value)) != 2:
            raise DecodeError("a chunk without length and checksum")
        nbytes, checksum = value
        view = self.take(_count(nbytes))
        if xxhash.xxh3_64_digest(view) != checksum:
            raise DecodeError("a chunk does not match its checksum")
        return view

    def _array(self, entry: Any) -> tuple[str, AnyArray | ArraySpec]:
        if len(_list(entry)) != 5:
            raise DecodeError(f"an array of {len(entry)} fields, not 5")
        name, dtype, shape, digest_, here = entry
        spec = _spec(dtype, shape, digest_)
        if type(here) is not bool:
            raise _fail("whether an array is here is wanted", here)
        if not here:
            if not spec.nbytes:
                raise DecodeError(f"array {_text(name)!r} is empty and yet not here")
            return _text(name), spec
        view = self.take(spec.nbytes)
        if xxhash.xxh3_128_digest(view) != spec.digest:
            raise DecodeError(f"array {_text(name)!r} does not match its digest")
        return _text(name), as_array(spec, np.frombuffer(view, np.uint8))

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

    Arrays are views of the frames, read-only; nothing is copied.

    Raises:
        DecodeError: not a message of this protocol.
        VersionMismatch: a message of another major version.
    """
    if len(frames) < 2:
        raise DecodeError(f"a message of {len(frames)} frames, not two or more")
    _check_magic(frames[0], frames[1])
    try:
        header = _unpack(frames[1])
    except DecodeError:
        raise
    except Exception as error:  # msgpack raises a dozen kinds, all of them the peer's fault
        raise DecodeError(f"the header is not msgpack: {error}") from error
    buffers = _Buffers(frames[2:])
    messages = [_message(entry, buffers) for entry in _list(header)]
    if not any(type(message) is Unknown for message in messages):
        buffers.finish()  # an unknown message's buffers can't be told from surplus ones
    return messages


def _no_extension(code: int, data: bytes) -> None:
    raise DecodeError(f"msgpack extension {code} is not allowed")


def _message(entry: Any, buffers: _Buffers) -> Message:
    if not _list(entry) or type(entry[0]) is not int:
        raise DecodeError("a message without a kind")
    number = entry[0]
    if number not in KINDS:
        return Unknown(number)
    checks = _PLANS[number].checks
    if len(entry) != len(checks) + 1:
        raise DecodeError(
            f"{KINDS[number].__name__} has {len(checks)} fields, not {len(entry) - 1}"
        )
    values = [
        getattr(buffers, check)(value) if isinstance(check, str) else check(value)
        for check, value in zip(checks, entry[1:], strict=True)
    ]
    message: Message = KINDS[number](*values)
    return message
