"""Messages survive the wire, and nothing that arrives does harm."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any, get_type_hints

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol import (
    DecodeError,
    JobDataType,
    LocalProtocolError,
    RemoteProtocolError,
    VersionMismatch,
)
from protocol.wire.checks import DTYPES
from protocol.wire.codec import (
    KINDS,
    MAGIC,
    Frame,
    check_plain,
    decode,
    digest,
    encode,
    pack,
    specify,
)
from protocol.wire.limits import (
    INLINE_BYTES,
    MAX_BATCH,
    MAX_CONTAINERS,
    MAX_ELEMENTS,
    MAX_FRAMES,
    MAX_HEADER_BYTES,
)
from protocol.wire.messages import (
    Accepted,
    ArraysOrSpecs,
    ArraySpec,
    Block,
    Bye,
    Cancel,
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
    Need,
    NodeStatus,
    Priority,
    Ready,
    Recall,
    SolutionReady,
    Statuses,
    Stop,
    TaskFailed,
    Texts,
    Unknown,
    Versions,
    Welcome,
)

counts = st.integers(0, 1 << 53)
texts = st.text(max_size=20)
#: Words that pass their door as they are.
shown = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False)
    | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
specs = st.builds(
    ArraySpec, st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(1, 1000), max_size=3).map(tuple), st.binary(min_size=16, max_size=16),
)  # fmt: skip
arrays = hnp.arrays(
    st.sampled_from(sorted(DTYPES)).map(np.dtype), hnp.array_shapes(min_dims=0, max_side=5)
)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    Name: shown, LongName: shown, Line: shown, Block: shown,
    Versions: st.dictionaries(shown, shown, max_size=4),
    int: counts, bool: st.booleans(), float: st.floats(0, 1e9), bytes: st.binary(max_size=50),
    Statuses: st.lists(
        st.builds(
            NodeStatus, shown, shown, shown, shown,
            st.lists(st.tuples(shown, st.floats(0, 1)), max_size=3).map(tuple),
            counts, counts, shown, counts, counts,
        ), max_size=3,
    ).map(tuple),
    Ids: st.lists(counts, max_size=5).map(tuple), Texts: st.lists(shown, max_size=5).map(tuple),
    Fields: st.dictionaries(texts, plain, max_size=4),
    ArraysOrSpecs: st.dictionaries(shown, arrays | specs, max_size=4),
    Priority: st.integers(-100, 100),
    memoryview | bytes: st.binary(max_size=50).map(memoryview),
    Events: st.lists(st.binary(max_size=50), max_size=4).map(tuple),
}  # fmt: skip


def _any_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind, include_extras=True)
    if kind is Heartbeat:
        fractions = st.dictionaries(counts, st.floats(0, 1), max_size=4)
        return st.builds(Heartbeat, BY_TYPE[Ids], fractions)
    return st.builds(kind, **{name: BY_TYPE[hint] for name, hint in hints.items()})


messages = st.one_of([_any_of(kind) for kind in KINDS.values()])


def same(one: Message, other: Message) -> bool:
    """Whether two messages are equal, arrays to the bit and the type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (JobOffer, SolutionReady)) and isinstance(other, type(one)):
        rest = [f for f in get_type_hints(type(one)) if f != "arrays"]
        return all(getattr(one, f) == getattr(other, f) for f in rest) and same_arrays(
            one.arrays, other.arrays
        )
    return one == other


def same_arrays(one: ArraysOrSpecs, other: ArraysOrSpecs) -> bool:
    if one.keys() != other.keys():
        return False
    for name, array in one.items():
        twin = other[name]
        if isinstance(array, ArraySpec) or isinstance(twin, ArraySpec):
            if array != twin:
                return False
        elif (array.dtype, array.shape, array.tobytes()) != (
            twin.dtype,
            twin.shape,
            twin.tobytes(),
        ):
            return False
    return True


def wire(batch: list[Message]) -> list[bytes]:
    return [bytes(frame) for frame in encode(batch)]


@given(st.lists(messages, max_size=6))
def test_messages_come_back_as_they_went(batch: list[Message]) -> None:
    back = decode(wire(batch))
    assert len(back) == len(batch)
    assert all(map(same, batch, back))


@given(st.lists(st.binary(max_size=200), max_size=5))
@example([MAGIC, b"\x90"])
@example([b"", b""])
def test_arbitrary_frames_are_refused_in_words(frames: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError, match=r"\w+ \w+"):
        decode(frames)


