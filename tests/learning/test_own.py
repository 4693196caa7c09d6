"""Users' own nets and learners: how their code is found, what they are made with, what they do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from learning import Layout, LearningError, Turn, UnknownLearner, create, learner, merging
from learning.actions import CODE, Fit, Predict, Trial, digest, perform
from learning.own import kinds
from learning.own.code import Code, CodeError, gather, read
from learning.own.kinds import OWN_CODE, told_of_code
from learning.registry import described, settings_of
from loaders import SourceUnreachable
from loaders.running import place_of
from protocol.options import carried, declared

from .common import images, never, silent

ROWS = images(48, side=8)
NET = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, height: int, width: int, classes: int, units: int = 8, dropout=0.1):
        super().__init__()
        self.first, self.norm = nn.Linear(height * width, units), nn.BatchNorm1d(units)
        self.drop, self.last = nn.Dropout(dropout), nn.Linear(units, classes)

    def forward(self, x):
        assert x.dtype == torch.float32 and 0 <= x.min() and x.max() <= 1
        return self.last(self.drop(functional.relu(self.norm(self.first(x.view(len(x), -1))))))
"""


@pytest.fixture(autouse=True)
def nothing_found_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Have code looked for anew, by a node that has nothing of its own, and leave no module."""
    before, path, folder = {*sys.modules}, [*sys.path], Path.cwd()
    monkeypatch.setattr(kinds, "finder", kinds.Finder())
    kinds._learner_at.cache_clear()
    yield
    os.chdir(folder)
    sys.path[:] = path
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def written(folder: Path, code: str = NET, name: str = "net.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(code))
    return path


def named(folder: Path, code: str = NET, name: str = "Net") -> str:
    return f"{written(folder, code)}:{name}"


def job(place: str, action: Any, **make: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an action as a job of own code carries it, without the code."""
    code = learner(place).code
    assert code is not None
    work = action.pack()
    made = carried(create(place, make).made)
    told = {**work.told(), "action": action.name, "make": made, "code": told_of_code(code)}
    return told, work.carried()


def tried(place: str, **make: object) -> dict[str, Any]:
    trial = Trial(rows=ROWS.of(slice(0, 16)), turn=Turn(), strategy=merging.create("mean", {}))
    values, arrays = job(place, trial, **make)
    return perform(OWN_CODE, values, arrays, silent, never)[1]


# How code is found.


def test_to_code_belong_the_modules_beside_it_that_it_imports(tmp_path: Path) -> None:
    written(tmp_path, "import numpy, parts.deep\nfrom parts import one", "net.py")
    written(tmp_path, "", "parts/__init__.py")
    written(tmp_path, "from . import two\nfrom .below.three import x", "parts/one.py")
    written(tmp_path, "def late():\n    import far", "parts/deep.py")
    for name in ("parts/two.py", "parts/below/three.py", "far.py", "other.py", "parts/other.py"):
        written(tmp_path, "", name)
    assert sorted(gather("net", tmp_path)) == [
        "far.py", "net.py", "parts/__init__.py", "parts/below/three.py", "parts/deep.py",
        "parts/one.py", "parts/two.py",
    ]  # fmt: skip


