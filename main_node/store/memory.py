"""A training run's memory: the journal of its main node, in the run directory."""

from __future__ import annotations

import errno
import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from learning import DamagedFile, Diverged, MergeError, UnfitSolution, differences, software
from learning.devices import CPU
from protocol import JobSolutionDataType
from protocol.machine.effects import (
    Benched,
    Doubled,
    Effect,
    Fail,
    Joined,
    Left,
    Offered,
    Refused,
    Retry,
)
from protocol.machine.ledger import first_task
from protocol.wire.words import from_json, safe_line

from ..errors import RefusedSolution, StorageError
from .database import RunDatabase
from .directory import Kept, RunDirectory


class Expected(NamedTuple):
    """A job whose solution is wanted.

    Args:
        work: digest of all that the job is made of.
        first: returns the digest that the first release made of it; nothing if none.
        check: raises where a solution of it is none.
        device: that it wants; empty: what its node has.
        shapes: whether what comes of it is part of the model.
    """

    work: str
    first: Callable[[], str]
    check: Callable[[JobSolutionDataType], object]
    device: str = ""
    shapes: bool = True


#: Task ids of a run's n-th start begin at n times this: no life knows how far the last one got.
LIFE = 1 << 32
#: Of one start, at most; what is more is not worth a disk.
MAX_EVENTS = 100_000
#: While there are too many open files, a solution is tried again for so long.
PATIENCE_SECONDS, AGAIN_SECONDS = 60.0, 0.2
#: So many combinations of versions are remembered, and kinds of devices.
MAX_SOFTWARE, MAX_DEVICES = 100, 100
#: Nodes whose devices are remembered: those that came last.
_MOST_NODES = 10_000


