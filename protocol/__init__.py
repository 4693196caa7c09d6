"""The conversation between a main node and its computing nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    AddressError,
    DecodeError,
    InsecureAddress,
    KeysError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    VersionMismatch,
)

if TYPE_CHECKING:
    from .wire.jobs import JobDataType, JobSolutionDataType

__all__ = [
    "AddressError",
    "DecodeError",
    "InsecureAddress",
    "JobDataType",
    "JobSolutionDataType",
    "KeysError",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "VersionMismatch",
]


def __getattr__(name: str) -> Any:
    """Import what needs numpy when it is used: a command that helps, helps at once."""
    if name not in ("JobDataType", "JobSolutionDataType"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .wire import jobs

    return getattr(jobs, name)
