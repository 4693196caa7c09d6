"""Each job is accepted once and every run ends, whatever the network does."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import pytest

from protocol.machine.placement import RUNNERS
from protocol.machine.session import SessionState

from ..lanes import depth
from .simulation import Simulation, Weather, make, solve

CALM = Weather()
RAIN = Weather(lose=0.1, repeat=0.1, delay=0.3, corrupt=0.02)
STORM = Weather(
    lose=0.2, repeat=0.2, delay=0.5, corrupt=0.02, crash_every=60, cut_every=20, freeze_every=60
)
QUAKE = Weather(
    lose=0.1, repeat=0.1, delay=0.3, crash_every=90, cut_every=30, freeze_every=90,
    restart_every=15,
)  # fmt: skip
OUTAGES = Weather(outage_every=10, rate=1e6)
#: How large the arrays of jobs are, in numbers: none, within an offer, and one to ten chunks.
ROWS = (0, 0, 0, 0, 3, 3, 12, 40)
JOBS = 15  # at most
pytestmark = pytest.mark.deep
RUNS = 64 * depth()  # of each kind, spread over so many tests that a failure names its seeds
#: In each there are runs enough for everything to be said that may be.
BLOCKS = max(2, depth() // 2)
#: What nodes and a main node say to each other wherever jobs are done.
SAID = {
    "Hello", "Welcome", "Heartbeat", "JobOffer", "Need", "Chunk", "SolutionReady", "Accepted",
    "Waiting",
}  # fmt: skip
RAINED = SAID | {"lose", "damage", "Cancel"}
STORMED = RAINED | {"crash", "cut", "freeze", "Recall"}
QUAKED = STORMED - {"damage"} | {"restart"}
HAVOC = STORMED | {"restart", "outage", "unfit", "back before its end", "Returned", "TaskFailed"}


def seeds(block: int) -> range:
    """Return the seeds of a block."""
    return range(block * RUNS // BLOCKS, (block + 1) * RUNS // BLOCKS)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make arrays of a few hundred bytes travel in chunks, so that thousands of runs do."""
    monkeypatch.setattr("protocol.wire.jobs.INLINE_BYTES", 64)
    monkeypatch.setattr("protocol.wire.transfer.CHUNK_BYTES", 32)
    monkeypatch.setattr("protocol.wire.flow.CHUNK_BYTES", 32)
    monkeypatch.setattr("protocol.wire.flow.LEAST", 64)
    monkeypatch.setattr("protocol.wire.transfer.RUN_BYTES", 96)


def play(seed: int, weather: Weather, **options: object) -> Simulation:
    """Run some jobs on some nodes; return the simulation once everything has ended."""
    chance = random.Random(seed)
    simulation = Simulation(seed, weather, nodes=chance.randint(1, 5), **options)  # type: ignore[arg-type]
    jobs = {n: make(n, chance.choice(ROWS)) for n in range(1, chance.randint(2, JOBS))}
    for number, job in jobs.items():
        simulation._later(chance.uniform(0, 3), partial(simulation.submit, number, job))
    ended = simulation.run(lambda: len(simulation.accepted) + len(simulation.failed) == len(jobs))
    assert ended, f"seed {seed}: {simulation.accepted} accepted, {simulation.failed} failed"
    simulation.settle()  # late answers must not hurt
    assert set(simulation.accepted.values()) <= {1}, f"seed {seed}: accepted twice"
    assert not simulation.accepted.keys() & simulation.failed.keys()
    for number, solution in simulation.solutions.items():
        assert solution == solve(jobs[number]), f"seed {seed}: job {number} has another's solution"
    assert simulation.dispatcher.open == 0
    assert not simulation.recomputed, f"seed {seed}: computed again though it was kept"
    return simulation


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("weather", [CALM, RAIN], ids=["calm", "rain"])
def test_every_job_is_accepted_once_over_a_bad_network(weather: Weather, block: int) -> None:
    met: Counter[str] = Counter()
    for seed in seeds(block):
        simulation = play(seed, weather)
        assert not simulation.failed
        met += simulation.met
    assert (RAINED if weather is RAIN else SAID) <= met.keys()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_run_ends_while_nodes_crash_freeze_and_are_cut_off(block: int) -> None:
    met: Counter[str] = Counter()
    for seed in seeds(block):
        simulation = play(seed, STORM)
        met += simulation.met
        for failure in simulation.failed.values():  # only what was lost again and again
            assert len(failure.story) >= 3
            # A message that is damaged on its way may name what nobody holds.
            kinds = {attempt.kind for attempt in failure.story}
            assert kinds <= {"lost", "undelivered", "transfer"}
    assert met.keys() >= STORMED
    assert min(met["crash"], met["cut"], met["freeze"]) > RUNS // BLOCKS


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_run_ends_while_its_main_node_is_killed_and_goes_on_from_its_memory(
    block: int,
) -> None:
    lives = handed_over = 0
    met: Counter[str] = Counter()
    for seed in seeds(block):
        simulation = play(seed, QUAKE, max_attempts=9)
        assert not simulation.failed
        met += simulation.met
        lives += simulation.lives
        handed_over += simulation.handed_over
    assert lives > 2 * RUNS // BLOCKS
    assert met.keys() >= QUAKED
    assert handed_over, "no node ever handed over what it held"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_an_unfit_solution_is_a_failed_attempt_and_nothing_else(block: int) -> None:
    unfit = 0
    for seed in seeds(block):
        simulation = play(seed, RAIN, keeps=True, bad=0.2, max_attempts=9)
        assert not simulation.failed
        unfit += simulation.met["unfit"]
    assert unfit > RUNS // BLOCKS


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_poisonous_job_fails_with_its_story_and_the_others_are_solved(block: int) -> None:
    in_vain = 0
    for seed in range(block * 20, (block + 1) * 20):
        simulation = play(seed, RAIN, poison=frozenset([1]))
        others = [failure for number, failure in simulation.failed.items() if number != 1]
        # A receiver that lost a message takes its line for a slow one, and is patient for too long.
        assert {each.kind for failure in others for each in failure.story} <= {"transfer"}
        in_vain += len(others)
        kinds = [attempt.kind for attempt in simulation.failed[1].story]
        assert set(kinds) == {"raised"}
        assert 3 <= len(kinds) < 3 + RUNNERS  # a second one may have been at work
    assert in_vain <= 1


