"""The process that has imported and prepared what jobs need, once for all places of a node.

Or of all nodes that one main node starts on its machine: each orders over a socket of its own.

It forks a child for each place, and another for one that has died: that takes milliseconds where an
import takes seconds, and what was imported is in memory once. It may fork because it has one thread
and holds no lock and no device; where that is not so, it says why, and becomes a child itself.

It is started as `python -m computing_node.template DESCRIPTOR,... LEARNER ...`; over each socket:

    template -> node  READY when         prepared; in milliseconds of the system's clock
                      ALONE when why     prepared, but it can't fork: the first node may order, and
                                         it is that child itself; with a descriptor of it, if it has
    node -> template  an order: the memory that jobs may take, with the socket of a child
    template -> node  BORN pid           with a descriptor of the process, if it was forked
                      REFUSED errno      the system lets it start no process
                      ENDED pid code     as `subprocess` tells it

Each place's child speaks over a socket of its own (`child.py`), so it outlives this process.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum, auto
from pathlib import Path
from typing import NoReturn

from .child import serve

ORDER = struct.Struct("<q")
NEWS = struct.Struct("<iqi")
#: Threads that have been told to end are given so long.
_ENDING_SECONDS = 1.0
#: The driver of an accelerator that is open here would be shared with whoever is forked.
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/accel", "/dev/dxg")
_TASKS, _OPEN = Path("/proc/self/task"), Path("/proc/self/fd")


class News(IntEnum):
    """What a template tells."""

    READY = auto()
    ALONE = auto()
    BORN = auto()
    REFUSED = auto()
    ENDED = auto()


class Why(IntEnum):
    """Why a process may not be forked."""

    SYSTEM = auto()
    LEARNER = auto()
    THREADS = auto()
    DEVICE = auto()


def main(descriptors: list[int], learners: list[str]) -> NoReturn:
    """Serve the nodes at the other ends of some sockets until all are gone.

    Args:
        descriptors: of the sockets.
        learners: what to prepare for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the node's to handle
    nodes = [socket.socket(fileno=each) for each in descriptors]
    with _ending_with(nodes):
        _prepare(learners)
    why = _why_alone(learners)
    if why is None:
        _Template(nodes).run()
    try:
        first, *others = nodes
        for each in others:
            each.close()
        _tell_alone(first, why)
        order = _ordered(first)
        first.close()
    except (BrokenPipeError, ConnectionError, EOFError):  # the node is gone
        os._exit(0)
    _be_child(*order)


