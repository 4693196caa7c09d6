"""A main node that may use so many nodes at once, and no more, whatever happens to them."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import pytest

from protocol.machine.effects import Doubled
from protocol.wire.messages import Bye, Cancel, Heartbeat, Recall, Waiting

from ..lanes import depth
from .simulation import Simulation, Weather, make, solve
from .test_dispatch import Table, solved
from .test_simulation import CALM, QUAKE, ROWS, STORM, small_chunks

__all__ = ["small_chunks"]
RUNS, BLOCKS = 8 * depth(), depth()
HAVOC = Weather(
    lose=0.1, repeat=0.1, delay=0.1, corrupt=0.02, crash_every=30, cut_every=5, freeze_every=30,
    restart_every=15, outage_every=10, anew=0.3,
)  # fmt: skip


def play(seed: int, weather: Weather, company: int | None = None) -> Simulation:
    """Run some jobs on some of some nodes; the books are looked at after every step."""
    chance = random.Random(seed)
    nodes = company or chance.randint(1, 8)
    simulation = Simulation(
        seed, weather, nodes=nodes, most=chance.randint(1, nodes + 1), checked=True,
        places=chance.choice([1, 1, 3]), max_attempts=99, hosts=chance.choice([0, 2]),
    )  # fmt: skip
    jobs = {n: make(n, chance.choice(ROWS)) for n in range(1, chance.randint(2, 20))}
    for number, job in jobs.items():
        simulation._later(chance.uniform(0, 3), partial(simulation.submit, number, job))
    assert simulation.run(lambda: len(simulation.accepted) == len(jobs)), f"seed {seed}"
    simulation.settle()
    assert not simulation.failed
    assert set(simulation.accepted.values()) == {1}
    for number, solution in simulation.solutions.items():
        assert solution == solve(jobs[number])
    return simulation


@pytest.mark.deep
@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize(
    "weather", [CALM, STORM, QUAKE, HAVOC], ids=["calm", "storm", "quake", "havoc"]
)
def test_never_more_nodes_have_tasks_than_may_and_every_job_is_solved(
    weather: Weather, block: int
) -> None:
    met: Counter[str] = Counter()
    for seed in range(block * RUNS // BLOCKS, (block + 1) * RUNS // BLOCKS):
        met += play(seed, weather).met
    if weather is HAVOC:
        assert met.keys() >= {"crash", "cut", "freeze", "restart", "outage", "back before its end"}


@pytest.mark.deep
def test_in_calm_weather_it_is_always_the_same_nodes() -> None:
    """They have what jobs share already, and others may be switched off."""
    for seed in range(RUNS // 2):
        simulation = Simulation(seed, CALM, nodes=7, most=3, seconds=(0.1, 1.0), checked=True)
        for number in range(1, 40):
            simulation._later(
                random.Random(number).uniform(0, 9),
                partial(simulation.submit, number, make(number)),
            )
        accepted = simulation.accepted
        assert simulation.run(lambda accepted=accepted: len(accepted) == 39)  # type: ignore[misc]
        worked = [node for node in simulation.dispatcher._nodes.values() if node.solved]
        assert len(worked) <= 3


def table(most: int, nodes: int, **options: object) -> Table:
    found = Table(max_nodes=most, **options)
    for number in range(nodes):
        found.hello(b"%d" % number, host=f"host {number}", tasks=2, credit=4)
    return found


def at(found: Table) -> list[bytes]:
    """Return the nodes that have tasks."""
    return [peer for peer, node in found.dispatcher._nodes.items() if node.tasks]


def test_more_jobs_than_places_wait_and_a_node_that_leaves_is_followed_by_another() -> None:
    found = table(2, 5)
    for number in range(1, 20):
        found.submit(number)
        assert len(at(found)) <= 2
    first = at(found)
    assert len(first) == 2
    found.hear(first[0], Bye("enough"))
    second = at(found)
    assert len(second) == 2
    assert first[0] not in second
    found.effects = found.dispatcher.unreachable(second[0], found.now)
    assert len(at(found)) == 2
    while found.dispatcher.open:
        for peer in at(found):
            for task in list(found.dispatcher._nodes[peer].tasks):
                found.hear(peer, solved(task))
                assert len(at(found)) <= 2


def test_fewer_jobs_than_nodes_may_be_used_are_spread() -> None:
    found = table(3, 5)
    for number in range(1, 3):
        found.submit(number)
    assert len(at(found)) == 2


def test_a_node_that_comes_back_with_a_task_gives_it_up_where_others_have_taken_over() -> None:
    found = table(1, 2)
    found.submit(1)
    (first,) = at(found)
    task = found.in_hand(first)
    found.hear(first, Heartbeat((task,), {task: 0.5}))
    found.effects = found.dispatcher.unreachable(first, found.now)
    (second,) = at(found)
    assert second != first
    found.hello(first + b"again", node=f"id-{first.decode()}", main="main", holds=(task,))
    assert [each.task for each in found.said(Cancel)] == [task]
    assert at(found) == [second]
    found.hear(second, solved(found.in_hand(second)))
    assert found.dispatcher.done == 1


def test_a_solution_is_welcome_from_whoever_brings_it() -> None:
    found = table(1, 2)
    found.submit(1)
    (first,) = at(found)
    task = found.in_hand(first)
    found.hear(first, Heartbeat((task,), {task: 0.5}))
    found.effects = found.dispatcher.unreachable(first, found.now)
    assert at(found)
    back = first + b"again"
    found.hello(back, node=f"id-{first.decode()}", main="main")
    found.hear(back, solved(task))
    assert found.dispatcher.done == 1
    assert not at(found)


def test_a_node_that_connects_anew_keeps_its_place() -> None:
    """Found when this was written: its place was given away before it had said what it holds."""
    found = table(1, 3)
    for number in range(1, 9):
        found.submit(number)
    (first,) = at(found)
    tasks = tuple(found.dispatcher._nodes[first].tasks)
    found.hello(
        b"anew", node=f"id-{first.decode()}", name=first.decode(), main="main", holds=tasks,
        tasks=2, credit=4,
    )  # fmt: skip
    assert at(found) == [b"anew"]
    assert not found.said(Cancel)
    assert found.dispatcher._nodes[b"anew"].tasks.keys() >= set(tasks)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_what_waits_is_asked_back_for_those_only_that_may_have_it(most: int) -> None:
    found = table(most, 0)
    found.hello(b"a", tasks=1, credit=2)
    for number in (1, 2, 3):
        found.submit(number)
    assert len(found.dispatcher._nodes[b"a"].tasks) == 2
    _, two = found.dispatcher._nodes[b"a"].tasks
    found.hear(b"a", Waiting((two,)))
    found.effects = []
    recalled = []
    for peer in (b"b", b"c"):
        found.hello(peer, tasks=1, credit=1)
        recalled += [each.task for each in found.said(Recall)]
    assert len(at(found)) == min(most, 2)
    assert recalled == ([two] if most == 3 else [])


@pytest.mark.parametrize("most", [2, 3])
def test_a_second_runner_is_one_that_may_have_it(most: int) -> None:
    found = table(most, 4)
    for number in range(1, 30):
        found.submit(number)
    while found.dispatcher.open > 2:
        for peer in at(found):
            found.now += 0.01
            task = next(iter(found.dispatcher._nodes[peer].tasks))
            if found.dispatcher.open > 2:
                found.hear(peer, solved(task))
    for peer in at(found):
        tasks = tuple(found.dispatcher._nodes[peer].tasks)
        found.hear(peer, Heartbeat(tasks, dict.fromkeys(tasks, 0.0)))
    holders = at(found)
    doubled = []
    for _ in range(40):
        for peer in [*found.dispatcher._nodes]:
            tasks = tuple(found.dispatcher._nodes[peer].tasks)
            found.hear(peer, Heartbeat(tasks, dict.fromkeys(tasks, 0.1)))
        doubled += [each for each in found.tick(0.5) if isinstance(each, Doubled)]
        assert len(at(found)) <= most
    assert bool(doubled) == (len(holders) < most)
