"""Which job goes to which node: queues, credit, affinity, and evening out what waits."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import islice

from .ledger import Job, Node, Task, recallable
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


_Queue = OrderedDict[int, Job]  # by id, first the next to be given


class Placement:
    """The jobs that wait for a node, and the nodes that wait for a job.

    Args:
        nodes: every node, by routing id; the dispatcher's own mapping.
        seed: of the draw among idle nodes. It never shows in a result.
    """

    def __init__(self, nodes: Mapping[bytes, Node], seed: str) -> None:
        self._nodes = nodes
        self._random = random.Random(seed)
        self.pace = Pace()
        #: The time, as of the last message or tick.
        self.now = 0.0
        #: Whether a node that was lost a moment ago may come back, and is worth waiting for.
        self.hopeful = False
        self._queues: dict[str, _Queue] = {}  # by kind
        self._reserved: dict[str, _Queue] = {}  # the same; taken when nothing else is left
        # Those with credit left, the longest hungry first: with nothing to do, and with something.
        self._idle: dict[bytes, Node] = {}
        self._loaded: dict[bytes, Node] = {}
        self._crowded: dict[bytes, Node] = {}  # with tasks that wait

    # Jobs.

    def add(self, job: Job, *, first: bool = False) -> None:
        """Queue a job, behind the others or before them."""
        job.queued = self.now
        queue = self._queues.setdefault(job.data.kind, OrderedDict())
        queue[job.id] = job
        if first:
            queue.move_to_end(job.id, last=False)

    def reserve(self, job: Job) -> None:
        """Queue a job that a node may come back with: others get it when nothing else is left."""
        job.queued = self.now
        self._reserved.setdefault(job.data.kind, OrderedDict())[job.id] = job

    def remove(self, job: Job) -> None:
        """Take a queued job off its queue."""
        kind = job.data.kind
        queues = self._reserved if job.id in self._reserved.get(kind, ()) else self._queues
        del queues[kind][job.id]

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

    def forget(self, node: Node) -> None:
        """Be done with a node."""
        self._idle.pop(node.peer, None)
        self._loaded.pop(node.peer, None)
        self._crowded.pop(node.peer, None)

    # Both.

    def next(self) -> tuple[Job, Node] | None:
        """Take a job off its queue for a node with credit; None where nothing fits."""
        if not self._idle and not self._loaded:
            return None
        for queues in (self._queues, self._reserved):
            for kind, queue in queues.items():
                if queue:
                    for node in self._takers(kind):
                        job = self._pick(node, queue)
                        if job is not None:
                            return job, node
        return None

    def _takers(self, kind: str) -> Iterator[Node]:
        """Yield hungry nodes that solve such jobs: some idle ones in random order, or by load.

        All the others come behind them: no job waits because the first ones should not have it.
        """
        if len(self._idle) + len(self._loaded) == 1:
            yield from _able(self._idle or self._loaded, kind)
            return
        able = _able(self._idle, kind)
        idle = list(islice(able, DRAW))
        self._random.shuffle(idle)
        yield from idle
        yield from able
        able = _able(self._loaded, kind)
        loaded = list(islice(able, LOOK))
        if len(loaded) > 1:
            loaded.sort(key=lambda node: node.busy_others + len(node.tasks))
        yield from loaded
        yield from able

    def _pick(self, node: Node, queue: _Queue) -> Job | None:
        """Take the job for this node off the queue: one whose arrays it holds, or the first."""
        first = next(iter(queue.values()))
        special = first.blobs or first.failed_at or first.nbytes > SMALL_BYTES
        if not (special or node.benched or node.hello.max_job_seconds):
            del queue[first.id]
            return first
        chosen: Job | None = None
        jobs: Iterator[Job] = islice(queue.values(), UNFIT_DEPTH)
        if node.picky:  # what its owner does not let it take hides nothing behind it
            jobs = (job for job in jobs if not self._unfit(job, node))
        for job in islice(jobs, AFFINITY_DEPTH):
            if not self._shunned(job, node):
                if not job.blobs or not node.holds.isdisjoint(job.blobs):
                    chosen = job
                    break
                chosen = chosen or job
        if chosen is not None:
            del queue[chosen.id]
        return chosen

    def _shunned(self, job: Job, node: Node) -> bool:
        """Whether another node should have the job.

        It has failed at this one, or at another of the same owner's, or this one is benched.
        """
        if node.picky and self._unfit(job, node):
            return True
        failed, known = node.identity in job.failed_at, node.owner in job.failed_with
        if not failed and not known and not node.benched:
            return False
        if failed and node.benched and self.hopeful:
            return True
        if self.now - job.queued > SHUN_SECONDS:
            return False
        return any(
            job.data.kind in other.hello.kinds
            and other.identity not in job.failed_at
            and (failed or not known or other.owner not in job.failed_with)
            and (failed or known or not other.benched)
            and (other.spare > 0 or other.tasks)
            for other in self._nodes.values()
        )

    def elsewhere(self, job: Job) -> bool:
        """Whether somebody takes such jobs at whose nodes this one has never failed."""
        return any(
            job.data.kind in other.hello.kinds
            and other.owner not in job.failed_with
            and not other.benched
            and (other.tasks or other.credit > len(other.unclaimed))
            and not (other.picky and self._unfit(job, other))
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
        waiting = [next(iter(queue.values())) for queue in self._queues.values() if queue]
        for job in waiting:
            reasons = [(node, self._unwilling(job, node)) for node in self._nodes.values()]
            if reasons and all(reason for _, reason in reasons):
                first, reason = reasons[0]
                more = len(reasons) - 1
                others = (
                    ""
                    if not more
                    else "; nor does another"
                    if more == 1
                    else f"; nor do {more:,} others"
                )
                return f"{first.name} {reason}{others}"
        return ""

    def _unwilling(self, job: Job, node: Node) -> str:
        """Return why a node does not take a job, by its kind or its size; empty if it does."""
        kind = job.data.kind
        if kind not in node.hello.kinds:
            takes = ", ".join(each for each in node.hello.kinds if each)
            jobs = f"{kind} jobs" if kind else "jobs of no kind"
            return f"takes no {jobs}" + (f", only {takes}" if takes else "")
        return self._unfit(job, node) if node.picky else ""

    def recalls(self) -> list[Task]:
        """Return the tasks to ask back: they wait, and a node with nothing to do would take them.

        They count as asked from now on.
        """
        if not self._crowded:
            return []
        idle = self._free()
        asked = [
            task
            for node in self._crowded.values()
            for task in node.tasks.values()
            if task.recalled is not None and task.begun is None
        ]
        del idle[: len(asked)]
        return [
            task
            for node in list(self._crowded.values())
            for task in list(recallable(node))
            if not self._queues.get(task.job.data.kind) and self._ask(task, idle)
        ]

    def _ask(self, task: Task, idle: list[Node]) -> bool:
        """Count an idle node as this task's, if one would take it."""
        for node in idle:
            if task.job.data.kind in node.hello.kinds and not self._shunned(task.job, node):
                idle.remove(node)
                task.recalled = self.now
                return True
        return False

    def _free(self) -> list[Node]:
        """Return the nodes that have nothing at all to do, and want something."""
        return [node for node in self._idle.values() if not node.tasks]

    def doubles(self, now: float) -> list[tuple[Task, Node]]:
        """Return slow tasks, each with an idle node that their job should be given to as well."""
        idle = self._free()  # who can take something that waits has been given it
        if not idle:
            return []
        running = [task for node in self._nodes.values() for task in node.tasks.values()]
        running.sort(key=lambda task: (task.begun or task.offered, task.id))
        found = []
        for task in running:
            if self._may_double(task) and self.pace.slow(task, now):
                for node in idle:
                    fits = task.job.data.kind in node.hello.kinds
                    if fits and node is not task.node and not self._shunned(task.job, node):
                        idle.remove(node)
                        found.append((task, node))
                        break
        return found

    @staticmethod
    def _may_double(task: Task) -> bool:
        """Whether a second runner may help: its solution is not here, and there is none yet."""
        waits = task.id in task.node.waiting and task.begun is None
        return not waits and task.whole is None and len(task.job.tasks) < RUNNERS


def _able(nodes: Mapping[bytes, Node], kind: str) -> Iterator[Node]:
    """Yield the nodes that solve such jobs."""
    return (node for node in nodes.values() if kind in node.hello.kinds)
