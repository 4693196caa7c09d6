"""What the first release called data and jobs: digests that it made, of equal data and jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning import Turn, merging
from learning.actions import Fit, Predict, Trial
from learning.algebraic.counting import Count
from learning.first import data_digest, job_digest
from loaders import ArraySource, Field, Form, Numbered, Rows
from loaders.rows import Arrays

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 28, 20), dtype=np.uint8)
LABELS = RANDOM.integers(0, 10, 6)
START: Arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7], np.uint16)}
MAKE = {"epochs": 2, "lr": 0.02}
TURN = Turn(1, 3, 5)


def rows(name: str = "image") -> Rows:
    form = Form({name: Field("uint8", (28, 20))}, Numbered(10))
    return Rows(ArraySource("any", form, {"all": ({name: IMAGES}, LABELS)}), "all")


def test_data_is_called_what_it_was() -> None:
    assert data_digest(rows()) == "f23a29dd3a6bc6d230e034be2156cfa7"
    assert data_digest(rows().of(np.arange(6))) == data_digest(rows())
    assert data_digest(rows("photo")) == ""  # which it could not have had


FIT = Fit(rows=rows(), start=START, seed=9, turn=TURN)


@pytest.mark.parametrize(
    ("learner", "action", "digest"),
    [
        ("neural", FIT, "c7ea1fdd6c3dfb45533bc853da95e29a"),
        # A fresh model was made at each node, and did not go with its job.
        ("neural", replace(FIT, turn=Turn(0, 3, 5)), "83b66953704be6aedcae597fd521d9e8"),
        ("neural", replace(FIT, turn=Turn(0, 3, 5), start={}), "83b66953704be6aedcae597fd521d9e8"),
        (
            "algebraic", Predict(rows=rows(), model=START, loss=False),
            "de960ded6b3f73227c5436355dc1e449",
        ),
        (
            "neural", Predict(rows=rows(), model=START, loss=True),
            "dc8f0a0db344f0df3416000aff538406",
        ),
        ("algebraic", Count(rows=rows(), model=START), "f7769d088ec48660dc2d26a095346d09"),
    ],
)  # fmt: skip
def test_jobs_are_called_what_they_were(learner: str, action: Any, digest: str) -> None:
    assert job_digest(learner, MAKE, action) == digest
    moved = replace(action, rows=rows().of(np.arange(6)))
    assert job_digest(learner, MAKE, moved) == digest
    assert job_digest(learner, {**MAKE, "lr": 0.03}, action) != digest
    assert job_digest(learner, MAKE, replace(action, rows=rows().limited(5))) != digest


@pytest.mark.parametrize(
    "action",
    [
        replace(FIT, strategy=merging.create("scaffold", {})),
        replace(FIT, rows=rows("photo")),
        Trial(rows=rows(), turn=TURN, strategy=merging.create("mean", {})),
    ],
)
def test_what_it_had_not_has_no_name(action: Any) -> None:
    assert job_digest("neural", MAKE, action) == ""
