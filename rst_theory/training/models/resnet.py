"""ResNet-18 for small images (He et al., Deep residual learning, arXiv 1512.03385).

The stages of their table 1, on a stem for small images: one 3 x 3 convolution of stride 1 and no pooling,
in place of 7 x 7 of stride 2 and a max pool, as in their section 4.2 on CIFAR-10. Where the shape changes
the shortcut is a 1 x 1 convolution (their option B).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rst_theory.training.models.layers import classifier, convolution

__all__ = ["BasicBlock", "ResNet18"]


class BasicBlock(nn.Module):
    """y = relu(s(x) + N(W' * relu(N(W * x)))), N = batch normalization, * = convolution.

    The shortcut s is the identity, or N(V * x) with V of size 1 x 1 where the shape changes.

    Args:
        inputs: channels of x.
        outputs: channels of y.
        stride: of W (and V): y has sides ceil(side of x / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            convolution(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            convolution(outputs, outputs, 3),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()  # the identity
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride), rounded up."""
        return torch.relu(self.shortcut(x) + self.residual(x))


class ResNet18(nn.Sequential):
    """A stem, four stages of two blocks, and a classifier: 11,173,962 weights for 3 channels and 10 classes.

    Args:
        shape: of an image, (channels, height, width); each stage but the first halves the sides.
        classes: the number of outputs.
        width: channels of the first stage; each further stage doubles them.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 64) -> None:
        super().__init__(
            convolution(shape[0], width, 3),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *_stage(width, width, stride=1),
            *_stage(width, 2 * width, stride=2),
            *_stage(2 * width, 4 * width, stride=2),
            *_stage(4 * width, 8 * width, stride=2),
            classifier(8 * width, classes),
        )


def _stage(inputs: int, outputs: int, stride: int) -> tuple[BasicBlock, BasicBlock]:
    return BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs)
