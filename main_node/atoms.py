"""Where `explain` was before; it is part of the public names."""

from learning.algebraic.telling import class_names, draw_atoms, draw_batches, explain

__all__ = ["class_names", "draw_atoms", "draw_batches", "explain"]
