"""Units in KubeML's form: the seed's own, and forms that its repository has."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.optim import SGD

from learning import KubeDataset, KubeModel, Solution, Turn
from learning.actions import Fit
from learning.kube.learner import KubeLearner, KubeOptions
from learning.layout import Layout
from learning.model import sha256
from loaders import Rows

from ..vision import torchvision
from .common import images, never, silent

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubeml_lenet.py"


def learner(unit: Any, turn: Turn | None = None, **made: Any) -> KubeLearner:
    """Return a learner of a unit, as somebody registers one."""
    kind: Any = type("Kube", (KubeLearner,), {"unit": staticmethod(unit), "name": "kube"})
    found: KubeLearner = kind(KubeOptions(**made), turn)
    return found


def fit(kube: KubeLearner, rows: Rows, start: Any = None, seed: int = 1) -> Solution:
    """Return what comes of a shard, packed and read as a job's."""
    start = kube.initial(rows.form) if start is None else start
    action = Fit(rows=rows, start=start, seed=seed, turn=kube.turn, layout=Layout(start))
    return action.read(kube, *action.perform(kube, silent, never))


def example() -> Any:
    spec = importlib.util.spec_from_file_location("kubeml_lenet", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest_of_example() -> str:
    """Return what tells what the example, whose network drops units at random, learns."""
    kube = learner(example().main, Turn(0, 1, 7))
    return sha256(fit(kube, images(100)).arrays)


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)
        )

    def forward(self, x: torch.Tensor) -> Any:
        return self.classifier(self.features(x).flatten(1))


def seed_003() -> Any:
    """Return the seed's unit; its `main` is one."""
    torchvision()
    from . import seed_003 as unit

    return unit


# The repository's form: batches, accuracy by `batch_size`, weights by the seeds of main.


class Digits(KubeDataset):
    def __init__(self) -> None:
        super().__init__("mnist")

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        x, y = self.data[index], self.labels[index]
        return (torch.from_numpy(x)[None].float() / 255 - 0.1307) / 0.3081, y.astype("int64")

    def __len__(self) -> int:
        return len(self.data)


class Batches(KubeModel):
    """Notes the accuracies that it comes to.

    Args:
        network, dataset, gpu: as ever.
    """

    def __init__(
        self, network: nn.Module | None = None, dataset: KubeDataset | None = None,
        gpu: bool = False,
    ) -> None:  # fmt: skip
        network = LeNet() if network is None else network
        super().__init__(network, Digits() if dataset is None else dataset, gpu)
        self.accuracies: list[float] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=1e-4)

    def train(self, batch: Any, batch_index: int) -> Any:
        x, y = batch
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss  # a tensor is a number, too

    def validate(self, batch: Any, _: int) -> tuple[float, float]:
        x, y = batch
        output = self(x)
        accuracy = 100.0 * output.argmax(1).eq(y).sum().item() / self.batch_size
        self.logger.debug(f"accuracy {accuracy}")
        self.accuracies.append(accuracy)
        return accuracy, F.cross_entropy(output, y).item()


def main_of_batches() -> KubeModel:
    torch.manual_seed(42)
    random.seed(42)
    return Batches(LeNet(), Digits()).start()


# The ResNet's: other transforms while it learns, random ones, and a rate that falls by itself.


def resnet() -> KubeModel:
    torchvision()
    from torchvision import transforms  # type: ignore[import-not-found,unused-ignore]
    from torchvision.models.resnet import (  # type: ignore[import-not-found,unused-ignore]
        BasicBlock,
        ResNet,
    )

    class Cifar10Dataset(KubeDataset):
        def __init__(self) -> None:
            super().__init__("cifar10")
            self.train_transf = transforms.Compose(
                [
                    transforms.ToPILImage(), transforms.RandomHorizontalFlip(),
                    transforms.RandomCrop(32, 4), transforms.ToTensor(),
                ]
            )  # fmt: skip
            self.val_transf = transforms.Compose([transforms.ToTensor()])

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            transform = self.train_transf if self.is_training() else self.val_transf
            return transform(self.data[index]), self.labels[index].astype("int64")

    class KubeResnet(Batches):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            if self.epoch > 2:
                self.lr *= 0.1
            return SGD(self.parameters(), lr=self.lr, weight_decay=1e-4)

    return KubeResnet(ResNet(BasicBlock, [1, 1, 1, 1], 10), Cifar10Dataset(), gpu=True).start()
