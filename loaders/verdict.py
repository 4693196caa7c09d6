"""What stands against training on some data, and what else is worth knowing: in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from protocol.wire.words import plural, safe_line

from .cells import Numbers
from .examining import Examined, Row, Some, SplitFound
from .tables import leave_out

#: The share of rows from which a fault stands against training; below, it is worth knowing.
GRAVE = 0.01
#: Rows of the largest class for each of the smallest from which accuracy alone misleads.
SKEWED = 10
#: Fewer training rows of a class are few.
FEW = 10
#: Fewer rows say nothing of their order, or of how they are spread.
_SAYING = 20
#: By how many deviations the mean of test rows may be off; times that their deviation may differ.
_OFF, _TIMES = 1.0, 5.0
#: Names in a sentence; letters of one, and of a file's.
_NAMES, _LETTERS, _PATH = 4, 24, 60


@dataclass(frozen=True)
class Concern:
    """Something about data.

    Args:
        kind: a word for programs, e.g. `leak`.
        grave: whether it stands against training.
        what: what is so.
        advice: what to do.
    """

    kind: str
    grave: bool
    what: str
    advice: str


def concerns(found: Examined) -> list[Concern]:
    """Return what there is to say of some data, what stands against training first."""
    said = [
        *_of_splits(found), *_of_classes(found), *_of_equal_rows(found), *_of_values(found),
        *_between_splits(found),
    ]  # fmt: skip
    return sorted(said, key=lambda each: not each.grave)


def trainable(found: Examined) -> bool:
    """Whether there are rows to train on, and rows to test on."""
    return not found.absent


def _of_splits(found: Examined) -> Iterator[Concern]:
    for split, why in found.absent.items():
        advice = (
            "--test-fraction 0.2 keeps a fifth of the training rows for one"
            if split == "test"
            else "nothing can be learned without"
        )
        yield Concern(f"no_{split}", True, why, advice)


def _of_classes(found: Examined) -> Iterator[Concern]:
    train, test = (_counts(found, split) for split in ("train", "test"))
    if not train:
        return
    if len(train) == 1:
        (label,) = train
        yield Concern(
            "one_class", True, f"all training rows are of one class: {_class(found, label)}",
            "there is nothing to tell apart; add rows of another",
        )  # fmt: skip
    if untrained := [label for label in test if label not in train]:
        yield Concern(
            "untrained_classes", True,
            f"{plural(len(untrained), 'class', 'es')} with test rows and no training rows:"
            f" {_classes(found, untrained)}",
            "add training rows of these, or leave out their test rows",
        )  # fmt: skip
    if test and (untested := [label for label in train if label not in test]):
        yield Concern(
            "untested_classes", False,
            f"{plural(len(untested), 'class', 'es')} without test rows:"
            f" {_classes(found, untested)}",
            "how good a model is at these will not be known",
        )  # fmt: skip
    if few := [label for label, rows in train.items() if rows < FEW]:
        yield Concern(
            "few_rows", False,
            f"{plural(len(few), 'class', 'es')} with fewer than {FEW} training rows:"
            f" {_classes(found, few)}",
            "add rows of these, or leave them out: little can be learned of them",
        )  # fmt: skip
    least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
    if train[most] > SKEWED * train[least]:
        yield Concern(
            "imbalance", False,
            f"the largest class ({_class(found, most)}) has {train[most] / train[least]:,.0f} times"
            f" the training rows of the smallest ({_class(found, least)})",
            "look at macro F1 and the confusion table, not at accuracy alone",
        )  # fmt: skip


def _of_equal_rows(found: Examined) -> Iterator[Concern]:
    test = found.splits.get("test")
    if test is not None and found.leaked.rows:
        share = found.leaked.rows / test.rows
        other = (
            f", {found.mislabelled.rows:,} of them of another class"
            if found.mislabelled.rows
            else ""
        )
        yield Concern(
            "leak", share >= GRAVE,
            f"{_rows(found.leaked.rows, 'test')} ({_percent(share)}) equal to a training row{other}"
            f": {_pairs(found.leaked)}",
            "leave them out of one of the two, or accuracy says too much",
        )  # fmt: skip
    train = found.splits.get("train")
    if train is not None and train.contradictions.rows:
        yield Concern(
            "contradictions", train.contradictions.rows >= GRAVE * train.rows,
            f"{_rows(train.contradictions.rows, 'training')} equal to one of another class:"
            f" {_pairs(train.contradictions)}",
            "look at them; --contradictions drop leaves them out",
        )  # fmt: skip
    for name, split in found.splits.items():
        what = _WHAT.get(name, name)
        if name != "train" and split.contradictions.rows:
            yield Concern(
                f"contradictions_{name}", split.contradictions.rows >= GRAVE * split.rows,
                f"{_rows(split.contradictions.rows, what)} equal to one of another class:"
                f" {_pairs(split.contradictions)}",
                "no model can be right about all of them; mend their classes",
            )  # fmt: skip
        if split.copies.rows and split.copies.rows >= GRAVE * split.rows:
            yield Concern(
                f"copies_{name}", False,
                f"{_rows(split.copies.rows, what)} ({_percent(split.copies.rows / split.rows)})"
                f" equal to an earlier one: {_pairs(split.copies)}",
                "each counts; leave out those that are there by mistake",
            )  # fmt: skip


def _of_values(found: Examined) -> Iterator[Concern]:
    for name, split in found.splits.items():
        what = _WHAT.get(name, name)
        if split.broken.rows:
            columns = [
                f"{_name(part.name, field)} ({part.missing + part.infinite:,})"
                for field, told in split.fields.items() for part in told.parts
                if part.missing + part.infinite
            ]  # fmt: skip
            endless = any(part.infinite for told in split.fields.values() for part in told.parts)
            kind = "infinite" if endless else "missing"
            yield Concern(
                f"broken_{name}", endless,
                f"{_rows(split.broken.rows, what)} with {kind} cells"
                f" ({_first(split.broken)}), in {_some(columns)}",
                "replace them, or leave out these rows or columns" if endless else
                "they count as their column's mean (neural), or as a value of its own (algebraic)",
            )  # fmt: skip
        if split.blank.rows and not _all_alike(split):
            yield Concern(
                f"blank_{name}", split.blank.rows >= GRAVE * split.rows,
                f"{plural(split.blank.rows, f'blank {what} picture')}: {_first(split.blank)}",
                "look at them, and leave out those that show nothing",
            )  # fmt: skip
    train = found.splits.get("train")
    if train is not None and train.rows > 1:
        yield from _of_columns(train)


def _of_columns(train: SplitFound) -> Iterator[Concern]:
    if _all_alike(train):
        yield Concern(
            "all_equal", True, "all training rows are equal", "there is nothing to tell apart by"
        )
        return
    columns = [
        (name, part) for name, told in train.fields.items()
        if len(told.parts) == told.cells > 1 for part in told.parts
    ]  # fmt: skip
    if constant := [_name(part.name, name) for name, part in columns if part.constant]:
        yield Concern(
            "constant_columns", False,
            f"{plural(len(constant), 'column')} with one value in all training rows:"
            f" {_some(constant)}",
            f"such a column says nothing; of a table {_leave_out(constant)} leaves it out",
        )  # fmt: skip
    rising = [_name(part.name, name) for name, part in columns if part.rising]
    if rising and train.rows >= _SAYING:
        yield Concern(
            "rising_columns", False,
            f"{plural(len(rising), 'column')} with values that only rise, or only fall, from row"
            f" to row: {_some(rising)}",
            "what is a mere number of the row is no thing to learn; of a table"
            f" {_leave_out(rising)} leaves it out",
        )  # fmt: skip


def _leave_out(columns: Sequence[str]) -> str:
    """Return the option that leaves out the one column of a table, if it is one and has a name."""
    name = columns[0] if len(columns) == 1 else ""
    alone = name and "=" not in name and not name.startswith("column ")
    return leave_out(name) if alone else "--leave-out"


def _between_splits(found: Examined) -> Iterator[Concern]:
    """Yield where test rows have other values than training rows."""
    train, test = found.splits.get("train"), found.splits.get("test")
    if train is None or test is None or min(train.rows, test.rows) < _SAYING:
        return
    off = [
        f"{_name(ours.name, name)} (mean {theirs.mean:.4g} against {ours.mean:.4g})"
        for name, told in train.fields.items()
        for ours, theirs in zip(told.parts, test.fields[name].parts, strict=True)
        if _differ(ours, theirs, alone=len(told.parts) == told.cells)
    ]
    if off:
        image = found.form.image is not None
        yield Concern(
            "other_values", image, f"test rows have other values than training rows: {_some(off)}",
            "see that both are made in the same way",
        )  # fmt: skip


def _differ(ours: Numbers, theirs: Numbers, alone: bool) -> bool:
    """Whether numbers are not of one kind; of single columns the deviation says too little."""
    if not (ours.cells and theirs.cells) or not ours.deviation > 0:
        return False
    if abs(theirs.mean - ours.mean) > _OFF * ours.deviation:
        return True
    return not alone and not 1 / _TIMES <= theirs.deviation / ours.deviation <= _TIMES


# Words.


_WHAT = {"train": "training", "test": "test"}


def row_named(row: Row) -> str:
    """Return what people call a row: they count from 1."""
    return safe_line(row.called, _PATH) or f"{row.split} row {row.number + 1:,}"


def _counts(found: Examined, split: str) -> Mapping[int, int]:
    return found.splits[split].counts if split in found.splits else {}


def _all_alike(split: SplitFound) -> bool:
    return split.rows > 1 and all(
        told.constant == told.cells for told in split.fields.values()
    )  # fmt: skip


def _class(found: Examined, label: int) -> str:
    return safe_line(found.form.classes[label], _LETTERS)


def _classes(found: Examined, labels: Sequence[int]) -> str:
    return _some([_class(found, label) for label in labels])


def _name(part: str, field: str) -> str:
    return safe_line(part or field, _LETTERS)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _rows(count: int, what: str) -> str:
    return plural(count, f"{what} row")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


def _first(some: Some) -> str:
    """Return the first rows of some kind."""
    told = ", ".join(row_named(row) for row in some.first[:2])
    return told + ", ..." * (some.rows > 2)


def _pairs(some: Some) -> str:
    """Return the first rows of some kind, and what they are equal to."""
    pairs: dict[frozenset[Row], str] = {}
    for row, other in zip(some.first, some.other, strict=True):
        pairs.setdefault(frozenset((row, other)), f"{row_named(row)} = {row_named(other)}")
    told = list(pairs.values())
    return ", ".join(told[:2]) + ", ..." * (some.rows > 2)
