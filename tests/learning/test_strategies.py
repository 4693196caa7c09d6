"""Strategies: the mean, SCAFFOLD against skewed shards, and how they are found."""

from __future__ import annotations

import tracemalloc
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as arrays_of

from learning import MergeError, Solution, Strategy, Turn, UnknownStrategy, create, merging
from learning.actions import Fit, Trial, perform
from learning.merging import Merged
from learning.merging.scaffold import Scaffold, ScaffoldClient
from learning.model import sha256
from loaders.rows import Arrays
from protocol.options import carried

from .common import carry, images, never, silent


def test_strategies_are_found_by_name() -> None:
    assert {"mean", "scaffold", "union"} <= set(merging.names())
    for name in merging.names():
        assert merging.create(name, {}).name == name
        assert isinstance(merging.create(name, {}), merging.strategy(name))
    with pytest.raises(
        UnknownStrategy, match=r"is called 'meen' \(did you mean mean\?\); there is"
    ):
        merging.create("meen", {})
    with pytest.raises(UnknownStrategy, match="'mean' can't be with {'trim': 3}"):
        merging.create("mean", {"trim": 3})
    with pytest.raises(UnknownStrategy, match="'mean' can't be with {1: 2}"):
        merging.create("mean", {1: 2})  # type: ignore[dict-item]


def test_a_strategy_is_told_by_a_text_that_makes_it_again() -> None:
    for text, told in (
        ("mean", "mean"), ("mean:bound=3", "mean"), ("mean:bound=0", "mean:bound=0.0"),
        ("mean: bound = 2.5", "mean:bound=2.5"), ("mean:bound=1e3", "mean:bound=1000.0"),
    ):  # fmt: skip
        assert merging.told(merging.parse(text)) == told
        assert merging.told(merging.parse(told)) == told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mean:trim=3", "mean has no option 'trim'; it has bound"),
        ("mean:bound=-1", "bound is -1.0, less than 0"),
        ("mean:bound=far", "bound is 'far', not a number"),
        ("fedadam:beta1=1", "beta1 is 1.0, more than 0.9999"),
        ("trimmed:trim=0.5", "trim is 0.5, more than 0.49"),
        ("trimmed:trim=1e-310", "trim is 1e-310, less than 1e-06"),
        ("mean:bound=1,2", "mean has no option '2'"),
        ("union:x=1", "union has no option 'x'; it has none"),
        ("mean:", "no way to merge is called 'mean:' .options stand as mean:NAME=VALUE"),
        ("mean:bound=1,bound=2", "bound is there twice"),
        ("mine.py", "name the class in it, too: mine.py:NAME"),
        ("mean:bound", "no way to merge is called 'mean:bound'"),
        ("net.py:Mine:a=1", "--merge .*/net.py:Mine: .*/net.py: no such file"),
        ("no_such.module:Mine", "there is no module 'no_such.module'"),
        ("", "no way to merge is called ''"),
    ],
)
def test_a_text_that_names_no_strategy_is_told_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(UnknownStrategy, match=why):
        merging.parse(text)


# The mean.


def test_a_solution_that_is_much_further_than_the_others_is_drawn_back() -> None:
    random = np.random.default_rng(0)
    before = {"w": random.normal(size=(50, 40)).astype(np.float32), "n": np.array([3])}

    def moved(scale: float) -> Solution:
        way = random.normal(size=(50, 40)).astype(np.float32) * np.float32(scale)
        return Solution({"w": before["w"] + way, "n": np.array([9])}, 10)

    calm = [moved(1) for _ in range(7)]
    mean = merging.merge(merging.create("mean", {}), [*calm, moved(1.1)], before, {})
    assert not mean.taken
    liar = moved(1000)
    merged = merging.merge(merging.create("mean", {}), [*calm, liar], before, {})
    assert list(merged.taken[:7]) == [1] * 7
    assert merged.taken[7] == pytest.approx(0.003, rel=0.1)
    assert "998 times as far from the model before as the median one" in merged.odd[7]
    # Its way is as long as three of the others', and in its own direction.
    way = liar.arrays["w"] - before["w"]
    ways = [np.linalg.norm(each.arrays["w"] - before["w"]) for each in calm]
    back = before["w"] + way * (3 * np.median([*ways, np.linalg.norm(way)]) / np.linalg.norm(way))
    wanted = np.mean([*(each.arrays["w"] for each in calm), back], axis=0)
    np.testing.assert_allclose(merged.model["w"], wanted, rtol=1e-4, atol=1e-5)
    assert merged.model["n"] == 9
    free = merging.merge(merging.create("mean", {"bound": 0}), [*calm, liar], before, {})
    assert not free.taken
    assert np.abs(free.model["w"]).max() > 100
    two = [calm[0], liar]  # which of them is right, nobody can say
    assert not merging.merge(merging.create("mean", {}), two, before, {}).taken