def test_a_run_can_be_played_again_from_its_seed() -> None:
    first, second = play(7, STORM), play(7, STORM)
    assert (first.now, first.messages) == (second.now, second.messages)


def test_nothing_is_left_at_a_node_once_its_jobs_are_accepted() -> None:
    simulation = play(3, RAIN)
    for node in simulation._nodes.values():
        assert node.session.state is SessionState.SERVING
        assert node.session.holds == ()


def test_in_calm_weather_no_message_is_wasted() -> None:
    """An offer, an answer and a receipt for each job; the rest are heartbeats and greetings."""
    simulation = Simulation(1, CALM, nodes=1)
    simulation.run(lambda: simulation.now > 0.1)
    before = simulation.messages
    simulation.submit(1, make(1))
    assert simulation.run(lambda: simulation.accepted[1] == 1)
    beats = 2 * (int(simulation.now) + 1)
    assert simulation.messages - before <= 3 + beats


def play_outages(seed: int) -> Simulation:
    """Run jobs on nodes that are all behind one relay, which dies time and again."""
    chance = random.Random(seed)
    simulation = Simulation(
        seed, OUTAGES, nodes=chance.randint(2, 20), max_attempts=chance.randint(1, 3),
        seconds=(2.0, 2.0),
    )  # fmt: skip
    jobs = {n: make(n, chance.choice(ROWS)) for n in range(1, 60)}
    for number, job in jobs.items():
        simulation._later(chance.uniform(0, 3), partial(simulation.submit, number, job))
    assert simulation.run(lambda: len(simulation.accepted) == len(jobs)), f"seed {seed}"
    return simulation


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_relay_that_dies_fails_no_job_and_has_nothing_done_twice(block: int) -> None:
    outages = 0
    for seed in seeds(block):
        simulation = play_outages(seed)
        assert not simulation.failed, f"seed {seed}"
        twice = [number for number, times in simulation.done.items() if times > 1]
        assert not twice, f"seed {seed}: done more than once: {twice}"
        outages += simulation.met["outage"]
    assert outages > RUNS // BLOCKS // 2


def play_havoc(seed: int) -> Simulation:
    """Run jobs while everything happens that can, in any mixture."""
    chance = random.Random(seed)
    pick = chance.choice
    rate = pick([0, 0, 10_000, 2_000])
    weather = Weather(
        lose=0 if rate else pick([0, 0, 0.1]), repeat=0 if rate else pick([0, 0, 0.1]),
        corrupt=0 if rate else pick([0, 0, 0.02]), delay=pick([0.01, 0.1, 0.3]), rate=rate,
        crash_every=pick([0, 60, 30]), cut_every=pick([0, 20, 5]), freeze_every=pick([0, 60]),
        restart_every=pick([0, 0, 15]), outage_every=pick([0, 10, 5]), anew=0.3,
    )  # fmt: skip
    # Attempts are counted anew by each start of a main node.
    poison: list[list[int]] = [[]] if weather.restart_every else [[1], [], [], [], []]
    simulation = Simulation(
        seed, weather, nodes=chance.randint(1, 8), hosts=chance.randint(1, 3),
        max_attempts=pick([1, 3, 9]), keeps=chance.random() < 0.4, bad=pick([0, 0.2]),
        places=pick([1, 1, 3]), poison=frozenset(pick(poison)), checked=True,
    )  # fmt: skip
    jobs = {n: make(n, pick(ROWS)) for n in range(1, chance.randint(2, JOBS))}
    for number, job in jobs.items():
        simulation._later(chance.uniform(0, 3), partial(simulation.submit, number, job))
    if chance.random() < 0.5:
        for number in jobs:
            if chance.random() < 0.3:
                simulation._later(chance.uniform(3, 30), partial(simulation.cancel, number))
    accepted, failed, cancelled = simulation.accepted, simulation.failed, simulation.cancelled
    ended = simulation.run(lambda: len(accepted.keys() | failed.keys() | cancelled) == len(jobs))
    assert ended, f"seed {seed}: {weather}"
    simulation.settle()  # late answers must not hurt
    assert simulation.dispatcher.open == 0
    for number, solution in simulation.solutions.items():
        assert solution == solve(jobs[number])
    return simulation


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_books_agree_after_every_step_whatever_happens(block: int) -> None:
    met: Counter[str] = Counter()
    for seed in seeds(block):
        met += play_havoc(seed).met
    assert met.keys() >= HAVOC
