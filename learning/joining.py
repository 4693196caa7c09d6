"""Finished models, of runs that knew nothing of each other, merged without a run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from loaders.rows import Arrays, Form, bytes_of
from protocol.wire.words import from_json, safe_line

from . import model as models
from .contract import Ask, Learner, Solution
from .errors import LearningError, MergeError, told_of
from .layout import Layout, check_kept
from .merging import Judge, Merged, Strategy, merge, told
from .model import EXAMPLES, Model

#: In a merged model's notes: what it was merged from.
FROM = "merged_from"
#: In its notes, of the options of the run that it is of: how rows are read, and what code it is.
_READ = ("label", "leave_out", "test_fraction", "contradictions", "seed", "code")


@dataclass(frozen=True)
class Finished:
    """A finished model.

    Args:
        path: its file.
        called: what people have called it, in messages.
        name: of it in the notes of what is merged from it: no folder is told.
        sha256: over its arrays.
        examples: that it is of; None: nobody knows.
    """

    path: Path
    called: str
    name: str
    sha256: str
    examples: int | None

    def told(self) -> dict[str, object]:
        """Return what the merged model says of it."""
        return {"name": self.name, "sha256": self.sha256, "examples": self.examples}


class InFiles(Collection[Solution]):
    """Finished models as solutions, read one at a time, as often as they are gone through."""

    def __init__(self, each: Sequence[Finished]) -> None:
        self._each = each

    def __len__(self) -> int:
        return len(self._each)

    def __contains__(self, solution: object) -> bool:
        return any(each is solution for each in self)

    def __iter__(self) -> Iterator[Solution]:
        for part, each in enumerate(self._each, 1):
            yield Solution(models.load(each.path).arrays, each.examples or 0, part=part)


class _NotAsked(LearningError):
    """A learner wants to know what rows say, and there are none."""


def examples_of(model: Model) -> int | None:
    """Return how many examples a model says that it is of; None: it does not say."""
    text = model.notes.get(EXAMPLES, "")
    return int(text) if text.isdecimal() and 0 < len(text) < 16 and int(text) else None


def check_strategy(strategy: Strategy, learner: Learner, start: bool, judged: bool) -> None:
    """Raise unless a strategy can merge finished models of a learner.

    Args:
        strategy: that is to.
        learner: of the models.
        start: whether the model that they went on from is there.
        judged: whether there are rows to judge by.

    Raises:
        MergeError: it can't, and what would help.
    """
    name = strategy.name
    if strategy.parts != learner.parts:
        raise MergeError(
            f"{learner.name} models are {learner.parts}; --merge {name} merges {strategy.parts}."
            f" Leave it out: it is {learner.merging} then"
        )
    if strategy.client is not None:
        raise MergeError(
            f"--merge {name} has a word in each step of learning, and these models are finished;"
            f" leave it out: it is {learner.merging} then"
        )
    if strategy.goes_on and not start:
        raise MergeError(
            f"--merge {name} goes on from the model that these began with: name it with --start"
        )
    if strategy.judges and not judged:
        raise MergeError(
            f"--merge {name} tries models on rows: name data with --data, and how much of its"
            " training rows to keep aside for that with --validation"
        )
    strategy.check()


def difference(one: Model, other: Model) -> str:
    """Return why two models can't be merged, in words; empty if they can.

    They are of one learner, of rows of one form with the same classes in the same order, of one
    net, and begin with the same numbers of the whole data.

    Raises:
        LearningError: the learner is not here, or can't be made as one of them says.
    """
    from .registry import create_carried

    if one.learner != other.learner:
        return f"the one is a model of {one.learner}, the other of {other.learner}"
    apart = _of_form(one.form, other.form)
    if apart:
        return apart
    first, second = (create_carried(each.learner, each.made) for each in (one, other))
    with told_of(f"the {first.name} learner can't say what its models are"):
        mine, theirs = first.shaping(), second.shaping()
        if mine != theirs:
            name = min(n for n in {**mine, **theirs} if mine.get(n) != theirs.get(n))
            return f"they are made otherwise: {name} is {mine.get(name)} and {theirs.get(name)}"
        apart = _of_data(first.begun(one.arrays), second.begun(other.arrays))
    if not apart and first.parts == "numbers":
        wrong = Layout(one.arrays).difference(other.arrays, "the other")
        apart = wrong and f"they are other nets: {wrong}"
    return apart


def _of_form(one: Form, other: Form) -> str:
    """Return how the forms of two models' rows differ, in words; empty if they don't."""
    if {n: each[:2] for n, each in one.fields.items()} != {
        n: each[:2] for n, each in other.fields.items()
    }:
        return f"the one is for rows of {one.tell()}, the other of {other.tell()}"
    for name, field in one.fields.items():
        columns = zip(field.columns, other.fields[name].columns, strict=False)
        for number, (mine, theirs) in enumerate(columns):
            if mine != theirs:
                return f"column {number} is {mine!r} and {theirs!r}"
    if len(one.classes) != len(other.classes):
        return f"the one has {len(one.classes):,} classes, the other {len(other.classes):,}"
    for number, (mine, theirs) in enumerate(zip(one.classes, other.classes, strict=True)):
        if mine != theirs:
            told_ = f"class {number} is {mine!r} and {theirs!r}"
            same = sorted(one.classes) == sorted(other.classes)
            why = "they have the same classes in another order" if same else "other classes"
            return safe_line(f"{why}: {told_}")
    return ""


def _of_data(one: Arrays, other: Arrays) -> str:
    """Return what of the whole data two models do not begin with alike; empty if nothing."""
    odd = sorted(
        name for name in {**one, **other}
        if name not in one or name not in other or bytes_of(one[name]) != bytes_of(other[name])
    )  # fmt: skip
    if not odd:
        return ""
    return (
        f"they learned from other data, and begin with other numbers of it ({', '.join(odd)}):"
        " what the one has learned means something else to the other. Learn from all of it in one"
        " run"
    )


def joined(
    strategy: Strategy, solutions: Collection[Solution], start: Arrays, learner: Learner,
    ask: Ask | None, judge: Judge | None,
) -> tuple[Merged, bool]:  # fmt: skip
    """Merge finished models.

    Args:
        strategy: that merges; it can, as `check_strategy` has it.
        solutions: the models; they fit together, as `difference` has it.
        start: the model that they went on from; none: nobody knows.
        learner: of the models.
        ask: has an action performed on rows; None: there are none.
        judge: for a strategy that judges.

    Returns:
        What it came to, and whether the learner was told all that it asks of rows.

    Raises:
        MergeError: they can't be merged.
        LearningError: the strategy or the learner fails, and how.
    """
    with told_of(f"merging by {strategy.name!r}"):
        state = strategy.begin(learner.learned(start)) if start else {}
        merged = merge(strategy, solutions, start, state, judge)
        check_kept(merged.model)
    settled = True
    with told_of(f"the {learner.name} learner can't settle the merged model"):
        try:
            model = learner.settle(merged.model, _nobody if ask is None else ask)
        except _NotAsked:
            model, settled = merged.model, False
        check_kept(model)
    return merged._replace(model=model), settled


def _nobody(_: object) -> NoReturn:
    raise _NotAsked("no rows")


def notes(
    each: Sequence[Finished], of: Sequence[Mapping[str, str]], strategy: Strategy
) -> dict[str, str]:
    """Return what a merged model says of where it comes from.

    Args:
        each: the models.
        of: the notes of each.
        strategy: that merged them.
    """
    found = {"merge": told(strategy), FROM: json.dumps([one.told() for one in each])}
    counts = [one.examples for one in each if one.examples is not None]
    if len(counts) == len(each):
        found[EXAMPLES] = str(sum(counts))
    with suppress(ValueError):  # the model may be from anybody
        options = from_json(of[0].get("options", ""))
        if isinstance(options, dict):
            kept = {name: options[name] for name in _READ if name in options}
            found["options"] = json.dumps(kept, sort_keys=True)
    tested = {one.get("tested") for one in of}
    if len(tested) == 1 and None not in tested:
        found["tested"] = of[0]["tested"]
    return found
