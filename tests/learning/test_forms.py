"""Learners by the form of the data: what is taken, how it is standardised, how large nets are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import ModelError, Solution, Turn, UnfitData, UnfitSolution, create
from learning.actions import TRIAL_ROWS, Fit, Trial, perform
from learning.algebraic.embedding import ImageEmbedding, Numeric, TableEmbedding, shifted
from learning.algebraic.errors import ContradictionError
from learning.algebraic.model import from_arrays
from learning.algebraic.telling import explain
from learning.errors import told_of
from learning.forms import MOST_COLUMNS, Picture, Table, taken
from learning.layout import Layout
from learning.merging import WeightedMean, merge
from learning.merging import create as strategy
from learning.model import sha256
from learning.neural.presets import Recipe
from learning.neural.shapes import (
    MOST_WEIGHTS,
    dense_weights,
    normed_of,
    shape_at_full_length,
    shape_of,
)
from learning.whole import bounds, check_numbers, moments, standardised
from loaders import ArraySource, CorruptDataset, Field, Form, Numbered, Rows

from .common import carry, fitted, images, never, silent

pytestmark = pytest.mark.usefixtures("compiled")


def form_of(shape: tuple[int, ...], dtype: str = "uint8", classes: int = 3) -> Form:
    return Form({"field": Field(dtype, shape)}, Numbered(classes))


def rows_of(array: np.ndarray, labels: Any = None, classes: int = 3) -> Rows:
    """Return rows of one field, by default of classes that their first number tells."""
    if labels is None:
        flat = np.nan_to_num(array.reshape(len(array), -1)[:, 0].astype(np.float64))
        labels = np.argsort(np.argsort(flat, kind="stable")) * classes // len(array)
    form = form_of(array.shape[1:], array.dtype.name, classes)
    return Rows(ArraySource("made", form, {"all": ({"field": array}, np.asarray(labels))}), "all")


def begun(name: str, rows: Rows, **make: Any) -> Any:
    learner = create(name, make, Turn())
    learner.check_form(rows.form)
    learner.check_data(rows)
    return learner.begin(learner.initial(rows.form), rows)


# What is taken.


@pytest.mark.parametrize("name", ["neural", "algebraic"])
@pytest.mark.parametrize(
    "form",
    [
        form_of(()), form_of((3, 4, 5)), form_of((2, 2, 2, 2)), form_of((0, 4)), form_of((0,)),
        Form({"a": Field("uint8", (3,)), "b": Field("uint8", (3,))}, Numbered(2)),
        Form({}, Numbered(2)),
    ],
    ids=lambda form: repr([each.shape for each in form.fields.values()]),
)  # fmt: skip
def test_rows_of_other_forms_are_refused_and_what_is_taken_is_said(name: str, form: Form) -> None:
    with pytest.raises(UnfitData, match=rf"the {name} learner takes pictures .* and tables"):
        create(name, {}).check_form(form)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (form_of((5000, 4000)), "pictures of up to 16,777,216 numbers; these have 20,000,000"),
        (form_of((MOST_COLUMNS + 1,)), "tables of up to 65,536 columns; .* is field: uint8 65537"),
        (form_of((1 << 50,)), "is field: uint8 1125899906842624"),
        (form_of((28, 28), classes=1 << 32), "net would have .* weights .* is the most"),
    ],
)
def test_rows_that_are_too_large_are_refused_in_words(form: Form, told: str) -> None:
    with pytest.raises(UnfitData, match=told):
        create("neural", {}).check_form(form)


def test_what_rows_are_is_known_from_their_form() -> None:
    assert taken(form_of((4, 5)), "x") == Picture("uint8", 4, 5, 1)
    assert taken(form_of((4, 5, 3), "float32"), "x") == Picture("float32", 4, 5, 3)
    assert taken(form_of((2,), "float64"), "x") == Table("float64", ("column 0", "column 1"))


def test_columns_have_the_names_that_the_form_gives_them() -> None:
    form = Form({"row": Field("float64", (2,), ("width", "height"))}, Numbered(2))
    assert taken(form, "x") == Table("float64", ("width", "height"))


# All of the data.


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 10**6), st.floats(-200, 200))
def test_moments_are_numpys_whatever_is_missing(
    count: int, columns: int, seed: int, exponent: float
) -> None:
    random = np.random.default_rng(seed)
    array = random.normal(3, 1, (count, columns)) * 10.0**exponent
    array[random.random(array.shape) < 0.2] = np.nan
    mean, deviation = moments(rows_of(array, np.zeros(count, np.int64)))
    for column, own, spread in zip(array.T, mean, deviation, strict=True):
        there = np.clip(column[~np.isnan(column)], -1e140, 1e140)
        assert np.isfinite([own, spread]).all()
        if len(there):
            assert own == pytest.approx(there.mean(), rel=1e-9)
            assert spread == pytest.approx(there.std(), rel=1e-7, abs=1e-12 * abs(own))
        else:
            assert (own, spread) == (0, 0)
    numbers = standardised(array, mean, deviation)
    assert np.abs(numbers).max() <= 10
    assert not np.isnan(numbers).any()
    assert (numbers[np.isnan(array)] == 0).all()


def test_blocks_do_not_show_in_moments_but_rows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).normal(1e9, 1, (1000, 7))
    array[:, 3] = 0.1
    one = moments(rows_of(array))
    monkeypatch.setattr("learning.whole._TOGETHER", 100)
    many = moments(rows_of(array))
    np.testing.assert_allclose(many, one, rtol=1e-11, atol=1e-12)
    assert (one[0][3], one[1][3], many[1][3]) == (0.1, 0, 0)
    assert (standardised(array, *one)[:, 3] == 0).all()
    assert (standardised(array + 5, *one)[:, 3] == 0).all()  # nothing is known of that
    assert bounds(rows_of(array)) == (array.min(), array.max())


def test_channels_have_moments_of_their_own() -> None:
    array = np.random.default_rng(0).integers(0, 60_000, (9, 4, 3, 2)).astype(np.uint16)
    mean, deviation = moments(rows_of(array))
    np.testing.assert_allclose(mean, array.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(deviation, array.std(axis=(0, 1, 2)))
    made = standardised(array, mean, deviation)
    assert (made.shape, made.dtype.name) == (array.shape, "float32")
    assert abs(made.mean()) < 1e-6


def test_numbers_beyond_all_measure_stay_finite() -> None:
    array = np.array([[1e308, 5e-324], [-1.7e308, 0.0], [1e300, 1e-320]])
    mean, deviation = moments(rows_of(array))
    assert np.isfinite([mean, deviation]).all()
    for numbers in (array, np.array([[np.inf, -np.inf]]), np.array([[1.7e308, 1.0]])):
        assert np.isfinite(standardised(numbers, mean, deviation)).all()


@pytest.mark.parametrize("name", ["neural", "algebraic"])
def test_numbers_that_are_not_finite_are_refused_where_they_are(name: str) -> None:
    learner = create(name, {})
    table = np.random.default_rng(0).random((30, 4))
    table[3, 1] = np.nan
    learner.check_data(rows_of(table))
    table[17, 2] = -np.inf
    with pytest.raises(UnfitData, match=r"column 'column 2': row 17 .* has -inf in it"):
        learner.check_data(rows_of(table))
    with pytest.raises(UnfitData, match=r"row 17 \("):
        learner.check_data(rows_of(table).of(np.arange(10, 30)))
    with pytest.raises(UnfitData, match="row 3 .*: one of its pixels is nan"):
        learner.check_data(rows_of(table.reshape(30, 2, 2)))
    check_numbers(rows_of(np.full((2, 3), 7)), None)


def test_rows_that_can_not_be_read_are_the_datas_fault() -> None:
    """Found here: they were told as the learner's, with another exit code."""
    with pytest.raises(CorruptDataset), told_of("the learner can't say"):
        raise CorruptDataset("rows.bin: cut short")


