"""Atoms as arrays, and the kernels, against the plainest code that does the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.algebraic import kernels
from learning.algebraic.atoms import (
    BLANK,
    count_misses,
    decode,
    distinct,
    encode,
    joined,
    missed_terms,
    pack,
    padded,
    rows_of,
    slice_terms,
    unpack,
    vote,
)
from learning.algebraic.sparse import seeded

some_sets = st.lists(
    st.sets(st.integers(0, 999), min_size=1, max_size=20).map(sorted), min_size=1, max_size=40
)


def as_atoms(sets: list[list[int]]) -> Any:
    starts = np.cumsum([0] + [len(each) for each in sets])
    return padded(starts, np.concatenate([np.array(each, np.int64) for each in sets]))


@given(some_sets)
def test_atoms_survive_the_wire(sets: list[list[int]]) -> None:
    atoms = as_atoms(sets)
    sizes, gaps = encode(atoms)
    assert (decode(sizes, gaps, 1000) == atoms).all()


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_bytes_from_anybody_are_atoms_or_a_value_error(sizes: bytes, gaps: bytes) -> None:
    try:
        atoms = decode(np.frombuffer(sizes, np.uint8), np.frombuffer(gaps, np.uint8), 500)
    except ValueError:
        return
    for row in atoms:
        there = row[row != BLANK]
        assert len(there)
        assert there.min() >= 0
        assert there.max() < 500
        assert (np.diff(there) > 0).all()


@given(some_sets, st.randoms())
def test_equal_sets_of_atoms_become_equal_arrays(sets: list[list[int]], random: Any) -> None:
    atoms = as_atoms(sets)
    first, which = distinct(atoms)
    assert [sorted(set(row) - {BLANK}) for row in first[which].tolist()] == sets
    shuffled = sets * 2
    random.shuffle(shuffled)
    half = len(shuffled) // 2
    again, _ = distinct(joined([as_atoms(shuffled[:half]), as_atoms(shuffled[half:])]))
    assert again.tobytes() == first.tobytes()


@given(some_sets, st.integers(1, 200), st.integers(0, 2**32))
def test_misses_counts_and_votes_are_what_they_say(
    sets: list[list[int]], count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    terms = random.random((count, 1000)) < 0.1
    atoms, table = as_atoms(sets), slice_terms(terms)
    expected = np.array([~terms[:, each].any(axis=1) for each in sets])
    assert (missed_terms(atoms, table, count) == expected).all()
    assert (count_misses(atoms, table, count) == expected.sum(axis=1)).all()
    weights = random.integers(0, 5, len(sets))
    assert (vote(atoms, weights, table, count) == weights @ expected).all()
    # And so do the kernels.
    starts, constants = kernels.listed(rows_of(atoms, 1000))
    sliced, every = kernels.transposed(pack(terms), 1000), np.arange(len(sets))
    missed = kernels.misses(starts, constants, every, sliced, count)
    assert (unpack(missed, count) == expected).all()
    counts = kernels.count_misses(starts, constants, every, sliced, count)
    assert (counts == expected.sum(axis=1)).all()
    any_ = kernels.misses_any(starts, constants, every, sliced, count)
    assert (any_ == expected.any(axis=1)).all()


@given(st.integers(0, 200), st.integers(1, 200), st.integers(0, 2**32))
def test_a_transpose_is_one(rows: int, columns: int, seed: int) -> None:
    bits = np.random.default_rng(seed).random((rows, columns)) < 0.3
    assert (unpack(kernels.transposed(pack(bits), columns), rows) == bits.T).all()


@given(st.lists(st.integers(0, 5), max_size=60))
def test_repeats_are_found(numbers: list[int]) -> None:
    rows = np.array([[n, n * n] for n in numbers], np.uint64).reshape(-1, 2)
    assert kernels.first_equal(rows).tolist() == [numbers.index(n) for n in numbers]


def test_the_generator_is_the_same_everywhere() -> None:
    """Seeds are a promise: another order would be another model for everybody's seed."""
    assert kernels.shuffled(10, seeded(7)).tolist() == [9, 7, 4, 1, 5, 6, 3, 8, 2, 0]


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 4))
def test_a_hitting_set_hits_every_negative(seed: int, terms: int, groups: int) -> None:
    random = np.random.default_rng(seed)
    widths = random.integers(1, 3, groups)
    bits = [random.random((terms, 64 * width)) < 0.05 for width in widths]
    negatives = [(g, t) for g in range(groups) for t in range(terms) if random.random() < 0.7]
    lefts = np.array([g for g, _ in negatives], np.int64)
    rights = np.array([t for _, t in negatives], np.int64)
    flat = [pack(part).ravel() for part in bits]
    bases = np.cumsum([0] + [len(part) for part in flat])[:-1]
    own_starts = np.cumsum([0] + [int(random.random() < 0.8) for _ in negatives])
    own = rights[np.diff(own_starts) == 1]
    kept, kept_own, bad = kernels.hitting_set(
        lefts, rights, np.concatenate(flat), bases, widths, own_starts, own, terms, seeded(seed)
    )
    at = np.cumsum([0, *widths])
    for number, (group, right) in enumerate(negatives):
        mine = own[own_starts[number] : own_starts[number + 1]]
        useful = bits[group][right]
        if not useful.any() and not len(mine):
            assert bad >= 0
            return
        if bad < 0:
            chosen = unpack(kept[None, at[group] : at[group + 1]], 64 * widths[group])[0]
            assert (chosen.astype(bool) & useful).any() or kept_own[mine].any()
    assert bad < 0


