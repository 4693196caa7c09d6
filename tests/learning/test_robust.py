"""Strategies that bear solutions which may be anything: by their papers, in any order."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import MergeError, Solution, merging
from learning.columns import held
from learning.merging import Merged
from learning.model import sha256
from loaders.rows import Arrays

#: All that need no more than the solutions, as they are called for two of eight, or for one.
OF_EIGHT = (
    "median", "trimmed:trim=0.25", "rfa", "krum:liars=2", "multikrum:liars=2", "bulyan",
    "multikrum:keep=3,liars=2", "clipping",
)  # fmt: skip
#: What merges number by number.
BY_COLUMN = ("median", "trimmed:trim=0.25", "bulyan")


def merged(
    how: str, arrays: Sequence[Any], examples: Sequence[int] | None = None, before: Any = None
) -> Merged:
    """Merge solutions that have one array each."""
    rows = [1] * len(arrays) if examples is None else examples
    solutions = [Solution({"w": np.asarray(a)}, n) for a, n in zip(arrays, rows, strict=True)]
    start = {"w": np.zeros_like(np.asarray(arrays[0])) if before is None else before}
    return merging.merge(merging.parse(how), solutions, start, {})


def some(count: int, seed: int = 0, shape: tuple[int, ...] = (30, 7)) -> list[Any]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) for _ in range(count)]


# By the papers' formulas, written down as they stand there.


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_median_is_numpys(count: int) -> None:
    arrays = some(count)
    model = merged("median", arrays, range(1, count + 1)).model["w"]
    np.testing.assert_allclose(model, np.median(arrays, axis=0), rtol=1e-12)


@pytest.mark.parametrize(("trim", "count", "cut"), [(0.2, 5, 1), (0.2, 9, 1), (0.4, 10, 4)])
def test_the_trimmed_mean_leaves_a_part_out_at_each_end(trim: float, count: int, cut: int) -> None:
    arrays = some(count)
    model = merged(f"trimmed:trim={trim}", arrays, range(1, count + 1)).model["w"]
    wanted = np.sort(arrays, axis=0)[cut : count - cut].mean(axis=0)
    np.testing.assert_allclose(model, wanted, rtol=1e-12)


def krum_scores(arrays: Sequence[Any], liars: int) -> list[float]:
    scores = []
    for one in range(len(arrays)):
        squares = sorted(
            float(((arrays[one] - arrays[two]) ** 2).sum())
            for two in range(len(arrays)) if two != one
        )  # fmt: skip
        scores.append(sum(squares[: max(1, len(arrays) - liars - 2)]))
    return scores


def test_krum_is_the_one_of_the_least_score() -> None:
    for seed in range(20):
        arrays = some(9, seed)
        scores = krum_scores(arrays, 3)
        told = merged("krum:liars=3", arrays)
        best = int(np.argmin(scores))
        np.testing.assert_array_equal(told.model["w"], arrays[best])
        assert told.taken == [float(n == best) for n in range(9)]
        for keep, text in ((4, "multikrum:liars=3"), (6, "multikrum:liars=3,keep=6")):
            kept = np.argsort(scores)[:keep]
            told = merged(text, arrays, range(1, 10))
            np.testing.assert_allclose(told.model["w"], np.mean([arrays[n] for n in kept], axis=0))
            assert [n for n in range(9) if told.taken[n]] == sorted(kept)


def test_bulyan_averages_what_is_near_the_median_of_what_krum_chose_one_by_one() -> None:
    for seed, (count, liars) in itertools.product(range(5), ((7, 1), (11, 2), (12, 2), (5, 0))):
        arrays = some(count, seed)
        # Of three that are left two are as near to each other: then the order of `held` decides.
        there = held(Solution({"w": array}, 1) for array in arrays)
        rest: list[Any] = [each.solution.arrays["w"] for each in there]
        chosen = []
        for _ in range(count - 2 * liars):
            chosen.append(rest.pop(int(np.argmin(krum_scores(rest, liars)))))
        stack = np.array(chosen)
        far = np.abs(stack - np.median(stack, axis=0))
        near = np.take_along_axis(stack, far.argsort(axis=0), axis=0)[: len(chosen) - 2 * liars]
        model = merged(f"bulyan:liars={liars}", arrays).model["w"]
        np.testing.assert_allclose(model, near.mean(axis=0), rtol=1e-9, atol=1e-12)


def test_rfa_makes_weiszfelds_steps_and_comes_to_the_geometric_median() -> None:
    arrays, rows = some(6), (3, 1, 4, 1, 5, 9)
    arrays[2] *= 50
    point: Any = np.median(arrays, axis=0)
    for steps in range(1, 5):
        weights = [
            n / max(1e-6, float(np.linalg.norm(a - point)))
            for a, n in zip(arrays, rows, strict=True)
        ]
        point = np.average(arrays, axis=0, weights=weights)
        model = merged(f"rfa:iterations={steps}", arrays, rows).model["w"]
        np.testing.assert_allclose(model, point, rtol=1e-9)
    point = merged("rfa:iterations=1000", arrays, rows).model["w"]
    pulls = [n * (a - point) / np.linalg.norm(a - point) for a, n in zip(arrays, rows, strict=True)]
    assert np.abs(sum(pulls)).max() < 1e-6  # nowhere is the sum of distances less


def test_clipping_draws_ways_back_to_a_norm() -> None:
    arrays, before, rows = some(5), some(1, 9)[0], (3, 1, 4, 1, 5)
    arrays[2] *= 50
    ways = [array - before for array in arrays]
    norms = [float(np.linalg.norm(way)) for way in ways]
    for text, norm in (("clipping", np.median(norms)), ("clipping:norm=2.5", 2.5)):
        back = [way / max(1, far / norm) for way, far in zip(ways, norms, strict=True)]
        told = merged(text, arrays, rows, before)
        wanted = before + np.average(back, axis=0, weights=rows)
        np.testing.assert_allclose(told.model["w"], wanted, rtol=1e-9)
        assert told.taken == pytest.approx([min(1, norm / far) for far in norms])
        assert f"was {norms[2]:,.3g} from the model before" in told.odd[2]
    assert not merged("clipping:norm=1e9", arrays, rows, before).taken


# What a liar can do.


@pytest.mark.parametrize("how", ["median", "trimmed:trim=0.25", "rfa", "krum:liars=2",
                                 "multikrum:liars=2", "bulyan:liars=1"])  # fmt: skip
@pytest.mark.parametrize("size", [1e2, 1e30, 1e300, 1.7e308])
def test_whatever_liars_send_the_model_stays_with_the_others(how: str, size: float) -> None:
    honest = [1 + 0.1 * array for array in some(6)]
    far = np.where(some(1, 3)[0] > 0, size, -size)
    liars = [far] if how.startswith("bulyan") else [far, -far]
    told = merged(how, [*liars, *honest])
    assert np.abs(told.model["w"] - 1).max() < 0.5
    said = [place for place, why in told.odd.items() if "times as far" in why]
    told_of = how.partition(":")[0] not in ("median", "trimmed")
    assert sorted(said) == (list(range(len(liars))) if told_of else [])


@pytest.mark.parametrize("how", ["median", "rfa", "krum:liars=2", "multikrum:liars=2", "bulyan"])
def test_complex_numbers_are_far_by_both_of_their_parts(how: str) -> None:
    honest = [1 + 0.1 * array + 0.1j for array in some(7)]
    model = merged(how, [1 + 1e9j + 0 * honest[0], *honest]).model["w"]
    assert model.dtype == complex
    assert np.abs(model - 1).max() < 0.5


def test_what_is_odd_in_a_few_numbers_gets_through_krum_and_not_through_bulyan() -> None:
    arrays = [0.1 * array for array in some(11, 0, (10_000,))]
    arrays[4][7] = 10  # of a length that others' noise has, too
    assert abs(merged("multikrum:liars=2,keep=11", arrays).model["w"][7]) > 0.5
    assert abs(merged("bulyan:liars=2", arrays).model["w"][7]) < 0.2


def test_who_has_many_examples_has_no_more_of_a_voice_where_papers_give_none() -> None:
    arrays = some(8)
    for how in OF_EIGHT:
        even = merged(how, arrays).model["w"]
        odd = merged(how, arrays, [10**6, *[1] * 7]).model["w"]
        assert np.allclose(even, odd) == (how not in ("rfa", "clipping")), how


# Order, and types.


@given(
    st.permutations(range(8)),
    st.lists(st.sampled_from([0.0, -0.0, 1.0, 1.5, -3e-5]), min_size=24, max_size=24),
    st.sampled_from([each for each in OF_EIGHT if each != "clipping"]),
    st.sampled_from(["float32", "float64", "float16", "int64"]),
)
def test_in_whichever_order_solutions_come_the_model_is_the_same(
    order: list[int], numbers: list[float], how: str, dtype: str
) -> None:
    """To the bit, with ties of all kinds; and who is left out is the same one."""
    table = np.array(numbers).reshape(8, 3)
    solutions = [
        Solution({"w": row.astype(dtype), "x": row[:1] / 3}, 1 + n % 2)
        for n, row in enumerate(table)
    ]
    strategy = merging.parse(how)
    one = merging.merge(strategy, solutions, {}, {})
    two = merging.merge(strategy, [solutions[n] for n in order], {}, {})
    assert sha256(one.model) == sha256(two.model)
    if one.taken:
        assert sorted(one.taken) == sorted(two.taken)
    if one.taken and len({sha256(each.arrays) for each in solutions}) == 8:
        assert [one.taken[n] for n in order] == list(two.taken)
        assert {order[n]: why for n, why in two.odd.items()} == dict(one.odd)


@pytest.mark.parametrize("how", OF_EIGHT)
def test_equal_solutions_merge_to_each_whatever_their_types(how: str) -> None:
    each: dict[str, Any] = {
        "half": np.array([0.1, -6e4], np.float16), "single": np.array([[1e38, 3e-39]], np.float32),
        "huge": np.array([1.5e308, -1e300, 0.1]), "lone": np.array(0.3), "none": np.zeros((0, 3)),
        "complex": np.array([1 + 2j, 1e300j]), "counter": np.array(2**53 + 1),
        "unsigned": np.array([2**64 - 1, 3], np.uint64), "byte": np.array([255], np.uint8),
        "flag": np.array([True, False]), "wide": np.arange(12.0).reshape(3, 4).T,
    }  # fmt: skip
    solutions = [Solution(each, 60_000) for _ in range(8)]
    model = merging.merge(merging.parse(how), solutions, each, {}).model
    assert model.keys() == each.keys()
    for name, array in each.items():
        assert (model[name].dtype, model[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(model[name], array, name)


@pytest.mark.parametrize("how", BY_COLUMN)
def test_whole_numbers_are_merged_exactly_and_rounded(how: str) -> None:
    for dtype, numbers in (
        ("int64", [2**62 + n for n in range(8)]), ("int64", [-(2**63), *[2**63 - 1] * 7]),
        ("uint64", [2**64 - 1 - n for n in range(8)]), ("uint8", [250, 255, 3, 5, 7, 9, 11, 12]),
        ("int8", [-128, 127, -128, 127, 0, 1, 2, 3]), ("bool", [True] * 5 + [False] * 3),
    ):  # fmt: skip
        columns = [np.array([number], dtype) for number in numbers]
        solutions = [Solution({"n": each, "w": np.zeros(1)}, 1) for each in columns]
        model = merging.merge(merging.parse(how), solutions, {}, {}).model["n"]
        assert model.dtype == dtype
        cut = 0 if how == "bulyan" else 2
        assert sorted(numbers)[cut] <= int(model[0]) <= sorted(numbers)[7 - cut]
        if how == "median":
            middle = Fraction(sum(map(int, sorted(numbers)[3:5])), 2)
            assert int(model[0]) == round(middle)


def test_numbers_that_would_overflow_have_a_median() -> None:
    wide = [np.array([each]) for each in (1.7e308, 1.6e308, -1.7e308, 1.6e308)]
    assert merged("median", wide).model["w"] == 1.6e308
    assert merged("median", [*wide[:2]]).model["w"] == pytest.approx(1.65e308)


@pytest.mark.parametrize("how", OF_EIGHT)
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"w": np.array([np.nan])}, "not finite"), ({"w": np.array([np.inf])}, "not finite"),
        ({"w": np.zeros(2)}, "does not fit the first"), ({"v": np.zeros(1)}, "does not fit"),
        ({"w": np.array(["a"])}, "does not fit"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(how: str, bad: Arrays, why: str) -> None:
    solutions = [Solution({"w": np.zeros(1)}, 1) for _ in range(7)]
    with pytest.raises(MergeError, match=why):
        merging.merge(merging.parse(how), [*solutions, Solution(bad, 1)], {"w": np.zeros(1)}, {})


@pytest.mark.parametrize("how", OF_EIGHT)
def test_examples_that_are_none_are_refused(how: str) -> None:
    for rows, why in ((0, "nothing to merge"), (-1, "-1 examples"), (float("nan"), "nan examples")):
        with pytest.raises(MergeError, match=why):
            merged(how, some(8), [rows] * 8)  # type: ignore[list-item]
    with pytest.raises(MergeError, match="nothing to merge"):
        merging.merge(merging.parse(how), [], {"w": np.zeros(1)}, {})


def test_who_learned_from_nothing_has_no_voice() -> None:
    arrays = some(9)
    for how in OF_EIGHT[:-1]:  # clipping is the mean's
        with_, without = (
            merged(how, arrays[first:], [0, *[2] * 8][first:]) for first in (0, 1)
        )  # fmt: skip
        np.testing.assert_array_equal(with_.model["w"], without.model["w"], how)
        assert with_.taken[0] == 0


@pytest.mark.parametrize("how", [*BY_COLUMN, "multikrum:liars=2", "rfa", "clipping"])
def test_beside_the_solutions_there_are_few_models_in_memory_and_a_block(how: str) -> None:
    random, count = np.random.default_rng(0), 1_000_000
    arrays = [random.random(count, np.float32) for _ in range(8)]
    tracemalloc.start()
    merged(how, arrays, before=np.zeros(count, np.float32))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A model that is summed is of eight bytes a number; and another two where it is drawn back.
    assert most < (4 if how == "clipping" else 2) * 8 * count + (24 << 20)


@pytest.mark.parametrize("how", ["krum:liars=2", "multikrum:liars=2", "bulyan", "rfa"])
def test_whole_numbers_alone_are_not_near_to_each_other(how: str) -> None:
    with pytest.raises(MergeError, match="whole numbers only"):
        merged(how, [np.array([n]) for n in range(8)])


def test_clipping_needs_a_model_to_draw_back_to() -> None:
    with pytest.raises(MergeError, match="needs the model that solutions went on from"):
        merging.merge(merging.parse("clipping"), [Solution({"w": np.zeros(1)}, 1)], {}, {})


@pytest.mark.parametrize(
    ("how", "fewest"),
    [
        ("median", 1), ("rfa", 1), ("trimmed", 5), ("trimmed:trim=0.3", 4), ("krum", 5),
        ("krum:liars=2", 7), ("multikrum:liars=3", 9), ("multikrum:keep=8", 8), ("bulyan", 7),
        ("bulyan:liars=2", 11),
    ],
)  # fmt: skip
def test_too_few_solutions_are_refused_in_a_sentence(how: str, fewest: int) -> None:
    merged(how, some(fewest))
    if fewest > 1:
        with pytest.raises(MergeError, match=rf"needs {fewest} solutions or more; there "):
            merged(how, some(fewest - 1))
