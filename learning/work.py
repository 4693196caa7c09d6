"""A piece of learning as plain values and named arrays, so that any transport can carry it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .base import Arrays, Cancelled, Images, Labels, Progress, Shard, Solution, create
from .errors import LearningError

_START = "start/"
Values = Mapping[str, Any]
Work = tuple[dict[str, Any], dict[str, Any]]  # values, arrays


def fit_work(make: Values, shard: Shard, start: Arrays | None, seed: int) -> Work:
    """Return the work of fitting a shard.

    Args:
        make: what the learner is made with.
        shard, start, seed: the arguments of `Learner.fit`.
    """
    values = {"action": "fit", "make": dict(make), "classes": shard.classes, "seed": seed}
    arrays = {"images": shard.images, "labels": shard.labels}
    started = {_START + name: array for name, array in (start or {}).items()}
    return values, {**arrays, **started}


def predict_work(make: Values, model: Arrays, images: Images) -> Work:
    """Return the work of predicting the labels of images."""
    started = {_START + name: array for name, array in model.items()}
    return {"action": "predict", "make": dict(make)}, {"images": images, **started}


def perform(
    learner: str, values: Values, arrays: Arrays, progress: Progress, cancelled: Cancelled
) -> Work:
    """Do a piece of work; return what came of it, as values and arrays.

    Raises:
        LearningError: it is no work that this release knows, or the learner can't do it.
    """
    try:
        made = create(learner, values["make"])
        start = {n.removeprefix(_START): a for n, a in arrays.items() if n.startswith(_START)}
        if values["action"] == "predict":
            return {}, {"labels": made.predict(start, arrays["images"])}
        if values["action"] == "fit":
            shard = Shard(arrays["images"], arrays["labels"], values["classes"])
            solution = made.fit(
                shard, start or None, seed=values["seed"], progress=progress, cancelled=cancelled
            )
            return {"examples": solution.examples, **solution.metrics}, dict(solution.arrays)
    except KeyError as error:
        raise LearningError(f"the job lacks {error}; are both sides of one release?") from error
    raise LearningError(f"no action {values['action']!r}; are both sides of one release?")


def fitted(values: Values, arrays: Arrays) -> Solution:
    """Return the solution that `fit_work` led to.

    Raises:
        LearningError: it is none.
    """
    examples = values.get("examples")
    if type(examples) is not int:
        raise LearningError("a solution without a number of examples")
    metrics = {name: float(value) for name, value in values.items() if name != "examples"}
    return Solution(arrays, examples, metrics)


def predicted(parts: Sequence[Arrays], rows: int) -> Labels:
    """Return the labels that pieces of `predict_work`, in order, led to.

    Raises:
        LearningError: they are none, or not so many.
    """
    labels = [part["labels"] for part in parts if "labels" in part and part["labels"].ndim == 1]
    joined = np.concatenate(labels).astype(np.int64) if labels else np.zeros(0, np.int64)
    if len(joined) != rows:
        raise LearningError(f"{len(joined)} labels predicted for {rows} images")
    return joined
