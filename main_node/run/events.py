"""What happens in a run, as values, and who is told of it.

A listener is anything with `on(event)`: lines, a screen, a page, a database. None of them is known
to the run; one that fails is said, and told no more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from protocol.wire.entry import Entry
from protocol.wire.words import in_words

if TYPE_CHECKING:
    from learning.metrics import Scores
    from protocol.machine.views import View

    from .label import Label
    from .spec import RunSpec

log = logging.getLogger("mnist.main")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Args:
        at: when, seconds since 1970.
    """

    at: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Opened(Event):
    """A run is about to begin, or to go on.

    Args:
        spec: what it is.
        source: where its data is.
        rows: how many it learns from.
        called: what one of them is, e.g. `image`.
        lesson: what a job does in a round, in words.
        directory: of the run.
        address: where computing nodes reach it.
        min_nodes: it begins when so many are here.
    """

    spec: RunSpec
    source: str
    rows: int
    called: str
    lesson: str
    directory: Path
    address: str
    min_nodes: int


@dataclass(frozen=True, kw_only=True)
class NodeJoined(Event):
    """A computing node is here."""

    node: str


@dataclass(frozen=True, kw_only=True)
class NodeLeft(Event):
    """A computing node is gone."""

    node: str


@dataclass(frozen=True, kw_only=True)
class JobStarted(Event):
    """A node works on a job."""

    label: Label
    node: str


@dataclass(frozen=True, kw_only=True)
class JobProgressed(Event):
    """A node has got on with a job: the fraction done, 0 to 1."""

    label: Label
    node: str
    fraction: float


@dataclass(frozen=True, kw_only=True)
class JobSolved(Event):
    """A job's solution is kept."""

    label: Label
    node: str


@dataclass(frozen=True, kw_only=True)
class JobFailed(Event):
    """A job has failed for good, and the run goes on without it; `reason` is a sentence."""

    label: Label
    reason: str


@dataclass(frozen=True, kw_only=True)
class RoundMerged(Event):
    """A round is merged.

    Args:
        round: counted from 0.
        means: of what its jobs said of themselves, e.g. `loss`.
    """

    round: int
    means: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RoundEvaluated(Event):
    """A round's model has been tried.

    Args:
        round: counted from 0.
        scores: how good it is.
        loss: the mean over what it was tried on; None where the learner tells none.
        on: what that is: `test`, the test set, or `validation`, training rows kept aside.
    """

    round: int
    scores: Scores
    loss: float | None = None
    on: str = "test"


@dataclass(frozen=True, kw_only=True)
class RoundWithdrawn(Event):
    """The run ends before a round, counted from 0, and what has been told of its jobs is void."""

    round: int


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    """A line that is worth keeping."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Warned(Noted):
    """A line about something that is not as it should be."""


@dataclass(frozen=True, kw_only=True)
class NodesMissing(Warned):
    """A run that has begun has no computing node any more; the line says how to start one."""


@dataclass(frozen=True, kw_only=True)
class Stood(Event):
    """How a run stands; several times a second.

    Args:
        round: the one that is trained, from 0; -1 before the first; as many as there are
            rounds while only tests are left.
        done: jobs of it that are solved.
        view: what the nodes are doing.
        labels: of the jobs, by job id.
    """

    round: int
    done: int
    view: View
    labels: Mapping[int, Label]


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The run has ended: `done`, `interrupted`, or `failed: ` and why."""

    ending: str


class Listener(Protocol):
    """Somebody who is told what happens."""

    def on(self, event: Event, /) -> None:
        """Take an event; from any thread of the run's, one at a time."""


class Listeners:
    """Tells events to all who listen, one after the other, until they fail."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = list(listeners)
        self._lock = threading.RLock()
        self._waiting: deque[Event] = deque()
        self._telling = False

    def tell(self, event: Event) -> None:
        """Tell everybody; what a listener tells meanwhile comes after, in the same order to all."""
        with self._lock:
            self._waiting.append(event)
            if self._telling:
                return
            self._telling = True
            try:
                while self._waiting:
                    self._tell(self._waiting.popleft())
            finally:
                self._telling = False

    def _tell(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener.on(event)
            except (Exception, SystemExit) as error:
                self._listeners = [each for each in self._listeners if each is not listener]
                log.exception(Entry("listener.failed", listener=type(listener).__name__))
                what = f"{type(listener).__name__} is told no more: it raised {in_words(error)}"
                self._waiting.append(Warned(text=what))

    def note(self, text: str) -> None:
        """Tell a line that is worth keeping."""
        self.tell(Noted(text=text))

    def warn(self, text: str) -> None:
        """Tell a line about something that is not as it should be."""
        self.tell(Warned(text=text))
