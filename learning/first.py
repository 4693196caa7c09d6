"""What the first release called data and jobs: so that what it began can go on.

It took digests over all bytes that a job carried, and made fresh models at each node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import xxhash

from loaders.rows import Arrays, Rows, bytes_of

from .actions import Action, Fit, Predict

_IMAGE = "image"


def data_digest(rows: Rows) -> str:
    """Return what the first release called some rows; nothing if it could not have had them."""
    if set(rows.form.fields) != {_IMAGE}:
        return ""
    images = rows.arrays[_IMAGE]
    hash_ = xxhash.xxh3_128(f"{images.shape} {rows.classes}".encode())
    hash_.update(bytes_of(images))
    hash_.update(bytes_of(rows.labels))
    return hash_.hexdigest()


def job_digest(learner: str, make: Mapping[str, object], action: Action) -> str:
    """Return what the first release called a job; nothing if it had none such."""
    rows: Rows | None = getattr(action, "rows", None)
    if rows is None or set(rows.form.fields) != {_IMAGE}:
        return ""
    arrays = {"images": rows.arrays[_IMAGE]}
    if isinstance(action, Fit):
        if action.strategy is not None:
            return ""
        start = action.start if action.turn.round else {}
        values = {
            "action": "fit", "make": {**make, **asdict(action.turn)}, "classes": rows.classes,
            "seed": action.seed,
        }  # fmt: skip
        arrays["labels"] = rows.labels
    elif isinstance(action, Predict):
        start = action.model
        values = {"action": "evaluate" if action.loss else "predict", "make": dict(make)}
        if action.loss:
            arrays["labels"] = rows.labels
    elif action.name == "count":
        start = getattr(action, "model", {})
        values = {"action": "count", "make": dict(make), "classes": rows.classes}
        arrays["labels"] = rows.labels
    else:
        return ""
    return _digest(learner, values, {**arrays, **{f"start/{n}": a for n, a in start.items()}})


def _digest(learner: str, values: Mapping[str, object], arrays: Arrays) -> str:
    hash_ = xxhash.xxh3_128(json.dumps([learner, values], sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        hash_.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        hash_.update(bytes_of(array))
    return hash_.hexdigest()
