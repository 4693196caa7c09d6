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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..wire.limits import CHUNK_BYTES, PARKED_BYTES
from ..wire.transfer import Arrival
from .ledger import Job, Node

#: So many lost nodes are remembered.
GONE = 10_000
#: What was lost where several nodes were, at one host, waits so long, and so long after one of them
#: came back, and another; but no longer than this.
RETURN_SECONDS, RETURNS_SECONDS = 5.0, 20.0
#: Where somebody was there before a loss and is heard so long after it, only that node is lost.
PROOF_SECONDS = 0.2
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
        began: when the first of them was lost.
        last: when the last of them was.
        nodes: how many.
        back: when the last of them came back.
        marked: when those that are there became suspect.
        lost: identity -> when, of those that have not come back.
        held: job -> it, since when it waits for that, and whether once more.
        released: jobs that have waited once, and when that was over; when others come back, those
            that are still in the queue wait once more.
    """

    began: float
    last: float
    nodes: int = 0
    back: float = -math.inf
    marked: float = -math.inf
    lost: dict[str, float] = field(default_factory=dict)
    held: dict[int, tuple[Job, float, bool]] = field(default_factory=dict)
    released: dict[int, float] = field(default_factory=dict)

    def until(self, since: float) -> float:
        """Return when what waits since then waits no more."""
        return min(max(since, self.back) + RETURN_SECONDS, since + RETURNS_SECONDS)

    def disproved(self, nodes: Iterable[Node]) -> float:
        """Return up to when what was lost was only lost with its own node, as far as is known."""
        before = max(self.began, self.last - RETURN_SECONDS)  # who came since may just be back
        heard = (node.heard for node in nodes if node.joined < before)
        return max(heard, default=-math.inf) - PROOF_SECONDS

    def forget(self, now: float) -> None:
        """Forget who was lost so long ago that he does not come back."""
        # The oldest are first.
        while self.lost and now - next(iter(self.lost.values())) > HOPE_SECONDS:
            del self.lost[next(iter(self.lost))]
        while self.released and now - next(iter(self.released.values())) > HOPE_SECONDS:
            del self.released[next(iter(self.released))]


class Absence:
    """Who is gone, and what waits for whom."""

    def __init__(self) -> None:
        self._gone: OrderedDict[str, _Gone] = OrderedDict()  # by identity
        self._outages: dict[str, _Outage] = {}  # by host
        self._where: dict[int, _Outage | None] = {}  # of each job that waits; None: its last hope
        self._hopes: dict[int, tuple[Job, float]] = {}  # those, and until when, by job
        self._parked: OrderedDict[str, tuple[dict[bytes, Arrival], float]] = OrderedDict()

    def lose(self, node: Node, host: str, jobs: list[int], now: float, back: bool = False) -> None:
        """A node is lost at a host.

        Args:
            node: that is lost.
            host: where.
            jobs: that this was an attempt of.
            now: the time.
            back: whether it is here again already, over another connection.
        """
        self._gone.pop(node.identity, None)
        self._gone[node.identity] = _Gone(jobs, host, now)
        if len(self._gone) > GONE:
            self._gone.popitem(last=False)
        if back:
            return
        outage = self._outages.setdefault(host, _Outage(now, now))
        if now - max(outage.last, outage.back) > RETURN_SECONDS:
            outage.began, outage.nodes = now, 0
        outage.last = now
        outage.nodes += 1
        outage.lost.pop(node.identity, None)
        outage.lost[node.identity] = now

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

    def hold(
        self, job: Job, host: str, now: float, alone: bool = False, again: bool = False
    ) -> bool:
        """Let a job that was lost at a host wait, where somebody may bring it; return whether so.

        Args:
            job: in no queue.
            host: where its node was lost.
            now: the time.
            alone: whether no other node is there.
            again: whether it has waited before, and was in the queue since.
        """
        outage = self._outages.get(host)
        if outage is None or (alone and outage.nodes == 1):
            return False
        outage.held[job.id] = job, now, again
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

    def recent(self, host: str, now: float) -> bool:
        """Whether somebody was lost at a host a moment ago."""
        outage = self._outages.get(host)
        return outage is not None and now - outage.last <= RETURN_SECONDS

    def heard(self, node: Node, now: float) -> list[Job]:
        """A suspect node is heard; return jobs that wait no more, since it was only one node."""
        # The outage without a host: of those that fell silent, wherever they are.
        outages = [self._outages.get(host) for host in dict.fromkeys((node.host, ""))]
        alone = [outage for outage in outages if outage is not None and outage.nodes == 1]
        return [job for each in alone for job in self._release(each, list(each.held), now)]

    def come_back(self, node: Node, now: float) -> tuple[Iterable[int], Iterable[int], str]:
        """A node is here; return jobs that its loss was an attempt of, those lost beside it, where.

        The latter are to wait (`hold`) if they are still in the queue: others may come back too.
        """
        gone = self._gone.pop(node.identity, None)
        jobs, host = ([], node.host) if gone is None else (gone.jobs, gone.host)
        outage = self._outages.get(host)
        if outage is None or outage.lost.pop(node.identity, None) is None:
            return jobs, [], host
        outage.back = now
        outage.forget(now)
        others, outage.released = list(outage.released), {}
        return jobs, others, host

    def may_come(self, job: Job, node: Node, host: str) -> bool:
        """Whether a job waits for others than a node that is back: they may have it in hand too.

        Who was thought to be there was given what others had lost a moment before, and may have
        been as lost as they were.
        """
        outage = self._outages.get(host)
        if outage is None or self._where.get(job.id) is not outage:
            return False
        return any(who in outage.lost for who in job.failed_at if who != node.identity)

    def tick(self, now: float, hosts: Mapping[str, Mapping[bytes, Node]]) -> list[Job]:
        """Let time pass; return jobs that wait no more.

        Args:
            now: the time.
            hosts: the nodes that are here, by host.
        """
        over: list[Job] = []
        for host, outage in list(self._outages.items()):
            if outage.held:
                fine = outage.disproved(hosts.get(host, {}).values())
                held = outage.held.items()
                free = [i for i, (_, at, _) in held if at < fine or now >= outage.until(at)]
                over += self._release(outage, free, now)
            elif now - max(outage.last, outage.back) > HOPE_SECONDS + RETURNS_SECONDS:
                del self._outages[host]
            outage.forget(now)
        while self._parked and now > next(iter(self._parked.values()))[1] + HOPE_SECONDS:
            self._parked.popitem(last=False)
        hopeless = [job for job, until in self._hopes.values() if now >= until]
        for job in hopeless:
            self.let_go(job)
        return over + hopeless

    def _release(self, outage: _Outage, jobs: Iterable[int], now: float) -> list[Job]:
        released = []
        for job_id in jobs:
            del self._where[job_id]
            job, _, again = outage.held.pop(job_id)
            if not again:  # somebody may come and go all the time
                outage.released.pop(job_id, None)
                outage.released[job_id] = now
            released.append(job)
        return released


def _bytes_of(arrivals: dict[bytes, Arrival]) -> int:
    return sum(arrival.hashed * CHUNK_BYTES for arrival in arrivals.values())