def test_its_digest_is_that_of_all_of_its_files_wherever_they_are(tmp_path: Path) -> None:
    digests = []
    for folder, more in (("a", ""), ("b", ""), ("c", "x = 1")):
        written(tmp_path / folder, f"import torch, beside\n{NET}")
        written(tmp_path / folder, more, "beside.py")
        place = place_of(f"{tmp_path / folder / 'net.py'}:Net")
        assert place is not None
        digests.append(read(place).digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("code", "name", "told"),
    [
        ("def f(:", "f", "line 1: no Python"),
        ("x = 1", "x", "defines no class or function 'x'; those that it defines: none"),
        ("class A: ...\nclass B: ...", "C", "those that it defines: A, B"),
        ("def main(): ...", "main", "is a function, and nothing of net.py is of a KubeModel's"),
        ("class A: ...", "A", "a class of torch's nn.Module is wanted"),
        ("import queue", "A", "'queue' is the name of a module of Python's"),
        ("import protocol", "A", "'protocol' is the name of a module of this project's"),
        ("1 / 0\nclass A: ...", "A", "ZeroDivisionError: division by zero (line 1 of "),
        ("import sys\nsys.exit(3)\nclass A: ...", "A", "SystemExit: 3"),
        ("import not_there\nclass A: ...", "A", "No module named 'not_there'"),
        (
            "import argparse\nargparse.ArgumentParser().parse_args()\nclass A: ...",
            "A",
            "a class of torch's nn.Module is wanted",
        ),
        ("exit(0)\nclass A: ...", "A", 'belongs under if __name__ == "__main__":'),
        ("get_ipython()\nclass A: ...", "A", "take the lines with it out"),
        ("from .b import c\nclass A: ...", "A", "is named package.module:NAME"),
        ("from b import B as A", "A", "it has it from b: name b:B"),
        (
            "if 1:\n    try:\n        class A: ...\n    except OSError:\n        def B(): ...",
            "C",
            "those that it defines: A, B",
        ),
    ],
)
def test_code_that_is_no_learner_is_told_in_a_sentence(
    tmp_path: Path, code: str, name: str, told: str
) -> None:
    for other in ("queue.py", "protocol.py"):
        written(tmp_path, "", other)
    with pytest.raises(UnknownLearner) as caught:
        learner(named(tmp_path, code, name))
    assert told in str(caught.value)


def test_a_file_alone_is_told_what_is_in_it(tmp_path: Path) -> None:
    file = written(tmp_path, NET)
    for name, told in ((file, f"too: {file}:Net"), (tmp_path / "no.py", "no.py:NAME")):
        with pytest.raises(UnknownLearner) as caught:
            learner(str(name))
        assert str(caught.value).endswith(told)


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, NET, "only_here.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for place, told in (
        (f"{tmp_path}/none.py:Net", "no such file"), ("not.there:Net", "there is no module"),
        ("only_here:Net", "^only_here: there is no module 'only_here' that is installed"),
        ("Net", "no learner 'Net'; there is neural, algebraic, .*and your own: FILE.py:NAME"),
    ):  # fmt: skip
        with pytest.raises(UnknownLearner, match=told):
            learner(place)


# What it is made with.


def test_parameters_of_a_net_are_options_and_the_data_gives_its_own(tmp_path: Path) -> None:
    place = named(tmp_path)
    kind = learner(place)
    own = {each.name: each for each in declared(kind.options)}
    assert (own["units"].type, own["units"].default) == (int, 8)
    assert (own["dropout"].type, own["dropout"].default) == (float, 0.1)
    assert own.keys() >= {"epochs", "lr", "optimizer"}
    assert not own.keys() & {"height", "classes", "self"}
    assert settings_of(kind, ["units=32", "drop-out=1", "flip=true"][:1]) == {"units": 32}
    assert settings_of(kind, ["flip=true", "optimizer=Adam"]) == {"flip": True, "optimizer": "Adam"}
    for text, told in (
        ("units=x", "not a whole number"), ("unit=3", "did you mean units?"),
        ("dropout=nan", "not a number to work with"), ("units", "no such option"),
        ("schedule=StepLR", "not one of OneCycleLR"),
    ):  # fmt: skip
        with pytest.raises(UnknownLearner) as caught:
            settings_of(kind, [text])
        assert told in str(caught.value)
    shapes = {name: array.shape for name, array in create(place, {"units": 5}).initial(ROWS.form)
              .items()}  # fmt: skip
    assert shapes["first.weight"] == (5, 64)
    assert shapes["last.weight"] == (10, 5)