@given(st.lists(messages, min_size=1, max_size=3), st.data())
def test_a_flipped_bit_anywhere_is_noticed(batch: list[Message], data: st.DataObject) -> None:
    frames = wire(batch)
    place = data.draw(st.sampled_from([n for n, frame in enumerate(frames) if frame]))
    bit = data.draw(st.integers(0, 8 * len(frames[place]) - 1))
    damaged = bytearray(frames[place])
    damaged[bit // 8] ^= 1 << bit % 8
    frames[place] = bytes(damaged)
    with pytest.raises(RemoteProtocolError):
        decode(frames)


@given(st.lists(messages, min_size=1, max_size=3), st.data())
def test_a_truncated_message_is_noticed(batch: list[Message], data: st.DataObject) -> None:
    frames = wire(batch)
    cut = data.draw(st.integers(0, len(frames) - 1))
    with pytest.raises(RemoteProtocolError):
        decode(frames[:cut])


def _lie(entry: Any) -> list[bytes]:
    """Return a well-formed message whose header says `entry`."""
    import xxhash

    header = msgpack.packb(entry)
    return [MAGIC + xxhash.xxh3_64_digest(header), header]


@given(plain)
@settings(max_examples=300)
def test_any_header_at_all_is_a_message_or_refused(header: Any) -> None:
    try:
        decode(_lie(header))
    except RemoteProtocolError:
        return


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ([9, -1], "count"),
        ([9, 1 << 60], "count"),
        ([9, True], "count"),
        ([9, 1.0], "count"),
        ([9, 1, 2], "fields"),
        ([9], "fields"),
        (["8", 1], "kind"),
        ([], "kind"),
        ([2, "main", math.inf, []], "seconds"),
        ([2, "main", math.nan, []], "seconds"),
        ([14, [], {1: 2.0}, {}], "fraction"),
        ([14, [], {"one": 0.5}, {}], "count"),
        ([14, [-1], {}, {}], "count"),
        ([14, [1] * 5000, {}, {}], "5000 ids"),
        ([14, [], dict.fromkeys(range(5000), 0.5), {}], "at most 4096 tasks"),
        ([14, [], {}, {1: 7}], "text"),
        ([14, [], {}, dict.fromkeys(range(5000), "x")], "at most 4096 tasks"),
        ([6, 1, {}, b"", [["x", "object", [1], b"0" * 16, False]]], "element type"),
        ([6, 1, {}, b"", [["x", "float64", [1 << 50], b"0" * 16, False]]], "larger"),
        ([6, 1, {}, b"", [["x", "float64", [-4], b"0" * 16, False]]], "count"),
        ([6, 1, {}, b"", [["x", "float64", [1] * 40, b"0" * 16, False]]], "dimensions"),
        ([6, 1, {}, b"", [["x", "float64", [1], b"0", False]]], "digest"),
        ([6, 1, {}, b"", [["x", "float64", [0], b"0" * 16, False]]], "empty"),
        ([6, 1, {}, b"", [["x", "float64", [2], b"0" * 16, True]]], "more buffers"),
        ([6, 1, {1: 2}, b"", []], "text"),
        ([16, b"0" * 16, 0, [1 << 40, b"0" * 8]], "more buffers"),
        ([16, b"0" * 16, 0, [["x", "uint8", [1], b"0" * 16, False]]], "length and checksum"),
        ([16, b"0" * 16, 0, 5], "list"),
        ([6, 1, {}, b"", [5, b"0" * 8]], "list"),
        ([6, 1, {}, b"", [["x", "uint8", [1 << 53, 1 << 53, 0], b"0" * 16, True]]], "larger"),
        ([4, msgpack.ExtType(4, b"run me")], "extension"),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused_in_words(entry: list[Any], words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode(_lie([entry]))


REAL: list[list[Message]] = [
    [
        Hello(
            "id",
            "name",
            0,
            ("", "neural"),
            {"python": "3"},
            2,
            1 << 30,
            "",
            1,
            2,
            "main",
            (1, 2),
            b"secret",
            1,
            2.0,
        )
    ],
    [Welcome("main", 1.0, ("neural",)), Ready(3)],
    [JobOffer(7, 3, "neural", {"a": [1, 2.5]}, b"payload", {"x": np.arange(6.0).reshape(2, 3)})],
    [SolutionReady(7, {"loss": 0.5}, b"", {"w": ArraySpec("float32", (3, 4), b"d" * 16)})],
    [TaskFailed(7, "raised", "no", "Traceback"), Accepted((1, 2)), Cancel(4), Recall(5)],
    [Heartbeat((1, 2), {1: 0.5}), Need(b"d" * 16, 0, 4), Bye("bye"), Stop("end")],
    [Chunk(b"d" * 16, 3, b"some bytes")],
]


@pytest.mark.parametrize("batch", REAL, ids=lambda batch: type(batch[0]).__name__)
def test_every_bit_flip_and_every_truncation_under_a_fitting_checksum(batch: list[Message]) -> None:
    """Whoever lies can sign the lie: it is another message then, or refused in words."""
    import xxhash

    magic, header, *buffers = (bytes(frame) for frame in wire(batch))
    lies = [header[:length] for length in range(len(header))]
    for bit in range(8 * len(header)):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        lies.append(bytes(flipped))
    refused = 0
    for lie in lies:
        try:
            messages = decode([magic[:4] + xxhash.xxh3_64_digest(lie), lie, *buffers])
        except RemoteProtocolError:
            refused += 1
        else:
            assert len(messages) != len(batch) or not all(map(same, messages, batch))
    assert refused > len(lies) / 4


def test_deep_nesting_is_refused() -> None:
    nested = b"\x91" * 5000 + b"\x01"
    import xxhash

    with pytest.raises(DecodeError, match="msgpack"):
        decode([MAGIC + xxhash.xxh3_64_digest(nested), nested])


def test_another_major_version_is_named() -> None:
    frames = wire([Accepted((1,))])
    frames[0] = b"MNM\x07" + frames[0][4:]
    with pytest.raises(VersionMismatch, match="protocol version 7 is not 3"):
        decode(frames)


def test_an_unknown_kind_of_the_same_version_is_passed_on_as_such() -> None:
    assert decode(_lie([[200, "whatever"], [8, [3]]])) == [Unknown(200), Accepted((3,))]


def test_every_message_kind_has_a_number() -> None:
    from typing import get_args

    assert {*KINDS.values(), Unknown} == set(get_args(Message))


def test_arrays_are_views_of_what_arrived() -> None:
    array = np.arange(1000.0)
    frames = encode([JobOffer(1, 1, "", {}, b"", {"x": array})])
    (offer,) = decode(frames)
    assert isinstance(offer, JobOffer)
    assert np.shares_memory(offer.arrays["x"], array)


@pytest.mark.parametrize("array", [np.arange(10)[::2], np.arange(6, dtype=">i4"), np.eye(3).T])
def test_arrays_of_any_layout_arrive_equal(array: np.ndarray[Any, Any]) -> None:
    (offer,) = decode(wire([JobOffer(1, 1, "", {}, b"", {"x": array})]))
    assert isinstance(offer, JobOffer)
    np.testing.assert_array_equal(offer.arrays["x"], array)


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.array(["text"]), np.array([1], "M8[s]")]
)
def test_arrays_of_other_things_than_numbers_are_refused_before_they_leave(
    array: np.ndarray[Any, Any],
) -> None:
    with pytest.raises(LocalProtocolError, match="can't be sent"):
        specify(array)


