"""A month of a main node and its nodes, simulated: nothing that is remembered grows for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from protocol import JobDataType

from .simulation import Simulation, Weather, make

DAY = 86_400.0
#: With a heartbeat each four minutes a month has some hundred thousand events, not sixty million.
HEARTBEAT = 240.0
WEATHER = Weather(
    lose=0.01, repeat=0.01, delay=0.1, crash_every=DAY / 4, cut_every=DAY / 12,
    freeze_every=DAY / 8, outage_every=DAY / 4,
)  # fmt: skip
#: What is limited by number is limited to so many here, for a month to reach it.
FEW = 50


def weigh(root: object) -> int:
    """Return how many things a state machine holds, in all that can be reached from it."""
    seen: set[int] = set()
    waiting: deque[Any] = deque([root])
    total = 0
    while waiting:
        thing = waiting.popleft()
        if id(thing) in seen or callable(thing) or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            total += thing.nbytes // 64
            continue
        inside = list(_inside(thing))
        total += len(inside)
        waiting.extend(inside)
    return total


def _inside(thing: Any) -> Iterator[Any]:
    if isinstance(thing, Mapping):
        yield from thing.keys()
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        yield from thing
    elif type(thing).__module__.startswith("protocol"):
        for kind in type(thing).__mro__:
            for name in getattr(kind, "__slots__", ()):
                if hasattr(thing, name):
                    yield getattr(thing, name)
        yield from getattr(thing, "__dict__", {}).values()


@pytest.mark.lane("deep")
def test_nothing_grows_in_a_month(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jobs.INLINE_BYTES", "transfer.CHUNK_BYTES", "flow.CHUNK_BYTES"):
        monkeypatch.setattr(f"protocol.wire.{name}", 64)
    for name in ("absence.GONE", "dispatch.GONE", "bench.RECORDS", "pace.GROUPS", "pace.RECORDS"):
        monkeypatch.setattr(f"protocol.machine.{name}", FEW)
    monkeypatch.setattr(Simulation, "cache_bytes", 20_000)
    simulation = Simulation(7, WEATHER, nodes=4, seconds=(1, 600), heartbeat=HEARTBEAT)
    submitted = 0

    def submit() -> None:
        nonlocal submitted
        for _ in range(3):
            submitted += 1
            job = make(submitted, 60 if submitted % 2 else 0)
            data: Any = dict(job.arrays) or job.to_string()
            simulation.submit(submitted, JobDataType(data, group=f"run {submitted // 30}"))
        simulation._later(DAY / 48, submit)

    submit()
    weights = {}
    for day in range(1, 31):
        simulation.run(lambda day=day: simulation.now >= day * DAY, limit=40 * DAY)  # type: ignore[misc]
        simulation.jobs.clear()  # the test's own memory
        simulation.solutions.clear()
        sessions = [node.session for node in simulation._nodes.values()]
        weights[day] = weigh(simulation.dispatcher) + sum(map(weigh, sessions))
    solved = len(simulation.accepted) + len(simulation.failed)
    assert submitted > 4000
    assert solved > submitted - 20
    first, last = max(weights[d] for d in range(5, 11)), max(weights[d] for d in range(25, 31))
    assert last < 1.15 * first, weights