@contextmanager
def _ending_with(nodes: list[socket.socket]) -> Iterator[None]:
    """End this process as soon as all nodes are gone, whatever it is doing in this block."""
    over, end = os.pipe()

    def watch() -> None:
        either = select.poll()
        either.register(over, select.POLLIN)
        here = {each.fileno() for each in nodes}
        for each in here:
            either.register(each, getattr(select, "POLLRDHUP", 0))
        while here:
            for each, _ in either.poll():
                if each == over:
                    return
                either.unregister(each)
                here.remove(each)
        os._exit(0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(end)
        thread.join()
        os.close(over)


def _prepare(learners: list[str]) -> None:
    """Import and make ready what jobs of these learners need."""
    import learning.actions  # noqa: F401
    import loaders  # noqa: F401
    from learning.registry import prepare

    for learner in learners:
        try:
            prepare(learner)
        except Exception:
            continue  # a job will tell, in words


def _why_alone(learners: list[str]) -> Why | None:
    """Return why this process may not be forked; None: it may."""
    if sys.platform != "linux" or not _has_descriptors_of_processes():
        return Why.SYSTEM
    if not all(map(_forks, learners)):
        return Why.LEARNER
    until = time.monotonic() + _ENDING_SECONDS
    while len(list(_TASKS.iterdir())) > 1:
        if time.monotonic() > until:
            return Why.THREADS
        time.sleep(0.001)
    for each in _OPEN.iterdir():
        with suppress(OSError):
            if str(each.readlink()).startswith(_DEVICES):
                return Why.DEVICE
    return None


def _has_descriptors_of_processes() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _forks(name: str) -> bool:
    from learning.registry import forks

    try:
        return forks(name)
    except Exception:  # as above
        return True


def _now() -> int:
    return int(time.monotonic() * 1000)


def _tell_alone(node: socket.socket, why: Why) -> None:
    told, myself = NEWS.pack(News.ALONE, _now(), why), []
    with suppress(AttributeError, OSError):
        myself = [os.pidfd_open(os.getpid())]
    socket.send_fds(node, [told], myself)
    for each in myself:
        os.close(each)


def _ordered(node: socket.socket) -> tuple[int, int]:
    """Return the next order: the descriptor of a child's socket, and its bytes.

    Raises:
        EOFError: the node is gone.
    """
    order, descriptors, _, _ = socket.recv_fds(node, ORDER.size, 1, socket.MSG_WAITALL)
    if len(order) < ORDER.size:
        raise EOFError("the node is gone")
    return descriptors[0], ORDER.unpack(order)[0]


def _be_child(descriptor: int, nbytes: int) -> NoReturn:
    """Be a child from now on, and end as one."""
    code = 1
    if os.getpgrp() != os.getpid():  # what jobs start and leave is in its group, and ends with it
        os.setpgid(0, 0)
    try:
        code = serve(descriptor, nbytes)
    except BaseException:
        traceback.print_exc()
    os._exit(code)


class _Template:
    """Forks children as they are ordered, and tells how each has ended.

    Args:
        nodes: who order.
    """

    def __init__(self, nodes: list[socket.socket]) -> None:
        self._nodes = {each.fileno(): each for each in nodes}
        #: Whose each child is.
        self._children: dict[int, socket.socket] = {}
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def run(self) -> NoReturn:
        """Do so until all nodes are gone."""
        gc.collect()
        gc.freeze()  # to look through it would have each child copy it
        either = select.poll()
        either.register(self._woken, select.POLLIN)
        for descriptor, node in self._nodes.items():
            either.register(descriptor, select.POLLIN)
            self._tell(node, News.READY, _now())
        while self._nodes:
            for ready, _ in either.poll():
                if ready == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, 1 << 12)
                    self._bury()
                    continue
                try:
                    order = _ordered(self._nodes[ready])
                except (EOFError, ConnectionError):  # it is gone
                    either.unregister(ready)
                    self._nodes.pop(ready).close()
                    continue
                self._bear(self._nodes[ready], *order)
        os._exit(0)

    def _bear(self, node: socket.socket, descriptor: int, nbytes: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()  # or a child would say it once more
        try:
            pid = os.fork()
        except OSError as error:
            os.close(descriptor)
            return self._tell(node, News.REFUSED, error.errno or 0)
        if pid == 0:
            self._leave()
            _be_child(descriptor, nbytes)
        os.close(descriptor)
        self._children[pid] = node
        process = os.pidfd_open(pid)
        with suppress(BrokenPipeError, ConnectionError):
            socket.send_fds(node, [NEWS.pack(News.BORN, pid, 0)], [process])
        os.close(process)
        return None

    def _leave(self) -> None:
        """In a child: let go of what is the template's."""
        if os.getsid(0) == os.getppid():  # as its node has one: sessions have equal parts of a
            os.setsid()  # processor that many want
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._woken, self._wake):
            os.close(end)
        for node in self._nodes.values():
            node.close()

    def _bury(self) -> None:
        for child in list(self._children):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                with suppress(OSError):  # it had no time to make a group
                    os.killpg(child, signal.SIGKILL)  # before its number can be another's
                pid, status = os.waitpid(child, 0)
                code = os.waitstatus_to_exitcode(status)
                self._tell(self._children.pop(pid), News.ENDED, pid, code)

    @staticmethod
    def _tell(node: socket.socket, what: News, first: int = 0, second: int = 0) -> None:
        with suppress(OSError):  # it is gone, which is seen when it orders
            node.sendall(NEWS.pack(what, first, second))


if __name__ == "__main__":
    main(list(map(int, sys.argv[1].split(","))), sys.argv[2:])
