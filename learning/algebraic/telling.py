"""Algebraic models for people: their atoms as pictures and in words, and how they came about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.rows import Array, Arrays, Labels
from protocol.wire.words import plural

from .model import AlgebraicModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Atoms of each class that are drawn, and that are told of a decision; classes that are drawn.
DRAWN, TOLD, CLASSES = 7, 5, 20
#: Literals of an atom that are told.
_LITERALS = 12


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
                axes.set_ylabel(f"class {names[class_]}")
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
    figure.savefig(path, dpi=120)


def _examples(model: AlgebraicModel, mine: Labels) -> Labels:
    """Return strict atoms from the shortest to rather long ones."""
    strict = mine[model.strict[mine]]
    literals = np.count_nonzero(model.atoms[strict] < model.embedding.constants, axis=1)
    ranks = np.unique(np.linspace(0, 0.9 * max(0, len(strict) - 1), DRAWN).astype(int))
    return np.asarray(strict[np.argsort(literals, kind="stable")][ranks[: len(strict)]])


def _picture(model: AlgebraicModel, atoms: Array) -> Array:
    """Return the pixels of some atoms: how often they ask for on, less how often for off."""
    embedding = model.pixels
    chosen = model.atoms[atoms]
    counts = np.bincount(chosen[chosen < embedding.constants], minlength=embedding.constants)
    levels = counts.reshape(len(embedding.thresholds), 2, embedding.height, embedding.width)
    return np.asarray((levels[:, 0] - levels[:, 1]).sum(axis=0), float)


def _show(axes: Axes, picture: Array) -> None:
    axes.imshow(picture, cmap="RdBu_r", vmin=-1, vmax=1)


def explain(model: AlgebraicModel, image: Array, names: list[str]) -> dict[str, Any]:
    """Return why an image is taken for what it is taken for, as plain values.

    Returns:
        label; missed: for each class, the best first, how many of its atoms the image misses, of
        how many, the weighted share, and in words the first few.
    """
    shares = model.misses(image[None])[0]
    classes = []
    for class_ in np.argsort(shares, kind="stable"):
        missed = model.missed(image, int(class_))
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
    states: dict[str, list[str]] = {}
    literals = model.literals(atom)
    for constant in literals[:_LITERALS]:
        row, column, threshold, above = model.pixels.pixel(constant)
        state = "on" if above else "off"
        if len(model.pixels.thresholds) > 1:
            state = f"{'above' if above else 'not above'} {threshold:.0f}"
        states.setdefault(state, []).append(f"({row},{column})")
    named = ", ".join(f"{state} {' '.join(places)}" for state, places in states.items())
    more = f", or {len(literals) - _LITERALS} more" if len(literals) > _LITERALS else ""
    violated = int(model.violations[atom])
    but = f" (but {plural(violated, 'training example')} had none)" if violated else ""
    some = "pixel" if len(literals) == 1 else "one of these pixels:"
    return f"{_one_of(name)} has {some} {named}{more}{but}"


def _one_of(name: str) -> str:
    """Return a class as the subject of a sentence: `a 7`, `an 8`, `what is not 0`."""
    if name.startswith("not "):
        return f"what is {name}"
    vowel = name[:1].lower() in "aeiou8" or name in ("11", "18")
    return f"{'an' if vowel and name else 'a'} {name}"
