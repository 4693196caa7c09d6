"""What one more file can bring: sources, learners, strategies, node kinds; through the commands.

The files of `tests/seams` stand in a copy of the packages, and the commands run there; learners are
installed beside it, by each test its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from learning import Solution, registry
from loaders import Form, Rows, SourceOptions
from loaders.rows import Arrays
from main_node import AsyncMainNode, JobFailed
from main_node.options import JobOptions, ListenOptions
from main_node.run.events import Event, Warned
from main_node.run.opening import Plan, open_run
from main_node.run.spec import RunSpec
from main_node.store.directory import RunDirectory
from main_node.store.results import Result
from protocol import JobDataType, JobSolutionDataType

from . import BROUGHT
from .alone import Threads, running, solve
from .brought.linear import LinearLearner
from .conftest import ANY_PORT, make_idx_folder
from .processes import MAIN, SECONDS, Process, run
from .test_house import copied

SEAMS = Path(__file__).parent / "seams"
PREDICT = (MAIN[0], "-c", "import mnist_merge; mnist_merge.predict()")
DATASETS = (MAIN[0], "-c", "import mnist_merge; mnist_merge.datasets()")
RUNS = (MAIN[0], "-c", "import mnist_merge; mnist_merge.runs()")
#: Where a file of each name belongs.
PLACES = {
    "colours": "loaders/sources", "table": "loaders/sources", "heavy": "learning/merging",
    "tether": "learning/merging",
}  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of all packages, with every file of `tests/seams` where it belongs."""
    path = copied(tmp_path_factory.mktemp("house"))
    for name, place in PLACES.items():
        shutil.copy(SEAMS / f"{name}.py", path / place)
    more = (SEAMS / "colours.py").read_text().replace('"colours"', '"more"')
    more = more.replace('"green"', '"jade", "beige"')
    (path / "loaders" / "sources" / "more.py").write_text(more)
    shutil.copytree(SEAMS / "shouting_node", path / "shouting_node")
    return path


class House:
    """A copy of the packages and what is installed beside it, and the commands that run there.

    Args:
        copy: of the packages.
        path: where commands run, and where what is installed is.
    """

    def __init__(self, copy: Path, path: Path) -> None:
        self.path, self._installed = path, path / "installed"
        self.runs = path / "runs"
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [copy, self._installed]))}
        self._installed.mkdir(parents=True)
        self.started: list[Process] = []
        self.install("linear", "linear:LinearLearner")

    def close(self) -> None:
        """End what it started."""
        for process in self.started:
            process.close()

    def install(self, name: str, place: str, file: str | None = None) -> None:
        """Install a learner as a package of its own is: its file, and an entry point.

        Args:
            name: of the learner.
            place: `module:Class`.
            file: content of the module; that of `tests/brought` unless given.
        """
        module = place.partition(":")[0]
        text = (BROUGHT / f"{module}.py").read_text() if file is None else file
        (self._installed / f"{module}.py").write_text(text)
        info = self._installed / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mnist_merge.learners]\n{name} = {place}\n")

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return run(*command, cwd=self.path, env={**self.env, **env})

    def arguments(self, data: str, *options: str, nodes: int = 1) -> tuple[str, ...]:
        """Return a command that trains, with local nodes."""
        local = ("--local-nodes", str(nodes)) if nodes else ()
        return (
            *MAIN, "--data", data, "--bind", "tcp://127.0.0.1:0", "--jobs", "2", "--rounds", "2",
            *local, *options,
        )  # fmt: skip

    def main(self, data: str, *options: str, nodes: int = 1, **env: str) -> Process:
        """Start a main node."""
        command = self.arguments(data, "--json", "--log-level", "debug", *options, nodes=nodes)
        self.started.append(Process(*command, cwd=self.path, env={**self.env, **env}))
        return self.started[-1]

    def train(
        self, data: str, *options: str, code: int = 0, nodes: int = 1
    ) -> subprocess.CompletedProcess[str]:
        """Train, and see how that ends."""
        done = self.run(*self.arguments(data, *options, nodes=nodes))
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stdout
        return done

    def result(self, data: str, *options: str, nodes: int = 1) -> dict[str, Any]:
        """Train, and return what it came to."""
        done = self.train(data, "--json", *options, nodes=nodes)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def cut_short(self, data: str, *options: str) -> None:
        """Begin a run, and kill it in the middle of its second round."""
        gate = self.path / "gate"
        gate.mkdir()
        main = self.main(data, *options, LINEAR_GATE=str(gate))
        main.event("job.accepted", job=lambda name: name.startswith("round-002-job-"))
        main.kill()
        shutil.rmtree(gate)

    def resume(self, *options: str) -> dict[str, Any]:
        """Go on with the only run, and return what it came to."""
        (path,) = self.runs.iterdir()
        done = self.run(*MAIN, "--resume", str(path), "--json", *options)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result


