"""Models that people name, and the rows that these are tried on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from learning import Learner
    from learning.metrics import Scores
    from learning.model import Model
    from loaders import ReadingOptions, Rows, Source
    from loaders.rows import Arrays

Say = Callable[[str], object]


def file_of(path: Path) -> Path:
    """Return the file that a model is in, or is to be in, by its own path or its run's directory.

    Raises:
        ModelError: it is of a run that has none yet.
    """
    from learning import ModelError

    from ..store.directory import is_run

    file = path / "model.safetensors"
    if path.is_dir() and is_run(path) and not file.exists():
        raise ModelError(
            f"{path}: a run that has no model yet; go on with it: mnist-main --resume {path}"
        )
    return file if file.is_file() else path


def located(name: str, runs: Path) -> str:
    """Return where a model is: named by its path or place, or by its run's name in `runs`."""
    from loaders.places import is_remote

    from ..store.directory import is_run

    there = is_remote(name) or Path(name).exists() or not is_run(runs / name)
    return name if there else str(runs / name)


def load_model(path: Path) -> Model:
    """Return the model of a file, or of a run's directory.

    Raises:
        ModelError: there is none that can be used.
    """
    from learning import ModelError
    from learning import model as models
    from learning.layout import endless

    try:
        path = file_of(path)
        model = models.load(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path}: can't be read: {error}") from error
    wrong = endless(model.arrays)
    if wrong:
        raise ModelError(f"{path}: {wrong}")
    return model


def with_code(path: Path, model: Model, named: str | None, say: Say) -> Model:
    """Return a model that says where the code of its learner is, if that is a user's.

    Args:
        path: of the model, as it is told of.
        model: as it was read.
        named: the learner that somebody has named here; None: nobody has.
        say: told where the code has been changed since.

    Raises:
        LearningError: nobody has named it here, or it is another's.
    """
    from learning import ModelError
    from learning import learner as learner_class
    from loaders.running import place_of

    own = place_of(model.learner)
    if own is None:
        if named not in (None, model.learner):
            raise ModelError(f"{path}: a {model.learner} model, which --learner {named} is not")
        return model
    if named is None:
        file = f"FILE.py:{own.name}" if "." not in own.module else model.learner
        raise ModelError(
            f"{path}: a model of {model.learner}, which is its user's own code: name it, and it is"
            f" run: --learner {file}"
        )
    code = learner_class(named).code
    if code is None or code.called != model.learner:
        raise ModelError(f"{path}: a model of {model.learner}, which --learner {named} is not")
    began = json.loads(model.notes.get("options", "{}")).get("code", code.digest)
    if began != code.digest:
        say(f"{named} has been changed since the model was made ({began[:8]} then)")
    return replace(model, learner=named)


def learner_of(model: Model) -> Learner:
    """Return the learner of a model, as it was made.

    Raises:
        LearningError: it is not here, or can't be made so.
    """
    from learning import create_carried

    return create_carried(model.learner, model.made)


def scored(learner: Learner, model: Arrays, rows: Rows, classes: int) -> Scores:
    """Return how good a model is on rows.

    Args:
        learner: of the model.
        model: by name.
        rows: as it takes them.
        classes: how many it knows; the rows may be of more.

    Raises:
        LearningError: its learner can't predict them.
    """
    from learning.errors import told_of
    from learning.metrics import score

    with told_of(f"learner {learner.name!r}"):
        predicted = learner.predict(model, rows)
    return score(rows.labels, predicted, max(classes, rows.classes))


