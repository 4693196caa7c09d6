"""Mathematics on arrays: merging against an oracle, learning that is repeatable, models on disk."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning.work import digest, fit_work, fitted, perform, predict_work, predicted

import loaders
from learning import (
    DamagedFile,
    Form,
    LearningError,
    MergeError,
    ModelError,
    Shard,
    Solution,
    UnfitSolution,
    UnknownLearner,
    create,
    merger,
    names,
)
from learning import model as models
from learning.durable import read_arrays, write_arrays, write_text, written_whole
from learning.merging import WeightedMean, check, sha256
from learning.metrics import score
from learning.model import Model


def solution(seed: int, examples: int) -> Solution:
    random = np.random.default_rng(seed)
    return Solution({"w": random.random((3, 2), np.float32), "n": np.array([seed])}, examples)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 1000)), min_size=1, max_size=8))
def test_the_weighted_mean_is_numpys(parts: list[tuple[int, int]]) -> None:
    solutions = [solution(*part) for part in parts]
    merged = WeightedMean().merge(iter(solutions))
    weights = [s.examples for s in solutions]
    wanted = np.average([s.arrays["w"].astype(float) for s in solutions], axis=0, weights=weights)
    np.testing.assert_allclose(merged["w"], wanted, rtol=1e-6)
    assert merged["w"].dtype == np.float32
    assert merged["n"].dtype == np.int64


def test_one_solution_merges_to_itself_to_the_bit() -> None:
    one = solution(1, 7)
    assert sha256(WeightedMean().merge([one])) == sha256(one.arrays)


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

    WeightedMean().merge(one_by_one())


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (Solution({"w": zeros(3, 2)}, 1), "solution 2 does not fit the first: .* not those .*: n"),
        (Solution({"w": zeros(2), "n": zeros(1)}, 1), r"'w' is float32 of shape \(2,\)"),
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


def test_nothing_can_not_be_merged() -> None:
    with pytest.raises(MergeError, match="nothing to merge"):
        WeightedMean().merge([])
    with pytest.raises(MergeError, match="nothing to merge"):
        WeightedMean().merge([solution(1, 0)])


def test_the_digest_of_a_model_is_over_its_bytes_in_name_order() -> None:
    model = {"b": np.arange(3.0), "a": np.ones(2, np.float32)}
    wanted = hashlib.sha256(model["a"].tobytes() + model["b"].tobytes()).hexdigest()
    assert sha256(model) == wanted == sha256(dict(sorted(model.items())))


def test_scores_are_of_every_class_even_one_that_never_occurs() -> None:
    scores = score(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 4)
    assert scores.accuracy == 0.75
    assert scores.confusion == ((1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 1, 0), (0, 0, 0, 0))
    assert scores.macro_f1 == pytest.approx((1 + 2 / 3 + 2 / 3 + 0) / 4)


@pytest.fixture(scope="module")
def shard(idx_folder: Path) -> Shard:
    data = loaders.load(idx_folder)
    return Shard(data.images, data.labels, data.classes)


def fit(shard: Shard, seed: int = 1, start: Any = None, **make: Any) -> Solution:
    learner = create("neural", {"epochs": 2, "lr": 0.05, **make})
    return learner.fit(
        shard, start, seed=seed, progress=lambda fraction, note="": None, cancelled=lambda: False
    )


def test_equal_seeds_give_equal_bits_and_others_do_not(shard: Shard) -> None:
    first, second, other = fit(shard), fit(shard), fit(shard, seed=2)
    assert sha256(first.arrays) == sha256(second.arrays) != sha256(other.arrays)
    assert first.examples == 200


def test_a_net_learns_what_can_be_learned(shard: Shard, idx_folder: Path) -> None:
    learned = fit(shard, epochs=12)
    test = loaders.load(idx_folder, "test")
    labels = create("neural", {}).predict(learned.arrays, test.images)
    assert (labels == test.labels).mean() > 0.9


def test_a_later_round_goes_on_from_the_merged_model(shard: Shard) -> None:
    first = fit(shard, round=0, rounds=2)
    second = fit(shard, start=first.arrays, round=1, rounds=2)
    assert second.metrics["loss"] < first.metrics["loss"]


def test_a_fit_reports_progress_and_stops_when_cancelled(shard: Shard) -> None:
    told: list[float] = []
    create("neural", {"epochs": 4}).fit(
        shard,
        None,
        seed=0,
        progress=lambda fraction, note="": told.append(fraction),
        cancelled=lambda: len(told) > 1,
    )
    assert told == sorted(told)
    assert len(told) == 2


def test_a_model_for_other_images_is_refused_in_words(shard: Shard) -> None:
    learned = fit(shard, epochs=1)
    with pytest.raises(ModelError, match="does not fit images of this size"):
        create("neural", {}).predict(learned.arrays, np.zeros((1, 32, 32), np.uint8))
    with pytest.raises(ModelError, match="too small"):
        create("neural", {}).predict(learned.arrays, np.zeros((1, 8, 8), np.uint8))
    assert len(create("neural", {}).predict(learned.arrays, shard.images[:0])) == 0


def test_learners_are_found_by_name() -> None:
    assert "neural" in names()
    assert isinstance(merger("neural"), WeightedMean)
    with pytest.raises(UnknownLearner, match="no learner 'psychic'; there is neural, algebraic"):
        create("psychic", {})
    with pytest.raises(UnknownLearner, match="can't be made with"):
        create("neural", {"depth": 3})


def test_work_survives_being_plain_values_and_arrays(shard: Shard) -> None:
    values, arrays = fit_work({"epochs": 1}, shard, None, seed=1)
    metrics, made = perform("neural", values, arrays, lambda fraction, note="": None, lambda: False)
    again = fitted(metrics, made)
    assert sha256(again.arrays) == sha256(fit(shard, epochs=1, lr=0.02).arrays)
    values, arrays = predict_work({}, again.arrays, shard.images[:10])
    _, first = perform("neural", values, arrays, lambda fraction, note="": None, lambda: False)
    assert len(predicted({}, first, 10, 10)) == 10
    with pytest.raises(UnfitSolution, match="no labels for 11 images"):
        predicted({}, first, 11, 10)
    for values, more in (({"x": b"\0"}, {}), ({}, {"__metadata__": np.zeros(1)})):
        with pytest.raises(UnfitSolution, match="more than labels"):  # found in review
            predicted(values, {**first, **more}, 10, 10)
    with pytest.raises(UnfitSolution, match="outside of the 2 classes"):
        predicted({}, {"labels": np.array([0, 1, 2])}, 3, 2)
    with pytest.raises(LearningError, match="without a number of examples"):
        fitted({}, made)
    with pytest.raises(UnfitSolution, match="metric 'loss' is no number"):
        fitted({"examples": 3, "loss": [1]}, made)
    with pytest.raises(LearningError, match="no action 'dream'"):
        perform(
            "neural",
            {"action": "dream", "make": {}},
            {},
            lambda fraction, note="": None,
            lambda: False,
        )
    with pytest.raises(LearningError, match="lacks 'action'"):
        perform("neural", {}, {}, lambda fraction, note="": None, lambda: False)


def test_a_model_comes_back_from_disk(tmp_path: Path) -> None:
    model = Model({"w": np.arange(4, dtype=np.float32)}, "neural", (28, 28), 10)
    models.save(model, tmp_path / "m.safetensors")
    back = models.load(tmp_path / "m.safetensors")
    assert (back.learner, back.shape, back.classes) == ("neural", (28, 28), 10)
    assert sha256(back.arrays) == sha256(model.arrays)
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


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
    from learning.neural import SmallNet

    arrays = {n: t.numpy() for n, t in SmallNet(height, width, classes).state_dict().items()}
    form, known = Form(height, width, classes), merger("neural")
    known.check_form(form)
    known.check(Solution(arrays, 5), form, 5, {})
    assert known.largest(form) == sum(array.nbytes for array in arrays.values())
    with pytest.raises(UnfitSolution, match="is float32 of shape"):
        known.check(Solution(arrays, 5), Form(height, width, classes + 1), 5, {})
    with pytest.raises(ModelError, match="too small"):
        known.check_form(Form(15, 28, 10))


LAYOUT = {"w": ("float32", (2,))}


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
    with pytest.raises(UnfitSolution, match=told):
        check(Solution(arrays, examples), LAYOUT, 5)


def test_works_that_differ_anywhere_have_other_digests(shard: Shard) -> None:
    def of(seed: int = 1, **changes: Any) -> str:
        work = fit_work({"epochs": 1}, replace(shard, **changes), None, seed)
        return digest("neural", work)

    other = shard.images.copy()
    other[0, 0, 0] ^= 1
    assert of() == of()
    assert len({of(), of(2), of(classes=11), of(images=other), of(labels=shard.labels + 1)}) == 5


def test_torch_is_imported_only_when_it_is_used() -> None:
    program = (
        "import sys, main_node.commands.train, main_node.run.opening\n"
        "import main_node.views.terminal.screen, main_node.views.ending.summary\n"
        "import computing_node.command, learning.work\n"
        "assert not {'torch', 'sklearn', 'matplotlib'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
