"""The replier of `mnist-compute`: each job is solved in a child process."""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from learning.own.kinds import OWN_CODE
from protocol import JobSolutionDataType
from protocol.carrier.logbudget import LogBudget
from protocol.wire.entry import Entry
from protocol.wire.limits import NEWCOMERS_LINES, NEWCOMERS_LOG_BYTES
from protocol.wire.words import safe_name

from .births import READY_SECONDS, Births, Process, Unborn
from .child import OUT_OF_MEMORY
from .devices import Devices
from .errors import ChildDied, NodeError, OverLimit, SourceUnreachable, TaskCancelled
from .replier import JobReplier, Task
from .scratch import Scratch
from .sharing import Channel

log = logging.getLogger("mnist.compute")

#: A job that is not wanted any more is asked to stop this often, and after so long it is made to,
#: or after as long as its child took to start: to kill it would cost that once more.
LOOK_SECONDS = 0.02
CANCEL_SECONDS = 2.0
#: From the second death in a row on the next child waits so long, then twice as long each time.
REST_SECONDS, MAX_REST_SECONDS = 0.5, 16.0
#: So ends what gets no memory and can't raise: C++ aborts, glibc can't start a thread (127).
_STARVED = (-signal.SIGABRT, 127)


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one has no name of its own
        return f"signal {number}"


class TaskRaised(NodeError):
    """A job raised in the child; carries the traceback from there."""

    def __init__(self, message: str, remote_traceback: str) -> None:
        super().__init__(message)
        self.remote_traceback = remote_traceback


class Child:
    """One child process and the channel to it.

    Args:
        births: where it comes from.
        learners: what it is prepared for.
        max_bytes: memory that its jobs may take; 0: any.
        devices: what the node has.
        seat: which place of the node it is for: it gets that one's GPU.
        folders, scratch: where it looks for users' code, and puts such as comes with jobs: what is
            left there ends with it.
        merges: whether it takes users' code that merges.

    Raises:
        OSError: there can be no more processes.
    """

    def __init__(
        self, births: Births, learners: Sequence[str], max_bytes: int, devices: Devices, seat: int,
        folders: Sequence[str], scratch: str, merges: bool,
    ) -> None:  # fmt: skip
        self._births, self._max_bytes = births, max_bytes
        self._own = births.begin(learners)
        ours, self._theirs = socket.socketpair()
        self.channel = Channel(ours)
        self.process: Process | None = None if self._own is None else self._own.process
        self.ready = False
        self.cancel_seconds = CANCEL_SECONDS
        self._limited = max_bytes > 0
        self._number = 0
        self._scratch = scratch
        self.seat = seat
        #: Digest of the users' code that it has run, and that may have changed anything in it.
        self.code = ""
        told = {
            "prepare": list(learners), "device": devices.kind, "gpu": devices.at(seat),
            "folders": list(folders), "scratch": scratch, "merges": merges,
        }  # fmt: skip
        self.channel.send(told, {})

    def wait(self) -> None:
        """Wait until it is ready.

        Raises:
            EOFError: it is gone, or takes too long.
            OSError: there can be no more processes.
        """
        if not self.ready:
            try:
                with self._theirs:
                    self.process = self._births.bear(self._theirs, self._max_bytes, self._own)
            except Unborn as error:
                self.process = error.process
                raise
            if not self.channel.wait(READY_SECONDS):
                self.kill()
                raise EOFError("not ready in time")
            self.channel.receive()
            self.ready = True
            self.cancel_seconds = max(CANCEL_SECONDS, self.process.seconds)

    def solve(self, task: Task) -> JobSolutionDataType:
        """Have a task solved.

        Raises:
            TaskRaised: the job raised.
            OverLimit: it wants more memory than it may have.
            SourceUnreachable: what it needs can't be reached from here.
            TaskCancelled: it is not wanted any more, and has stopped.
            EOFError: the child is gone.
        """
        self._number += 1
        values = {
            "solve": task.job.kind, "number": self._number, "values": dict(task.job.parameters),
            "device": task.job.device,
        }  # fmt: skip
        self.channel.send(values, task.job.arrays)
        told: dict[str, Any]
        while True:
            self._wait(task)
            told, arrays = self.channel.receive()
            if "progress" in told:
                task.progress(told["progress"], told["note"])
            elif task.cancelled:
                raise TaskCancelled("cancelled")
            elif "failed" in told and told.get("source"):
                raise SourceUnreachable(told["source"], told["failed"])
            elif "failed" in told and told["memory"]:
                raise OverLimit(f"it wants more memory than it may have: {told['failed']}")
            elif "failed" in told:
                raise TaskRaised(told["failed"], told["traceback"])
            else:
                return JobSolutionDataType(arrays, told["solved"])

    def _wait(self, task: Task) -> None:
        """Wait for a word of the child; see that it stops if the task is cancelled."""
        since: float | None = None
        while not self.channel.wait(LOOK_SECONDS):
            if not task.cancelled:
                continue
            if since is None:
                since = time.monotonic()
                self.channel.send({"cancel": self._number}, {})
            elif time.monotonic() > since + self.cancel_seconds:
                self.kill()

    def kill(self) -> None:
        """Stop it at once."""
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        """Stop it and give everything back."""
        self.kill()
        self._theirs.close()
        self.channel.close()
        self._code()
        self.clear()

    def clear(self) -> None:
        """Remove what it has put on disk, once it has ended."""
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _code(self) -> int | None:
        """Wait for its end; return its exit code, if anybody knows."""
        return None if self.process is None else self.process.wait()

    @property
    def starved(self) -> bool:
        """Whether it has ended for want of the memory that it may have."""
        code = self._code()
        return code == OUT_OF_MEMORY or (self._limited and code in _STARVED)

    def epitaph(self) -> str:
        """Return how the process ended, in a sentence."""
        code = self._code()
        if self.starved:
            return "it wants more memory than it may have (--max-memory)"
        if not self.ready:
            return f"its process did not get ready: it ended with exit code {code}"
        if code is None:
            return "its process is gone, as was the one that had started it and would know why"
        if code == -signal.SIGKILL:
            return "its process was killed (SIGKILL): by hand, or by the system for want of memory"
        if code < 0:
            crashed = self._limited and code in (-signal.SIGSEGV, -signal.SIGBUS)
            hint = "; it may have too little memory (--max-memory)" if crashed else ""
            return f"its process was ended by {_name_of_signal(-code)}{hint}"
        return f"its process ended with exit code {code}"


