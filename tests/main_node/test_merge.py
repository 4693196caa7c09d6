"""`mnist-merge`: finished models, of runs that knew nothing of each other, become one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from learning import Solution, create, merging
from learning import model as models
from learning.actions import performed
from learning.algebraic.model import AlgebraicModel, from_arrays, to_arrays
from learning.joining import Finished, InFiles, difference
from learning.merging import Judge, Merged, Strategy
from learning.merging.strategy import NOTHING
from learning.model import Model, sha256
from loaders import Field, Form, Numbered, load
from loaders.rows import Arrays
from main_node.commands import merge as command
from main_node.commands.joining import Asked, Joining

from ..learning.common import accountant
from ..processes import MERGE_HERE, PREDICT_HERE, here

FORM = Form({"image": Field("uint8", (28, 28))}, Numbered(10))
FORMATS = Path(__file__).parent / "formats" / "1"
NEAREST = """
from dataclasses import dataclass

import numpy as np

from learning import Learner, Solution
from protocol.options import Checked


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    lesson = "one pass"


class Nearest(Learner):
    name, options = "nearest", Options

    def predict(self, model, rows):
        (array,) = rows.arrays.values()
        return (array.reshape(len(rows), -1) @ model["means"].T).argmax(axis=1)
"""


def linear(value: float, form: Form = FORM) -> dict[str, Any]:
    """Return the arrays of a linear model that are all of one value."""
    fresh = create("linear", {}).initial(form)
    return {name: np.full_like(array, value) for name, array in fresh.items()}


def saved(path: Path, arrays: Arrays, examples: int | None = 100, **about: Any) -> str:
    """Write a model; return where it is."""
    path.parent.mkdir(exist_ok=True)
    notes = {} if examples is None else {"examples": str(examples)}
    about = {"learner": "linear", "form": FORM, "notes": notes, **about}
    models.save(Model(arrays, **about), path)
    return str(path)


def learned(idx_folder: Path, descents: int, seed: int = 0) -> dict[str, Any]:
    """Return a linear model that has learned so long."""
    rows = load(idx_folder)
    learner = create("linear", {"descents": descents})
    return dict(
        learner.fit(
            rows, learner.initial(rows.form), seed=seed, progress=lambda *_: None,
            cancelled=lambda: False,
        ).arrays
    )  # fmt: skip


def told(*arguments: object) -> dict[str, Any]:
    """Return what the command says as JSON."""
    done = here(MERGE_HERE, *map(str, arguments), "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*arguments: object, code: int = 2) -> str:
    """Return the last line of a command that is wrong; nothing is written then."""
    done = here(MERGE_HERE, *map(str, arguments))
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    return done.stderr.splitlines()[-1]


def test_models_are_merged_by_their_examples(tmp_path: Path) -> None:
    out = tmp_path / "out"
    one = saved(tmp_path / "one", linear(1), 300)
    two = saved(tmp_path / "two", linear(5), 100)
    result = told(one, two, "-o", out)
    merged = models.load(out)
    assert (merged.arrays["layer.bias"] == 2).all()
    assert merged.arrays["steps"] == 2
    assert (merged.learner, merged.form, merged.notes["merge"]) == ("linear", FORM, "mean")
    assert json.loads(merged.notes["merged_from"]) == [
        {"name": "one", "sha256": sha256(linear(1)), "examples": 300},
        {"name": "two", "sha256": sha256(linear(5)), "examples": 100},
    ]
    assert result["sha256"] == sha256(merged.arrays)
    assert (result["examples"], merged.notes["examples"]) == (400, "400")
    # What was merged is merged again: it knows how many examples it is of.
    again = told(out, saved(tmp_path / "three", linear(7), 100), "-o", tmp_path / "again")
    assert (models.load(tmp_path / "again").arrays["layer.bias"] == 3).all()
    assert again["examples"] == 500


def test_weights_that_are_typed_count_and_where_nobody_knows_them_they_are_asked_for(
    tmp_path: Path,
) -> None:
    one = saved(tmp_path / "one", linear(1), 300)
    two = saved(tmp_path / "two", linear(5), None)
    line = refused(one, two, "-o", tmp_path / "out")
    assert f"{two}: it does not say how many examples it is of" in line
    assert "--weights N,N" in line
    told(one, two, "-o", tmp_path / "out", "--weights", "1,3")
    assert (models.load(tmp_path / "out").arrays["layer.bias"] == 4).all()


def test_a_run_is_named_by_its_directory_or_by_its_name_and_knows_its_examples(
    tmp_path: Path,
) -> None:
    """As an earlier release left it: only its metrics say of how many examples its model is."""
    runs = tmp_path / "runs"
    for name in ("north", "south"):
        shutil.copytree(FORMATS / "finished", runs / name)
    result = told(runs / "north", "south", "--run-dir", runs, "-o", tmp_path / "out")
    examples = json.loads((FORMATS / "finished" / "metrics.json").read_text())["examples"]
    assert result["examples"] == 2 * examples
    assert [each["name"] for each in result["models"]] == ["north", "south"]
    assert str(tmp_path) not in models.load(tmp_path / "out").notes["merged_from"]
    (runs / "north" / "model.safetensors").unlink()
    line = refused("north", "south", "--run-dir", runs, "-o", tmp_path / "other")
    assert "a run that has no model yet" in line


def test_atoms_are_united_and_counted_where_there_is_data(tmp_path: Path) -> None:
    rows = load(FORMATS / "data")
    (north, south), out = (tmp_path / name for name in ("north", "south")), tmp_path / "out"
    whole = models.load(FORMATS / "finished" / "model.safetensors")
    made = from_arrays(whole.arrays)
    for path, some in ((north, slice(0, None, 2)), (south, slice(1, None, 2))):
        half = AlgebraicModel(
            made.embedding, made.classes, made.atoms[some], 0 * made.violations[some],
            made.epochs[some],
        )  # fmt: skip
        saved(path, to_arrays(half), learner="algebraic", form=whole.form, made=whole.made)
    done = here(MERGE_HERE, str(north), str(south), "-o", str(out))
    assert "not known" in done.stderr
    assert "--data" in done.stderr
    united = models.load(out)
    assert (from_arrays(united.arrays).atoms == made.atoms).all()
    assert not united.arrays["violations"].any()

    result = told(north, south, "-o", out, "--force", "--data", FORMATS / "data")
    assert result["counted"]
    counted = from_arrays(models.load(out).arrays)
    learner = create("algebraic", {})
    settled = learner.settle(united.arrays, lambda make: iter([performed(learner, make(rows))]))
    assert sha256(settled) == result["sha256"]
    assert counted.violations.any()


# What can't be merged.


def tabular(mean: float = 0.0, columns: tuple[str, ...] = ("height", "width")) -> Model:
    """Return a net of a table, which standardises its numbers."""
    form = Form({"row": Field("float64", (len(columns),), columns)}, ("ash", "oak"))
    fresh = create("neural", {"width": 4}).initial(form)
    return Model({**fresh, "mean": np.full_like(fresh["mean"], mean)}, "neural", form)


def of_linear(form: Form = FORM, made: Mapping[str, object] | None = None, **arrays: Any) -> Model:
    return Model({**linear(1, form), **arrays}, "linear", form, made or {})


NAMED = Form(FORM.fields, tuple("abcdefghij"))


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (of_linear(), tabular(), ["linear", "neural"]),
        (
            of_linear(),
            of_linear(Form({"image": Field("uint8", (8, 8))}, Numbered(10))),
            ["28 x 28", "8 x 8"],
        ),
        (of_linear(), of_linear(Form(FORM.fields, Numbered(9))), ["10 classes", "9"]),
        (
            of_linear(NAMED),
            of_linear(Form(FORM.fields, tuple("abcdefghji"))),
            ["another order", "class 8 is 'i' and 'j'"],
        ),
        (
            of_linear(NAMED),
            of_linear(Form(FORM.fields, tuple("abcdefghix"))),
            ["other classes", "'j' and 'x'"],
        ),
        (of_linear(), of_linear(made={"stride": 0.5}), ["stride is 1.0 and 0.5"]),
        (
            of_linear(),
            Model({**linear(1), "layer.bias": np.zeros(11, np.float32)}, "linear", FORM),
            ["other nets", "layer.bias"],
        ),
        (tabular(0.0), tabular(1e-9), ["other data", "mean", "in one run"]),
        (
            tabular(),
            tabular(columns=("height", "weight")),
            ["column 1 is 'width' and 'weight'"],
        ),
    ],
    ids=["learner", "form", "count", "order", "classes", "options", "arrays", "data", "columns"],
)  # fmt: skip
def test_models_that_do_not_fit_together_are_refused_by_what_differs(
    one: Model, other: Model, says: list[str], tmp_path: Path
) -> None:
    assert difference(one, one) == difference(other, other) == ""
    paths = [tmp_path / "one", tmp_path / "other"]
    for path, model in zip(paths, (one, other), strict=True):
        models.save(model, path)
    line = refused(*paths, "-o", tmp_path / "out", "--weights", "1,1")
    assert line.startswith(f"mnist-merge: {paths[0]} and {paths[1]} can't be merged: ")
    assert all(part in line for part in says), line
    assert not (tmp_path / "out").exists()


def test_nets_that_were_trained_otherwise_are_one_net() -> None:
    net = tabular()
    longer = Model(net.arrays, net.learner, net.form, {"epochs": 9, "lr": 0.1})
    assert difference(net, longer) == ""


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    one, two = (saved(tmp_path / name, linear(1), 1) for name in ("one", "two"))
    out = tmp_path / "out"
    out.write_text("mine")
    assert "--force" in refused(one, two, "-o", out)
    assert out.read_text() == "mine"
    told(one, two, "-o", out, "--force")
    assert "one of the models" in refused(one, two, "-o", two, "--force")
    (tmp_path / "link").symlink_to(two)
    assert "one of the models" in refused(one, two, "-o", tmp_path / "link", "--force")
    assert "no such folder" in refused(one, two, "-o", tmp_path / "nowhere" / "out")
    assert "a folder" in refused(one, two, "-o", tmp_path)
    line = refused(one, two, "-o", "s3://me:secret@bucket/out")
    assert "on this machine" in line
    assert "secret" not in line


# Strategies.


def test_a_strategy_that_goes_on_from_a_model_wants_it_and_one_with_a_word_in_steps_is_refused(
    tmp_path: Path,
) -> None:
    one, two = saved(tmp_path / "one", linear(2)), saved(tmp_path / "two", linear(4))
    out = tmp_path / "out"
    for name in ("fedavgm", "fedadam", "fedyogi", "fedadagrad", "dp"):
        assert "--start" in refused(one, two, "-o", out, "--merge", name)
    assert "each step" in refused(one, two, "-o", out, "--merge", "scaffold")
    assert "atoms" in refused(one, two, "-o", out, "--merge", "union")
    assert "did you mean mean?" in refused(one, two, "-o", out, "--merge", "meann")
    start = saved(tmp_path / "start", linear(1), None)
    result = told(one, two, "-o", out, "--merge", "fedavgm:rate=0.5", "--start", start)
    assert result["merge"] == "fedavgm:rate=0.5"
    assert (models.load(out).arrays["layer.weights"] == 2).all()


def test_finished_models_are_merged_with_noise_and_it_is_said_how_private_that_is(
    tmp_path: Path,
) -> None:
    accountant()
    one, two = saved(tmp_path / "one", linear(2)), saved(tmp_path / "two", linear(4))
    start, merge = saved(tmp_path / "start", linear(1), None), ("--merge", "dp:noise=4")
    result = told(one, two, "-o", tmp_path / "out", *merge, "--start", start)
    assert result["merged"] == {"epsilon": pytest.approx(0.926, abs=1e-3), "delta": 1e-5,
                                "by": "shard"}  # fmt: skip
    arguments = (one, two, "-o", tmp_path / "again", *merge, "--start", start)
    done = here(MERGE_HERE, *map(str, arguments))
    assert "private  epsilon 0.926 at delta 1e-05, by shard" in done.stdout


def test_one_that_is_far_from_where_all_began_is_drawn_back_and_named(tmp_path: Path) -> None:
    far = [saved(tmp_path / str(value), linear(value)) for value in (1, 1, 100)]
    start = saved(tmp_path / "start", linear(0))
    done = here(MERGE_HERE, *far, "-o", str(tmp_path / "out"), "--start", start)
    assert done.returncode == 0
    assert f"mnist-merge: {far[2]} was 100 times as far" in done.stderr
    assert models.load(tmp_path / "out").arrays["layer.bias"] == pytest.approx(5 / 3)


class Best(Strategy):
    """Takes the best model alone."""

    name = "best"
    judges = True

    def merge_judged(
        self, solutions: Collection[Solution], before: Arrays, state: Arrays, judge: Judge
    ) -> Merged:
        worth = [judge(each.arrays) for each in solutions]
        taken = max(range(len(worth)), key=worth.__getitem__)
        odd = {place: "is not the best" for place in range(len(worth)) if place != taken}
        return Merged([*solutions][taken].arrays, NOTHING, [], odd)


def test_a_strategy_that_judges_has_rows_of_the_training_part_for_it(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_strategies", lambda: {"best": Best})
    good, bad = learned(idx_folder, 8), linear(0)
    one, two = saved(tmp_path / "one", bad), saved(tmp_path / "two", good)
    order = (one, two, "-o", tmp_path / "out", "--merge", "best")
    assert "--validation" in refused(*order)
    assert "--validation" in refused(*order, "--data", idx_folder)
    done = here(
        MERGE_HERE, *map(str, order), "--data", str(idx_folder), "--validation", "0.2", "--json"
    )
    assert json.loads(done.stdout)["sha256"] == sha256(good)
    assert f"{one} is not the best" in done.stderr


# How good they are.


def test_each_model_and_the_merged_one_are_tried_and_the_merged_one_predicts(
    idx_folder: Path, tmp_path: Path
) -> None:
    one = saved(tmp_path / "one", learned(idx_folder, 1))
    two = saved(tmp_path / "two", learned(idx_folder, 9))
    out = tmp_path / "out"
    result = told(one, two, "-o", out, "--data", idx_folder)
    for path, scores in ((one, result["models"][0]), (two, result["models"][1]), (out, result)):
        done = here(PREDICT_HERE, str(path), "--data", str(idx_folder), "--json")
        alone = json.loads(done.stdout)
        assert {name: scores[name] for name in ("accuracy", "macro_f1")} == {
            name: alone[name] for name in ("accuracy", "macro_f1")
        }
    assert result["test_rows"] == 50
    few = told(one, two, "-o", out, "--force", "--data", idx_folder, "--limit", "20")
    assert few["test_rows"] == 20


def test_a_mean_that_is_worth_nothing_is_said(idx_folder: Path, tmp_path: Path) -> None:
    good = learned(idx_folder, 9)
    against = {name: -3 * array if "layer" in name else array for name, array in good.items()}
    one, two = saved(tmp_path / "one", good), saved(tmp_path / "two", against)
    done = here(MERGE_HERE, one, two, "-o", str(tmp_path / "out"), "--data", str(idx_folder))
    assert "much worse than the best of them" in done.stderr
    assert "--seed" in done.stderr
    assert done.returncode == 0
    blind = dict(linear(0))
    more = {**blind, "steps": blind["steps"] + 1}
    none = [saved(tmp_path / name, each) for name, each in (("none", blind), ("more", more))]
    done = here(MERGE_HERE, *none, "-o", str(tmp_path / "blind"), "--data", str(idx_folder))
    assert done.returncode == 8
    assert "for one class" in done.stderr
    assert (tmp_path / "blind").exists()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_table_fits_a_terminal(width: int, idx_folder: Path, tmp_path: Path) -> None:
    long = tmp_path / "a-run-with-a-name-that-takes-the-whole-width-of-a-terminal-or-more"
    one = saved(long / "model.safetensors", learned(idx_folder, 1), 60_000_000)
    two = saved(tmp_path / "two", learned(idx_folder, 9), 1)
    asked = Asked(
        models=(one, two), out=tmp_path / "out", merge=None, weights=(), start=None,
        data=str(idx_folder), label=None, limit=None, validation=0, learner=None, runs=tmp_path,
    )  # fmt: skip
    with ExitStack() as held:
        done = Joining(asked, held, str, str).see_through()
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(command._table(done))
    text = shown.get()
    assert all(len(line) <= width for line in text.splitlines())
    for scores in done.scores:
        assert f"{scores.accuracy:.2%}" in text
        assert f"{scores.macro_f1:.4f}" in text
    assert "60,000,001" in text
    assert "…" not in text


def test_models_of_a_users_own_learner_are_merged_where_it_is_named(
    idx_folder: Path, tmp_path: Path
) -> None:
    code = tmp_path / "near.py"
    code.write_text(NEAREST)
    rows = load(idx_folder)
    array = rows.read()["image"].reshape(len(rows), -1).astype(float) - 30
    paths = []
    for name, some in (("one", slice(0, 100)), ("two", slice(100, 200))):
        means = np.array([array[some][rows.labels[some] == each].mean(0) for each in range(10)])
        paths.append(saved(tmp_path / name, {"means": means}, learner="near:Nearest"))
    assert "--learner FILE.py:Nearest" in refused(*paths, "-o", tmp_path / "out")
    result = told(
        *paths, "-o", tmp_path / "out", "--learner", f"{code}:Nearest", "--data", idx_folder
    )
    assert result["learner"] == models.load(tmp_path / "out").learner == "near:Nearest"
    assert result["accuracy"] > 0.9


def test_models_are_read_one_at_a_time_as_often_as_they_are_gone_through(tmp_path: Path) -> None:
    one = Path(saved(tmp_path / "one", linear(1), 300))
    each = [Finished(path, "", "", "", 3) for path in (one, tmp_path / "none")]
    some = InFiles(each)
    for _ in range(2):
        solution = next(iter(some))
        assert (solution.examples, solution.part, sha256(solution.arrays)) == (
            3, 1, sha256(linear(1))
        )  # fmt: skip
    assert len(some) == 2


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    there = saved(tmp_path / "one", linear(1))
    line = refused(there, tmp_path / "none", "-o", tmp_path / "out")
    assert line == f"mnist-merge: {tmp_path / 'none'}: no such file"
    assert "two models" in refused(there, "-o", tmp_path / "out")
    assert "1 number for 2 models" in refused(there, there, "-o", tmp_path / "o", "--weights", "1")
    assert "--weights" in refused(there, there, "-o", tmp_path / "o", "--weights", "1,0")
