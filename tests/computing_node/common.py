"""Jobs for tests of a computing node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from learning import Turn
from learning.actions import Fit
from loaders import Rows

from ..learning.common import carry


def linear_fit(shard: Rows, steps: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a job of the linear learner that takes a hundredth of a second for each step."""
    features = sum(int(np.prod(each.shape)) for each in shard.form.fields.values())
    start: dict[str, np.ndarray] = {
        "layer.weights": np.zeros((features, len(shard.form.classes)), np.float32),
        "layer.bias": np.zeros(len(shard.form.classes), np.float32),
        "steps": np.array(0, np.int64),
        "nothing": np.zeros((0, 3), np.float32),
    }
    fit = Fit(rows=shard, start=start, seed=1, turn=Turn())
    return carry(fit, {"descents": steps, "pause": 0.01})


def bring(folder: Path, name: str, code: str) -> None:
    """Put a learner into a folder as a package that is installed there brings it.

    Args:
        folder: on the path of whoever is to have it.
        name: of the learner.
        code: a module with its class, `Learner`.
    """
    (folder / f"{name}.py").write_text(code)
    brought = folder / f"{name}-1.dist-info"
    brought.mkdir()
    (brought / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (brought / "entry_points.txt").write_text(f"[mnist_merge.learners]\n{name} = {name}:Learner\n")
