"""Kinds, priorities, keeping and sources: simulated by the thousand, and an event at a time."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from protocol import JobDataType, LocalProtocolError
from protocol.machine.dispatch import UNREACHED_SECONDS
from protocol.machine.effects import Accept, Fail, NotReached, Run, Send, Stranded, Tell
from protocol.machine.ledger import ANY_SOURCE, MAX_UNREACHED, Job, JobState, Ledger
from protocol.machine.placement import OVERTAKES
from protocol.machine.session import RESEND_SECONDS
from protocol.wire.limits import MAX_SOURCES
from protocol.wire.messages import (
    Accepted,
    Cancel,
    Heartbeat,
    JobOffer,
    Recall,
    Returned,
    TaskFailed,
    Unreached,
    Waiting,
)

from ..lanes import depth
from .invariants import check
from .simulation import SimulatedNode, Simulation, Weather, make, solve
from .test_dispatch import Table, solved
from .test_session import offer, serving, told
from .test_simulation import BLOCKS, JOBS, OUTAGES, QUAKE, RAIN, ROWS, STORM, small_chunks

__all__ = ["small_chunks"]  # for every test here

RUNS = 16 * BLOCKS  # of each kind
#: What is said goes in order, as over any line: no task is asked back before it is there.
CALM = Weather(rate=1e6)
#: How long after it was submitted an urgent job has overtaken whatever has not begun.
SOON = 1.0
KINDS = ("", "fit", "predict")
SOURCES = ("nfs", "s3", "web")
ACCELERATORS = ("", "cpu", "cuda: one", "cuda: another", "mps")


class Watched(Simulation):
    """Sees that nothing begins while something more urgent has been in the queue for a while."""

    overtaken = 0

    def on_begin(self, node: SimulatedNode, run: Run) -> None:
        super().on_begin(node, run)
        hello = node.session.hello
        assert hello.takes(run.job.kind, run.job.device)
        placement = self.dispatcher._placement
        there = self.dispatcher._nodes[node.peer]
        for where, queue in placement._queues.items():
            if -where.back > run.job.priority and hello.takes(where.kind, where.device):
                for job in queue.values():
                    soon = self.now - job.queued < SOON or there.lacks(job)
                    assert soon, f"{run.job_id} began before {job.id}, which is urgent"
        self.overtaken += any(
            other.data.priority < run.job.priority
            and self.submitted[other.id] < self.submitted[run.job_id]
            for other in self.dispatcher._ledger.jobs.values()
            if other.state is JobState.QUEUED
        )


def company(chance: random.Random, nodes: int) -> list[tuple[tuple[str, ...], frozenset[str], str]]:
    """Return what nodes take, can't reach and have; one of them takes whatever job there is."""
    takes = [tuple(chance.sample(KINDS, chance.randint(1, 3))) for _ in range(nodes - 1)]
    beyond = [frozenset(chance.sample(SOURCES, chance.randint(0, 3))) for _ in range(nodes)]
    have = ["cuda: one", *(chance.choice(ACCELERATORS) for _ in takes)]
    return list(zip([KINDS, *takes], beyond, have, strict=True))


