"""How long jobs take: which of those that run are slow, and for which time has run out."""

from __future__ import annotations

from collections import OrderedDict, deque
from statistics import median
from typing import Any

from .ledger import Job, Task

#: So many durations are remembered of each group of jobs.
REMEMBERED = 64
#: Groups that durations are remembered of, and records of nodes that stop jobs, at most.
GROUPS, RECORDS = 1000, 10_000
#: A job is slow if what is left of it takes so many times as long as a whole one usually does,
SLOW = 1.5
#: and if it has run for so long, in seconds.
LEAST_SECONDS = 1.0
#: While no job of its group has been solved, one is slow that is not half done after so long,
UNKNOWN_SECONDS = 30.0
#: One that takes so many times as long as usual is slow, whatever its node says of its progress.
VERY_SLOW = 4.0
#: or that its node has not begun after so long, though nothing is before it.
IDLE_SECONDS = 10.0
#: Of a node that has just come, maybe back, it is not known yet what it has.
ARRIVED_SECONDS = 2.0
#: A solution of which nothing more arrives for this long is given up.
TRANSFER_SECONDS = 60.0


class Pace:
    """The durations of solved jobs, by group."""

    def __init__(self) -> None:
        #: Those of a group that was heard of last are last.
        self._durations: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._least: OrderedDict[tuple[str, str], float] = OrderedDict()  # where nodes stopped them
        #: Jobs of a group that a picky node stopped since it solved one; below zero: it solved one.
        self._records: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def solved(self, task: Task, now: float) -> None:
        """Count a solved task's duration, if it is known."""
        if task.node.hello.max_job_seconds:
            self._note(task, -1)
        if task.adopted and task.begun is None:
            return
        group = (task.job.data.kind, task.job.data.group)
        durations = self._durations.get(group)
        if durations is None:
            durations = self._durations[group] = deque(maxlen=REMEMBERED)
            _bound(self._durations, GROUPS)
        else:
            self._durations.move_to_end(group)
        durations.append(now - (task.offered if task.begun is None else task.begun))

    def outlasted(self, task: Task, limit: float, now: float) -> None:
        """A node has stopped a task after so many seconds, as its owner wishes.

        Of itself it is believed, but once is no rule where it has solved others; what that means
        for other nodes is believed no further than could be seen.
        """
        group = (task.job.data.kind, task.job.data.group)
        self._note(task, self._records.get((*group, task.node.identity), 0) + 1)
        ran = now - (task.offered if task.begun is None else task.begun)
        least = limit if ran > limit / 2 else ran
        self._least[group] = max(self._least.pop(group, 0.0), least)
        _bound(self._least, GROUPS)

    def _note(self, task: Task, record: int) -> None:
        own = (task.job.data.kind, task.job.data.group, task.node.identity)
        self._records.pop(own, None)
        self._records[own] = record
        _bound(self._records, RECORDS)

    def outlasts(self, job: Job, identity: str, limit: float) -> bool:
        """Whether a node that stops jobs after so many seconds would have to stop this one.

        It is judged by what it did with others of the group, else by what those took elsewhere. Of
        jobs without a group nothing is known.
        """
        group = (job.data.kind, job.data.group)
        if not job.data.group:
            return False
        record = self._records.get((*group, identity))
        if record is not None:
            return record > 0
        durations = self._durations.get(group)
        return median(durations) > limit if durations else self._least.get(group, 0.0) >= limit

    def slow(self, task: Task, now: float) -> bool:
        """Whether another node that begins now would probably be done before this task's.

        What is on its way, to the node or back, would go over the same line once more.
        """
        arriving = task.solution is not None or (task.begun is None and task.job.blobs)
        if arriving and now - task.moved <= IDLE_SECONDS:
            return False
        if now - task.node.joined <= ARRIVED_SECONDS:  # it may be about to bring the solution
            return False
        elapsed = now - (task.offered if task.begun is None else task.begun)
        left = elapsed * (1 / task.progress - 1) if task.progress > 0 else elapsed
        durations = self._durations.get((task.job.data.kind, task.job.data.group))
        if not durations:
            limit = IDLE_SECONDS if task.begun is None else UNKNOWN_SECONDS
            return elapsed > limit and (left >= elapsed or elapsed > VERY_SLOW * limit)
        usual = max(median(durations), LEAST_SECONDS / SLOW)
        return elapsed > SLOW * usual and (left > SLOW * usual or elapsed > VERY_SLOW * usual)


def _bound(remembered: OrderedDict[Any, Any], most: int) -> None:
    """Forget what was heard of longest ago, beyond so many."""
    if len(remembered) > most:
        remembered.popitem(last=False)


def overdue(task: Task, place: int, now: float) -> tuple[str, str]:
    """Return the kind and the story of a task's failure, where time has run out for it.

    Args:
        task: in its node's hands.
        place: how many others its node has in hand before it.
        now: the time.
    """
    data, still = task.job.data, now - task.moved
    if task.whole is not None:
        return "", ""
    limit, patience = data.timeout_seconds, data.stall_seconds
    if limit is not None and task.begun is not None and now - task.begun > limit:
        return "deadline", f"not done within {limit:g} s"
    if task.solution is not None:
        if still > TRANSFER_SECONDS:
            return "transfer", f"its solution stopped arriving {still:.0f} s ago"
        return "", ""
    waits = task.begun is None and (task.id in task.node.waiting or place >= task.node.hello.tasks)
    if patience is not None and still > patience and not waits:
        what = "no progress" if task.begun is not None else "not begun, and nothing of it sent,"
        return "stalled", f"{what} for {still:.3g} s"
    return "", ""
