"""Merging by union of atoms: nothing depends on order, and counts are sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from learning.work import count_work, counted, fit_work, fitted, perform

from learning import CountingMerger, Form, MergeError, Shard, Solution, UnfitSolution, merger
from learning.algebraic.model import from_arrays
from learning.merging import sha256
from loaders import load, shard

MAKE = {"batches": 5, "levels": 1, "shifts": 0}


def silent(fraction: float, note: str = "", /) -> None:
    return


@pytest.fixture(scope="module")
def shards() -> list[Shard]:
    data = load("mnist", "train", 1200)
    cut = shard(data.labels, 3, "disjoint", 0)
    return [Shard(data.images[rows], data.labels[rows], 10) for rows in cut]


@pytest.fixture(scope="module")
def solutions(shards: list[Shard]) -> list[Solution]:
    made = []
    for number, rows in enumerate(shards):
        values, arrays = fit_work(MAKE, rows, None, seed=number)
        made.append(fitted(*perform("algebraic", values, arrays, silent, lambda: False)))
    return made


@pytest.fixture(scope="module")
def algebraic() -> CountingMerger:
    found = merger("algebraic")
    assert isinstance(found, CountingMerger)
    return found


def weighed(algebraic: CountingMerger, solutions: Any, shards: Any) -> Any:
    union = algebraic.merge(solutions)
    counts = [algebraic.count(union, rows) for rows in shards]
    return algebraic.weigh(union, np.sum(counts, axis=0))


def test_no_order_of_solutions_or_counts_shows(
    algebraic: CountingMerger, solutions: list[Solution], shards: list[Shard]
) -> None:
    model = weighed(algebraic, solutions, shards)
    assert sha256(weighed(algebraic, solutions[::-1], shards[::-1])) == sha256(model)


def test_counts_of_a_node_are_the_main_nodes(
    algebraic: CountingMerger, solutions: list[Solution], shards: list[Shard]
) -> None:
    union = algebraic.merge(solutions)
    for rows in shards:
        values, arrays = count_work({}, rows, union)
        told = perform("algebraic", values, arrays, silent, lambda: False)
        counts = counted(*told, algebraic, union, len(rows.labels))
        assert (counts == algebraic.count(union, rows)).all()


def test_strict_atoms_violate_no_positive_of_any_shard(
    algebraic: CountingMerger, solutions: list[Solution], shards: list[Shard]
) -> None:
    model = from_arrays(weighed(algebraic, solutions, shards))
    assert model.strict.any()
    assert not model.strict.all()
    for rows in shards:
        terms = model.embedding.bits(rows.images)
        for atom in np.flatnonzero(model.strict)[::7]:
            for class_ in model.atoms[atom][model.atoms[atom] >= 1568]:
                if class_ < model.constants:
                    mine = terms[rows.labels == class_ - 1568]
                    assert mine[:, model.literals(int(atom))].any(axis=1).all()


def test_a_merged_model_is_better_than_its_shards(
    algebraic: CountingMerger, solutions: list[Solution], shards: list[Shard]
) -> None:
    test = load("mnist", "test", 2000)

    def right(arrays: Any) -> float:
        return float(np.mean(from_arrays(arrays).predict(test.images) == test.labels))

    merged = right(weighed(algebraic, solutions, shards))
    assert merged > max(right(solution.arrays) for solution in solutions)


def test_a_round_goes_on_from_the_merged_model(
    algebraic: CountingMerger, solutions: list[Solution], shards: list[Shard]
) -> None:
    before = weighed(algebraic, solutions, shards)
    values, arrays = fit_work({**MAKE, "round": 1}, shards[0], before, seed=9)
    again = fitted(*perform("algebraic", values, arrays, silent, lambda: False))
    union = algebraic.merge([again], before)
    old, new, every = (from_arrays(each) for each in (before, again.arrays, union))

    def rows(model: Any) -> set[tuple[int, ...]]:
        return {tuple(atom[atom < model.constants]) for atom in model.atoms}

    assert rows(every) == rows(old) | rows(new)
    assert not rows(new) & {tuple(atom[atom < old.constants]) for atom in old.atoms[old.strict]}, (
        "atoms came back that the node had been given"
    )
    assert new.epochs.min() == 5


def test_an_atom_takes_20_bytes_at_most(solutions: list[Solution]) -> None:
    for solution in solutions:
        told = sum(array.nbytes for name, array in solution.arrays.items() if name != "history")
        assert told / len(solution.arrays["sizes"]) <= 20


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"history": np.zeros((1, 2), np.float32)}, "history is not 6 numbers"),
        ({"history": np.zeros((1, 6))}, "no history"),
        ({"history": np.full((1, 6), np.inf, np.float32)}, "history is not 6 numbers"),
        ({"more": np.zeros(1)}, "more arrays"),
        ({"epochs": np.zeros(4)}, "'epochs' is missing, or not"),
        ({"sizes": np.full(600_000, 255, np.uint8)}, "are too many"),
        ({"image": np.array([28, 27, 10], np.uint16)}, "beyond|other images"),
        ({"thresholds": np.array([99.0])}, "other images, thresholds"),
        ({"thresholds": np.array([25.6, 140.3])}, "no class|other images"),
        ({"history": np.zeros((200_000, 6), np.float32)}, "history of 200000 batches"),
        ({"gaps": np.zeros(4, np.uint8)}, "don't fit together"),
        ({"violations": np.zeros(4, np.uint16)}, "counts are not of its atoms"),
    ],
)
def test_solutions_from_liars_are_told_in_words(
    algebraic: CountingMerger, solutions: list[Solution], change: Any, told: str
) -> None:
    form = Form(28, 28, 10)
    good = solutions[0]
    algebraic.check(good, form, good.examples, MAKE)
    with pytest.raises(UnfitSolution, match=told):
        algebraic.check(
            Solution({**good.arrays, **change}, good.examples), form, good.examples, MAKE
        )
    with pytest.raises(UnfitSolution, match="claims"):
        algebraic.check(good, form, good.examples + 1, MAKE)


@pytest.mark.parametrize(
    "counts", [None, np.zeros(3, np.int64), np.zeros(3, np.int32), "high", "low"]
)
def test_counts_from_liars_are_told_in_words(
    algebraic: CountingMerger, solutions: list[Solution], counts: Any
) -> None:
    union = algebraic.merge(solutions)
    if isinstance(counts, str):
        counts = np.full(len(union["sizes"]), 401 if counts == "high" else -1)
    with pytest.raises(UnfitSolution):
        algebraic.check_counts(counts, union, 400)


def test_nothing_can_not_be_merged(algebraic: CountingMerger) -> None:
    with pytest.raises(MergeError, match="nothing to merge"):
        algebraic.merge([])
