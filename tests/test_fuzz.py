"""A hundred thousand lies in every test run; `python -m tests.fuzz` tells a million."""

from __future__ import annotations

import pytest

from .fuzz import fuzz

MESSAGES = 10_000


@pytest.mark.parametrize("seed", range(10))
def test_no_lie_breaks_anything_and_honest_nodes_solve_every_job(seed: int) -> None:
    fuzzer = fuzz(MESSAGES, seed)
    assert fuzzer.messages >= MESSAGES
    assert fuzzer.refused > MESSAGES / 10
    assert fuzzer.unfit > 10, "no liar ever had a job: the fuzzer has become harmless"
    assert fuzzer.solved > 100
