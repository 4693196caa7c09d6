"""Models on disk: a safetensors file that says which learner reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .base import Arrays
from .errors import ModelError

_FORMAT = "mnist-merge 1"


@dataclass(frozen=True)
class Model:
    """A merged model and what is needed to use it.

    Args:
        arrays: by name.
        learner: the name of the learner that reads it.
        shape: height and width of the images.
        classes: how many classes there are.
    """

    arrays: Arrays
    learner: str
    shape: tuple[int, int]
    classes: int


def save(model: Model, path: Path) -> None:
    """Write a model, whole or not at all."""
    from safetensors.numpy import save_file

    part = path.with_name(f".{path.name}.part")
    metadata = {
        "format": _FORMAT, "learner": model.learner, "classes": str(model.classes),
        "height": str(model.shape[0]), "width": str(model.shape[1]),
    }  # fmt: skip
    save_file(dict(model.arrays), part, metadata)
    part.replace(path)


def load(path: Path) -> Model:
    """Read a model.

    Raises:
        ModelError: no such file, damaged, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise ModelError(f"{path}: a folder; name the model.safetensors in it")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a model that can be read: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise ModelError(f"{path}: a safetensors file, but not a model that mnist-main wrote")
    shape = (int(metadata["height"]), int(metadata["width"]))
    return Model(arrays, metadata["learner"], shape, int(metadata["classes"]))
