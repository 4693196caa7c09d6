"""Where the children of a node come from: forked from a template, or each started by itself."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO, Protocol

from console.logs import speaks_json
from mnist_merge import command, training_environment
from protocol.wire.entry import Entry
from protocol.wire.limits import LINE_LETTERS

from .template import NEWS, ORDER, News, Why

log = logging.getLogger("mnist.compute")

#: A process that imports what jobs need is given so long, and one that has, to do as it is told.
READY_SECONDS, ANSWER_SECONDS = 300.0, 10.0
_WHY = {
    Why.SYSTEM: "this system can't", Why.LEARNER: "a learner says so",
    Why.THREADS: "it has threads", Why.DEVICE: "it has an accelerator open",
}  # fmt: skip


class Process(Protocol):
    """A process that may be a child."""

    @property
    def pid(self) -> int:
        """Its number."""

    def kill(self) -> None:
        """Stop it at once; nothing if it has ended."""

    @property
    def seconds(self) -> float:
        """How long it took to start: another one would take as long."""

    def wait(self) -> int | None:
        """Wait for its end; return its exit code, as `subprocess` has it; None: nobody knows."""


class Unborn(EOFError):
    """A child could not be: the process that was to fork or to be it has ended.

    Args:
        process: that one.
    """

    def __init__(self, process: Process) -> None:
        super().__init__("not ready")
        self.process = process


class _Template:
    """A process that imports and prepares, and then forks children or becomes one.

    Args:
        learners: what it prepares for.
        given: the socket of one that somebody else has started; None: one of its own.
    """

    def __init__(self, learners: Sequence[str], given: socket.socket | None = None) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started = time.monotonic()
        self._end = given or self._start(learners)
        self._says = select.poll()
        self._says.register(self._end, select.POLLIN)
        self._lock = threading.Lock()  # between the lines of what it says
        self._ended: dict[int, int] = {}
        self._children = 0  # whose ends it may still tell
        self._dropped = False
        self._lost = False  # what was given is gone
        #: Whether it is prepared, and whether it can't fork.
        self.ready = self.alone = False
        #: How long it took until then.
        self.seconds = 0.0
        self._itself: _Forked | None = None

    def _start(self, learners: Sequence[str]) -> socket.socket:
        ours, theirs = socket.socketpair()
        heard = speaks_json()  # whatever its libraries print would be none
        with theirs:
            self._process = subprocess.Popen(
                command("computing_node.template", str(theirs.fileno()), *learners),
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE if heard else None,
                env=training_environment(),
            )  # fmt: skip
        if self._process.stderr is not None:
            threading.Thread(target=_listen, args=(self._process.stderr,), daemon=True).start()
        return ours

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._lost if self._process is None else self._process.poll() is not None

    @property
    def is_given(self) -> bool:
        """Whether somebody else has started it."""
        return self._process is None

    def wait_ready(self) -> None:
        """Wait until it is prepared.

        Raises:
            EOFError: it is gone, or takes too long.
        """
        with self._lock:
            if not self.ready:
                what, when, why, descriptor = self._next(READY_SECONDS)
                self.alone = what == News.ALONE
                self.seconds = max(0.0, when / 1000 - self._started)
                self.ready = True
                if descriptor is not None:
                    self._itself = _Forked(None, 0, descriptor)
                if self.alone:
                    log.debug(Entry("child.alone", why=_WHY[Why(why)]))

    def fork(self, end: socket.socket, nbytes: int) -> Process:
        """Have it fork a child.

        Args:
            end: of the child's socket.
            nbytes: memory that its jobs may take.

        Raises:
            EOFError: it is gone.
            OSError: there can be no more processes.
        """
        with self._lock:
            self._order(end, nbytes)
            while True:
                what, first, second, descriptor = self._next(ANSWER_SECONDS)
                if what == News.REFUSED:
                    raise OSError(first, os.strerror(first))
                if what == News.BORN:
                    assert descriptor is not None
                    self._children += 1
                    return _Forked(self, first, descriptor)
                self._ended[first] = second

    def become(self, end: socket.socket, nbytes: int) -> Process:
        """Have it be a child itself.

        Raises:
            EOFError: it is gone.
        """
        with self._lock:
            self._order(end, nbytes)
            self._end.close()
            self._lost = True
            if self._process is not None:
                return _Own(self._process, self.seconds)
            if self._itself is None:
                raise EOFError("nothing is known of its end")
            return self._itself

    def end_of(self, pid: int) -> int | None:
        """Return the exit code of a child that it has forked and that has ended; None: unknown."""
        with self._lock:
            with contextlib.suppress(EOFError):
                while pid not in self._ended:
                    _, ended, code, _ = self._next(ANSWER_SECONDS)
                    self._ended[ended] = code
            self._children -= 1
            self._let_go()
            return self._ended.pop(pid, None)

    def _order(self, end: socket.socket, nbytes: int) -> None:
        try:
            socket.send_fds(self._end, [ORDER.pack(nbytes)], [end.fileno()])
        except OSError as error:
            raise EOFError("it is gone") from error

    def _next(self, seconds: float) -> tuple[News, int, int, int | None]:
        """Return what it says next, in so many seconds; a descriptor where it was given one.

        Raises:
            EOFError: it is gone, or takes too long.
        """
        try:
            if not self._says.poll(seconds * 1000):
                raise EOFError("it does not answer")
            said, given, _, _ = socket.recv_fds(self._end, NEWS.size, 1, socket.MSG_WAITALL)
        except OSError as error:
            raise EOFError("it is gone") from error
        if len(said) < NEWS.size:
            raise EOFError("it is gone")
        what, first, second = NEWS.unpack(said)
        return News(what), first, second, given[0] if given else None

    @property
    def process(self) -> Process | None:
        """Return the process, if it was started here."""
        return None if self._process is None else _Own(self._process, self.seconds)

    def drop(self) -> None:
        """Stop it, if it has not ended; its children go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        with self._lock:
            self._lost = self._dropped = True
            self._let_go()

    def _let_go(self) -> None:
        if self._dropped and not self._children:
            self._end.close()


