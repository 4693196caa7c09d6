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
#: lost, and after one of them came back, and another; but no longer than this after the first.
RETURN_SECONDS, RETURNS_SECONDS = 5.0, 20.0
#: A job that would have failed for good waits so long for nodes that were lost with it.
HOPE_SECONDS = 60.0
#: What is heard so soon after a node was lost may have been said before that.
SETTLE_SECONDS = 0.01
#: At one host, nodes become suspect this often at most: somebody may come and go all the time.
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
        last: when the last of them was lost.
        lost: how many.
        first_back, back: when the first and the last of them came back since.
        marked: when those that are there became suspect.
    """

    last: float
    lost: int = 1
    first_back: float = math.inf
    back: float = -math.inf
    marked: float = -math.inf
    #: Jobs that were lost there.
    jobs: set[int] = field(default_factory=set)

    @property
    def until(self) -> float:
        """When what was lost there waits no more."""
        until = max(self.last, self.back) + RETURN_SECONDS
        return min(until, max(self.last, self.first_back) + RETURNS_SECONDS)


@dataclass(slots=True)
class _Held:
    """A job that waits: until when at the latest, and where it was lost."""

    job: Job
    until: float
    host: str
    #: Whether it fails for good if nobody comes back.
    last_hope: bool


class Absence:
    """Who is gone, and what waits for whom."""

    def __init__(self) -> None:
        self._gone: OrderedDict[str, _Gone] = OrderedDict()  # by identity
        self._outages: dict[str, _Outage] = {}  # by host
        self._held: dict[int, _Held] = {}  # by job
        self._parked: OrderedDict[str, tuple[dict[bytes, Arrival], float]] = OrderedDict()

    def lose(self, node: Node, host: str, jobs: list[int], now: float) -> None:
        """A node is lost at a host; this was an attempt of these jobs."""
        if jobs:
            self._gone.pop(node.identity, None)
            self._gone[node.identity] = _Gone(jobs, host, now)
            if len(self._gone) > GONE:
                self._gone.popitem(last=False)
        outage = self._outages.get(host)
        if outage is None or now > outage.until:
            self._outages[host] = _Outage(now)
            return
        outage.lost, outage.last, outage.first_back = outage.lost + 1, now, math.inf
        self._go_on_waiting(host, outage.until)

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
        if outage is None or (alone and outage.lost == 1):
            return False
        outage.jobs.add(job.id)
        self._held[job.id] = _Held(job, outage.until, host, last_hope=False)
        return True

    def hopes(self, job: Job, now: float) -> bool:
        """Let a job that would have failed wait, where a node may bring it; return whether so."""
        gone = [self._gone.get(identity) for identity in job.failed_at]
        lost = [each.at for each in gone if each is not None and job.id in each.jobs]
        until = max(lost, default=-math.inf) + HOPE_SECONDS
        if now >= until:
            return False
        self._held[job.id] = _Held(job, until, "", last_hope=True)
        return True

    def let_go(self, job: Job) -> bool:
        """A job waits no more; return whether it did."""
        return self._held.pop(job.id, None) is not None

    def waits(self, job: Job) -> bool:
        """Whether a job waits."""
        return job.id in self._held

    def heard(self, node: Node) -> list[Job]:
        """A suspect node is heard; return jobs that wait no more, since it was only one node."""
        outage = self._outages.get(node.host)
        if outage is None or outage.lost > 1:
            return []
        free = [i for i, h in self._held.items() if h.host == node.host and not h.last_hope]
        return [self._held.pop(id_).job for id_ in free]

    def come_back(self, node: Node, now: float) -> tuple[Iterable[int], Iterable[int], str]:
        """A node is here; return jobs that its loss was an attempt of, those lost beside it, where.

        The latter are to wait (`hold`) if they are still in the queue: others may come back too.
        """
        gone = self._gone.pop(node.identity, None)
        jobs, host = ([], node.host) if gone is None else (gone.jobs, gone.host)
        outage = self._outages.get(host)
        if outage is None or outage.lost == 1:
            return jobs, [], host
        first = outage.first_back == math.inf
        outage.first_back, outage.back = min(outage.first_back, now), now
        self._go_on_waiting(host, outage.until)
        return jobs, outage.jobs if first else [], host

    def tick(self, now: float) -> list[Job]:
        """Let time pass; return jobs that wait no more."""
        for host in [host for host, o in self._outages.items() if now > o.until + HOPE_SECONDS]:
            del self._outages[host]
        while self._parked and now > next(iter(self._parked.values()))[1] + HOPE_SECONDS:
            self._parked.popitem(last=False)
        over = [id_ for id_, held in self._held.items() if now >= held.until]
        return [self._held.pop(id_).job for id_ in over]

    def _go_on_waiting(self, host: str, until: float) -> None:
        for held in self._held.values():
            if held.host == host and not held.last_hope:
                held.until = until


def _bytes_of(arrivals: dict[bytes, Arrival]) -> int:
    return sum(arrival.hashed * CHUNK_BYTES for arrival in arrivals.values())
