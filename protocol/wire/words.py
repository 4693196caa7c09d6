"""The one door for words from outside: what a peer says is text, as long as it may be, or nothing.

Everything that comes off the wire has passed it (`codec.py`), and so has what is read from files
that others write. Nothing else may be logged, shown or stored.
"""

from __future__ import annotations

import json

from .limits import (
    ARRAY_NAME_LETTERS,
    BLOCK_LETTERS,
    BLOCK_LINES,
    LINE_LETTERS,
    NAME_LETTERS,
    NOTE_LETTERS,
)


def from_json(text: str) -> object:
    """Return what a text says that somebody else may have written.

    Raises:
        ValueError: it is no JSON, or lists are in it too deep in each other.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists in lists, too many") from error


def safe_line(text: str, limit: int = LINE_LETTERS) -> str:
    """Return words as a terminal may show them: one line, printable, not too long."""
    text = text[:limit]
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def safe_block(text: str, limit: int = BLOCK_LETTERS) -> str:
    """Return a text as a terminal may show it: printable lines; cut in the middle where long."""
    lines = cut(text, limit).splitlines()
    if len(lines) > BLOCK_LINES:
        lines[BLOCK_LINES // 2 : -(BLOCK_LINES // 2)] = ["[...]"]
    return "\n".join(map(safe_line, lines))


def safe_name(text: str, limit: int = NAME_LETTERS) -> str:
    """Return a name as it can be shown: printable, not too long, not empty."""
    text = text[:limit]
    if not text.isprintable():
        text = "".join(letter for letter in text if letter.isprintable())
    return text or "unnamed"


def cut(text: str, limit: int = BLOCK_LETTERS) -> str:
    """Return `text`, its middle left out where it is long."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[...]\n{text[-(limit // 2) :]}"


def sendable(text: str, limit: int = BLOCK_LETTERS) -> str:
    """Return `text` as it can be sent: not too long, no lone surrogates."""
    return cut(text, limit).encode("utf-8", "backslashreplace").decode()


def as_note(note: object) -> str:
    """Return what somebody's program says of its work as a line that can be sent."""
    return "" if note is None else safe_line(str(note), NOTE_LETTERS)


def is_name(text: str, limit: int = NAME_LETTERS) -> bool:
    """Whether everybody is shown these words as they are."""
    return len(text) <= limit and text.isprintable()


def is_array_name(text: str) -> bool:
    """Whether an array can be called so."""
    return len(text) <= ARRAY_NAME_LETTERS and text.isprintable()


def in_words(error: BaseException) -> str:
    """Return an exception as a line, whatever its class makes of that."""
    try:
        return safe_line(repr(error))
    except Exception:
        return type(error).__name__


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Return `3 jobs`, or `1 job`."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"