def test_the_bound_heeds_numbers_of_all_sizes() -> None:
    """No square overflows, and who alone has moved is not drawn back to where all have begun."""
    before = {"w": np.zeros(3)}
    far = [Solution({"w": np.full(3, each)}, 1) for each in (1e200, 1.1e200, 1.2e200, 1e205)]
    merged = merging.merge(merging.create("mean", {}), far, before, {})
    assert merged.taken[3] == pytest.approx(3 * 1.15e200 / 1e205)
    still = [Solution({"w": np.zeros(3)}, 1)] * 3
    assert not merging.merge(merging.create("mean", {}), [*still, far[0]], before, {}).taken


@pytest.mark.parametrize("how", ["mean", "clipping", "fedavgm", "dp:noise=1e-9", "fedprox"])
def test_a_solution_whose_way_no_number_tells_is_drawn_back_to_where_it_began(how: str) -> None:
    before, strategy = {"w": np.full(3, -1.7e308)}, merging.parse(how)
    near = [Solution({"w": np.full(3, -1.6e308)}, 1)] * 4
    liar, state = Solution({"w": np.full(3, 1.7e308)}, 1), strategy.begin(before)
    merged = merging.merge(strategy, [*near, liar], before, state)
    assert merged.taken[4] == 0
    assert (merged.model["w"] <= -1.6e308).all()
    assert np.isfinite(merged.model["w"]).all()


class Endless(Strategy):
    name = "endless"

    def merge(self, solutions: Collection[Solution], before: Arrays, state: Arrays) -> Merged:
        return Merged({"w": np.array([1.0, np.inf])})


class Partly(Strategy):
    name = "partly"

    def merge(self, solutions: Collection[Solution], before: Arrays, state: Arrays) -> Merged:
        return Merged({"w": np.ones(2)}, {}, [0.0])


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Endless, "numbers that are not finite"), (Partly, "of 1 solutions .* there are 3")],
)
def test_what_merging_comes_to_is_looked_at(kind: type[Strategy], why: str) -> None:
    with pytest.raises(MergeError, match=why):
        merging.merge(kind(), [Solution({"w": np.ones(2)}, 1)] * 3, {"w": np.ones(2)}, {})


@pytest.mark.parametrize("how", ["fedadagrad", "fedadam", "fedyogi", "fedavgm"])
def test_numbers_of_16_bits_go_on_though_their_squares_have_none(how: str) -> None:
    strategy, before = merging.parse(how), {"w": np.zeros(3, np.float16)}
    solution = Solution({"w": np.full(3, 300, np.float16)}, 1)
    merged = merging.merge(strategy, [solution], before, strategy.begin(before))
    assert merged.model["w"].dtype == np.float16
    assert (merged.model["w"] > 0).all()
    assert all(np.isfinite(each).all() for each in merged.state.values())


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("how", ["mean", "median", "krum"])
def test_the_mean_of_negative_zeros_is_one(how: str, kind: str) -> None:
    zero = np.negative(np.zeros(2, kind))
    solutions = [Solution({"w": zero}, examples) for examples in range(1, 6)]
    merged = merging.merge(merging.parse(how), solutions, {}, {}).model
    assert merged["w"].tobytes() == zero.tobytes()


