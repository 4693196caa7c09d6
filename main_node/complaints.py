"""What a main node's log says of others, and how much of it: nobody can flood it, or hide in it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from enum import Enum

from protocol.carrier.logbudget import LogBudget
from protocol.machine.effects import (
    Benched,
    Doubled,
    Effect,
    Joined,
    Left,
    NotReached,
    Offered,
    Refused,
    Retry,
    Stranded,
)
from protocol.wire.entry import Entry
from protocol.wire.limits import (
    LOG_SECONDS,
    NEWCOMERS_LINES,
    NEWCOMERS_LOG_BYTES,
    NODE_LINES,
    NODE_LOG_BYTES,
    STRANGERS_LINES,
    STRANGERS_LOG_BYTES,
)

log = logging.getLogger("mnist.main")

#: So many nodes that have solved something are remembered for that.
_MOST_PROVEN = 10_000


class Repute(Enum):
    """Who is spoken of: each has a budget that the others can't use up."""

    STRANGER = "strangers"  # not let in, or not known yet; all together
    NEWCOMER = "newcomers"  # let in, and has solved nothing; all together
    PROVEN = "nodes"  # each for itself


class Complaints:
    """What has been said of whom in the last minute, and what may still be."""

    def __init__(self) -> None:
        self._until = -math.inf
        self._proven: dict[str, None] = {}
        self._left_out: Counter[str] = Counter()
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        """Begin another minute; say what was left out of the last one."""
        if self._left_out:
            strangers, newcomers, nodes = (self._left_out[who.value] or None for who in Repute)
            log.warning(
                Entry(
                    "log.left_out", "entries of the last minute",
                    strangers=strangers, newcomers=newcomers, nodes=nodes,
                )
            )  # fmt: skip
        self._said: set[tuple[str, str]] = set()
        self._left_out.clear()
        self._budgets = {
            Repute.STRANGER: LogBudget(STRANGERS_LINES, STRANGERS_LOG_BYTES),
            Repute.NEWCOMER: LogBudget(NEWCOMERS_LINES, NEWCOMERS_LOG_BYTES),
        }
        self._nodes: dict[str, LogBudget] = {}
        self._until = now + LOG_SECONDS

    def trust(self, node: str) -> None:
        """A node has solved something."""
        if node not in self._proven:
            self._proven[node] = None
            if len(self._proven) > _MOST_PROVEN:
                del self._proven[next(iter(self._proven))]

    def allow(self, node: str, nbytes: int, now: float) -> bool:
        """Whether a line of so many bytes may be said of a node; `""` is a stranger."""
        if now >= self._until:
            self._begin(now)
        if node in self._proven:
            repute = Repute.PROVEN
            budget = self._nodes.setdefault(node, LogBudget(NODE_LINES, NODE_LOG_BYTES))
        else:
            repute = Repute.NEWCOMER if node else Repute.STRANGER
            budget = self._budgets[repute]
        if budget.take(nbytes, now):
            return True
        self._left_out[repute.value] += 1
        return False

    def new(self, who: str, what: str, now: float) -> bool:
        """Whether this may be said of a stranger, and was not in the last minute."""
        if now >= self._until:
            self._begin(now)
        if (who, what) in self._said or not self.allow("", len(who) + len(what), now):
            return False
        self._said.add((who, what))
        return True


def tell(effect: Effect, name_of: Callable[[int], str], complaints: Complaints, now: float) -> bool:
    """Log what happened, if there is room for it; return whether there was."""
    match effect:
        case Joined(node, hello, key):
            entry = Entry(
                "node.joined", node=node, key=key or None, tasks=hello.tasks, cores=hello.cores,
                accelerator=hello.accelerator or "none",
            )  # fmt: skip
            return _say(logging.INFO, node, entry, complaints, now)
        case Left(node, reason, _, _, key):
            entry = Entry("node.left", node=node, key=key or None, reason=reason)
            return _say(logging.INFO, node, entry, complaints, now)
        case Refused(name, reason):
            if not complaints.new(name, reason, now):
                return False
            log.warning(Entry("node.refused", name=name, reason=reason))
        case Offered(task, job, node):
            if log.isEnabledFor(logging.DEBUG):
                log.debug(Entry("job.offered", job=name_of(job), task=task, node=node))
        case Benched(node, reason, seconds):
            entry = Entry("node.benched", node=node, seconds=seconds, reason=reason)
            _say(logging.WARNING, node, entry, complaints, now)
        case Doubled(job, slow, node):
            log.info(Entry("job.doubled", job=name_of(job), slow=slow, node=node))
        case NotReached() | Stranded():
            return _tell_of_source(effect, name_of, complaints, now)
        case Retry(job, attempt):
            if attempt is not None:
                entry = Entry(
                    "job.retried", job=name_of(job), node=attempt.node, kind=attempt.kind,
                    message=attempt.message,
                )  # fmt: skip
                _say(logging.WARNING, attempt.node, entry, complaints, now)
    return True


def _tell_of_source(
    effect: NotReached | Stranded, name_of: Callable[[int], str], complaints: Complaints, now: float
) -> bool:
    if isinstance(effect, NotReached):
        node, source, reason = effect.node, effect.source, effect.reason
        entry = Entry("node.unreachable", node=node, source=source, reason=reason)
        return _say(logging.WARNING, node.partition(" ")[0], entry, complaints, now)
    if not complaints.new(effect.source, effect.reason, now):  # once for all jobs that need it
        return False
    says = (
        "no computing node that is here can reach it; the jobs that need it wait for one that can"
    )
    job, source, reason = name_of(effect.job), effect.source, effect.reason
    log.warning(Entry("job.stranded", says, job=job, source=source, reason=reason))
    return True


def _say(level: int, node: str, entry: Entry, complaints: Complaints, now: float) -> bool:
    if not complaints.allow(node, len(str(entry)), now):
        return False
    log.log(level, entry)
    return True
