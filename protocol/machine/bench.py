"""Which nodes fail, die or lie too often to be given a job that another node can take.

Failures are counted for a node's id, deaths for its name and key: one that dies is another process
when it comes back. One lie is enough, and counts for all that come with the same key.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

#: A node is benched after so many different jobs in a row have failed there,
FAILURES = 3
#: or after it died so often, with work in hand, within so many seconds.
DEATHS = 3
DEATHS_SECONDS = 120.0
#: The first time for so many seconds, then twice as long each time, up to the limit.
BENCH_SECONDS = 60.0
MAX_BENCH_SECONDS = 960.0
#: Who was good for so long begins again.
FORGET_SECONDS = 3600.0
#: So many records are kept, those that changed last.
RECORDS = 10_000
_LOST = "it was lost"


@dataclass(slots=True)
class _Record:
    #: Jobs that failed there since one was solved.
    failed: set[int] = field(default_factory=set)
    #: Processes that died with work in hand, and when.
    deaths: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=DEATHS))
    #: Those whose deaths it is benched for, and when they died; and what a bench was before that.
    blamed: dict[str, float] = field(default_factory=dict)
    before: float = BENCH_SECONDS
    until: float = 0.0
    seconds: float = BENCH_SECONDS
    reason: str = ""


class Bench:
    """The nodes' records, and who is benched until when."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def _record(self, name: str) -> _Record:
        record = self._records.setdefault(name, _Record())
        self._records.move_to_end(name)
        if len(self._records) > RECORDS:
            self._records.popitem(last=False)
        return record

    def solved(self, name: str) -> None:
        """Count a job that was solved there."""
        record = self._records.get(name)
        if record is not None and record.failed:
            record.failed.clear()

    def failed(self, name: str, job: int, why: str, now: float) -> float:
        """Count a job that failed there; return for how many seconds that benches it, or 0."""
        record = self._record(name)
        record.failed.add(job)
        if len(record.failed) < FAILURES:
            return 0.0
        record.failed.clear()
        return self._bench(record, f"{FAILURES} jobs in a row failed there, the last: {why}", now)

    def lied(self, name: str, why: str, now: float) -> float:
        """Count a claim that can't be true; return for how many seconds that benches it."""
        return self._bench(self._record(name), why, now)

    def died(self, name: str, process: str, now: float) -> float:
        """Count a death with work in hand; return for how many seconds that benches it, or 0."""
        record = self._record(name)
        if record.blamed and now < record.until:  # of the same accident, as likely as not
            record.blamed[process] = now
            return 0.0
        record.deaths.append((process, now))
        since = record.deaths[0][1]
        if len(record.deaths) < DEATHS or now - since > DEATHS_SECONDS:
            return 0.0
        blamed = dict(record.deaths)
        record.deaths.clear()
        seconds = self._bench(record, f"{_LOST} {DEATHS} times within {now - since:.0f} s", now)
        record.blamed, record.before = blamed, seconds
        return seconds

    def came_back(self, name: str, process: str) -> None:
        """Take a process's death back, and what came of it: it is here again."""
        record = self._records.get(name)
        if record is None:
            return
        left = [death for death in record.deaths if death[0] != process]
        record.deaths = deque(left, maxlen=DEATHS)
        if record.blamed.pop(process, None) is not None and len(record.blamed) < DEATHS:
            deaths = sorted([*record.deaths, *record.blamed.items()], key=lambda death: death[1])
            record.deaths = deque(deaths, maxlen=DEATHS)
            record.until, record.seconds, record.blamed = 0.0, record.before, {}

    def why(self, name: str, now: float) -> str:
        """Return why a node is benched; empty if it is not."""
        record = self._records.get(name)
        return record.reason if record is not None and now < record.until else ""

    def _bench(self, record: _Record, reason: str, now: float) -> float:
        if now > record.until + FORGET_SECONDS:
            record.seconds = BENCH_SECONDS
        seconds = record.seconds
        record.until, record.reason, record.blamed = now + seconds, reason, {}
        record.seconds = min(2 * seconds, MAX_BENCH_SECONDS)
        return seconds
