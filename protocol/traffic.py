"""How many bytes have come over a connection, as the system counts them."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import threading

from .limits import KIB

#: What a connection carries beside messages: ZeroMQ's handshake.
HANDSHAKE_BYTES = 2 * KIB
#: Where `tcpi_bytes_received` is in Linux's struct tcp_info, since 4.1, and how much is read.
_RECEIVED, _INFO_BYTES = 128, 136
_TOLD = sys.platform == "linux"
_CALL = (int(socket.IPPROTO_TCP), int(getattr(socket, "TCP_INFO", 0)))
_getsockopt = ctypes.CDLL(None).getsockopt


class _Answer(threading.local):
    """Where the system writes what it tells."""

    def __init__(self) -> None:
        self.content = ctypes.create_string_buffer(_INFO_BYTES)
        self.size = ctypes.c_uint32()


_answer = _Answer()


def received(descriptor: int) -> int:
    """Return how many bytes have come over a TCP connection; 0 where the system does not tell.

    Linux tells. Elsewhere nobody is cut off for what ZeroMQ holds of him.
    """
    if not _TOLD:
        return 0
    content, size = _answer.content, _answer.size
    size.value = _INFO_BYTES
    failed = _getsockopt(descriptor, *_CALL, content, ctypes.byref(size))
    if failed or size.value < _INFO_BYTES:
        return 0
    return int(struct.unpack_from("=Q", content, _RECEIVED)[0])
