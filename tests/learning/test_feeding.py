"""What a net is given in a step: which rows, moved and mirrored by how much."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import Turn, create
from learning.model import sha256
from learning.neural.presets import FIRST, STANDARD, Recipe, recipe_of
from loaders import ArraySource, Field, Form, Numbered, Rows

from .common import never, silent


def course(rows: int, most: tuple[int, int] = (0, 0), **more: object) -> object:
    from learning.neural.feeding import Course

    recipe = Recipe(rounds=1, epochs=2, batch_size=64, lr=1, **more)  # type: ignore[arg-type]
    return Course(rows, most, recipe, first_round=True)


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3), st.booleans(),
    st.integers(0, 1 << 30),
)  # fmt: skip
def test_each_picture_is_moved_by_its_own(
    height: int, width: int, down: int, right: int, grey: bool, seed: int
) -> None:
    from learning.neural.feeding import moved

    random = np.random.default_rng(seed)
    images = random.integers(1, 256, (5, height, width) if grey else (5, height, width, 3))
    ys, xs = random.integers(0, 2 * down + 1, 5), random.integers(0, 2 * right + 1, 5)
    found = moved(images, (down, right), ys, xs)
    for image, y, x, each in zip(images, ys - down, xs - right, found, strict=True):
        for row, column in np.ndindex(height, width):
            source = row + y, column + x
            inside = 0 <= source[0] < height and 0 <= source[1] < width
            assert (each[row, column] == (image[source] if inside else 0)).all()


def test_batches_are_of_equal_sizes_and_have_every_row() -> None:
    """A last batch of a few rows would have mean and variance of a few."""
    for rows in (*range(1, 200), 15_000):
        parts = course(rows).batches  # type: ignore[attr-defined]
        sizes = [part.stop - part.start for part in parts]
        assert sum(sizes) == rows
        assert max(sizes) - min(sizes) <= 1
        assert rows < 32 or 32 <= min(sizes) <= max(sizes) <= 96
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]


def test_passes_are_drawn_anew_and_only_from_their_seed() -> None:
    first, second = course(100, (1, 2), flip=True).epochs(np.random.default_rng(5))  # type: ignore[attr-defined]
    again, _ = course(100, (1, 2), flip=True).epochs(np.random.default_rng(5))  # type: ignore[attr-defined]
    for one, other in zip(first, again, strict=True):
        assert (one == other).all()
    for one, other in zip(first, second, strict=True):
        assert (one != other).any()
    assert sorted(first.order) == list(range(100))
    assert set(first.down) == {0, 1, 2}
    assert set(first.right) == {0, 1, 2, 3, 4}
    assert set(first.mirrored) == {False, True}


def test_mirrored_pictures_are_the_others_from_right_to_left() -> None:
    from learning.neural.feeding import mirrored

    images = np.arange(2 * 2 * 3 * 2).reshape(2, 2, 3, 2)
    found = mirrored(images, np.array([False, True]))
    assert (found[0] == images[0]).all()
    assert (found[1] == images[1, :, ::-1]).all()


DATA = {
    "grey bytes": ((12, 9), "uint8"), "dim bytes": ((9, 12), "uint8"),
    "colour bytes": ((10, 8, 3), "uint8"), "grey numbers": ((8, 11), "float32"),
    "colour numbers": ((9, 9, 4), "float64"), "table": ((5,), "float64"),
}  # fmt: skip


def shard(kind: str, count: int = 150) -> Rows:
    """Return random rows of such a form, some of a table's numbers missing."""
    shape, dtype = DATA[kind]
    random = np.random.default_rng(3)
    values: Any = random.normal(3, 2, (count, *shape))
    if dtype == "uint8":
        values = random.integers(0, 17 if kind == "dim bytes" else 256, values.shape)
    elif len(shape) == 1:
        values[random.random(values.shape) < 0.1] = np.nan
    form = Form({"field": Field(dtype, shape)}, Numbered(3))
    labels = random.integers(0, 3, count)
    source = ArraySource("made", form, {"all": ({"field": values.astype(dtype)}, labels)})
    return Rows(source, "all")


def started(kind: str, preset: str, **more: object) -> tuple[Any, Rows, Any]:
    """Return the learner of a round, its shard, and the model that it goes on from."""
    rows = shard(kind)
    make = {"preset": preset, "epochs": 2, **more}
    learner = create("neural", make, Turn(0 if preset == STANDARD else 1, 4))
    return learner, rows, learner.begin(learner.initial(rows.form), rows)


