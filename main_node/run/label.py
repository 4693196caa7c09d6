"""What each job of a run is called."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Of the number of a job: digits, at least; of some kinds there are few.
DIGITS, FEW = 4, {"test": 1, "trial": 1, "validation": 1}
_NAME = re.compile(r"round-(\d{3,})-([a-z]+)-(\d+)")


@dataclass(frozen=True, order=True)
class Label:
    """One job of a run: the same in every start, log, view and file.

    Args:
        round: counted from 0.
        kind: `job` learns, `test` and `validation` predict, `candidate` does by what might be the
            round's model, `trial` tries the learner out; other
            actions of a learner's are called as it calls them, e.g. `count`.
        part: which of the round's jobs of this kind, counted from 1.
    """

    round: int
    kind: str
    part: int

    @property
    def name(self) -> str:
        """Its name in files and logs: `round-002-job-0005`."""
        return f"round-{self.round + 1:03d}-{self.kind}-{self.part:0{FEW.get(self.kind, DIGITS)}d}"

    @property
    def title(self) -> str:
        """What people call it: `round 2 job 5`."""
        return f"round {self.round + 1} {self.kind} {self.part}"

    @classmethod
    def parse(cls, name: str) -> Label:
        """Return the label of a name.

        Raises:
            ValueError: it is none.
        """
        match = _NAME.fullmatch(name)
        if match is None or match[1] == "000":
            raise ValueError(f"{name!r} is no job's name; one looks like round-002-job-0005")
        return cls(int(match[1]) - 1, match[2], int(match[3]))
