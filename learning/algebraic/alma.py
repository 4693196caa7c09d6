"""The form that AML-IP's tutorial gives to a trained model, for its users."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .model import AlgebraicModel


def tutorial_form(model: AlgebraicModel) -> dict[str, Any]:
    """Return a model as the tutorial's dictionary, ready for JSON.

    Its strict atoms only: the tutorial's knows no votes.

    Returns:
        "vTerm": the constants of the classes; and for each of them, under its number as a text, a
        list of its atoms: "atom_ucs", the constants; "atom_epoch", the batch that made it;
        "atom_gen", the crossings that it took at least: one less than its constants.
    """
    first = model.embedding.constants
    constants = range(first, first + model.classes)
    result: dict[str, Any] = {"vTerm": list(constants)}
    for class_, constant in enumerate(constants):
        result[str(constant)] = [
            _atom(model, atom) for atom in model.of_class(class_) if model.strict[atom]
        ]
    return result


def _atom(model: AlgebraicModel, atom: int) -> dict[str, Any]:
    constants = [int(c) for c in model.atoms[atom] if c < model.constants]
    return {
        "atom_epoch": int(model.epochs[atom]), "atom_gen": len(constants) - 1,
        "atom_ucs": constants,
    }  # fmt: skip


def train_alma(
    images: npt.ArrayLike, labels: npt.ArrayLike, target_digit: int = 0, batches: int = 50
) -> dict[str, Any]:
    """Learn one digit against the rest; return the model as the tutorial does.

    Args:
        images: grey, 0 to 255, shape (n, height, width) or (n, pixels), square if so; arrays or
            nested lists.
        labels: shape (n,).
        target_digit: the one to learn. Constant "not it" comes before constant "it".
        batches: how many to learn.

    Raises:
        ContradictionError: equal images, of which one is the digit and the other not.
        ValueError: images or labels that can't be learned from.
    """
    from .classifier import AlgebraicClassifier

    pixels = np.asarray(images)
    if pixels.ndim == 2:
        side = round(pixels.shape[1] ** 0.5)
        if side * side != pixels.shape[1]:
            raise ValueError(f"{pixels.shape[1]} pixels are no square; give (n, height, width)")
        pixels = pixels.reshape(len(pixels), side, side)
    learner = AlgebraicClassifier(batches=batches, target_digit=target_digit)
    return tutorial_form(learner.fit(pixels, np.asarray(labels)).model_)
