"""Relays: join networks that can't reach each other."""

from .errors import ConfigError, RelayError
from .node import RelayNode

__all__ = ["ConfigError", "RelayError", "RelayNode"]
