"""What each field of a message may be: checks of decoded values, which nobody else has looked at.

Each takes one value and returns it as the message wants it, or raises a `DecodeError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import DecodeError
from .limits import (
    ANSWER_EVENTS,
    EVENT_BYTES,
    MAX_ARRAY_BYTES,
    MAX_COUNT,
    MAX_DEPTH,
    MAX_DIMENSIONS,
    MAX_IDS,
    MAX_NODES,
    MAX_PRIORITY,
    MAX_TEXTS,
)
from .messages import (
    ArraySpec,
    Block,
    Events,
    Fields,
    Ids,
    Line,
    LongName,
    Name,
    NodeStatus,
    Note,
    Priority,
    Statuses,
    Texts,
    Versions,
)
from .words import safe_line

Check = Callable[[Any], Any]

#: Plain numbers only: nothing that holds a pointer, a time zone or a byte order.
DTYPES = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
     "float16", "float32", "float64", "complex64", "complex128"]
)  # fmt: skip


def complaint(what: str, value: object) -> DecodeError:
    """Return the complaint about a value; one that holds others is not shown."""
    shown = "" if isinstance(value, (list, dict)) else f" {safe_line(str(value), 40)!r}"
    return DecodeError(f"{what}, not {type(value).__name__}{shown}")


def as_text(value: Any) -> str:
    """Return a text as it came; nobody may be shown it so."""
    if type(value) is not str:
        raise complaint("a text is wanted", value)
    return value


def as_count(value: Any) -> int:
    """Return an id, or a number of things."""
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise complaint(f"a count from 0 to {MAX_COUNT} is wanted", value)
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise complaint("yes or no is wanted", value)
    return value


def _priority(value: Any) -> int:
    if type(value) is not int or not -MAX_PRIORITY <= value <= MAX_PRIORITY:
        raise complaint(f"a priority from {-MAX_PRIORITY} to {MAX_PRIORITY} is wanted", value)
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (float, int) or not 0 <= value <= 1e9:
        raise complaint("a finite number of seconds is wanted", value)
    return float(value)


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise complaint("bytes are wanted", value)
    return value


def as_list(value: Any) -> list[Any]:
    """Return a list."""
    if type(value) is not list:
        raise complaint("a list is wanted", value)
    return value


def _ids(value: Any) -> Ids:
    if len(as_list(value)) > MAX_IDS:
        raise DecodeError(f"a list of {len(value)} ids, more than {MAX_IDS}")
    return tuple(map(as_count, value))


def _texts(value: Any) -> Texts:
    if len(as_list(value)) > MAX_TEXTS:
        raise DecodeError(f"a list of {len(value)} texts, more than {MAX_TEXTS}")
    return tuple(map(_SHORT, value))


def _versions(value: Any) -> Versions:
    if type(value) is not dict or len(value) > MAX_TEXTS:
        raise complaint(f"a map of at most {MAX_TEXTS} versions is wanted", value)
    return {_SHORT(name): _SHORT(version) for name, version in value.items()}


def as_fields(value: Any) -> Fields:
    """Return plain values by name, not too deep inside each other."""
    if type(value) is not dict:
        raise complaint("a map is wanted", value)
    if value:
        for key in value:
            as_text(key)
        _check_depth(value, MAX_DEPTH)
    return value


def _check_depth(value: Any, depth: int) -> None:
    """Raise where lists and maps are inside each other more than `depth` times."""
    for inner in value.values() if type(value) is dict else value:
        if type(inner) is list or type(inner) is dict:
            if not depth:
                raise DecodeError(f"values inside each other more than {MAX_DEPTH} times")
            _check_depth(inner, depth - 1)


def _progress(value: Any) -> Mapping[int, float]:
    if type(value) is not dict or len(value) > MAX_IDS:
        raise complaint(f"a map of progress of at most {MAX_IDS} tasks is wanted", value)
    return {as_count(task): _fraction(done) for task, done in value.items()}


def _notes(value: Any) -> Mapping[int, str]:
    if type(value) is not dict or len(value) > MAX_IDS:
        raise complaint(f"a map of notes on at most {MAX_IDS} tasks is wanted", value)
    return {as_count(task): _NOTE(note) for task, note in value.items()}


def _fraction(value: Any) -> float:
    if type(value) not in (float, int) or not 0 <= value <= 1:
        raise complaint("a fraction from 0 to 1 is wanted", value)
    return float(value)


def _statuses(value: Any) -> Statuses:
    if len(as_list(value)) > MAX_NODES:
        raise DecodeError(f"a list of {len(value)} nodes, more than {MAX_NODES}")
    return tuple(map(_status, value))


def _status(value: Any) -> NodeStatus:
    if len(as_list(value)) != len(NodeStatus._fields):
        raise DecodeError(f"a node's status of {len(value)} fields, not {len(NodeStatus._fields)}")
    node, kind, state, reason, running, waiting, solved, note, tasks, cores = value
    if len(as_list(running)) > MAX_IDS or any(len(as_list(job)) != 2 for job in running):
        raise complaint("a list of running jobs is wanted", running)
    return NodeStatus(
        _LONG(node), _SHORT(kind), _SHORT(state), _LINE(reason),
        tuple((_LONG(job), _fraction(done)) for job, done in running),
        as_count(waiting), as_count(solved), _NOTE(note), as_count(tasks), as_count(cores),
    )  # fmt: skip


def _events(value: Any) -> Events:
    if len(as_list(value)) > ANSWER_EVENTS:
        raise DecodeError(f"a list of {len(value)} events, more than {ANSWER_EVENTS}")
    if any(len(_bytes(event)) > EVENT_BYTES for event in value):
        raise DecodeError(f"an event of more than {EVENT_BYTES} bytes")
    return tuple(value)


def as_spec(dtype: Any, shape: Any, digest_: Any) -> ArraySpec:
    """Return what an array is said to be."""
    if type(dtype) is not str or dtype not in DTYPES:
        raise complaint("a known element type is wanted", dtype)
    lengths = _ids(shape)
    if len(lengths) > MAX_DIMENSIONS:
        raise DecodeError(f"an array of {len(lengths)} dimensions, more than {MAX_DIMENSIONS}")
    if math.prod(max(1, n) for n in lengths) * np.dtype(dtype).itemsize > MAX_ARRAY_BYTES:
        raise DecodeError(f"an array of shape {lengths} is larger than {MAX_ARRAY_BYTES} bytes")
    if len(_bytes(digest_)) != 16:
        raise DecodeError(f"a digest of {len(digest_)} bytes, not 16")
    return ArraySpec(dtype, lengths, digest_)


def _words(kind: Any) -> Check:
    """Return the check of a kind of text of `messages.py`: the door for words."""
    letters, door = kind.__metadata__[0]

    def check(value: Any) -> str:
        text = as_text(value)
        if len(text) <= letters and text.isprintable():  # nearly always
            return text
        shown: str = door(text, letters)
        return shown

    return check


_SHORT, _LONG, _LINE, _NOTE = map(_words, (Name, LongName, Line, Note))

CHECKS: dict[Any, Check] = {
    Name: _SHORT, LongName: _LONG, Line: _LINE, Block: _words(Block), int: as_count, bool: _flag,
    float: _seconds, bytes: _bytes, Ids: _ids, Texts: _texts, Versions: _versions,
    Fields: as_fields, Mapping[int, float]: _progress, Mapping[int, str]: _notes,
    Statuses: _statuses, Priority: _priority, Events: _events,
}  # fmt: skip
