"""A main node and its nodes over lines that are slow: in time, nothing twice, nobody given up."""

from __future__ import annotations

import random

import pytest

from .simulation import Simulation, Weather, make, solve

ROW_BYTES = 8


@pytest.mark.parametrize("seed", range(60))
def test_jobs_with_arrays_over_slow_lines_take_what_the_lines_take(seed: int) -> None:
    """Both ways: each solution is as large as its job."""
    chance = random.Random(seed)
    mbit = chance.choice([1, 2, 5, 20])
    rate = mbit * 1e6 / 8
    number, nodes = chance.randint(1, 8), chance.randint(1, 3)
    rows = int(rate * chance.uniform(5, 30) / number / ROW_BYTES)
    simulation = Simulation(
        seed, Weather(rate=rate, delay=0.01), nodes, seconds=(0.05, 0.1),
        places=number + 1,
    )  # fmt: skip
    jobs = {n: make(n, rows) for n in range(number)}
    for each, job in jobs.items():
        simulation.submit(each, job)
    waits: list[float] = []

    def small(job: int) -> None:
        """Submit a job that is small, and the next when it is solved."""
        begun = simulation.now
        simulation.submit(job, make(job))

        def look() -> None:
            if job in simulation.accepted:
                waits.append(simulation.now - begun)
                if any(n not in simulation.accepted for n in jobs):
                    small(job + 1)
            else:
                simulation._later(0.05, look)

        look()

    simulation._later(1, lambda: small(1000))
    assert simulation.run(lambda: jobs.keys() <= simulation.accepted.keys())
    for each, job in jobs.items():
        assert simulation.solutions[each] == solve(job)
    assert simulation.left == 0
    assert max(waits) < (3 if mbit == 1 else 1)
    nbytes = 2 * number * rows * ROW_BYTES
    assert simulation.carried < 1.05 * nbytes + 300 * simulation.now * (nodes + 1)


@pytest.mark.parametrize(("mbit", "delay"), [(0.1, 0.25), (0.1, 0.5), (0.08, 0.05)])
def test_a_line_on_which_a_chunk_takes_seconds_is_no_line_that_stands_still(
    mbit: float, delay: float
) -> None:
    """Found by a tester: everything went over it twice."""
    rate = mbit * 1e6 / 8
    rows = int(rate * 60 / ROW_BYTES)
    simulation = Simulation(0, Weather(rate=rate, delay=delay), 1, seconds=(0.05, 0.1))
    simulation.submit(1, make(1, rows))
    assert simulation.run(lambda: bool(simulation.accepted))
    assert simulation.carried < 1.1 * 2 * rows * ROW_BYTES
    assert simulation.left == 0
    assert simulation.now < 1.2 * 120
