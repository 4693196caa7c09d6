"""What follows from rows, shards and form where nobody says how to learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import Turn, create
from learning.kube.learner import KubeOptions
from learning.neural.options import NeuralOptions
from learning.neural.presets import PRESETS, Recipe, recipe_of
from loaders import ArraySource, Field, Form, Numbered, Rows
from protocol.errors import ConfigError
from protocol.options import carried

from .common import never, silent

IMAGES = Form({"image": Field("uint8", (28, 28))}, Numbered(10))
TABLE = Form({"row": Field("float64", (4,))}, Numbered(3))


def plan(rows: int, shards: int, form: Form = IMAGES, **said: object) -> Recipe:
    return recipe_of(NeuralOptions(**said), form, rows, shards, None)  # type: ignore[arg-type]


@given(
    st.integers(1, 1 << 40), st.integers(1, 1 << 20), st.sampled_from(PRESETS),
    st.sampled_from([IMAGES, TABLE]),
)  # fmt: skip
def test_every_size_of_data_has_a_plan(rows: int, shards: int, preset: str, form: Form) -> None:
    found = plan(rows, shards, form, preset=preset)
    assert 1 <= found.rounds <= 32
    assert (0.2 if shards > 4 else 1) <= found.epochs <= 200
    assert 0 < found.lr <= 0.4
    assert found.steps_of(max(1, rows // shards)) >= 1
    assert 16 <= found.batch_size <= 64


@given(st.integers(1, 1 << 20), st.integers(1, 64), st.sampled_from([IMAGES, TABLE]))
def test_a_better_preset_learns_more_and_fewer_rows_are_learned_from_more_often(
    rows: int, shards: int, form: Form
) -> None:
    def passes(count: int, preset: str) -> float:
        found = plan(count, shards, form, preset=preset)
        return found.rounds * found.epochs

    fast, standard, best = (passes(rows, each) for each in ("fast", "standard", "best"))
    assert fast <= standard <= best
    assert passes(rows, "standard") <= passes(max(1, rows // 4), "standard")


def test_the_first_releases_way_is_a_preset() -> None:
    found = plan(60_000, 4, preset="first")
    assert (found.rounds, found.epochs, found.batch_size, found.lr) == (5, 3, 16, 0.02)
    assert (found.first, found.width, found.warm) == (True, 0, 0)
    assert [found.rate(done) for done in (0, 0.25, 1)] == [0.02, 0.02 * 0.75, 0]


@given(st.sampled_from([IMAGES, TABLE]), st.sampled_from(PRESETS), st.integers(1, 99_999))
def test_what_is_said_stays_and_what_came_of_it_is_whole(
    form: Form, preset: str, rows: int
) -> None:
    learner = create("neural", {"preset": preset, "epochs": 7, "lr": 0.5})
    made, rounds = learner.suited(form, rows, 3, 11)
    assert (made.epochs, made.lr, rounds) == (7, 0.5, 11)  # type: ignore[attr-defined]
    assert made.batch_size  # type: ignore[attr-defined]
    again = type(learner)(made).suited(form, 10 * rows, 1, rounds)
    assert again == (made, rounds)
    assert replace(made, epochs=1) != made


@given(
    st.integers(1, 1 << 20), st.integers(1, 64), st.sampled_from(PRESETS),
    st.sampled_from([IMAGES, TABLE]), st.integers(1, 5000),
)  # fmt: skip
def test_steps_come_to_the_presets_passes_where_nobody_says_how_many_rounds(
    rows: int, shards: int, preset: str, form: Form, steps: int
) -> None:
    whole, found = (
        plan(rows, shards, form, preset=preset, **said) for said in ({}, {"steps": steps})
    )
    wanted = whole.rounds * whole.steps_of(-(-rows // shards))
    assert found.rounds == 1 or abs(found.rounds * steps - wanted) <= steps / 2
    assert found.steps == steps
    learner = create("neural", {"preset": preset, "steps": steps})
    made, rounds = learner.suited(form, rows, shards, None)
    assert rounds == found.rounds
    assert (made.epochs, made.steps) == (None, steps)  # type: ignore[attr-defined]
    assert type(learner)(made).suited(form, 10 * rows, 1, rounds) == (made, rounds)
    assert learner.suited(form, rows, shards, 7)[1] == 7


def test_who_says_no_steps_has_the_jobs_that_there_were_before() -> None:
    assert "steps" not in carried(NeuralOptions(epochs=2))
    assert carried(NeuralOptions(steps=5))["steps"] == 5
    assert NeuralOptions(steps=5, preset="fast").lesson == "5 steps (fast)"
    with pytest.raises(ConfigError, match="--steps 5 and --epochs 2"):
        NeuralOptions(steps=5, epochs=2)
    with pytest.raises(ConfigError, match="whole ones; give --epochs"):
        KubeOptions(steps=5)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    found = plan(60_000, 4)
    rates = [found.rate(each / 100) for each in range(101)]
    top = rates.index(max(rates))
    assert top == 20
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[0] == rates[-1] == 0


@pytest.mark.parametrize("size", [(28, 28), (5,), (1, 1)])
def test_a_net_of_one_step_is_normalised_as_it_learned(size: tuple[int, ...]) -> None:
    """Found here: with running means that had hardly begun it took all for one class."""
    random = np.random.default_rng(0)
    array = (random.random((40, *size)) * 200 + 50).astype(np.uint8 if len(size) > 1 else float)
    form = Form({"x": Field(array.dtype.name, size)}, Numbered(2))
    source = ArraySource("x", form, {"train": ({"x": array}, np.arange(40) % 2)})
    rows = Rows(source, "train")
    learner = create("neural", {"epochs": 1, "batch_size": 40}, Turn(0, 2))
    start = learner.begin(learner.initial(form), rows)
    done = learner.fit(rows, start, seed=0, progress=silent, cancelled=never)
    for name in ("norm1.running_mean", "norm1.running_var"):
        assert not np.allclose(done.arrays[name], start[name], atol=1e-4)
    if len(size) > 1:
        return
    from learning.whole import standardised

    inner = standardised(array, start["mean"], start["deviation"]) @ start["dense1.weight"].T
    seen = (inner + start["dense1.bias"]).mean(axis=0)
    assert np.allclose(done.arrays["norm1.running_mean"], seen, atol=1e-4)


def test_a_shard_of_one_row_is_learned_from() -> None:
    for size in ((1, 1), (4,), (28, 28, 3)):
        form = Form({"x": Field("uint8", size)}, Numbered(2))
        source = ArraySource(
            "x", form, {"train": ({"x": np.ones((1, *size), np.uint8)}, np.ones(1, int))}
        )
        rows = Rows(source, "train")
        learner = create("neural", {"epochs": 2})
        start = learner.begin(learner.initial(form), rows)
        done = learner.fit(rows, start, seed=0, progress=silent, cancelled=never)
        assert all(np.isfinite(array).all() for array in done.arrays.values())
