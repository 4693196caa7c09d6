"""Adagrad at the main node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .adaptive import Adaptive

if TYPE_CHECKING:
    from loaders.rows import Array


class FedAdagrad(Adaptive):
    """Divides the way of each number by the root of the sum of its squares in all rounds.

    Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2, without momentum.
    """

    name = "fedadagrad"

    def square(self, square: Array, new: Array) -> Array:
        """Return the sum."""
        return square + new