@pytest.mark.parametrize(
    ("kind", "preset", "flip"),
    [
        *((kind, preset, False) for kind in DATA for preset in (STANDARD, FIRST)),
        *((kind, STANDARD, True) for kind in DATA),
    ],
)
def test_batches_that_are_made_on_the_device_are_the_same(
    kind: str, preset: str, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device is the processor, both can be looked at: to the bit, as they lie there."""
    import torch

    from learning.neural import feeding

    monkeypatch.setattr(feeding, "_TOGETHER", 1000)  # it is brought there in parts
    learner, rows, model = started(kind, preset, **({"flip": True} if flip else {}))
    recipe = recipe_of(learner.made, rows.form, len(rows), 1, 4)
    for first_round in (True, False):
        passes = feeding.Course.of(rows, recipe, first_round)
        take = feeding.Take(model, rows.form, torch.device("cpu"))
        feeds: Any = feeding.Host(rows, passes, take), feeding.Resident(rows, passes, take)
        drawn = [feed.parts(np.random.default_rng(7)) for feed in feeds]
        count = 0
        for parts in zip(*drawn, strict=True):
            (one, labels), (other, same) = (
                feed.batch(part) for feed, part in zip(feeds, parts, strict=True)
            )
            assert one.dtype == other.dtype == torch.float32
            assert torch.equal(one, other)
            assert torch.equal(labels, same)
            if one.ndim == 4:
                assert other.is_contiguous(memory_format=torch.channels_last)
            count += 1
        assert count == 2 * len(passes.batches) > 2


@pytest.mark.parametrize("kind", ["grey bytes", "table"])
@pytest.mark.parametrize("preset", [STANDARD, FIRST])
def test_steps_are_the_first_ones_of_as_many_passes_as_are_needed(kind: str, preset: str) -> None:
    """Pass after pass, each drawn as ever; the last need not be whole."""
    import torch

    from learning.neural import feeding

    learner, rows, model = started(kind, preset)
    whole = recipe_of(learner.made, rows.form, len(rows), 1, 4)
    count = whole.in_a_pass(len(rows))
    assert count == len(whole.batches(len(rows)))
    take = feeding.Take(model, rows.form, torch.device("cpu"))
    for steps in (1, count - 1, count, count + 1, 2 * count - 1):
        course = feeding.Course.of(rows, replace(whole, steps=steps), first_round=True)
        passes = feeding.Course.of(rows, whole, first_round=True)
        feeds: Any = feeding.Host, feeding.Resident
        for kind_ in feeds:
            few, all_ = (
                [feed.batch(part) for part in feed.parts(np.random.default_rng(3))]
                for feed in (kind_(rows, each, take) for each in (course, passes))
            )
            assert len(few) == course.steps == steps
            for one, other in zip(few, all_, strict=False):
                assert all(map(torch.equal, one, other))


def test_as_many_steps_as_some_passes_have_come_to_the_same_model() -> None:
    learner, rows, model = started("grey bytes", STANDARD)
    count = recipe_of(learner.made, rows.form, 150, 1, 4).in_a_pass(150)
    by_steps = create("neural", {"preset": STANDARD, "steps": 2 * count}, learner.turn)
    found = [
        each.fit(rows, model, seed=5, progress=silent, cancelled=never)
        for each in (learner, by_steps)
    ]
    assert sha256(found[0].arrays) == sha256(found[1].arrays)
    assert found[0].metrics == found[1].metrics


def test_a_job_of_one_step_takes_one() -> None:
    _, rows, model = started("table", STANDARD)
    told: list[float] = []
    learner = create("neural", {"steps": 1}, Turn(0, 4))
    solution = learner.fit(
        rows, model, seed=5, progress=lambda done, note="", /: told.append(done), cancelled=never
    )
    assert told == [0.0]
    assert np.isfinite(solution.metrics["loss"])


@pytest.mark.parametrize("preset", [STANDARD, FIRST])
def test_a_model_is_the_same_whoever_makes_its_batches(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learning.neural import feeding, training

    learner, rows, model = started("grey bytes", preset)
    found = []
    for feed in (feeding.Host, feeding.Resident):
        monkeypatch.setattr(training, "Host", feed)
        found.append(learner.fit(rows, model, seed=5, progress=silent, cancelled=never))
    assert found[0].metrics == found[1].metrics
    for name, array in found[0].arrays.items():
        assert (array == found[1].arrays[name]).all()


def test_steps_that_can_not_be_captured_are_taken_one_by_one_and_none_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Here is no GPU, so no step can be: it is said once, and the model is the same."""
    import torch

    from learning.neural import feeding, steps
    from learning.neural.descent import Descent
    from learning.neural.nets import arrays_of, net_of

    learner, rows, model = started("grey bytes", STANDARD)
    recipe = recipe_of(learner.made, rows.form, len(rows), 1, 4)
    passes = feeding.Course.of(rows, recipe, True)
    feed = feeding.Resident(rows, passes, feeding.Take(model, rows.form, torch.device("cpu")))
    found = []
    with caplog.at_level(logging.WARNING, logger="mnist.compute"):
        for kind, last in ((steps.OnGpu, None), (steps.Captured, 4)):
            net = net_of(model, rows.form)
            descent = Descent(net, as_first=False, fused=True)
            walk: Any = kind(net, descent, feed, last)  # type: ignore[arg-type]
            losses = [float(walk.take(part, 0.1)) for part in feed.parts(np.random.default_rng(1))]
            assert len(losses) > 2 * steps._EAGER
            found.append((losses, arrays_of(net)))
    assert found[0][0] == found[1][0]
    for name, array in found[0][1].items():
        assert (array == found[1][1][name]).all()
    assert len(caplog.records) == (0 if torch.cuda.is_available() else 1)