def test_types_are_those_that_are_written_whatever_else_is(tmp_path: Path) -> None:
    code = """
    from __future__ import annotations
    from typing import TYPE_CHECKING, Optional
    from torch import nn
    if TYPE_CHECKING:
        from collections.abc import Callable
    class Net(nn.Module):
        def __init__(self, columns: int, depth: int, drop: float = 0, rank: Optional[int] = None,
                     act: Callable[..., nn.Module] = nn.ReLU): ...
    """
    kind = learner(named(tmp_path, code))
    own = {each.name: each.type for each in declared(kind.options)}
    assert (own["depth"], own["drop"], own["rank"]) == (int, float, int)
    assert "act" not in own
    assert settings_of(kind, ["drop=0.2"]) == {"drop": 0.2}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lenet-5.py", "call it lenet_5.py, say"), ("my net (1).py", "call it my_net_1.py, say"),
        ("1net.py", "call it _1net.py, say"), ("my.net.py", "call it my_net.py, say"),
        ("torch.py", "'torch' is the name of a module of torch's"),
    ],
)  # fmt: skip
def test_a_file_that_nodes_could_not_find_by_its_name_is_told(
    tmp_path: Path, name: str, told: str
) -> None:
    with pytest.raises(UnknownLearner) as caught:
        learner(f"{written(tmp_path, NET, name)}:Net")
    assert told in str(caught.value)


def test_a_file_is_looked_for_at_home_and_may_have_any_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path / "a folder", NET, "ünï.py")
    assert learner("~/a folder/ünï.py:Net").name == "ünï:Net"


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        ("rank", "neither a default nor a type that --set can give"),
        ("rank: list", "neither a default nor a type"),
        ("epochs: int", "its epochs has the name of an option of the training"),
        ("rank, /", "its rank can't be given by name"),
    ],
)
def test_a_parameter_that_nobody_can_give_is_told(
    tmp_path: Path, signature: str, told: str
) -> None:
    code = f"from torch import nn\nclass Net(nn.Module):\n    def __init__(self, {signature}): ..."
    with pytest.raises(UnknownLearner, match=told):
        learner(named(tmp_path, code))


def test_what_data_has_not_and_what_nobody_said_is_told(tmp_path: Path) -> None:
    code = """
    from torch import nn
    class Net(nn.Module):
        def __init__(self, columns: int): ...
    class Wants(nn.Module):
        def __init__(self, rank: int, table=(), **more): ...
    """
    with pytest.raises(LearningError, match="asks for columns, which rows of image: uint8 8 x 8"):
        create(named(tmp_path, code), {}).check_form(ROWS.form)
    with pytest.raises(LearningError, match="wants rank: --set rank=VALUE"):
        create(named(tmp_path, code, "Wants"), {}).initial(ROWS.form)


def test_names_of_torch_that_there_are_not_are_told_at_the_main_node(tmp_path: Path) -> None:
    for make in ({"optimizer": "Foo"}, {"loss": "Bar"}, {"loss": "functional"}):
        with pytest.raises(UnknownLearner, match="has no such class"):
            create(named(tmp_path), make).check_form(ROWS.form)


# What it does.

ODD = """
import torch
from torch import nn
from torch.nn import functional

class Base(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.dense = nn.Linear(64, classes)

    def forward(self, x):
        return self.dense(x.flatten(1))

class Tied(Base):
    def __init__(self, classes: int):
        super().__init__(classes)
        self.inner, self.outer = nn.Linear(64, 64), nn.Linear(64, 64)
        self.outer.weight = self.inner.weight

    def forward(self, x):
        x = functional.relu(self.inner(x.flatten(1)))
        return super().forward(functional.relu(self.outer(x)))

class Frozen(Base):
    def __init__(self, classes: int):
        super().__init__(classes)
        self.still, self.unused = nn.Linear(64, 64).requires_grad_(False), nn.Linear(2, 2)

    def forward(self, x):
        return super().forward(self.still(x.flatten(1)))

class Counted(Base):
    def __init__(self, classes: int):
        super().__init__(classes)
        self.norm = nn.BatchNorm1d(64)
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        if self.training:
            self.seen += 1
        return super().forward(self.norm(x.flatten(1)) * self.scale)

class Lazy(Base):
    def __init__(self, classes: int):
        nn.Module.__init__(self)
        self.inner, self.dense = nn.LazyConv2d(4, 3), nn.LazyLinear(classes)

    def forward(self, x):
        return self.dense(self.inner(x).view(len(x), -1))

class Random(Base):
    def forward(self, x):
        return super().forward(functional.dropout(x, 0.5, self.training))

class LogSoftmax(Base):
    def forward(self, x):
        return super().forward(x).log_softmax(1)

class Brain(Base):
    def __init__(self, classes: int):
        super().__init__(classes)
        self.to(torch.bfloat16)

class Told(Base):
    def get_extra_state(self):
        return "words"

class Named(Base):
    def __init__(self, classes: int):
        super().__init__(classes)
        self.mean = nn.Parameter(torch.zeros(1))

class Two(Base):
    def forward(self, x):
        return super().forward(x), x

class Few(Base):
    def forward(self, x):
        return super().forward(x)[:, :3]

class Breaks(Base):
    def forward(self, x):
        raise KeyError("mine")
"""