@pytest.fixture(scope="module")
def checked() -> dict[str, str]:
    """Return an environment where every index is checked.

    What is compiled so is kept beside what is compiled for use: it is made again when a kernel
    changes.
    """
    cache = Path(kernels.__file__).parent / "__pycache__" / "checked"
    return {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache)}


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="this is that run")
@pytest.mark.lane("deep")
@pytest.mark.timeout(400)
def test_no_kernel_reads_or_writes_out_of_bounds(checked: dict[str, str]) -> None:
    """Run the tests of this folder that use kernels once more, with every index checked."""
    here = Path(__file__).parent
    of_kernels = (
        test_the_check_of_bounds_is_on,
        test_misses_counts_and_votes_are_what_they_say,
        test_a_transpose_is_one,
        test_repeats_are_found,
        test_the_generator_is_the_same_everywhere,
        test_a_hitting_set_hits_every_negative,
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
         *(f"{__file__}::{test.__name__}" for test in of_kernels), str(here / "test_algebra.py"),
         f"{here / 'test_learning.py'}::test_the_invariants_hold_after_every_batch_of_mnist"],
        env=checked, capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="for the other run")
@pytest.mark.lane("deep")
@pytest.mark.timeout(400)
def test_compiling_is_said_and_done_once(checked: dict[str, str], tmp_path: Path) -> None:
    """On a machine where a kernel is not compiled yet; the others are, by the test above."""
    if (kept := Path(checked["NUMBA_CACHE_DIR"])).exists():
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("kernels.listed-*"):
        path.unlink()
    environment = {**checked, "NUMBA_CACHE_DIR": str(tmp_path)}
    code = (
        "from learning.algebraic import compiling; compiling._LOADING_SECONDS = 0.01;"
        "compiling.prepare(print)"
    )

    def told() -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=environment,
        ).stdout  # fmt: skip

    def compiled() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")}

    assert "compiling the algebraic learner's inner loops; once on this machine" in told()
    made = compiled()
    assert any(name.startswith("kernels.listed-") for name in made)
    told()
    assert compiled() == made


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="for the other run")
@pytest.mark.lane("deep")
def test_of_processes_that_start_together_one_compiles(
    checked: dict[str, str], tmp_path: Path
) -> None:
    if (kept := Path(checked["NUMBA_CACHE_DIR"])).exists():
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    for path in [*tmp_path.rglob("kernels.listed-*"), *tmp_path.rglob("kernels.compiled")]:
        path.unlink()
    code = (
        "from learning.algebraic import compiling, kernels; compiling.prepare(lambda text: None);"
        "print(kernels.listed.stats.cache_misses.total())"
    )
    environment = {**checked, "NUMBA_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    misses = sorted(int(process.communicate(timeout=110)[0]) for process in started)
    assert misses[:2] == [0, 0] and misses[2] > 0


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" not in os.environ, reason="only where indices are checked")
def test_the_check_of_bounds_is_on() -> None:
    with pytest.raises(IndexError):
        kernels.count_misses(
            np.array([0, 1]), np.array([999], np.int32), np.array([0]),
            np.zeros((10, 1), np.uint64), 10,
        )  # fmt: skip
