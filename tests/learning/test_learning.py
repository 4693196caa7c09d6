"""Mathematics on arrays: merging against an oracle, learning that is repeatable, models on disk."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders
from learning import (
    DamagedFile,
    Layout,
    LearningError,
    MergeError,
    ModelError,
    Solution,
    Turn,
    UnfitSolution,
    UnknownLearner,
    create,
    merging,
    names,
)
from learning import learner as learner_class
from learning import model as models
from learning.actions import Fit, Predict, digest, perform
from learning.durable import read_arrays, write_arrays, write_text, written_whole
from learning.merging import WeightedMean
from learning.metrics import score
from learning.model import Model, sha256
from learning.sums import weighted_mean
from loaders import ArraySource, Field, Form, Numbered, Rows
from protocol.options import carried

from .common import carry, fitted, images, never, silent


def solution(seed: int, examples: int) -> Solution:
    random = np.random.default_rng(seed)
    return Solution({"w": random.random((3, 2), np.float32), "n": np.array([seed])}, examples)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 1000)), min_size=1, max_size=8))
def test_the_weighted_mean_is_numpys(parts: list[tuple[int, int]]) -> None:
    solutions = [solution(*part) for part in parts]
    merged = WeightedMean().merge(solutions).model
    weights = [s.examples for s in solutions]
    wanted = np.average([s.arrays["w"].astype(float) for s in solutions], axis=0, weights=weights)
    np.testing.assert_allclose(merged["w"], wanted, rtol=1e-6)
    assert merged["w"].dtype == np.float32
    assert merged["n"].dtype == np.int64


def test_one_solution_merges_to_itself_to_the_bit() -> None:
    one = solution(1, 7)
    merged, state, *_ = WeightedMean().merge([one])
    assert sha256(merged) == sha256(one.arrays)
    assert not state


def test_merging_holds_one_solution_at_a_time() -> None:
    alive: list[Any] = []

    class Counted(np.ndarray):
        pass

    import weakref

    def one_by_one() -> Iterator[Solution]:
        for n in range(20):
            array = np.full(1000, n, np.float64).view(Counted)
            alive.append(weakref.ref(array))
            yield Solution({"w": array}, 1)
            del array
            assert sum(ref() is not None for ref in alive) <= 2

    weighted_mean(one_by_one())


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (Solution({"w": zeros(3, 2)}, 1), "solution 2 does not fit the first: .* not those .*: n"),
        (
            Solution({"w": zeros(2), "n": zeros(1)}, 1),
            r"'w' of the model is float32 of shape \(2,\)",
        ),
        (
            Solution({"w": zeros(3, 2) + np.inf, "n": np.zeros(1, np.int64)}, 1),
            "'w' holds .* not finite",
        ),
        (Solution({"w": zeros(3, 2), "n": np.zeros(1, np.int64)}, -1), "-1 examples"),
    ],
)
def test_solutions_that_do_not_fit_are_refused(second: Solution, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        WeightedMean().merge([solution(1, 1), second])


@pytest.mark.parametrize(
    ("array", "examples"),
    [
        (np.array([1 + 2j, -3]), 2),
        (np.array([2**53 + 1, -(2**62), 7]), 60_000),
        (np.array(2**53 + 1), 3),
        (np.array([2**64 - 1], np.uint64), 5),
        (np.array([1e305, -1.5e308, 1.0]), 1 << 16),
        (np.array([2.0**899, 3.0]), 3),
    ],
    ids=["complex", "counters", "a counter", "unsigned", "large", "nearly large"],
)
def test_the_mean_of_equal_solutions_is_each(array: np.ndarray, examples: int) -> None:
    mean = WeightedMean().merge([Solution({"w": array}, examples)] * 3).model
    assert mean["w"].dtype == array.dtype
    np.testing.assert_array_equal(mean["w"], array)


def test_large_whole_numbers_have_the_mean_that_fractions_have() -> None:
    parts = [(10**17 + 1, 3), (-5, 2), (10**17 + 4, 1), (2**60 + 1, 7)]
    solutions = [Solution({"w": np.array([value])}, count) for value, count in parts]
    mean = WeightedMean().merge(solutions).model
    wanted = Fraction(sum(v * n for v, n in parts), sum(n for _, n in parts))
    assert mean["w"].tolist() == [round(wanted)]


@pytest.mark.parametrize(
    ("array", "examples", "words"),
    [
        (np.array(["a"]), 1, "array 'w' is of <U1, which has no mean"),
        (np.array([None]), 1, "array 'w' is of object, which has no mean"),
        (np.array([complex(1, math.inf)]), 1, "not finite"),
        (np.ones(1), math.nan, "it has nan examples"),
        (np.ones(1), math.inf, "it has inf examples"),
    ],
)
def test_what_has_no_mean_is_told(array: np.ndarray, examples: Any, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        WeightedMean().merge([Solution({"w": array}, examples)])


def test_nothing_can_not_be_merged() -> None:
    with pytest.raises(MergeError, match="nothing to merge"):
        WeightedMean().merge([])
    with pytest.raises(MergeError, match="nothing to merge"):
        WeightedMean().merge([solution(1, 0)])


def test_the_digest_of_a_model_is_over_its_bytes_in_name_order() -> None:
    model = {"b": np.arange(3.0), "a": np.ones(2, np.float32)}
    wanted = hashlib.sha256(model["a"].tobytes() + model["b"].tobytes()).hexdigest()
    assert sha256(model) == wanted == sha256(dict(sorted(model.items())))


def test_a_class_that_never_occurs_costs_no_score_and_is_in_the_table() -> None:
    scores = score(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 4)
    assert scores.accuracy == 0.75
    assert scores.confusion == ((1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 1, 0), (0, 0, 0, 0))
    assert scores.macro_f1 == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


@settings(deadline=None)  # scikit-learn's first import takes seconds
@given(st.integers(2, 40), st.integers(1, 200), st.integers(0, 99))
def test_scores_are_scikit_learns(classes: int, rows: int, seed: int) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, classes, (2, rows))
    scores, every = score(labels, predicted, classes), range(classes)
    assert scores.accuracy == pytest.approx(accuracy_score(labels, predicted))
    wanted = f1_score(labels, predicted, average="macro", zero_division=0)
    assert scores.macro_f1 == pytest.approx(wanted)
    table = confusion_matrix(labels, predicted, labels=every)
    assert scores.confusion == tuple(map(tuple, table.tolist()))


def test_of_100_000_classes_there_is_no_table_but_there_are_scores() -> None:
    from sklearn.metrics import f1_score

    random, classes = np.random.default_rng(0), 100_000
    labels = random.integers(0, classes, 5000)
    predicted = np.where(random.random(5000) < 0.5, labels, random.integers(0, classes, 5000))
    scores = score(labels, predicted, classes)
    assert scores.confusion == ()
    assert scores.accuracy == pytest.approx(np.mean(labels == predicted))
    assert scores.macro_f1 == pytest.approx(
        f1_score(labels, predicted, average="macro", zero_division=0)
    )


@pytest.mark.parametrize(
    ("labels", "predicted", "blind"),
    [
        ([0, 1, 2, 3] * 5, [2] * 20, True),
        ([0] * 990 + [1] * 10, [0] * 1000, True),  # as good as it looks, and of no use
        ([0] * 990 + [1] * 10, [0] * 999 + [1], False),
        ([0, 1] * 10, [7] * 20, True),
        ([3] * 20, [3] * 20, False),  # there is but one
        ([3] * 20, [4] * 20, False),
        ([0, 0, 0, 1], [0] * 4, False),  # by chance, maybe
        ([], [], False),
    ],
)
@pytest.mark.filterwarnings("ignore:Mean of empty", "ignore:invalid value")
def test_a_model_that_takes_everything_for_one_class_is_blind(
    labels: list[int], predicted: list[int], blind: bool
) -> None:
    scores = score(np.array(labels, np.int64), np.array(predicted, np.int64), 10)
    assert scores.blind is blind
    assert sum(map(sum, scores.confusion)) == len(labels)


@pytest.fixture(scope="module")
def shard(idx_folder: Path) -> Rows:
    return loaders.load(idx_folder)


def fit(shard: Rows, seed: int = 1, start: Any = None, turn: Turn | None = None,
        **make: Any) -> Solution:  # fmt: skip
    return fitted("neural", shard, {"epochs": 2, "lr": 0.05, **make}, seed, start, turn)


def test_equal_seeds_give_equal_bits_and_others_do_not(shard: Rows) -> None:
    first, second, other = fit(shard), fit(shard), fit(shard, seed=2)
    assert sha256(first.arrays) == sha256(second.arrays) != sha256(other.arrays)
    assert first.examples == 200


def test_a_fresh_model_is_the_runs_seed(shard: Rows) -> None:
    def fresh(seed: int) -> str:
        return sha256(create("neural", {}, Turn(0, 1, seed)).initial(shard.form))

    assert fresh(3) == fresh(3) != fresh(4)


def test_a_net_learns_what_can_be_learned(shard: Rows, idx_folder: Path) -> None:
    learned = fit(shard, epochs=12)
    test = loaders.load(idx_folder, "test")
    labels = create("neural", {}).predict(learned.arrays, test)
    assert (labels == test.labels).mean() > 0.9


def test_a_later_round_goes_on_from_the_merged_model(shard: Rows) -> None:
    first = fit(shard, turn=Turn(0, 2))
    second = fit(shard, start=first.arrays, turn=Turn(1, 2))
    assert second.metrics["loss"] < first.metrics["loss"]


def test_a_fit_reports_progress_and_stops_when_cancelled(shard: Rows) -> None:
    told: list[float] = []
    learner = create("neural", {"epochs": 4})
    learner.fit(
        shard,
        learner.initial(shard.form),
        seed=0,
        progress=lambda fraction, note="": told.append(fraction),
        cancelled=lambda: len(told) > 1,
    )
    assert told == sorted(told)
    assert len(told) == 2


def test_a_model_for_other_images_is_refused_in_words(shard: Rows) -> None:
    learned, learner = fit(shard, epochs=1), create("neural", {})
    with pytest.raises(ModelError, match="does not fit images of this size"):
        learner.predict(learned.arrays, images(1, side=32))
    with pytest.raises(ModelError, match="does not fit images of this size"):
        learner.predict(learned.arrays, images(1, side=8))
    assert len(learner.predict(learned.arrays, shard.of(slice(0, 0)))) == 0


def test_learners_are_found_by_name() -> None:
    assert "neural" in names()
    assert learner_class("neural").merging == WeightedMean.name
    assert isinstance(merging.create("mean", {}), WeightedMean)
    with pytest.raises(UnknownLearner, match="no learner 'psychic'; there is neural, algebraic"):
        create("psychic", {})
    with pytest.raises(UnknownLearner, match="can't be made with"):
        create("neural", {"depth": 3})


def fit_of(rows: Rows, seed: int = 1, **more: Any) -> Fit:
    learner = create("neural", {"epochs": 1})
    start = learner.initial(rows.form)
    return Fit(rows=rows, start=start, seed=seed, turn=Turn(), layout=Layout(start), **more)


def test_work_survives_being_plain_values_and_arrays(shard: Rows) -> None:
    neural, asked = create("neural", {"epochs": 1}), fit_of(shard)
    values, arrays = carry(asked, carried(neural.made))
    metrics, made = perform("neural", values, arrays, silent, never)
    again = asked.read(neural, metrics, made)
    assert sha256(again.arrays) == sha256(fit(shard, epochs=1, lr=None).arrays)
    ten = Predict(rows=shard.of(slice(0, 10)), model=again.arrays, loss=False)
    _, first = perform("neural", *carry(ten, {}), silent, never)
    assert len(ten.read(neural, {}, first).labels) == 10
    eleven = Predict(rows=shard.of(slice(0, 11)), model=again.arrays, loss=False)
    with pytest.raises(UnfitSolution, match="no labels for 11 rows"):
        eleven.read(neural, {}, first)
    for values, more in (({"x": b"\0"}, {}), ({}, {"__metadata__": np.zeros(1)})):
        with pytest.raises(UnfitSolution, match="more than labels"):  # found in review
            ten.read(neural, values, {**first, **more})
    two = Predict(rows=images(3, classes=2), model={}, loss=False)
    with pytest.raises(UnfitSolution, match="outside of the 2 classes"):
        two.read(neural, {}, {"labels": np.array([0, 1, 2])})
    with pytest.raises(LearningError, match="without a number of examples"):
        asked.read(neural, {}, made)
    with pytest.raises(UnfitSolution, match="metric 'loss' is no number"):
        asked.read(neural, {"examples": 200, "loss": [1]}, made)
    with pytest.raises(LearningError, match="no action 'dream'"):
        perform("neural", {"action": "dream", "make": {}}, {}, silent, never)
    with pytest.raises(LearningError, match="lacks 'action'"):
        perform("neural", {}, {}, silent, never)


def test_a_model_comes_back_from_disk(tmp_path: Path) -> None:
    form = Form({"image": Field("uint8", (28, 28))}, Numbered(10))
    model = Model({"w": np.arange(4, dtype=np.float32)}, "neural", form, {"epochs": 3})
    models.save(model, tmp_path / "m.safetensors")
    back = models.load(tmp_path / "m.safetensors")
    assert (back.learner, back.form, back.made) == ("neural", form, {"epochs": 3})
    assert sha256(back.arrays) == sha256(model.arrays)
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_model_says_what_its_classes_are_called(tmp_path: Path) -> None:
    form = Form({"photo": Field("float32", (4, 5, 3)), "age": Field("int64", ())}, ("cat", "dög"))
    arrays = {
        "scale": np.array(1.5), "steps": np.array(7, np.int32), "on": np.array(True),
        "none": np.zeros((0, 3), np.float32),
    }  # fmt: skip
    model = Model(arrays, "mine", form, {"rate": 0.1, "names": ["a"]}, {"round": "3"})
    models.save(model, tmp_path / "m.safetensors")
    back = models.load(tmp_path / "m.safetensors")
    assert (back.learner, back.form, back.made) == ("mine", form, model.made)
    assert back.form.classes == ("cat", "dög")
    assert back.notes == {"round": "3"}
    told = {n: (a.dtype.name, a.shape, a.tobytes()) for n, a in back.arrays.items()}
    assert told == {n: (a.dtype.name, a.shape, a.tobytes()) for n, a in arrays.items()}
    assert sha256(back.arrays) == sha256(arrays)


FIRST = {"format": "mnist-merge 1", "learner": "neural", "height": "28", "width": "20"}


@pytest.mark.parametrize(
    ("notes", "classes"),
    [
        ({"classes": "10"}, Numbered(10)),
        ({"classes": "12", "data": "abc", "round": "2"}, Numbered(12)),
        ({"classes": "2", "target": "3"}, ("not 3", "3")),
    ],
)
def test_a_model_of_the_first_format_is_read(tmp_path: Path, notes: Any, classes: Any) -> None:
    write_arrays(tmp_path / "m", {"w": np.ones(3)}, {**FIRST, **notes})
    model = models.load(tmp_path / "m")
    assert model.form == Form({"image": Field("uint8", (28, 20))}, classes)
    assert (model.learner, dict(model.made)) == ("neural", {})
    assert model.notes == {n: notes[n] for n in ("data", "round") if n in notes}
    assert model.arrays["w"].tolist() == [1, 1, 1]


SECOND = {
    "format": "mnist-merge 2", "learner": "neural", "made": "{}",
    "form": '{"fields": {"image": ["uint8", [28, 28]]}, "classes": 3}',
}  # fmt: skip


@pytest.mark.parametrize(
    "notes",
    [
        {**FIRST}, {**FIRST, "classes": "-1"}, {**FIRST, "classes": "x"},
        {**FIRST, "classes": "10", "height": "-28"}, {**FIRST, "classes": "9" * 30},
        {**SECOND, "form": "null"}, {**SECOND, "form": "["}, {**SECOND, "form": "[" * 100_000},
        {**SECOND, "classes": '["a", "b"]'}, {**SECOND, "classes": "3"},
        {**SECOND, "made": "[1]"}, {**SECOND, "made": "{"},
        {n: each for n, each in SECOND.items() if n != "learner"},
        {n: each for n, each in SECOND.items() if n != "made"},
    ],
    ids=lambda notes: repr(notes)[-30:],
)  # fmt: skip
def test_a_model_that_does_not_say_what_it_is_for_is_refused(tmp_path: Path, notes: Any) -> None:
    write_arrays(tmp_path / "m", {"w": np.ones(3)}, notes)
    with pytest.raises(ModelError, match="m: a model that does not say what it is for"):
        models.load(tmp_path / "m")


def test_a_model_of_a_later_format_is_refused_in_words(tmp_path: Path) -> None:
    write_arrays(tmp_path / "m", {}, {**SECOND, "format": "mnist-merge 3"})
    with pytest.raises(ModelError, match="no model that this one reads"):
        models.load(tmp_path / "m")


def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(ModelError, match="no such file"):
        models.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="not a file that can be read"):
        models.load(tmp_path / "text")
    save_file({"w": np.zeros(1)}, tmp_path / "other")
    with pytest.raises(ModelError, match="not one that mnist-main wrote"):
        models.load(tmp_path / "other")
    write_arrays(tmp_path / "solution", {}, {})
    with pytest.raises(ModelError, match="but no model"):
        models.load(tmp_path / "solution")


ARRAYS: dict[str, Any] = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.ones(1),
    "e": np.zeros((0, 2)),
}


def test_every_changed_byte_of_a_kept_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_arrays(path, ARRAYS, {"who": "me"})
    arrays, notes = read_arrays(path)
    assert notes == {"who": "me"}
    assert sha256(arrays) == sha256(ARRAYS)
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            again, noted = read_arrays(path)
        except DamagedFile:
            continue
        # The one change that may pass: a space in the padding of the header.
        assert (sha256(again), noted) == (sha256(ARRAYS), {"who": "me"}), place
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(DamagedFile, match="kept"):
            read_arrays(path)


def test_a_file_that_can_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "text"
    write_text(path, "old")

    def broken(path: Path) -> None:
        with written_whole(path) as part:
            part.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        broken(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("height", "width", "classes"), [(28, 28, 10), (16, 20, 3)])
def test_a_main_node_knows_what_the_net_looks_like(height: int, width: int, classes: int) -> None:
    from learning.neural.nets import SmallNet
    from learning.neural.shapes import shape_of

    form = Form({"image": Field("uint8", (height, width))}, Numbered(classes))
    arrays = {n: t.numpy() for n, t in SmallNet(shape_of(form), classes).state_dict().items()}
    neural = create("neural", {"preset": "first"})
    neural.check_form(form)
    layout = Layout(neural.initial(form))
    neural.check(Solution(arrays, 5), layout, form)
    assert neural.largest(layout) == sum(array.nbytes for array in arrays.values())
    more = Form(form.fields, Numbered(classes + 1))
    with pytest.raises(UnfitSolution, match="is float32 of shape"):
        neural.check(Solution(arrays, 5), Layout(neural.initial(more)), more)


FRESH = {"w": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("arrays", "examples", "told"),
    [
        ({"w": np.zeros(2, np.float32)}, 10**12, "claims 1000000000000 examples of a shard of 5"),
        ({}, 5, "not those of the model: w"),
        ({"w": np.zeros(2, np.float32), "x": np.zeros(1)}, 5, "not those of the model: x"),
        ({"w": np.zeros(2)}, 5, "is float64"),
        ({"w": np.zeros((2, 1), np.float32)}, 5, r"shape \(2, 1\)"),
        ({"w": np.array([1, np.nan], np.float32)}, 5, "not finite"),
        ({"w": np.array([1, np.inf], np.float32)}, 5, "not finite"),
    ],
)
def test_a_solution_that_is_none_is_told_in_words(
    arrays: dict[str, Any], examples: int, told: str
) -> None:
    asked = Fit(rows=images(5), start=FRESH, seed=1, turn=Turn(), layout=Layout(FRESH))
    with pytest.raises(UnfitSolution, match=told):
        asked.read(create("neural", {}), {"examples": examples}, arrays)


def test_works_that_differ_anywhere_have_other_digests(shard: Rows) -> None:
    def of(seed: int = 1, classes: int = 10, pixels: Any = None, labels: Any = None) -> str:
        pixels = shard.arrays["image"] if pixels is None else pixels
        labels = shard.labels if labels is None else labels
        form = Form(shard.form.fields, Numbered(classes))
        rows = Rows(ArraySource("a", form, {"train": ({"image": pixels}, labels)}), "train")
        action = Fit(rows=rows, start={}, seed=seed, turn=Turn())
        return digest("neural", {"epochs": 1}, action)

    pixels, labels = shard.arrays["image"].copy(), (shard.labels + 1) % 10
    pixels[0, 0, 0] ^= 1
    assert of() == of()
    assert len({of(), of(2), of(classes=11), of(pixels=pixels), of(labels=labels)}) == 5


def test_torch_is_imported_only_when_it_is_used() -> None:
    program = (
        "import sys, main_node.commands.train, main_node.run.opening\n"
        "import main_node.views.terminal.screen, main_node.views.ending.summary\n"
        "import computing_node.command, learning.actions\n"
        "assert not {'torch', 'sklearn', 'matplotlib'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
