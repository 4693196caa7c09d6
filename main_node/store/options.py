"""What a user says of where runs are kept."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class StoreOptions(Checked):
    """Where runs are kept."""

    run_dir: str = option("runs", "Where runs are kept.", metavar="DIR", path=True)
