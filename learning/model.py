"""Models on disk: a safetensors file that says which learner reads it, and what it is for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loaders.classes import against_rest
from loaders.errors import CorruptDataset
from loaders.rows import Arrays, Form, Numbered, bytes_of

from .durable import read_arrays, write_arrays
from .errors import DamagedFile, ModelError

#: In the notes of one that a run ended with, or that was merged: how many examples it is of.
EXAMPLES = "examples"
_FORMAT, _FIRST = "mnist-merge 2", "mnist-merge 1"


@dataclass(frozen=True)
class Model:
    """A merged model and what is needed to use it.

    Args:
        arrays: by name.
        learner: the name of the learner that reads it.
        form: of the data that it is for; its classes have their names.
        made: what the learner was made with.
        notes: about where it comes from.
    """

    arrays: Arrays
    learner: str
    form: Form
    made: Mapping[str, object] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def sha256(arrays: Arrays) -> str:
    """Return sha256 over the arrays' bytes in name order, in hexadecimal."""
    hash_ = hashlib.sha256()
    for name in sorted(arrays):
        hash_.update(bytes_of(arrays[name]))
    return hash_.hexdigest()


def save(model: Model, path: Path) -> None:
    """Write a model, whole or not at all.

    Raises:
        OSError: it can't be written.
    """
    classes = model.form.classes
    notes = {
        "format": _FORMAT, "learner": model.learner, "form": json.dumps(model.form.as_values()),
        "made": json.dumps(dict(model.made), sort_keys=True), **model.notes,
    }  # fmt: skip
    if not isinstance(classes, Numbered):
        notes["classes"] = json.dumps(list(classes))
    write_arrays(path, model.arrays, notes)


def load(path: Path) -> Model:
    """Read a model, also one of the first format.

    Raises:
        ModelError: no such file, damaged, or not one of ours.
    """
    if path.is_dir():
        raise ModelError(f"{path}: a folder; name the model.safetensors of a run, or its directory")
    try:
        arrays, notes = read_arrays(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except DamagedFile as error:
        raise ModelError(str(error)) from error
    read = {_FORMAT: _second, _FIRST: _first}.get(notes.pop("format", ""))
    if read is None:
        raise ModelError(f"{path}: a file that mnist-main wrote, but no model that this one reads")
    try:
        return read(arrays, notes)
    except (KeyError, ValueError, TypeError, RecursionError, CorruptDataset) as error:
        raise ModelError(f"{path}: a model that does not say what it is for: {error}") from error


def _second(arrays: Arrays, notes: dict[str, str]) -> Model:
    form = Form.of_values(json.loads(notes.pop("form")))
    if "classes" in notes:
        classes = tuple(map(str, json.loads(notes.pop("classes"))))
        if len(classes) != len(form.classes):
            raise ValueError(f"{len(classes)} names of {len(form.classes)} classes")
        form = Form(form.fields, classes)
    made = json.loads(notes.pop("made"))
    if not isinstance(made, dict):
        raise TypeError("what its learner was made with is no options by name")
    return Model(arrays, notes.pop("learner"), form, made, notes)


def _first(arrays: Arrays, notes: dict[str, str]) -> Model:
    """Return a model of grey images, maybe of one class against the rest."""
    shape = [int(notes.pop("height")), int(notes.pop("width"))]
    told = {"fields": {"image": ["uint8", shape]}, "classes": int(notes.pop("classes"))}
    form, target = Form.of_values(told), notes.pop("target", None)
    if target is not None:
        form = Form(form.fields, against_rest(target))
    return Model(arrays, notes.pop("learner"), form, {}, notes)
