"""Relays: join networks that can't reach each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnist_merge import take

if TYPE_CHECKING:
    from .errors import ConfigError, RelayError
    from .node import RelayNode

__all__ = ["ConfigError", "RelayError", "RelayNode"]

#: Imported when they are used: a command that begins can be interrupted, and helps, at once.
_PLACES = {
    "ConfigError": "errors",
    "RelayError": "errors",
    "RelayNode": "node",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return take(__name__, f".{_PLACES[name]}", name)
