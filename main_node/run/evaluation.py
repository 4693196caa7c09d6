"""How good each round's model is: the test set, predicted by computing nodes in idle places."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from learning import Arrays, Labels
from learning.metrics import Scores, score
from learning.work import evaluate_work, evaluated
from loaders import Dataset
from protocol import JobSolutionDataType

from ..errors import JobFailed
from .asking import Asked, Asking, Request, result_of
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
    """Has the models of rounds tried on the test set, while other things go on.

    Args:
        asking: asks for the jobs.
        test: the test set.
        classes: that models know; the test set may have others.
        learner: what learns.
        make: what it is made with.
        left_out: the jobs that may be done without.
        listeners: are told.
    """

    def __init__(
        self,
        asking: Asking,
        test: Dataset,
        classes: int,
        learner: str,
        make: dict[str, Any],
        left_out: LeftOut,
        listeners: Listeners,
    ) -> None:
        self._asking, self._test, self._classes = asking, test, classes
        self._learner, self._make = learner, make
        self._left_out, self._listeners = left_out, listeners
        #: What rounds' models predict, that is not scored yet.
        self._open: dict[int, Asked] = {}
        #: By round, counted from 0.
        self.done: dict[int, Evaluated] = {}

    def begin(self, round_: int, model: Arrays, check: Callable[[], object]) -> None:
        """Have a round's model tried, from now on."""
        images = np.array_split(self._test.images, TEST_JOBS)
        labels = np.array_split(self._test.labels, TEST_JOBS)
        self._open[round_] = self._asking.ask(
            {
                Label(round_, "test", part): Request(
                    partial(evaluate_work, self._learner, self._make, model, rows, truth),
                    partial(self._check, len(rows)),
                )
                for part, (rows, truth) in enumerate(zip(images, labels, strict=True), 1)
                if len(rows)
            },
            check,
        )

    def _check(self, rows: int, solution: JobSolutionDataType) -> Labels:
        return evaluated(solution.metrics, solution.arrays, rows, self._classes)[0]

    def look(self) -> None:
        """Score the models of which all is predicted.

        Raises:
            JobFailed: a part could not be predicted, and may not be left out.
        """
        for round_, asked in list(self._open.items()):
            if all(future is None or future.done() for future in asked.values()):
                del self._open[round_]
                self._score(round_, asked)

    def wait(self) -> None:
        """Wait until every model that was begun is scored."""
        for asked in list(self._open.values()):
            for _ in self._asking.completed(asked):
                continue
        self.look()

    def _score(self, round_: int, asked: Asked) -> None:
        truths, guesses, losses = [], [], []
        truth = np.array_split(self._test.labels, TEST_JOBS)
        failed: JobFailed | None = None
        for label, future in asked.items():
            if future is not None:
                try:
                    result_of(label, future)
                except JobFailed as error:
                    failed = error
                    self._left_out.add(label, error)
                    continue
            kept = self._asking.kept(label)
            true = truth[label.part - 1]
            truths.append(true)
            guesses.append(kept.arrays["labels"])
            losses.append(kept.values.get("loss", math.inf) * len(true))
        if failed is not None and not guesses:
            raise failed  # nothing is left to score
        rows = sum(map(len, guesses))
        if len(guesses) < len(asked):
            self._listeners.warn(
                f"round {round_ + 1}: scored on {rows:,} of {len(self._test):,} test images"
            )
        none = [np.zeros(0, np.int64)]
        scores = score(
            np.concatenate(truths or none),
            np.concatenate(guesses or none),
            max(self._classes, self._test.classes),
        )
        total = float(sum(losses))
        loss = total / rows if rows and math.isfinite(total) else None
        self.done[round_] = Evaluated(scores, loss)
        self._listeners.tell(RoundEvaluated(round=round_, scores=scores, loss=loss))