@pytest.mark.parametrize(
    "values",
    [
        {"a": object()},
        {1: 2},
        {"a": 1 << 70},
        {"a": "x" * 999_999},
        {"a": {(1, 2): 3}},
        {"a": "\udcff"},
    ],
)
def test_values_that_are_not_plain_are_refused_before_they_leave(values: Any) -> None:
    with pytest.raises(LocalProtocolError):
        check_plain(values)


def test_equal_bytes_have_equal_digests_whatever_their_shape() -> None:
    array = np.arange(12, dtype=np.int32)
    assert digest(array) == digest(array.reshape(3, 4))
    assert digest(array) != digest(array + 1)


def packed(messages: list[Message]) -> list[tuple[list[Frame], int]]:
    """Return the ZeroMQ messages that these travel in, and how many are in each."""
    cut = []
    while messages:
        frames, count = pack(messages)
        cut.append((frames, count))
        messages = messages[count:]
    return cut


@given(st.lists(st.integers(0, INLINE_BYTES), max_size=20))
@settings(max_examples=30)
def test_what_travels_together_keeps_its_order_and_stays_small(sizes: list[int]) -> None:
    offers: list[Message] = [
        JobOffer(n, n, "", {}, bytes(size), {}) for n, size in enumerate(sizes)
    ]
    cut = packed(offers)
    assert [message for frames, _ in cut for message in decode(frames)] == offers
    for frames, count in cut:
        assert count == 1 or sum(map(len, frames)) <= INLINE_BYTES


def test_a_chunk_travels_alone_and_many_small_messages_together() -> None:
    small: list[Message] = [Recall(n) for n in range(MAX_BATCH + 1)]
    chunk = Chunk(b"d" * 16, 0, b"data")
    need = Need(b"d" * 16, 1, 4)
    sizes = [count for _, count in packed([*small, chunk, need, chunk])]
    assert sizes == [MAX_BATCH, 1, 1, 1, 1]


