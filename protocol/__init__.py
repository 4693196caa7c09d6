"""The conversation between a main node and its computing nodes."""

from .errors import (
    AddressError,
    DecodeError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    VersionMismatch,
)
from .jobs import JobDataType, JobSolutionDataType

__all__ = [
    "AddressError",
    "DecodeError",
    "JobDataType",
    "JobSolutionDataType",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "VersionMismatch",
]
