"""Sets of atoms as arrays, in numpy alone: prediction, counting and merging need no compiler.

Atoms are sparse: a row for each, its constants ascending, the rest filled with `BLANK`. Sets of
terms are bit-sliced: for each constant, a row of 64-bit words with a bit for each term that
contains it. An atom is below a term iff it shares a constant with it: iff the bit of the term is
set in the union of the rows of the atom's constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from loaders.rows import Array

#: Fills the rows of atoms with few constants.
BLANK = np.iinfo(np.int32).max
#: Gaps of this and above take a further byte.
_ESCAPE = 255
#: An atom of more constants is dropped: it says next to nothing, and takes more than a byte.
MOST_CONSTANTS = 255
#: Atoms, times the constants of the longest: what arrays from anybody may make us allocate.
MOST_CELLS = 1 << 30
#: How many atoms are worked on at a time: their bits stay in the cache.
_CHUNK = 1024

#: int32, shape (atoms, most constants).
Atoms = npt.NDArray[np.int32]
#: Bits, uint64, shape (., words).
BitRows = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]


def pack(bits: Array) -> BitRows:
    """Return booleans, shape (n, m), as rows of bits, shape (n, ceil(m / 64))."""
    missing = -bits.shape[1] % 64
    padded = np.pad(bits.astype(bool), ((0, 0), (0, missing)))
    packed = np.packbits(padded, axis=1, bitorder="little").view(np.dtype("<u8"))
    return packed.astype(np.uint64, copy=False)


def unpack(rows: BitRows, count: int) -> npt.NDArray[np.uint8]:
    """Return rows of bits as zeros and ones, uint8, shape (n, count)."""
    bytes_ = np.ascontiguousarray(rows).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(bytes_, axis=1, count=count, bitorder="little")


def padded(starts: Array, constants: Array) -> Atoms:
    """Return atoms whose constants are in one array, atom a's from starts[a] to starts[a + 1]."""
    sizes = np.diff(starts)
    atoms = np.full((len(sizes), int(sizes.max(initial=0))), BLANK, np.int32)
    row = np.repeat(np.arange(len(sizes)), sizes)
    atoms[row, np.arange(len(constants)) - np.repeat(starts[:-1], sizes)] = constants
    return atoms


def rows_of(atoms: Atoms, constants: int) -> BitRows:
    """Return atoms as rows of bits."""
    rows = np.zeros((len(atoms), (constants + 63) >> 6), np.uint64)
    every = np.arange(len(atoms))
    for column in atoms.T:
        there = column != BLANK
        each = column[there]
        rows[every[there], each >> 6] |= np.uint64(1) << (each & 63).astype(np.uint64)
    return rows


def sizes(atoms: Atoms) -> Counts:
    """Return how many constants each atom has."""
    return np.asarray(np.count_nonzero(atoms != BLANK, axis=1), np.int64)


def joined(parts: Sequence[Atoms]) -> Atoms:
    """Return the atoms of several arrays, in a row."""
    width = max((part.shape[1] for part in parts), default=0)
    return np.concatenate(
        [np.zeros((0, width), np.int32)]
        + [np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=BLANK) for p in parts]
    )


def distinct(atoms: Atoms) -> tuple[Atoms, npt.NDArray[np.int64]]:
    """Return the atoms without repeats, in lexical order, and of which each one given is.

    The order depends on the atoms alone: sets of atoms that are equal become equal arrays.
    """
    if not len(atoms):
        return atoms, np.zeros(0, np.int64)
    keys = np.ascontiguousarray(atoms.astype(">u4"))
    flat = keys.view(np.dtype((np.void, keys.shape[1] * 4))).ravel()
    _, first, which = np.unique(flat, return_index=True, return_inverse=True)
    kept = atoms[first]
    return kept[:, : int(sizes(kept).max())], which


# On the wire and on disk.


def encode(atoms: Atoms) -> tuple[Codes, Codes]:
    """Return atoms as bytes: some 13 for an atom of nine constants.

    The constants of an atom are told by the gaps between them, from 0 on; a gap of g is g // 255
    bytes of 255 and one of g % 255.

    Returns:
        sizes, uint8, a byte for each atom, and gaps, uint8, of all atoms in a row.

    Raises:
        ValueError: an atom has more than `MOST_CONSTANTS`.
    """
    each = sizes(atoms)
    if each.max(initial=0) > MOST_CONSTANTS:
        raise ValueError(f"an atom of more than {MOST_CONSTANTS} constants can't be sent")
    there = atoms != BLANK
    gaps = np.diff(np.where(there, atoms, 0), axis=1, prepend=0)[there]
    bytes_, last = gaps // _ESCAPE, gaps % _ESCAPE
    codes = np.full(int((bytes_ + 1).sum()), _ESCAPE, np.uint8)
    codes[np.cumsum(bytes_ + 1) - 1] = last
    return each.astype(np.uint8), codes


