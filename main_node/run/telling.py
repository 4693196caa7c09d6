"""A run's events as plain values, for those who follow over the network."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from protocol.wire.codec import packed_bytes
from protocol.wire.limits import EVENT_BYTES, LINE_LETTERS
from protocol.wire.words import sendable

from ..errors import NodeError
from .events import Event, Stood
from .label import Label

#: Events from before there is a main node that could tell them; of more, the first are dropped.
EARLY = 1000
#: A value that takes more, or a list of more values, is left out.
VALUE_BYTES, VALUES = EVENT_BYTES // 2, 256
_LEFT_OUT = object()
Tell = Callable[[Mapping[str, object]], object]


class Telling:
    """A listener that tells a run's events over the network.

    All of them but `Stood`: how a run stands is in each `Status`.
    """

    def __init__(self) -> None:
        self._early: deque[Event] = deque(maxlen=EARLY)
        self._tell: Tell | None = None
        self._lock = threading.RLock()
        self._over = False

    def begin(self, tell: Tell) -> None:
        """There is a main node now; tell it what has happened so far.

        Args:
            tell: its `tell_event`.
        """
        with self._lock:
            self._tell = tell
            while self._early:
                self.on(self._early.popleft())

    def end(self, event: Event) -> None:
        """Tell the last event: the main node goes before others hear of it."""
        with self._lock:
            self.on(event)
            self._over = True

    def on(self, event: Event) -> None:
        """Tell an event."""
        if isinstance(event, Stood):
            return
        with self._lock:
            if self._over:
                return
            if self._tell is None:
                self._early.append(event)
                return
            with suppress(NodeError):  # its main node has gone: nobody follows
                self._tell(plain(event))


def kind_of(event: Event | type[Event]) -> str:
    """Return what a kind of event is called: `round-merged`."""
    kind = event if isinstance(event, type) else type(event)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


def plain(event: Event) -> dict[str, object]:
    """Return an event as plain values by name: its kind, when, and whatever else is plain of it.

    Labels are names; long texts are cut; what is large, or no plain value, is left out.
    """
    values = _of(_fields(event)) | {"kind": kind_of(event), "at": event.at}
    while packed_bytes(values) > EVENT_BYTES:
        del values[max(values, key=lambda name: _size(values[name]))]
    return values


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):  # numpy's float64 is one
        return float(value)
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else float(value)
    if isinstance(value, str):
        return sendable(value, LINE_LETTERS)
    if isinstance(value, Label):
        return value.name
    if isinstance(value, Path):
        return _plain(str(value))
    if isinstance(value, Mapping):
        return _of({sendable(str(name), LINE_LETTERS): inner for name, inner in value.items()})
    if dataclasses.is_dataclass(value):
        return _of(_fields(value))
    if isinstance(value, list | tuple) and len(value) <= VALUES:
        items = [_plain(inner) for inner in value]
        return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else items
    return _LEFT_OUT


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _size(value: object) -> int:
    return packed_bytes({"": value})


def _of(values: dict[str, object]) -> dict[str, object]:
    told = {name: _plain(inner) for name, inner in values.items()}
    return {
        name: inner
        for name, inner in told.items()
        if inner is not _LEFT_OUT and _size(inner) <= VALUE_BYTES
    }
