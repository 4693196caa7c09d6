"""The inner loops of Sparse Crossing, compiled.

Sets of constants, of indicators, of terms and of atoms are rows of 64-bit words, bit `b` of a
row being bit `b % 64` of word `b // 64`. Every kernel works in one thread, on integers only, and
draws from a generator of its own: equal arguments make equal bits, on any machine.

Nothing but `sparse.py` and `classifier.py` imports this module: prediction and merging need no
compiler.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from loaders.caches import has_home, homeless_folder

#: Words of positives that are looked at together while crossing: 64 positives each.
BLOCK_WORDS = 8
#: Crossing reduces whenever there are so many times the atoms that the last reduction left ...
GROWTH = 1.5
#: ... and at least so many.
FLOOR = 256

_U = np.uint64
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE, _ZERO = np.uint64(1), np.uint64(0)


_settings: Any = numba.config
if not (_settings.CACHE_DIR or has_home()):  # it would make a folder named ~ right here
    with suppress(OSError):
        _settings.CACHE_DIR = str(homeless_folder() / "numba")


def _compiled(function: Any) -> Any:
    """Compile a function, once on this machine where there is a place to keep that."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder can be written: a service without a home, say
        return numba.njit(nogil=True)(function)


@intrinsic
def _popcount(context: Any, word: Any) -> Any:
    """Return the number of ones of a word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _lowest(context: Any, word: Any) -> Any:
    """Return the place of the lowest one of a word that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


# The generator: xorshift64* (Vigna 2016, "An experimental exploration of Marsaglia's xorshift
# generators, scrambled"); its state is an array of one word that is not 0.


@_compiled
def _draw(random):
    word = random[0]
    word ^= word >> _U(12)
    word ^= word << _U(25)
    word ^= word >> _U(27)
    random[0] = word
    return word * _U(0x2545F4914F6CDD1D)


@_compiled
def _below(random, count):
    """Return a random number from 0 to count - 1; count is less than 2**32."""
    return np.int64(((_draw(random) >> _U(32)) * _U(count)) >> _U(32))


@_compiled
def shuffled(count, random):
    """Return 0 .. count - 1 in random order, int64."""
    order = np.arange(count)
    for last in range(count - 1, 0, -1):
        other = _below(random, last + 1)
        order[last], order[other] = order[other], order[last]
    return order


# Bits.


@_compiled
def _has(row, bit):
    return (row[bit >> 6] >> _U(bit & 63)) & _ONE != _ZERO


@_compiled
def _put(row, bit):
    row[bit >> 6] |= _ONE << _U(bit & 63)


@_compiled
def _nth(word, n):
    """Return the place of the n-th one (from 0) of a word that has so many."""
    for _ in range(n):
        word &= word - _ONE
    return np.int64(_lowest(word))


@_compiled
def _random_of(row, random):
    """Return a random member of a set, or -1 where it is empty."""
    count = _ZERO
    for word in range(len(row)):
        count += _popcount(row[word])
    if count == _ZERO:
        return np.int64(-1)
    n = _below(random, np.int64(count))
    for word in range(len(row)):
        here = np.int64(_popcount(row[word]))
        if n < here:
            return np.int64(word * 64) + _nth(row[word], n)
        n -= here
    return np.int64(-1)


@_compiled
def _random_of_both(a, b, words, random):
    """Return a random member of the intersection of two sets, or -1 where it is empty."""
    count = _ZERO
    for word in range(words):
        count += _popcount(a[word] & b[word])
    if count == _ZERO:
        return np.int64(-1)
    n = _below(random, np.int64(count))
    for word in range(words):
        both = a[word] & b[word]
        here = np.int64(_popcount(both))
        if n < here:
            return np.int64(word * 64) + _nth(both, n)
        n -= here
    return np.int64(-1)


@_compiled
def _transpose_block(block):
    """Transpose 64 x 64 bits in place (Warren, "Hacker's Delight", section 7-3)."""
    width = _U(32)
    mask = _U(0x00000000FFFFFFFF)
    while width:
        step = np.int64(width)
        k = 0
        while k < 64:
            swap = ((block[k] >> width) ^ block[k + step]) & mask
            block[k] ^= swap << width
            block[k + step] ^= swap
            k = (k + step + 1) & ~step
        width >>= _ONE
        mask ^= mask << width


