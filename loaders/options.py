"""What a user says of the data."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT


@dataclass(frozen=True, kw_only=True)
class SourceOptions(Checked):
    """Where the data is; it may move, its content may not change."""

    data: str = option(
        "mnist",
        "A name (mnist-datasets list), or a file or folder: pictures by class, tables, arrays, IDX"
        " files; here, or in s3://bucket/prefix or https://...; or FILE.py:FUNCTION.",
        metavar="SOURCE",
        path=True,
    )


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Checked):
    """How a source is read, where it does not say so itself."""

    label: str | None = option(
        None, "Of tables: the column that says the class.", metavar="COLUMN",
        unset="'label', 'class', 'target' or 'y'", added=True,
    )  # fmt: skip
    leave_out: tuple[str, ...] = option(
        (), "Of tables: a column that nothing is learned from, an id or a name; repeat it for"
        " several.", metavar="COLUMN", unset="none", added=True,
    )  # fmt: skip
    test_fraction: float | None = option(
        None, "Keep this part of the training rows, drawn from each class, as the test set, where"
        " the data has none.", least=0, above=True, most=0.9, metavar="FRACTION",
        unset="0.2, where the data is not in two parts", added=True,
    )  # fmt: skip
    contradictions: str | None = option(
        None, "Equal training rows of different classes: raise: end, and say which; drop: leave"
        " them out, and say which.", choices=("raise", "drop"),
        unset="learn from them, if the learner can", added=True,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataOptions(Checked):
    """Which rows a run learns from, and how they are cut into jobs."""

    reading: ReadingOptions = field(default_factory=ReadingOptions)

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
        " disjoint and skewed, a few classes a job; classes: disjoint, so many classes a job, e.g."
        " classes:1; dirichlet: disjoint, each class in shares drawn with this concentration, e.g."
        " dirichlet:0.5.",
        choices=("disjoint", "sample", "labels", "classes:COUNT", "dirichlet:ALPHA"),
    )
    shared_rows: float = option(
        0.0, "This part of the rows, drawn at random, is in every job: 0.02 halves what skewed"
        " labels cost.", least=0, most=1, metavar="FRACTION", added=True,
    )  # fmt: skip
    validation: float = option(
        0.0, "Keep this part of the training rows, drawn from each class, to try each round's model"
        " on; the best one is the run's, and the test set is for that one.",
        least=0, most=0.9, metavar="FRACTION", added=True,
    )  # fmt: skip
    target_digit: int | None = option(
        None, "Learn this class against the rest, as class 1 against 0.", least=0, most=MAX_COUNT,
        metavar="CLASS", unset="every class",
    )  # fmt: skip
