"""What happens at main nodes, a line for each event: in words, or as JSON."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import NoReturn

from protocol.machine.chronicle import Happening
from protocol.wire.words import plural, safe_line, safe_name

#: Letters of one value that are shown in words.
VALUE_LETTERS = 200
_LOOK_SECONDS = 0.5


class Printer:
    """Prints events, until nobody reads them.

    Args:
        as_json: as JSON objects, instead of words.
    """

    def __init__(self, as_json: bool) -> None:
        self._line = as_object if as_json else in_words
        self._log = ""
        self._failure: OSError | None = None

    def __call__(self, happening: Happening) -> None:
        """Print an event."""
        if self._failure is not None:
            return
        lines = [self._line(happening)]
        if self._line is in_words and happening.log != self._log:
            lines.insert(0, f"--- {safe_name(happening.main)}")
            self._log = happening.log
        try:
            print(*lines, sep="\n", flush=True)
        except OSError as error:  # nobody reads, or the disk is full
            self._failure = error

    def wait(self) -> NoReturn:
        """Wait until nobody reads.

        Raises:
            OSError: that is so, or the disk is full.
        """
        while self._failure is None:
            time.sleep(_LOOK_SECONDS)
        raise self._failure


def as_object(happening: Happening) -> str:
    """Return an event as a JSON object in one line."""
    return json.dumps(
        {
            "main": happening.main, "log": happening.log, "number": happening.number,
            "missed": happening.missed, "event": jsonable(happening.event),
        }
    )  # fmt: skip


def in_words(happening: Happening) -> str:
    """Return an event as people read it: when, what kind, and the rest by name."""
    event = dict(happening.event)
    at, kind = event.pop("at", None), event.pop("kind", None)
    told = [_time(at)]
    if kind is not None:
        told.append(_shown(kind).replace("-", " ") + (":" if event else ""))
    if set(event) == {"text"}:
        told.append(_shown(event["text"]))
    else:
        told.append(", ".join(f"{safe_name(name)} {_shown(event[name])}" for name in event))
    line = " ".join(word for word in told if word)
    if not happening.missed:
        return line
    return f"{plural(happening.missed, 'event')} missed: not kept for so long\n{line}"


def _time(at: object) -> str:
    if not isinstance(at, float | int) or not 0 <= at < 1e11:  # of a program that tells no time
        return ""
    return time.strftime("%H:%M:%S", time.localtime(at))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping | list):
        value = json.dumps(jsonable(value), ensure_ascii=False)
    text = str(value)
    return safe_line(text if len(text) <= VALUE_LETTERS else text[: VALUE_LETTERS - 4] + " ...")


def jsonable(value: object) -> object:
    """Return what a main node says, whatever that is, as JSON can say it."""
    if isinstance(value, Mapping):
        return {str(name): jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, int | float | str) else repr(value)
