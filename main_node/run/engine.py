"""What provides computing nodes for a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from protocol.carrier.keys import NodeKeys


class Engine(Protocol):
    """Starts computing nodes, and ends them; each joins like any other.

    `count` is how many there are to be.
    """

    count: int

    def begin(self, learner: str) -> None:
        """Begin with what takes long and needs no main node yet; called before the data is read.

        Args:
            learner: that the nodes will have jobs of.
        """

    def start(
        self, address: str, domain: int, keys: NodeKeys | None, say: Callable[[str], object]
    ) -> None:
        """Start the nodes.

        Args:
            address: of the main node.
            domain: of the main node.
            keys: for all of them, if the main node has some.
            say: told every line that they log.
        """

    def check(self) -> None:
        """See to nodes that ended by themselves.

        Raises:
            NodeError: they end time and again.
        """

    def stop(self) -> None:
        """End the nodes; also where they were never started."""
