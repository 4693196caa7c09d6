"""What a main node and a computing node put up with, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..wire.limits import GIB


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """A main node's.

    Args:
        heartbeat_seconds: how often each side signals life.
        dead_seconds: a node silent for this long is given up, until it returns.
        max_attempts: failed attempts after which a job has failed for good.
        max_solution_bytes: a solution whose arrays claim to be larger is a failed attempt. Nothing
            is allocated for what is only claimed, but address space.
    """

    heartbeat_seconds: float = 1.0
    dead_seconds: float = 10.0
    max_attempts: int = 3
    max_solution_bytes: int = 4 * GIB


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeLimits:
    """A computing node's, with each of its main nodes; `Hello` tells those that concern them.

    Args:
        dead_seconds: a main node silent for this long is greeted anew, over a new connection.
        cache_bytes: how much of the main node's arrays to keep for later jobs.
        max_bytes: what all tasks in hand may take, with the arrays that are on their way.
        max_jobs: it leaves after so many; None: never.
    """

    dead_seconds: float = 10.0
    cache_bytes: int = GIB
    max_bytes: float = math.inf
    max_jobs: int | None = None
