"""What data is like, on a screen: as much as fits, the rest in numbers."""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from console.words import shortened
from loaders.cells import CHANNELS, Numbers
from loaders.examining import Examined, Some, SplitFound
from loaders.sources import About
from loaders.verdict import Concern, trainable
from protocol.wire.words import plural, safe_line

#: Classes that are told one by one; of more, so many of the largest and of the smallest.
CLASSES, ENDS = 10, 5
#: Columns of a table that are told; the odd ones first.
COLUMNS = 6
#: Letters of a class's name, and of a column's.
_CLASS, _COLUMN = 16, 24
#: Columns of the screen: between two tables, of the longest bar, and of the shortest that tells.
_GAP, _BAR, _SHORT = 3, 30, 4
_EIGHTHS = " ▏▎▍▌▋▊▉"


def show(
    found: Examined, said: Sequence[Concern], what: str, where: str, console: Console
) -> None:  # fmt: skip
    """Print what some data is like, and what stands against training on it.

    Args:
        found: what it is like.
        said: what there is to say of that.
        what: which kind of source it is.
        where: it is; empty: nowhere in particular.
        console: to print to.
    """
    console.print(_head(found, what, where))
    console.print()
    facts, classes = _facts(found), _classes(found)
    apart, width = _width(facts, console) + _GAP, _width(classes, console)
    beside = apart + width + _SHORT <= console.width
    room = console.width - width - (apart if beside else 0)
    bars = _bars(found, min(_BAR, room - 1), console.options.ascii_only)
    told = Group(_classes(found, bars), Text(_balance(found), "dim"))
    if beside:
        both = Table.grid(padding=(0, _GAP, 0, 0))
        both.add_row(facts, told)
        console.print(both)
    else:
        console.print(facts)
        console.print()
        console.print(told)
    if columns := _columns(found, console.width):
        console.print()
        console.print(columns)
    console.print()
    console.print(_verdict(said))


# Parts of the screen.


def _head(found: Examined, what: str, where: str) -> RenderableType:
    lines = [
        ("data", safe_line(found.name) + (f", {what}" if what else "")),
        ("where", safe_line(where)),
        ("a row", _form(found)),
        ("digest", found.digest),
    ]
    return _grid((Text(name, "dim"), Text(value)) for name, value in lines if value)


def _form(found: Examined) -> str:
    """Return what a row is like, and which values there are."""
    form = found.form
    if _is_table(found):
        (field,) = form.fields.values()
        return f"{plural(field.shape[0], 'column')} of {field.dtype}"
    train = found.splits.get("train")
    told = form.tell()
    if train is None or not train.rows:
        return told
    for name, each in train.fields.items():
        values = _range(each.parts)
        told += f"; {name if len(train.fields) > 1 else 'values'} {values}" if values else ""
        if each.constant and form.image is not None:
            told += f"; {each.constant:,} of {each.cells:,} cells never change"
    return told


def _range(parts: Iterable[Numbers]) -> str:
    ends = [(part.least, part.most) for part in parts if part.cells]
    least = min((each for each, _ in ends if each is not None), default=None)
    most = max((each for _, each in ends if each is not None), default=None)
    return "" if least is None or most is None else f"{_number(least)} to {_number(most)}"


def _facts(found: Examined) -> Table:
    """Return what there is to say of each split in numbers: a column for each."""
    table = _table()
    table.add_column("", style="dim", no_wrap=True)
    for name in found.splits:
        table.add_column(Text(safe_line(name, _CLASS)), justify="right", no_wrap=True)
    for title, cells in _fact_rows(found):
        if any(cells):
            table.add_row(title, *(Text(cell, _colour(title, cell)) for cell in cells))
    return table


def _fact_rows(found: Examined) -> list[tuple[str, list[str]]]:
    splits = found.splits
    rows: list[tuple[str, list[str]]] = [
        ("rows", [f"{each.rows:,}" for each in splits.values()]),
        ("classes", [f"{len(each.counts):,}" for each in splits.values()]),
        ("copies", [f"{each.copies.rows:,}" for each in splits.values()]),
        ("contradictions", [f"{each.contradictions.rows:,}" for each in splits.values()]),
    ]
    if {"train", "test"} <= splits.keys():
        leaked = [f"{found.leaked.rows:,}" if name == "test" else "" for name in splits]
        rows.append(("also in train", leaked))
    if found.form.image is not None:
        rows.append(("blank", [f"{each.blank.rows:,}" for each in splits.values()]))
    rows.append(("broken", [f"{each.broken.rows:,}" for each in splits.values()]))
    if not _is_table(found):
        rows += _moments(splits)
    return rows