def fit(place: str, rows: Any, start: Any, seed: int = 1, **make: object) -> Any:
    made = create(place, {"epochs": 2, "batch_size": 8, **make})
    action = Fit(rows=rows, start=start, seed=seed, turn=Turn(), layout=Layout(start))
    return action.read(made, *action.perform(made, silent, never))


@pytest.mark.parametrize("name", ["Tied", "Frozen", "Counted", "Lazy", "Random"])
def test_odd_nets_are_tried_learned_merged_and_used(tmp_path: Path, name: str) -> None:
    place = named(tmp_path, ODD, name)
    kinds.allow((tmp_path,), None)
    start = tried(place)
    halves = [fit(place, part, start) for part in ROWS.parts(2)]
    again = fit(place, next(iter(ROWS.parts(2))), start)
    for key, array in halves[0].arrays.items():
        assert array.tobytes() == again.arrays[key].tobytes(), key
    model = merging.merge(merging.create("mean", {}), halves, start, {}).model
    made = create(place, {})
    predicted = Predict(rows=ROWS, model=model, loss=True)
    labels, loss = predicted.read(made, *predicted.perform(made, silent, never))
    assert len(labels) == len(ROWS)
    assert np.isfinite(loss)
    likely = made.probabilities(model, ROWS)
    assert likely is not None
    assert np.allclose(likely.sum(axis=1), 1)
    assert (likely.argmax(axis=1) == labels).all()
    if name == "Frozen":
        assert (model["still.weight"] == start["still.weight"]).all()
    if name == "Tied":
        assert (model["inner.weight"] == model["outer.weight"]).all()
        assert (model["inner.weight"] != start["inner.weight"]).any()
    if name == "Counted":
        assert model["seen"] == model["norm.num_batches_tracked"] == 2 * 3
        assert model["scale"].shape == ()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Brain", "its 'dense.weight' is bfloat16, which can't be merged: make it float32"),
        ("Told", "which is no tensor: it can't be merged"),
        ("Named", "its 'mean' has the name of what data is standardised by"),
        ("Two", "its forward returned a tuple; one tensor is wanted"),
        ("Few", "its forward returned (16, 3) of 16 rows; a number for each class is wanted:"),
        ("Breaks", "first step: KeyError: 'mine'"),
    ],
)
def test_what_can_not_be_merged_is_refused_by_the_trial(
    tmp_path: Path, name: str, told: str
) -> None:
    kinds.allow((tmp_path,), None)
    with pytest.raises(LearningError) as caught:
        tried(named(tmp_path, ODD, name))
    assert told in str(caught.value)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "RMSprop", "Adagrad"])
def test_it_learns_by_the_optimizers_of_torch(tmp_path: Path, optimizer: str) -> None:
    place = named(tmp_path)
    start = create(place, {}).initial(ROWS.form)
    found = fit(place, ROWS, start, epochs=8, optimizer=optimizer, lr=0.02)
    before = create(place, {}).evaluate(start, ROWS)[1]
    assert create(place, {}).evaluate(found.arrays, ROWS)[1] < before