def play(
    seed: int, weather: Weather, of: type[Simulation] = Simulation, **options: Any
) -> Simulation:
    """Run jobs of all kinds, urgent or not, kept or not, that need sources or not, to their end."""
    chance = random.Random(seed)
    nodes = chance.randint(1, 5)
    mended = chance.uniform(5, 50)
    simulation = of(
        seed, weather, nodes, company=company(chance, nodes), mended=mended,
        **{"places": chance.choice([1, 1, 3]), "checked": True, **options},
    )  # fmt: skip
    jobs = {}
    for number in range(1, chance.randint(2, JOBS + 10)):
        sources: tuple[str, ...] = ()
        if chance.random() < 0.3:
            simulation.needs[number] = chance.choice(SOURCES)
            if chance.random() < 0.5:  # else it is learned
                sources = (simulation.needs[number],)
        jobs[number] = make(
            number, chance.choice(ROWS), kind=chance.choice(KINDS), sources=sources,
            priority=chance.choice([0, 0, 0, 5, -5, 100]), kept=chance.random() < 0.7,
            device=chance.choice(["", "", "cpu", "cuda"]),
        )  # fmt: skip
        simulation._later(chance.uniform(0, 6), partial(simulation.submit, number, jobs[number]))
    accepted, failed = simulation.accepted, simulation.failed
    ended = simulation.run(lambda: len(accepted) + len(failed) == len(jobs))
    assert ended, f"seed {seed}: {set(jobs) - set(accepted) - set(failed)} never ended"
    simulation.settle()  # late answers must not hurt
    assert set(accepted.values()) <= {1}, f"seed {seed}: accepted twice"
    assert not accepted.keys() & failed.keys()
    assert simulation.dispatcher.open == 0
    assert not simulation.recomputed
    for number, solution in simulation.solutions.items():
        assert solution == solve(jobs[number])
    return simulation


