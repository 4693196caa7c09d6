"""Pictures in colour, of MNIST: a digit in one colour, on a ground of others, with scraps about it.

    mnist-main --data examples/colour_digits.py:load --learner examples/own_resnet.py:ResNet

Each row of the training set is 32 x 32 x 3 bytes; its class is the digit.
"""

import numpy as np
import numpy.typing as npt

import loaders

Bytes = npt.NDArray[np.uint8]
Whole = npt.NDArray[np.int64]
ROWS = {"train": 8_000, "test": 2_000}
SIDE, DIGIT, SCRAP = 32, 28, 9


def load() -> dict[str, tuple[Bytes, Whole]]:
    """Return pictures and classes by split; equal each time."""
    return {split: _split(split, rows) for split, rows in ROWS.items()}


def _split(split: str, rows: int) -> tuple[Bytes, Whole]:
    digits = loaders.load("mnist", split)
    images, random = digits.arrays["image"][:rows] / 255.0, np.random.default_rng(rows)
    pictures = np.stack([_picture(image, images, random) for image in images])
    return pictures, np.array(digits.labels[:rows])


def _picture(
    image: npt.NDArray[np.float64], others: npt.NDArray[np.float64], random: np.random.Generator
) -> Bytes:
    """Return a digit on a ground that goes from one colour to another, with four scraps on it."""
    ground, corner, ink = random.random((3, 3))
    across, down = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    picture = ground + (corner - ground) * (random.random() * across + down)[..., None] / 2
    for _ in range(4):
        other = others[random.integers(len(others))]
        cut, at = random.integers(4, DIGIT - SCRAP - 4, 2), random.integers(0, SIDE - SCRAP, 2)
        scrap = other[cut[0] : cut[0] + SCRAP, cut[1] : cut[1] + SCRAP, None]
        there = picture[at[0] : at[0] + SCRAP, at[1] : at[1] + SCRAP]
        there += (random.random(3) - there) * scrap * 0.8
    top, left = random.integers(0, SIDE - DIGIT + 1, 2)
    there = picture[top : top + DIGIT, left : left + DIGIT]
    there += (ink - there) * image[..., None]
    noise = random.normal(0, 0.05, picture.shape)
    return (255 * np.clip(picture + noise, 0, 1)).astype(np.uint8)
