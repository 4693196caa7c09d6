"""What a user says of the data."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class SourceOptions(Checked):
    """Where the data is; it may move, its content may not change."""

    data: str = option(
        "mnist",
        "'mnist', or a folder of IDX files; of several sets in one, how the files begin:"
        " FOLDER/emnist-letters.",
        metavar="SOURCE",
        path=True,
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions(Checked):
    """Which rows a run learns from, and how they are cut into jobs."""

    jobs: int = option(
        4,
        "How many shards the data is cut into; each is a job, in each round.",
        least=1,
        most=MAX_COUNT,
    )
    limit: int | None = option(
        None, "Train on the first so many rows only.", least=1, most=MAX_COUNT, metavar="ROWS",
        unset="all",
    )  # fmt: skip
    sharding: str = option(
        "disjoint",
        "disjoint: each row in one job; sample: each job its own random rows/jobs; labels:"
        " disjoint and skewed, a few classes a job.",
        choices=("disjoint", "sample", "labels"),
    )
    target_digit: int | None = option(
        None, "Learn this class against the rest, as class 1 against 0.", least=0, most=MAX_COUNT,
        metavar="CLASS", unset="every class",
    )  # fmt: skip
