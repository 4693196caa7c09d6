"""Which of the two internet protocols leads to a host."""

from __future__ import annotations

import ipaddress
import socket
import threading

#: Who wants to know where a name leads waits so long: a name server that is away takes many
#: seconds, and whoever asks has other connections to see to.
NAME_SECONDS = 1.0


def ways(host: str) -> tuple[bool, ...]:
    """Return how a host is reached, as far as can be known within a second.

    Args:
        host: a name, or an address of either kind without brackets.

    Returns:
        Whether by IPv6, in the order in which it is to be tried; two, where its name has both.
    """
    try:
        return (ipaddress.ip_address(host.partition("%")[0]).version == 6,)
    except ValueError:
        found = set() if host == "*" else _families(host)
    if found == {socket.AF_INET, socket.AF_INET6}:
        return (False, True)
    return (found == {socket.AF_INET6},)


def needs_ipv6(host: str) -> bool:
    """Return whether a host is reached by IPv6 only; argument as for `ways`."""
    return ways(host)[0]


def _families(host: str) -> set[int]:
    """Return the kinds of addresses that a name has: none where it is not known, or not yet."""
    found: set[int] = set()

    def look() -> None:
        try:
            told = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.update(family for family, *_ in told)

    looking = threading.Thread(target=look, name=f"name of {host}", daemon=True)
    looking.start()
    looking.join(NAME_SECONDS)
    return set(found)
