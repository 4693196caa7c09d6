"""What the arrays of a model must be, for a main node, which has no learner's library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .base import Arrays, Form, Images, Labels, Layout, Solution
from .errors import ModelError
from .merging import WeightedMean, check


def pooled(length: int) -> int:
    """Return what two valid 5-convolutions, each pooled by 2, leave of a length in pixels.

    Raises:
        ModelError: nothing.
    """
    left = ((length - 4) // 2 - 4) // 2
    if left < 1:
        raise ModelError(f"images of {length} pixels a side are too small for the net; 16 or more")
    return left


class NeuralMerger(WeightedMean):
    """Merges solutions of `learning.neural`, and knows what they look like."""

    def check_form(self, form: Form) -> None:
        """Raise unless the images are large enough for the net."""
        self.layout(form.height, form.width, form.classes)

    def check_data(self, images: Images, labels: Labels, make: Mapping[str, Any]) -> None:
        """Learn from anything."""

    def largest(self, form: Form) -> int:
        """Return how many bytes the arrays of the net have."""
        layout = self.layout(form.height, form.width, form.classes)
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in layout.values())

    def describe(self, model: Arrays) -> dict[str, Any]:
        """Return how many weights the net has."""
        return {"weights": sum(array.size for array in model.values())}

    def check(self, solution: Solution, form: Form, examples: int, make: Mapping[str, Any]) -> None:
        """Raise unless a solution is the weights of such a net, of so many examples."""
        check(solution, self.layout(form.height, form.width, form.classes), examples)

    def layout(self, height: int, width: int, classes: int) -> Layout:
        """Return type and shape of each array of `SmallNet`.

        Raises:
            ModelError: the images are too small for the net.
        """
        shapes: dict[str, tuple[int, ...]] = {
            "conv1.weight": (16, 1, 5, 5), "conv1.bias": (16,),
            "conv2.weight": (32, 16, 5, 5), "conv2.bias": (32,),
            "dense1.weight": (128, 32 * pooled(height) * pooled(width)), "dense1.bias": (128,),
            "dense2.weight": (classes, 128), "dense2.bias": (classes,),
        }  # fmt: skip
        return {name: ("float32", shape) for name, shape in shapes.items()}
