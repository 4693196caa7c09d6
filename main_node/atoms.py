"""Where `explain` was before; it is part of the public names."""

from learning.algebraic.telling import draw_atoms, draw_batches, explain

__all__ = ["draw_atoms", "draw_batches", "explain"]
