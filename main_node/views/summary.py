"""What a run leaves to be seen: a summary, a confusion table, two pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from protocol.wire.words import plural

from ..run.training import Metrics


def print_summary(metrics: Metrics, console: Console) -> None:
    """Print how good the model is, where it is and how to use it."""
    seconds = metrics["seconds"]
    console.print(confusion_table(metrics["confusion"]))
    nodes = len(metrics["nodes"])
    retries = f"; {plural(metrics['retries'], 'attempt')} failed" if metrics["retries"] else ""
    if metrics["left_out"]:
        retries += f"; left out: {', '.join(metrics['left_out'])}"
    parts = metrics["model_parts"]
    made_of = (
        f"{parts['atoms']:,} atoms, {parts['strict']:,} of them contradicted by no example"
        if "atoms" in parts
        else f"{parts['weights']:,} weights"
    )
    lines = (
        ("accuracy", f"{metrics['accuracy']:.2%} (macro F1 {metrics['macro_f1']:.4f})"),
        ("learned from", f"{metrics['examples']:,} examples in {plural(metrics['jobs'], 'job')}"
                         f" and {plural(metrics['rounds'], 'round')},"
                         f" by {plural(nodes, 'node')}{retries}"),
        ("model", made_of),
        ("took", f"{seconds['total']:.1f} s (training {seconds.get('training', 0):.1f} s)"
                 + (f" since start {metrics['starts']}" if metrics["starts"] > 1 else "")),
        ("run directory", str(Path(metrics["model"]).parent)),
        ("model sha256", metrics["model_sha256"]),
        ("use it", f"mnist-predict {metrics['model']} IMAGE.png"),
        ("load it", f"safetensors.numpy.load_file({metrics['model']!r})"),
    )  # fmt: skip
    for name, value in lines:
        console.print(Text(f"{name:>14}  ", "dim") + Text(value), soft_wrap=True)


def confusion_table(confusion: list[list[int]]) -> Table:
    """Return the confusion matrix: a row for each true class, a column for each predicted."""
    table = Table(title="true class by predicted class", box=None, padding=(0, 1))
    table.add_column("", style="dim")
    for column in range(len(confusion)):
        table.add_column(str(column), justify="right")
    for true, row in enumerate(confusion):
        cells = [
            Text("." if not count else str(count), "green" if true == predicted else "red")
            for predicted, count in enumerate(row)
        ]
        table.add_row(str(true), *cells)
    return table


def drawn(metrics: Metrics, folder: Path) -> bool:
    """Whether the pictures are there."""
    names = ["confusion.png", "learning.png"]
    if metrics["learner"] == "algebraic":
        names += ["batches.png", "atoms.png"]
    return all((folder / name).exists() for name in names)


def draw(metrics: Metrics, folder: Path) -> None:
    """Write `confusion.png` and `learning.png` into a folder; of an algebraic model, also
    `batches.png` and `atoms.png`.

    Raises:
        OSError: they can't be written.
    """
    from matplotlib.figure import Figure  # half a second

    _draw_confusion(Figure, metrics, folder / "confusion.png")
    _draw_curve(Figure, metrics["accuracy_by_round"], folder / "learning.png")
    if metrics["learner"] == "algebraic":
        from learning import model as models
        from learning.algebraic.model import from_arrays
        from learning.algebraic.telling import class_names, draw_atoms, draw_batches

        draw_batches(folder, folder / "batches.png")
        model = models.load(folder / "model.safetensors")
        names = class_names(model.classes, model.notes.get("target"))
        draw_atoms(from_arrays(model.arrays), folder / "atoms.png", names)


def _draw_confusion(figure_class: Any, metrics: Metrics, path: Path) -> None:
    confusion = metrics["confusion"]
    figure = figure_class(figsize=(6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    shares = [[count / max(1, sum(row)) for count in row] for row in confusion]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(confusion):
        for predicted, count in enumerate(row):
            colour = "white" if shares[true][predicted] > 0.5 else "black"
            if count:
                axes.text(predicted, true, count, ha="center", va="center", color=colour, size=7)
    classes = range(len(confusion))
    axes.set(xticks=classes, yticks=classes, xlabel="predicted class", ylabel="true class")
    axes.set_title(f"accuracy {metrics['accuracy']:.2%} on the test set")
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    figure.savefig(path, dpi=120)


def _draw_curve(figure_class: Any, curve: list[float], path: Path) -> None:
    figure = figure_class(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    rounds = range(1, len(curve) + 1)
    axes.plot(rounds, [100 * accuracy for accuracy in curve], marker="o")
    for round_, accuracy in zip(rounds, curve, strict=True):
        axes.annotate(
            f"{accuracy:.2%}", (round_, 100 * accuracy), xytext=(0, 6),
            textcoords="offset points", ha="center", size=8,
        )  # fmt: skip
    axes.set(xlabel="round", ylabel="accuracy on the test set, %", xticks=rounds)
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
