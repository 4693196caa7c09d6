"""Signs of life: a file's time, and datagrams to whoever supervises."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from computing_node import ConfigError
from computing_node.pulse import Pulse


def test_a_beat_changes_the_files_time(tmp_path: Path) -> None:
    path = tmp_path / "pulse"
    pulse = Pulse(str(path))
    path.touch()
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:
        pulse.beat(time.monotonic() + 10)
        path.unlink()  # somebody tidies up
        pulse.beat(time.monotonic() + 20)
    with pytest.raises(ConfigError, match="--pulse"):
        Pulse(str(tmp_path / "no" / "folder"))


def test_a_supervisor_that_does_not_listen_delays_nothing_and_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: a full socket blocked the connections, and one failure was the last."""
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    pulse = Pulse(None)
    pulse.notify("READY=1")  # nobody there yet
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor.bind(str(path))
    begun = time.monotonic()
    for n in range(1000):
        pulse.beat(2.0 * n)
    assert time.monotonic() - begun < 5
    while True:
        try:
            supervisor.recv(100, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    pulse.beat(1e6)
    assert supervisor.recv(100) == b"WATCHDOG=1"
    supervisor.close()
