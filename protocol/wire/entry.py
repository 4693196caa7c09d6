"""What a log line says, as a value: programs read it by name, people as a line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from .limits import LINE_LETTERS
from .words import safe_block, safe_line, sendable

#: Names that no field can have: every entry that is written as JSON has them beside its fields.
RESERVED = frozenset(["at", "level", "event", "says", "story", "traceback"])
#: Values within values within a value; what is deeper is told as text. Items of each.
DEPTH, ITEMS = 6, 1000
#: What has a text quoted; a colon at its end would make the next field look like a sentence.
_STRANGE = frozenset(" '\"=")


class Entry:
    """What happened, for a log: `log.info(Entry("node.left", node=name, reason=why))`.

    As text it is a line, whatever its values are: `node.left node=a reason='connection lost'`.
    Values stand as they are where nobody can take them for more than one value, else quoted; floats
    with six digits; items of a list between commas. A sentence comes last, after a colon. The lines
    of a story stand below, set in.

    Args:
        event: what happened: `what.became_of_it`.
        says: a sentence for people.
        story: lines for people: a traceback, say.
        fields: numbers, texts, truths, and lists and mappings of those, by name; anything else is
            its text. None is left out.

    Raises:
        ValueError: a field is called as something that every entry has.
    """

    __slots__ = ("event", "fields", "says", "story")
    event: str
    fields: Mapping[str, object]
    says: str
    story: str

    def __init__(self, event: str, /, says: str = "", story: str = "", **fields: object) -> None:
        if not RESERVED.isdisjoint(fields):
            raise ValueError(f"no field of an entry can be called {min(RESERVED & fields.keys())}")
        told = {name: _kept(value) for name, value in fields.items() if value is not None}
        set_ = object.__setattr__
        set_(self, "event", event)
        set_(self, "fields", MappingProxyType(told))
        set_(self, "says", says)
        set_(self, "story", story)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an entry is what it is")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash((self.event, self.says, self.story, frozenset(self.fields)))

    def _all(self) -> tuple[object, ...]:
        return self.event, self.says, self.story, dict(self.fields)

    def __repr__(self) -> str:
        return f"<Entry {self.line}>"

    def __str__(self) -> str:
        return "\n".join([self.line, *(f"    {each}" for each in self.story_lines)])

    @property
    def line(self) -> str:
        """The text without the story: one line."""
        told = "".join(f" {_name(name)}={_told(each)}" for name, each in self.fields.items())
        return f"{_told(self.event)}{told}{f': {safe_line(self.says)}' if self.says else ''}"

    @property
    def story_lines(self) -> list[str]:
        """The lines of the story, as a terminal may show them."""
        return safe_block(self.story).split("\n") if self.story else []

    def plain(self) -> dict[str, object]:
        """Return event, fields, sentence and story, by name, as values that JSON has."""
        told: dict[str, object] = {"event": sendable(self.event)}
        told |= {sendable(name): _plain(value, DEPTH) for name, value in self.fields.items()}
        if self.says:
            told["says"] = sendable(self.says)
        if self.story:
            told["story"] = sendable(self.story)
        return told


def _kept(value: object) -> object:
    """Return a value as it is if that says what it will be later, else its text."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(value, Mapping):
        return dict(value)
    return _text(value)


def _text(value: object) -> str:
    """Return the text of anything."""
    try:
        return f"{value!s}"
    except Exception:  # a whole number of too many digits is among them
        return type(value).__name__


def _told(value: object) -> str:
    """Return a value as it stands in a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        value = ",".join(map(_text, value[:ITEMS]))
    text = (value if isinstance(value, str) else _text(value))[:LINE_LETTERS]
    if text and text.isprintable() and _STRANGE.isdisjoint(text) and not text.endswith(":"):
        return text
    return repr(text)


def _name(name: str) -> str:
    return name if name.isidentifier() else "".join(c if c.isalnum() else "_" for c in name) or "_"


def _plain(value: object, depth: int) -> object:
    """Return a value as one that JSON has."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else f"{value:#x}"[:100]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else f"{value:g}"
    if depth and isinstance(value, Mapping):
        items = list(value.items())[:ITEMS]
        return {sendable(_text(name)): _plain(each, depth - 1) for name, each in items}
    if depth and isinstance(value, list | tuple):
        return [_plain(each, depth - 1) for each in value[:ITEMS]]
    return sendable(value if isinstance(value, str) else _text(value))
