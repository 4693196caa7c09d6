"""The algebra itself, by hand, and Sparse Crossing against it."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.algebraic import kernels
from learning.algebraic.algebra import (
    Contradiction,
    Duple,
    closed,
    discriminant,
    freest,
    freest_model,
    full_crossing,
    holds,
    lower_segment,
    members,
    term,
    without_redundant,
)
from learning.algebraic.atoms import pack, unpack
from learning.algebraic.errors import ContradictionError
from learning.algebraic.sparse import Duples, SparseCrossing

# The example of docs/algebraic.md: two pixels, and the class "bar".
LEFT_ON, RIGHT_ON, LEFT_OFF, RIGHT_OFF, BAR = range(5)


def atoms(*sets: tuple[int, ...]) -> frozenset[int]:
    return frozenset(term(each) for each in sets)


def test_the_worked_example_of_the_documentation() -> None:
    model = freest(5)
    first = Duple(term([BAR]), term([LEFT_ON, RIGHT_ON]))
    assert discriminant(model, first) == atoms((BAR,))
    assert lower_segment(model, first.right) == atoms((LEFT_ON,), (RIGHT_ON,))
    model = full_crossing(model, first)
    assert model == atoms(
        (LEFT_ON,), (RIGHT_ON,), (LEFT_OFF,), (RIGHT_OFF,), (LEFT_ON, BAR), (RIGHT_ON, BAR)
    )
    second = Duple(term([BAR]), term([LEFT_ON, RIGHT_OFF]))
    assert discriminant(model, second) == atoms((RIGHT_ON, BAR))
    model = full_crossing(model, second)
    assert model == atoms(
        (LEFT_ON,), (RIGHT_ON,), (LEFT_OFF,), (RIGHT_OFF,),
        (LEFT_ON, BAR), (RIGHT_ON, RIGHT_OFF, BAR),
    )  # fmt: skip
    seen = Duple(term([BAR]), term([LEFT_OFF, RIGHT_ON]))
    never_seen = Duple(term([BAR]), term([LEFT_OFF, RIGHT_OFF]))
    assert discriminant(model, seen) == discriminant(model, never_seen) == atoms((LEFT_ON, BAR))
    assert model == freest_model(5, [second, first], [seen])  # the order of axioms is no matter


def test_a_union_of_others_is_redundant() -> None:
    assert without_redundant(atoms((0,), (1,), (0, 1), (0, 2))) == atoms((0,), (1,), (0, 2))


def test_a_contradiction_is_told_in_words() -> None:
    axiom = Duple(term([0]), term([1, 2]))
    with pytest.raises(Contradiction, match=r"not \[0\] <= \[1, 2, 3\] can't hold"):
        freest_model(4, [axiom], [Duple(term([0]), term([1, 2, 3]))])


def test_a_term_is_closed_under_positives() -> None:
    positives = [Duple(term([0]), term([1, 2])), Duple(term([3]), term([0, 2]))]
    assert members(closed(term([1, 2]), positives)) == [0, 1, 2, 3]
    assert members(closed(term([1]), positives)) == [1]


# Sparse Crossing.

CONSTANTS = 7
some_term = st.integers(1, 2**CONSTANTS - 1)
some_duples = st.lists(st.builds(Duple, some_term, some_term), max_size=6)


def as_duples(positives: list[Duple], negatives: list[Duple]) -> Duples:
    every = positives + negatives
    lefts = list(dict.fromkeys(duple.left for duple in every))
    rights = list(dict.fromkeys(duple.right for duple in every))

    def rows(terms: list[int]) -> Any:
        return pack(np.array([[t >> c & 1 for c in range(CONSTANTS)] for t in terms]))

    def numbers(duples: list[Duple]) -> Any:
        pairs = [(lefts.index(duple.left), rights.index(duple.right)) for duple in duples]
        return np.array(pairs, np.int64).reshape(-1, 2)

    return Duples(rows(lefts), rows(rights), numbers(positives), numbers(negatives))


def as_atoms(rows: Any) -> list[int]:
    return [term(np.flatnonzero(bits).tolist()) for bits in unpack(rows, CONSTANTS)]


class Spied:
    """Sparse Crossing that checks, at every batch, that crossing leaves the traces as they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._cross = kernels.cross
        monkeypatch.setattr(kernels, "cross", self)

    def __call__(self, rows: Any, avoided: Any, count: int, target: Any, *more: Any) -> Any:
        before = target.copy()
        result = self._cross(rows, avoided, count, target, *more)
        assert (target == before).all()
        outs = np.zeros_like(target)
        for bits in unpack(result[0], len(target)):
            mine = np.flatnonzero(bits)
            outs[mine] |= np.bitwise_and.reduce(avoided[mine], axis=0)
        assert (unpack(outs, count) == unpack(target, count)).all()  # out(c) = target[c]
        self.calls += 1
        return result


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Spied:
    return Spied(monkeypatch)


