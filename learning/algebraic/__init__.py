"""Algebraic machine learning: Sparse Crossing over atomized semilattices. See docs/algebraic.md.

Importing this costs nothing: what needs a compiler is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .alma import train_alma
    from .classifier import AlgebraicClassifier
    from .model import AlgebraicModel

__all__ = ["AlgebraicClassifier", "AlgebraicModel", "train_alma"]

_PLACES = {"AlgebraicClassifier": "classifier", "AlgebraicModel": "model", "train_alma": "alma"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
