"""What a computing node's user writes: how to solve a job."""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

from protocol import JobDataType, JobSolutionDataType
from protocol.wire.entry import Entry
from protocol.wire.words import as_note

from .errors import ChildDied, OverLimit, SourceUnreachable, TaskCancelled

log = logging.getLogger("mnist.compute")

Callback = Callable[[JobDataType, int, str], JobSolutionDataType]


class Task:
    """A job in a replier's hands.

    Attributes:
        job: what to solve.
        task_id: the job's id at its main node.
        client_id: the main node's id.
    """

    __slots__ = ("_cancelled", "_given_up", "_lock", "_on_cancel", "_running", "client_id",
                 "fraction", "job", "key", "note", "place", "task_id")  # fmt: skip

    def __init__(self, key: Any, job: JobDataType, task_id: int, client_id: str) -> None:
        self.key = key
        self.job = job
        self.task_id = task_id
        self.client_id = client_id
        self.fraction = 0.0
        self.note = ""
        #: What the replier has made ready for it (`JobReplier.make_ready`).
        self.place: Any = None
        self._lock = threading.Lock()  # a task may end and be cancelled at the same moment
        self._running = False
        self._cancelled = False
        self._given_up = False
        self._on_cancel: Callable[[], None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the solution any more: stop if you can."""
        return self._cancelled

    def progress(self, fraction: float, note: str = "") -> None:
        """Say how much is done, 0 to 1, and a line on it; it goes out with the next heartbeat.

        Raises:
            TypeError, ValueError: the fraction is no number.
        """
        self.fraction, self.note = float(fraction), as_note(note)

    def on_cancel(self, stop: Callable[[], None]) -> None:
        """Call `stop`, maybe from another thread, if the task is cancelled while it runs."""
        with self._lock:
            self._on_cancel = stop
            if self._cancelled:
                self._stop_quietly(stop)

    def begin(self) -> bool:
        """Take the task; return False if it was cancelled meanwhile."""
        with self._lock:
            self._running = not self._cancelled
            return self._running

    def end(self) -> bool:
        """Let go of the task; return False if `cancel` gave its thread up meanwhile."""
        with self._lock:
            self._running = False
            return not self._given_up

    def cancel(self) -> bool:
        """Cancel the task; return whether its thread is given up: nothing can stop it."""
        with self._lock:
            self._cancelled = True
            self._given_up = self._running and self._on_cancel is None
            if self._running and self._on_cancel is not None:
                self._stop_quietly(self._on_cancel)
            return self._given_up

    @staticmethod
    def _stop_quietly(stop: Callable[[], None]) -> None:
        try:
            stop()
        except Exception:
            log.exception(Entry("task.uncancelled"))


class JobReplier:
    """Solves jobs; subclass it and override `process_job`."""

    def process_job(self, job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        """Solve one job; called from a thread of its own for each place that the node has.

        Args:
            job: what to solve.
            task_id: the job's id at its main node.
            client_id: the main node's `get_id()`.

        Returns:
            The solution; text, bytes or arrays by name will do as well.

        Raises:
            SourceUnreachable: what the job needs can't be reached from here; another node gets it,
                and that counts as no attempt.
        """
        raise NotImplementedError("override process_job")

    def solve(self, task: Task) -> JobSolutionDataType:
        """Solve a task; override this one instead to report progress or stop when cancelled."""
        return self.process_job(task.job, task.task_id, task.client_id)

    def make_ready(self, task: Task) -> None:
        """Get ready for a task; what that takes is not the task's time, and it may go elsewhere."""

    def prepare(self, kinds: tuple[str, ...]) -> None:
        """Warm up for these kinds of job; called when a main node takes this node in."""

    def close(self) -> None:
        """Let go of whatever it holds; called once, at the end."""


class CallbackReplier(JobReplier):
    """A replier made of a function of (job, task id, client id)."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    def process_job(self, job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        """Solve one job by calling the function."""
        return self._callback(job, task_id, client_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task: a solution, or a failure in a word, a sentence and a traceback.

    Where there is a `source`, that can't be reached, and the task has not failed.
    """

    task: Task
    solution: JobSolutionDataType | None
    seconds: float
    kind: str = ""
    message: str = ""
    traceback: str = ""
    source: str = ""


#: Of one main node: the next to begin first, by priority, then in order.
_Heap = list[tuple[int, int, Task]]


class Workers:
    """Threads that solve tasks, one for each place of a node.

    Main nodes have their turns in the order in which their tasks came; whose turn it is, has its
    most urgent one begun. So no main node's priorities are in another one's way.

    Args:
        replier: solves the tasks.
        places: how many at once.
        report: called from these threads with each task that begins and each `Outcome`.
    """

    def __init__(
        self, replier: JobReplier, places: int, report: Callable[[Task | Outcome], None]
    ) -> None:
        self._replier = replier
        self._report = report
        self._places = places
        self._turns: queue.SimpleQueue[_Heap | None] = queue.SimpleQueue()
        self._heaps: dict[int, _Heap] = {}  # by main node
        self._order = count()
        for _ in range(places):
            self._hire()

    def _hire(self) -> None:
        threading.Thread(target=self._work, name="worker", daemon=True).start()

    def put(self, task: Task) -> None:
        """Solve the task when there is a place."""
        heap = self._heaps.get(task.key[0])
        if heap is None:
            heap = self._heaps[task.key[0]] = []
        # In one step, as far as other threads can see: only numbers are compared.
        heappush(heap, (-task.job.priority, next(self._order), task))
        self._turns.put(heap)

    def forget(self, main: int) -> None:
        """Be done with a main node, by its number."""
        self._heaps.pop(main, None)

    def cancel(self, task: Task) -> None:
        """Drop a task that waits; stop one that runs, or leave it behind and go on without."""
        if task.cancel():
            self._hire()

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._places):
            self._turns.put(None)

    def _work(self) -> None:
        while (heap := self._turns.get()) is not None:
            task = heappop(heap)[2]
            if not task.begin():
                continue
            outcome = self._solve(task)
            if not task.end():
                return  # another thread took this place
            if not task.cancelled:
                self._report(outcome)

    def _solve(self, task: Task) -> Outcome:
        begun = time.perf_counter()
        try:
            self._replier.make_ready(task)
            begun = time.perf_counter()
            self._report(task)
            solution = _as_solution(self._replier.solve(task))
            solution.announce()  # raises here what can't be sent, not in the node's own thread
            return Outcome(task, solution, time.perf_counter() - begun)
        except TaskCancelled:
            return Outcome(task, None, 0.0, "cancelled", "cancelled")
        except ChildDied as error:
            return Outcome(task, None, 0.0, "crashed", str(error))
        except OverLimit as error:
            return Outcome(task, None, 0.0, "limit", str(error))
        except SourceUnreachable as error:
            source = str(error.source or "unnamed")  # whatever whose program has put there
            return Outcome(task, None, 0.0, "unreachable", str(error.reason), source=source)
        except BaseException as error:
            told = getattr(error, "remote_traceback", "")  # of a job that raised in a child
            message = str(error) if told else f"{type(error).__name__}: {error}"
            told = told or traceback.format_exc()
            return Outcome(task, None, 0.0, "raised", message, told)


def _as_solution(value: Any) -> JobSolutionDataType:
    if isinstance(value, JobSolutionDataType):
        return value
    if isinstance(value, (str, bytes, Mapping)):
        return JobSolutionDataType(value)
    raise TypeError(f"process_job returned {type(value).__name__}, not a JobSolutionDataType")
