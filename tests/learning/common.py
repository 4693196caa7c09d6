"""What the tests of learning share."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from learning import Action, Solution, Turn, create
from loaders import ArraySource, Field, Form, Numbered, Rows


def silent(fraction: float, note: str = "", /) -> None:
    return


def never() -> bool:
    return False


def images(rows: int, classes: int = 10, side: int = 28, seed: int = 0) -> Rows:
    """Return random grey images of random classes."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (rows, side, side), dtype=np.uint8)
    form = Form({"image": Field("uint8", (side, side))}, Numbered(classes))
    source = ArraySource(
        "made", form, {"all": ({"image": pixels}, random.integers(0, classes, rows))}
    )
    return Rows(source, "all")


def fitted(
    learner: str, rows: Rows, make: Any = None, seed: int = 1, start: Any = None,
    turn: Turn | None = None,
) -> Solution:  # fmt: skip
    """Return what a learner makes of rows, from a fresh model unless another is given."""
    made = create(learner, make or {}, turn)
    start = made.initial(rows.form) if start is None else start
    return made.fit(rows, start, seed=seed, progress=silent, cancelled=never)


def carry(action: Action, make: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an action as a job carries it: values, and arrays."""
    work = action.pack()
    return {**work.told(), "action": action.name, "make": make}, work.carried()


def accountant() -> Any:
    """Return the library that tells epsilon; skip where it is not installed, but never in CI."""
    if os.environ.get("CI") == "true":
        import dp_accounting

        return dp_accounting
    return pytest.importorskip("dp_accounting", reason="mnist-merge[privacy] is not installed")