def test_wordy_messages_stay_below_what_a_receiver_takes() -> None:
    """Found in review: seventeen jobs with many parameters ended the main node's thread."""
    values = {"text": "x" * 500_000}
    check_plain(values)
    offers: list[Message] = [JobOffer(n, n, "", values, b"", {}) for n in range(40)]
    assert sum(len(decode(frames)) for frames, _ in packed(offers)) == 40


def test_what_can_not_be_sent_does_not_keep_others_back() -> None:
    bad = JobOffer(2, 2, "", {"a": object()}, b"", {})
    assert pack([Recall(1), bad, Recall(3)])[1] == 1
    with pytest.raises(LocalProtocolError):
        pack([bad, Recall(3)])


# What a message may cost.


def _signed(header: bytes, *buffers: bytes) -> list[bytes]:
    import xxhash

    return [MAGIC + xxhash.xxh3_64_digest(header), header, *buffers]


def _listing(count: int, element: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + element * count


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (_listing(4_000_000, b"\x91\x63"), "header of 8000005 bytes"),
        (_listing(500_000, b"\x91\x63"), "exceeds max_array_len"),
        (b"\x91" + _listing(MAX_ELEMENTS, b"\x90"), f"more than {MAX_CONTAINERS} lists"),
        (_listing(16, b"\xdc\xff\xff" + b"\x90" * 65535), "lists and maps|header of"),
        (_listing(5000, b"\x91\x63"), "5000 messages in one"),
        (msgpack.packb([[1, "a", "a", 0, ["x"] * 65, {}, 1, 1, "", 1, 0, "", [], b"", 0, 0.0]]),
         "65 texts"),
        (msgpack.packb([[1, "a", "a", 0, [], {str(n): "" for n in range(65)}, 1, 1, "", 1, 0, "",
                         [], b"", 0, 0.0]]), "at most 64 versions"),
        (msgpack.packb([[6, 1, {}, b"", [["x", "uint8", [0], b"d" * 16, True]] * 9000]]),
         "9000 arrays"),
        (msgpack.packb([[6, 1, {}, b"", [["x" * 201, "uint8", [1], b"d" * 16, False]]]]), "name"),
        (msgpack.packb([[6, 1, {}, b"", [["\u202e", "uint8", [1], b"d" * 16, False]]]]), "name"),
        (b"\x91\x95\x06\x01\x81\xa1a" + b"\x91" * 20 + b"\x01\xc4\x00\x90", "more than 16"),
        (b"\x91\x92\x04" + b"\x91" * 1000 + b"\x01", "a count .* is wanted, not list$"),
    ],
)  # fmt: skip
def test_what_costs_too_much_is_refused_before_it_is_built(header: bytes, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=words):
            decode(_signed(header))
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_a_message_of_a_million_frames_is_refused() -> None:
    with pytest.raises(DecodeError, match=f"not two to {MAX_FRAMES}"):
        decode(_signed(b"\x90", *[b""] * 1_000_000))


def test_words_pass_their_door_when_they_are_read() -> None:
    evil = "a\x1b[2J\n12:00:00 ERROR forged\u202e"
    hello = Hello(evil, evil, 0, (evil,), {evil: evil}, 1, 1, evil, 1, 1, evil)
    failed = TaskFailed(1, evil, evil, evil * 1000)
    for message in decode(
        wire([hello, Welcome(evil, 1.0, (evil,)), failed, Bye(evil), Stop(evil)])
    ):
        for line in repr(message).splitlines():
            assert line.isprintable()
        assert "\\x1b" not in repr(message)
        assert "\\u202e" not in repr(message)


def test_what_nobody_would_take_is_not_sent() -> None:
    names = {f"layer{n}.{'x' * 150}": np.zeros(3) for n in range(8000)}
    for job in (
        JobDataType(names),
        JobDataType({str(n): np.zeros(3) for n in range(9000)}),
        JobDataType({str(n): np.zeros(0) for n in range(600)}),
        JobDataType({"a\nb": np.zeros(3)}),
        JobDataType({"x" * 201: np.zeros(3)}),
        JobDataType(b"", {"a": list(range(MAX_ELEMENTS + 1))}),
        JobDataType(b"", {"a": "x" * MAX_HEADER_BYTES}),
        JobDataType(b"", {"a": nested(20)}),
    ):
        with pytest.raises(LocalProtocolError, match=r"arrays|names?|values|deeper|inside"):
            job.announce()


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


def test_a_model_of_thousands_of_arrays_travels() -> None:
    job = JobDataType({f"block{n}.attention.weight": np.zeros(n % 90) for n in range(4000)})
    payload, offered, blobs = job.announce()
    frames, count = pack([JobOffer(1, 1, "", {}, payload, offered)])
    (back,) = decode([bytes(frame) for frame in frames])
    assert isinstance(back, JobOffer)
    assert count == 1
    assert len(back.arrays) == 4000
    assert blobs
