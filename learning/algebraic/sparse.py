"""Sparse Crossing: a small model of a large algebra, learned batch by batch.

The steps of `SparseCrossing.enforce` are those of docs/algebraic.md.

Source: Martin-Maroto and de Polavieja, arXiv 1803.05252, sections 2.5 to 2.8 and appendix C;
Martin-Maroto, Abderrahaman, Mendez and de Polavieja, arXiv 2502.19944.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import kernels
from .atoms import BitRows, unpack
from .errors import ContradictionError

Index = npt.NDArray[np.int64]

#: Pinning terms that a batch looks at, at most: so many for each of its right terms ...
PINNING_PER_TERM = 3
#: ... but so many in any case.
PINNING_LEAST = 4000
#: The union model is cut to so many atoms, at random: far more than a batch looks at.
MOST_UNION = 60_000


@dataclass(frozen=True)
class Duples:
    """Duples over terms that are written down once.

    Args:
        lefts, rights: the terms, as rows of bits, uint64, shape (., words).
        positives, negatives: int64, shape (., 2): numbers of left and right term.
    """

    lefts: BitRows
    rights: BitRows
    positives: Index
    negatives: Index


@dataclass(frozen=True)
class BatchCounts:
    """What a batch left.

    Args:
        atoms: of the master.
        union: of the union model.
        indicators: that were kept.
        crossed: positives that had to be crossed.
    """

    atoms: int
    union: int
    indicators: int
    crossed: int


def seeded(seed: int) -> BitRows:
    """Return the state of the kernels' generator for a seed (splitmix64, Steele et al. 2014)."""
    word = (seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = ((word ^ (word >> shift)) * factor) & 0xFFFFFFFFFFFFFFFF
    return np.array([(word ^ (word >> 31)) or 1], np.uint64)


def singletons(constants: npt.NDArray[np.int64], words: int) -> BitRows:
    """Return an atom of one constant for each of these, as rows of bits."""
    rows = np.zeros((len(constants), words), np.uint64)
    rows[np.arange(len(constants)), constants >> 6] = np.uint64(1) << (constants & 63).astype(
        np.uint64
    )
    return rows


class SparseCrossing:
    """The state of learning between batches.

    Args:
        constants: how many there are.
        seed: of everything random.
        union: atoms to begin the union model with, as rows of bits.
    """

    def __init__(self, constants: int, seed: int = 0, union: BitRows | None = None) -> None:
        self.constants = constants
        self._words = (constants + 63) >> 6
        self._random = seeded(seed)
        #: The working atoms; they satisfy every positive of the last batch.
        self.master = singletons(np.arange(constants), self._words)
        #: Every atom produced so far that no positive has contradicted since.
        self.union = np.zeros((0, self._words), np.uint64) if union is None else union
        self._cap_union()
        #: The last batch's atoms that were not in the union model.
        self.new = self.union[:0]
        self._stored_lefts = np.zeros((0, self._words), np.uint64)
        self._stored_rights = np.zeros((0, self._words), np.uint64)
        self._skipping = 0

    def enforce(self, duples: Duples) -> BatchCounts:
        """Learn a batch: afterwards its positives hold, and its negatives are discriminated.

        Args:
            duples: of the batch. Right terms that differ in number differ.

        Raises:
            ContradictionError: a negative follows from the positives.
            ValueError: a term has no constant.
        """
        if not duples.rights.any(axis=1).all() or not duples.lefts.any(axis=1).all():
            raise ValueError("a term without any constant")
        negatives = duples.negatives
        below = self._filter_union(duples)  # step 1
        terms = self._all_positives(duples)  # step 2
        every = terms.positives
        own, own_of = self._closed(terms)  # step 3
        pinning = self._pinning(below, len(own))
        kept_own, kept_pins = self._hitting_set(duples, own, own_of, below, pinning)  # step 4
        inside = np.concatenate([~own[kept_own] & self._full(), self.union[kept_pins]])
        avoided = kernels.transposed(inside, self.constants)
        table = kernels.transposed(terms.rights, self.constants)
        added, target, wrong = kernels.close_traces(  # step 5
            self.master, avoided, len(inside), terms.lefts, terms.rights, table, every, negatives,
            self._random,
        )  # fmt: skip
        if wrong == len(negatives):
            raise RuntimeError("traces can't be closed: an indicator is not closed; a bug")
        if wrong >= 0:
            raise _contradiction(negatives[wrong])
        atoms = np.concatenate([self.master, singletons(added, self._words)])
        self.master, crossed = kernels.cross(  # step 6
            atoms, avoided, len(inside), target, terms.lefts, terms.rights, every, self._random
        )
        if not len(self.master):
            raise RuntimeError("crossing found no atom that keeps a trace; a bug")
        self._unite(terms.lefts)  # step 7
        self._stored_lefts = terms.lefts[every[crossed, 0]]
        self._stored_rights = terms.rights[every[crossed, 1]]
        if len(own) < 0.1 * (len(own) + len(pinning)):  # step 8
            self._skipping += 1
        return BatchCounts(
            len(self.master), len(self.union), len(inside), int(np.count_nonzero(crossed))
        )

    def _full(self) -> BitRows:
        """Return the term of all constants."""
        full = np.full(self._words, np.uint64(0xFFFFFFFFFFFFFFFF))
        if self.constants & 63:
            full[-1] = (np.uint64(1) << np.uint64(self.constants & 63)) - np.uint64(1)
        return full

    def _filter_union(self, duples: Duples) -> npt.NDArray[np.bool_]:
        """Drop the atoms that a positive contradicts.

        Returns:
            bool, shape (lefts, atoms left): whether an atom is below a left term.
        """
        starts, constants = kernels.listed(self.union)
        below = np.stack([meets(self.union, row) for row in duples.lefts])
        good = np.ones(len(self.union), bool)
        for left, mine in enumerate(below):
            rights = duples.positives[duples.positives[:, 0] == left, 1]
            table = kernels.transposed(duples.rights[rights], self.constants)
            atoms = np.flatnonzero(mine)
            good[atoms] &= ~kernels.misses_any(starts, constants, atoms, table, len(rights))
        self.union = self.union[good]
        return below[:, good]

    def _all_positives(self, duples: Duples) -> Duples:
        """Return all terms once, and all positives: the batch's, shuffled, then the stored ones."""
        lefts, left_numbers = _numbered(np.concatenate([duples.lefts, self._stored_lefts]))
        rights, right_numbers = _numbered(np.concatenate([duples.rights, self._stored_rights]))
        stored = np.stack(
            [left_numbers[len(duples.lefts) :], right_numbers[len(duples.rights) :]], axis=1
        )
        shuffled = duples.positives[kernels.shuffled(len(duples.positives), self._random)]
        return Duples(lefts, rights, np.concatenate([shuffled, stored]), duples.negatives)

    def _closed(self, terms: Duples) -> tuple[BitRows, Index]:
        """Return indicators of the first kind, the right terms of negatives, closed.

        Returns:
            The indicators as rows of bits, and for each right term which one is its own, or -1.
        """
        every, numbers = terms.positives, np.unique(terms.negatives[:, 1])
        own_of = np.full(len(terms.rights), -1)
        own_of[numbers] = np.arange(len(numbers))
        own = terms.rights[numbers]
        mine = own_of[every[:, 1]]
        np.bitwise_or.at(own, mine[mine >= 0], terms.lefts[every[mine >= 0, 0]])
        if not self._flat(terms):
            for row in own:
                _close(row, terms.lefts[every[:, 0]], terms.rights[every[:, 1]])
        return own, own_of

    def _flat(self, terms: Duples) -> bool:
        """Whether right terms are equally large and share nothing with the left ones.

        Then none is inside another one, closed or not: the case of labelled rows.
        """
        sizes = np.bitwise_count(terms.rights).sum(axis=1)
        in_lefts = np.bitwise_or.reduce(terms.lefts, axis=0)
        return bool((sizes == sizes[:1]).all() and not (terms.rights & in_lefts).any())

    def _pinning(self, below: npt.NDArray[np.bool_], others: int) -> npt.NDArray[np.int64]:
        """Return the atoms whose pinning terms are looked at: all, or a random choice."""
        useful = np.flatnonzero(below.any(axis=0))
        wanted = len(useful) // (self._skipping + 1)
        wanted = min(wanted, max(PINNING_LEAST, PINNING_PER_TERM * others))
        if wanted < len(useful):
            single = np.bitwise_count(self.union[useful]).sum(axis=1) == 1
            useful = useful[single | (kernels.shuffled(len(useful), self._random) < wanted)]
        return useful

    def _hitting_set(
        self, duples: Duples, own: BitRows, own_of: Index, below: npt.NDArray[np.bool_],
        pinning: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:  # fmt: skip
        """Return which indicators of both kinds are kept: bool each.

        Raises:
            ContradictionError: none is useful to a negative.
        """
        negatives = np.ascontiguousarray(duples.negatives)
        starts, constants = kernels.listed(self.union)
        table = kernels.transposed(duples.rights, self.constants)
        groups = [pinning[mine[pinning]] for mine in below]
        missed = [
            kernels.transposed(
                kernels.misses(starts, constants, group, table, len(duples.rights)),
                len(duples.rights),
            )
            for group in groups
        ]
        widths = np.array([part.shape[1] for part in missed], np.int64)
        ends = np.cumsum([part.size for part in missed])
        useful_starts, useful = self._useful_own(duples, own, own_of)
        kept, kept_own, wrong = kernels.hitting_set(
            np.ascontiguousarray(negatives[:, 0]), np.ascontiguousarray(negatives[:, 1]),
            np.concatenate([part.ravel() for part in missed]), np.concatenate([[0], ends[:-1]]),
            widths, useful_starts, useful, len(own), self._random,
        )  # fmt: skip
        if wrong >= 0:
            raise _contradiction(negatives[wrong])
        kept_pins = np.zeros(len(self.union), bool)
        at = 0
        for group, width in zip(groups, widths, strict=True):
            chosen = unpack(kept[None, at : at + width], len(group))[0]
            kept_pins[group[chosen.astype(bool)]] = True
            at += width
        return kept_own, kept_pins

    def _useful_own(self, duples: Duples, own: BitRows, own_of: Index) -> tuple[Index, Index]:
        """Return the indicators of the first kind that are useful to each negative, listed."""
        lefts = duples.lefts[duples.negatives[:, 0]]
        numbers = own_of[duples.negatives[:, 1]]
        if self._flat(duples):
            some = np.flatnonzero(np.bitwise_or.reduce(duples.lefts, axis=0))
            outside = (lefts[:, some] & ~own[:, some][numbers]).any(axis=1)
            return np.concatenate([[0], np.cumsum(outside)]), numbers[outside]
        found = [
            np.flatnonzero(~(right & ~own).any(axis=1) & (left & ~own).any(axis=1))
            for left, right in zip(lefts, duples.rights[duples.negatives[:, 1]], strict=True)
        ]
        starts = np.cumsum([0] + [len(each) for each in found])
        return starts, np.concatenate([numbers[:0], *found])

    def _unite(self, lefts: BitRows) -> None:
        """Add the master's atoms to the union model: those that can ever discriminate."""
        in_lefts = np.bitwise_or.reduce(lefts, axis=0)
        both = np.concatenate([self.union, self.master[(self.master & in_lefts).any(axis=1)]])
        fresh = kernels.first_equal(both) == np.arange(len(both))
        self.new = both[len(self.union) :][fresh[len(self.union) :]]
        self.union = np.concatenate([self.union, self.new])
        self._cap_union()

    def _cap_union(self) -> None:
        if len(self.union) > MOST_UNION:
            chance = kernels.shuffled(len(self.union), self._random)
            self.union = self.union[chance < MOST_UNION]


def meets(atoms: BitRows, term: BitRows) -> npt.NDArray[np.bool_]:
    """Return whether each atom is below a term, looking at the words where the term has some."""
    there = np.flatnonzero(term)
    return np.asarray((atoms[:, there] & term[there]).any(axis=1))


def _numbered(rows: BitRows) -> tuple[BitRows, Index]:
    """Return the distinct rows, in the order in which they come first, and each one's number."""
    first = kernels.first_equal(rows)
    new = first == np.arange(len(rows))
    return rows[new], (np.cumsum(new) - 1)[first]


def _close(row: BitRows, lefts: BitRows, rights: BitRows) -> None:
    """Close a term under positives, in place."""
    while True:
        inside = ~(rights & ~row).any(axis=1)
        more = np.bitwise_or.reduce(lefts[inside], axis=0, initial=0) | row
        if (more == row).all():
            return
        row[:] = more


def _contradiction(negative: npt.NDArray[np.int64]) -> ContradictionError:
    left, right = map(int, negative)
    return ContradictionError(
        f"not left {left} <= right {right} can't hold: the positives imply the opposite",
        left, right,
    )  # fmt: skip
