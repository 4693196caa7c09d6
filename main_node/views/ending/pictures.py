"""What a run came to, drawn; what a learner draws of its own models beside it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learning import model as models
from learning.durable import read_arrays
from learning.registry import described
from loaders.rows import Arrays

from ...run.label import Label
from ...store.results import Result
from .summary import MOST_SHOWN, short


def pictures(result: Result) -> list[str]:
    """Return the names of a result's pictures: of every run, and of the learner."""
    confusion = ["confusion.png"] if result.confusion else []
    return ["learning.png", *confusion, *described(result.learner).pictures]


def draw(result: Result, folder: Path) -> None:
    """Write the `pictures` of a result into its run's folder.

    Raises:
        OSError: they can't be written.
        LearningError: the model can't be read.
    """
    # It would advise about a home that can't be written, or that is not there.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure  # half a second

    # Each is whole or not there, and nothing is drawn over a file that a link leads to.
    with tempfile.TemporaryDirectory(prefix=".drawn-", dir=folder) as scratch:
        drawn = Path(scratch)
        if result.confusion:
            _draw_confusion(Figure, result, drawn / "confusion.png")
        _draw_curve(Figure, result, drawn / "learning.png")
        own = described(result.learner)
        if own.pictures:
            model = models.load(folder / "model.safetensors")
            own.draw(model, _solutions(folder), drawn)
        for picture in drawn.iterdir():
            picture.replace(folder / picture.name)


def _solutions(folder: Path) -> Iterator[tuple[int, int, Arrays]]:
    """Yield round, job and arrays of every solution that was learned, in order."""
    labels = []
    for path in (folder / "solutions").glob("*.safetensors"):
        try:
            label = Label.parse(path.stem)
        except ValueError:
            continue
        if label.kind == "job":
            labels.append(label)
    for label in sorted(labels):
        path = folder / "solutions" / f"{label.name}.safetensors"
        yield label.round, label.part, read_arrays(path)[0]


def _draw_confusion(figure_class: Any, result: Result, path: Path) -> None:
    confusion = result.confusion
    figure = figure_class(figsize=(6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    few = len(confusion) <= MOST_SHOWN
    for true, row in enumerate(confusion if few else []):
        for predicted, count in enumerate(row):
            colour = "white" if shares[true][predicted] > 0.5 else "black"
            if count:
                axes.text(predicted, true, count, ha="center", va="center", color=colour, size=7)
    axes.set(xlabel="predicted class", ylabel="true class")
    if few:
        # A dollar begins a formula.
        names = [short(name).replace("$", r"\$") for name in result.classes] or None
        turned = {"rotation": 90} if names is not None and max(map(len, names)) > 2 else {}
        axes.set_xticks(range(len(confusion)), names, **turned)
        axes.set_yticks(range(len(confusion)), names)
    axes.set_title(f"accuracy {result.accuracy:.2%} on the test set")
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that its font has not is a box
        figure.savefig(path, dpi=120)


def _draw_curve(figure_class: Any, result: Result, path: Path) -> None:
    figure = figure_class(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    tried = [
        (round_, accuracy)
        for round_, accuracy in enumerate(result.accuracy_by_round, 1)
        if accuracy is not None
    ]
    rounds = [round_ for round_, _ in tried]
    axes.plot(rounds, [100 * accuracy for _, accuracy in tried], marker="o")
    for round_, accuracy in tried:
        axes.annotate(
            f"{accuracy:.2%}", (round_, 100 * accuracy), xytext=(0, 6),
            textcoords="offset points", ha="center", size=8,
        )  # fmt: skip
    on = "validation rows" if result.validation_rows else "test set"
    axes.set(xlabel="round", ylabel=f"accuracy on the {on}, %", xticks=rounds)
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
