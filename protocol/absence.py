"""Nodes that were lost a moment ago, and the jobs that wait for them to come back.

A process that died does not come back; one whose line broke does, with all that it has in hand.
Where a relay or a switch dies, many are lost one after another, and those that are not known to be
lost yet are no better: so whoever is at the host of one that was lost is suspect until it is heard
again, and what was lost waits for a moment. And no job has failed for good while a node that had
it may bring its solution.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from .ledger import Job, Node
from .limits import CHUNK_BYTES, PARKED_BYTES
from .transfer import Arrival

#: So many lost nodes are remembered.
GONE = 10_000
#: What was lost where several nodes were, at one host, waits so long after the last of them was
#: lost, and after one of them came back, and another; but no longer than this after the first loss,
#: or the first return: somebody may come and go all the time.
RETURN_SECONDS, RETURNS_SECONDS = 5.0, 20.0
#: A job that would have failed for good waits so long for nodes that were lost with it.
HOPE_SECONDS = 60.0
#: What is heard so soon after a node was lost may have been said before that.
SETTLE_SECONDS = 0.01
#: At one host, nodes become suspect this often at most.
MARK_SECONDS = 2.0


@dataclass(slots=True)
class _Gone:
    """A lost node: the jobs that this was an attempt of, its host, and when."""

    jobs: list[int]
    host: str
    at: float


@dataclass(slots=True)
class _Outage:
    """What happened at one host a moment ago: nodes lost, and those that came back since.

    Attributes:
        first: when it began.
        last: when the last of those was lost that had something in hand.
        first_back, back: when the first and the last of them came back since.
        marked: when those that are there became suspect.
        lost: identity -> when, of those that have not come back.
        nodes: how many were lost since it began.
        jobs: job -> when it was lost there; others may yet come back with them.
        held: jobs that wait for that, by id.
    """

    first: float
    last: float
    first_back: float = -math.inf
    back: float = -math.inf
    marked: float = -math.inf
    lost: dict[str, float] = field(default_factory=dict)
    nodes: int = 0
    jobs: dict[int, float] = field(default_factory=dict)
    held: dict[int, Job] = field(default_factory=dict)

    @property
    def until(self) -> float:
        """When what was lost there waits no more."""
        until = max(self.last, self.back) + RETURN_SECONDS
        return min(until, max(self.first, self.first_back) + RETURNS_SECONDS)

    def begin(self, now: float) -> None:
        """Another one begins at this host; what was lost lately may still come back."""
        self.first = self.last = now
        self.first_back, self.back, self.nodes = -math.inf, -math.inf, 0
        self.lost = {who: at for who, at in self.lost.items() if now - at < HOPE_SECONDS}
        self.jobs = {job: at for job, at in self.jobs.items() if now - at < HOPE_SECONDS}


class Absence:
    """Who is gone, and what waits for whom."""

    def __init__(self) -> None:
        self._gone: OrderedDict[str, _Gone] = OrderedDict()  # by identity
        self._outages: dict[str, _Outage] = {}  # by host
        self._where: dict[int, _Outage | None] = {}  # of each job that waits; None: its last hope
        self._hopes: dict[int, tuple[Job, float]] = {}  # those, and until when, by job
        self._parked: OrderedDict[str, tuple[dict[bytes, Arrival], float]] = OrderedDict()

    def lose(
        self, node: Node, host: str, jobs: list[int], now: float, back: bool = False
    ) -> list[Job]:
        """A node is lost at a host; return jobs that have waited there long enough.

        Args:
            node: that is lost.
            host: where.
            jobs: that this was an attempt of.
            now: the time.
            back: whether it is here again already, over another connection.
        """
        if jobs:
            self._gone.pop(node.identity, None)
            self._gone[node.identity] = _Gone(jobs, host, now)
            if len(self._gone) > GONE:
                self._gone.popitem(last=False)
        if back:
            return []
        outage = self._outages.setdefault(host, _Outage(now, now))
        over: list[Job] = []
        if now > outage.until:
            over = self._release(outage)
            outage.begin(now)
        if jobs:  # whoever has nothing to bring is not waited for
            outage.last = now
        outage.nodes += 1
        outage.lost[node.identity] = now
        return over

    def park(self, identity: str, arrivals: dict[bytes, Arrival], now: float) -> None:
        """Keep what has come in part of a lost node's solutions."""
        if not arrivals:
            return
        self._parked.pop(identity, None)
        self._parked[identity] = (arrivals, now)
        while sum(_bytes_of(parked) for parked, _ in self._parked.values()) > PARKED_BYTES:
            self._parked.popitem(last=False)

    def unpark(self, identity: str) -> dict[bytes, Arrival]:
        """A node is back; return what has come in part of its solutions."""
        return self._parked.pop(identity, ({}, 0.0))[0]

    def marks(self, host: str, now: float) -> bool:
        """Whether those at a host are to be suspected now."""
        outage = self._outages.get(host)
        if outage is None or now < outage.marked + MARK_SECONDS:
            return False
        outage.marked = now
        return True

    def hold(self, job: Job, host: str, alone: bool, now: float) -> bool:
        """Let a job that was lost at a host wait, where somebody may bring it; return whether so.

        Args:
            job: in no queue.
            host: where its node was lost.
            alone: whether no other node is there.
            now: the time.
        """
        outage = self._outages.get(host)
        if outage is None or now > outage.until or (alone and outage.nodes == 1):
            return False
        outage.jobs[job.id] = now
        outage.held[job.id] = job
        self._where[job.id] = outage
        return True

    def hopes(self, job: Job, now: float) -> bool:
        """Let a job that would have failed wait, where a node may bring it; return whether so."""
        gone = [self._gone.get(identity) for identity in job.failed_at]
        lost = [each.at for each in gone if each is not None and job.id in each.jobs]
        until = max(lost, default=-math.inf) + HOPE_SECONDS
        if now >= until:
            return False
        self._hopes[job.id] = job, until
        self._where[job.id] = None
        return True

    def let_go(self, job: Job) -> bool:
        """A job waits no more; return whether it did."""
        if job.id not in self._where:
            return False
        outage = self._where.pop(job.id)
        (self._hopes if outage is None else outage.held).pop(job.id)
        return True

    def waits(self, job: Job) -> bool:
        """Whether a job waits."""
        return job.id in self._where

    @property
    def last_hopes(self) -> list[Job]:
        """The jobs that fail for good if nobody comes back with them."""
        return [job for job, _ in self._hopes.values()]

    def heard(self, node: Node) -> list[Job]:
        """A suspect node is heard; return jobs that wait no more, since it was only one node."""
        # The outage without a host: of those that fell silent, wherever they are.
        outages = [self._outages.get(host) for host in {node.host, ""}]
        alone = [outage for outage in outages if outage is not None and outage.nodes == 1]
        return [job for outage in alone for job in self._release(outage)]

    def come_back(self, node: Node, now: float) -> tuple[Iterable[int], Iterable[int], str]:
        """A node is here; return jobs that its loss was an attempt of, those lost beside it, where.

        The latter are to wait (`hold`) if they are still in the queue: others may come back too.
        """
        gone = self._gone.pop(node.identity, None)
        jobs, host = ([], node.host) if gone is None else (gone.jobs, gone.host)
        outage = self._outages.get(host)
        if outage is None or outage.lost.pop(node.identity, None) is None or outage.nodes == 1:
            return jobs, [], host
        outage.back = now
        if outage.first_back > -math.inf:
            return jobs, [], host
        outage.first_back = now
        others, outage.jobs = outage.jobs, {}  # once: somebody may come and go all the time
        return jobs, [job for job, at in others.items() if now - at < HOPE_SECONDS], host

    def tick(self, now: float) -> list[Job]:
        """Let time pass; return jobs that wait no more."""
        over = []
        for host, outage in list(self._outages.items()):
            if now >= outage.until:
                over += self._release(outage)
            if now > outage.until + HOPE_SECONDS:
                del self._outages[host]
        while self._parked and now > next(iter(self._parked.values()))[1] + HOPE_SECONDS:
            self._parked.popitem(last=False)
        hopeless = [job for job, until in self._hopes.values() if now >= until]
        for job in hopeless:
            self.let_go(job)
        return over + hopeless

    def _release(self, outage: _Outage) -> list[Job]:
        jobs, outage.held = list(outage.held.values()), {}
        for job in jobs:
            del self._where[job.id]
        return jobs


def _bytes_of(arrivals: dict[bytes, Arrival]) -> int:
    return sum(arrival.hashed * CHUNK_BYTES for arrival in arrivals.values())
