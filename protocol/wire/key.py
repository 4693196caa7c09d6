"""Who is let in."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """A computing node's key as a main node knows it.

    Args:
        public: the key.
        name: under which it is let in; empty for a guest (`MainKeys.invite`).
    """

    public: bytes
    name: str
