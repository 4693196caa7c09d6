"""The process that trains: warm, reused, and expendable.

A computing node trains in here so that its heartbeats never wait for it, so that a crash is one
failed attempt and not a lost node, and so that no job takes more memory than the node's owner
allows.

It is forked from a process that has imported what it needs (`template.py`), or is that process
itself, and speaks over a socket of its own:

    node -> child   {"prepare": [learner, ...], "device": the node's, "gpu": this child's,
                     "folders": with users' code, "scratch": where code of jobs is put,
                     "merges": whether users' code may merge}       first
                    {"solve": learner, "number": n, "values": {...}, "device": wanted} and arrays
                    {"cancel": n}
    child -> node   {"ready": true}                                 first
                    {"progress": fraction, "note": text}
                    {"solved": {...}} and arrays
                    {"failed": message, "traceback": text, "memory": whether for want of it}
                    {"failed": reason, "source": what can't be reached from here}
                    {"cancelled": true}
"""

from __future__ import annotations

import os
import queue
import resource
import signal
import socket
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from mnist_merge import PACKAGES, ROOT
from protocol.wire.words import as_note

from .sharing import Channel

#: The exit code of a child that had not even the memory to say that it has none.
OUT_OF_MEMORY = 77
#: How the names of this project's own files begin.
_OURS = tuple(os.path.join(ROOT, package, "") for package in PACKAGES)  # noqa: PTH118
#: Progress is told at most this often.
PROGRESS_SECONDS = 0.1

Message = tuple[dict[str, Any], dict[str, Any]]


class _Inbox:
    """What the node says, as it comes; when the node is gone, so is this process."""

    def __init__(self, channel: Channel) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        #: The last job that is not wanted any more; those before it are not, either.
        self.cancelled = 0
        self._channel = channel
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if "cancel" in message[0]:
                    self.cancelled = message[0]["cancel"]
                else:
                    self.messages.put(message)
        except (EOFError, OSError):
            leave()
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except BaseException:  # what can't be understood can't be answered
            traceback.print_exc()
            os._exit(1)


class _Reporter:
    """Tells the node about progress, not too often."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._told = 0.0

    def __call__(self, fraction: float, note: str = "", /) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            self._channel.send({"progress": float(fraction), "note": as_note(note)}, {})


def leave() -> NoReturn:
    """End this process, where its node is gone, and what jobs have started and left."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _take_gpu(gpu: str) -> None:
    """See one GPU only, and have it compute the same each time: before CUDA begins."""
    from learning.devices import WORKSPACE

    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        os.environ.setdefault(*WORKSPACE)


def _begin(told: dict[str, Any]) -> None:
    """Have the device begin, if it is not the processor: what it takes then is no job's."""
    from learning.devices import CPU, computing_on
    from learning.registry import prepare

    _take_gpu(told["gpu"])
    if told["device"] == CPU:
        return
    for learner in told["prepare"]:
        try:
            with computing_on(told["device"]):
                prepare(learner)
        except Exception:
            continue  # a job will tell, in words


def _limit(nbytes: int) -> None:
    """Let jobs take so many bytes, beyond what this process has now; 0: as many as there are."""
    if not nbytes:
        return
    try:
        status = Path("/proc/self/status").read_text().split()
        taken = int(status[status.index("VmData:") + 1]) << 10
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (taken + nbytes, most))
    except (OSError, ValueError):  # another system: there the owner has to see to it
        return


def _is_limited() -> bool:
    """Whether there is less memory for jobs than for this process."""
    limit, most = resource.getrlimit(resource.RLIMIT_DATA)
    return limit != most


def _unlimit() -> None:
    """Let this process take what it needs to say that there was too little; it is ended then."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _solve(channel: Channel, inbox: _Inbox, message: Message, device: str) -> None:
    from learning.actions import perform
    from learning.devices import computing_on
    from loaders import SourceUnreachable

    values, arrays = message
    number = int(values["number"])

    def cancelled() -> bool:
        return inbox.cancelled >= number

    try:
        with computing_on(values["device"] or device):
            metrics, solution = perform(
                values["solve"], values["values"], arrays, _Reporter(channel), cancelled
            )
        over = cancelled()
        channel.send({"cancelled": True} if over else {"solved": metrics}, {} if over else solution)
    except (EOFError, BrokenPipeError):  # the node is gone
        raise
    except SourceUnreachable as error:
        channel.send({"failed": error.reason, "source": error.source}, {})
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
        # Where C code has no memory to make an exception of, Python raises a SystemError.
        memory = memory or (isinstance(error, SystemError) and _is_limited())
        if memory:
            _unlimit()
        channel.send(
            {
                "failed": f"{type(error).__name__}: {error}",
                "traceback": _story(error), "memory": memory,
            }, {},
        )  # fmt: skip


def _story(error: BaseException) -> str:
    """Return where something was raised: first of all in a user's code, if it was there."""
    from learning import LearningError

    while isinstance(error, LearningError) and error.__cause__ is not None:
        error = error.__cause__  # which was told of with what it was about
    if isinstance(error, LearningError):  # on purpose: where it was raised is nobody's to mend
        return f"{type(error).__name__}: {error}"
    at = error.__traceback__
    frame = at
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_OURS):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame or at))


def serve(descriptor: int, nbytes: int) -> int:
    """Serve the node at the other end of a socket until it is gone; return the exit code.

    Args:
        descriptor: of the socket.
        nbytes: memory that jobs may take.
    """
    from learning.own.kinds import allow

    channel = Channel(socket.socket(fileno=descriptor))
    inbox = _Inbox(channel)
    told = inbox.messages.get()[0]
    scratch = Path(told["scratch"]) if told["scratch"] else None
    allow(tuple(map(Path, told["folders"])), scratch, told["merges"])
    _begin(told)
    _limit(nbytes)
    try:
        channel.send({"ready": True}, {})
        while True:
            _solve(channel, inbox, inbox.messages.get(), told["device"])
    except EOFError:
        leave()
    except MemoryError:
        return OUT_OF_MEMORY
