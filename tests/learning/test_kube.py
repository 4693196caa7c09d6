"""What is written for KubeML learns here unchanged, but for its imports."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from learning import (
    KubeDataset,
    KubeModel,
    LearningError,
    ModelError,
    Turn,
    UnfitData,
    merging,
)
from learning.actions import Predict, Predicted, Trial
from learning.kube.learner import KubeLearner, KubeOptions, check_unit, names_of
from learning.kube.training import blank
from learning.layout import Layout
from learning.model import sha256
from loaders import ArraySource, Field, Form, LoaderError, Numbered, Rows
from loaders.torch import holding

from ..conftest import make_idx_folder
from . import kubeml
from .common import images, never, silent
from .kubeml import EXAMPLE, Batches, Digits, LeNet, digest_of_example, example, fit, learner

MEAN = merging.create("mean", {})


def predicted(kube: KubeLearner, model: Any, rows: Rows) -> Predicted:
    action = Predict(rows=rows, model=model, loss=True)
    return action.read(kube, *action.perform(kube, silent, never))


def run(unit: Any, rows: Rows, rounds: int, seed: int = 0, **made: Any) -> Any:
    """Learn over 4 shards, round by round; return the last model."""
    turn = Turn(0, rounds, seed)
    trial = Trial(rows=rows.limited(16), turn=turn, strategy=MEAN)
    kube = learner(unit, turn, **made)
    model = trial.read(kube, *trial.perform(kube, silent, never))
    for number in range(rounds):
        kube = learner(unit, replace(turn, round=number), **made)
        shards = enumerate(rows.parts(4))
        solutions = [fit(kube, part, model, 100 * number + job) for job, part in shards]
        model = merging.merge(MEAN, solutions, model, {}).model
    return model


# Runs.


def test_seed_003_learns_with_its_imports_changed(mnist: Rows) -> None:
    unit, test = kubeml.seed_003().main, Rows(mnist.source, "test").limited(1000)
    model = run(unit, mnist.limited(2000), 3, lr=0.03, batch_size=32)
    found = predicted(learner(unit), model, test)
    assert (found.labels == test.labels).mean() > 0.8
    assert found.loss < 0.6


@pytest.mark.lane("deep")
@pytest.mark.timeout(600)
def test_seed_003_comes_to_what_such_a_net_can(mnist: Rows) -> None:
    """All of MNIST in 4 shards: 5 rounds of one epoch, batches of 64, a rate of 0.05."""
    unit, test = kubeml.seed_003().main, Rows(mnist.source, "test")
    model = run(unit, mnist, 5, epochs=1, batch_size=64, lr=0.05)
    found = predicted(learner(unit), model, test)
    assert (found.labels == test.labels).mean() > 0.985
    assert found.loss < 0.05


def test_the_repositorys_form_learns(mnist: Rows) -> None:
    rows, unit = mnist.limited(240), kubeml.main_of_batches
    model = run(unit, rows, 2, lr=0.02, batch_size=4)
    right = predicted(learner(unit), model, rows).labels == rows.labels
    assert right.mean() > 0.2


def colours(count: int) -> Rows:
    """Return pictures of which each class is a colour."""
    labels = np.arange(count) % 10
    pixels = np.zeros((count, 32, 32, 3), np.uint8)
    pixels[..., 0] = 25 * labels[:, None, None]
    pixels[..., 1:] = np.random.default_rng(0).integers(0, 40, (count, 32, 32, 2))
    form = Form({"image": Field("uint8", (32, 32, 3))}, Numbered(10))
    return Rows(ArraySource("colours", form, {"all": ({"image": pixels}, labels)}), "all")


def test_the_resnets_form_learns() -> None:
    """Batch normalisation counts its batches, transforms are random while it learns only."""
    rows = colours(24)
    kube = learner(kubeml.resnet, lr=0.05, batch_size=8)
    first, second = fit(kube, rows), fit(kube, rows)
    assert sha256(first.arrays) == sha256(second.arrays)
    counted = first.arrays["bn1.num_batches_tracked"]
    assert counted.dtype == np.int64
    assert counted.shape == ()
    assert counted == 3
    found = predicted(kube, first.arrays, rows)
    again = predicted(kube, first.arrays, rows)
    assert (found.labels == again.labels).all()
    assert found.loss == again.loss
    merged = merging.merge(MEAN, [first, fit(kube, rows, seed=2)], first.arrays, {}).model
    assert Layout(merged) == Layout(first.arrays)


#: Learns from random rows by the example, and prints what came of it.
ELSEWHERE = """
import sys
import learning.kube.learner
before = "torch" in sys.modules
from learning import KubeModel, KubeDataset
print(before, "torch" in sys.modules)
from tests.learning.kubeml import digest_of_example
print(digest_of_example())
"""


def test_equal_shards_starts_and_seeds_give_equal_bits_in_any_process() -> None:
    torch.manual_seed(3)
    here = digest_of_example()
    torch.manual_seed(4)
    np.random.seed(5)
    assert digest_of_example() == here
    there = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=EXAMPLE.parents[1], capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    assert there.stdout.split() == ["False", "True", here]  # and torch is imported when it is used
    kube = learner(example().main, Turn(0, 1, 7))
    assert sha256(fit(kube, images(100), seed=2).arrays) != here


def test_a_data_set_may_draw_by_torch_numpy_and_python() -> None:
    class Noisy(Digits):
        def __init__(self, draw: Callable[[], float]) -> None:
            super().__init__()
            self.draw = draw

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            x, y = super().__getitem__(index)
            return x + self.draw(), y

    def by_torch() -> float:
        return torch.rand(1).item()

    rows = images(20)
    for draw in (by_torch, np.random.random, random.random):
        kube = learner(lambda draw=draw: Batches(dataset=Noisy(draw)).start())
        first, second, other = (sha256(fit(kube, rows, seed=seed).arrays) for seed in (1, 1, 2))
        assert first == second != other


def test_a_job_draws_nothing_of_what_its_process_draws() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    wanted = torch.rand(1).item(), np.random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    digest_of_example()
    assert (torch.rand(1).item(), np.random.random()) == wanted


def test_a_fresh_model_hangs_on_the_runs_seed() -> None:
    form = images(1).form
    first, same, other = (
        sha256(learner(example().main, Turn(0, 1, seed)).initial(form)) for seed in (1, 1, 2)
    )
    assert first == same != other
    # One that seeds by itself is the same in every run.
    first, other = (
        sha256(learner(kubeml.main_of_batches, Turn(0, 1, seed)).initial(form)) for seed in (1, 2)
    )
    assert first == other


def test_the_models_own_infer_is_there() -> None:
    rows = images(5)
    data = rows.arrays["image"].tolist()
    for unit in (example().main, kubeml.seed_003().main):
        kube = learner(unit)
        model = kube.initial(rows.form)
        assert kube.infer(model, data) == kube.predict(model, rows).tolist()
    with pytest.raises(LearningError, match="Batches has no infer"):
        learner(Batches).infer(learner(Batches).initial(rows.form), data)


# What a model is told.


def test_a_model_finds_what_kubemls_did() -> None:
    told: list[Any] = []

    class Telling(Batches):
        def init(self) -> None:
            told.append((self.task, self.args.batch_size, self._dataset.is_training()))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            self.lr *= 0.5
            told.append((self.task, self.lr, self.args.lr, self.epoch, len(self._dataset)))
            return super().configure_optimizers()

        def train(self, batch: Any, batch_index: int) -> Any:
            assert self._network.training
            assert torch.is_grad_enabled()
            assert self.device == batch[0].device == torch.device("cpu")
            told.append((self.epoch, batch_index, len(batch[0])))
            return super().train(batch, batch_index)

        def validate(self, batch: Any, _: int) -> tuple[float, float]:
            assert not self._network.training
            assert not torch.is_grad_enabled()
            told.append((self.task, self.batch_size, self._dataset.is_training()))
            return super().validate(batch, _)

    rows = images(20)
    kube = learner(Telling, Turn(2, 3), epochs=2, batch_size=16, lr=0.02)
    start = kube.initial(rows.form)
    assert told == [("init", 16, True)]
    for _ in range(2):  # the rate is what was said in each job
        told.clear()
        fit(kube, rows, start)
        steps = [(5, 0, 16), (5, 1, 4), (6, 0, 16), (6, 1, 4)]
        assert told == [("train", 0.01, 0.02, 5, 20), *steps]
    told.clear()
    predicted(kube, start, rows)
    assert told == [("val", 16, False), ("val", 4, False)]


def test_what_nobody_says_is_kubemls() -> None:
    kube = learner(Batches)
    made, rounds = kube.suited(images(1).form, 100, 4, None)
    assert (made.epochs, made.batch_size, made.lr, made.threads, rounds) == (1, 64, 0.01, 1, 5)
    assert KubeOptions().lesson == "1 epoch"
    assert KubeOptions(epochs=3).lesson == "3 epochs"
    said = learner(Batches, lr=0.5, epochs=2)
    made, rounds = said.suited(images(1).form, 100, 4, 3)
    assert (made.epochs, made.batch_size, made.lr, rounds) == (2, 64, 0.5, 3)


def test_loss_and_accuracy_are_right_where_the_last_batch_is_smaller() -> None:
    rows, models = images(40), []

    def unit() -> KubeModel:
        models.append(Batches())
        return models[-1].start()

    kube = learner(unit, batch_size=16)
    model = kube.initial(rows.form)
    found = predicted(kube, model, rows)
    net = LeNet()
    net.load_state_dict({name: torch.tensor(array) for name, array in model.items()})
    x = (torch.tensor(rows.arrays["image"])[:, None].float() / 255 - 0.1307) / 0.3081
    with torch.no_grad():
        output, truth = net(x), torch.tensor(rows.labels)
    assert (found.labels == output.argmax(1).numpy()).all()
    assert found.loss == pytest.approx(functional.cross_entropy(output, truth).item(), rel=1e-5)
    right = models[-1].accuracies
    mean = 100 * float((found.labels == rows.labels).mean())
    assert np.average(right, weights=[16, 16, 8]) == pytest.approx(mean)
    given = kube.probabilities(model, rows)
    assert given.dtype == np.float64
    assert given == pytest.approx(output.double().softmax(1).numpy(), abs=1e-6)
    assert (kube.predict(model, rows) == found.labels).all()
    nobody = rows.of(slice(0, 0))
    assert kube.predict(model, nobody).shape == (0,)
    assert kube.probabilities(model, nobody).shape == (0, 10)
    assert len(kube.evaluate(model, nobody)[0]) == 0


def test_a_network_is_asked_once_for_labels_and_loss() -> None:
    calls: list[int] = []

    class Counted(LeNet):
        def forward(self, x: torch.Tensor) -> Any:
            calls.append(len(x))
            return super().forward(x)

    class Apart(Batches):
        """Shows the network other things than the batch as it came."""

        def validate(self, batch: Any, _: int) -> tuple[float, float]:
            self(-batch[0])
            return 0.0, 1.0

    rows = images(20)
    for kind, wanted in ((Batches, [16, 4]), (Apart, [16, 16, 4, 4])):
        kube = learner(lambda kind=kind: kind(Counted()).start(), batch_size=16)
        model = kube.initial(rows.form)
        labels = kube.predict(model, rows)
        calls.clear()
        assert (kube.evaluate(model, rows)[0] == labels).all()
        assert calls == wanted


def test_a_gpu_that_is_not_there_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Wanting(Batches):
        def __init__(self) -> None:
            super().__init__(gpu=True)

    rows, kube = images(4), learner(Wanting)
    with caplog.at_level(logging.WARNING, logger="mnist"):
        for _ in range(2):
            fit(kube, rows)
    assert [each.getMessage() for each in caplog.records] == [
        "Wanting wants a GPU, and this job has none: it computes on the processor"
    ]


def test_one_row_is_no_batch_of_its_own() -> None:
    """Of 33 rows in batches of 16 the last would have no variance."""

    def unit() -> KubeModel:
        normed = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10))
        return Batches(normed).start()

    rows = images(33)
    kube = learner(unit, batch_size=16)
    solution = fit(kube, rows)
    assert int(solution.arrays["2.num_batches_tracked"]) == 2
    assert len(predicted(kube, solution.arrays, rows).labels) == 33


def test_a_job_that_nobody_wants_stops() -> None:
    rows, kube = images(64), learner(Batches, epochs=5, batch_size=8)
    start, told = kube.initial(rows.form), list[float]()
    kube.fit(
        rows, start, seed=1, cancelled=never, progress=lambda done, note="", /: told.append(done)
    )
    assert told == [step / 40 for step in range(40)]
    asked = iter([False, False, True])
    solution = kube.fit(rows, start, seed=1, progress=silent, cancelled=lambda: next(asked))
    assert solution.metrics.keys() == {"loss"}
    assert sha256(solution.arrays) != sha256(start)
    solution = kube.fit(rows, start, seed=1, progress=silent, cancelled=lambda: True)
    assert sha256(solution.arrays) == sha256(start)


# Networks.


def test_arrays_of_all_kinds_come_through() -> None:
    """Whole numbers, numbers alone, frozen and tied weights."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Flatten()
            self.first = nn.Linear(784, 10)
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.frozen = nn.Parameter(torch.ones(10), requires_grad=False)
            self.tied = nn.Linear(784, 10)
            self.tied.weight = self.first.weight
            self.steps: torch.Tensor
            self.seen: torch.Tensor
            self.register_buffer("steps", torch.tensor(0))
            self.register_buffer("seen", torch.tensor(False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.steps += 1
                self.seen |= True
            flat = self.flat(x)
            both: torch.Tensor = self.first(flat) + self.tied(flat)
            return both * self.scale + self.frozen

    rows = images(40)
    kube = learner(lambda: Batches(Odd()).start(), batch_size=16)
    start = kube.initial(rows.form)
    assert {start["scale"].shape, start["steps"].shape} == {()}
    solutions = [fit(kube, rows, start, seed) for seed in (1, 2)]
    model = merging.merge(MEAN, solutions, start, {}).model
    Layout(start).check(model)
    assert model["steps"] == 3
    assert model["seen"]
    assert (model["first.weight"] == model["tied.weight"]).all()
    assert (model["frozen"] == 1).all()
    assert model["scale"] != 2
    assert fit(kube, rows, model).arrays["steps"] == 6


def test_what_is_random_and_no_array_is_the_same_in_each_job() -> None:
    class Projected(nn.Module):
        """Looks at rows through numbers that its state does not have."""

        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(20, 10)
            self.lens: torch.Tensor
            self.register_buffer("lens", torch.randn(784, 20), persistent=False)

        def forward(self, x: torch.Tensor) -> Any:
            return self.last(x.flatten(1) @ self.lens / 28)

    rows, unit = images(64), lambda: Batches(Projected()).start()
    model = learner(unit, Turn(0, 2, 5)).initial(rows.form)
    assert model.keys() == {"last.weight", "last.bias"}
    first = learner(unit, Turn(1, 2, 5)).probabilities(model, rows)
    torch.manual_seed(1)
    assert (learner(unit).probabilities(model, rows) == first).all()


def test_a_network_that_knows_no_inputs_yet_is_shown_some() -> None:
    def unit() -> KubeModel:
        layers = nn.Flatten(), nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(10)
        return Batches(nn.Sequential(*layers)).start()

    rows = images(40)
    kube = learner(unit, Turn(0, 1, 3), lr=0.1)
    start = kube.initial(rows.form)
    assert start["1.weight"].shape == (32, 784)
    solution = fit(kube, rows, start)
    assert (solution.arrays["1.weight"] != start["1.weight"]).any()
    assert len(predicted(kube, solution.arrays, rows).labels) == 40
    assert sha256(kube.initial(rows.form)) == sha256(start)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LeNet().bfloat16(), "features.0.weight is of bfloat16, .* dense and float32"),
        (lambda: LeNet().to(torch.float8_e4m3fn), "features.0.weight is of float8_e4m3fn"),
    ],
)  # fmt: skip
def test_arrays_that_cant_be_kept_are_refused(make: Callable[[], nn.Module], told: str) -> None:
    with pytest.raises(LearningError, match=told):
        learner(lambda: Batches(make()).start()).initial(images(1).form)