# Nets.


def first_release(height: int, width: int, classes: int) -> dict[str, Any]:
    """Return the weights that the first release began with."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    left = [((length - 4) // 2 - 4) // 2 for length in (height, width)]
    parts = {
        "conv1": nn.Conv2d(1, 16, 5), "conv2": nn.Conv2d(16, 32, 5),
        "dense1": nn.Linear(32 * left[0] * left[1], 128), "dense2": nn.Linear(128, classes),
    }  # fmt: skip
    return {
        f"{name}.{each}": tensor.numpy()
        for name, part in parts.items() for each, tensor in part.state_dict().items()
    }  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(28, 28), (16, 16), (17, 90), (200, 30)])
def test_grey_pictures_of_bytes_have_the_net_that_they_always_had(height: int, width: int) -> None:
    form = form_of((height, width))
    neural = create("neural", {"preset": "first"})
    fresh = neural.initial(form)
    assert sha256(fresh) == sha256(first_release(height, width, 3))
    shape = shape_of(form)
    assert (shape.kernel, shape.pools, shape.shifts) == (5, ((2, 2), (2, 2)), (2, 2))
    assert neural.begin(fresh, rows_of(np.zeros((3, height, width), np.uint8))) is fresh


def test_pictures_are_shifted_as_they_always_were() -> None:
    from learning.neural.feeding import Course, moved

    pixels = np.random.default_rng(1).integers(1, 256, (2, 20, 20), dtype=np.uint8)
    first = Recipe(first=True, rounds=1, epochs=1, batch_size=2, lr=1)
    for seed in range(20):
        random = np.random.default_rng(seed)
        order = random.permutation(2)
        y, x = random.integers(0, 5, 2) - 2
        (epoch,) = Course(2, (2, 2), first, False).epochs(np.random.default_rng(seed))
        assert (epoch.order == order).all()
        assert epoch.down is not None
        assert epoch.right is not None
        found = moved(pixels, (2, 2), epoch.down, epoch.right)
        wanted = np.zeros_like(pixels)
        wanted[:, max(0, -y) : 20 - max(0, y), max(0, -x) : 20 - max(0, x)] = pixels[
            :, max(0, y) : 20 + min(0, y), max(0, x) : 20 + min(0, x)
        ]
        assert (found == wanted).all()
    (still,) = Course(2, (2, 2), first, True).epochs(np.random.default_rng(0))
    assert still.down is None
    assert [shape_of(form_of((side, 28, 3))).shifts for side in (7, 8, 15, 16, 224)] == [
        (0, 2), (1, 2), (1, 2), (2, 2), (8, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ((1, 1), "uint8"), ((1, 1, 4), "uint8"), ((8, 8), "uint8"), ((2, 40), "uint8"),
        ((15, 16, 3), "uint8"), ((32, 32, 3), "uint8"), ((65, 64, 3), "uint8"),
        ((300, 200), "uint16"), ((1, 3000), "int8"), ((28, 28, 1), "uint8"),
        ((9, 9), "float64"), ((9, 9), "bool"), ((20, 20, 2), "float16"), ((5,), "int64"),
        ((1,), "float64"), ((700,), "float32"),
    ],
)  # fmt: skip
def test_a_net_of_every_form_learns_merges_and_predicts(size: tuple[int, ...], dtype: str) -> None:
    random = np.random.default_rng(0)
    array = random.integers(0, 2 if dtype == "bool" else 100, (24, *size)).astype(dtype)
    rows = rows_of(array, random.integers(0, 3, 24))
    start = begun("neural", rows)
    layout, parts = Layout(start), []
    for seed, some in enumerate(rows.parts(3)):
        solution = fitted("neural", some, {"epochs": 2}, seed, start, Turn(1, 2))
        create("neural", {}).check(solution, layout, rows.form)
        parts.append(solution)
    model = WeightedMean().merge(parts).model
    for name in {"mean", "deviation"} & start.keys():
        assert model[name].tobytes() == start[name].tobytes()
    learner = create("neural", {})
    likely = learner.probabilities(model, rows)
    assert likely is not None
    assert likely.shape == (24, 3)
    labels, loss = learner.evaluate(model, rows)
    assert (labels == likely.argmax(axis=1)).all()
    assert np.isfinite(loss)
    table, inputs = len(size) == 1, shape_of(rows.form).inputs
    most = dense_weights(inputs, 128, 3) if table else normed_of(rows.form, 32).weights(3)
    assert sum(a.size for a in model.values()) < most + 3000


def test_nets_do_not_grow_with_pictures() -> None:
    small, large = (shape_of(form_of((side, side, 3))) for side in (64, 1200))
    assert large.features <= small.features == 32 * 13 * 13
    assert (shape_of(form_of((224, 224, 3))).shorter, large.shorter) == ((4, 4), (19, 19))
    assert shape_of(form_of((271, 271))).shorter == (1, 1)  # as ever
    assert shape_of(form_of((600, 600))).shorter == (10, 10)
    assert shape_of(form_of((4, 200))).features < 10_000
    assert dense_weights(5, 128, 1 << 20) <= MOST_WEIGHTS


def test_a_model_of_large_pictures_from_an_earlier_release_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("learning.neural.shapes._FULL_LENGTH", 1 << 16)
    rows = images(4, side=100)
    old = first_release(100, 100, 10)
    assert shape_at_full_length(rows.form) != shape_of(rows.form)
    learner = create("neural", {"epochs": 1, "preset": "first"})
    assert len(learner.predict(old, rows)) == 4
    solution = learner.fit(rows, old, seed=0, progress=silent, cancelled=never)
    assert Layout(solution.arrays) == Layout(old)
    fresh = learner.initial(rows.form)
    assert fresh["dense1.weight"].size < old["dense1.weight"].size
    learner.predict(fresh, rows)


def test_a_model_of_other_columns_is_refused_in_words() -> None:
    rows = rows_of(np.random.default_rng(0).random((9, 4)))
    model = begun("neural", rows)
    with pytest.raises(ModelError, match="does not fit rows of so many columns"):
        create("neural", {}).predict(model, rows_of(np.zeros((2, 5))))
    with pytest.raises(ModelError, match="does not fit"):
        create("neural", {}).predict({n: model[n] for n in model if n != "mean"}, rows)


def test_a_solution_that_changes_what_the_data_says_is_refused() -> None:
    rows = rows_of(np.random.default_rng(0).random((9, 4)))
    start, neural = begun("neural", rows), create("neural", {})
    asked = Fit(rows=rows, start=start, seed=1, turn=Turn(), layout=Layout(start))
    values, arrays = perform("neural", *carry(asked, {"epochs": 1}), silent, never)
    asked.read(neural, values, arrays)
    with pytest.raises(UnfitSolution, match="its mean of the data is not what it began with"):
        asked.read(neural, values, {**arrays, "mean": arrays["mean"] + 1})


# The mean of what is equal.


@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=5),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=7),
)
def test_the_mean_of_equal_arrays_is_each_to_the_bit(
    numbers: list[float], examples: list[int]
) -> None:
    array, other = np.array(numbers), np.random.default_rng(0).random(3)
    solutions = [
        Solution({"same": array.copy(), "other": other * count}, count) for count in examples
    ]
    mean = WeightedMean().merge(solutions).model
    assert mean["same"].tobytes() == array.tobytes()
    wanted = other * sum(count**2 for count in examples) / sum(examples)
    np.testing.assert_allclose(mean["other"], wanted)


# The trial.


@pytest.mark.parametrize("name", ["neural", "algebraic"])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_a_trial_begins_with_its_own_rows(name: str, scale: float) -> None:
    rows = rows_of(np.random.default_rng(0).normal(5, 1, (TRIAL_ROWS, 3)) * scale)
    trial = Trial(rows=rows, turn=Turn(), strategy=strategy(create(name, {}).merging, {}))
    learner = create(name, {})
    answer = trial.perform(learner, silent, never)
    fresh = trial.read(learner, *answer)
    assert set(fresh) == set(learner.initial(rows.form))


def test_a_trial_says_that_data_can_not_be_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> None:
        raise ContradictionError("these rows say nothing")

    monkeypatch.setattr("learning.neural.learner.NeuralLearner.begin", begin)
    trial = Trial(rows=images(3), turn=Turn(), strategy=strategy("mean", {}))
    with pytest.raises(UnfitData, match="^these rows say nothing$") as caught:
        trial.perform(create("neural", {}), silent, never)
    assert type(caught.value) is UnfitData


# Atoms.


def algebraic(rows: Rows, **make: Any) -> tuple[Any, Solution]:
    """Return a model that was begun, and what comes of learning from all rows."""
    start = begun("algebraic", rows, **make)
    solution = fitted("algebraic", rows, {"batches": 4, **make}, 1, start)
    learner = create("algebraic", make)
    read = Fit(rows=rows, start=start, seed=1, turn=Turn(), layout=Layout(start)).read(
        learner, {"examples": len(rows)}, solution.arrays
    )
    return start, read


def test_atoms_of_a_table_have_the_thresholds_of_all_its_rows() -> None:
    random = np.random.default_rng(0)
    array = random.normal(0, 1, (200, 4))
    labels = (array[:, 0] > 0.3).astype(np.int64) + (array[:, 2] > 1)
    array[random.random(array.shape) < 0.05] = np.nan
    rows = rows_of(array, labels)
    start, solution = algebraic(rows)
    assert len(start["sizes"]) == 0
    half = fitted("algebraic", rows.of(slice(0, 100)), {"batches": 4}, 2, start)
    for name in ("table", "levels", "missing", "thresholds"):
        assert (
            solution.arrays[name].tobytes() == start[name].tobytes() == half.arrays[name].tobytes()
        )
    merged = merge(strategy("union", {}), [solution, half], start, {}).model
    found = create("algebraic", {}).predict(merged, rows)
    assert np.mean(found == labels) > 0.9
    model = from_arrays(merged, names=("a", "b", "c", "d"))
    assert model.is_of(rows.form)
    told = explain(model, array[0], ["x", "y", "z"])
    assert told["label"] == found[0]
    assert " has a " in str(told) or " has c " in str(told)


def test_atoms_of_other_thresholds_are_refused() -> None:
    rows = rows_of(np.random.default_rng(0).random((40, 3)))
    start, _ = algebraic(rows)
    odd = fitted(
        "algebraic", rows, {"batches": 2, "levels": 2}, 1, begun("algebraic", rows, levels=2)
    )
    fit = Fit(rows=rows, start=start, seed=1, turn=Turn(), layout=Layout(start))
    with pytest.raises(UnfitSolution, match="other data, thresholds or classes"):
        fit.read(create("algebraic", {}), {"examples": 40}, odd.arrays)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"table": np.array([3], np.uint32)}, "'table' is missing, or not"),
        ({"table": np.array([4, 3], np.uint32)}, "'levels' is missing, or not"),
        ({"table": np.array([3, 0], np.uint32)}, "no classes"),
        ({"levels": np.array([1, 1, 1], np.uint32)}, "'thresholds' is missing, or not"),
        ({"levels": np.array([2**32 - 1] * 3, np.uint32)}, "'thresholds' is missing, or not"),
        ({"missing": np.array([0, 1, 0])}, "'missing' is missing, or not"),
        ({"thresholds": np.zeros(48)}, "thresholds"),
        ({"image": np.array([3, 3, 3, 1], np.uint16), "table": None}, "one channel is told"),
    ],
)
def test_arrays_that_are_no_model_of_a_table_are_told(change: Any, told: str) -> None:
    start = begun("algebraic", rows_of(np.random.default_rng(0).random((40, 3))))
    assert len(start["thresholds"]) == 48
    arrays = {name: a for name, a in {**start, **change}.items() if a is not None}
    with pytest.raises(ModelError, match=told):
        from_arrays(arrays if "image" not in change else {**arrays, "thresholds": np.ones(1)})


@pytest.mark.parametrize("learner", ["neural", "algebraic"])
@pytest.mark.parametrize(("most", "dim"), [(1, True), (15, True), (127, True), (128, False)])
def test_dim_pictures_of_bytes_are_taken_by_their_own_range(
    learner: str, most: int, dim: bool
) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    array = (random.random((200, 8, 8)) < 0.2).astype(np.uint8) * np.uint8(most)
    array[np.arange(200), labels * 3] = most
    rows = rows_of(array, labels)
    start = begun(learner, rows)
    assert bool(start.keys() & {"mean", "thresholds"}) == dim
    make = {"epochs": 8} if learner == "neural" else {"batches": 10}
    solution = fitted(learner, rows, make, start=start)
    solution = replace(solution, start=start)
    create(learner, make).check(solution, Layout(start or solution.arrays), rows.form)
    assert np.mean(create(learner, make).predict(solution.arrays, rows) == labels) > 0.6


def test_pictures_that_are_all_black_are_refused() -> None:
    rows = rows_of(np.zeros((6, 4, 4), np.uint8), np.arange(6) % 3)
    with pytest.raises(UnfitData, match="every pixel of these images is 0"):
        begun("algebraic", rows)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((6, 5, 3), "uint8"), ((6, 5), "uint16"), ((4, 4, 2), "float32"), ((5, 5, 1), "uint8")],
)
def test_atoms_of_pictures_of_every_kind(shape: tuple[int, ...], dtype: str) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 150)
    array = random.integers(0, 60, (150, *shape)) - 100.0 * (dtype == "float32")
    array[np.arange(150), labels] += 150
    rows = rows_of(array.astype(dtype), labels)
    start, solution = algebraic(rows, shifts=1)
    assert bool(start) == (dtype != "uint8")
    made = from_arrays(solution.arrays)
    assert made.is_of(rows.form)
    learner = create("algebraic", {})
    assert np.mean(learner.predict(solution.arrays, rows) == labels) > 0.7
    told = str(explain(made, rows.arrays["field"][0], ["x", "y", "z"]))
    assert ("red on" in told or "red off" in told or "blue" in told) == (shape[2:] == (3,))


def test_rows_that_contradict_each_other_are_named_in_every_form() -> None:
    array = np.random.default_rng(0).random((20, 40))
    array[4, 1] = np.nan
    array[17] = array[4]
    for data in (array, np.nan_to_num(array).reshape(20, 8, 5)):
        with pytest.raises(ContradictionError, match="rows 4 and 17 "):
            create("algebraic", {}).check_data(rows_of(data, np.arange(20), 20))


def test_numbers_that_are_all_the_same_are_refused() -> None:
    learner = create("algebraic", {})
    with pytest.raises(UnfitData, match="from 3 to 3, and can't be told apart"):
        learner.check_data(rows_of(np.full((4, 2, 2), 3.0)))
    with pytest.raises(UnfitData, match="every column has one value only"):
        learner.check_data(rows_of(np.full((4, 2), 3.0)))


def test_what_is_missing_has_a_constant_and_is_above_nothing() -> None:
    column = Numeric((1.0, 2.0), missing=True)
    bits = column.bits(np.array([np.nan, 1.5]))
    assert bits.astype(int).tolist() == [[0, 0, 1, 1, 1, 0], [1, 0, 0, 1, 0, 1]]
    assert [column.name(k) for k in (0, 3, 4, 5)] == ["> 1", "<= 2", "is missing", "is there"]
    table = np.array([[np.nan, 1.0], [np.nan, 2.0], [1.0, 1.0]])
    embedding = TableEmbedding.of(table, np.arange(3), missing=True)
    assert len({row.tobytes() for row in embedding.bits(table)}) == 3
    with pytest.raises(ValueError, match="column 0: a value is missing"):
        TableEmbedding.of(table, np.arange(3))


def test_pixels_of_colours_are_told_by_channel() -> None:
    embedding = ImageEmbedding.of_levels(2, 3, 1, 3)
    assert embedding.constants == 36
    assert embedding.name(0) == "pixel (0, 0) red on"
    assert embedding.name(18 + 17) == "pixel (1, 2) blue off"
    images_ = np.zeros((1, 2, 3, 3), np.uint8)
    images_[0, 1, 0, 1] = 200
    (on,) = np.flatnonzero(embedding.bits(images_)[0, :18])
    assert (embedding.pixel(int(on))[:2], embedding.channel(int(on))) == ((1, 0), "green")
    moved = shifted(images_, 1)
    assert sorted(tuple(np.argwhere(each)[0][1:]) for each in moved if each.any()) == [
        (0, 0, 1), (1, 1, 1),
    ]  # fmt: skip
    with pytest.raises(ModelError, match="the model is for 2 x 3 x 3"):
        embedding.bits(np.zeros((1, 2, 3), np.uint8))