@pytest.fixture
def house(copy: Path, tmp_path: Path) -> Iterator[House]:
    """Return the house, with nothing run in it yet."""
    made = House(copy, tmp_path / "here")
    yield made
    made.close()


@dataclass
class Coloured:
    """A run that has learned colours.

    Args:
        house: where it is.
        told: what it said on standard error.
        shown: what it printed.
    """

    house: House
    told: str
    shown: str

    @property
    def folder(self) -> Path:
        """The directory of the run."""
        (path,) = self.house.runs.iterdir()
        return path

    @property
    def model(self) -> str:
        """The file of its model."""
        return str(self.folder / "model.safetensors")

    @property
    def result(self) -> dict[str, Any]:
        """What it came to."""
        result: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text())
        return result


@pytest.fixture(scope="module")
def coloured(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Coloured:
    """Return a run of a source and a learner that were brought, with two local nodes."""
    house = House(copy, tmp_path_factory.mktemp("coloured") / "here")
    done = house.train("colours", "--learner", "linear", nodes=2)
    return Coloured(house, done.stderr, done.stdout)


# Sources.


def test_a_source_is_one_file(coloured: Coloured, tmp_path: Path) -> None:
    house, told = coloured.house, coloured.told
    assert "mixing colours" in told
    assert "colours: 240 images, 2 jobs (disjoint), 2 rounds of 8 steps" in told
    assert "grey $_{$ \u7070" in coloured.shown
    assert "Glyph" not in told
    assert (coloured.folder / "confusion.png").exists()
    tried = house.run(*PREDICT, coloured.model, "--data", "colours")
    assert tried.returncode == 0, tried.stderr
    assert "grey $_{$ \u7070" in tried.stdout
    assert "accuracy 100.00% (macro F1 1.0000) on 80 images" in tried.stdout
    image = tmp_path / "image.png"
    Image.new("RGB", (40, 30), (30, 200, 20)).save(image)
    seen = house.run(*PREDICT, coloured.model, str(image))
    assert (seen.returncode, seen.stdout) == (0, f"green  {image}\n"), seen.stderr
    elsewhere = house.run(*PREDICT, coloured.model, "--data", "nowhere")
    assert elsewhere.returncode == 3
    assert "mnist-datasets list" in elsewhere.stderr
    listed = house.run(*DATASETS, "list")
    assert "colours" in listed.stdout


def test_a_model_is_tried_on_data_of_other_classes(coloured: Coloured, house: House) -> None:
    """Found here: the confusion table had rows of classes that the model has no names for."""
    result = house.result("colours", "--learner", "linear", "--target-digit", "1")
    assert result["classes"] == ["not green", "green"]
    none = house.run(*PREDICT, result["model"], "--data", "more")
    assert none.returncode == 2
    assert "the model tells 'green' from the rest; more has no such class" in none.stderr
    assert house.run(*PREDICT, result["model"], "--data", "colours").returncode == 0
    more = coloured.house.run(*PREDICT, coloured.model, "--data", "more")
    assert more.returncode == 0, more.stderr
    assert "beige" in more.stdout


@pytest.mark.parametrize("learner", ["neural", "algebraic"])
def test_data_that_a_learner_does_not_take_is_told_before_anything_begins(
    house: House, learner: str
) -> None:
    done = house.train("table", "--learner", learner, code=3)
    assert f"the {learner} learner takes pictures (one field: height x width, or" in done.stderr
    assert "a row of this data is size: float32 3, weight: float64 alone" in done.stderr
    assert "listening" not in done.stderr
    assert not house.runs.exists()


# Learners.


def test_a_learner_is_one_class_of_an_installed_package(house: House, tmp_path: Path) -> None:
    assert "--stride" in house.run(*MAIN, "--help").stdout
    printed = house.run(*MAIN, "--learner", "linear", "--print-config", MNIST_STRIDE="0.25").stdout
    assert "stride: 0.25\n" in printed
    config = tmp_path / "config.yaml"
    config.write_text(printed.replace("data: mnist", "data: colours"))
    done = house.run(
        *MAIN, "--config", str(config), "--descents", "3", "--local-nodes", "1", "--json",
        "--bind", "tcp://127.0.0.1:0", "--jobs", "2", "--rounds", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    arrays = load_file(house.path / result["model"])
    assert arrays["steps"] == 6
    assert "stride: 0.25\n" in next(house.runs.glob("*/config.yaml")).read_text()
    predicted = json.loads(
        house.run(*PREDICT, result["model"], "--data", "colours", "--json").stdout
    )
    assert predicted["accuracy"] == result["accuracy"]
    odd = house.run(*MAIN, "--stride", "2")
    assert odd.returncode == 2
    assert "--stride is for --learner linear; neural takes" in odd.stderr


#: The content of a learner's module, and what is said of it.
BROKEN = {
    "cannot": ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    "exits": ("raise SystemExit(9)", "SystemExit: 9"),
    "bare": (
        "from learning import Learner\nclass Bare(Learner):\n    name = 'bare'",
        "TypeError: its options are no dataclass",
    ),
    "other": (
        "from linear import LinearLearner as Other",
        "TypeError: it is no Learner whose name is 'other'",
    ),
}  # fmt: skip


def test_a_learner_that_is_broken_is_said_and_costs_nobody_else(house: House) -> None:
    for name, (text, _) in BROKEN.items():
        house.install(name, f"{name}:{name.title()}", text)
    done = house.run(*MAIN, "--learner", "linear", "--print-config")
    assert done.returncode == 0
    assert "learner: linear\n" in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == len(BROKEN)
    for name, (_, told) in BROKEN.items():
        where = f"learner.unusable name={name} place={name}:{name.title()} "
        (line,) = [line for line in lines if where in line]
        assert told in line
    none = house.run(*MAIN, "--learner", "cannot")
    assert none.returncode == 2
    assert "no learner 'cannot'; there is neural, algebraic, linear" in none.stderr
    assert house.run(*PREDICT, "--help").returncode == 0


def test_an_option_that_is_anothers_is_said_where_it_is_wanted(house: House) -> None:
    """An option has one default on the command line: who takes it with another can't be used."""
    third = (BROUGHT / "linear.py").read_text().replace('"linear"', '"third"')
    third = third.replace("descents: int", "epochs: int").replace("LinearLearner", "Third")
    house.install("third", "third:Third", third)
    done = house.run(*MAIN, "--learner", "third", "--print-config")
    assert done.returncode == 2
    assert "--learner third can't be: its option --epochs is already another's" in done.stderr
    assert "epochs: null\n" in house.run(*MAIN, "--learner", "linear", "--print-config").stdout


# Strategies.


def test_a_strategy_with_a_state_is_one_file_and_goes_on_with_it(house: House) -> None:
    """Its state is none that a run begins with; one with a client part: with the odd arrays."""
    assert "inertia=NUMBER" in house.run(*MAIN, "--merge", "heavy", "--help").stdout
    options = ("--learner", "linear", "--merge", "heavy:inertia=0.9")
    house.cut_short("colours", *options)
    resumed = house.resume()
    assert (resumed["starts"], resumed["merge"]) == (2, "heavy:inertia=0.9")
    calm = house.result("colours", *options)
    assert resumed["model_sha256"] == calm["model_sha256"]
    assert resumed["loss_by_round"] == calm["loss_by_round"]
    none = house.result("colours", "--learner", "linear", "--merge", "heavy:inertia=0")
    assert none["loss_by_round"][0] == calm["loss_by_round"][0]
    assert none["loss_by_round"][1] > calm["loss_by_round"][1]
    odd = house.run(*MAIN, "--merge", "mean:inertia=0.9")
    assert odd.returncode == 2
    assert "mean has no option 'inertia'; it has bound" in odd.stderr


def test_a_strategy_may_have_a_word_in_each_step(coloured: Coloured, house: House) -> None:
    linear, mean = ("--learner", "linear"), coloured.result
    none = house.result("colours", *linear, "--merge", "tether:hold=0")
    some = house.result("colours", *linear, "--merge", "tether")
    assert none["model_sha256"] == mean["model_sha256"]
    assert some["loss_by_round"][0] == mean["loss_by_round"][0]
    assert some["loss_by_round"][1] != mean["loss_by_round"][1]


def test_a_neural_run_that_was_cut_short_goes_on_with_its_control_variates(
    small: Path, tmp_path: Path
) -> None:
    """As if it had been killed in its second round; what kills it is the linear learner's."""
    plan = scaffold(small, tmp_path, learner="neural", rounds=2, epochs=1)
    calm = open_run(plan).see_through()
    run_ = Path(calm.model).parent
    cut_short(run_, before=2)
    again = open_run(plan, directory=RunDirectory(run_, new=False)).see_through()
    assert (again.starts, again.model_sha256) == (2, calm.model_sha256)


# All kinds of arrays.


def test_many_classes_tables_and_odd_arrays_go_through_every_layer(house: House) -> None:
    """A table of two fields and 100,000 classes; a model with a lone number, and an empty array."""
    options = ("--learner", "linear", "--merge", "tether", "--descents", "3", "--stride", "10")
    house.cut_short("table", *options)
    result = house.resume()
    (path,) = house.runs.iterdir()
    assert result["accuracy"] > 0.9
    assert (result["confusion"], result["classes"]) == ([], [])
    assert result["data"]["kind"] == "row"
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics == result
    done = house.run(*RUNS, "draw", str(path))
    assert done.stdout.split() == [str(path / "learning.png")], done.stderr
    assert not (path / "confusion.png").exists()
    arrays = load_file(path / "model.safetensors")
    assert {name: (each.dtype.name, each.shape) for name, each in arrays.items()} == {
        "layer.weights": ("float32", (4, 100_000)), "layer.bias": ("float32", (100_000,)),
        "steps": ("int64", ()), "nothing": ("float32", (0, 3)),
    }  # fmt: skip
    assert arrays["steps"] == 6
    model = str(path / "model.safetensors")
    tried = house.run(*PREDICT, model, "--data", "table", "--json")
    predicted = json.loads(tried.stdout)
    assert predicted["accuracy"] == result["accuracy"]
    assert "on 24 rows" in house.run(*PREDICT, model, "--data", "table").stdout
    no_picture = house.run(*PREDICT, model, "image.png")
    assert no_picture.returncode == 3
    assert "image.png: no such table; rows are those of CSV or Parquet" in no_picture.stderr
    shown = house.run(*RUNS, "show", str(path), "--events")
    assert shown.returncode == 0, shown.stderr
    assert "done" in shown.stdout
    (listed,) = json.loads(house.run(*RUNS, "list", "--json").stdout)
    assert (listed["state"], listed["learner"], listed["done"]) == ("done", "linear", 4)
    again = house.run(*MAIN, "--resume", str(path))
    assert again.returncode == 0, again.stderr
    assert f"mnist-predict {path}/model.safetensors --data table" in again.stdout
    assert "true class by predicted" not in again.stdout
    calm = house.result("table", *options)
    assert result["model_sha256"] == calm["model_sha256"]


# A trial before anything is begun.


class _Initial(LinearLearner):
    def initial(self, form: Form) -> Arrays:
        raise RuntimeError("no weights today")


class _Kinds(LinearLearner):
    def initial(self, form: Form) -> Arrays:
        return {"w": np.zeros(2, complex)}


class _Others(LinearLearner):
    def fit(self, *args: Any, **more: Any) -> Solution:
        solution = super().fit(*args, **more)
        return replace(solution, arrays={**solution.arrays, "more": np.zeros(2)})


class _Labels(LinearLearner):
    def evaluate(self, model: Arrays, rows: Rows) -> Any:
        return np.zeros(len(rows)), 0.0


class _Client(LinearLearner):
    def fit(self, *args: Any, **more: Any) -> Solution:
        return super().fit(*args, **{**more, "client": None})


class _Union(LinearLearner):
    parts = "atoms"


#: A learner that fails, what merges, and what is said.
FAILS: dict[str, tuple[type[LinearLearner], str, str]] = {
    "initial": (
        _Initial, "mean", "the failing learner's fresh model: RuntimeError: no weights today",
    ),
    "kinds": (
        _Kinds, "mean",
        "the failing learner's fresh model: array 'w' is of complex128, which can't"
        " be kept",
    ),
    "others": (
        _Others, "mean",
        "the failing learner's first step: its arrays are not those of the model:"
        " more",
    ),
    "labels": (
        _Labels, "mean",
        "the failing learner's prediction: no labels for 16 rows, int64, but"
        " float64 of shape (16,)",
    ),
    "client": (
        _Client, "scaffold",
        "the failing learner's first step: the learner has given the strategy no"
        " part in its steps",
    ),
    "union": (_Union, "union", "merging by 'union': not an algebraic model"),
}  # fmt: skip


@pytest.mark.parametrize("what", FAILS)
def test_what_fails_is_told_by_a_trial_before_anything_is_begun(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    kind, merge, told = FAILS[what]
    monkeypatch.setattr(kind, "name", "failing")
    monkeypatch.setattr(registry, "_classes", lambda: {"failing": kind})
    plan = Plan(
        spec=RunSpec.of({"learner": "failing", "merge": merge, "jobs": 2}),
        source=SourceOptions(data=str(small)), runs=tmp_path, listen=ListenOptions(bind=ANY_PORT),
        job=JobOptions(max_attempts=1), engine=Threads(1, "failing"),
    )  # fmt: skip
    with pytest.raises(JobFailed) as raised:
        open_run(plan).see_through()
    words = "round 1 trial 1 failed for good after 1 attempt; the last at local-"
    assert str(raised.value).startswith(words)
    assert told in str(raised.value)
    assert not [*tmp_path.iterdir()]  # nothing is left of a run that nothing came of


def test_a_command_whose_trial_fails_tells_it_and_ends(house: House) -> None:
    text = "from linear import LinearLearner\nclass Failing(LinearLearner):\n    name = 'failing'\n"
    text += "    def initial(self, form): raise RuntimeError('no weights today')\n"
    house.install("failing", "failing:Failing", text)
    done = house.train("colours", "--learner", "failing", "--max-attempts", "1", code=4)
    (line,) = [line for line in done.stderr.splitlines() if "failed for good" in line]
    assert "round 1 trial 1 failed for good after 1 attempt; the last at local-" in line
    assert FAILS["initial"][2] in line
    assert "before any job was done" in done.stderr
    assert not house.runs.exists()


# A node that lies.


ARRAY = "layer.bias"
#: What a lying node makes of what a strategy keeps of a shard, and what is said of that.
LIES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "shape": (
        lambda own: {**own, ARRAY: own[ARRAY][:-1]},
        f"array '{ARRAY}' of what the strategy keeps of a shard is float32 of shape (3,),"
        " not float32 of (4,)",
    ),
    "type": (
        lambda own: {**own, ARRAY: own[ARRAY].astype(np.float64)},
        f"array '{ARRAY}' of what the strategy keeps of a shard is float64 of shape (4,),"
        " not float32 of (4,)",
    ),
    "endless": (
        lambda own: {**own, ARRAY: own[ARRAY] + np.float32(np.inf)},
        f"array '{ARRAY}' holds numbers that are not finite",
    ),
    "less": (
        lambda own: {name: array for name, array in own.items() if name != ARRAY},
        f"its arrays are not those of what the strategy keeps of a shard: {ARRAY}",
    ),
    "more": (
        lambda own: {**own, "more": np.zeros(1)},
        "its arrays are not those of what the strategy keeps of a shard: more",
    ),
    "none": (lambda own: {}, "nothing of what that keeps of a shard has come back"),
}


def lie(
    made_of: Callable[[dict[str, Any]], dict[str, Any]], job: JobDataType
) -> JobSolutionDataType:
    """Solve a job, but for what the strategy keeps of the shard."""
    solution = solve(job)
    if job.parameters["action"] != "fit":
        return solution
    own = {name[4:]: each for name, each in solution.arrays.items() if name.startswith("own/")}
    model = {n: each for n, each in solution.arrays.items() if not n.startswith("own/")}
    arrays = {**model, **{f"own/{name}": each for name, each in made_of(own).items()}}
    return JobSolutionDataType(arrays, solution.metrics)


def test_what_a_strategy_keeps_of_a_shard_is_checked_whoever_sends_it(house: House) -> None:
    options = ("--learner", "linear", "--merge", "scaffold", "--jobs", "8")
    company = ("--min-nodes", str(len(LIES)), "--max-attempts", "20")
    main = house.main("colours", *options, *company, nodes=0)
    address = main.event("run.opened")["address"]
    with ExitStack() as nodes:
        for name, (made_of, _) in LIES.items():
            nodes.enter_context(running(name, address, partial(lie, made_of)))
        for name, (_, told) in LIES.items():
            benched = main.event("node.benched", node=lambda node: node.startswith(f"{name}."))  # noqa: B023
            assert told in benched["reason"]
        nodes.enter_context(running("honest", address, partial(lie, dict)))
        result = main.result()
    assert {node.partition(".")[0] for node in result["nodes"]} == {"honest"}
    assert result["retries"] >= len(LIES)
    calm = house.main("colours", *options, nodes=0)
    with running("calm", calm.event("run.opened")["address"]):
        assert calm.result()["model_sha256"] == result["model_sha256"]


# Node kinds.


def test_a_kind_of_node_is_one_folder(
    house: House, main_node: Callable[..., AsyncMainNode]
) -> None:
    """As far as running it goes; to ship, it is named in the lists that `test_house` compares."""
    shouting = (MAIN[0], "-m", "shouting_node")
    helped = house.run(*shouting, "--help").stdout
    assert "--marks" in helped
    main = main_node()
    future = main.submit(JobDataType("who is there?"))
    done = house.run(*shouting, "--connect", main.address, MNIST_SHOUTING_MARKS="3")
    assert done.returncode == 0, done.stderr
    assert future.result(SECONDS).to_string() == "WHO IS THERE?!!!"
    odd = house.run(*shouting, MNIST_SHOUTING_MARK="3")
    assert odd.returncode == 2
    assert "did you mean MNIST_SHOUTING_MARKS?" in odd.stderr


# What a strategy goes on with.


class Warnings:
    """A listener that remembers what is not as it should be."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def on(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Warned):
            self.all.append(event.text)


def scaffold(data: Path, runs: Path, learner: str = "linear", **options: Any) -> Plan:
    """Return a run whose shards differ, and are corrected; its node is a thread."""
    spec = {"merge": "scaffold", "jobs": 2, "rounds": 3, "sharding": "labels", **options}
    return Plan(
        spec=RunSpec.of({"learner": learner, **spec}), source=SourceOptions(data=str(data)),
        runs=runs, listen=ListenOptions(bind=ANY_PORT), engine=Threads(1, learner),
    )  # fmt: skip


def cut_short(run_: Path, before: int) -> None:
    """Remove what a run has had from a round on, counted from 1, and its end."""
    gone = [path for place in ("models", "solutions") for path in (run_ / place).iterdir()]
    for path in gone:
        if int(path.name.split("-")[1].partition(".")[0]) >= before:
            path.unlink()
    for name in ("metrics.json", "model.safetensors"):
        (run_ / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idx_folder(tmp_path_factory.mktemp("data") / "idx", 160, 40)


@pytest.fixture(scope="module")
def whole(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return the result of a run that nobody disturbed."""
    return open_run(scaffold(small, tmp_path_factory.mktemp("whole"))).see_through()


@pytest.mark.parametrize(
    "harm",
    ["client gone", "client stale", "clients gone", "state stale", "state gone", "first gone"],
)
def test_what_a_strategy_goes_on_with_is_that_of_the_round_or_is_made_again(
    whole: Result, small: Path, tmp_path: Path, harm: str
) -> None:
    run_ = tmp_path / whole.run
    shutil.copytree(Path(whole.model).parent, run_)
    models = run_ / "models"
    cut_short(run_, before=3)
    client, state = models / "round-002.client-0001", models / "round-002.state"
    if harm == "client stale":
        shutil.copy(models / "round-001.client-0001", client)
    elif harm == "state stale":
        shutil.copy(models / "round-001.state", state)
    else:
        gone = {
            "client gone": [client], "clients gone": models.glob("*.client-*"),
            "state gone": [state], "first gone": models.glob("round-001.client-*"),
        }  # fmt: skip
        for path in list(gone[harm]):
            path.unlink()
    heard = Warnings()
    again = open_run(scaffold(small, tmp_path), [heard], RunDirectory(run_, new=False))
    assert again.see_through().model_sha256 == whole.model_sha256
    assert any("merged again" in text for text in heard.all)
