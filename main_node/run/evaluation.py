"""How good each round's model is: the test set, predicted by computing nodes in idle places."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from learning.actions import Predict, Predicted
from learning.metrics import Scores, score
from loaders import Rows
from loaders.rows import Arrays

from ..errors import JobFailed
from .asking import Asked, Asking, result_of
from .events import Listeners, RoundEvaluated
from .label import Label
from .leftout import LeftOut

#: The test set is predicted in so many jobs, whoever does them.
TEST_JOBS = 4


class Evaluated(NamedTuple):
    """What a round's model is worth.

    Args:
        scores: on what was predicted of the test set.
        loss: the mean over it; None where the learner tells none.
    """

    scores: Scores
    loss: float | None


class Evaluation:
    """Has the models of rounds tried on the test set, or on others, while other things go on.

    Args:
        asking: asks for the jobs.
        rows: that they are tried on.
        what: what these are, in a word: `test` or `validation`.
        loss: whether the learner tells how much a model loses.
        left_out: the jobs that may be done without.
        listeners: are told.
    """

    def __init__(
        self, asking: Asking, *, rows: Rows, what: str, loss: bool, left_out: LeftOut,
        listeners: Listeners,
    ) -> None:  # fmt: skip
        self._asking, self._rows, self._what, self._loss = asking, rows, what, loss
        self._left_out, self._listeners = left_out, listeners
        #: What rounds' models predict, that is not scored yet, and what was asked for.
        self._open: dict[int, tuple[Asked, dict[Label, Predict]]] = {}
        #: By round, counted from 0.
        self.done: dict[int, Evaluated] = {}

    def begin(self, round_: int, model: Arrays, check: Callable[[], object]) -> None:
        """Have a round's model tried, from now on."""
        actions = {
            Label(round_, self._what, part): Predict(rows=rows, model=model, loss=self._loss)
            for part, rows in enumerate(self._rows.parts(TEST_JOBS), 1)
            if len(rows)
        }
        self._open[round_] = self._asking.ask(actions, check), actions

    def judge(self, round_: int, number: int, model: Arrays, check: Callable[[], object]) -> float:
        """Return the accuracy of a model that might be a round's, once it is predicted.

        Args:
            round_: counted from 0.
            number: which of its candidates it is, counted from 1.
            model: by name.
            check: called before each job is sent; may raise to end it all.

        Raises:
            JobFailed: a part could not be predicted: candidates are compared on all rows.
        """
        first = number * TEST_JOBS
        actions = {
            Label(round_, "candidate", first + part): Predict(rows=rows, model=model, loss=False)
            for part, rows in enumerate(self._rows.parts(TEST_JOBS))
            if len(rows)
        }
        asked = self._asking.ask(actions, check)
        for _ in self._asking.completed(asked):
            continue
        right = 0
        for label, action in actions.items():
            future = asked[label]
            if future is not None:
                result_of(label, future)
            predicted: Predicted = self._asking.answer(label, action)
            right += int(np.count_nonzero(predicted.labels == action.rows.labels))
        return right / max(1, len(self._rows))

    def look(self) -> None:
        """Score the models of which all is predicted.

        Raises:
            JobFailed: a part could not be predicted, and may not be left out.
        """
        for round_, (asked, actions) in list(self._open.items()):
            if all(future is None or future.done() for future in asked.values()):
                del self._open[round_]
                self._score(round_, asked, actions)

    def wait(self) -> None:
        """Wait until every model that was begun is scored."""
        for asked, _ in list(self._open.values()):
            for _ in self._asking.completed(asked):
                continue
        self.look()

    def _score(self, round_: int, asked: Asked, actions: dict[Label, Predict]) -> None:
        found: list[tuple[Predict, Predicted]] = []
        failed: JobFailed | None = None
        for label, future in asked.items():
            if future is not None:
                try:
                    result_of(label, future)
                except JobFailed as error:
                    failed = error
                    self._left_out.add(label, error)
                    continue
            found.append((actions[label], self._asking.answer(label, actions[label])))
        if failed is not None and not found:
            raise failed  # nothing is left to score
        rows = sum(len(asked_for.rows) for asked_for, _ in found)
        if len(found) < len(asked):
            self._listeners.warn(
                f"round {round_ + 1}: scored on {rows:,} of {len(self._rows):,}"
                f" {self._what} {self._rows.kind}s"
            )
        none = [np.zeros(0, np.int64)]
        scores = score(
            np.concatenate([asked_for.rows.labels for asked_for, _ in found] or none),
            np.concatenate([predicted.labels for _, predicted in found] or none),
            self._rows.classes,
        )
        total = sum(predicted.loss * len(asked_for.rows) for asked_for, predicted in found)
        loss = total / rows if rows and math.isfinite(total) else None
        self.done[round_] = Evaluated(scores, loss)
        self._listeners.tell(RoundEvaluated(round=round_, scores=scores, loss=loss, on=self._what))
