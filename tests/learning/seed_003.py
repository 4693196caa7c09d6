# mypy: ignore-errors
# ruff: noqa
# fmt: off
"""Seed 003's `MnistDataset`, `train`, `init` and `main` as they stand, but for the import of KubeML.

The network, and what has no body there, is below.
"""

import logging

import torch
import torch.nn as nn
from torchvision import transforms

from learning import KubeDataset, KubeModel

from .kubeml import LeNet


class MnistDataset(KubeDataset):

    def __init__(self):
        super().__init__("mnist")
        self.transf = transforms.Compose([
            transforms.ToTensor(),
            transforms.Normalize((0.1307,), (0.3081,))
        ])

    def __getitem__(self, index):
        x = self.data[index]
        y = self.labels[index]

        return self.transf(x), y.astype('int64')

    def __len__(self):
        return len(self.data)


class KubeLeNet(KubeModel):

    def __init__(self, network, dataset):
        super().__init__(network, dataset, gpu=True)

    # Train trains the model for an epoch and returns the loss
    def train(self, x, y, batch_index) -> float:
        # define the device for training and load the data
        loss_fn = nn.CrossEntropyLoss()
        total_loss = 0

        self.optimizer.zero_grad()
        output = self(x)

        # compute loss and backprop
        # logging.debug(f'Shape of the output is {output.shape}, y is {y.shape}')
        loss = loss_fn(output, y)
        loss.backward()

        # step with the optimizer
        self.optimizer.step()
        total_loss += loss.item()

        if batch_index % 10 == 0:
            logging.info(f"Index {batch_index}, error: {loss.item()}")

        return total_loss

    # Intialize the network as a pytorch model
    def init(self, model):
        def init_weights(m: nn.Module):
            if isinstance(m, nn.Conv2d):
                nn.init.xavier_uniform_(m.weight)
                nn.init.constant_(m.bias, 0.01)
            if isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.constant_(m.bias, 0.01)

        model.apply(init_weights)

    # What has no body there.

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    def validate(self, x, y, batch_index):
        output = self(x)
        right = (output.argmax(1) == y).float().mean().item()
        return right, nn.functional.cross_entropy(output, y).item()

    def infer(self, model, data):
        x = torch.stack([self._dataset.transf(torch.tensor(each).byte().numpy()) for each in data])
        return model(x).argmax(1)


def main():
    # Create the PyTorch Model
    lenet = LeNet()
    dataset = MnistDataset()
    kubenet = KubeLeNet(lenet, dataset)
    return kubenet.start()