def test_a_model_of_another_network_is_refused() -> None:
    rows, kube = images(8), learner(Batches)
    model = kube.initial(rows.form)
    lacking = {name: array for name, array in model.items() if name != "classifier.0.bias"}
    with pytest.raises(ModelError, match="not those of this network: classifier.0.bias"):
        kube.predict(lacking, rows)
    for odd in (np.zeros(7, np.float32), np.zeros(120, np.float64)):
        with pytest.raises(ModelError, match="classifier.0.bias is torch.float"):
            kube.predict({**model, "classifier.0.bias": odd}, rows)


# What can't be.


class Three(Batches):
    """As the documents have it."""

    def train(self, x: Any, y: Any, batch_index: int) -> Any:  # type: ignore[override]
        return super().train((x, y), batch_index)


class First(Batches):
    """As KubeML's first form was: the method goes through the data by itself."""

    def train(self, model: Any, dataset: Any) -> Any:
        return 0.0


class Named(Batches):
    def train(  # type: ignore[override]
        self, batch: Any, batch_index: int, *, more: int
    ) -> Any:
        return more


class Five(Batches):
    def validate(self, a: Any, b: Any, c: Any, d: Any) -> Any:  # type: ignore[override]
        return 0.0, 0.0


class Bare(KubeModel):
    def __init__(self) -> None:
        super().__init__(LeNet(), Digits())


