"""A model in KubeML's form, whole: `mnist-main --learner examples/kubeml_lenet.py:main`.

Of a function that was written for KubeML only the import of `KubeDataset` and `KubeModel` changes.
"""

import torch
from torch import nn
from torch.nn import functional

from learning import KubeDataset, KubeModel


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.dense1 = nn.Linear(400, 120)
        self.dropout = nn.Dropout(0.1)
        self.dense2 = nn.Linear(120, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.dense1(x.flatten(1)))
        return self.dense2(self.dropout(x))


class Digits(KubeDataset):
    def __init__(self):
        super().__init__("mnist")

    def __getitem__(self, index):
        x = torch.from_numpy(self.data[index]).float().div(255)
        return (x[None] - 0.1307) / 0.3081, self.labels[index]

    def __len__(self):
        return len(self.data)


class KubeLeNet(KubeModel):
    def __init__(self, network, dataset):
        super().__init__(network, dataset, gpu=True)

    def init(self):
        def weights(module):
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.constant_(module.bias, 0.01)

        self.apply(weights)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=1e-4)

    def train(self, batch, batch_index):
        x, y = batch
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def validate(self, batch, batch_index):
        x, y = batch
        output = self(x)
        correct = (output.argmax(1) == y).sum().item()
        return 100 * correct / self.batch_size, functional.cross_entropy(output, y).item()

    def infer(self, data):
        x = torch.tensor(data, dtype=torch.float32, device=self.device).div(255)
        return self((x[:, None] - 0.1307) / 0.3081).argmax(1)


def main():
    return KubeLeNet(LeNet(), Digits()).start()