def test_another_loss_of_torch_is_made_small(tmp_path: Path) -> None:
    place = named(tmp_path, ODD, "LogSoftmax")
    start = create(place, {}).initial(ROWS.form)
    losses = [fit(place, ROWS, start, loss=loss) for loss in ("NLLLoss", "CrossEntropyLoss")]
    for name, array in losses[0].arrays.items():  # the log softmax of a log softmax is the same
        assert np.allclose(array, losses[1].arrays[name], atol=1e-4)
    other = fit(place, ROWS, start, loss="MultiMarginLoss")
    assert (other.arrays["dense.weight"] != losses[0].arrays["dense.weight"]).any()


def test_the_rate_goes_as_the_schedule_says(tmp_path: Path) -> None:
    place = named(tmp_path)
    rates = {}
    for schedule in ("OneCycleLR", "CosineAnnealingLR", "LinearLR", "ConstantLR"):
        training = create(place, {"schedule": schedule, "lr": 0.5})._training  # type: ignore[attr-defined]
        recipe = training._recipe(ROWS)
        rates[schedule] = [round(training._rate(recipe, done), 3) for done in (0, 0.1, 0.5, 1)]
    assert rates == {
        "OneCycleLR": [0, 0.25, 0.312, 0], "CosineAnnealingLR": [0.5, 0.488, 0.25, 0],
        "LinearLR": [0.5, 0.45, 0.25, 0], "ConstantLR": [0.5, 0.5, 0.5, 0.5],
    }  # fmt: skip


def test_it_takes_the_steps_that_plain_torch_takes(tmp_path: Path) -> None:
    place = named(tmp_path, ODD, "Base")
    make: dict[str, Any] = {
        "optimizer": "Adam", "schedule": "ConstantLR", "lr": 0.01, "weight_decay": 0.1,
        "shift": 0, "batch_size": 48, "epochs": 3,
    }  # fmt: skip
    start = create(place, {}).initial(ROWS.form)
    found = fit(place, ROWS, start, **make).arrays
    net = torch.nn.Linear(64, 10)
    net.load_state_dict({n.removeprefix("dense."): torch.tensor(a) for n, a in start.items()})
    adam = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=0.1)
    inputs = torch.tensor(ROWS.arrays["image"]).float().div(255).flatten(1)
    for _ in range(3):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), torch.tensor(ROWS.labels)).backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert np.allclose(found["dense.weight"], net.weight.detach().numpy(), atol=1e-6)


def test_a_learner_of_ones_own_is_taken_from_a_file(tmp_path: Path) -> None:
    code = (Path(__file__).parent.parent / "brought" / "linear.py").read_text()
    place = named(tmp_path, code, "LinearLearner")
    kind = learner(place)
    assert kind.name == "net:LinearLearner"
    assert create(place, {}).identity.startswith("net:LinearLearner@")
    kinds.allow((tmp_path,), None)
    assert tried(place)


def test_what_it_made_is_told_where_its_code_is_not() -> None:
    assert described("gone.from_here:Net").made_of({"weights": 1234}) == "1,234 weights"


# Whose code may run at a node.


def shipped(place: str) -> Any:
    code = learner(place).code
    assert code is not None
    return kinds.shipped(code)


def refused(values: dict[str, Any], code: Any = None) -> Exception:
    """Return how a node refuses what it is told to run."""
    arrays = {} if code is None else {CODE: code}
    with pytest.raises((UnknownLearner, SourceUnreachable)) as caught:
        perform(OWN_CODE, {"action": "fit", "make": {}, **values}, arrays, silent, never)
    return caught.value


