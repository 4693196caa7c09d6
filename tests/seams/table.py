"""A source: a table of two fields, one of them a lone number, and 100,000 classes with names."""

from __future__ import annotations

import numpy as np

from loaders import ArraySource, Field, Form
from loaders.rows import Arrays, Labels
from loaders.sources import Asked

WHAT = "a made-up table"
NAMES = ("table",)
ORDER = 1
CLASSES = tuple(f"species {number}" for number in range(100_000))
#: Those that there are rows of; all the others have none.
THERE = np.array([0, 7, 40_000, 99_999])


def knows(asked: Asked) -> bool:
    """Whether it is ours."""
    return asked.name in NAMES


def open_source(asked: Asked) -> ArraySource:
    """Return rows whose numbers say of which of four classes they are."""
    splits: dict[str, tuple[Arrays, Labels]] = {}
    random = np.random.default_rng(0)
    for split, rows in (("train", 48), ("test", 24)):
        which = random.integers(0, len(THERE), rows)
        size = random.normal(0, 0.1, (rows, 3)).astype(np.float32)
        size[np.arange(rows), which % 3] += 1
        weight = np.where(which == 3, 1.0, -1.0) + random.normal(0, 0.1, rows)
        arrays: Arrays = {"size": size, "weight": weight}
        splits[split] = arrays, THERE[which]
    form = Form({"size": Field("float32", (3,)), "weight": Field("float64", ())}, CLASSES)
    return ArraySource(asked.name, form, splits)