@given(
    st.lists(
        st.tuples(
            arrays_of(np.float32, (), elements=st.floats(-1e3, 1e3, width=32)), st.integers(1, 50)
        ),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_the_mean_of_single_numbers_is_numpys(parts: list[tuple[Any, int]]) -> None:
    solutions = [Solution({"w": number}, examples) for number, examples in parts]
    merged, state, *_ = merging.merge(merging.create("mean", {}), solutions, {}, {})
    wanted = np.average([float(n) for n, _ in parts], weights=[float(e) for _, e in parts])
    assert merged["w"].shape == ()
    assert merged["w"].dtype == np.float32
    assert float(merged["w"]) == pytest.approx(wanted, rel=1e-6, abs=1e-3)
    assert not state


def test_the_mean_keeps_types_and_rounds_whole_numbers() -> None:
    def one(number: float) -> Arrays:
        return {
            "half": np.array([number], np.float16), "whole": np.array(number, np.int64),
            "byte": np.array([number], np.uint8), "flag": np.array([number > 1]),
            "none": np.zeros((0, 3), np.float32),
        }  # fmt: skip

    merged = merging.merge(
        merging.create("mean", {}), [Solution(one(n), 1) for n in (1, 1, 3)], {}, {}
    ).model
    assert {name: array.dtype.name for name, array in merged.items()} == {
        "half": "float16", "whole": "int64", "byte": "uint8", "flag": "bool", "none": "float32",
    }  # fmt: skip
    assert int(merged["whole"]) == int(merged["byte"][0]) == 2  # of 5/3
    assert not merged["flag"][0]
    assert merged["none"].shape == (0, 3)


def test_the_mean_weighs_by_examples_and_not_by_solutions() -> None:
    solutions = [Solution({"w": np.array([n])}, e) for n, e in ((0.0, 3), (1.0, 1), (9.0, 0))]
    merged = merging.merge(merging.create("mean", {}), solutions, {}, {}).model
    assert merged["w"].tolist() == [0.25]


# SCAFFOLD.

#: Two shards of a quadratic: curvatures that differ, and places where each is least; examples.
CURVES, LEAST, ROWS = (
    (np.array([1.0, 0.2]), np.array([0.1, 2.0])),
    ((4.0, -1.0), (-2.0, 3.0)),
    (3, 1),
)
STEPS, RATE = 20, 0.1


def best() -> Any:
    """Return where both shards together, weighted by their rows, are least."""
    weights = [curve * rows for curve, rows in zip(CURVES, ROWS, strict=True)]
    return sum(w * least for w, least in zip(weights, LEAST, strict=True)) / sum(weights)


def descend(strategy: Strategy, part: int, start: Arrays, state: Arrays, own: Arrays) -> Solution:
    """Learn from one shard by plain steps."""
    client: Any = None
    if strategy.client is not None:
        client = strategy.client(strategy.shared(state), own)
        client.begin(np.array)
    weight = np.array(start["w"])
    for _ in range(STEPS):
        gradients = {"w": CURVES[part] * (weight - LEAST[part])}
        if client is not None:
            gradients = client.correct(gradients, {"w": weight})
        weight = weight - RATE * gradients["w"]
    kept = {} if client is None else dict(client.end())
    return Solution({"w": weight}, ROWS[part], client=kept, given=own)


def rounds(
    strategy: Strategy, there: Sequence[Sequence[int]]
) -> tuple[Arrays, Arrays, dict[int, Arrays]]:
    """Return model, state and what shards keep after rounds with the shards that are there."""
    model: Arrays = {"w": np.zeros(2)}
    state = strategy.begin(model)
    kept = {part: strategy.own(model) for part in range(2)}
    for parts in there:
        solutions = [descend(strategy, part, model, state, kept[part]) for part in parts]
        model, state, *_ = merging.merge(strategy, solutions, model, state)
        if strategy.client is not None:
            kept |= {part: s.client for part, s in zip(parts, solutions, strict=True)}
    return model, state, kept


def test_scaffold_finds_what_is_best_for_all_where_the_mean_does_not() -> None:
    far = {
        name: float(np.abs(rounds(merging.create(name, {}), [(0, 1)] * 100)[0]["w"] - best()).max())
        for name in ("mean", "scaffold")
    }
    assert far["mean"] > 0.5
    assert far["scaffold"] < 1e-6


def test_a_shards_variate_is_option_two_of_the_source() -> None:
    """c_i - c + (x - y) / (K * rate), in the source's words."""
    scaffold = Scaffold()
    model, state, kept = rounds(scaffold, [(0, 1)])
    for part in range(2):
        solution = descend(scaffold, part, model, state, kept[part])
        drift = (model["w"] - solution.arrays["w"]) / (STEPS * RATE)
        wanted = kept[part]["w"] - state["w"] + drift
        np.testing.assert_allclose(solution.client["w"], wanted, rtol=1e-9)


@pytest.mark.parametrize(
    "there",
    [
        [(0, 1)], [(0, 1)] * 3, [(0, 1), (0,), (1,), (0,)], [(0,), (0, 1)], [(1,), (0,)],
        [(0,), (0,), (1,), (0, 1)], [(0,)] * 3, [(1,)],
    ],
    ids=str,
)  # fmt: skip
def test_everybodys_variate_is_the_mean_of_all_that_were_ever_there(
    there: list[tuple[int, ...]],
) -> None:
    """Shards may be left out of any round, of the first one too."""
    _, state, kept = rounds(Scaffold(), there)
    known = sorted(set().union(*there))
    rows = [ROWS[part] for part in known]
    wanted = np.average([kept[part]["w"] for part in known], axis=0, weights=rows)
    np.testing.assert_allclose(state["w"], wanted, rtol=1e-9)
    assert int(state["own/examples"]) == sum(rows)


def test_a_shard_whose_variate_stays_zero_is_counted_once() -> None:
    scaffold, before = Scaffold(), {"w": np.zeros(2)}
    state, own = scaffold.begin(before), {part: scaffold.own(before) for part in (1, 2)}
    for _ in range(3):
        solutions = [
            Solution(before, 100, client={"w": np.full(2, slope)}, given=own[part], part=part)
            for part, slope in ((1, 1.0), (2, 0.0))
        ]
        state = scaffold.merge(solutions, before, state).state
        own = {each.part: dict(each.client) for each in solutions}
        np.testing.assert_array_equal(scaffold.shared(state)["w"], 0.5)


def test_shards_that_are_left_out_now_and_then_do_not_hinder_the_others() -> None:
    there = [(0,), (0, 1), (1,), *[(0, 1)] * 100]
    model, _, _ = rounds(Scaffold(), there)
    np.testing.assert_allclose(model["w"], best(), atol=1e-6)


def test_what_has_no_gradient_has_no_variate() -> None:
    scaffold = Scaffold()
    fresh = {"w": np.ones((2, 3), np.float32), "n": np.array(5), "x": np.array(1.5)}
    own, state = scaffold.own(fresh), scaffold.begin(fresh)
    assert {n: (a.dtype.name, a.shape) for n, a in own.items()} == {
        "w": ("float32", (2, 3)), "x": ("float64", ()),
    }  # fmt: skip
    assert not any(array.any() for array in own.values())
    assert state.keys() == {"w", "x", "own/examples", "own/parts"}
    assert scaffold.shared(state).keys() == own.keys()
    client: ScaffoldClient[Any] = ScaffoldClient(own, own)
    client.begin(np.array)
    told = client.correct({"w": fresh["w"], "n": np.array(2.0)}, fresh)
    assert (told["w"] == fresh["w"]).all()
    assert told["n"] == 2.0
    assert client.end().keys() == own.keys()


def test_a_shard_that_takes_no_step_keeps_what_it_had() -> None:
    own = {"w": np.array([3.0])}
    client: ScaffoldClient[Any] = ScaffoldClient({"w": np.zeros(1)}, own)
    client.begin(np.array)
    assert client.end()["w"].tolist() == [3.0]


def test_scaffold_needs_solutions_too() -> None:
    scaffold = Scaffold()
    with pytest.raises(MergeError, match="nothing to merge"):
        scaffold.merge([], {}, scaffold.begin({"w": np.zeros(2)}))


# Through an action, as jobs do it.


def test_a_nets_first_step_without_variates_is_the_means() -> None:
    """A first round corrects nothing; what it keeps is the mean gradient of the shard."""
    rows, neural = images(40), create("neural", {"epochs": 1})
    start = neural.initial(rows.form)
    told = {}
    for name in ("mean", "scaffold"):
        strategy = merging.create(name, {})
        state = strategy.begin(start)
        action = Fit(
            rows=rows, start=start, seed=3, turn=Turn(), strategy=strategy,
            shared=strategy.shared(state), own=strategy.own(start),
        )  # fmt: skip
        values, arrays = perform("neural", *carry(action, carried(neural.made)), silent, never)
        told[name] = {n: a for n, a in arrays.items() if not n.startswith("own/")}
        own = {n: a for n, a in arrays.items() if n.startswith("own/")}
        assert own.keys() == {f"own/{n}" for n in strategy.own(start)}
        learned = [array for each, array in own.items() if ".running_" not in each]
        assert name == "mean" or all(array.any() for array in learned)
        assert values["examples"] == 40
    assert sha256(told["mean"]) == sha256(told["scaffold"])


@pytest.mark.parametrize(
    ("learner", "strategy"), [("neural", "mean"), ("neural", "scaffold"), ("algebraic", "union")]
)
def test_a_trial_gives_the_fresh_model(learner: str, strategy: str) -> None:
    rows, made = images(16), create(learner, {})
    trial = Trial(rows=rows, turn=Turn(0, 3, 7), strategy=merging.create(strategy, {}))
    answer = perform(learner, *carry(trial, carried(made.made)), silent, never)
    fresh = trial.read(made, *answer)
    assert sha256(fresh) == sha256(create(learner, {}, Turn(0, 3, 7)).initial(rows.form))


class Made(Collection[Solution]):
    """Solutions that are made when they are read."""

    def __init__(self, count: int, size: int) -> None:
        self._count, self._base = count, np.ones(size, np.float32)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, each: object) -> bool:
        return False

    def __iter__(self) -> Iterator[Solution]:
        for number in range(self._count):
            yield Solution({"w": self._base * np.float32(number)}, 10)


@pytest.mark.parametrize(
    ("text", "models"), [("mean", 3), ("mean:bound=0", 3), ("fedavgm", 4), ("fedadam", 6)]
)
def test_solutions_are_merged_in_the_memory_of_a_few_models(text: str, models: int) -> None:
    """That is of float64 sums and a solution; and of what an optimizer keeps, before and after."""
    before, solutions = {"w": np.zeros(1 << 20, np.float32)}, Made(20, 1 << 20)
    strategy = merging.parse(text)
    state = strategy.begin(before)
    merging.merge(strategy, Made(2, 8), {"w": before["w"][:8]}, strategy.begin({"w": np.zeros(8)}))
    tracemalloc.start()
    try:
        merged = merging.merge(strategy, solutions, before, state)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (models + 0.5) * (4 << 20)
    assert merged.model["w"].dtype == np.float32


@pytest.mark.parametrize("text", ["fedavgm", "fedadagrad", "fedadam", "fedyogi"])
def test_what_is_measured_is_the_mean_whatever_moves_the_rest(text: str) -> None:
    """A variance that is moved on beyond the mean may be below zero."""
    before = {"w": np.ones(3), "bn.running_var": np.ones(3), "n": np.array(1)}
    strategy = merging.parse(text)
    state, beyond = strategy.begin({"w": before["w"]}), []
    for var in (0.2, 0.1, 0.05):
        each = {"w": np.full(3, var), "bn.running_var": np.full(3, var), "n": np.array(4)}
        merged = merging.merge(strategy, [Solution(each, 1), Solution(each, 3)], before, state)
        before, state = dict(merged.model), merged.state
        np.testing.assert_array_equal(merged.model["bn.running_var"], np.full(3, var))
        assert merged.model["n"] == 4
        beyond.append(not np.allclose(merged.model["w"], var))
    assert beyond[1:] == [True, True]
