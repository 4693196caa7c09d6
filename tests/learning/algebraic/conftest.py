"""What the tests of the algebraic learner share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_first(compiled: None) -> None:
    """Have one process compile the kernels, not each of those that run tests."""
