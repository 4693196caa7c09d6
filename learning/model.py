"""Models on disk: a safetensors file that says which learner reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .base import Arrays
from .durable import read_arrays, write_arrays
from .errors import DamagedFile, ModelError

_FORMAT = "mnist-merge 1"


@dataclass(frozen=True)
class Model:
    """A merged model and what is needed to use it.

    Args:
        arrays: by name.
        learner: the name of the learner that reads it.
        shape: height and width of the images.
        classes: how many classes there are.
        notes: about where it comes from.
    """

    arrays: Arrays
    learner: str
    shape: tuple[int, int]
    classes: int
    notes: Mapping[str, str] = field(default_factory=dict)


def save(model: Model, path: Path) -> None:
    """Write a model, whole or not at all.

    Raises:
        OSError: it can't be written.
    """
    notes = {
        "format": _FORMAT, "learner": model.learner, "classes": str(model.classes),
        "height": str(model.shape[0]), "width": str(model.shape[1]), **model.notes,
    }  # fmt: skip
    write_arrays(path, model.arrays, notes)


def load(path: Path) -> Model:
    """Read a model.

    Raises:
        ModelError: no such file, damaged, or not one of ours.
    """
    if path.is_dir():
        raise ModelError(f"{path}: a folder; name the model.safetensors in it")
    try:
        arrays, notes = read_arrays(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except DamagedFile as error:
        raise ModelError(str(error)) from error
    if notes.pop("format", "") != _FORMAT:
        raise ModelError(f"{path}: a file that mnist-main wrote, but no model")
    shape = (int(notes.pop("height")), int(notes.pop("width")))
    return Model(arrays, notes.pop("learner"), shape, int(notes.pop("classes")), notes)
