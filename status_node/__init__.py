"""Who only looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnist_merge import take

if TYPE_CHECKING:
    from .node import StatusListener, StatusNode

__all__ = ["StatusListener", "StatusNode"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is used: a command that helps, helps at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return take(__name__, ".node", name)
