"""Algebraic models for people: their atoms as pictures and in words, and how they came about."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.rows import Array, Arrays, Labels
from protocol.wire.words import plural, safe_line

from .embedding import TableEmbedding
from .model import AlgebraicModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Atoms of each class that are drawn, and that are told of a decision; classes that are drawn.
DRAWN, TOLD, CLASSES = 7, 5, 20
#: Literals of an atom that are told.
_LITERALS = 12
#: Letters of a name beside a drawing.
_LABEL_LETTERS = 24


def draw_batches(solutions: Iterable[tuple[int, Arrays]], path: Path) -> None:
    """Draw the error on held-out rows, and the indicators, by batch, a line for each job.

    Args:
        solutions: number of the job and arrays of each, a job's in order.
        path: of the picture.

    Raises:
        OSError: it can't be written.
    """
    from matplotlib.figure import Figure

    jobs: dict[int, list[Array]] = {}
    for job, arrays in solutions:
        jobs.setdefault(job, []).append(arrays["history"])
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for job, histories in sorted(jobs.items()):
        history = np.concatenate(histories)
        above.plot(history[:, 0] + 1, 100 * history[:, 5], lw=1, label=f"job {job}")
        below.plot(history[:, 0] + 1, history[:, 4], lw=1)
    above.set(ylabel="error on held-out rows, %")
    below.set(ylabel="indicators", xlabel="batch")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    if 1 < len(jobs) <= 10:
        above.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=120)


def draw_atoms(model: AlgebraicModel, path: Path, names: list[str]) -> None:
    """Draw what each class's atoms ask for: all of them together, and some one by one.

    Raises:
        OSError: it can't be written.
    """
    if isinstance(model.embedding, TableEmbedding):
        return _draw_columns(model, model.embedding, path, names)
    from matplotlib.figure import Figure

    classes = min(model.classes, CLASSES)
    figure = Figure(figsize=(1.25 * (DRAWN + 1), 1.35 * classes + 0.6), layout="constrained")
    grid = figure.subplots(classes, DRAWN + 1, squeeze=False)
    for class_, row in enumerate(grid):
        mine = model.of_class(class_)
        together = _picture(model, mine)
        chosen = _examples(model, mine)
        for column, axes in enumerate(row):
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_ylabel(_label(f"class {names[class_]}"))
                _show(axes, together / max(1e-9, np.abs(together).max()))
                axes.set_title(f"{len(mine):,} atoms", size=7)
            elif column <= len(chosen):
                _show(axes, _picture(model, chosen[column - 1 : column]))
                axes.set_title(plural(len(model.literals(chosen[column - 1])), "pixel"), size=7)
            else:
                axes.set_axis_off()
    figure.suptitle(
        "An atom: its class implies at least one of these pixels, red ones on, blue ones off.\n"
        "Left: all atoms of a class together; then some that no example contradicts, short ones"
        " first.",
        size=9,
    )
    return figure.savefig(path, dpi=120)


def _draw_columns(
    model: AlgebraicModel, embedding: TableEmbedding, path: Path, names: list[str]
) -> None:
    """Draw how often each class's atoms ask for something of each column.

    Raises:
        OSError: it can't be written.
    """
    from matplotlib.figure import Figure

    classes, columns = min(model.classes, CLASSES), len(embedding.columns)
    shares = np.zeros((classes, columns))
    for class_ in range(classes):
        constants = model.atoms[model.of_class(class_)]
        asked = embedding.column_of(constants[constants < embedding.constants])
        shares[class_] = np.bincount(asked, minlength=columns) / max(1, len(asked))
    chosen = np.argsort(-shares.max(axis=0), kind="stable")[:CLASSES]
    figure = Figure(figsize=(2 + 0.4 * len(chosen), 2.5 + 0.35 * classes), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares[:, chosen], cmap="Blues", vmin=0)
    told = [_label(embedding.names[column]) for column in chosen]
    axes.set_xticks(range(len(chosen)), told, rotation=90)
    axes.set_yticks(range(classes), [_label(name) for name in names[:classes]])
    axes.set_title("what a class's atoms ask for, by column", size=9)
    figure.colorbar(image, label="share of the class's constants")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that its font has not is a box
        figure.savefig(path, dpi=120)


def _label(name: str) -> str:
    """Return a name as a picture shows it; a dollar would begin a formula."""
    return str(safe_line(name))[:_LABEL_LETTERS].replace("$", r"\$")


def _examples(model: AlgebraicModel, mine: Labels) -> Labels:
    """Return strict atoms from the shortest to rather long ones."""
    strict = mine[model.strict[mine]]
    literals = np.count_nonzero(model.atoms[strict] < model.embedding.constants, axis=1)
    ranks = np.unique(np.linspace(0, 0.9 * max(0, len(strict) - 1), DRAWN).astype(int))
    return np.asarray(strict[np.argsort(literals, kind="stable")][ranks[: len(strict)]])


def _picture(model: AlgebraicModel, atoms: Array) -> Array:
    """Return the pixels of some atoms: how often they ask for on, less how often for off.

    Of colours, all channels of a pixel together.
    """
    embedding = model.pixels
    chosen = model.atoms[atoms]
    counts = np.bincount(chosen[chosen < embedding.constants], minlength=embedding.constants)
    levels = counts.reshape(
        len(embedding.thresholds), 2, embedding.height, embedding.width, embedding.channels
    )
    return np.asarray((levels[:, 0] - levels[:, 1]).sum(axis=(0, -1)), float)


def _show(axes: Axes, picture: Array) -> None:
    axes.imshow(picture, cmap="RdBu_r", vmin=-1, vmax=1)


def explain(model: AlgebraicModel, row: Array, names: list[str]) -> dict[str, Any]:
    """Return why an image, or a row of a table, is taken for what it is, as plain values.

    Returns:
        label; missed: for each class, the best first, how many of its atoms the row misses, of
        how many, the weighted share, and in words the first few.
    """
    shares = model.misses(row[None])[0]
    classes = []
    for class_ in np.argsort(shares, kind="stable"):
        missed = model.missed(row, int(class_))
        classes.append(
            {
                "class": int(class_), "share": float(shares[class_]), "missed": len(missed),
                "atoms": len(model.of_class(int(class_))),
                "name": names[class_], "first": _first(model, missed, names[class_]),
            }
        )  # fmt: skip
    return {"label": classes[0]["class"], "missed": classes}


def _first(model: AlgebraicModel, missed: Array, name: str) -> list[str]:
    """Return the first few atoms in words; those that differ in other classes only, once."""
    told: dict[str, None] = {}
    for atom in missed:
        told[_tell(model, int(atom), name)] = None
        if len(told) == TOLD:
            break
    return list(told)


def _tell(model: AlgebraicModel, atom: int, name: str) -> str:
    """Return an atom in words: `a 7 has one of these pixels: on (3,14) (4,9), off (20,11)`."""
    literals = model.literals(atom)
    told = literals[:_LITERALS]
    more = f", or {len(literals) - _LITERALS} more" if len(literals) > _LITERALS else ""
    violated = int(model.violations[atom])
    but = f" (but {plural(violated, 'training example')} had none)" if violated else ""
    if isinstance(model.embedding, TableEmbedding):
        named = ", or ".join(model.embedding.name(constant) for constant in told)
        return f"a {name} has {named}{more}{but}"
    states: dict[str, list[str]] = {}
    for constant in told:
        row, column, _, _ = model.pixels.pixel(constant)
        states.setdefault(model.pixels.state(constant), []).append(f"({row},{column})")
    named = ", ".join(f"{state} {' '.join(places)}" for state, places in states.items())
    some = "pixel" if len(literals) == 1 else "one of these pixels:"
    return f"{_one_of(name)} has {some} {named}{more}{but}"


def _one_of(name: str) -> str:
    """Return a class as the subject of a sentence: `a 7`, `an 8`, `what is not 0`."""
    if name.startswith("not "):
        return f"what is {name}"
    vowel = name[:1].lower() in "aeiou8" or name in ("11", "18")
    return f"{'an' if vowel and name else 'a'} {name}"
