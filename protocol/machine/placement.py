"""Which job goes to which node: queues, credit, affinity, and evening out what waits.

Jobs go by priority, then in the order of submission, whatever their kinds. What nobody takes, or
nobody can reach a source of, is in nobody's way.

Where only so many nodes may have tasks at once, who has none gets none while as many others have
some; and those come first that have had some before, so that it is the same ones while they last.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import NamedTuple

from ..wire.limits import MAX_PRIORITY
from .ledger import Job, Node, Task, recallable, yielding
from .pace import Pace

#: How far into the queue to look for a job whose arrays a node holds already.
AFFINITY_DEPTH = 32
#: And how far where a node's owner does not let it take what is before.
UNFIT_DEPTH = 1000
#: Among how many idle nodes to draw, so that several main nodes don't all pick the same one.
DRAW = 8
#: Among how many nodes to look for one: with a thousand, looking would cost more than the job.
LOOK = 16
#: A job that has waited so long is given to whoever takes it, where it failed before or not.
SHUN_SECONDS = 60.0
#: A job of so many bytes is too large for no node.
SMALL_BYTES = 1 << 16
#: A job runs at so many nodes at once, at most.
RUNNERS = 2
#: So many urgent jobs have something asked back for them from one tick to the next,
OVERTAKES = 64
#: each from one of so many nodes.
YIELDERS = 64
#: A job may be asked back so often at once, where several main nodes want the same nodes; then it
#: waits so long at a node, and twice as long each time, until it is asked back again for one that
#: looks idle; and no longer than that.
HASTY_MOVES, LEAST_PATIENCE, MOST_PATIENCE = 8, 0.25, 4.0


class _Class(NamedTuple):
    """Jobs that wait in one queue.

    Attributes:
        back: how far from the most urgent.
        reserved: whether a node may come back with them: then others get them when nothing else
            is left that is as urgent.
        kind: of the jobs.
        device: that they want.
    """

    back: int
    reserved: bool
    kind: str
    device: str


def _patience(moves: int) -> float:
    """Return how long a job waits at a node before it is asked back for another one, seconds.

    The first times that is at once. Where it still waits, nodes that look idle have no place yet:
    they start the process that trains, say. It would go to and fro among them at any speed.
    """
    if moves < HASTY_MOVES:
        return 0.0
    return min(MOST_PATIENCE, LEAST_PATIENCE * 2.0 ** min(moves - HASTY_MOVES, 16))


_Queue = OrderedDict[int, Job]  # by id, first the next to be given


class Placement:
    """The jobs that wait for a node, and the nodes that wait for a job.

    Args:
        nodes: every node, by routing id; the dispatcher's own mapping.
        seed: of the draw among idle nodes. It never shows in a result.
        most: so many nodes may have tasks at once; None: all.
    """

    def __init__(self, nodes: Mapping[bytes, Node], seed: str, most: int | None = None) -> None:
        self._nodes, self._most = nodes, most
        self._holders: dict[bytes, Node] = {}  # those with tasks; kept where there is a most
        self._random = random.Random(seed)
        self.pace = Pace()
        #: The time, as of the last message or tick.
        self.now = 0.0
        #: Whether a node that was lost a moment ago may come back, and is worth waiting for.
        self.hopeful = False
        self._queues: dict[_Class, _Queue] = {}  # only those of priority 0 are kept when empty
        self._orders = count(1)
        self._least = MAX_PRIORITY + 1  # the lowest that was ever heard of
        self._pressing: list[Job] = []  # that something may have to be asked back for
        self._overtakes: dict[int, Task] = {}  # what has been, by job
        self._overtakes_left = OVERTAKES
        self._stranded: dict[int, Job] = {}  # nobody who is here can reach what they need
        self._unsettled = False  # whether that may have changed
        # Those with credit left, the longest hungry first: with nothing to do, and with something.
        self._idle: dict[bytes, Node] = {}
        self._loaded: dict[bytes, Node] = {}
        self._crowded: dict[bytes, Node] = {}  # with tasks that wait

    # Jobs.

    def add(self, job: Job, *, first: bool = False, reserved: bool = False) -> None:
        """Queue a job.

        Args:
            job: in no queue.
            first: before the others of its priority, not behind them.
            reserved: a node may come back with it: others get it when nothing else is left.
        """
        job.queued = self.now
        if not job.order:
            job.order = next(self._orders)
        data = job.data
        # Made faster than a `_Class`, and equal.
        where = (-data.priority, reserved, data.kind, data.device)
        queue: _Queue | None = self._queues.get(where)  # type: ignore[call-overload]
        if queue is None:
            queue = self._queues[_Class(*where)] = OrderedDict()
        queue[job.id] = job
        if data.priority != self._least:
            self._least = min(self._least, data.priority)
            if data.priority > self._least and len(self._pressing) < OVERTAKES:
                self._pressing.append(job)
        if job.sources:
            self._unsettled = True
        if first:
            queue.move_to_end(job.id, last=False)

    def remove(self, job: Job) -> None:
        """Take a queued job off its queue, or from where it waits for a node that it can go to."""
        if self._stranded.pop(job.id, None) is None:
            self._take(self._class_of(job), job)

    def _class_of(self, job: Job) -> _Class:
        """Return in which queue a job is, or would be."""
        data = job.data
        own = _Class(-data.priority, True, data.kind, data.device)
        if job.id in self._queues.get(own, ()):
            return own
        return own._replace(reserved=False)

    def _take(self, where: _Class, job: Job) -> None:
        queue = self._queues[where]
        del queue[job.id]
        if not queue and where.back:
            del self._queues[where]

    def _in_order(self) -> list[tuple[_Class, _Queue]]:
        """Return the queues, the one with the next job first."""
        queues = [each for each in self._queues.items() if each[1]]
        if len(queues) > 1:
            queues.sort(key=lambda each: (*each[0][:2], next(iter(each[1].values())).order))
        return queues

    # Nodes.

    def update(self, node: Node) -> None:
        """See how a node stands, after its tasks or its credit changed."""
        peer = node.peer
        if node.spare > 0 and peer in self._nodes:
            here, there = self._idle, self._loaded
            if not node.idle:
                here, there = there, here
            if peer not in here:
                here[peer] = node
                there.pop(peer, None)
        else:
            self._idle.pop(peer, None)
            self._loaded.pop(peer, None)
        if node.waiting:
            self._crowded[node.peer] = node
        elif self._crowded:
            self._crowded.pop(node.peer, None)
        if self._most is not None:
            if node.holds_tasks and peer in self._nodes:
                self._holders[peer] = node
            else:
                self._holders.pop(peer, None)

    def forget(self, node: Node) -> None:
        """Be done with a node."""
        self._idle.pop(node.peer, None)
        self._loaded.pop(node.peer, None)
        self._crowded.pop(node.peer, None)
        self._holders.pop(node.peer, None)
        self.unsettle()

    def may_have(self, node: Node) -> bool:
        """Whether a node may have a task (more): not too many others have some."""
        if self._most is None:
            return True
        others = len(self._holders) - (node.peer in self._holders)
        return others < self._most or node.works

    @property
    def _room(self) -> float:
        """How many of the nodes that have nothing to do may have something."""
        return math.inf if self._most is None else self._most - len(self._holders)

    def unsettle(self) -> None:
        """Somebody has come or gone, or can reach more or less than before."""
        self._unsettled = True

    # Both.

    def next(self) -> tuple[Job, Node] | None:
        """Take a job off its queue for a node with credit; None where nothing fits."""
        if not self._queues or not (self._idle or self._loaded):
            return None
        for where, queue in self._in_order():
            for node in self._takers(where.kind, where.device):
                job = self._pick(node, queue)
                if job is not None:
                    del queue[job.id]
                    if not queue and where.back:
                        del self._queues[where]
                    return job, node
        return None

    def _takers(self, kind: str, device: str) -> Iterator[Node]:
        """Yield hungry nodes that solve such jobs: some idle ones in random order, or by load.

        All the others come behind them: no job waits because the first ones should not have it.
        """
        if self._most is not None:
            yield from self._takers_of_few(kind, device)
            return
        if len(self._idle) + len(self._loaded) == 1:
            yield from _able(self._idle or self._loaded, kind, device)
            return
        able = _able(self._idle, kind, device)
        idle = list(islice(able, DRAW))
        self._random.shuffle(idle)
        yield from idle
        yield from able
        able = _able(self._loaded, kind, device)
        loaded = list(islice(able, LOOK))
        if len(loaded) > 1:
            loaded.sort(key=lambda node: node.busy_others + len(node.tasks))
        yield from loaded
        yield from able

    def _takers_of_few(self, kind: str, device: str) -> list[Node]:
        """Return hungry nodes that solve such jobs, where only so many may have tasks at once.

        Idle ones come first, of these the ones without a task, and of these the ones that have had
        some before.
        """
        some = self._holders if self._room <= 0 else {**self._idle, **self._loaded}
        able = [
            node for node in _able(some, kind, device) if node.spare > 0 and self.may_have(node)
        ]
        self._random.shuffle(able)
        able.sort(
            key=lambda node: (
                not node.idle, node.busy_others + len(node.tasks), not node.told,
            )
        )  # fmt: skip
        return able

    def _pick(self, node: Node, queue: _Queue) -> Job | None:
        """Return the job of a queue for this node: one whose arrays it holds, or the first."""
        first = next(iter(queue.values()))
        special = first.blobs or first.failed_at or first.nbytes > SMALL_BYTES
        if not (special or node.benched or node.hello.max_job_seconds or node.unreached):
            return first
        chosen: Job | None = None
        jobs: Iterator[Job] = islice(queue.values(), UNFIT_DEPTH)
        if node.picky or node.unreached:  # what it can't take hides nothing behind it
            jobs = (job for job in jobs if not node.lacks(job) and not self._unfit(job, node))
        for job in islice(jobs, AFFINITY_DEPTH):
            if not self._shunned(job, node):
                if not job.blobs or not node.holds.isdisjoint(job.blobs):
                    chosen = job
                    break
                chosen = chosen or job
        return chosen

    def _shunned(self, job: Job, node: Node) -> bool:
        """Whether another node should have the job.

        It has failed at this one, or at another of the same owner's, or this one is benched, or
        can't reach what the job needs.
        """
        if node.unreached and node.lacks(job):
            return True
        if node.picky and self._unfit(job, node):
            return True
        failed, known = node.identity in job.failed_at, node.owner in job.failed_with
        if not failed and not known and not node.benched:
            return False
        if failed and node.benched and self.hopeful:
            return True
        if self.now - job.queued > SHUN_SECONDS:
            return False
        worse = failed and node.benched  # than one where this job alone has failed
        return any(
            other.hello.takes(job.data.kind, job.data.device)
            and (other.identity not in job.failed_at or (worse and not other.benched))
            and (failed or not known or other.owner not in job.failed_with)
            and (failed or known or not other.benched)
            and (other.spare > 0 or other.tasks)
            and not (other.unreached and other.lacks(job))
            for other in self._nodes.values()
        )

    def elsewhere(self, job: Job) -> bool:
        """Whether somebody takes such jobs at whose nodes this one has never failed."""
        return any(
            other.hello.takes(job.data.kind, job.data.device)
            and other.owner not in job.failed_with
            and not other.benched
            and (other.tasks or other.credit > len(other.unclaimed))
            and not (other.picky and self._unfit(job, other))
            and not (other.unreached and other.lacks(job))
            for other in self._nodes.values()
        )

    def _unfit(self, job: Job, node: Node) -> str:
        """Return why a node does not take such jobs, as its owner wishes; empty if it does."""
        nbytes, seconds = node.hello.max_job_bytes, node.hello.max_job_seconds
        if nbytes and job.nbytes > nbytes:
            return f"takes no job of more than {nbytes:,} bytes, and this one has {job.nbytes:,}"
        if seconds and self.pace.outlasts(job, node.identity, seconds):
            return f"stops jobs after {seconds:g} s, and such jobs take longer"
        return ""

    def misfit(self) -> str:
        """Return why no node takes what waits, as their owners wish; empty where one does."""
        waiting = [next(iter(queue.values())) for _, queue in self._in_order()]
        for job in [*islice(self._stranded.values(), 1), *waiting]:
            reasons = [(node, self._unwilling(job, node)) for node in self._nodes.values()]
            if reasons and all(reason for _, reason in reasons):
                first, reason = reasons[0]
                more = len(reasons) - 1
                verbs = {"can't": ("can", "can"), "has": ("has", "have")}
                does, do = verbs.get(reason.partition(" ")[0], ("does", "do"))
                others = f"; nor {does} another" if more == 1 else f"; nor {do} {more:,} others"
                return f"{first.name} {reason}{others if more else ''}"
        return ""

    def _unwilling(self, job: Job, node: Node) -> str:
        """Return why a node does not take a job: kind, device, source, size; empty if it does."""
        kind = job.data.kind
        if kind not in node.hello.kinds:
            takes = ", ".join(each for each in node.hello.kinds if each)
            jobs = f"{kind} jobs" if kind else "jobs of no kind"
            return f"takes no {jobs}" + (f", only {takes}" if takes else "")
        if not node.hello.has(job.data.device):
            return f"has no {job.data.device}, only {node.hello.accelerator or 'cpu'}"
        if source := node.lacks(job):
            return f"can't reach {source} ({node.unreached[source][1]})"
        return self._unfit(job, node) if node.picky else ""

    def strand(self) -> list[tuple[Job, str, str]]:
        """Set aside the queued jobs that nobody who is here can reach a source of.

        Those that were set aside before, and that somebody can take by now, are queued again.

        Returns:
            The jobs of which that was never said; with the source, and why.
        """
        if not self._unsettled:
            return []
        self._unsettled = False
        known: dict[tuple[str, str, tuple[str, ...]], tuple[str, str]] = {}
        free = [job for job in self._stranded.values() if not self._beyond(job, known)[0]]
        for job in reversed(free):
            del self._stranded[job.id]
            self.add(job, first=True)
        self._unsettled = False
        if not any(node.unreached for node in self._nodes.values()):
            return []
        found: list[tuple[Job, str, str]] = []
        for where, queue in list(self._queues.items()):
            for job in [each for each in queue.values() if each.sources]:
                source, reason = self._beyond(job, known)
                if source:
                    self._take(where, job)
                    self._stranded[job.id] = job
                    if not job.stranded:
                        job.stranded = True
                        found.append((job, source, reason))
        return found

    def _beyond(
        self, job: Job, known: dict[tuple[str, str, tuple[str, ...]], tuple[str, str]]
    ) -> tuple[str, str]:
        """Return a source of a job that nobody who takes such jobs can reach, and why.

        Args:
            job: that waits.
            known: what was found for others of the same kind, device and sources.

        Returns:
            Empty words where somebody can, or nobody takes such jobs.
        """
        about = (job.data.kind, job.data.device, job.sources)
        if about not in known:
            known[about] = ("", "")
            takers = list(_able(self._nodes, *about[:2]))
            lacking = [(node, node.lacks(job)) for node in takers]
            if takers and all(source for _, source in lacking):
                node, source = lacking[0]
                known[about] = (source, node.unreached[source][1])
        return known[about]

    def recalls(self) -> list[Task]:
        """Return the tasks to ask back.

        They are in a more urgent job's way, or wait while a node with nothing to do would take
        them. They count as asked from now on.
        """
        if not self._pressing and not self._crowded:
            return []
        overtaken = self._overtaken()
        if not self._crowded:
            return overtaken
        idle, room = self._free(), self._room
        asked = [
            task
            for node in self._crowded.values()
            for task in node.tasks.values()
            if task.recalled is not None and task.begun is None
        ]
        del idle[: len(asked)]
        room -= len(asked)
        if not idle or room <= 0:
            return overtaken
        queued = {
            where[2:] for where, queue in self._queues.items() if queue and not where.reserved
        }
        waiting = [
            task for node in self._crowded.values() for task in recallable(node)
            if self.now - task.offered >= _patience(task.job.moves)
        ]  # fmt: skip
        waiting.sort(key=lambda task: -task.job.data.priority)
        moving = (
            task for task in waiting
            if (task.job.data.kind, task.job.data.device) not in queued and self._ask(task, idle)
        )  # fmt: skip
        return overtaken + list(moving if room == math.inf else islice(moving, int(room)))

    def press(self) -> None:
        """Let more be asked back for urgent jobs that are still in the queue; call it on ticks."""
        self._overtakes_left = OVERTAKES
        self.press_on()

    def press_on(self) -> None:
        """Let something else be asked back for urgent jobs, where what was has begun."""
        self._overtakes = {
            job: task
            for job, task in self._overtakes.items()
            if task.in_hand and task.recalled is not None and task.begun is None
        }
        urgent = (
            job
            for where, queue in self._in_order()
            if -where.back > self._least
            for job in islice(queue.values(), OVERTAKES)
        )
        self._pressing = list(islice(urgent, OVERTAKES))

    def _overtaken(self) -> list[Task]:
        """Return tasks to be given back for more urgent jobs, for which no node has a place."""
        pressing, self._pressing = self._pressing, []
        found: list[Task] = []
        #: By kind and device: up to which priority nobody gives anything back.
        in_vain: dict[tuple[str, str], int] = {}
        for job in pressing:
            about, priority = (job.data.kind, job.data.device), job.data.priority
            queued = job.id in self._queues.get(self._class_of(job), ())
            if not queued or job.id in self._overtakes or not self._overtakes_left:
                continue
            if priority <= in_vain.get(about, -MAX_PRIORITY - 1):
                continue
            self._overtakes_left -= 1
            task = self._yielder(job)
            if task is None:
                in_vain[about] = priority
                continue
            task.recalled = self.now
            self._overtakes[job.id] = task
            found.append(task)
        return found

    def _yielder(self, job: Job) -> Task | None:
        """Return what is to be given back for a job: where least is before it that is as urgent."""
        best: tuple[int, float] | None = None
        chosen: Task | None = None
        about, priority = (job.data.kind, job.data.device), job.data.priority
        nodes = [node for node in _able(self._nodes, *about) if not node.halted]
        if len(nodes) > YIELDERS:
            nodes = self._random.sample(nodes, YIELDERS)
        for node in nodes:
            if node.spare < 0 or self._shunned(job, node):
                continue
            task = yielding(node, priority)
            if task is None:
                continue
            done, before = 0.0, 0
            for other in islice(node.tasks.values(), YIELDERS):
                done = max(done, other.progress)
                before += other.begun is None and (
                    other.recalled is not None or other.job.data.priority >= priority
                )
            if best is None or (before, -done) < best:
                best, chosen = (before, -done), task
        return chosen

    def _ask(self, task: Task, idle: list[Node]) -> bool:
        """Count an idle node as this task's, if one would take it."""
        for node in idle:
            data = task.job.data
            if node.hello.takes(data.kind, data.device) and not self._shunned(task.job, node):
                idle.remove(node)
                task.recalled = self.now
                task.job.moves += 1
                return True
        return False

    def _free(self) -> list[Node]:
        """Return the nodes that have nothing at all to do, and want something."""
        return [node for node in self._idle.values() if not node.tasks]

    def doubles(self, now: float) -> list[tuple[Task, Node]]:
        """Return slow tasks, each with an idle node that their job should be given to as well."""
        idle, room = self._free(), self._room
        if not idle or room <= 0:  # who can take something that waits has been given it
            return []
        running = [task for node in self._nodes.values() for task in node.tasks.values()]
        running.sort(key=lambda task: (task.begun or task.offered, task.id))
        found = []
        for task in running:
            if self._may_double(task) and self.pace.slow(task, now):
                for node in idle:
                    fits = node.hello.takes(task.job.data.kind, task.job.data.device)
                    if fits and node is not task.node and not self._shunned(task.job, node):
                        idle.remove(node)
                        found.append((task, node))
                        break
                if len(found) >= room:
                    break
        return found

    @staticmethod
    def _may_double(task: Task) -> bool:
        """Whether a second runner may help: its solution is not here, and there is none yet."""
        waits = task.id in task.node.waiting and task.begun is None
        return not waits and task.whole is None and len(task.job.tasks) < RUNNERS


def _able(nodes: Mapping[bytes, Node], kind: str, device: str) -> Iterator[Node]:
    """Yield the nodes that solve such jobs, and have such a device."""
    return (node for node in nodes.values() if node.hello.takes(kind, device))
