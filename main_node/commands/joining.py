"""What `mnist-merge` does, before it is shown: finished models are looked at, tried and merged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from learning import MergeError, merging
from learning.actions import Action, performed
from learning.contract import Learner
from learning.errors import told_of
from learning.joining import (
    Finished,
    InFiles,
    check_strategy,
    difference,
    examples_of,
    joined,
    notes,
)
from learning.merging import Judge, Strategy
from learning.metrics import Scores
from learning.model import Model, save, sha256
from loaders import Rows
from protocol.wire.secrets import shown
from protocol.wire.words import plural, safe_line

from ..errors import StorageError
from ..store.directory import is_run
from ..store.results import finished
from .fetched import NAME, at_hand
from .given import Say, file_of, learner_of, load_model, located, rows_for, scored, with_code

#: Rows that a learner is told of at a time.
TOGETHER = 10_000
#: A merged model whose accuracy is so much below that of the best it was merged from is worth a
#: word: nets that began alike lose less.
MUCH = 0.05


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be merged, and how, as the options of `mnist-merge` say it."""

    models: tuple[str, ...]
    out: Path
    merge: str | None
    weights: tuple[int, ...]
    start: str | None
    data: str | None
    label: str | None
    limit: int | None
    validation: float
    learner: str | None
    runs: Path


@dataclass(frozen=True)
class Joined:
    """What came of it.

    Args:
        out: the merged model's file.
        model: that it holds.
        strategy: that merged.
        each: the models that it was merged from.
        scores: how good each of these is, and then the merged one; none: there was no data.
        tested: rows that they were tried on.
        counted: whether the learner was told all that it asks of rows.
        parts: what the merged model is made of, by name.
        merged: what the strategy tells, by name.
    """

    out: Path
    model: Model
    strategy: str
    each: Sequence[Finished]
    scores: Sequence[Scores]
    tested: int
    counted: bool
    parts: dict[str, object]
    merged: dict[str, object]

    @property
    def blind(self) -> bool:
        """Whether it takes every row that it was tried on for one class, though there are more."""
        return bool(self.scores) and self.scores[-1].blind

    def as_values(self) -> dict[str, Any]:
        """Return it as plain values."""
        own = [{**each.told(), "model": each.called} for each in self.each]
        merged: dict[str, Any] = {
            "model": str(self.out), "sha256": sha256(self.model.arrays),
            "examples": examples_of(self.model),
        }  # fmt: skip
        for values, scores in zip([*own, merged], self.scores, strict=False):
            values |= {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1}
        return {
            **merged, "learner": self.model.learner, "merge": self.strategy,
            "merged": self.merged, "model_parts": self.parts, "models": own,
            "test_rows": self.tested, "counted": self.counted,
        }  # fmt: skip


