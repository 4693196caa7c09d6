"""What the system knows of connections, and does to them: hold one, end one, let fewer in.

All of it without letting go of Python's interpreter lock: whoever watches over a busy thread would
wait for the lock each time. Linux tells; elsewhere nothing is known, and nothing done.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import resource
import socket
import struct
import sys
import threading
from collections.abc import Iterable

from ..wire.limits import KIB

#: What a connection carries beside messages: ZeroMQ's handshake.
HANDSHAKE_BYTES = 2 * KIB
#: Whether the system tells anything.
KNOWN = sys.platform == "linux"
_TCP, _TCP_INFO = int(socket.IPPROTO_TCP), int(getattr(socket, "TCP_INFO", 0))
_SOCKET, _COOKIE, _ATTACH, _DETACH = int(socket.SOL_SOCKET), 57, 26, 27
#: Where `tcpi_bytes_received` is in struct tcp_info, since Linux 4.1, and how much is read.
_RECEIVED, _INFO_BYTES = 128, 136
_PAGE = resource.getpagesize()

_system = ctypes.PyDLL(None, use_errno=False)  # which keeps the lock
_getsockopt, _setsockopt = _system.getsockopt, _system.setsockopt


class _Answer(threading.local):
    """Where the system writes what it tells."""

    def __init__(self) -> None:
        self.content = ctypes.create_string_buffer(_INFO_BYTES)
        self.size = ctypes.c_uint32()


_answer = _Answer()


def _ask(descriptor: int, level: int, option: int, nbytes: int) -> bytes:
    """Return what the system tells of a socket; nothing where it does not."""
    content, size = _answer.content, _answer.size
    size.value = nbytes
    if _getsockopt(descriptor, level, option, content, ctypes.byref(size)) or size.value < nbytes:
        return b""
    return content.raw[:nbytes]


def received(descriptor: int) -> int:
    """Return how many bytes have come over a TCP connection; 0 where the system does not tell."""
    told = _ask(descriptor, _TCP, _TCP_INFO, _INFO_BYTES) if KNOWN else b""
    return int(struct.unpack_from("=Q", told, _RECEIVED)[0]) if told else 0


def cookie(descriptor: int) -> int:
    """Return a number that no other socket has or will have; 0 where there is none."""
    told = _ask(descriptor, _SOCKET, _COOKIE, 8) if KNOWN else b""
    return int(struct.unpack("=Q", told)[0]) if told else 0


class _Filter(ctypes.Structure):
    """A program for the system's packet filter: struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def _instruction(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """Return an instruction of the packet filter; it may jump over so many that follow."""
    return struct.pack("=HBBI", code, if_so, if_not, value & 0xFFFFFFFF)


# Instructions of <linux/bpf_common.h>, and what they can load beside the packet, which begins
# with its TCP header (<linux/filter.h>).
_LOAD_WORD, _LOAD_BYTE, _RETURN = 0x20, 0x30, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_BIT = 0x15, 0x35, 0x45
_IP_HEADER, _RANDOM = -0x100000, -0x1000 + 56
_FLAGS, _ACK = 13, 0x10
_DROP, _KEEP = _instruction(_RETURN, 0), _instruction(_RETURN, 0xFFFFFFFF)
_NOTHING = _Filter(1, _DROP)


def hold(descriptor: int, cookie_: int) -> bool:
    """Let nothing more come over a connection for now: what is sent is sent again, ever later.

    Args:
        descriptor: of the connection.
        cookie_: its cookie; nothing is done if the descriptor is another's by now.
    """
    return _act(
        descriptor, cookie_,
        lambda copy: _setsockopt(
            copy, _SOCKET, _ATTACH, ctypes.byref(_NOTHING), ctypes.sizeof(_NOTHING)
        ),
    )  # fmt: skip


def release(descriptor: int, cookie_: int) -> bool:
    """Let a connection go on that was held."""
    nothing = ctypes.c_int(0)
    return _act(
        descriptor, cookie_,
        lambda copy: _setsockopt(copy, _SOCKET, _DETACH, ctypes.byref(nothing), 4),
    )  # fmt: skip


def end(descriptor: int, cookie_: int) -> bool:
    """End a connection, both ways."""
    return _act(descriptor, cookie_, lambda copy: _system.shutdown(copy, int(socket.SHUT_RDWR)))


#: As many hosts as `thin` takes.
MOST_HOSTS = 16


def thin(listener: int, hosts: Iterable[str], part: float) -> bool:
    """Let only a part of what hosts want to begin come to a listening socket, drawn by lot.

    Args:
        listener: its descriptor.
        hosts: their addresses, `MOST_HOSTS` at most.
        part: of their connections that is let in; the others are tried again, by their system,
            after a second, two more, and so on.
    """
    lot = [
        _instruction(_LOAD_WORD, _RANDOM),
        _instruction(_IF_AT_LEAST, int(part * 0xFFFFFFFF), 0, 1),
        _DROP, _KEEP,
    ]  # fmt: skip
    program = [  # only what begins a connection
        _instruction(_LOAD_BYTE, _FLAGS), _instruction(_IF_BIT, _ACK, 0, 1), _KEEP,
    ]  # fmt: skip
    for host in hosts:
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:  # by another way than IP
            continue
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        words = struct.unpack(f">{len(address.packed) // 4}I", address.packed)
        begin = _IP_HEADER + (12 if address.version == 4 else 8)
        for place, word in enumerate(words):  # if one is another, over to the next host
            beyond = 2 * (len(words) - place - 1) + len(lot)
            program.append(_instruction(_LOAD_WORD, begin + 4 * place))
            program.append(_instruction(_IF_EQUAL, word, 0, beyond))
        program += lot
    program.append(_KEEP)
    made = _Filter(len(program), b"".join(program))
    return not _setsockopt(listener, _SOCKET, _ATTACH, ctypes.byref(made), ctypes.sizeof(made))


def let_all_in(listener: int) -> None:
    """End what `thin` did."""
    nothing = ctypes.c_int(0)
    _setsockopt(listener, _SOCKET, _DETACH, ctypes.byref(nothing), 4)


def _act(descriptor: int, cookie_: int, act: object) -> bool:
    """Do something to a connection if it is still the same, by a descriptor of our own."""
    if not cookie_:
        return False
    copy = _system.dup(descriptor)
    if copy < 0:
        return False
    try:
        return cookie(copy) == cookie_ and act(copy) == 0  # type: ignore[operator]
    finally:
        _system.close(copy)


class Size:
    """How much memory this process has."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if KNOWN else -1
        self._content = ctypes.create_string_buffer(100)

    def read(self) -> int:
        """Return its bytes; 0 where the system does not tell."""
        if self._statm < 0:
            return 0
        told = _system.pread(self._statm, self._content, 99, ctypes.c_long(0))
        return int(self._content.raw[:told].split()[1]) * _PAGE if told > 0 else 0

    def close(self) -> None:
        """Give the descriptor back."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1
