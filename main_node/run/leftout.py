"""The jobs that a run goes on without."""

from __future__ import annotations

from ..errors import JobFailed
from .events import JobFailed as JobLeftOut
from .events import Listeners
from .label import Label


class LeftOut:
    """Lets a run go on without jobs that failed for good, if that may be.

    Args:
        may: whether it may.
        listeners: are told.
    """

    def __init__(self, may: bool, listeners: Listeners) -> None:
        self._may, self._listeners = may, listeners
        self.titles: list[str] = []

    def add(self, label: Label, error: JobFailed) -> None:
        """Go on without a job.

        Raises:
            JobFailed: that may not be.
        """
        if not self._may:
            raise error
        self.titles.append(label.title)
        self._listeners.tell(JobLeftOut(label=label, reason=str(error)))

    def of(self, round_: int) -> list[str]:
        """Return the titles of those of a round."""
        return [title for title in self.titles if title.startswith(f"round {round_ + 1} ")]
