"""A net of one's own, of twenty lines, for pictures of any size and number of channels.

    mnist-main --learner examples/own_net.py:Net --jobs 4 --local-nodes 2

Nothing in it is of this project. docs/own-model.md goes from here to several machines.
"""

from torch import Tensor, nn


class Net(nn.Module):
    """Two convolutions and a dense layer."""

    def __init__(self, channels: int, classes: int, units: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, units, 3, padding=1), nn.BatchNorm2d(units), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(units, 2 * units, 3, padding=1), nn.BatchNorm2d(2 * units), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(dropout),
        )  # fmt: skip
        self.head = nn.LazyLinear(classes)  # however many numbers are left of a picture

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, classes), of pictures, (n, channels, height, width)."""
        found: Tensor = self.head(self.body(x))
        return found
