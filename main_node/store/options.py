"""What a user says of where runs are kept."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class StoreOptions(Checked):
    """Where runs are kept."""

    run_dir: str = option("runs", "Where runs are kept.", metavar="DIR", path=True)


@dataclass(frozen=True, kw_only=True)
class PublishOptions(Checked):
    """Where else a run's model goes."""

    publish: str | None = option(
        None, "Once the run is done, write its model and metrics.json there as well: a folder, or"
        " s3://bucket/prefix.", metavar="PLACE", path=True, unset="nowhere",
    )  # fmt: skip