class ChildReplier(JobReplier):
    """Solves training jobs in child processes, one for each place of the node.

    Args:
        places: how many children to keep warm.
        learners: that it solves jobs for; None: any.
        max_bytes: memory that the jobs of all children may take together; 0: any.
        template: the descriptor of the socket of one that is there already; None: there is none.
        devices: what jobs run on; None: the processor.
        folders: where users' code is looked for, beside what is installed.
        accepts_code: whether code is taken that comes with jobs.
    """

    def __init__(
        self, places: int, learners: Sequence[str] | None = None, max_bytes: int = 0,
        template: int | None = None, devices: Devices | None = None, folders: Sequence[str] = (),
        accepts_code: bool = False,
    ) -> None:  # fmt: skip
        self._places = places
        self._takes = learners
        self._max_bytes = max_bytes // places
        self._devices = devices or Devices()
        self._seats = Counter(dict.fromkeys(range(places), 0))  # children at each
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._choosing = threading.Lock()
        self._at_work: set[Child] = set()
        self._learners: list[str] = []
        self._births = Births(template)
        self._folders = [str(Path(each).absolute()) for each in folders]
        self._scratch = Scratch() if accepts_code else None
        self._started = 0
        self._deaths = 0  # in a row
        self._closed = threading.Event()
        self._lines = LogBudget(NEWCOMERS_LINES, NEWCOMERS_LOG_BYTES)

    def prepare(self, kinds: tuple[str, ...]) -> None:
        """Start the children and let them import what they will need."""
        taken = kinds if self._takes is None else self._takes
        self._learners = [kind for kind in kinds if kind and kind in taken]
        while self._learners and self._started < self._places:
            self._idle.put(self._start())

    def _start(self) -> Child:
        seat = min(self._seats, key=self._seats.__getitem__)
        self._seats[seat] += 1
        child = Child(
            self._births, self._learners, self._max_bytes, self._devices, seat, self._folders,
            "" if self._scratch is None else self._scratch.part(),
            self._takes is None or OWN_CODE in self._takes,
        )  # fmt: skip
        self._started += 1
        return child

    def make_ready(self, task: Task) -> None:
        """Wait for a child that is ready; one that is not yet is left alone if the task goes."""
        task.on_cancel(_nothing)
        code = _code_of(task)
        try:
            child = self._idle_for(code)
            if child.code not in ("", code):  # another's code may have changed anything in it
                self._dismiss(child)
                child = self._start()
        except queue.Empty:
            self._rest()
            child = self._start()
        child.code = child.code or code
        try:
            child.wait()
        except EOFError as error:
            raise self._lost(child, task) from error
        except OSError:  # the system has no process left
            self._started -= 1
            child.close()
            raise
        if task.cancelled:
            self._idle.put(child)
            raise TaskCancelled("cancelled")
        task.place = child

    def _idle_for(self, code: str) -> Child:
        """Return a child that is idle, one that may run code without a new process if there is.

        Raises:
            queue.Empty: none is idle.
        """
        with self._choosing:
            found = [self._idle.get_nowait()]
            with contextlib.suppress(queue.Empty):
                while True:
                    found.append(self._idle.get_nowait())
            best = max(found, key=lambda child: (child.code == code, not child.code))
            for child in found:
                if child is not best:
                    self._idle.put(child)
        if self._closed.is_set():
            self.close()  # this very moment
        return best

    def _dismiss(self, child: Child) -> None:
        child.close()
        self._started -= 1
        self._seats[child.seat] -= 1

    def _rest(self) -> None:
        """Wait before another child is started where they die all the time."""
        if self._deaths > 1:
            seconds = min(REST_SECONDS * 2 ** min(self._deaths - 2, 8), MAX_REST_SECONDS)
            self._closed.wait(seconds)

    def solve(self, task: Task) -> JobSolutionDataType:
        """Solve a task in the child that is ready for it."""
        if task.place is None:
            self.make_ready(task)
        begun = time.monotonic()
        child: Child = task.place
        action = safe_name(str(task.job.parameters.get("action"))[:80])
        kind, main = task.job.kind, task.client_id
        self._say(Entry("task.started", job=task.task_id, kind=kind, action=action, main=main))
        self._at_work.add(child)
        try:
            solution = child.solve(task)
        except (TaskRaised, SourceUnreachable):
            self._is_well(child)
            raise
        except OverLimit:  # who knows what it still holds
            child.kill()
            self._lost(child, task)
            raise
        except TaskCancelled:
            self._say(Entry("task.cancelled", job=task.task_id))
            self._is_well(child)
            raise
        except EOFError as error:
            raise self._lost(child, task) from error
        except BaseException:  # no memory to share arrays in, say: the child may be confused
            child.kill()
            self._lost(child, task)
            raise
        finally:
            self._at_work.discard(child)
        self._is_well(child)
        seconds = round(time.monotonic() - begun, 3)
        self._say(Entry("task.solved", job=task.task_id, seconds=seconds))
        return solution

    def _is_well(self, child: Child) -> None:
        self._deaths = 0
        self._idle.put(child)
        if self._closed.is_set():
            self.close()  # this very moment

    def _lost(self, child: Child, task: Task) -> NodeError:
        epitaph = child.epitaph()
        child.channel.close()
        child.clear()
        self._started -= 1
        self._seats[child.seat] -= 1
        self._deaths += 1
        if self._deaths < 2 and not self._closed.is_set():
            with contextlib.suppress(OSError):  # a later job will meet the same trouble, and tell
                self._idle.put(self._start())  # warm for the next job
        if self._closed.is_set():
            self.close()
        if task.cancelled:
            self._say(Entry("task.cancelled", job=task.task_id))
            return TaskCancelled("cancelled")
        return OverLimit(epitaph) if child.starved else ChildDied(epitaph)

    def _say(self, entry: Entry) -> None:
        if self._lines.take(len(str(entry)), time.monotonic()):
            log.info(entry)

    def close(self) -> None:
        """End the children."""
        self._closed.set()
        for child in list(self._at_work):
            child.cancel_seconds = CANCEL_SECONDS
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
        self._births.close()
        if self._scratch is not None:
            self._scratch.close()


def _code_of(task: Task) -> str:
    """Return the digests of the users' code that a task is for; empty: of none."""
    values = task.job.parameters
    merge = values.get("merge")
    every = values.get("code"), merge.get("code") if isinstance(merge, Mapping) else None
    return "+".join(str(each.get("digest", "?")) for each in every if isinstance(each, Mapping))


def _nothing() -> None:
    return