def _moments(splits: Mapping[str, SplitFound]) -> list[tuple[str, list[str]]]:
    """Return mean and deviation of each field, or of each of its channels, by split."""
    fields = next(iter(splits.values())).fields if splits else {}
    rows = []
    for name, of in fields.items():
        told = of.parts if len(of.parts) <= CHANNELS else ()  # columns beside other fields
        for which in ("mean", "deviation"):
            for number, part in enumerate(told):
                parts = [split.fields[name].parts[number] for split in splits.values()]
                words = (which, part.name, f"of {name}" if len(fields) > 1 else "")
                cells = [_number(getattr(each, which)) for each in parts]
                rows.append((" ".join(filter(None, words)), cells))
    return rows


def _colour(title: str, cell: str) -> str:
    plain = title in ("rows", "classes") or title.startswith(("mean", "deviation"))
    return "" if plain or cell == "0" else "yellow"


def _classes(found: Examined, bars: Mapping[int, str] | None = None) -> Table:
    """Return the rows of each class by split; of many classes, of the largest and smallest."""
    shown, ordered = _shown(found), found.classes()
    table = _table()
    table.add_column("class", no_wrap=True)
    for name in shown:
        table.add_column(Text(safe_line(name, _CLASS)), justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="cyan")
    for label in _told(ordered, _counts(found)):
        if label is None:
            table.add_row(Text(f"... {len(ordered) - 2 * ENDS:,} more", "dim"))
            continue
        counts = [found.splits[name].counts.get(label, 0) for name in shown]
        table.add_row(
            Text(_class(found, label)),
            *(Text(f"{count:,}", "" if count else "red") for count in counts),
            (bars or {}).get(label, ""),
        )
    return table


def _shown(found: Examined) -> list[str]:
    """Return the splits whose classes are told: the first is what bars are of."""
    return [name for name in ("train", "test") if name in found.splits] or list(found.splits)


def _counts(found: Examined) -> Mapping[int, int]:
    """Return the rows of each class in the first split that is told."""
    return next((found.splits[name].counts for name in _shown(found)), {})


def _bars(found: Examined, cells: int, plain: bool) -> dict[int, str]:
    """Return a bar for each class: the largest has so many cells."""
    counts = _counts(found)
    most = max(counts.values(), default=0)
    return {label: _bar(count, most, cells, plain) for label, count in counts.items()}


def _told(ordered: Sequence[int], counts: Mapping[int, int]) -> list[int | None]:
    """Return the classes that are told; None stands for those between them."""
    if len(ordered) <= CLASSES:
        return list(ordered)

    def size(label: int) -> tuple[int, int]:
        return -counts.get(label, 0), label

    largest = heapq.nsmallest(ENDS, ordered, key=size)
    smallest = heapq.nlargest(ENDS, ordered, key=size)
    return [*largest, None, *reversed(smallest)]


