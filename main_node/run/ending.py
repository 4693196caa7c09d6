"""When a run ends before its last round: a goal is reached, nothing gets better, time is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from protocol.options import Checked, option
from protocol.wire.limits import MAX_COUNT
from protocol.wire.words import plural

if TYPE_CHECKING:
    from .evaluation import Evaluated

#: What may end a run: that there are no more rounds, what `EndOptions` say, or its program.
ROUNDS, GOAL, PATIENCE, TIME, PROGRAM = "rounds", "goal", "patience", "time", "program"


@dataclass(frozen=True, kw_only=True)
class EndOptions(Checked):
    """When a run ends before its last round.

    None of it changes the model that a round comes to, so that it may be said anew when a run goes
    on: only which round is the last hangs on it.
    """

    goal_accuracy: float | None = option(
        None,
        "End in the first round whose model is that good, 0 to 1: on the rows that --validation"
        " keeps aside, else on the test set. With a higher goal, --resume goes on from there.",
        least=0, most=1, metavar="ACCURACY", unset="none",
    )  # fmt: skip
    patience: int | None = option(
        None,
        "End after so many rounds that were tried without a better one than the best before them;"
        " tried as for --goal-accuracy.",
        least=1, most=MAX_COUNT, metavar="ROUNDS", unset="for ever",
    )  # fmt: skip
    max_run_seconds: float | None = option(
        None,
        "End with the last round that is merged once the run has taken so long: all its starts"
        " together, waiting for nodes and all, but not the time between them; then its model is"
        " tested. Where no round is merged by then, the first one is seen through.",
        least=0, most=1e9, above=True, metavar="SECONDS", unset="for ever",
    )  # fmt: skip


class Why(NamedTuple):
    """Why a run ended when it did.

    Args:
        by: what ended it, one of those above.
        told: a sentence; empty where there is nothing to say.
    """

    by: str
    told: str


class Ending:
    """Says whether a run ends after a round, and why.

    Args:
        options: what the user says of it.
        on: what rounds' models are tried on, in words.
        seconds: returns what the run has taken so far, in all its starts.
        say: told, once, that time is over before anything is merged.
        is_over: what the run's program says, asked once of each round that is tried.
    """

    def __init__(
        self, options: EndOptions, on: str, seconds: Callable[[], float],
        say: Callable[[str], object], is_over: Callable[[int, Evaluated], bool] | None = None,
    ) -> None:  # fmt: skip
        self._options, self._on, self._seconds, self._say = options, on, seconds, say
        self._is_over = is_over
        self._best: tuple[int, float] | None = None
        self._worse = 0  # rounds tried since
        self._said = False
        #: None: as far as is known, it goes on to its last round.
        self.why: Why | None = None

    @property
    def asks(self) -> bool:
        """Whether it hangs on what rounds' models are worth."""
        options = (self._options.goal_accuracy, self._options.patience, self._is_over)
        return any(each is not None for each in options)

    def after(self, round_: int, evaluated: Evaluated) -> bool:
        """Whether the run ends after a round; asked once of each that is tried, in order."""
        accuracy, options = evaluated.scores.accuracy, self._options
        if self._best is None or accuracy > self._best[1]:
            self._best, self._worse = (round_, accuracy), 0
        else:
            self._worse += 1
        found: Why | None = None
        if options.goal_accuracy is not None and accuracy >= options.goal_accuracy:
            reached = f"its accuracy of {accuracy:.2%} on the {self._on} reaches the goal"
            found = Why(GOAL, f"{reached}, {options.goal_accuracy:.10g}")
        elif options.patience is not None and self._worse >= options.patience:
            best, accuracy = self._best
            than = f"no better than round {best + 1}, {accuracy:.2%} on the {self._on}"
            found = Why(PATIENCE, f"{than}, in {plural(self._worse, 'round')} tried since")
        if self._is_over is not None and self._is_over(round_, evaluated) and found is None:
            found = Why(PROGRAM, "its program has it so")
        self.why = self.why or found
        return found is not None

    def is_late(self, merged: int) -> bool:
        """Whether time is over for a run with so many rounds merged; never where there is none."""
        limit = self._options.max_run_seconds
        if limit is None or self._seconds() < limit:
            return False
        if not merged:
            if not self._said:
                self._said = True
                self._say(
                    f"--max-run-seconds {limit:g}: the time is over, and no round is merged yet: it"
                    " goes on until the first one is"
                )
            return False
        return True

    def too_late(self) -> None:
        """The run ends because time is over."""
        limit = self._options.max_run_seconds
        self.why = self.why or Why(TIME, f"--max-run-seconds {limit:g}: the time is over")
