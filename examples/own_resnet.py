"""A residual net for small pictures: eighteen layers, as narrow as two cores bear.

    mnist-main --data examples/colour_digits.py:load --learner examples/own_resnet.py:ResNet

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv 1512.03385.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions, whose result is added to what they were given."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.by = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.by = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return as many pictures, (n, outputs, height / stride, width / stride)."""
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.by(x))


class ResNet(nn.Module):
    """Four stages of two blocks each, after a convolution; the mean over each channel decides."""

    def __init__(self, channels: int, classes: int, units: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(channels, units, 3, padding=1, bias=False), nn.BatchNorm2d(units), nn.ReLU()
        )
        widths = [units, units, 2 * units, 4 * units, 8 * units]
        stages = [
            block
            for stage, (before, after) in enumerate(pairwise(widths))
            for block in (Block(before, after, 2 if stage else 1), Block(after, after, 1))
        ]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, classes), of pictures, (n, channels, height, width)."""
        logits: Tensor = self.head(self.stages(self.first(x)).mean(dim=(2, 3)))
        return logits