class _Own:
    """A child that this process has started.

    Args:
        process: the same.
        seconds: how long it took to start.
    """

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._process, self.seconds = process, seconds
        self.pid = process.pid

    def kill(self) -> None:
        """Stop it at once; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def wait(self) -> int | None:
        """Wait for its end; return its exit code."""
        return self._process.wait()


class _Forked:
    """A child that a template has forked.

    Args:
        template: that reaps it; None: somebody does who tells nothing.
        pid: its number, there.
        descriptor: of the process: a number may be another's by now.
    """

    def __init__(self, template: _Template | None, pid: int, descriptor: int) -> None:
        self.pid, self.seconds = pid, 0.0
        self._template, self._descriptor = template, descriptor
        self._code: int | None = None
        self._over = False
        self._lock = threading.Lock()

    def kill(self) -> None:
        """Stop it at once; nothing if it has ended."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if not self._over:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def wait(self) -> int | None:
        """Wait for its end; return its exit code, or None if its template is gone, too."""
        if not self._over:
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            ended.poll()
            with self._lock:
                if not self._over:
                    if self._template is not None:
                        self._code = self._template.end_of(self.pid)
                    self._over = True
                    os.close(self._descriptor)
        return self._code


class Births:
    """Has children come into being, as cheaply as their learners allow.

    Args:
        given: the descriptor of the socket of a template that somebody else has started; None:
            there is none.
    """

    def __init__(self, given: int | None = None) -> None:
        self._learners: tuple[str, ...] = ()
        self._template: _Template | None = None
        if given is not None:
            self._template = _Template((), socket.socket(fileno=given))
        self._lock = threading.Lock()  # never held while anybody imports
        self._closed = False
        #: Whether each child is a process that has imported what it needs by itself.
        self.alone = False

    def begin(self, learners: Sequence[str]) -> _Template | None:
        """Have what the next child needs started; nobody waits for it here.

        Args:
            learners: what is prepared for.

        Returns:
            What is to be that child itself, if that is known.

        Raises:
            OSError: there can be no more processes.
        """
        with self._lock:
            if self._closed:
                return None
            self._learners = tuple(learners)
            if self.alone:
                return _Template(self._learners)
            self._current()
            return None

    def bear(self, end: socket.socket, nbytes: int, own: _Template | None) -> Process:
        """Return a new child.

        Args:
            end: of its socket.
            nbytes: memory that its jobs may take.
            own: what `begin` returned for it.

        Raises:
            Unborn: it can't get ready.
            OSError: there can be no more processes.
        """
        while True:
            template = own or self._found()
            may_be_gone = template.ready or template.is_given
            try:
                template.wait_ready()
                if not template.alone:
                    return template.fork(end, nbytes)
                if own is not None or self._taken(template):
                    return template.become(end, nbytes)
            except EOFError as error:
                process = template.process
                template.drop()
                if process is not None and not may_be_gone:
                    raise Unborn(process) from error
            own = self.begin(self._learners)

    def _found(self) -> _Template:
        with self._lock:
            return self._current()

    def _current(self) -> _Template:
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "this node is leaving")
        if self._template is None or self._template.gone:
            if self._template is not None:
                self._template.drop()
            self._template = _Template(self._learners)
        return self._template

    def _taken(self, template: _Template) -> bool:
        """Take a template that can't fork for a child; return whether nobody had it before."""
        with self._lock:
            self.alone = True
            first = self._template is template
            if first:
                self._template = None
            return first

    def close(self) -> None:
        """End the template; the children go on."""
        with self._lock:
            self._closed = True
            if self._template is not None:
                self._template.drop()


def _listen(stream: IO[bytes]) -> None:
    """Log what children say, until they are gone."""
    with stream:
        while line := stream.readline(LINE_LETTERS):
            log.warning(Entry("child.said", line.decode(errors="backslashreplace").rstrip()))
