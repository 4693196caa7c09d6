"""What a net is given in a step: which rows, moved and mirrored by how much."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learning.neural.presets import Recipe


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
