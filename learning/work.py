"""A piece of learning as plain values and named arrays, so that any transport can carry it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from .base import (
    Arrays,
    Cancelled,
    CountingMerger,
    Images,
    Labels,
    Learner,
    LossLearner,
    Progress,
    Shard,
    Solution,
    check_parameters,
)
from .errors import Diverged, LearningError, UnfitSolution
from .registry import create, merger, tells_loss

_START = "start/"
#: Metrics of a solution; more, or such as can't be shown, are none.
_MOST_METRICS, _METRIC_LETTERS = 32, 64
_MOST = 1e300
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


def evaluate_work(
    learner: str, make: Values, model: Arrays, images: Images, labels: Labels
) -> Work:  # fmt: skip
    """Return the work of predicting the labels of images, and of the loss where there is one."""
    values, arrays = predict_work(make, model, images)
    if not tells_loss(learner):
        return values, arrays
    return {**values, "action": "evaluate"}, {**arrays, "labels": labels}


def count_work(make: Values, shard: Shard, model: Arrays) -> Work:
    """Return the work of counting for a merged model in a shard (`CountingMerger.count`)."""
    values = {"action": "count", "make": dict(make), "classes": shard.classes}
    started = {_START + name: array for name, array in model.items()}
    return values, {"images": shard.images, "labels": shard.labels, **started}


def digest(learner: str, work: Work) -> str:
    """Return what tells a piece of work from every other: xxh3-128 over all of it, in hex."""
    values, arrays = work
    hash_ = xxhash.xxh3_128(json.dumps([learner, values], sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        hash_.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        hash_.update(array.reshape(-1).view(np.uint8).data)
    return hash_.hexdigest()


def perform(
    learner: str, values: Values, arrays: Arrays, progress: Progress, cancelled: Cancelled
) -> Work:
    """Do a piece of work; return what came of it, as values and arrays.

    Raises:
        LearningError: it is no work that this release knows, or the learner can't do it.
    """
    try:
        start = {n.removeprefix(_START): a for n, a in arrays.items() if n.startswith(_START)}
        if values["action"] == "count":
            shard = _shard(values, arrays)
            return {}, {"counts": _counting(learner).count(start, shard)}
        made = create(learner, values["make"])
        if values["action"] == "predict":
            return {}, {"labels": made.predict(start, arrays["images"])}
        if values["action"] == "evaluate":
            return _evaluate(made, start, arrays)
        if values["action"] == "fit":
            shard = _shard(values, arrays)
            check_parameters(seed=(values["seed"], 0, 1 << 64))
            solution = made.fit(
                shard, start or None, seed=values["seed"], progress=progress, cancelled=cancelled
            )
            return {"examples": solution.examples, **solution.metrics}, dict(solution.arrays)
    except KeyError as error:
        raise LearningError(f"the job lacks {error}; are both sides of one release?") from error
    raise LearningError(f"no action {values['action']!r}; are both sides of one release?")


def _evaluate(made: Learner, model: Arrays, arrays: Arrays) -> Work:
    if not isinstance(made, LossLearner):
        raise LearningError(f"learner {made.name!r} tells no loss")
    labels, loss = made.evaluate(model, arrays["images"], arrays["labels"])
    return {"loss": loss} if math.isfinite(loss) else {}, {"labels": labels}


def _shard(values: Values, arrays: Arrays) -> Shard:
    """Return the rows of a job, from whomever it came.

    Raises:
        LearningError: they are none.
    """
    images, labels, classes = arrays["images"], arrays["labels"], values["classes"]
    check_parameters(classes=(classes, 1, 1 << 32))
    if images.dtype != np.uint8 or images.ndim != 3:
        raise LearningError(f"images are {images.dtype} of shape {images.shape}, not uint8, 3-D")
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise LearningError(f"labels are {labels.dtype} of shape {labels.shape}, not one an image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise LearningError(f"labels from {labels.min()} to {labels.max()} of {classes} classes")
    return Shard(images, labels, classes)


def _counting(learner: str) -> CountingMerger:
    found = merger(learner)
    if not isinstance(found, CountingMerger):
        raise LearningError(f"learner {learner!r} counts nothing")
    return found


def fitted(values: Values, arrays: Arrays) -> Solution:
    """Return the solution that `fit_work` led to.

    Raises:
        UnfitSolution: it is none.
    """
    examples = values.get("examples")
    if type(examples) is not int:
        raise UnfitSolution("a solution without a number of examples")
    numbers = {name: value for name, value in values.items() if name != "examples"}
    if len(numbers) > _MOST_METRICS:
        raise UnfitSolution(f"{len(numbers)} metrics, more than {_MOST_METRICS}")
    for name, value in numbers.items():
        if len(name) > _METRIC_LETTERS or not name.isprintable():
            raise UnfitSolution("a metric's name that can't be shown, or is too long")
        if type(value) not in (int, float) or _MOST < abs(value) < math.inf:
            raise UnfitSolution(f"metric {name!r} is no number, or none that can be")
        if not math.isfinite(value):
            raise Diverged(
                f"metric {name!r} is not finite: its training diverged; try a smaller learning rate"
            )
    return Solution(arrays, examples, {name: float(value) for name, value in numbers.items()})


def predicted(values: Values, arrays: Arrays, rows: int, classes: int) -> Labels:
    """Return the labels that `predict_work` led to.

    Raises:
        UnfitSolution: they are none, or not so many, or not of these classes.
    """
    labels = arrays.get("labels")
    if labels is None or labels.dtype != np.int64 or labels.shape != (rows,):
        raise UnfitSolution(f"no labels for {rows} images")
    if values or len(arrays) > 1:
        raise UnfitSolution("more than labels")
    if rows and not 0 <= labels.min() <= labels.max() < classes:
        raise UnfitSolution(f"labels outside of the {classes} classes")
    return labels


def evaluated(values: Values, arrays: Arrays, rows: int, classes: int) -> tuple[Labels, float]:
    """Return the labels, and the mean loss if there is one, else NaN, of `evaluate_work`.

    Raises:
        UnfitSolution: they are none.
    """
    loss = values.get("loss", math.nan)
    if type(loss) is not float or abs(loss) > _MOST:
        raise UnfitSolution("the loss is no number, or none that can be")
    others = {name: value for name, value in values.items() if name != "loss"}
    return predicted(others, arrays, rows, classes), loss


def counted(
    values: Values, arrays: Arrays, merger_: CountingMerger, model: Arrays, rows: int
) -> npt.NDArray[np.int64]:
    """Return the counts that `count_work` led to.

    Raises:
        UnfitSolution: they are none of this model and of so many rows.
    """
    if values or arrays.keys() != {"counts"}:
        raise UnfitSolution("not counts, and nothing else")
    merger_.check_counts(arrays["counts"], model, rows)
    return arrays["counts"]
