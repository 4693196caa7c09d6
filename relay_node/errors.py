"""What can go wrong at a relay: `NodeError` and `ConfigError`, as at every node, and this.

NodeError
  WrongSecret          the other relay has another secret
"""

from __future__ import annotations

from protocol.errors import ConfigError, NodeError

__all__ = [
    "ConfigError",
    "NodeError",
    "RelayError",
    "WrongSecret",
]

#: The root's name in earlier releases.
RelayError = NodeError


class WrongSecret(NodeError):
    """The other relay has another secret, or is none."""