def check_batch(learner: SparseCrossing, enforced: list[Duple], negatives: list[Duple]) -> None:
    """Check a batch's invariants, against full crossing."""
    master = as_atoms(learner.master)
    exact = freest_model(CONSTANTS, enforced)
    for positive in enforced:
        assert holds(master, positive)
    for negative in negatives:
        assert not holds(master, negative), "a negative is no more discriminated"
    for atom in master + as_atoms(learner.union):
        within = [other for other in exact if other & ~atom == 0]
        assert reduce(or_, within, 0) == atom, "no atom of the freest model"


@settings(max_examples=300)
@given(positives=some_duples, negatives=some_duples, seed=st.integers(0, 2**32))
def test_random_small_algebras_against_full_crossing(
    positives: list[Duple], negatives: list[Duple], seed: int
) -> None:
    positives, negatives = list(dict.fromkeys(positives)), list(dict.fromkeys(negatives))
    if not positives and not negatives:
        return
    learner = SparseCrossing(CONSTANTS, seed)
    duples = as_duples(positives, negatives)
    try:
        freest_model(CONSTANTS, positives, negatives)
    except Contradiction:
        with pytest.raises(ContradictionError):
            learner.enforce(duples)
        return
    with pytest.MonkeyPatch.context() as patch:
        spied = Spied(patch)
        for _ in range(3):
            learner.enforce(duples)
            check_batch(learner, positives, negatives)
        assert spied.calls == 3


@settings(max_examples=100)
@given(
    batches=st.lists(st.tuples(some_duples, some_duples), min_size=2, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_batches_that_differ_against_full_crossing(
    batches: list[tuple[list[Duple], list[Duple]]], seed: int
) -> None:
    learner = SparseCrossing(CONSTANTS, seed)
    stored: list[Duple] = []
    for some, others in batches:
        positives, negatives = list(dict.fromkeys(some)), list(dict.fromkeys(others))
        enforced = positives + stored
        if not positives and not negatives:
            continue
        try:
            freest_model(CONSTANTS, enforced, negatives)
        except Contradiction:
            with pytest.raises(ContradictionError):
                learner.enforce(as_duples(positives, negatives))
            return
        learner.enforce(as_duples(positives, negatives))
        stored = [Duple(*pair) for pair in learner_stored(learner)]
        master = as_atoms(learner.master)
        assert all(holds(master, positive) for positive in enforced)
        assert not any(holds(master, negative) for negative in negatives)


def learner_stored(learner: SparseCrossing) -> list[tuple[int, int]]:
    lefts, rights = as_atoms(learner._stored_lefts), as_atoms(learner._stored_rights)
    return list(zip(lefts, rights, strict=True))


def test_equal_seeds_make_equal_atoms_and_others_do_not() -> None:
    positives = [Duple(term([6]), term([k, k + 1, k + 2])) for k in range(4)]
    negatives = [Duple(term([6]), term([0, 5])), Duple(term([6]), term([1]))]

    def learned(seed: int) -> bytes:
        learner = SparseCrossing(CONSTANTS, seed)
        for _ in range(3):
            learner.enforce(as_duples(positives, negatives))
        return bytes(learner.union.tobytes())

    assert learned(1) == learned(1)
    assert len({learned(seed) for seed in range(10)}) > 1