def test_a_node_runs_no_code_that_it_was_not_to(tmp_path: Path) -> None:
    """Each way leaves a file where its code runs, which none does."""
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\n{NET}"
    place = named(tmp_path / "main", NET)
    told, packed = told_of_code(learner(place).code), shipped(place)  # type: ignore[arg-type]
    written(tmp_path / "main", code)
    bad = json.dumps({"net.py": code}).encode()
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def other(**files: str) -> Any:
        return np.frombuffer(json.dumps(files).encode(), np.uint8)

    # A node that takes no code: there is none; another version is there.
    assert "takes no code that comes with jobs" in str(refused({"code": told}, packed))
    kinds.allow((tmp_path / "main",), None)
    assert "is another version here" in str(refused({"code": told}))
    assert "is another version here" in str(refused({"code": told}, packed))
    # One that does: other code than was named; elsewhere than it may be; no code at all.
    for files, why in (
        (np.frombuffer(bad, np.uint8), "not what it says"),
        (other(**{"../net.py": code}), "can't be a file of code"),
        (other(**{"/net.py": code}), "can't be a file of code"),
        (other(**{"net.so": code}), "can't be a file of code"),
        (other(**{"net.py": NET + " " * (1 << 20)}), "more code came"),
        (np.frombuffer(b"[1]", np.uint8), "can't be read"),
        (np.frombuffer(b"\xff", np.uint8), "can't be read"),
        (np.zeros(3), "is no code"),
    ):
        kinds.allow((), scratch / str(len(list(scratch.iterdir()))))
        kinds.finder._scratch.mkdir()  # type: ignore[union-attr]
        assert why in str(refused({"code": told}, files))
    # It would be written elsewhere; a second attempt at the same is told the same.
    kinds.allow((), scratch)
    for digest_ in ("x", "x/../../../elsewhere", str(told["digest"]).upper()):
        why = str(refused({"code": {**told, "digest": digest_}}, packed))
        assert "can't be the digest of code" in why
    for _ in range(2):
        why = str(refused({"code": told}, np.frombuffer(bad, np.uint8)))
        assert "not what it says" in why
    # What is installed, and is nothing of this kind.
    kinds.allow((), None)
    for module, name in (("os", "system"), ("pip._internal", "main"), ("mnist_merge", "run"),
                         ("antigravity", "x"), ("main_node.commands.train", "main"),
                         ("../net", "Net"), ("net.py", "Net"), ("", "")):  # fmt: skip
        root = Path(os.__file__).parent
        digest_ = str(told["digest"])
        with suppress(CodeError, ValueError):
            digest_ = Code(module, name, gather(module, root), root).digest
        refused({"code": {"module": module, "name": name, "digest": digest_}})
    nothings: tuple[Any, ...] = (None, 1, [], {}, {"module": ["x"]})
    for nothing in nothings:
        refused({"code": nothing})
    assert not ran.exists()
    assert "antigravity" not in sys.modules


def test_code_that_came_is_run_in_an_empty_folder_where_that_is_allowed(tmp_path: Path) -> None:
    written(tmp_path / "main", "here = __file__", "beside.py")
    code = f"from pathlib import Path\nimport beside\nseen = [*Path().iterdir()]\n{NET}"
    place = named(tmp_path / "main", code)
    values, arrays = job(
        place, Trial(rows=ROWS.of(slice(0, 16)), turn=Turn(), strategy=merging.create("mean", {}))
    )
    packed = shipped(place)
    sys.modules.pop("beside", None)
    kinds.allow((), tmp_path)
    _, made = perform(OWN_CODE, values, {**arrays, CODE: packed}, silent, never)
    assert made.keys() == create(place, {}).initial(ROWS.form).keys()
    there = Path(sys.modules["beside"].here)
    assert there.parent.parent == tmp_path
    assert Path.cwd() == there.parent


def test_more_than_may_travel_is_told_at_the_main_node(tmp_path: Path) -> None:
    place = named(tmp_path, NET + "#" * (1 << 20))
    with pytest.raises(UnknownLearner, match="1 MB may travel"):
        shipped(place)


def test_what_tells_jobs_apart_heeds_the_code_and_not_where_it_is(tmp_path: Path) -> None:
    start = {"w": np.zeros(2, np.float32)}
    action = Fit(rows=ROWS, start=start, seed=1, turn=Turn(), layout=Layout(start))
    names = []
    for folder, code in (("a", NET), ("b", NET), ("c", f"{NET}\n")):
        names.append(digest(create(named(tmp_path / folder, code), {}).identity, {}, action))
    assert names[0] == names[1] != names[2]


def test_what_standardises_data_is_none_of_its_weights(tmp_path: Path) -> None:
    made = create(named(tmp_path), {})
    arrays = {"w": np.zeros(7), "mean": np.zeros(3), "deviation": np.ones(3)}
    assert made.describe(arrays) == {"weights": 7}
