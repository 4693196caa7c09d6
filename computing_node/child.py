"""The process that trains: warm, reused, and expendable.

A computing node trains in here so that its heartbeats never wait for it, so that a crash is one
failed attempt and not a lost node, and so that a cancelled job can be stopped at once.

It is started as `python -m computing_node.child DESCRIPTOR` and speaks over that socket:

    node -> child   {"prepare": [learner, ...]}
                    {"solve": learner, "values": {...}} and arrays
    child -> node   {"progress": fraction, "note": text}
                    {"solved": {...}} and arrays
                    {"failed": message, "traceback": text}
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

from .sharing import Channel

#: Progress is told at most this often.
PROGRESS_SECONDS = 0.1

Message = tuple[dict[str, Any], dict[str, Any]]


def _listen(channel: Channel, messages: queue.SimpleQueue[Message]) -> None:
    """Read what the node says; when the node is gone, so is this process."""
    try:
        while True:
            messages.put(channel.receive())
    except (EOFError, OSError):
        os._exit(0)


class _Reporter:
    """Tells the node about progress, not too often."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._told = 0.0

    def __call__(self, fraction: float, note: str = "", /) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            self._channel.send({"progress": fraction, "note": note}, {})


def _prepare(learners: list[str]) -> None:
    from learning import create

    for learner in learners:
        try:
            create(learner, {}).prepare()
        except Exception:
            continue  # a job will tell, in words


def _solve(channel: Channel, message: Message) -> None:
    from learning.work import perform

    values, arrays = message
    try:
        metrics, solution = perform(
            values["solve"], values["values"], arrays, _Reporter(channel), lambda: False
        )
    except Exception as error:
        told = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        channel.send(told, {})
    else:
        channel.send({"solved": metrics}, solution)


def main(descriptor: int) -> None:
    """Serve the node at the other end of a socket until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the node's to handle
    channel = Channel(socket.socket(fileno=descriptor))
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, messages), daemon=True).start()
    while True:
        message = messages.get()
        if "prepare" in message[0]:
            _prepare(message[0]["prepare"])
        else:
            _solve(channel, message)


if __name__ == "__main__":
    main(int(sys.argv[1]))