def _bar(count: int, most: int, cells: int, plain: bool) -> str:
    """Return a bar of blocks; of signs that every stream has where it has no others."""
    if not count or cells < _SHORT:
        return ""
    eighths = max(1, round(8 * cells * count / most))
    if plain:
        return "#" * max(1, round(eighths / 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _balance(found: Examined) -> str:
    """Return how unequal the classes are, and how many are missing."""
    shown, ordered, counts = _shown(found), found.classes(), _counts(found)
    told = []
    if len(counts) > 1:
        ratio = max(counts.values()) / min(counts.values())
        told.append(f"largest : smallest = {ratio:.3g} : 1")
    for name in shown:
        lacking = len(ordered) - len(found.splits[name].counts)
        if lacking:
            told.append(f"{lacking:,} not in {name}")
    empty = len(found.form.classes) - len(ordered)
    if empty:
        told.append(f"{empty:,} of {len(found.form.classes):,} classes without rows")
    return "; ".join(told)


def _columns(found: Examined, width: int) -> RenderableType | None:
    """Return what some columns of a table are like, the odd ones first; None: it is none."""
    train = found.splits.get("train")
    if train is None or not train.rows or not _is_table(found):
        return None
    (told,) = train.fields.values()
    parts = sorted(told.parts, key=lambda part: not _odd(part))  # those alike as they are
    table = _table()
    more = f" (of {len(parts):,})" if len(parts) > COLUMNS else ""
    table.add_column(f"column{more}", no_wrap=True, overflow="ellipsis")
    for title in ("least", "most", "mean", "deviation")[: 4 if width >= 60 else 2]:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", style="yellow", no_wrap=True, overflow="ellipsis")
    for part in parts[:COLUMNS]:
        numbers = [part.least, part.most, part.mean, part.deviation][: len(table.columns) - 2]
        table.add_row(
            Text(shortened(safe_line(part.name), _COLUMN)),
            *(_number(each) if part.cells else "" for each in numbers), Text(_odd(part)),
        )  # fmt: skip
    return table


def _odd(part: Numbers) -> str:
    """Return what is odd about a column, in words; empty: nothing."""
    told = [f"{part.missing:,} missing"] if part.missing else []
    told += [f"{part.infinite:,} infinite"] if part.infinite else []
    told += ["one value"] if part.constant else []
    return ", ".join(told)


def _verdict(said: Sequence[Concern]) -> RenderableType:
    grave = [each for each in said if each.grave]
    light = [each for each in said if not each.grave]
    head = (
        Text(f"✗ {plural(len(grave), 'thing')} {'stand' if len(grave) > 1 else 'stands'}"
             " against training", "bold red")
        if grave else Text("✓ nothing stands against training", "bold green")
    )  # fmt: skip
    parts: list[RenderableType] = [head, _grid(map(_line, grave))] if grave else [head]
    if light:
        parts += [Text("· worth knowing", "bold yellow"), _grid(map(_line, light))]
    return Group(*parts)


def _line(each: Concern) -> tuple[Text, Text]:
    return Text(" -", "dim"), Text(safe_line(each.what, 400)) + Text(f" → {each.advice}", "dim")


# Words.


def _grid(rows: Iterable[tuple[Text, Text]]) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _table() -> Table:
    return Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")


def _is_table(found: Examined) -> bool:
    """Whether a row is one field of columns."""
    shapes = [each.shape for each in found.form.fields.values()]
    return len(shapes) == 1 and len(shapes[0]) == 1


def _class(found: Examined, label: int) -> str:
    return shortened(safe_line(found.form.classes[label]), _CLASS)


def _width(table: Table, console: Console) -> int:
    """Return the columns that a table takes where nothing is cut."""
    wide = console.options.update(width=sys.maxsize)
    return Measurement.get(console, wide, table).maximum


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


# Names.


def names_table(known: Sequence[About], width: int) -> Table:
    """Return the data sets that are known by name; what is less wanted is left out where narrow."""
    table = _table()
    titles = ["name", "rows", "a row", "here", "licence", "from"]
    least = {"rows": 36, "a row": 60, "here": 44, "licence": 76, "from": 100}
    titles = [title for title in titles if width >= least.get(title, 0)]
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for each in known:
        cells = {
            "name": each.name, "rows": each.rows, "a row": each.form,
            "here": "yes" if each.kept else "no", "licence": each.licence or "not stated",
            "from": each.origin,
        }  # fmt: skip
        table.add_row(*(Text(safe_line(cells[title])) for title in titles))
    return table


# For programs.


def as_values(found: Examined, said: Sequence[Concern]) -> dict[str, Any]:
    """Return what some data is like as JSON has it: a number that is none is null."""
    return {
        "name": found.name,
        "form": {"fields": {name: list(field) for name, field in found.form.fields.items()}},
        "digest": found.digest,
        "classes": [
            {"class": found.form.classes[label], "label": label,
             "rows": {name: split.counts.get(label, 0) for name, split in found.splits.items()}}
            for label in found.classes()
        ],
        "classes_without_rows": len(found.form.classes) - len(found.classes()),
        "splits": {name: _split_values(split) for name, split in found.splits.items()},
        "leaked": _some_values(found.leaked),
        "mislabelled": _some_values(found.mislabelled),
        "trainable": trainable(found),
        "against": [asdict(each) for each in said if each.grave],
        "worth_knowing": [asdict(each) for each in said if not each.grave],
    }  # fmt: skip


def _split_values(split: SplitFound) -> dict[str, Any]:
    return {
        "rows": split.rows, "digest": split.digest,
        **{kind: _some_values(getattr(split, kind))
           for kind in ("copies", "contradictions", "blank", "broken")},
        "fields": {
            name: {
                "cells": told.cells, "constant": told.constant,
                "parts": [
                    {key: _finite(value) for key, value in asdict(part).items()}
                    for part in told.parts
                ],
            }
            for name, told in split.fields.items()
        },
    }  # fmt: skip


def _some_values(some: Some) -> dict[str, Any]:
    """Return rows of a kind as JSON; they are counted from 0 there."""
    told: dict[str, Any] = {"rows": some.rows, "first": [row._asdict() for row in some.first]}
    if some.other:
        told["equal_to"] = [row._asdict() for row in some.other]
    return told


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
