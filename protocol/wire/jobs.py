"""What a job and a solution carry: text, bytes, or named arrays.

The names are AML-IP's, so that a program written against its Python API finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from ..errors import LocalProtocolError
from .codec import check_plain, portable, raw, specify
from .limits import (
    ARRAY_NAME_LETTERS,
    INLINE_BYTES,
    LONG_NAME_LETTERS,
    MAX_ARRAYS,
    MAX_HEADER_BYTES,
    MAX_INLINE_ARRAYS,
    MAX_PRIORITY,
    MAX_SOURCES,
    NAME_LETTERS,
)
from .messages import AnyArray, ArraysOrSpecs, ArraySpec, Fields
from .words import is_array_name, is_name

#: Bytes too many for a header travel as this array.
_PAYLOAD = ""
#: What an array takes in a header beside its name; and each of its lengths.
_SPEC_BYTES, _LENGTH_BYTES = 48, 9
#: Empty arrays travel inside the message, each as a frame.
_MOST_EMPTY = 500


#: Shared by all that carry no arrays or values: thousands of small jobs cost no dictionaries.
_NOTHING: dict[str, Any] = {}


class _Content:
    """Bytes or named arrays, and plain values beside them."""

    __slots__ = ("_payload", "arrays", "fields")

    arrays: Mapping[str, AnyArray]
    """Arrays by name; none where it is text or bytes."""

    def __init__(
        self,
        data: str | bytes | bytearray | memoryview | Mapping[str, AnyArray] = b"",
        fields: Fields | None = None,
    ) -> None:
        self._payload: bytes | memoryview = b""
        self.arrays = _NOTHING
        self.fields: Mapping[str, Any] = dict(fields) if fields else _NOTHING
        if isinstance(data, str):
            self._payload = data.encode()
        elif isinstance(data, Mapping):
            self.arrays = {name: portable(np.asarray(array)) for name, array in data.items()}
            if _PAYLOAD in self.arrays:
                raise LocalProtocolError("an array needs a name that is not empty")
        elif isinstance(data, bytes | bytearray | memoryview):
            self._payload = bytes(data)
        else:  # bytes(5) would be five zeros
            raise TypeError(f"text, bytes or arrays by name are wanted, not {type(data).__name__}")

    def to_bytes(self) -> bytes:
        """Return the bytes that it was made from (a text's are UTF-8); empty for arrays."""
        return bytes(self._payload)

    def to_string(self) -> str:
        """Return the text that it was made from.

        Raises:
            UnicodeDecodeError: it was made from bytes that are not UTF-8.
        """
        return str(self._payload, "utf-8")

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and isinstance(other, _Content)
            and self.to_bytes() == other.to_bytes()
            and self.fields == other.fields
            and self.arrays.keys() == other.arrays.keys()
            and all(np.array_equal(self.arrays[name], other.arrays[name]) for name in self.arrays)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable arrays inside

    def __repr__(self) -> str:
        size = len(self._payload) + sum(array.nbytes for array in self.arrays.values())
        names = f", arrays {sorted(self.arrays)}" if self.arrays else ""
        return f"<{type(self).__name__} of {size} bytes{names}>"

    def announce(self) -> tuple[bytes, ArraysOrSpecs, Mapping[Any, AnyArray]]:
        """Return the payload and the arrays as a message carries them, and the large arrays.

        Large arrays are named in the message; the receiver asks for them by digest.

        Raises:
            LocalProtocolError: a field is no plain value, an array's type or name does not
                travel, or there are too many of them.
        """
        plain = check_plain(self.fields) if self.fields else 0
        if not self.arrays and len(self._payload) <= INLINE_BYTES:
            return bytes(self._payload), _NOTHING, _NOTHING
        payload, arrays = b"", self.arrays
        if not arrays:
            arrays = {_PAYLOAD: np.frombuffer(self._payload, np.uint8)}
        _check_names(arrays, plain)
        announced: dict[str, AnyArray | ArraySpec] = {}
        blobs: dict[bytes, AnyArray] = {}
        room = INLINE_BYTES
        for place, (name, array) in enumerate(sorted(arrays.items(), key=_size)):
            spec = specify(array)
            room -= array.nbytes
            here = room >= 0 and (place < MAX_INLINE_ARRAYS or not array.nbytes)
            announced[name] = array if here else spec
            if not here:
                blobs[spec.digest] = array
        return payload, {name: announced[name] for name in arrays}, blobs

    def _adopt(self, payload: bytes, arrays: ArraysOrSpecs) -> None:
        """Undo `parts`; every array must be here."""
        self._payload = payload
        if arrays:
            here = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
            assert len(here) == len(arrays)
            large = here.pop(_PAYLOAD, None)
            self._payload = payload if large is None else raw(large)
            self.arrays = here


def _is_number(value: object) -> bool:
    return isinstance(value, Real)


def _size(item: tuple[str, AnyArray]) -> int:
    return item[1].nbytes


def _check_names(arrays: Mapping[str, AnyArray], plain: int) -> None:
    """Raise unless a header takes all these arrays beside so many bytes of plain values.

    Raises:
        LocalProtocolError: it does not, or takes none of such a name.
    """
    for name in arrays:
        if not isinstance(name, str) or not is_array_name(name):
            raise LocalProtocolError(
                f"{name!r:.80} can't be an array's name: a text is wanted, of at most"
                f" {ARRAY_NAME_LETTERS} letters that can be shown"
            )
    nbytes = plain + sum(
        _SPEC_BYTES + len(name.encode()) + _LENGTH_BYTES * array.ndim
        for name, array in arrays.items()
    )
    empty = sum(not array.nbytes for array in arrays.values())
    if len(arrays) > MAX_ARRAYS or nbytes > MAX_HEADER_BYTES - 1024 or empty > _MOST_EMPTY:
        raise LocalProtocolError(
            f"{len(arrays):,} arrays ({empty:,} of them empty), whose names, shapes and values"
            f" beside them take {nbytes:,} bytes: more than {MAX_ARRAYS:,}, {_MOST_EMPTY} or"
            f" {MAX_HEADER_BYTES:,} can't be sent; join some of them"
        )


class JobDataType(_Content):
    """A job: what to solve.

    Leave the arrays and values unchanged until the job is solved: they are not copied.

    Args:
        data: text, bytes, or arrays by name (numbers or bools).
        parameters: plain values (numbers, texts, lists, maps) for whoever solves it.
        kind: of job, and so of node that it needs; ``""`` is any program's own replier.
        timeout_seconds: how long one attempt may run; None: as long as it likes.
        stall_seconds: how long one attempt may go without reporting progress (`Task.progress`)
            or receiving its arrays; None: as long as it likes.
        group: jobs of one group take about as long as each other; one that takes much longer
            than the others is given to an idle node as well.
        max_solution_bytes: a solution whose arrays are larger is a failed attempt; None: the
            main node's own limit.
        priority: -100 to 100; what is larger goes before what has not begun, and ends nothing.
        kept: whether a journal keeps its solution, and what happens to it; else nothing of it is
            written, and a main node that is made again knows nothing of it.
        sources: names of what a node must open itself to solve it; one that has said that it can't
            reach one of them (`SourceUnreachable`) does not get the job. Sources that are not
            named here are learned from whoever can't reach them.
        device: the kind that it is to run on, ``cpu`` or ``cuda``; only nodes that have it get it.
            ``""``: any, and it runs on what its node has.
    """

    __slots__ = (
        "device", "group", "kept", "kind", "max_solution_bytes", "priority", "sources",
        "stall_seconds", "timeout_seconds",
    )  # fmt: skip

    def __init__(
        self,
        data: str | bytes | bytearray | memoryview | Mapping[str, AnyArray] = b"",
        parameters: Fields | None = None,
        *,
        kind: str = "",
        timeout_seconds: float | None = None,
        stall_seconds: float | None = None,
        group: str = "",
        max_solution_bytes: int | None = None,
        priority: int = 0,
        kept: bool = True,
        sources: tuple[str, ...] = (),
        device: str = "",
    ) -> None:
        super().__init__(data, parameters)
        self.kind = kind
        self.timeout_seconds = timeout_seconds
        self.stall_seconds = stall_seconds
        self.group = group
        self.max_solution_bytes = max_solution_bytes
        self.priority = priority
        self.kept = kept
        self.sources = sources
        self.device = device

    def check(self) -> None:
        """Raise where nobody could take the job, or nobody could hear of it.

        Raises:
            LocalProtocolError: what it says of itself is not of the kind that is wanted.
        """
        plain = type(self.priority) is int and self.priority == 0
        if not (plain and self.kept is True and self.sources == ()):
            self._check_placing()
        plain = self.kind == self.group == self.device == ""
        if plain and self.timeout_seconds is self.stall_seconds is None:
            return  # as it mostly is, thousands of times a second
        texts = ("kind", self.kind), ("group", self.group), ("device", self.device)
        for what, text in texts:
            if not isinstance(text, str) or not is_name(text):
                raise LocalProtocolError(
                    f"{text!r:.80} can't be a job's {what}: a text is wanted, of at most"
                    f" {NAME_LETTERS} letters that can be shown"
                )
        for what, seconds in (("timeout", self.timeout_seconds), ("stall", self.stall_seconds)):
            if seconds is not None and not (_is_number(seconds) and seconds >= 0):
                raise LocalProtocolError(
                    f"{seconds!r:.80} can't be a job's {what}_seconds: a number is wanted, or None"
                )

    def _check_placing(self) -> None:
        priority, sources = self.priority, self.sources
        if type(priority) is not int or not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
            raise LocalProtocolError(
                f"{priority!r:.80} can't be a job's priority: a whole number from {-MAX_PRIORITY}"
                f" to {MAX_PRIORITY} is wanted"
            )
        if type(self.kept) is not bool:
            raise LocalProtocolError(f"{self.kept!r:.80} can't be a job's kept: True or False is")
        if type(sources) is not tuple or len(sources) > MAX_SOURCES:
            raise LocalProtocolError(
                f"{sources!r:.80} can't be a job's sources: a tuple of at most {MAX_SOURCES} names"
                " is wanted"
            )
        for source in sources:
            if not isinstance(source, str) or not source or not is_name(source, LONG_NAME_LETTERS):
                raise LocalProtocolError(
                    f"{source!r:.80} can't be a source's name: a text is wanted, of at most"
                    f" {LONG_NAME_LETTERS} letters that can be shown"
                )

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Plain values for whoever solves the job."""
        return self.fields

    @classmethod
    def received(
        cls, kind: str, parameters: Fields, payload: bytes, arrays: ArraysOrSpecs,
        priority: int = 0, device: str = "",
    ) -> JobDataType:  # fmt: skip
        """Return the job that a message carried; every array must be here."""
        job = cls(b"", parameters, kind=kind, priority=priority, device=device)
        job._adopt(payload, arrays)
        return job


class JobSolutionDataType(_Content):
    """A solution: what a job returns.

    Args:
        data: text, bytes, or arrays by name.
        metrics: plain values about it.
    """

    __slots__ = ()

    def __init__(
        self,
        data: str | bytes | bytearray | memoryview | Mapping[str, AnyArray] = b"",
        metrics: Fields | None = None,
    ) -> None:
        super().__init__(data, metrics)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Plain values about the solution."""
        return self.fields

    @classmethod
    def received(
        cls, metrics: Fields, payload: bytes, arrays: ArraysOrSpecs
    ) -> JobSolutionDataType:
        """Return the solution that a message carried; every array must be here."""
        solution = cls(b"", metrics)
        solution._adopt(payload, arrays)
        return solution
