"""Strategies with a part in each step, with noise, and with a taste: FedProx, FedNova, dp, soup."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from learning import MergeError, Solution, Strategy, Turn, create, merging
from learning.actions import Fit, Trial, perform
from learning.errors import UnfitSolution
from learning.layout import Layout
from learning.merging.dp import DifferentialPrivacy
from learning.merging.fednova import FedNova
from learning.model import sha256
from learning.ways import distance
from loaders.rows import Arrays
from protocol.options import carried

from ..brought.linear import LinearLearner
from .common import accountant, carry, images, never, silent

RATE = 0.05


def step_by_step(
    strategy: Strategy, start: Arrays, gradient: Any, steps: int, rows: int, momentum: float = 0.0
) -> Solution:
    """Learn a weight by steps of descent with momentum, along what `gradient(weight)` returns."""
    own = strategy.own(start)
    assert strategy.client is not None
    client: Any = strategy.client(strategy.shared(strategy.begin(start)), own)
    client.begin(np.array)
    weight, way = np.array(start["w"]), np.zeros_like(start["w"])
    for _ in range(steps):
        corrected = client.correct({"w": gradient(weight)}, {"w": weight})
        way = momentum * way + corrected["w"]
        weight -= RATE * way  # in place, as nets are moved
    kept = {name: np.asarray(array) for name, array in client.end().items()}
    return Solution({"w": weight, "n": start["n"]}, rows, client=kept, given=own, start=start)


def fresh(*numbers: float) -> Arrays:
    return {"w": np.array(numbers), "n": np.array(3)}


# FedProx.


@pytest.mark.parametrize("mu", [0.0, 0.01, 2.0])
def test_fedprox_descends_along_what_its_source_makes_small(mu: float) -> None:
    """Of h(w) = curve / 2 (w - least)^2 + mu / 2 (w - start)^2 steps have a closed form."""
    curve, least, start, steps = np.array([4.0, 0.5]), np.array([-1.0, 3.0]), fresh(0.5, -2.0), 7
    fedprox = merging.create("fedprox", {"mu": mu})
    solution = step_by_step(fedprox, start, lambda w: curve * (w - least), steps, 10)
    lowest = (curve * least + mu * start["w"]) / (curve + mu)
    wanted = lowest + (1 - RATE * (curve + mu)) ** steps * (start["w"] - lowest)
    np.testing.assert_allclose(solution.arrays["w"], wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ["fedprox", "fednova"])
def test_a_net_takes_part_with_what_it_learns_by(name: str) -> None:
    """FedProx without a pull, and a count alone, change nothing of a net; a strong pull does."""
    rows, neural = images(40), create("neural", {"epochs": 3, "batch_size": 8})
    start = neural.initial(rows.form)

    def learned(strategy: Strategy) -> tuple[Arrays, Arrays]:
        learned_ = neural.learned(start)
        state = strategy.begin(learned_)
        action = Fit(
            rows=rows, start=start, seed=3, turn=Turn(), strategy=strategy,
            shared=strategy.shared(state), own=strategy.own(learned_),
        )  # fmt: skip
        _, arrays = perform("neural", *carry(action, carried(neural.made)), silent, never)
        own = {n: a for n, a in arrays.items() if n.startswith("own/")}
        return {n: a for n, a in arrays.items() if n not in own}, own

    mean, _ = learned(merging.create("mean", {}))
    options = {"mu": 0} if name == "fedprox" else {}
    calm, own = learned(merging.create(name, options))
    assert sha256(calm) == sha256(mean)
    if name == "fednova":
        assert own["own/steps"] == 3 * 5
        assert (own["own/steps"].dtype.name, own["own/steps"].shape) == ("int64", ())
    else:
        held, _ = learned(merging.create(name, {"mu": 10}))
        ways = [
            distance({n: a for n, a in each.items() if n in neural.learned(start)}, start)
            for each in (held, mean)
        ]
        assert 0 < ways[0] < ways[1]


class Deaf(LinearLearner):
    """Takes its steps as if there were no strategy."""

    def fit(self, *given: Any, client: Any = None, **named: Any) -> Solution:
        """Learn alone."""
        return super().fit(*given, **named)


@pytest.mark.parametrize("name", ["fedprox", "fednova"])
def test_a_learner_that_takes_no_notice_of_it_is_told(name: str) -> None:
    rows, strategy, deaf = images(16), merging.create(name, {}), Deaf()
    start = deaf.initial(rows.form)
    fit = Fit(
        rows=rows, start=start, seed=0, turn=Turn(), strategy=strategy,
        shared=strategy.shared(strategy.begin(start)), own=strategy.own(start),
        layout=Layout(start),
    )  # fmt: skip
    with pytest.raises(UnfitSolution, match="given the strategy no part in its steps"):
        fit.read(deaf, *fit.perform(deaf, silent, never))


# FedNova.


def lengths(steps: int, momentum: float) -> float:
    """Return what steps with momentum multiply an even gradient by, one step after the other."""
    way = total = 0.0
    for _ in range(steps):
        way = momentum * way + 1
        total += way
    return total


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [0, 1, 2, 10, 1000])
def test_fednova_knows_how_far_steps_go(momentum: float, steps: int) -> None:
    fednova = FedNova(FedNova.options(momentum=momentum))
    assert fednova.length(steps) == pytest.approx(lengths(steps, momentum), rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_shards_of_other_sizes_pull_no_more_than_their_rows(momentum: float) -> None:
    """1,000 rows in 100 steps and 100 rows in 10: each way counts as so many mean steps."""
    slopes, steps, rows = (np.array([1.0, -2.0]), np.array([3.0, 5.0])), (100, 10), (1000, 100)
    start = fresh(0.5, 7.0)
    fednova = merging.create("fednova", {"momentum": momentum, "bound": 0})
    state = fednova.begin({"w": start["w"]})
    solutions = [
        step_by_step(fednova, start, lambda w, s=slope: np.array(s), taken, of, momentum)
        for slope, taken, of in zip(slopes, steps, rows, strict=True)
    ]
    assert [int(each.client["steps"]) for each in solutions] == list(steps)
    found = merging.merge(fednova, solutions, start, state)
    shares = [each / sum(rows) for each in rows]
    each_far = [lengths(taken, momentum) for taken in steps]
    mean_far = sum(s * far for s, far in zip(shares, each_far, strict=True))
    slope = sum(s * each for s, each in zip(shares, slopes, strict=True))
    np.testing.assert_allclose(found.model["w"], start["w"] - RATE * mean_far * slope, rtol=1e-9)
    mean = merging.merge(merging.create("mean", {}), solutions, start, {}).model
    drawn = sum(s * far * each for s, far, each in zip(shares, each_far, slopes, strict=True))
    np.testing.assert_allclose(mean["w"], start["w"] - RATE * drawn, rtol=1e-9)
    assert np.abs(found.model["w"] - mean["w"]).max() > 0.1
    assert found.model["n"] == 3
    assert found.state == state


def counted(steps: Sequence[int], ways: Sequence[float]) -> list[Solution]:
    """Return solutions that took steps, and went ways from zero."""
    return [
        Solution({"w": np.full(3, way), "mean": np.full(2, way)}, 10, client={"steps": np.array(s)})
        for s, way in zip(steps, ways, strict=True)
    ]


@pytest.mark.parametrize("steps", [98, 353, 386])
def test_of_equal_steps_and_other_rows_fednova_is_the_mean_to_the_bit(steps: int) -> None:
    random, fednova = np.random.default_rng(steps), merging.create("fednova", {})
    before = {"w": random.normal(size=50)}
    for _ in range(20):
        solutions = [
            Solution({"w": before["w"] + random.normal(size=50)}, int(rows), client={"steps": each})
            for rows, each in zip(random.integers(1, 5000, 5), np.full(5, steps), strict=True)
        ]
        found = merging.merge(fednova, solutions, before, fednova.begin(before)).model
        mean = merging.merge(merging.create("mean", {}), solutions, before, {}).model
        assert found["w"].tobytes() == mean["w"].tobytes()


def test_of_equal_steps_fednova_is_the_mean_to_the_bit() -> None:
    before = {"w": np.full(3, 0.1), "mean": np.zeros(2)}
    fednova, solutions = merging.create("fednova", {}), counted([7, 7, 7], [0.3, -0.7, 1e-9])
    found = merging.merge(fednova, solutions, before, fednova.begin({"w": before["w"]}))
    mean = merging.merge(merging.create("mean", {}), solutions, before, {})
    assert sha256(found.model) == sha256(mean.model)


def test_what_is_measured_is_no_longer_where_steps_are_fewer() -> None:
    before = {"w": np.zeros(3), "mean": np.zeros(2)}
    fednova, solutions = merging.create("fednova", {"momentum": 0}), counted([1, 3], [1.0, 3.0])
    found = merging.merge(fednova, solutions, before, fednova.begin({"w": before["w"]})).model
    np.testing.assert_allclose(found["w"], 2.0)
    np.testing.assert_allclose(found["mean"], 2.0)
    solutions = counted([0, 2], [0.0, 4.0])  # and who has taken no step has gone no way
    found = merging.merge(fednova, solutions, before, fednova.begin({"w": before["w"]})).model
    np.testing.assert_allclose(found["w"], 1.0)
    np.testing.assert_allclose(found["mean"], 2.0)


def test_who_goes_far_by_many_steps_is_not_drawn_back() -> None:
    before = {"w": np.zeros(3), "mean": np.zeros(2)}
    fednova = merging.create("fednova", {"momentum": 0})
    state = fednova.begin({"w": before["w"]})
    solutions = [
        Solution({"w": np.full(3, float(steps)), "mean": np.zeros(2)}, 10,
                 client={"steps": np.array(steps)})
        for steps in (1, 1, 1, 100)
    ]  # fmt: skip
    assert not merging.merge(fednova, solutions, before, state).taken
    assert merging.merge(merging.create("mean", {}), solutions, before, {}).taken


# Differential privacy.

BEFORE: Arrays = {
    "w": np.linspace(-1, 1, 6).reshape(2, 3), "running_mean": np.ones(4, np.float32),
    "count": np.array(5), "of the data": np.array([2.5]),
}  # fmt: skip
KEY = np.arange(32, dtype=np.uint8)


def moved(*scales: float) -> list[Solution]:
    """Return solutions whose ways from `BEFORE` are so long."""
    random, found = np.random.default_rng(4), list[Solution]()
    for scale in scales:
        ways = {"w": random.normal(size=(2, 3)), "running_mean": random.normal(size=4)}
        norm = math.sqrt(sum(float((way * way).sum()) for way in ways.values())) or 1
        arrays = {
            **BEFORE, "count": np.array(99),
            **{n: (BEFORE[n] + scale / norm * w).astype(BEFORE[n].dtype) for n, w in ways.items()},
        }  # fmt: skip
        found.append(Solution(arrays, 1 + len(found)))
    return found


def private(**options: float) -> DifferentialPrivacy:
    made = merging.create("dp", options)
    assert isinstance(made, DifferentialPrivacy)
    return made


def state_after(rounds: int) -> Arrays:
    return {"key": KEY, "rounds": np.array(rounds)}


def test_ways_are_clipped_and_each_shard_counts_once() -> None:
    solutions = moved(0.5, 2.0, 40.0)
    found = merging.merge(private(clip=2, noise=1e-9), solutions, BEFORE, state_after(0))
    np.testing.assert_allclose(found.taken, [1, 1, 0.05], rtol=1e-6)
    for name in ("w", "running_mean"):
        ways = [
            part * (each.arrays[name].astype(float) - BEFORE[name])
            for part, each in zip((1, 1, 0.05), solutions, strict=True)
        ]
        np.testing.assert_allclose(found.model[name], BEFORE[name] + np.mean(ways, 0), atol=1e-6)
        assert found.model[name].dtype == BEFORE[name].dtype
    assert found.model["count"] == 5  # steps of a shard say how large it is
    assert found.model["of the data"] == 2.5
    assert int(found.state["rounds"]) == 1
    # What one shard can change, whatever it sends: no more than clip / n.
    for scale in (0.0, 1e3, 1e9):
        other = moved(0.5, 2.0, scale)
        there = merging.merge(private(clip=2, noise=1e-9), other, BEFORE, state_after(0)).model
        gone = merging.merge(private(clip=2, noise=1e-9), moved(0.5, 2.0), BEFORE, state_after(0))
        sums = ({n: m[n] * k for n in ("w", "running_mean")}
                for m, k in ((there, 3), (gone.model, 2)))  # fmt: skip
        first, second = sums
        less = {n: first[n] - BEFORE[n] for n in first}
        assert distance(less, second) <= 2 + 1e-5


def test_noise_is_as_strong_as_it_says_and_another_in_each_round() -> None:
    before: Arrays = {"w": np.zeros(200_000), "b": np.zeros(1000, np.float32)}
    still = {name: array + 1e-12 for name, array in before.items()}
    solutions = [Solution(still, 7)] * 4
    noisy = private(clip=3, noise=0.8)

    def noise(key: Any, rounds: int) -> Any:
        state = {"key": key, "rounds": np.array(rounds)}
        return merging.merge(noisy, solutions, before, state).model

    first = noise(KEY, 0)
    for array in first.values():
        assert array.std() == pytest.approx(0.8 * 3 / 4, rel=4 / math.sqrt(2 * array.size))
        assert abs(array.mean()) < 4 * 0.6 / math.sqrt(array.size)
    beyond = np.mean(np.abs(first["w"]) > 1.96 * 0.6)
    assert beyond == pytest.approx(0.05, abs=0.003)
    assert sha256(noise(KEY, 0)) == sha256(first)
    others = noise(KEY, 1), noise(KEY[::-1].copy(), 0)
    for other in others:
        assert abs(np.corrcoef(first["w"], other["w"])[0, 1]) < 0.01
    assert abs(np.corrcoef(first["w"][:1000], first["b"])[0, 1]) < 0.13
    keys = {noisy.begin({})["key"].tobytes() for _ in range(3)}
    assert {len(key) for key in keys} == {32}
    assert len(keys) == 3


def spent(epsilon: float, sigma: float) -> float:
    """Return delta of Gaussian noise for an epsilon, by theorem 8 of Balle and Wang 2018."""

    def below(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    a, b = 1 / (2 * sigma), epsilon * sigma
    return below(a - b) - math.exp(epsilon) * below(-a - b)


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 1), (4.0, 1), (2.0, 15), (6.0, 100)])
def test_epsilon_is_that_of_the_gaussian_mechanism_and_of_the_librarys_accountant(
    noise: float, rounds: int
) -> None:
    dp = accountant()
    told = private(noise=noise, delta=1e-5).tell(state_after(rounds))
    assert (told["delta"], told["by"]) == (1e-5, "shard")
    epsilon = told["epsilon"]
    assert isinstance(epsilon, float)
    sigma = noise / math.sqrt(rounds)
    assert spent(epsilon - 1e-2, sigma) > 1e-5 > spent(epsilon + 1e-2, sigma)
    above = dp.rdp.RdpAccountant()  # which bounds it from above, and not by much
    above.compose(dp.GaussianDpEvent(noise), rounds)
    assert epsilon <= above.get_epsilon(1e-5) < 1.2 * epsilon + 0.1
    if (noise, rounds) == (4.0, 1):
        exact = dp.pld.PLDAccountant()
        exact.compose(dp.GaussianDpEvent(noise), rounds)
        assert epsilon == pytest.approx(exact.get_epsilon(1e-5), abs=1e-2)


def test_without_the_library_a_run_is_refused_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "dp_accounting", raising=False)
    with pytest.raises(MergeError, match=r"pip install 'mnist-merge\[privacy\]'"):
        private().check()


def test_what_can_not_be_hidden_is_refused() -> None:
    odd = {"z": np.zeros(2, complex)}
    with pytest.raises(MergeError, match="'z' is complex"):
        merging.merge(private(), [Solution(odd, 1)], odd, state_after(0))
    with pytest.raises(MergeError, match="no solution"):
        merging.merge(private(), [], BEFORE, state_after(0))


# Soup.


def tasted(
    numbers: Sequence[float], best: float, rows: Sequence[int] = ()
) -> tuple[float, list[float], list[float]]:
    """Return what a soup of numbers comes to, what was taken, and what was tried; best is near."""
    tried: list[float] = []

    def judge(model: Arrays) -> float:
        tried.append(float(model["w"]))
        return 1 - abs(float(model["w"]) - best) / 100

    solutions = [
        Solution({"w": np.array(float(number))}, of)
        for number, of in zip(numbers, rows or [1] * len(numbers), strict=True)
    ]
    found = merging.merge(merging.create("soup", {}), solutions, {"w": np.array(0.0)}, {}, judge)
    assert set(found.odd) == {
        place for place, (part, each) in enumerate(zip(found.taken, solutions, strict=True))
        if not part and each.examples
    }  # fmt: skip
    return float(found.model["w"]), list(found.taken), tried


def test_a_soup_has_what_makes_it_no_worse() -> None:
    model, taken, tried = tasted([9, 4, 90, 6], best=5)
    assert (model, taken) == (5, [0, 1, 0, 1])
    assert tried == [9, 4, 90, 6, 5, pytest.approx(19 / 3), pytest.approx(100 / 3)]
    assert tasted([3, 3, 3], best=0)[:2] == (3, [1, 1, 1])  # no better is no worse
    assert tasted([8], best=0)[:2] == (8, [1])
    weighed, taken, _ = tasted([4, 6, 7], best=4.6, rows=[1, 3, 0])
    assert (weighed, taken) == (4, [1, 0, 0])  # 5.5 is worse than 4 is


def test_a_soup_of_all_is_the_mean_to_the_bit() -> None:
    random = np.random.default_rng(2)
    solutions = [Solution({"w": random.normal(size=9)}, n) for n in (3, 1, 2)]
    found = merging.merge(merging.create("soup", {}), solutions, {}, {}, lambda model: 0.5)
    mean = merging.merge(merging.create("mean", {}), solutions, {}, {})
    assert sha256(found.model) == sha256(mean.model)


def test_a_soup_needs_something_and_somebody_who_tastes() -> None:
    soup = merging.create("soup", {})
    with pytest.raises(MergeError, match="rows that are kept aside"):
        merging.merge(soup, [Solution({"w": np.zeros(1)}, 1)], {}, {})
    for solutions in ([], [Solution({"w": np.zeros(1)}, 0)]):
        with pytest.raises(MergeError, match="nothing to merge"):
            merging.merge(soup, solutions, {}, {}, lambda model: 0.5)


# Through an action, as jobs do it.


@pytest.mark.parametrize("name", ["fedprox", "fednova", "dp", "soup"])
def test_each_can_be_tried_out(name: str) -> None:
    rows, made = images(16), create("neural", {})
    trial = Trial(rows=rows, turn=Turn(0, 3, 7), strategy=merging.create(name, {}))
    answer = perform("neural", *carry(trial, carried(made.made)), silent, never)
    assert sha256(trial.read(made, *answer)) == sha256(
        create("neural", {}, Turn(0, 3, 7)).initial(rows.form)
    )