@_compiled
def _transpose_into(rows, n, out):
    """Set `out` to the transpose of the first n rows; bits beyond them become 0."""
    block = np.empty(64, np.uint64)
    columns = out.shape[0]
    for tile in range(out.shape[1]):
        first = tile * 64
        height = min(64, n - first)
        for word in range((columns + 63) >> 6):
            some = _ZERO
            for k in range(height):
                block[k] = rows[first + k, word]
                some |= block[k]
            width = min(64, columns - word * 64)
            if some == _ZERO:
                for k in range(width):
                    out[word * 64 + k, tile] = _ZERO
                continue
            for k in range(max(0, height), 64):
                block[k] = _ZERO
            _transpose_block(block)
            for k in range(width):
                out[word * 64 + k, tile] = block[k]


@_compiled
def transposed(rows, columns):
    """Return the transpose of a bit matrix.

    Args:
        rows: uint64, shape (n, words).
        columns: how many bits of a row count.

    Returns:
        uint64, shape (columns, ceil(n / 64)): bit n of row c is bit c of row n.
    """
    out = np.empty((columns, (rows.shape[0] + 63) >> 6), np.uint64)
    _transpose_into(rows, rows.shape[0], out)
    return out


@_compiled
def misses(starts, constants, atoms, table, count):
    """Return which terms some atoms are not below.

    Args:
        starts: int64, shape (. + 1,): atom a has constants[starts[a] : starts[a + 1]].
        constants: int32, of all atoms in a row.
        atoms: int64, shape (n,): the numbers of those that are asked for.
        table: uint64, shape (constants, words): for each constant, the terms that contain it.
        count: how many terms there are.

    Returns:
        uint64, shape (n, words): bit t of row k says that atom k and term t are disjoint.
    """
    n, words = len(atoms), table.shape[1]
    out = np.empty((n, words), np.uint64)
    last = _ALL if count & 63 == 0 else (_ONE << _U(count & 63)) - _ONE
    for k in range(n):
        row = out[k]
        row[:] = _ZERO
        for at in range(starts[atoms[k]], starts[atoms[k] + 1]):
            members = table[constants[at]]
            for word in range(words):
                row[word] |= members[word]
        for word in range(words):
            row[word] = ~row[word]
        if words:
            row[words - 1] &= last
    return out


@_compiled
def misses_any(starts, constants, atoms, table, count):
    """Return whether each atom is not below some term: bool, shape (n,); as `misses`."""
    words = table.shape[1]
    out = np.zeros(len(atoms), np.bool_)
    for k in range(len(atoms)):
        begin, end = starts[atoms[k]], starts[atoms[k] + 1]
        for word in range(words):
            met = _ZERO
            for at in range(begin, end):
                met |= table[constants[at], word]
            if word == words - 1 and count & 63:
                met |= _ALL << _U(count & 63)
            if met != _ALL:
                out[k] = True
                break
    return out


@_compiled
def listed(rows):
    """Return the constants of packed atoms.

    Args:
        rows: uint64, shape (n, words).

    Returns:
        starts (int64, shape (n + 1,)) and constants (int32), as `misses` takes them.
    """
    n, words = rows.shape
    starts = np.zeros(n + 1, np.int64)
    for atom in range(n):
        count = _ZERO
        for word in range(words):
            count += _popcount(rows[atom, word])
        starts[atom + 1] = starts[atom] + np.int64(count)
    constants = np.empty(starts[n], np.int32)
    at = 0
    for atom in range(n):
        for word in range(words):
            left = rows[atom, word]
            while left:
                constants[at] = word * 64 + np.int64(_lowest(left))
                at += 1
                left &= left - _ONE
    return starts, constants