def decode(sizes: Array, gaps: Array, constants: int, most_cells: int = MOST_CELLS) -> Atoms:
    """Return the atoms that `encode` made bytes of.

    Args:
        sizes, gaps: what it returned; from anybody.
        constants: how many there are.
        most_cells: atoms, times the constants of the longest, at most.

    Raises:
        ValueError: they are no such bytes, or of other constants.
    """
    for array in (sizes, gaps):
        if array.dtype != np.uint8 or array.ndim != 1:
            raise ValueError("atoms are two flat arrays of uint8")
    if len(sizes) * int(sizes.max(initial=0)) > most_cells:
        raise ValueError(f"{len(sizes)} atoms of up to {sizes.max()} constants are too many")
    ends = np.flatnonzero(gaps != _ESCAPE)
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    if len(ends) != starts[-1] or (len(gaps) and gaps[-1] == _ESCAPE) or not sizes.all():
        raise ValueError("sizes and gaps of atoms don't fit together")
    totals = np.cumsum(gaps, dtype=np.int64)[ends]
    before = np.concatenate([[0], totals])[starts[:-1]]
    each = totals - np.repeat(before, sizes)
    if each.max(initial=0) >= constants:
        raise ValueError(f"an atom has a constant beyond the {constants} that there are")
    atoms = padded(starts, each)
    if (np.diff(atoms, axis=1)[atoms[:, 1:] != BLANK] <= 0).any():
        raise ValueError("an atom names a constant twice")
    return atoms


# Terms.


def slice_terms(bits: Array) -> BitRows:
    """Return terms, booleans of shape (terms, constants), bit-sliced, with a blank row at the end.

    The rows are a table: constant c's is row c, and `BLANK`'s the last.
    """
    table = pack(np.ascontiguousarray(bits.T))
    return np.concatenate([table, np.zeros((1, table.shape[1]), np.uint64)])


def _missed(atoms: Atoms, table: BitRows, count: int) -> Iterator[tuple[slice, BitRows]]:
    """Yield which terms atoms miss, some atoms at a time: bits, shape (chunk, words)."""
    blank, words = len(table) - 1, table.shape[1]
    last = np.uint64(0xFFFFFFFFFFFFFFFF if count % 64 == 0 else (1 << count % 64) - 1)
    order = np.minimum(atoms, blank)
    one = np.empty((_CHUNK, words), np.uint64)
    for first in range(0, len(atoms), _CHUNK):
        chunk = order[first : first + _CHUNK]
        out = np.zeros((len(chunk), words), np.uint64)
        for column in chunk.T:
            if (column != blank).any():
                out |= np.take(table, column, axis=0, out=one[: len(chunk)], mode="clip")
        np.invert(out, out=out)
        if words:
            out[:, -1] &= last
        yield slice(first, first + len(chunk)), out


def count_misses(atoms: Atoms, table: BitRows, count: int) -> Counts:
    """Return how many terms each atom misses (is not below).

    Args:
        atoms: as ever.
        table: of the terms, from `slice_terms`.
        count: how many terms there are.
    """
    result = np.zeros(len(atoms), np.int64)
    for where, missed in _missed(atoms, table, count):
        result[where] = np.bitwise_count(missed).sum(axis=1)
    return result


def missed_terms(atoms: Atoms, table: BitRows, count: int) -> Bools:
    """Return which terms each atom misses: bool, shape (atoms, count)."""
    result = np.zeros((len(atoms), count), bool)
    for where, missed in _missed(atoms, table, count):
        result[where] = unpack(missed, count)
    return result


def vote(atoms: Atoms, weights: Counts, table: BitRows, count: int) -> Counts:
    """Return for each term the weights of the atoms that miss it, summed, exactly.

    Args:
        atoms: as ever.
        weights: whole numbers, of each atom.
        table, count: the terms.

    Cost: some five word operations for each atom and 64 terms, after the misses themselves:
        atoms of equal weight are counted by carry-save adders.
    """
    result = np.zeros(count, np.int64)
    for weight in np.unique(weights):
        if weight:
            planes = _Planes(table.shape[1])
            for _, missed in _missed(atoms[weights == weight], table, count):
                planes.add(missed)
            result += weight * planes.counts(count)
    return result


class _Planes:
    """Counts for many terms at once: bit k of every count is in row k.

    Source: carry-save adders, Warren, "Hacker's Delight", section 5-1.
    """

    def __init__(self, words: int) -> None:
        self._planes: list[BitRows] = []
        self._words = words

    def add(self, rows: BitRows) -> None:
        """Count the ones of each column of some rows."""
        level = 0
        while rows.any():
            if level == len(self._planes):
                self._planes.append(np.zeros((1, self._words), np.uint64))
            rows = np.concatenate([self._planes[level], rows])
            carries = []
            while len(rows) > 1:
                third = len(rows) // 3
                if third:
                    a, b, c = rows[:third], rows[third : 2 * third], rows[2 * third : 3 * third]
                    both = a ^ b
                    carries.append((a & b) | (both & c))
                    rows = np.concatenate([both ^ c, rows[3 * third :]])
                else:
                    carries.append(rows[:1] & rows[1:])
                    rows = rows[:1] ^ rows[1:]
            self._planes[level] = rows
            rows = np.concatenate(carries) if carries else rows[:0]
            level += 1

    def counts(self, count: int) -> Counts:
        """Return the counts of the first so many columns."""
        result = np.zeros(count, np.int64)
        for level, plane in enumerate(self._planes):
            result += unpack(plane, count)[0].astype(np.int64) << level
        return result
