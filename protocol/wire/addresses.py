"""Addresses, as texts: `tcp://host:port`."""

from __future__ import annotations

import ipaddress
import re

from ..errors import AddressError

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"


def split_address(address: str, lowest_port: int) -> tuple[str, int]:
    """Return the host and the port of an address `tcp://host:port`.

    Raises:
        AddressError: it is none, or has a port that there is not; ZeroMQ would wrap it around.
    """
    match = re.fullmatch(r"tcp://(.+):(\d+)", address)
    if match is None:
        raise AddressError(f"{address!r} is not an address; one looks like tcp://127.0.0.1:5555")
    if not lowest_port <= int(match[2]) <= 65535:
        raise AddressError(f"{address}: there is no port {match[2]}; give one up to 65535")
    return match[1].strip("[]"), int(match[2])


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address `tcp://host:port`."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
