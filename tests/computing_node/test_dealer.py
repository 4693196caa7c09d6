"""A computing node's own thread, an event at a time: whose task is whose, and who is let go of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from computing_node.dealer import GONE_SECONDS, MAX_MAINS, Dealer
from computing_node.replier import CallbackReplier
from protocol import JobDataType, JobSolutionDataType
from protocol.carrier.discovery import Found
from protocol.machine.limits import NodeLimits
from protocol.wire.messages import Hello, JobOffer, Message, SolutionReady, Welcome

from ..processes import free_port

SECONDS = 20
HELLO = Hello("node", "node", 0, ("",), {}, 1, 0, "", 1, 2)


class Bench:
    """A dealer whose thread is not started: the test is it."""

    def __init__(self, *addresses: str, **options: Any) -> None:
        self.reported = threading.Event()
        self.dealer = Dealer(
            HELLO, addresses, CallbackReplier(self._solve), NodeLimits(cache_bytes=1 << 20),
            **options,
        )  # fmt: skip

    def _solve(self, job: JobDataType, task_id: int, client_id: str) -> JobSolutionDataType:
        return JobSolutionDataType(f"solution of {job.to_string()}")

    def hear(self, service: Any, *messages: Message) -> None:
        now = time.monotonic()
        for message in messages:
            self.dealer._perform(service, service.session.receive(message, now), now)

    def begin(self) -> None:
        """Do what the end of a turn does, and wait until the workers have reported."""
        begun = list(self.dealer._begin)
        self.dealer._begin.clear()
        for task in begun:
            self.dealer._at_work.add(task.key)
            assert self.dealer._workers is not None
            self.dealer._workers.put(task)
        until = time.monotonic() + SECONDS
        while len(self.dealer._calls) < 2 * len(begun):  # a beginning and an end
            assert time.monotonic() < until
            time.sleep(0.001)


@pytest.fixture
def bench() -> Iterator[Any]:
    made: list[Bench] = []

    def make(*addresses: str, **options: Any) -> Bench:
        made.append(Bench(*addresses, **options))
        return made[-1]

    yield make
    for each in made:
        each.dealer.finish()
        each.dealer.discard()


def test_a_solution_goes_to_the_main_node_whose_job_it_is(bench: Any) -> None:
    """Found in review: the next main node at an address was told the last one's task 1."""
    table: Bench = bench(f"tcp://127.0.0.1:{free_port()}")
    (service,) = table.dealer._services.values()
    table.hear(service, Welcome("main-A", 1.0), JobOffer(1, 7, "", {}, b"A's job", {}))
    table.begin()  # its report waits, and in this turn A's successor is heard
    service.session.cut()
    service.session.greet(time.monotonic())
    service.outgoing.clear()
    table.hear(service, Welcome("main-B", 1.0), JobOffer(1, 1, "", {}, b"B's job", {}))
    table.dealer._perform_calls()
    assert not [m for m in service.outgoing._messages if isinstance(m, SolutionReady)]
    table.begin()
    table.dealer._perform_calls()
    (ready,) = [m for m in service.outgoing._messages if isinstance(m, SolutionReady)]
    assert ready.payload == b"solution of B's job"


def _dies_with_a_task(table: Bench, name: str, now: float) -> Any:
    """Let a main node be found, give a task, and be gone before its solution is accepted."""
    table.dealer.found(Found(name, name, (f"tcp://127.0.0.1:{free_port()}",)))
    service = table.dealer._discovered.get(name)
    assert service is not None, f"{name} is not served"
    table.hear(service, Welcome(name, 1.0), JobOffer(1, 1, "", {}, b"j", {}))
    service.session.solved(1, JobSolutionDataType("solution"), 0.1, now)
    service.session.cut()
    service.outgoing.clear()
    table.dealer.lost(name)
    table.dealer._forget_withdrawn()
    return service


def test_main_nodes_that_died_do_not_keep_new_ones_out(bench: Any) -> None:
    """Found in review: after 256 of them a node that discovers served nobody any more."""
    table: Bench = bench(discovers=True)
    now = time.monotonic()
    for number in range(MAX_MAINS + 40):
        service = _dies_with_a_task(table, f"main.{number}", now)
        assert service.session.holds  # it may come back for it
    assert len(table.dealer._services) <= MAX_MAINS


def test_a_main_node_that_does_not_come_back_is_let_go_of(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: Bench = bench(discovers=True)
    service = _dies_with_a_task(table, "main.0", time.monotonic())
    table.dealer._forget_withdrawn()
    assert table.dealer._services
    later = time.monotonic() + GONE_SECONDS + 1
    monkeypatch.setattr("computing_node.dealer.time.monotonic", lambda: later)
    table.dealer._forget_withdrawn()
    assert not table.dealer._services
    assert not table.dealer._tasks
    assert not service.session.holds
