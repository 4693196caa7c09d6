"""Adam at the main node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .adaptive import AdaptiveMean

if TYPE_CHECKING:
    from loaders.rows import Array


class FedAdam(AdaptiveMean):
    """Divides the mean way of each number by the root of its mean square.

    Source: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2; the rate is corrected
    for the zeros that means begin with as Flower does, by Kingma and Ba 2015, "Adam", section 2.
    """

    name = "fedadam"

    def square(self, square: Array, new: Array) -> Array:
        """Return the mean square."""
        return self.made.beta2 * square + (1 - self.made.beta2) * new

    def rate(self, round_: int) -> float:
        """Return the rate, corrected for a round; Flower counts them from 1, and Adam the next."""
        made, times = self.made, round_ + 1
        return made.rate * float((1 - made.beta2**times) ** 0.5) / (1 - made.beta1**times)
