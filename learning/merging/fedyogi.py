"""Yogi at the main node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .adaptive import AdaptiveMean

if TYPE_CHECKING:
    from loaders.rows import Array


class FedYogi(AdaptiveMean):
    """As FedAdam, with squares that are forgotten more slowly where ways become short.

    Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2; Zaheer et al. 2018,
    "Adaptive Methods for Nonconvex Optimization".
    """

    name = "fedyogi"

    def square(self, square: Array, new: Array) -> Array:
        """Return what moves towards the new squares by a part of these."""
        import numpy as np

        towards: Array = np.sign(square - new)
        return square - (1 - self.made.beta2) * new * towards
