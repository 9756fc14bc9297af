"""Small networks for small images."""

from __future__ import annotations

import math

from torch import nn

from rst_theory.notation import DomainError

__all__ = ["MLP", "SmallCNN"]


class MLP(nn.Sequential):
    """Two hidden layers with rectified linear units.

    Args:
        shape: of an image, (channels, height, width).
        classes: the number of outputs.
        width: of the hidden layers.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 128) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(math.prod(shape), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )


class SmallCNN(nn.Sequential):
    """Two 3 x 3 convolutions, each with rectified linear units and 2 x 2 max pooling; then a linear layer.

    Args:
        shape: of an image, (channels, height, width).
        classes: the number of outputs.
        width: the channels of the first convolution; the second has twice as many.

    Raises:
        DomainError: a side under 4, of which the two poolings would leave nothing.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 16) -> None:
        channels, height, breadth = shape
        if min(height, breadth) < 4:
            raise DomainError("height and width >= 4", (height, breadth))
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 4) * (breadth // 4), classes),
        )
