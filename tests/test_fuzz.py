"""Fifty thousand lies in every test run; `python -m tests.fuzz` tells a million."""

from __future__ import annotations

import pytest

from .fuzz import amplify, fuzz

MESSAGES = 10_000


@pytest.mark.parametrize("seed", range(5))
def test_no_lie_breaks_anything_and_honest_nodes_solve_every_job(seed: int) -> None:
    """With keys (odd seeds) and without."""
    fuzzer = fuzz(MESSAGES, seed)
    assert fuzzer.messages >= MESSAGES
    assert fuzzer.refused > MESSAGES / 10
    assert fuzzer.unfit > 5, "no liar ever had a job: the fuzzer has become harmless"
    assert fuzzer.solved > 100


@pytest.mark.cost
@pytest.mark.parametrize("seed", range(2))
def test_no_message_costs_more_than_it_may(seed: int) -> None:
    cost = amplify(300, seed)
    assert cost.nbytes > 1 << 20, "no message costs anything: the fuzzer has become harmless"
