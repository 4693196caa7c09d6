"""What a main node and a computing node put up with, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..options import check_value
from ..wire.limits import GIB


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """A main node's; a ConfigError where they can't be.

    Args:
        heartbeat_seconds: how often each side signals life.
        dead_seconds: a node silent for this long is given up, until it returns.
        max_attempts: failed attempts after which a job has failed for good.
        max_solution_bytes: a solution whose arrays claim to be larger is a failed attempt. Nothing
            is allocated for what is only claimed, but address space.
        max_nodes: so many nodes have tasks at once, at most; None: as many as are there.
    """

    heartbeat_seconds: float = 1.0
    dead_seconds: float = 10.0
    max_attempts: int = 3
    max_solution_bytes: int = 4 * GIB
    max_nodes: int | None = None

    def __post_init__(self) -> None:
        for name in ("heartbeat_seconds", "dead_seconds"):
            check_value(name, getattr(self, name), float, least=0, above=True)
        check_value("max_attempts", self.max_attempts, int, least=1)
        check_value("max_solution_bytes", self.max_solution_bytes, int, least=0)
        check_value("max_nodes", self.max_nodes, int, optional=True, least=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeLimits:
    """A computing node's, with each of its main nodes; `Hello` tells those that concern them.

    A ConfigError where they can't be.

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

    def __post_init__(self) -> None:
        check_value("dead_seconds", self.dead_seconds, float, least=0, above=True)
        check_value("cache_bytes", self.cache_bytes, int, least=0)
        if self.max_bytes != math.inf:
            check_value("max_bytes", self.max_bytes, float, least=0)
        check_value("max_jobs", self.max_jobs, int, optional=True, least=1)
