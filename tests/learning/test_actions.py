"""Actions: what nodes answer, honest or not, and what tells one from another."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning import (
    Diverged,
    Layout,
    LearningError,
    Solution,
    Turn,
    UnfitSolution,
    create,
    merging,
)
from learning.actions import Fit, Predict, Trial, digest, perform, under, within
from learning.algebraic.counting import Count
from learning.layout import MOST_ARRAYS, check_fresh
from loaders import Rows

from .common import carry, images, never, silent

ROWS = images(12)
FRESH = {"w": np.zeros((2, 3), np.float32), "n": np.array(0)}
OWN = {"w": np.ones((2, 3), np.float32)}
NEURAL = create("neural", {})
FIT = Fit(rows=ROWS, start=FRESH, seed=1, turn=Turn(), layout=Layout(FRESH))
CLIENT = replace(FIT, strategy=merging.create("scaffold", {}), shared=OWN, own=OWN)
TRIAL = Trial(rows=ROWS, turn=Turn(), strategy=merging.create("mean", {}))


# A solution.


def test_a_solution_is_read_with_its_metrics() -> None:
    solution = FIT.read(NEURAL, {"examples": 12, "loss": 1, "error": 0.5}, FRESH)
    assert solution == Solution(FRESH, 12, {"loss": 1.0, "error": 0.5})
    assert type(solution.metrics["loss"]) is float


def test_a_shards_own_arrays_come_beside_the_model() -> None:
    changed = {"w": np.full((2, 3), 2, np.float32)}
    solution = CLIENT.read(NEURAL, {"examples": 12}, {**FRESH, **under("own", changed)})
    assert solution.arrays.keys() == FRESH.keys()
    assert (solution.client["w"] == 2).all()
    assert (solution.given["w"] == 1).all()
    assert CLIENT.largest(NEURAL) == FIT.largest(NEURAL) + 24 == 24 + 8 + 24


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "without a number of examples"),
        ({"examples": None}, "without a number of examples"),
        ({"examples": 12.0}, "without a number of examples"),
        ({"examples": True}, "without a number of examples"),
        ({"examples": "12"}, "without a number of examples"),
        ({"examples": 11}, "claims 11 examples of a shard of 12"),
        ({"examples": -12}, "claims -12 examples"),
        ({"examples": 10**400}, "examples of a shard of 12"),
        ({"examples": 12, **{f"m{n}": 0 for n in range(33)}}, "33 metrics, more than 32"),
        ({"examples": 12, "x" * 65: 0}, "can't be shown, or is too long"),
        ({"examples": 12, "a\x1b[2J": 0}, "can't be shown, or is too long"),
        ({"examples": 12, "a\nb": 0}, "can't be shown, or is too long"),
        ({"examples": 12, "loss": None}, "'loss' is no number"),
        ({"examples": 12, "loss": True}, "'loss' is no number"),
        ({"examples": 12, "loss": "1"}, "'loss' is no number"),
        ({"examples": 12, "loss": [1.0]}, "'loss' is no number"),
        ({"examples": 12, "loss": b"\0"}, "'loss' is no number"),
        ({"examples": 12, "loss": {}}, "'loss' is no number"),
        ({"examples": 12, "loss": 1e301}, "'loss' is no number that can be"),
        ({"examples": 12, "loss": -1e301}, "'loss' is no number that can be"),
        ({"examples": 12, "loss": 10**400}, "'loss' is no number that can be"),
        ({"examples": 12, "loss": math.nan}, "'loss' is not finite"),
        ({"examples": 12, "loss": math.inf}, "'loss' is not finite"),
    ],
    ids=lambda value: repr(value)[:30].encode("ascii", "replace").decode(),
)
def test_values_that_no_solution_has_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UnfitSolution, match=told):
        FIT.read(NEURAL, values, FRESH)


def test_what_diverged_is_no_lie() -> None:
    """It fails its job in its own words; the node is not held for a liar."""
    for values, arrays in (
        ({"examples": 12, "loss": math.nan}, FRESH),
        ({"examples": 12}, {**FRESH, "w": np.full((2, 3), np.inf, np.float32)}),
    ):
        with pytest.raises(Diverged, match="try a smaller learning rate"):
            FIT.read(NEURAL, values, arrays)
    with pytest.raises(UnfitSolution) as caught:
        FIT.read(NEURAL, {"examples": 3}, FRESH)
    assert not isinstance(caught.value, Diverged)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({}, "given the strategy no part"),
        ({"w": OWN["w"], "x": OWN["w"]}, "not those of what the strategy keeps of a shard: x"),
        (
            {"w": OWN["w"].astype(np.float64)},
            "'w' of what the strategy keeps of a shard is float64",
        ),
        ({"w": OWN["w"][:1]}, r"of shape \(1, 3\)"),
        ({"w": OWN["w"] * np.nan}, "not finite"),
    ],
)
def test_own_arrays_that_no_shard_has_are_refused(own: dict[str, Any], told: str) -> None:
    with pytest.raises(UnfitSolution, match=told):
        CLIENT.read(NEURAL, {"examples": 12}, {**FRESH, **under("own", own)})


def test_own_arrays_that_nobody_asked_for_are_refused() -> None:
    with pytest.raises(UnfitSolution, match="not those of what the strategy keeps of a shard: w"):
        FIT.read(NEURAL, {"examples": 12}, {**FRESH, **under("own", OWN)})


# A fresh model.


@pytest.mark.parametrize(
    ("values", "arrays", "told"),
    [
        ({"loss": 1.0}, FRESH, "more than a fresh model"),
        ({}, {"w": np.array([None])}, "'w' is of object, which can't be kept"),
        ({}, {"w": np.array(["x"])}, "can't be kept"),
        ({}, {"w": np.zeros(2, np.complex64)}, "can't be kept"),
        ({}, {"w": np.zeros(2, "datetime64[s]")}, "can't be kept"),
        ({}, {"w": np.array([np.nan])}, "'w' holds numbers that are not finite"),
        ({}, {"w": np.array(np.inf, np.float16)}, "'w' holds numbers that are not finite"),
    ],
)
def test_a_fresh_model_that_is_none_is_refused(values: Any, arrays: Any, told: str) -> None:
    with pytest.raises(UnfitSolution, match=told):
        TRIAL.read(NEURAL, values, arrays)


def test_a_fresh_model_has_not_endless_arrays() -> None:
    nothing = np.zeros(1)
    check_fresh({str(number): nothing for number in range(MOST_ARRAYS)})
    with pytest.raises(UnfitSolution, match="more than 160 empty arrays"):
        check_fresh({str(number): np.zeros(0) for number in range(161)})
    with pytest.raises(UnfitSolution, match="a name of more than 192 letters"):
        check_fresh({"a" * 193: nothing})
    with pytest.raises(UnfitSolution, match="what a shard's own arrays are called"):
        check_fresh({"own/w": nothing})
    with pytest.raises(UnfitSolution, match="2,601 arrays, more than 2,600"):
        check_fresh({str(number): nothing for number in range(MOST_ARRAYS + 1)})


# Labels.


def predict(rows: Rows = ROWS, loss: bool = True) -> Predict:
    return Predict(rows=rows, model={}, loss=loss)


def test_labels_are_read_with_the_loss() -> None:
    labels = np.arange(12) % 10
    found = predict().read(NEURAL, {"loss": 0.25}, {"labels": labels})
    assert (found.labels == labels).all()
    assert found.loss == 0.25
    assert math.isnan(predict().read(NEURAL, {}, {"labels": labels}).loss)
    nobody = ROWS.of(slice(0, 0))
    assert len(predict(nobody).read(NEURAL, {}, {"labels": labels[:0]}).labels) == 0


GOOD = np.zeros(12, np.int64)


@pytest.mark.parametrize(
    ("values", "arrays", "told"),
    [
        ({}, {}, "no labels for 12 rows"),
        ({}, {"label": GOOD}, "no labels for 12 rows"),
        ({}, {"labels": GOOD[:11]}, "no labels for 12 rows"),
        ({}, {"labels": GOOD.reshape(12, 1)}, "no labels for 12 rows"),
        ({}, {"labels": np.zeros((), np.int64)}, "no labels for 12 rows"),
        ({}, {"labels": GOOD.astype(np.int32)}, "no labels for 12 rows"),
        ({}, {"labels": GOOD.astype(np.float64)}, "no labels for 12 rows"),
        ({}, {"labels": np.array([None] * 12)}, "no labels for 12 rows"),
        ({}, {"labels": GOOD, "more": GOOD}, "more than labels"),
        ({"more": 1}, {"labels": GOOD}, "more than labels"),
        ({}, {"labels": GOOD - 1}, "outside of the 10 classes"),
        ({}, {"labels": GOOD + 10}, "outside of the 10 classes"),
        ({}, {"labels": GOOD + np.iinfo(np.int64).max}, "outside of the 10 classes"),
        ({"loss": None}, {"labels": GOOD}, "the loss is no number"),
        ({"loss": "1"}, {"labels": GOOD}, "the loss is no number"),
        ({"loss": [1.0]}, {"labels": GOOD}, "the loss is no number"),
        ({"loss": True}, {"labels": GOOD}, "the loss is no number"),
        ({"loss": 10**400}, {"labels": GOOD}, "the loss is no number"),
        ({"loss": math.inf}, {"labels": GOOD}, "none that can be"),
        ({"loss": -1e301}, {"labels": GOOD}, "none that can be"),
    ],
)
def test_answers_that_are_no_labels_are_refused(values: Any, arrays: Any, told: str) -> None:
    with pytest.raises(UnfitSolution, match=told):
        predict().read(NEURAL, values, arrays)


# A layout.


def test_a_layout_is_that_of_arrays() -> None:
    layout = Layout(FRESH)
    assert dict(layout) == {"w": ("float32", (2, 3)), "n": ("int64", ())}
    assert (len(layout), layout.nbytes) == (2, 32)
    layout.check({"n": np.array(7), "w": np.ones((2, 3), np.float32)})
    assert Layout({}).nbytes == 0
    Layout({}).check({})
    assert Layout({"e": np.zeros((0, 5))}).nbytes == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"w": None}, "not those of the model: w"),
        ({"more": np.zeros(1)}, "not those of the model: more"),
        (
            {"n": np.zeros(1, np.int64)},
            r"'n' of the model is int64 of shape \(1,\), not int64 of \(\)",
        ),
        ({"n": np.array(0, np.int32)}, "'n' of the model is int32"),
        ({"w": np.zeros((3, 2), np.float32)}, r"of shape \(3, 2\), not float32 of \(2, 3\)"),
        ({"w": np.full((2, 3), -np.inf, np.float32)}, "'w' holds numbers that are not finite"),
    ],
)
def test_arrays_that_are_laid_out_otherwise_are_told(change: Any, told: str) -> None:
    arrays = {name: a for name, a in {**FRESH, **change}.items() if a is not None}
    with pytest.raises(UnfitSolution, match=told):
        Layout(FRESH).check(arrays)


def test_of_many_odd_names_a_few_are_told() -> None:
    with pytest.raises(UnfitSolution) as caught:
        Layout({}).check({f"name{number}": np.zeros(1) for number in range(1000)})
    assert len(str(caught.value)) < 200


# Jobs.


@pytest.mark.parametrize(
    "action", [FIT, CLIENT, TRIAL, predict(), predict(loss=False), Count(rows=ROWS, model=FRESH)],
    ids=["fit", "scaffold", "trial", "evaluate", "predict", "count"],
)  # fmt: skip
def test_an_action_is_unpacked_as_it_was_packed(action: Any) -> None:
    values, arrays = carry(action, {})
    again = type(action).unpack(values, arrays)
    learner = "algebraic" if isinstance(action, Count) else "neural"
    for one, other in ((again, action), (action, again)):
        assert one.pack().values == other.pack().values
        assert one.pack().arrays.keys() == other.pack().arrays.keys()
    assert again.rows.form.fields == ROWS.form.fields
    assert (again.rows.arrays["image"] == ROWS.arrays["image"]).all()
    sees = not isinstance(action, Predict) or action.loss
    assert (again.rows.labels == ROWS.labels).all() == sees  # what is to be predicted stays here
    assert ("label" in arrays) == sees
    moved = replace(action, rows=Rows(ROWS.source, ROWS.split))
    assert digest(learner, {}, moved) == digest(learner, {}, action)


def test_actions_that_differ_anywhere_have_other_digests() -> None:
    def other(**changes: Any) -> str:
        return digest("neural", {}, replace(FIT, **changes))

    twice = {"w": FRESH["w"] + 1, "n": FRESH["n"]}
    digests = [
        other(), other(seed=2), other(turn=Turn(1, 2)), other(turn=Turn(0, 2)),
        other(turn=Turn(0, 1, 5)), other(rows=ROWS.limited(11)), other(start=twice),
        other(start={}), other(start={"w": FRESH["w"]}), other(strategy=CLIENT.strategy),
        digest("neural", {}, CLIENT), digest("neural", {}, replace(CLIENT, own=twice)),
        digest("neural", {}, replace(CLIENT, shared=twice)), digest("neural", {"lr": 1.0}, FIT),
        digest("algebraic", {}, FIT), digest("neural", {}, TRIAL),
        digest("neural", {}, predict()), digest("neural", {}, predict(loss=False)),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert other(layout=Layout({})) == other()  # it is not a part of the job, but a check


def test_names_are_found_under_what_they_were_put() -> None:
    arrays = {"a": np.zeros(1), "b/c": np.ones(1)}
    assert within("x", {**under("x", arrays), **under("xy", arrays), "x": np.zeros(2)}) == arrays
    assert within("x", arrays) == {}


def job(**values: Any) -> dict[str, Any]:
    return {**carry(FIT, {})[0], **values}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"make": None}, "made with options by name"), ({"make": 3}, "options by name"),
        ({"make": {"depth": 3}}, "takes no depth"), ({"turn": None}, "not a turn"),
        ({"turn": 3}, "not a turn"), ({"turn": {"when": 1}}, "not a turn"),
        ({"turn": {"round": 1, "rounds": 1}}, "round is 1"),
        ({"turn": {"rounds": 0}}, "rounds is 0"),
        ({"turn": {"rounds": True}}, "rounds is True"), ({"turn": {"initial_seed": -1}}, "is -1"),
        ({"seed": None}, "seed is None"), ({"seed": 1 << 65}, "seed is"),
        ({"seed": 1.5}, "seed is"),
        ({"merge": None}, "not a strategy"),
        ({"merge": {"name": "mean", "made": 3}}, "not a strat"),
        ({"merge": {"name": "mean"}}, "lacks 'made'"), ({"merge": {"made": {}}}, "lacks 'name'"),
        ({"merge": {"name": "middle", "made": {}}}, "is called 'middle'"),
        ({"merge": {"name": "mean", "made": {"x": 1}}}, "takes no x"),
        ({"form": None}, "the rows of the job are none: not a form"),
        ({"form": {"fields": {}, "classes": 10}}, "rows of the job are none: .*fields"),
        ({"action": "count"}, "no action 'count'"), ({"action": None}, "no action None"),
        ({"action": "x" * 10**6}, "no action 'xxx"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_jobs_that_ask_for_nothing_that_can_be_are_refused_in_words(
    values: dict[str, Any], told: str
) -> None:
    arrays = carry(FIT, {})[1]
    with pytest.raises(LearningError, match=told) as caught:
        perform("neural", job(**values), arrays, silent, never)
    assert len(str(caught.value)) < 500
    for name in values.keys() - {"merge"}:
        lacking = job()
        del lacking[name]
        if name in ("turn", "seed", "form", "action", "make"):
            with pytest.raises(LearningError, match=f"lacks '{name}'"):
                perform("neural", lacking, arrays, silent, never)


@pytest.mark.parametrize("name", ["label", "row/image"])
def test_jobs_without_rows_are_refused_in_words(name: str) -> None:
    values, arrays = carry(FIT, {})
    del arrays[name]
    with pytest.raises(LearningError, match="lacks 'label'|rows of the job are none"):
        perform("neural", values, arrays, silent, never)
