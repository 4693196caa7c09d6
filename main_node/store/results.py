"""What a run came to: `metrics.json`."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from learning import ModelError
from learning.model import load, sha256
from protocol.wire.words import from_json


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to; what `--json` prints.

    Args:
        run: its name.
        data: source, digest, rows and sharding of what it learned from.
        nodes: how many fitting jobs each node solved, by its name.
        merge: what merged, by name.
        merged: what that tells of the run, by name: `epsilon` of differential privacy.
        classes: names of the classes; empty where there are too many to table.
        accuracy, macro_f1, confusion: of the model, on the test set.
        examples: how many rows all jobs together learned from.
        accuracy_by_round: on the test set, or on the validation rows where there are some; None of
            a round that was not tried.
        loss_by_round: mean loss there; None where the learner has none, too.
        model_round: the round whose model it is, counted from 1; 0: not known, the last.
        ended_by: what ended the run: `rounds`, that there were no more; `goal`, `patience`, `time`;
            or `program`, the program that it is part of.
        ended: the same as a sentence; empty where there were no more rounds.
        validation_rows: training rows that were kept aside to try each round's model on.
        test_loss: of the model, on the test set; None where the learner has none.
        devices: the kinds of devices that jobs learned on, GPUs by their model.
        seconds: in each phase, and `total`, since this start.
        starts: how often the run was started.
        retries: attempts that failed.
        left_out: titles of jobs that it went on without.
        model, model_sha256: its file, and sha256 over its arrays.
        model_parts: what it is made of, by name.
        options: all that shaped the model, by name, also what nobody said: preset, rate, epochs.
        shortcoming: why the model is not good enough to be used, a sentence; empty where it may be.
    """

    run: str
    data: Mapping[str, object]
    target_digit: int | None
    learner: str
    jobs: int
    rounds: int
    nodes: Mapping[str, int]
    accuracy: float
    macro_f1: float
    confusion: list[list[int]]
    examples: int
    accuracy_by_round: list[float | None]
    loss_by_round: list[float | None] = field(default_factory=list)
    seconds: Mapping[str, float]
    starts: int
    retries: int
    left_out: list[str]
    model: str
    model_sha256: str
    model_parts: Mapping[str, object]
    merge: str = ""
    merged: Mapping[str, object] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    shortcoming: str = ""
    validation_rows: int = 0
    test_loss: float | None = None
    devices: list[str] = field(default_factory=list)
    model_round: int = 0
    ended_by: str = "rounds"
    ended: str = ""
    options: Mapping[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def of(cls, values: Any) -> Result:
        """Return the result that plain values tell; an earlier release's lacks what has a default.

        Raises:
            ValueError: they tell none, and why.
        """
        if not isinstance(values, dict):
            raise ValueError("not values by name")
        hints = typing.get_type_hints(cls)
        losses = values.get("loss_by_round") or [None]
        values = {
            "loss_by_round": [], "merge": "", "merged": {}, "classes": [], "shortcoming": "",
            "validation_rows": 0, "test_loss": losses[-1] if isinstance(losses, list) else None,
            "devices": [], "model_round": 0, "ended_by": "rounds", "ended": "",
            "options": {}, **values,
        }  # fmt: skip
        for each in fields(cls):
            if each.name not in values:
                raise ValueError(f"no {each.name}")
            kinds = _kinds(hints[each.name])
            if not isinstance(values[each.name], kinds):
                raise ValueError(f"{each.name} is {values[each.name]!r:.40}")
        result = cls(**{each.name: values[each.name] for each in fields(cls)})
        if not isinstance(result.seconds.get("total"), int | float):
            raise ValueError("no seconds in all")
        return result


def _kinds(hint: Any) -> tuple[type, ...]:
    """Return the classes that a value of an annotated type may have."""
    origin = typing.get_origin(hint)
    if origin is None:
        return (int, float) if hint is float else (hint,)
    if origin is list:
        return (list,)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return (dict,)
    return tuple(kind for each in typing.get_args(hint) for kind in _kinds(each))


def finished(path: Path) -> Result | None:
    """Return the result of the run in this directory, if it has come to its end."""
    model = path / "model.safetensors"
    if not (path / "metrics.json").is_file():  # nor is a pipe waited for
        return None
    try:
        result = Result.of(from_json((path / "metrics.json").read_text()))
        if result.model_sha256 != sha256(load(model).arrays):
            return None
    except (OSError, ValueError, ModelError):
        return None
    return replace(result, model=str(model))  # it may have been moved