@_compiled
def first_equal(rows):
    """Return the number of the first row that equals each row: int64, shape (n,)."""
    n, words = rows.shape
    size = 64
    while size < 2 * n:
        size *= 2
    slots = np.full(size, -1, np.int64)
    first = np.empty(n, np.int64)
    for row in range(n):
        mixed = _U(0x9E3779B97F4A7C15)
        for word in range(words):
            mixed = (mixed ^ rows[row, word]) * _U(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> _U(29)
        slot = np.int64(mixed & _U(size - 1))
        while True:
            other = slots[slot]
            if other < 0:
                slots[slot] = row
                first[row] = row
                break
            same = True
            for word in range(words):
                if rows[other, word] != rows[row, word]:
                    same = False
                    break
            if same:
                first[row] = other
                break
            slot = (slot + 1) & (size - 1)
    return first


@_compiled
def count_misses(starts, constants, atoms, table, count):
    """Return how many terms each atom is not below: int64, shape (n,); as `misses`."""
    words = table.shape[1]
    out = np.zeros(len(atoms), np.int64)
    met = np.empty(words, np.uint64)
    for k in range(len(atoms)):
        met[:] = _ZERO
        for at in range(starts[atoms[k]], starts[atoms[k] + 1]):
            for word in range(words):
                met[word] |= table[constants[at], word]
        below = _ZERO
        for word in range(words):
            below += _popcount(met[word])
        out[k] = count - np.int64(below)
    return out


# Step 4: a random hitting set of indicators.


@_compiled
def hitting_set(lefts, rights, bits, bases, widths, own_starts, own, n_own, random):
    """Return a small set of indicators among which every negative has a useful one.

    Indicators are of two kinds here. Those of a group (one group for each left term) are found
    by bits: negative k, of left term l and right term r, finds indicator j of group l useful iff
    bit j of the widths[l] words from bases[l] + r * widths[l] is set. The others are listed:
    own[own_starts[k] : own_starts[k + 1]].

    Args:
        lefts, rights: int64, shape (n,): left and right term of each negative.
        bits: uint64, flat.
        bases, widths: int64, shape (groups,): in words.
        own_starts, own: int64.
        n_own: how many indicators of the second kind there are.
        random: the generator.

    Returns:
        The kept ones of the groups (uint64, each group widths[l] words after one another), the
        kept ones of the other kind (bool, shape (n_own,)), and the number of a negative without
        a useful indicator, or -1.
    """
    groups = len(widths)
    offsets = np.zeros(groups + 1, np.int64)
    for group in range(groups):
        offsets[group + 1] = offsets[group] + widths[group]
    allowed = np.full(offsets[groups], _ALL, np.uint64)
    forced = np.zeros(offsets[groups], np.uint64)
    own_allowed = np.ones(n_own, np.bool_)
    own_forced = np.zeros(n_own, np.bool_)
    left_over = np.arange(len(lefts))
    kept = np.int64(-1)
    while True:
        take = forced.copy()
        own_take = own_forced.copy()
        for last in range(len(left_over) - 1, 0, -1):
            other = _below(random, last + 1)
            left_over[last], left_over[other] = left_over[other], left_over[last]
        n_left = 0
        for negative in left_over:
            group = lefts[negative]
            width = widths[group]
            at = bases[group] + rights[negative] * width
            to = offsets[group]
            done = False
            for word in range(width):
                if bits[at + word] & forced[to + word]:
                    done = True
                    break
            begin, end = own_starts[negative], own_starts[negative + 1]
            for k in range(begin, end):
                done = done or own_forced[own[k]]
            if done:
                continue
            left_over[n_left] = negative
            n_left += 1
            hit = False
            count = np.int64(0)
            for word in range(width):
                useful = bits[at + word] & allowed[to + word]
                count += np.int64(_popcount(useful))
                hit = hit or (useful & take[to + word]) != _ZERO
                if hit and count > 1:
                    break
            for k in range(begin, end):
                count += np.int64(own_allowed[own[k]])
                hit = hit or own_take[own[k]]
            if count == 0:
                return allowed, own_allowed, negative
            if hit and count > 1:
                continue
            n = _below(random, count) if count > 1 else 0
            chosen = np.int64(-1)
            for word in range(width):
                useful = bits[at + word] & allowed[to + word]
                here = np.int64(_popcount(useful))
                if n < here:
                    chosen = word * 64 + _nth(useful, n)
                    break
                n -= here
            if chosen >= 0:
                mark = _ONE << _U(chosen & 63)
                take[to + (chosen >> 6)] |= mark
                if count == 1:
                    forced[to + (chosen >> 6)] |= mark
            else:
                for k in range(begin, end):
                    if own_allowed[own[k]]:
                        if n == 0:
                            own_take[own[k]] = True
                            if count == 1:
                                own_forced[own[k]] = True
                            break
                        n -= 1
        left_over = left_over[:n_left]
        allowed[:] = take
        own_allowed[:] = own_take
        before, kept = kept, np.int64(0)
        for word in range(len(allowed)):
            kept += np.int64(_popcount(allowed[word]))
        for k in range(n_own):
            kept += np.int64(own_allowed[k])
        if kept == before:
            return allowed, own_allowed, np.int64(-1)


# Step 5: the constraints on traces.


@_compiled
def _out_of_atom(row, avoided, out):
    """Set `out` to the indicators that avoid every constant of an atom."""
    out[:] = _ALL
    for word in range(len(row)):
        left = row[word]
        while left:
            members = avoided[word * 64 + np.int64(_lowest(left))]
            for k in range(len(out)):
                out[k] &= members[k]
            left &= left - _ONE


@_compiled
def _meet_more(more, met, terms, constant):
    """Note that the terms of a constant are met by more indicators."""
    for word in range(len(more)):
        left = more[word]
        while left:
            indicator = word * 64 + np.int64(_lowest(left))
            left &= left - _ONE
            row = met[indicator]
            members = terms[constant]
            for k in range(len(row)):
                row[k] |= members[k]


@_compiled
def _add_constant(constant, avoided, out, met, terms):
    """Account for a new atom that is one constant."""
    more = avoided[constant] & ~out[constant]
    out[constant] |= more
    _meet_more(more, met, terms, constant)


@_compiled
def _out_of_left(row, out, result):
    result[:] = _ZERO
    for word in range(len(row)):
        left = row[word]
        while left:
            members = out[word * 64 + np.int64(_lowest(left))]
            for k in range(len(result)):
                result[k] |= members[k]
            left &= left - _ONE


@_compiled
def _discriminated(of_left, met, result):
    """Set `result` to the terms that some indicator of a left term does not meet."""
    result[:] = _ZERO
    for word in range(len(of_left)):
        left = of_left[word]
        while left:
            row = met[word * 64 + np.int64(_lowest(left))]
            for k in range(len(result)):
                result[k] |= ~row[k]
            left &= left - _ONE


@_compiled
def close_traces(rows, avoided, n_indicators, lefts, rights, terms, positives, negatives, random):
    """Return the constants that must become atoms for the trace constraints to hold.

    Args:
        rows: the master's atoms, uint64, shape (n, words).
        avoided: uint64, shape (constants, indicator words): indicators a constant is not in.
        n_indicators: how many there are.
        lefts, rights: terms, uint64, shape (., words).
        terms: `rights`, transposed.
        positives, negatives: int64, shape (., 2): numbers of left and right term.
        random: the generator.

    Returns:
        The constants (int64), for every constant the union of out(f) over the atoms f that
        contain it (uint64, as `avoided`), and the number of a negative that can't hold, or -1.
    """
    n_constants, width = avoided.shape
    out = np.zeros((n_constants, width), np.uint64)
    one = np.empty(width, np.uint64)
    for atom in range(rows.shape[0]):
        _out_of_atom(rows[atom], avoided, one)
        for word in range(rows.shape[1]):
            left = rows[atom, word]
            while left:
                out[word * 64 + np.int64(_lowest(left))] |= one
                left &= left - _ONE
    met = np.zeros((n_indicators, terms.shape[1]), np.uint64)
    for constant in range(n_constants):
        _meet_more(out[constant], met, terms, constant)

    of_left = np.zeros((lefts.shape[0], width), np.uint64)
    told = np.zeros((lefts.shape[0], terms.shape[1]), np.uint64)
    failing = np.empty(width, np.uint64)
    added = np.empty(n_constants, np.int64)
    n_added = 0
    bad = np.int64(-1)
    changed = True
    while changed and bad < 0:
        changed = False
        for left in range(lefts.shape[0]):
            _out_of_left(lefts[left], out, of_left[left])
            _discriminated(of_left[left], met, told[left])
        for k in range(negatives.shape[0]):
            left, right = negatives[k]
            if _has(told[left], right):
                continue
            count = 0
            chosen = np.int64(-1)
            for constant in range(n_constants):
                if not _has(lefts[left], constant) or _has(rights[right], constant):
                    continue
                holds = False
                for word in range(width):
                    some = avoided[constant, word]
                    while some:
                        indicator = word * 64 + np.int64(_lowest(some))
                        some &= some - _ONE
                        if not _has(met[indicator], right):
                            holds = True
                            break
                    if holds:
                        break
                if holds:
                    count += 1
                    if _below(random, count) == 0:
                        chosen = constant
            if chosen < 0:
                bad = k
                break
            _add_constant(chosen, avoided, out, met, terms)
            added[n_added] = chosen
            n_added += 1
            changed = True
            for other in range(lefts.shape[0]):
                if _has(lefts[other], chosen):
                    _out_of_left(lefts[other], out, of_left[other])
                    _discriminated(of_left[other], met, told[other])
        if bad >= 0:
            break
        for k in range(positives.shape[0]):
            left, right = positives[k]
            if not _has(told[left], right):
                continue
            while True:
                some_fail = False
                for word in range(width):
                    failing[word] = _ZERO
                    some = of_left[left, word]
                    while some:
                        lowest = some & (~some + _ONE)
                        some ^= lowest
                        if not _has(met[word * 64 + np.int64(_lowest(lowest))], right):
                            failing[word] |= lowest
                            some_fail = True
                if not some_fail:
                    break
                count = 0
                chosen = np.int64(-1)
                for word in range(rights.shape[1]):
                    members = rights[right, word]
                    while members:
                        constant = word * 64 + np.int64(_lowest(members))
                        members &= members - _ONE
                        helps = False
                        for at in range(width):
                            if avoided[constant, at] & failing[at]:
                                helps = True
                                break
                        if helps:
                            count += 1
                            if _below(random, count) == 0:
                                chosen = constant
                if chosen < 0:  # no constant of its right side can help: it has none, say
                    return added[:0].copy(), out, np.int64(negatives.shape[0])
                _add_constant(chosen, avoided, out, met, terms)
                added[n_added] = chosen
                n_added += 1
                changed = True
                for other in range(lefts.shape[0]):
                    if _has(lefts[other], chosen):
                        _out_of_left(lefts[other], out, of_left[other])
    return added[:n_added].copy(), out, bad


# Step 6: crossing and reduction.


@_compiled
def reduction(rows, outs, column, n, target, random):
    """Return a random choice of atoms that keeps the trace of every constant.

    Args:
        rows, outs: constants and out(f) of each atom, uint64; the first n rows count.
        column: for each indicator, the atoms in whose out it is, uint64.
        n: how many atoms there are.
        target: for each constant, what the atoms that contain it must have in their outs.
        random: the generator.

    Returns:
        bool, shape (n,): whether to keep an atom.
    """
    n_constants, width = target.shape
    atom_words = (n + 63) >> 6
    containing = np.zeros((n_constants, atom_words), np.uint64)
    for atom in range(n):
        for word in range(rows.shape[1]):
            left = rows[atom, word]
            while left:
                _put(containing[word * 64 + np.int64(_lowest(left))], atom)
                left &= left - _ONE
    covered = np.zeros((n_constants, width), np.uint64)
    has_one = np.zeros(n_constants, np.bool_)
    rem = np.empty(width, np.uint64)
    keep = np.zeros(n, np.bool_)
    for constant in shuffled(n_constants, random):
        wanted = _ZERO
        for word in range(width):
            wanted |= target[constant, word]
        while True:
            if wanted:
                for word in range(width):
                    rem[word] = target[constant, word] & ~covered[constant, word]
                indicator = _random_of(rem, random)
                if indicator < 0:
                    break
                atom = _random_of_both(column[indicator], containing[constant], atom_words, random)
                if atom < 0:
                    break
            else:
                atom = -1 if has_one[constant] else _random_of(containing[constant], random)
                if atom < 0:
                    break
            keep[atom] = True
            for word in range(rows.shape[1]):
                left = rows[atom, word]
                while left:
                    other = word * 64 + np.int64(_lowest(left))
                    left &= left - _ONE
                    for k in range(width):
                        covered[other, k] |= outs[atom, k]
                    has_one[other] = True
    return keep


@_compiled
def _grown(array, columns):
    more = np.zeros((array.shape[0], columns), array.dtype)
    more[:, : array.shape[1]] = array
    return more


@_compiled
def _grown_rows(array, rows):
    more = np.zeros((rows, array.shape[1]), array.dtype)
    more[: array.shape[0]] = array
    return more


@_compiled
def _set_column(column, out, atom):
    for word in range(len(out)):
        left = out[word]
        while left:
            _put(column[word * 64 + np.int64(_lowest(left))], atom)
            left &= left - _ONE


@_compiled
def _sides(row, left_table, right_table, meet, miss, atom):
    """Set which positives of a block an atom is below the left side of, and not the right."""
    words = left_table.shape[1]
    for word in range(words):
        meet[word, atom] = _ZERO
        miss[word, atom] = _ZERO
    for at in range(len(row)):
        left = row[at]
        while left:
            constant = at * 64 + np.int64(_lowest(left))
            left &= left - _ONE
            for word in range(words):
                meet[word, atom] |= left_table[constant, word]
                miss[word, atom] |= right_table[constant, word]
    for word in range(words):
        miss[word, atom] = ~miss[word, atom]


@_compiled
def _sort_out(meet, miss, mark, n, below, discriminant):
    """Set the atoms below the right side of a positive, and list its discriminant."""
    count = 0
    for first in range(0, n, 64):
        word = _ZERO
        for k in range(min(64, n - first)):
            if miss[first + k] & mark == _ZERO:
                word |= _ONE << _U(k)
            elif meet[first + k] & mark:
                discriminant[count] = first + k
                count += 1
        below[first >> 6] = word
    return count


@_compiled
def cross(rows, avoided, n_indicators, target, lefts, rights, positives, random):
    """Cross the master with positives, in their order, and reduce.

    Args:
        rows: the master's atoms, uint64, shape (n, words).
        avoided: uint64, shape (constants, indicator words): indicators a constant is not in.
        n_indicators: how many there are.
        target: the out of each constant, as `avoided`; stays as it is.
        lefts, rights: terms, uint64, shape (., words).
        positives: int64, shape (., 2): numbers of left and right term.
        random: the generator.

    Returns:
        The new master's atoms (none where a right term has no constant, or `target` is not that
        of these atoms), and for each positive whether it had to be crossed (bool).
    """
    n, words = rows.shape
    n_constants, width = avoided.shape
    capacity = ((max(1024, 3 * n) + 63) >> 6) << 6
    rows = _grown_rows(rows, capacity)
    outs = np.zeros((capacity, width), np.uint64)
    single = np.zeros(capacity, np.bool_)
    column = np.zeros((n_indicators, capacity >> 6), np.uint64)
    meet = np.zeros((BLOCK_WORDS, capacity), np.uint64)
    miss = np.zeros((BLOCK_WORDS, capacity), np.uint64)
    plural = 0
    for atom in range(n):
        _out_of_atom(rows[atom], avoided, outs[atom])
        _set_column(column, outs[atom], atom)
        count = _ZERO
        for word in range(words):
            count += _popcount(rows[atom, word])
        single[atom] = count == _ONE
        plural += not single[atom]
    limit = max(FLOOR, np.int64(GROWTH * plural))
    crossed = np.zeros(len(positives), np.bool_)
    rem = np.empty(width, np.uint64)
    below = np.zeros(capacity >> 6, np.uint64)  # atoms below the right side
    discriminant = np.empty(capacity, np.int64)
    block_rows = np.zeros((BLOCK_WORDS * 64, words), np.uint64)

    for first in range(0, len(positives), BLOCK_WORDS * 64):
        size = min(BLOCK_WORDS * 64, len(positives) - first)
        for k in range(size):
            block_rows[k] = rights[positives[first + k, 1]]
        right_table = transposed(block_rows[:size], n_constants)
        for k in range(size):
            block_rows[k] = lefts[positives[first + k, 0]]
        left_table = transposed(block_rows[:size], n_constants)
        block_words = (size + 63) >> 6
        for atom in range(n):
            _sides(rows[atom], left_table, right_table, meet, miss, atom)
        for block_word in range(block_words):
            violated = _ZERO
            for atom in range(n):
                violated |= meet[block_word, atom] & miss[block_word, atom]
            while violated:
                mark = violated & (~violated + _ONE)
                violated ^= mark
                if len(discriminant) < capacity:
                    below = np.zeros(capacity >> 6, np.uint64)
                    discriminant = np.empty(capacity, np.int64)
                n_discriminant = _sort_out(
                    meet[block_word], miss[block_word], mark, n, below, discriminant
                )
                if n_discriminant == 0:
                    continue
                last_words = (n + 63) >> 6
                crossed[first + block_word * 64 + np.int64(_lowest(mark))] = True
                for place in range(n_discriminant):
                    atom = discriminant[place]
                    rem[:] = outs[atom]
                    mate = np.int64(-1)
                    while True:
                        indicator = _random_of(rem, random)
                        if indicator < 0:
                            if mate >= 0:
                                break
                            other = _random_of(below[:last_words], random)
                        else:
                            other = _random_of_both(column[indicator], below, last_words, random)
                        if other < 0:  # the arguments are not what they must be
                            return rows[:0].copy(), crossed
                        for word in range(width):
                            rem[word] &= ~outs[other, word]
                        if mate < 0:  # the first takes the place of the atom itself, below
                            mate = other
                            continue
                        if n == capacity:
                            capacity *= 2
                            rows = _grown_rows(rows, capacity)
                            outs = _grown_rows(outs, capacity)
                            meet = _grown(meet, capacity)
                            miss = _grown(miss, capacity)
                            column = _grown(column, capacity >> 6)
                            more = np.zeros(capacity, np.bool_)
                            more[:n] = single[:n]
                            single = more
                        for word in range(words):
                            rows[n, word] = rows[atom, word] | rows[other, word]
                        for word in range(width):
                            outs[n, word] = outs[atom, word] & outs[other, word]
                        for word in range(block_words):
                            meet[word, n] = meet[word, atom] | meet[word, other]
                            miss[word, n] = miss[word, atom] & miss[word, other]
                        single[n] = False
                        plural += 1
                        _set_column(column, outs[n], n)
                        n += 1
                    for word in range(words):
                        rows[atom, word] |= rows[mate, word]
                    for word in range(width):
                        gone = outs[atom, word] & ~outs[mate, word]
                        outs[atom, word] &= outs[mate, word]
                        while gone:
                            indicator = word * 64 + np.int64(_lowest(gone))
                            gone &= gone - _ONE
                            column[indicator, atom >> 6] &= ~(_ONE << _U(atom & 63))
                    for word in range(block_words):
                        meet[word, atom] |= meet[word, mate]
                        miss[word, atom] &= miss[word, mate]
                    if single[atom]:
                        single[atom] = False
                        plural += 1
                if plural > limit:
                    n = _keep(
                        reduction(rows, outs, column, n, target, random),
                        rows, outs, meet, miss, single, column,
                    )  # fmt: skip
                    plural = n - np.sum(single[:n])
                    limit = max(FLOOR, np.int64(GROWTH * plural))
    n = _keep(
        reduction(rows, outs, column, n, target, random), rows, outs, meet, miss, single, column
    )
    return rows[:n].copy(), crossed


@_compiled
def _keep(keep, rows, outs, meet, miss, single, column):
    """Close the ranks of the atoms that are kept; return how many they are."""
    n = 0
    for atom in range(len(keep)):
        if keep[atom]:
            if n != atom:
                rows[n] = rows[atom]
                outs[n] = outs[atom]
                for word in range(meet.shape[0]):
                    meet[word, n] = meet[word, atom]
                    miss[word, n] = miss[word, atom]
                single[n] = single[atom]
            n += 1
    _transpose_into(outs, n, column)
    return n
