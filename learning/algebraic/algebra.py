"""Atomized semilattices in the words of the papers, exact and small: the oracle of the tests.

A set of constants is a Python integer whose bit c says whether constant c is in it; so are terms
and atoms. Everything here is exponential in the worst case. `sparse.py` is for real data.

Sources: Martin-Maroto and de Polavieja, arXiv 1803.05252 (section 2, algorithms in appendix C)
and arXiv 2102.08050 (sections 2 to 4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: A set of constants.
Term = int
#: A non-empty set of constants: the upper constant segment of an atom, ucs(f).
Atom = int
#: A model of an algebra: atoms.
Atomization = frozenset[Atom]


class Duple(NamedTuple):
    """An ordered pair of terms; as a positive it asserts left <= right, as a negative not."""

    left: Term
    right: Term


@dataclass(frozen=True)
class Contradiction(Exception):
    """A negative duple that follows from the positive ones."""

    duple: Duple

    def __str__(self) -> str:
        return (
            f"not {sorted(members(self.duple.left))} <= {sorted(members(self.duple.right))}"
            " can't hold: the positive duples imply the opposite"
        )


def term(constants: Iterable[int]) -> Term:
    """Return the term, or the atom, of these constants."""
    result = 0
    for constant in constants:
        result |= 1 << constant
    return result


def members(set_: Term) -> list[int]:
    """Return the constants of a term or an atom, ascending."""
    return [bit for bit in range(set_.bit_length()) if set_ >> bit & 1]


def freest(constants: int) -> Atomization:
    """Return the freest model of the algebra without axioms: one atom for each constant."""
    return frozenset(1 << constant for constant in range(constants))


def lower_segment(atoms: Collection[Atom], of: Term) -> Atomization:
    """Return las(t): the atoms below a term, those that share a constant with it."""
    return frozenset(atom for atom in atoms if atom & of)


def discriminant(atoms: Collection[Atom], duple: Duple) -> Atomization:
    """Return las(L) - las(R): why L <= R does not hold."""
    return frozenset(atom for atom in atoms if atom & duple.left and not atom & duple.right)


def holds(atoms: Collection[Atom], duple: Duple) -> bool:
    """Whether L <= R in the model of these atoms."""
    return not discriminant(atoms, duple)


def full_crossing(atoms: Collection[Atom], duple: Duple) -> Atomization:
    """Return the freest model below this one in which a positive duple holds.

    Every atom of the discriminant is replaced by its unions with every atom of las(R): exact, and
    quadratic each time.

    Source: 1803.05252, section 2.4; 2102.08050, theorem 5.
    """
    broken = discriminant(atoms, duple)
    right = lower_segment(atoms, duple.right)
    crossed = {f | g for f in broken for g in right}
    return without_redundant((frozenset(atoms) - broken) | crossed)


def without_redundant(atoms: Collection[Atom]) -> Atomization:
    """Return the atoms that are no union of others; the model stays the same.

    Source: 2102.08050, theorem 3 (an atom is redundant iff it is the union of the others
    within it).
    """
    kept = set()
    for atom in atoms:
        union = 0
        for other in atoms:
            if other != atom and other & ~atom == 0:
                union |= other
        if union != atom:
            kept.add(atom)
    return frozenset(kept)


def freest_model(
    constants: int, positives: Sequence[Duple], negatives: Sequence[Duple] = ()
) -> Atomization:
    """Return the atomization of the freest model of some duples by full crossing.

    Args:
        constants: how many there are.
        positives, negatives: the axioms.

    Raises:
        Contradiction: a negative does not hold in the freest model, and so in none.
    """
    model = freest(constants)
    for duple in positives:
        model = full_crossing(model, duple)
    for duple in negatives:
        if holds(model, duple):
            raise Contradiction(duple)
    return model


def closed(of: Term, positives: Sequence[Duple]) -> Term:
    """Return the greatest term that equals this one by the positive duples.

    While the right side of a positive is in the term, its left side joins.
    """
    while True:
        more = of
        for left, right in positives:
            if right & ~more == 0:
                more |= left
        if more == of:
            return of
        of = more
