"""The conversation between a main node and its computing nodes."""

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
