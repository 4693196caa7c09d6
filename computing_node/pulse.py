"""Signs of life of this process for its supervisor: a file's time, and systemd's watchdog."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from .errors import ConfigError

#: A sign this often.
BEAT_SECONDS = 1.0


class Pulse:
    """Shows that this process is alive, and not only there.

    Args:
        path: a file whose time of change is the last sign; None: no file.

    Raises:
        ConfigError: the file can't be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._systemd = os.environ.get("NOTIFY_SOCKET", "")  # sd_notify(3)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._next = 0.0
        if self._path is not None:
            try:
                self._path.touch()
            except OSError as error:
                raise ConfigError(f"--pulse {path}: {error.strerror}") from error

    def beat(self, now: float) -> None:
        """Give a sign, if it is time; called by the thread that has to be alive."""
        if now < self._next:
            return
        self._next = now + BEAT_SECONDS
        if self._path is not None:
            with contextlib.suppress(OSError):  # a full disk is no reason to die
                self._path.touch()
        self.notify("WATCHDOG=1")

    def notify(self, state: str) -> None:
        """Tell systemd, where it asked for it, e.g. `READY=1`."""
        if not self._systemd:
            return
        address = self._systemd.replace("@", "\0", 1) if self._systemd[0] == "@" else self._systemd
        # One that is not taken is as good as late; the next comes in a second.
        with contextlib.suppress(OSError):
            self._sender.sendto(state.encode(), socket.MSG_DONTWAIT, address)
