"""The options of `mnist-compute`, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.sockets import DEFAULT_ADDRESS


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """The options of `mnist-compute`; each field is the option of its name."""

    connect: tuple[str, ...] = (DEFAULT_ADDRESS,)
    domain: int = 0
    keys: str | None = None
    name: str = ""
    tasks: int = 1
    max_jobs: int | None = None
    log_level: str = "info"