@pytest.mark.deep
@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_more_urgent_begins_first_and_every_job_is_accepted_once(block: int) -> None:
    """With one attempt for each: what a node can't reach is none."""
    unreached = stranded = overtaken = 0
    for seed in range(block * RUNS // BLOCKS, (block + 1) * RUNS // BLOCKS):
        simulation = play(seed, CALM, of=Watched, max_attempts=1, keeps=seed % 2 > 0)
        assert isinstance(simulation, Watched)
        assert not simulation.failed, f"seed {seed}"
        assert max(simulation.stranded.values(), default=1) == 1, "said twice"
        assert set(simulation.stranded) <= set(simulation.needs)
        unreached += simulation.unreached.total()
        stranded += simulation.stranded.total()
        overtaken += simulation.overtaken
    assert unreached and stranded and overtaken  # all of it has happened


@pytest.mark.deep
@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize(
    "weather", [RAIN, STORM, QUAKE, OUTAGES], ids=["rain", "storm", "quake", "outages"]
)
def test_every_run_ends_whatever_jobs_are_and_need(weather: Weather, block: int) -> None:
    unreached = 0
    for seed in range(block * RUNS // BLOCKS, (block + 1) * RUNS // BLOCKS):
        # Where messages are lost for minutes, a solution may not arrive in time.
        hard = weather is not OUTAGES
        checked = seed % 4 == 0
        simulation = play(
            seed, weather, max_attempts=9 if hard else 1, keeps=seed % 3 > 0, checked=checked
        )
        assert not simulation.failed or hard, f"seed {seed}: {simulation.failed}"
        kinds = {each.kind for failure in simulation.failed.values() for each in failure.story}
        assert kinds <= {"lost", "undelivered", "transfer"}
        unreached += simulation.unreached.total()
    assert unreached


@pytest.mark.deep
@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_an_urgent_job_waits_for_one_that_runs_at_most(nodes: int) -> None:
    for seed in range(32 * depth()):
        simulation = Watched(seed, CALM, nodes, seconds=(2.0, 4.0), checked=True)
        for number in range(1, 101):
            simulation.submit(number, make(number))
        at = 10 + simulation.random.uniform(0, 10)
        urgent = make(999, priority=1)
        simulation._later(at, partial(simulation.submit, 999, urgent))
        assert simulation.run(partial(simulation.accepted.__contains__, 999))
        assert simulation.begun[999] - simulation.submitted[999] < 4.0 + SOON


# An event at a time.


def full(priority: int = 0, **hello: Any) -> Table:
    """A node that runs job 1 and has job 2 waiting; 3 is in the queue."""
    table = Table(**{"keeps": bool(hello.pop("keeps", False))})
    table.hello(b"a", **hello)
    for number in (1, 2, 3):
        table.submit(number, JobDataType(str(number), priority=priority))
    return table


def test_jobs_go_by_priority_then_in_order_whatever_their_kinds() -> None:
    table = Table()
    wanted = [("fit", 0), ("", 0), ("fit", 0), ("", 7), ("nobody's", 100), ("", -3), ("fit", 7)]
    for number, (kind, priority) in enumerate(wanted, 1):
        table.submit(number, JobDataType(str(number), kind=kind, priority=priority))
    table.hello(b"a", kinds=("", "fit"), tasks=9, credit=10)
    assert list(table.offers()) == [4, 7, 1, 2, 3, 6]  # 5 is in nobody's way
    offers = [
        e.message for e in table.effects if isinstance(e, Send) and isinstance(e.message, JobOffer)
    ]
    assert [offer.priority for offer in offers] == [7, 7, 0, 0, 0, -3]
    table.hello(b"b", kinds=("nobody's",))
    assert list(table.offers()) == [5]


def test_what_has_not_begun_is_asked_back_for_an_urgent_job_at_once() -> None:
    table = full()
    second = max(table.dispatcher._nodes[b"a"].tasks)
    table.submit(9, JobDataType("9", priority=1))
    assert table.said(Recall) == [Recall(second)]
    table.submit(10, JobDataType("10", priority=1))
    assert not table.said(Recall)  # what runs is never interrupted
    table.hear(b"a", Returned(second))
    assert list(table.offers()) == [9]
    check(table.dispatcher)
    running = min(table.dispatcher._nodes[b"a"].tasks)
    table.hear(b"a", solved(running))
    assert list(table.offers()) == [10]
    table.hear(b"a", solved(table.offers()[10][1]))
    assert list(table.offers()) == [2]  # it was first in the queue


def test_nothing_is_asked_back_for_what_is_no_more_urgent() -> None:
    for priority in (0, 5):
        table = full(priority)
        table.submit(9, JobDataType("9", priority=priority))
        assert not table.said(Recall)
        table.submit(10, JobDataType("10", priority=-5))
        assert not table.said(Recall)
        assert not any(isinstance(e.message, Recall) for e in table.tick(3) if isinstance(e, Send))


def test_an_urgent_job_is_not_asked_back_for_a_more_urgent_one_twice_over() -> None:
    table = full()
    for peer in (b"b", b"c"):
        table.hello(peer)
    for number in range(20, 30):
        table.submit(number)
    recalled = []
    for number in range(100, 110):
        table.submit(number, JobDataType("x", priority=1))
        recalled += [recall.task for recall in table.said(Recall)]
    assert len(recalled) == len(set(recalled)) == 3  # one waits at each of three nodes
    tasks = {task: node for node in table.dispatcher._nodes.values() for task in node.tasks}
    assert len({tasks[task].peer for task in recalled}) == 3
    table.tick(2)
    assert not table.said(Recall)


def test_where_a_recall_comes_too_late_another_task_is_asked_back() -> None:
    table = full()
    node = table.dispatcher._nodes[b"a"]
    first, second = sorted(node.tasks)
    table.submit(9, JobDataType("9", priority=1))
    assert table.said(Recall) == [Recall(second)]
    table.hear(b"a", Heartbeat((first, second), {second: 0.1}))  # it had begun by then
    assert table.said(Recall) == [Recall(first)]  # at once: the only place is another's
    table.tick(0.5)
    assert not table.said(Recall)


def test_a_thousand_urgent_jobs_cost_a_main_node_no_more_than_some() -> None:
    table = Table()
    for number in range(40):
        table.hello(b"n%d" % number)
    for number in range(1, 200):
        table.submit(number)
    recalls = 0
    for number in range(1000, 2000):
        table.submit(number, JobDataType("x", priority=3))
        recalls += len(table.said(Recall))
    assert recalls == 40 <= OVERTAKES
    check(table.dispatcher)


def test_the_urgent_ones_of_what_waits_go_to_an_idle_node_first() -> None:
    table = Table()
    table.hello(b"a", tasks=3, credit=4)
    table.submit(1)
    for number, priority in ((2, 0), (3, 5), (4, 0)):
        table.submit(number, JobDataType(str(number), priority=priority))
    node = table.dispatcher._nodes[b"a"]
    by_job = {task.job.id: task.id for task in node.tasks.values()}
    table.hear(b"a", Waiting(tuple(by_job[n] for n in by_job if n != 1)))
    table.hello(b"b", credit=1)
    assert table.said(Recall) == [Recall(by_job[3])]


def test_what_is_not_kept_is_accepted_at_once_and_never_noted() -> None:
    table = Table(keeps=True, ledger=Ledger(10, {}, 5000))
    table.hello(b"a")
    (offered,) = table.submit(1, JobDataType("x", kept=False))
    assert isinstance(offered, Send)  # and nothing for the journal
    assert isinstance(offered.message, JobOffer)
    assert offered.message.task == 5000  # no later life can take it for one of its own
    effects = table.hear(b"a", solved(5000))
    assert isinstance(effects[0], Accept)
    table.submit(2, JobDataType("x"))
    assert table.offers()[2][1] == 10


def test_what_a_node_can_not_reach_goes_to_another_and_is_no_attempt() -> None:
    table = Table(max_attempts=1)
    table.hello(b"a")
    table.submit(1, JobDataType("x", sources=("nfs",)))
    _, task = table.offers()[1]
    effects = table.hear(b"a", Unreached(task, "nfs", "no route to host"))
    assert effects == [
        Send(b"a", Accepted((task,))), NotReached("a.id-a", "nfs", "no route to host"),
    ]  # fmt: skip
    job = table.dispatcher._ledger.jobs[1]
    assert (job.attempts, job.failed_at) == ((), ())
    assert table.tick(1) == [Stranded(1, "nfs", "no route to host")]
    misfit = table.dispatcher.view(table.now).misfit
    assert misfit == "a.id-a can't reach nfs (no route to host)"
    table.submit(2, JobDataType("y", sources=("nfs",)))
    assert not table.offers()
    table.submit(3)
    assert table.offers()[3][0] == b"a"  # neither benched, nor are others held up
    table.hear(b"a", solved(table.offers()[3][1]))
    assert table.tick(1) == [Stranded(2, "nfs", "no route to host")]  # each once
    assert not [effect for effect in table.tick(5) if isinstance(effect, Stranded)]
    check(table.dispatcher)
    table.hello(b"b")
    table.tick(0.5)
    assert {number: peer for number, (peer, _) in table.offers().items()} == {1: b"b", 2: b"b"}
    assert not table.dispatcher.view(table.now).misfit


def test_a_source_is_tried_again_after_a_while_and_over_a_new_connection() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    _, task = table.offers()[1]
    table.hear(b"a", Unreached(task, "learned", "no"))
    assert table.dispatcher._ledger.jobs[1].sources == ("learned",)
    for _ in range(int(UNREACHED_SECONDS)):
        table.hear(b"a", Heartbeat())
        table.tick(1)
        assert not table.offers()
    table.hear(b"a", Heartbeat())
    table.tick(1)
    _, task = table.offers()[1]
    table.hear(b"a", Unreached(task, "learned", "no"))
    assert not table.tick(1)  # that it can't be reached has been said
    table.dispatcher.unreachable(b"a", table.now)
    table.hello(b"a2", node="id-a")
    table.tick(0.5)
    assert table.offers()[1][0] == b"a2"


def test_of_two_nodes_that_take_such_jobs_the_other_one_gets_it() -> None:
    table = Table()
    table.hello(b"a")
    table.hello(b"other", kinds=("fit",))
    table.submit(1)
    table.hello(b"b")
    peer, task = table.offers().get(1) or (b"a", table.in_hand(b"a"))
    table.hear(peer, Unreached(task, "nfs", "no"))
    assert table.offers()[1][0] == b"b"
    assert not any(isinstance(effect, Stranded) for effect in table.tick(1))


def test_a_job_that_nobody_can_reach_waits_where_its_nodes_are_gone_too() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", Unreached(table.in_hand(b"a"), "nfs", "no"))
    table.tick(1)
    assert table.dispatcher._placement._stranded
    table.dispatcher.unreachable(b"a", table.now)
    table.tick(0.5)
    assert not table.dispatcher._placement._stranded  # an ordinary job without a node
    table.dispatcher.cancel(1, table.now)
    assert table.dispatcher.open == 0
    check(table.dispatcher)


def test_a_stranded_job_can_be_cancelled_or_solved_by_who_had_it_before() -> None:
    table = Table()
    table.hello(b"a")
    for number in (1, 2):
        table.submit(number, JobDataType("x", sources=("nfs",)))
    first, second = table.dispatcher._nodes[b"a"].tasks
    for task in (first, second):
        table.hear(b"a", Unreached(task, "nfs", "no"))
    table.tick(1)
    check(table.dispatcher)
    table.dispatcher.cancel(1, table.now)
    check(table.dispatcher)
    assert table.dispatcher.open == 1


def test_a_stranded_job_is_solved_by_value_instead() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1, JobDataType("by reference", sources=("nfs",)))
    table.hear(b"a", Unreached(table.in_hand(b"a"), "nfs", "no"))
    table.tick(1)
    table.effects = table.dispatcher.replace(Job.of(1, JobDataType("by value")), table.now)
    (offered,) = [e.message for e in table.effects if isinstance(e, Send)]
    assert isinstance(offered, JobOffer)
    assert (offered.job, offered.payload) == (1, b"by value")
    check(table.dispatcher)
    # Somebody has it now: it is left alone.
    assert not table.dispatcher.replace(Job.of(1, JobDataType("again")), table.now)
    accept, *_ = table.hear(b"a", solved(offered.task))
    assert isinstance(accept, Accept)
    assert not table.dispatcher.replace(Job.of(1, JobDataType("late")), table.now)


def test_a_node_that_reaches_nothing_is_given_no_job_that_needs_a_source() -> None:
    """Else it would get the same jobs again and again: they cost no attempt."""
    table = Table()
    table.hello(b"a", tasks=1, credit=2)
    said = 0
    for number in range(1, MAX_UNREACHED + 50):
        table.submit(number)
        for job, (_, task) in table.offers().items():
            assert job == number, "again"
            table.hear(b"a", Unreached(task, f"source {number}", "no"))
            said += 1
            assert not table.offers()
    assert said == MAX_UNREACHED + 49  # what it needs is not known before
    node = table.dispatcher._nodes[b"a"]
    assert len(node.unreached) == MAX_UNREACHED + 1
    assert ANY_SOURCE in node.unreached
    table.submit(5000, JobDataType("x", sources=("fresh",)))
    assert not table.offers()


def test_a_job_of_which_every_node_names_another_source_goes_to_each_once() -> None:
    table = Table()
    table.submit(1)
    for number in range(MAX_SOURCES + 20):
        table.hello(b"n%d" % number)
        _, task = table.offers()[1]
        table.hear(b"n%d" % number, Unreached(task, f"from here {number}", "no"))
        assert not table.offers()
    table.tick(5)
    assert not table.offers()
    assert len(table.dispatcher._ledger.jobs[1].sources) == MAX_SOURCES + 1


def test_a_word_on_a_task_that_nobody_has_is_receipted_and_is_noise() -> None:
    table = Table()
    table.hello(b"a")
    before = table.dispatcher.noise
    assert table.hear(b"a", Unreached(77, "nfs", "no")) == [Send(b"a", Accepted((77,)))]
    assert table.dispatcher.noise == before + 1


def test_failures_elsewhere_count_as_before() -> None:
    """The one that can reach it fails: as often as any job may."""
    table = Table(max_attempts=2)
    table.hello(b"a")
    table.submit(1)
    table.hear(b"a", Unreached(table.in_hand(b"a"), "nfs", "no"))
    table.hello(b"b")
    table.tick(0.5)
    for _ in range(2):
        table.effects = table.hear(b"b", TaskFailed(table.in_hand(b"b"), "raised", "no"))
    (failed,) = [effect for effect in table.effects if isinstance(effect, Fail)]
    assert [attempt.node for attempt in failed.story] == ["b.id-b", "b.id-b"]


def test_a_second_runner_that_can_not_reach_its_source_ends_no_first_one() -> None:
    table = Table()
    table.hello(b"a")
    table.submit(1)
    job = table.dispatcher._ledger.jobs[1]
    table.hello(b"b")
    table.dispatcher._offer(job, table.dispatcher._nodes[b"b"], table.now)
    table.hear(b"b", Unreached(table.in_hand(b"b"), "nfs", "no"))
    assert not table.said(Cancel)
    assert job.state is JobState.RUNNING
    assert isinstance(table.hear(b"a", solved(table.in_hand(b"a")))[0], Accept)


# At the node.


def test_a_node_tells_that_it_can_not_reach_a_source_until_that_is_accepted() -> None:
    session = serving()
    session.receive(offer(1), 0.1)
    assert session.started(1, 0.1)
    word = Unreached(1, "nfs", "no route")
    assert told(session.unreached(1, "nfs", "no route", 0.2)) == [word]
    assert word not in told(session.tick(RESEND_SECONDS))
    assert word in told(session.tick(0.2 + RESEND_SECONDS))
    assert session.holds == (1,)
    session.receive(Accepted((1,)), 9.0)
    assert not session.holds


def test_a_source_is_named_in_words_that_can_be_sent() -> None:
    session = serving()
    session.receive(offer(1), 0.1)
    (effect,) = session.unreached(1, "a\nb" + "c" * 500, "\udce9", 0.2)
    assert isinstance(effect, Tell)
    assert isinstance(effect.message, Unreached)
    assert effect.message.source == "ab" + "c" * 197


def test_the_runner_is_told_how_urgent_a_job_is() -> None:
    session = serving()
    (run,) = session.receive(JobOffer(1, 1, "", {}, b"x", {}, 42, "cpu"), 0.1)
    assert isinstance(run, Run)
    assert run.job.priority == 42


# What a job is.


@pytest.mark.parametrize("priority", [101, -101, 1.0, False, "5", None])
def test_a_priority_that_can_not_be_is_refused(priority: object) -> None:
    with pytest.raises(LocalProtocolError, match="can't be a job's priority"):
        Job.of(1, JobDataType("x", priority=priority))  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [1, 0, None, "no"])
def test_kept_is_yes_or_no(kept: object) -> None:
    with pytest.raises(LocalProtocolError, match="can't be a job's kept"):
        Job.of(1, JobDataType("x", kept=kept))  # type: ignore[arg-type]


@pytest.mark.parametrize("sources", ["nfs", ["nfs"], ("",), (7,), ("a\nb",), ("x",) * 17, None])
def test_sources_that_can_not_be_are_refused(sources: object) -> None:
    with pytest.raises(LocalProtocolError, match=r"can't be a (job's sources|source's name)"):
        Job.of(1, JobDataType("x", sources=sources))  # type: ignore[arg-type]


def test_how_a_job_is_placed_is_no_part_of_what_it_is() -> None:
    plain = make(1, 40, kind="fit")
    urgent = make(1, 40, kind="fit", priority=9, kept=False, sources=("nfs",))
    assert plain == urgent
    one, other = Job.of(1, plain), Job.of(1, urgent)
    assert one.blobs.keys() == other.blobs.keys()
    assert (one.payload, one.nbytes, one.offered) == (other.payload, other.nbytes, other.offered)