class Joining:
    """Finished models that are to be merged, once they are looked at.

    Args:
        asked: what is to be merged.
        held: keeps models that are elsewhere on this machine, until it is closed.
        say: told what happens.
        warn: told what may be wrong.

    Raises:
        LearningError: they can't be merged, and why.
        LoaderError: there is no such data.
    """

    def __init__(self, asked: Asked, held: ExitStack, say: Say, warn: Say) -> None:
        self._asked, self._held, self._say, self._warn = asked, held, say, warn
        self._each: list[Finished] = []
        self._first: Model | None = None
        #: What is kept aside of the training rows, and whether they have a part in the model.
        self._validation, self._apart = 0.0, False
        #: What each model says of itself, without its arrays.
        self._heads: list[Model] = []

    def see_through(self) -> Joined:
        """Look at the models, try them, merge them, and write what it comes to."""
        asked = self._asked
        for name in asked.models:
            self._each.append(self._looked_at(name))
        first = self._first
        assert first is not None
        learner = learner_of(first)
        strategy = merging.parse(asked.merge or learner.merging)
        self._validation = asked.validation if strategy.judges and asked.data is not None else 0.0
        self._apart = strategy.judges or strategy.parts == "atoms"
        check_strategy(strategy, learner, asked.start is not None, self._validation > 0)
        self._weigh(strategy)
        start = {} if asked.start is None else self._read(asked.start)[2].arrays
        tested = None if asked.data is None else self._rows("test", self._say)
        classes = len(first.form.classes)
        scores: list[Scores] = []
        if tested is not None:
            for solution in InFiles(self._each):
                scores.append(scored(learner, solution.arrays, tested, classes))
        merged, counted = joined(
            strategy, InFiles(self._each), start, learner,
            None if tested is None else partial(self._ask, learner),
            self._judge(learner, classes) if strategy.judges else None,
        )  # fmt: skip
        for place, told in sorted(merged.odd.items()):
            self._warn(f"{self._each[place].called} {told}")
        if tested is not None:
            scores.append(scored(learner, merged.model, tested, classes))
        model = replace(
            first, arrays=merged.model, learner=self._heads[0].learner,
            notes=notes(self._each, [head.notes for head in self._heads], strategy),
        )  # fmt: skip
        with told_of(f"the {learner.name} learner can't describe the merged model"):
            parts = learner.describe(model.arrays)
        with told_of(f"merging by {strategy.name!r}"):
            told_ = dict(strategy.tell(merged.state))
        self._write(model)
        self._tell(scores, counted, learner)
        return Joined(
            asked.out, model, merging.told(strategy), self._each, scores,
            0 if tested is None else len(tested), counted, parts, told_,
        )  # fmt: skip

    def _looked_at(self, name: str) -> Finished:
        """Return a model that can be merged with those that were looked at before."""
        model, path, read = self._read(name)
        called, digest = shown(name), sha256(model.arrays)
        if self._first is None:
            self._first = read
        for other in self._each:
            if other.sha256 == digest:
                self._warn(f"{called} and {other.called} are one model: it counts twice")
        examples = examples_of(model)
        if examples is None:
            result = finished(path.parent) if path.name == NAME else None
            examples = None if result is None else result.examples
        self._heads.append(replace(model, arrays={}))
        return Finished(path, called, _name(path, called), digest, examples)

    def _read(self, name: str) -> tuple[Model, Path, Model]:
        """Return a model as it is, its file, and the model with the place of its learner's code.

        Raises:
            LearningError: there is none, or it can't be merged with the first.
        """
        asked = self._asked
        here = self._held.enter_context(at_hand(located(name, asked.runs)))
        model = load_model(here)
        path = file_of(here)
        if asked.out.exists() and path.samefile(asked.out):
            raise MergeError(f"{asked.out}: it is one of the models; name another file for OUT")
        read = with_code(here, model, asked.learner, self._warn)
        if self._first is not None:
            odd = difference(self._first, read)
            if odd:
                raise MergeError(
                    f"{shown(asked.models[0])} and {shown(name)} can't be merged: {odd}"
                )
        return model, path, read

    def _weigh(self, strategy: Strategy) -> None:
        """Have each model say how many examples it is of.

        Raises:
            MergeError: one does not say, and it matters.
        """
        asked = self._asked
        if asked.weights:
            self._each = [
                replace(each, examples=weight)
                for each, weight in zip(self._each, asked.weights, strict=True)
            ]
        silent = [each.called for each in self._each if each.examples is None]
        if silent and strategy.parts == "numbers":
            raise MergeError(
                f"{silent[0]}: it does not say how many examples it is of; say it of all of them,"
                f" in their order: --weights {','.join('N' for _ in self._each)}"
            )

    def _rows(self, split: str, say: Say = str) -> Rows:
        asked = self._asked
        assert self._first is not None
        assert asked.data is not None
        heads = [replace(head, form=self._first.form) for head in self._heads]
        return rows_for(
            heads, asked.data, split, asked.limit, asked.label, say, apart=self._apart,
            validation=self._validation,
        )  # fmt: skip

    def _ask(self, learner: Learner, make: Callable[[Rows], Action]) -> Iterator[Any]:
        """Yield what an action comes to on training rows, some at a time.

        As many as the models are of: of six times as many, what contradicts an algebraic model's
        atoms, whose counts are held against a fixed bound, made 84 % of 92 on MNIST.
        """
        rows = self._rows("train")
        known = sum(each.examples or len(rows) for each in self._each)
        many = min(len(rows), known if self._asked.limit is None else len(rows))
        self._say(
            f"{rows.source.name}: {many:,} of {plural(len(rows), f'training {rows.kind}')} are"
            " asked about the merged model"
        )
        rows = rows.of(np.arange(many) * len(rows) // max(1, many))
        for part in rows.parts(max(1, math.ceil(len(rows) / TOGETHER))):
            yield performed(learner, make(part))

    def _judge(self, learner: Learner, classes: int) -> Judge:
        rows = self._rows("validation")
        return lambda model: scored(learner, model, rows, classes).accuracy

    def _write(self, model: Model) -> None:
        """Write the merged model.

        Raises:
            StorageError: it can't be written.
        """
        try:
            save(model, self._asked.out)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"{self._asked.out}: can't be written: {reason}") from error

    def _tell(self, scores: Sequence[Scores], counted: bool, learner: Learner) -> None:
        """Say what there is to be known of the merged model before it is used."""
        if not counted:
            self._warn(
                "how often examples contradict the merged atoms is not known, so that a wrong one"
                " counts as much as a right one: with --data they are counted"
            )
        if not scores or learner.parts != "numbers":
            return
        best = max(each.accuracy for each in scores[:-1])
        if scores[-1].accuracy < best - MUCH:
            self._warn(
                f"the merged model is much worse than the best of them, {scores[-1].accuracy:.2%}"
                f" against {best:.2%}: nets that began differently, or went far apart, have no mean"
                " that is worth something; let them begin alike (mnist-main --seed), and merge them"
                " sooner"
            )


def _name(path: Path, called: str) -> str:
    """Return what a model is called in notes: its run, or its file without the folder."""
    if path.name == NAME and is_run(path.parent):
        return safe_line(path.absolute().parent.name)
    return safe_line(called.partition("?")[0].rstrip("/").rpartition("/")[2])
