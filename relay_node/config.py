"""The options of `mnist-relay`, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RelayConfig:
    """The options of `mnist-relay`; each field is the option of its name."""

    bind: tuple[str, ...] = ()
    dial: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    secret: str | None = None
    insecure: bool = False
    announce: bool = False
    domain: int = 0
    keys: str | None = None
    log_level: str = "info"