class RunMemory:
    """The `Journal` of a run; solutions are files, the rest is in `run.db`.

    Args:
        directory: of the run.
        database: of the run.
        say: told what is worth a line.
    """

    def __init__(
        self, directory: RunDirectory, database: RunDatabase, say: Callable[[str], object] = str
    ) -> None:
        self._directory, self._database, self._say = directory, database, say
        self._ids = database.jobs()
        self._next = max(self._ids.values(), default=0) + 1
        self._solved = database.solved()
        self._events = 0
        self._withdrawn: set[str] = set()
        self._lock = threading.Lock()  # of what is withdrawn, and not to be written any more
        self._names: dict[int, str] = {}
        self._expected: dict[str, Expected] = {}
        #: How many times the run has been started, this time included.
        self.starts = _number(database.fact("starts")) + 1
        self._main = database.fact("main") or f"main.{uuid.uuid4().hex[:8]}"
        #: What has computed for this run, main node and nodes: combinations of versions, as JSON.
        self._software = _software(database.fact("software"))
        #: What nodes said that jobs run on there, and the kinds that this run's jobs ran on.
        self._accelerators: dict[str, str] = {}
        self._devices = _texts(database.fact("devices"))
        self._before = {side: list(told) for side, told in self._software.items()}
        database.state(main=self._main)

    def begin(self) -> None:
        """Count this start: all that it needs is there, and nothing is sent yet."""
        self._database.state(starts=self.starts, ending="")
        self._database.write([], [("started", {"start": self.starts})])
        self._compare("main", "this machine", software())

    @property
    def main(self) -> str:
        """Id of the main node in every start of the run."""
        return self._main

    @property
    def first_task(self) -> int:
        """A number above every task id of earlier starts."""
        return first_task(self._main) + (self.starts - 1) * LIFE

    @property
    def tasks(self) -> Mapping[int, tuple[int, str]]:
        """Tasks from earlier starts whose jobs have no solution on disk."""
        has = {name: self._directory.has_solution(name) for name in self._ids}
        return {
            task: (job, node)
            for task, (name, job, node) in self._database.tasks().items()
            if not has[name]
        }

    @property
    def devices(self) -> list[str]:
        """The kinds of devices that jobs of this run learned on, the first one first."""
        return list(self._devices)

    # What the training program says.

    def expect(self, jobs: Mapping[str, Expected]) -> None:
        """Jobs are about to be submitted, or their solutions to be asked for.

        Args:
            jobs: by name, the same in every start.
        """
        new = [name for name in jobs if name not in self._ids]
        numbers = dict(zip(new, itertools.count(self._next), strict=False))
        self._database.add_jobs(numbers)
        self._next += len(new)
        self._ids |= numbers
        for name, expected in jobs.items():
            self._expected[name] = expected
            self._names[self._ids[name]] = name

    def has(self, name: str) -> bool:
        """Whether there seems to be a solution of an expected job; fast."""
        return self._directory.has_solution(name)

    def solution(self, name: str) -> Kept:
        """Return the solution of an expected job.

        Raises:
            DamagedFile: it can't be used, and why.
        """
        expected = self._expected[name]
        kept = self._directory.solution(name, lambda w: w == expected.work or w == expected.first())
        if kept is None:
            raise DamagedFile(f"the solution of {name} is gone from the run directory")
        try:
            expected.check(JobSolutionDataType(kept.arrays, kept.values))
        except MergeError as error:
            raise DamagedFile(f"the solution of {name}: {error}") from error
        if name not in self._solved:  # written at the very end of a start, or before a new run.db
            self._solved.add(name)
            self._database.job_kept(self._ids[name], kept.node)
        return kept

    def drop(self, name: str) -> None:
        """Forget the solution of a job, which is no good; it is asked for again."""
        self._directory.drop_solution(name)

    def forget(self, name: str) -> None:
        """Forget all of a job, and of what may still come of it: the run ended before it."""
        with self._lock:
            self._withdrawn.add(name)
            self._directory.drop_solution(name)
            self._solved.discard(name)
            if name in self._ids:
                self._database.job_forgotten(self._ids[name], name)

    # What the main node says, in its scribe's thread, but for `number`.

    def number(self, name: str) -> int:
        """Return the id of an expected job."""
        return self._ids[name]

    def _compare(self, side: str, who: str, now: Mapping[str, str]) -> None:
        """Say so where a run goes on with other versions than have computed for it.

        The same seeds give the same model with the same arithmetic only.
        """
        told, known = json.dumps(dict(now), sort_keys=True), self._software.setdefault(side, [])
        if told in known or len(known) >= MAX_SOFTWARE:
            return
        known.append(told)
        self._database.state(software=json.dumps(self._software))
        before = self._before.get(side, [])
        if before:
            changed = differences(json.loads(before[0]), dict(now))
            self._say(
                f"{who} computes with {changed}: the model may differ in its last digits from what"
                " this run would have come to"
            )

    def note(self, effects: Sequence[Effect]) -> None:
        """Write tasks and events down."""
        for effect in effects:
            if isinstance(effect, Joined):
                self._compare("nodes", f"node {effect.node}", effect.hello.versions)
                self._accelerators.pop(effect.node, None)
                self._accelerators[effect.node] = effect.hello.accelerator
                if len(self._accelerators) > _MOST_NODES:
                    del self._accelerators[next(iter(self._accelerators))]
        with self._lock:
            left = [effect for effect in effects if not self._is_withdrawn(effect)]
            tasks = [(e.task, e.job, e.node) for e in left if isinstance(e, Offered)]
            events = [event for event in map(self._event, left) if event is not None]
            self._events += len(events)
            if self._events > MAX_EVENTS:  # somebody makes them
                events = []
            if tasks or events:
                self._database.write(tasks, events)

    def _is_withdrawn(self, effect: Effect) -> bool:
        name = self._names.get(getattr(effect, "job", 0))
        return name in self._withdrawn

    def _event(self, effect: Effect) -> tuple[str, dict[str, Any]] | None:
        match effect:
            case Joined(node, _, key):
                return "joined", {"node": node, **({"key": key} if key else {})}
            case Left(node, reason, _, _, key):
                return "left", {"node": node, **({"key": key} if key else {}), "reason": reason}
            case Refused(name, reason):
                return "refused", {"node": name, "reason": reason}
            case Benched(node, reason, seconds):
                return "benched", {"node": node, "reason": reason, "seconds": seconds}
            case Doubled(job, slow, node):
                return "doubled", {"job": self._names.get(job), "slow": slow, "node": node}
            case Retry(job, attempt):
                return "attempt", {
                    "job": self._names.get(job), "node": attempt.node, "kind": attempt.kind,
                    "message": attempt.message,
                }  # fmt: skip
            case Fail(job, story):
                last = story[-1]
                return "failed", {
                    "job": self._names.get(job), "node": last.node, "kind": last.kind,
                    "message": last.message,
                }  # fmt: skip
        return None

    def keep(self, job: int, solution: JobSolutionDataType, node: str) -> JobSolutionDataType:
        """Check a solution and write it to disk; hand over its metrics only."""
        name = self._names[job]
        try:
            self._expected[name].check(solution)
        except UnfitSolution as error:
            raise RefusedSolution(str(error), lie=not isinstance(error, Diverged)) from error
        with self._lock:
            if name not in self._withdrawn:
                self._write(name, Kept(node, dict(solution.metrics), solution.arrays))
                self._solved.add(name)
                self._database.job_kept(job, node)
        self._ran_on(self._expected[name], node)
        return JobSolutionDataType(b"", solution.metrics)

    def _ran_on(self, expected: Expected, node: str) -> None:
        """Remember what a job that is part of the model ran on; say so where that is another kind.

        GPUs of another model, and processors beside them, come to other last digits.
        """
        if not expected.shapes or len(self._devices) >= MAX_DEVICES:
            return
        has = self._accelerators.get(node, "")
        kind = (has or CPU) if expected.device != CPU else CPU
        if kind in self._devices:
            return
        self._devices.append(kind)
        self._database.state(devices=json.dumps(self._devices))
        if len(self._devices) == 2:
            self._say(
                f"jobs of this run have run on {' and '.join(self._devices)}: the same run again"
                " may come to a model that differs in its last digits; --device has all of them run"
                " on one kind"
            )

    def _write(self, name: str, kept: Kept) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._directory.write_solution(name, self._expected[name].work, kept)
            except (TypeError, ValueError) as error:
                raise RefusedSolution(f"it can't be written: {error}") from error
            except StorageError as error:
                passing = getattr(error.__cause__, "errno", 0) in (errno.EMFILE, errno.ENFILE)
                if not passing or time.monotonic() > until:
                    raise
                time.sleep(AGAIN_SECONDS)  # connections have used up all descriptors


def _number(fact: str | None) -> int:
    """Return a fact that is a number; 0 where it is none, or damaged."""
    try:
        return max(0, int(fact or 0))
    except ValueError:
        return 0


def _texts(fact: str | None) -> list[str]:
    """Return a fact that is a list of texts; nothing where it is none, or damaged."""
    try:
        told: Any = from_json(fact or "[]")
    except ValueError:
        return []
    return (
        [safe_line(each) for each in told if isinstance(each, str)]
        if isinstance(told, list)
        else []
    )


def _software(fact: str | None) -> dict[str, list[str]]:
    """Return what has computed for a run; nothing where that is damaged."""
    try:
        told: Any = from_json(fact or "{}")
        sides = {str(side): [json.dumps(from_json(each)) for each in told[side]] for side in told}
    except (ValueError, TypeError):
        return {}
    return {side: each for side, each in sides.items() if all(e.startswith("{") for e in each)}
