"""What can go wrong at a relay.

RelayError             root
  ConfigError          an option or argument that can't be
  WrongSecret          the other relay has another secret
"""

from __future__ import annotations


class RelayError(Exception):
    """Root of everything that this package raises on purpose."""


class ConfigError(RelayError):
    """An option or argument that can't be; the message says which and what to do."""


class WrongSecret(RelayError):
    """The other relay has another secret, or is none."""