def rows_for(
    models: Sequence[Model], source: str, split: str, limit: int | None, label: str | None,
    say: Say, *, apart: bool = False, validation: float = 0.0,
) -> Rows:  # fmt: skip
    """Return rows of some data, as models of one form take them.

    Args:
        models: one at least.
        source: as `--data` names it.
        split: of it.
        limit: the first so many only; None: all.
        label: of a table, the column that says the class; None: as the first model knows it.
        say: told what happens.
        apart: whether a test set is drawn where there is none, whoever has learned from it, so that
            no row is in both parts.
        validation: this part of the training rows is kept aside as `validation`, as runs do it.

    Raises:
        ModelError: they are of another form.
        LoaderError: they can't be read.
    """
    from loaders import OneAgainstRest, open_source, rows_of
    from loaders.classes import in_classes
    from loaders.columns import in_columns
    from loaders.splits import with_validation

    first = models[0]
    reading, seed = reading_of(first)
    reading = replace(reading, label=label or reading.label)
    found: Source = open_source(source, say, reading, columns_of(first))
    target = _target(first, found)
    if target is not None:
        found = OneAgainstRest(found, target)
    if "test" not in found.splits and (apart or split == "test"):  # maybe drawn for the run
        found = _with_test(models, found, say, apart)
    found = with_validation(found, validation, seed)
    found = in_columns(found, first.form.fields, say)
    rows = rows_of(in_classes(found, first.form.classes), split, limit)
    check_form(first, rows)
    return rows


def _with_test(models: Sequence[Model], source: Source, say: Say, apart: bool) -> Source:
    """Return data with a test set where it has none: one that was drawn for a run, or all.

    What is drawn is of data that a run learned from; of any other, every row is new to the models.
    """
    import numpy as np

    from loaders import Rows
    from loaders.splits import Cut, with_test

    first: tuple[Source, list[str]] | None = None
    for model in models:
        reading, seed = reading_of(model)
        told: list[str] = []
        drawn = with_test(source, reading.test_fraction, seed, told.append)
        rows = source.splits.get("train", 0)
        if "test" not in drawn.splits or not rows:
            return drawn
        tested = model.notes.get("tested")
        first = first or (drawn, told)
        if tested is None or tested == Rows(drawn, "test").digest:
            break
    else:
        assert first is not None
        if not apart:
            say(
                f"{source.name} has no test set, and the model did not learn from it: it is tried"
                f" on all of its {rows:,} rows"
            )
            return Cut(source, {"test": ("train", np.arange(rows))})
        drawn, told = first
    for line in told:
        say(line)
    return drawn


def check_form(model: Model, rows: Rows) -> None:
    """Raise unless rows are what a model is for; of columns, where both have names, these too.

    Raises:
        ModelError: they are not.
    """
    from learning import ModelError

    name, mine, theirs = rows.source.name, model.form.fields, rows.form.fields
    if {key: each[:2] for key, each in mine.items()} != {k: each[:2] for k, each in theirs.items()}:
        raise ModelError(
            f"the model is for rows of {model.form.tell()}; those of {name} are of"
            f" {rows.form.tell()}"
        )
    for key, each in mine.items():
        columns = zip(each.columns, theirs[key].columns, strict=False)  # or there are none
        for number, (one, other) in enumerate(columns):
            if one != other:
                raise ModelError(
                    f"the model is for rows whose column {number} is {one!r}; in {name} it is"
                    f" {other!r}"
                )


def reading_of(model: Model) -> tuple[ReadingOptions, int]:
    """Return how the run that a model is of read its data, and its seed, as far as it says."""
    from loaders import ReadingOptions
    from protocol.errors import ConfigError
    from protocol.options import make

    with suppress(ValueError, RecursionError, ConfigError):  # it may be from anybody
        options = json.loads(model.notes.get("options", "{}"))
        if isinstance(options, dict):
            seed = options.get("seed")
            return make(ReadingOptions, options), seed if type(seed) is int and seed >= 0 else 0
    return ReadingOptions(), 0


def columns_of(model: Model) -> list[str]:
    """Return the columns that a model knows by their names; none of pictures."""
    return [name for each in model.form.fields.values() for name in each.columns]


def _target(model: Model, source: Source) -> int | None:
    """Return the class that a model tells from the rest, by its number in a source.

    Raises:
        ModelError: the source has no such class.
    """
    from learning import ModelError
    from loaders.classes import against_rest

    names, there = model.form.classes, source.form.classes
    if len(names) != 2 or tuple(names) != against_rest(names[1]) or there == names:
        return None
    if names[1] not in there:
        raise ModelError(
            f"the model tells {names[1]!r} from the rest; {source.name} has no such class"
        )
    return there.index(names[1])
