"""Six hundred jobs while nodes die and freeze; `python -m benchmarks.soak` is the long one."""

from __future__ import annotations

import pytest

from benchmarks.soak import soak


@pytest.mark.lane("deep")
def test_every_job_is_solved_once_while_nodes_die_and_nothing_grows() -> None:
    came = soak(jobs=600, nodes=8, every=0.4)
    assert came.once
    assert came.failed == 0
    assert came.accidents["killed"] >= 3
    assert came.accidents["frozen"] >= 3
    first, last = came.megabytes
    assert last < 1.1 * first
    assert abs(came.descriptors[1] - came.descriptors[0]) < 20  # a node or two may be starting
    assert not came.threads
