"""What a run came to, printed: a summary, and a confusion table."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from learning.registry import described
from loaders.running import place_of
from protocol.wire.words import plural, safe_line

from ...store.results import Result

#: A table of more classes fits no screen; letters of a class's name in it.
MOST_SHOWN, NAME_LETTERS = 30, 12
#: Where the table does not fit, so many of its mistakes are told, the most frequent first.
WORST_TOLD = 10


def print_summary(result: Result, console: Console) -> None:
    """Print how good the model is, where it is and how to use it."""
    seconds = result.seconds
    picture = Path(result.model).parent / "confusion.png"
    print_confusion(console, result.confusion, result.classes, f"all of them: {picture}")
    retries = f"; {plural(result.retries, 'attempt')} failed" if result.retries else ""
    if result.left_out:
        retries += f"; left out: {', '.join(result.left_out)}"
    loss = result.test_loss
    lines = (
        ("accuracy", f"{result.accuracy:.2%} (macro F1 {result.macro_f1:.4f}"
                     + (")" if loss is None else f", loss {loss:.4g})")),
        ("learned from", f"{result.examples:,} examples in {plural(result.jobs, 'job')}"
                         f" and {plural(result.rounds, 'round')},"
                         f" by {plural(len(result.nodes), 'node')}{_on(result)}{retries}"),
        *[("merged by", result.merge)] * bool(result.merge),
        *_ended(result),
        *private(result.merged),
        ("model", described(result.learner).made_of(result.model_parts) + _of_round(result)),
        ("took", f"{seconds['total']:.1f} s (training {seconds.get('training', 0):.1f} s)"
                 + (f" since start {result.starts}" if result.starts > 1 else "")),
        ("run directory", str(Path(result.model).parent)),
        ("model sha256", result.model_sha256),
        ("use it", f"mnist-predict {quote(result.model)} {whose(result.learner)}{_what(result)}"),
        ("load it", f"safetensors.numpy.load_file({result.model!r})"),
    )  # fmt: skip
    for name, value in lines:
        console.print(Text(f"{name:>14}  ", "dim") + Text(value), soft_wrap=True)


def _ended(result: Result) -> list[tuple[str, str]]:
    """Return what ended a run, where that is more than that it was done."""
    return [("ended by", f"{result.ended_by}: {result.ended}")] if result.ended else []


def private(told: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return how private a model is, where what its strategy tells says it."""
    if not told.keys() >= {"epsilon", "delta", "by"}:
        return []
    told_ = f"epsilon {told['epsilon']:.3g} at delta {told['delta']:g}, by {told['by']}"
    return [("private", told_)]


def _of_round(result: Result) -> str:
    """Return of which round a model is, where one was chosen."""
    number, tried = result.model_round, result.accuracy_by_round
    accuracy = tried[number - 1] if result.validation_rows and 0 < number <= len(tried) else None
    if accuracy is None:
        return ""
    return f", of round {number}: the best on the validation rows, {accuracy:.2%} of them right"


def _on(result: Result) -> str:
    """Return what it was learned on, where that is not processors alone."""
    return f" on {' and '.join(result.devices)}" if {*result.devices} - {"cpu"} else ""


def whose(learner: str) -> str:
    """Return the option by which a model of a user's own code is used; empty of others."""
    place = place_of(learner)
    if place is None:
        return ""
    return f"--learner {learner if '.' in place.module else f'FILE.py:{place.name}'} "


def _what(result: Result) -> str:
    images = result.data.get("kind", "image") == "image"
    return "IMAGE.png" if images else f"--data {quote(str(result.data['source']))}"


def short(name: str) -> str:
    """Return a class's name as a table shows it, whatever is in it."""
    return safe_line(name)[:NAME_LETTERS]


def print_confusion(
    console: Console, confusion: Sequence[Sequence[int]], classes: Sequence[str], rest: str
) -> None:
    """Print the confusion matrix, or where that does not fit the worst confusions.

    Args:
        console: where to.
        confusion: true class by predicted class, counts; empty: there is nothing to print.
        classes: their names; their numbers unless given.
        rest: where all of it is, in words.
    """
    if not confusion:
        return None
    if len(confusion) <= MOST_SHOWN:
        table = confusion_table(confusion, classes)
        wide = console.options.update(width=sys.maxsize)
        if Measurement.get(console, wide, table).maximum <= console.width:
            return console.print(table)
    for line in worst(confusion, classes):
        console.print(Text(line), soft_wrap=True)
    return console.print(Text(rest, "dim"), soft_wrap=True)


def worst(confusion: Sequence[Sequence[int]], classes: Sequence[str] = ()) -> list[str]:
    """Return the most frequent confusions, in words.

    Args:
        confusion: true class by predicted class, counts.
        classes: their names; their numbers unless given.
    """
    names = [short(name) for name in classes or map(str, range(len(confusion)))]
    mistakes = [
        (count, true, predicted)
        for true, row in enumerate(confusion) for predicted, count in enumerate(row)
        if count and true != predicted
    ]  # fmt: skip
    told = heapq.nsmallest(WORST_TOLD, mistakes, key=lambda each: (-each[0], *each[1:]))
    kinds = plural(len(mistakes), "kind")
    lines = [f"{kinds} of mistakes among {len(confusion)} classes; the most frequent:"]
    if not told:
        return [f"no mistake among {len(confusion)} classes"]
    return lines + [
        f"  {names[true]} taken for {names[predicted]}: {plural(count, 'time')}"
        for count, true, predicted in told
    ]


def confusion_table(confusion: Sequence[Sequence[int]], classes: Sequence[str] = ()) -> Table:
    """Return the confusion matrix: a row for each true class, a column for each predicted.

    Args:
        confusion: true class by predicted class, counts.
        classes: their names; their numbers unless given.
    """
    names = [short(name) for name in classes or map(str, range(len(confusion)))]
    table = Table(title="true class by predicted class", box=None, padding=(0, 1))
    table.add_column("", style="dim")
    for name in names:
        table.add_column(Text(name), justify="right")
    for true, row in enumerate(confusion):
        cells = [
            Text("." if not count else str(count), "green" if true == predicted else "red")
            for predicted, count in enumerate(row)
        ]
        table.add_row(Text(names[true]), *cells)
    return table
