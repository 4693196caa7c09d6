"""What can go wrong in algebraic learning."""

from __future__ import annotations

from ..errors import LearningError


class ContradictionError(LearningError, ValueError):
    """Data that no algebra satisfies: equal rows of different classes.

    Args:
        message: which rows.
        left, right: numbers of the terms of the negative that can't hold, where known.
    """

    def __init__(self, message: str, left: int = -1, right: int = -1) -> None:
        super().__init__(message)
        self.left, self.right = left, right
