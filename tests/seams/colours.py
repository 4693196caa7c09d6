"""A source: colour pictures, of classes that have names."""

from __future__ import annotations

import numpy as np

from loaders import ArraySource, Field, Form
from loaders.sources import Asked

WHAT = "made-up colour pictures"
NAMES = ("colours",)
ORDER = 1
#: The last one's name is no formula, and no font has all of its letters.
CLASSES = ("red", "green", "blue", "grey $_{$ \u7070")
SHAPE = (6, 5, 3)


def knows(asked: Asked) -> bool:
    """Whether it is ours."""
    return asked.name in NAMES


def open_source(asked: Asked) -> ArraySource:
    """Return pictures that are brightest in their colour, grey in none."""
    asked.say("mixing colours")
    splits, random = {}, np.random.default_rng(0)
    for split, rows in (("train", 240), ("test", 80)):
        labels = random.integers(0, len(CLASSES), rows)
        pixels = random.integers(0, 80, (rows, *SHAPE))
        for colour in range(3):
            pixels[labels == colour, :, :, colour] += 150
        splits[split] = {"picture": pixels.astype(np.uint8)}, labels
    return ArraySource(asked.name, Form({"picture": Field("uint8", SHAPE)}, CLASSES), splits)