class Forgetting(Batches):
    def __init__(self) -> None:
        self.accuracies = []


class Alone(KubeDataset):
    def __init__(self) -> None:
        return


class NoLoss(Batches):
    def train(self, batch: Any, batch_index: int) -> Any:
        return None


class Several(Batches):
    def train(self, batch: Any, batch_index: int) -> Any:
        return torch.zeros(2)


class NoOptimizer(Batches):
    def configure_optimizers(self) -> Any:
        return None


class NoPair(Batches):
    def validate(self, batch: Any, _: int) -> Any:
        return 0.5


class Needing(Batches):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)


class Half(Digits):
    def __len__(self) -> int:
        return len(self.data) // 2


class Lone(Digits):
    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)[0]


class Listed(LeNet):
    def forward(self, x: torch.Tensor) -> Any:
        return [super().forward(x)]


class Unpacking(Batches):
    """Whose network makes lists."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)[0]


WRONG: list[tuple[Any, str]] = [
    (Bare, "Bare has no configure_optimizers, no train, no validate"),
    (First, r"First's train takes \(model, dataset\); it has to take \(x, y, batch_index\) or"),
    (Five, r"Five's validate takes \(a, b, c, d\); it has to take"),
    (Named, r"Named's train takes \(batch, batch_index, more\); it has to take"),
    (Forgetting, r"network is no torch.nn.Module, but NoneType: its __init__ calls super"),
    (lambda: Batches(dataset=Alone()).start(), "data set is no KubeDataset: its class is"),
    (lambda: Batches(dataset=[(1, 2)]).start(), "data set is no KubeDataset"),  # type: ignore[arg-type]
    (lambda: None, "<lambda> returned NoneType, no KubeModel: it returns what the model's start"),
    (NoLoss, "NoLoss's train returned NoneType, no loss"),
    (Several, "Several's train returned Tensor, no loss"),
    (NoOptimizer, "NoOptimizer's configure_optimizers returned NoneType, no optimizer"),
    (NoPair, "NoPair's validate returned float, no pair of accuracy and loss"),
    (lambda: Batches(dataset=Half()).start(), "makes 8 of 16 rows"),
    (lambda: Three(dataset=Lone()).start(), "Three's train takes x and y; the data set's __getite"),
    (lambda: Batches(nn.Sequential(nn.Flatten(), nn.Linear(784, 7))).start(),
     r"the network's outputs are of shape \(16, 7\), not \(16, 10\): a number for each class"),
    (lambda: Batches(nn.Sequential(nn.Flatten(), nn.Linear(784, 12))).start(),
     r"the network's outputs are of shape \(16, 12\), not \(16, 10\): a number for each class"),
    (lambda: Unpacking(Listed()).start(), "the network makes list of rows, no tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("unit", "told"), WRONG, ids=[told[:20] for _, told in WRONG])
def test_a_unit_that_is_none_is_told_in_the_trial(unit: Any, told: str) -> None:
    kube, trial = learner(unit), Trial(rows=images(16), turn=Turn(), strategy=MEAN)
    with pytest.raises(LearningError, match=told) as caught:
        trial.perform(kube, silent, never)
    assert len(str(caught.value)) < 400


def test_a_unit_that_needs_arguments_is_told_the_way_out() -> None:
    for unit in (Needing, lambda network: None):
        with pytest.raises(LearningError, match="name a function that makes it .* FILE.py:main"):
            check_unit(unit)
    with pytest.raises(LearningError, match="neither a KubeModel nor a function"):
        check_unit(3)
    check_unit(Batches)
    with holding(images(1), training=True):
        made = Batches()
    with pytest.raises(LearningError, match="Batches is made already, with other rows"):
        learner(made).initial(images(1).form)
    with pytest.raises(LearningError, match="Needing can't be made without arguments"):
        learner(Needing).initial(images(1).form)


def test_both_forms_learn_the_same() -> None:
    rows = images(40)
    warnings.simplefilter("error")  # of a loss that is a tensor with a gradient, say
    assert sha256(fit(learner(Three), rows).arrays) == sha256(fit(learner(Batches), rows).arrays)


def test_what_is_started_outside_of_a_run_says_how_to_run_it(idx_folder: Path) -> None:
    class Small(KubeDataset):
        def __init__(self) -> None:
            super().__init__(str(idx_folder))

    with pytest.raises(LearningError, match="mnist-main --learner FILE.py:main"):
        Batches(dataset=Small()).start()


def test_a_main_that_forgets_to_return_is_understood() -> None:
    def main() -> None:
        Batches().start()

    assert learner(main).initial(images(1).form).keys() == LeNet().state_dict().keys()


def test_a_strategy_that_changes_steps_is_refused() -> None:
    strategy = merging.create("scaffold", {})
    trial = Trial(rows=images(16), turn=Turn(), strategy=strategy)
    with pytest.raises(LearningError, match="takes its steps by itself, .* merge by another"):
        trial.perform(learner(Batches), silent, never)


def test_rows_of_several_fields_are_refused() -> None:
    form = Form({"a": Field("uint8", (2,)), "b": Field("uint8", (2,))}, Numbered(2))
    with pytest.raises(UnfitData, match="a KubeDataset holds rows of one field"):
        learner(Batches).check_form(form)
    with pytest.raises(UnfitData):
        learner(Batches).initial(form)


# The data set.


def test_a_unit_says_what_data_it_wants_and_opens_none() -> None:
    def two() -> KubeModel:
        Digits(), Digits()
        return Batches(dataset=KubeDataset("s3://nowhere/cifar10")).start()

    assert names_of(Batches) == ("mnist",)
    assert names_of(two) == ("mnist", "s3://nowhere/cifar10")

    class Looking(Digits):
        def __init__(self) -> None:
            super().__init__()
            self.largest = self.data[0].max()  # there is no row

    assert names_of(lambda: Batches(dataset=Looking()).start()) == ("mnist",)
    with pytest.raises(ZeroDivisionError):
        names_of(lambda: 1 / 0)


def test_in_a_job_a_data_set_holds_its_rows(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")  # which would be a worker's share
    monkeypatch.setenv("RANK", "2")
    rows, held = images(130), list[KubeDataset]()

    class Told(KubeDataset):
        def __init__(self) -> None:
            super().__init__("unheard-of")
            held.append(self)

        def __getitem__(self, index: int) -> Any:
            return torch.tensor(self.data[index] / 255)[None].float(), self.labels[index]

    kube = learner(lambda: Batches(dataset=Told()).start())
    start = kube.initial(rows.form)
    before = rows.arrays["image"].copy()
    assert [len(each) for each in held] == [0]
    fit(kube, rows, start)
    assert (held[-1].data == before).all()
    assert (held[-1].labels == rows.labels).all()
    held[-1].data[:] = 0  # its own
    assert (rows.arrays["image"] == before).all()
    assert held[-1].dataset == held[-1].name == "unheard-of"
    with pytest.raises(LoaderError):
        Told()
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    folder = str(make_idx_folder(tmp_path / "small"))
    assert KubeDataset(folder).is_training()
    assert not KubeDataset(folder, "test").is_training()


def test_blank_rows_are_of_their_form() -> None:
    form = colours(1).form
    assert blank(form, 2).arrays["image"].shape == (2, 32, 32, 3)
    assert len(blank(form, 0)) == 0


@pytest.mark.lane("deep")
@pytest.mark.cost
def test_learning_costs_what_a_plain_loop_does() -> None:
    """CPU time of a job beside a loop over the same data set, in pairs."""
    rows = images(960)
    kube = learner(Batches, epochs=1)
    start = kube.initial(rows.form)

    def plain() -> None:
        with holding(rows, training=True):
            model = Batches()
        model.lr = 0.01
        model.optimizer = model.configure_optimizers()
        for index, batch in enumerate(DataLoader(model._dataset, batch_size=64, shuffle=True)):
            model.train(batch, index)

    ratios = []
    for _ in range(3):
        began = process_time()
        plain()
        middle = process_time()
        fit(kube, rows, start)
        ratios.append((process_time() - middle) / (middle - began))
    assert min(ratios) < 1.25, ratios
