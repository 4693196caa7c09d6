"""The options of `mnist-compute`, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """The options of `mnist-compute`; each field is the option of its name."""

    connect: tuple[str, ...] = ()
    discover: bool = False
    domain: int = 0
    keys: str | None = None
    insecure: bool = False
    name: str = ""
    tasks: int = 1
    max_jobs: int | None = None
    max_memory: int | None = None
    max_job_seconds: float | None = None
    learners: tuple[str, ...] = ()
    pulse: str | None = None
    log_level: str = "info"
