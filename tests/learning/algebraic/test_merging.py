"""Merging by union of atoms: nothing depends on order, and counts are sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning import Learner, MergeError, Solution, Turn, UnfitSolution, create, merging
from learning.actions import Action, Fit, perform
from learning.algebraic.counting import Count
from learning.algebraic.model import from_arrays, weighed
from learning.model import sha256
from loaders import Rows, load, shard

from ..common import carry, never, silent

MAKE = {"batches": 5, "levels": 1, "shifts": 0}


def asked(action: Action, turn: Turn | None = None) -> Any:
    """Return what comes of an action at a node, as the main node reads it."""
    answer = perform("algebraic", *carry(action, MAKE), silent, never)
    return action.read(create("algebraic", MAKE, turn), *answer)


def fit(rows: Rows, seed: int, start: Any = None, turn: Turn | None = None) -> Solution:
    solution: Solution = asked(Fit(rows=rows, start=start or {}, seed=seed, turn=turn or Turn()))
    return solution


@pytest.fixture(scope="module")
def shards() -> list[Rows]:
    data = load("mnist", "train", 1200)
    return [data.of(rows) for rows in shard(data.labels, 3, "disjoint", 0)]


@pytest.fixture(scope="module")
def solutions(shards: list[Rows]) -> list[Solution]:
    return [fit(rows, number) for number, rows in enumerate(shards)]


@pytest.fixture(scope="module")
def algebraic() -> Learner:
    return create("algebraic", MAKE)


def union(solutions: Any, before: Any = None) -> Any:
    merged, state, *_ = merging.merge(merging.create("union", {}), solutions, before or {}, {})
    assert not state
    return merged


def settled(algebraic: Learner, solutions: Any, shards: Any) -> Any:
    return algebraic.settle(union(solutions), lambda make: (asked(make(rows)) for rows in shards))


def test_no_order_of_solutions_or_counts_shows(
    algebraic: Learner, solutions: list[Solution], shards: list[Rows]
) -> None:
    model = settled(algebraic, solutions, shards)
    assert sha256(settled(algebraic, solutions[::-1], shards[::-1])) == sha256(model)


def test_counts_of_a_node_are_the_main_nodes(
    algebraic: Learner, solutions: list[Solution], shards: list[Rows]
) -> None:
    merged = union(solutions)
    for rows in shards:
        count = Count(rows=rows, model=merged)
        here = count.read(algebraic, *count.perform(algebraic, silent, never))
        assert (asked(count) == here).all()


def test_strict_atoms_violate_no_positive_of_any_shard(
    algebraic: Learner, solutions: list[Solution], shards: list[Rows]
) -> None:
    model = from_arrays(settled(algebraic, solutions, shards))
    assert model.strict.any()
    assert not model.strict.all()
    for rows in shards:
        terms = model.embedding.bits(rows.arrays["image"])
        for atom in np.flatnonzero(model.strict)[::7]:
            for class_ in model.atoms[atom][model.atoms[atom] >= 1568]:
                if class_ < model.constants:
                    mine = terms[rows.labels == class_ - 1568]
                    assert mine[:, model.literals(int(atom))].any(axis=1).all()


def test_a_merged_model_is_better_than_its_shards(
    algebraic: Learner, solutions: list[Solution], shards: list[Rows]
) -> None:
    test = load("mnist", "test", 2000)

    def right(arrays: Any) -> float:
        return float(np.mean(from_arrays(arrays).predict(test.arrays["image"]) == test.labels))

    merged = right(settled(algebraic, solutions, shards))
    assert merged > max(right(solution.arrays) for solution in solutions)


def test_a_round_goes_on_from_the_merged_model(
    algebraic: Learner, solutions: list[Solution], shards: list[Rows]
) -> None:
    before = settled(algebraic, solutions, shards)
    again = fit(shards[0], 9, before, Turn(1, 2))
    merged = union([again], before)
    old, new, every = (from_arrays(each) for each in (before, again.arrays, merged))

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
        ({"image": np.array([28, 27, 10], np.uint16)}, "beyond|other data"),
        ({"thresholds": np.array([99.0])}, "other data, thresholds"),
        ({"thresholds": np.array([25.6, 140.3])}, "no class|other data"),
        ({"history": np.zeros((200_000, 6), np.float32)}, "history of 200000 batches"),
        ({"gaps": np.zeros(4, np.uint8)}, "don't fit together"),
        ({"violations": np.zeros(4, np.uint16)}, "counts are not of its atoms"),
    ],
)
def test_solutions_from_liars_are_told_in_words(
    algebraic: Learner, solutions: list[Solution], shards: list[Rows], change: Any, told: str
) -> None:
    good, action = solutions[0], Fit(rows=shards[0], start={}, seed=0, turn=Turn())
    examples = {"examples": good.examples}
    action.read(algebraic, examples, good.arrays)
    with pytest.raises(UnfitSolution, match=told):
        action.read(algebraic, examples, {**good.arrays, **change})
    with pytest.raises(UnfitSolution, match="claims"):
        action.read(algebraic, {"examples": good.examples + 1}, good.arrays)


@pytest.mark.parametrize(
    "counts", [None, np.zeros(3, np.int64), np.zeros(3, np.int32), "high", "low"]
)
def test_counts_from_liars_are_told_in_words(
    algebraic: Learner, solutions: list[Solution], shards: list[Rows], counts: Any
) -> None:
    count = Count(rows=shards[0], model=union(solutions))
    atoms = len(count.model["sizes"])
    good = np.full(atoms, 400)
    assert (count.read(algebraic, {}, {"counts": good}) == good).all()
    if isinstance(counts, str):
        counts = np.full(atoms, 401 if counts == "high" else -1)
    told = {} if counts is None else {"counts": counts}
    for values, arrays in (({}, told), ({"more": 1}, {"counts": good}),
                           ({}, {"counts": good, "more": good})):  # fmt: skip
        with pytest.raises(UnfitSolution):
            count.read(algebraic, values, arrays)


def test_what_too_many_contradict_is_dropped(solutions: list[Solution]) -> None:
    merged = union(solutions)
    counts = np.arange(len(merged["sizes"])) % 9
    kept = from_arrays(weighed(merged, counts))
    assert kept.violations.tolist() == counts[counts <= 7].tolist()


def test_nothing_can_not_be_merged() -> None:
    with pytest.raises(MergeError, match="nothing to merge"):
        union([])


def test_solutions_of_other_images_can_not_be_merged(solutions: list[Solution]) -> None:
    odd = {**solutions[0].arrays, "thresholds": np.array([99.0])}
    with pytest.raises(MergeError, match="solution 2 does not fit the first: of other data"):
        union([solutions[0], Solution(odd, 400)])
    with pytest.raises(MergeError, match="solution 1: not an algebraic model"):
        union([Solution({}, 400)])
