"""What the residual networks are made of."""

from __future__ import annotations

from torch import nn

__all__ = ["classifier", "convolution"]


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the sides of an image (divides them by the stride, rounding up).

    It has no bias: a normalization follows, or has come before. Its weights are those of He et al. (arXiv
    1502.01852, section 2.2, backward form): normal, with variance 2 / (size^2 outputs), so that gradients
    neither grow nor fade through rectified linear units.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        size: of the kernel, odd.
        stride: of the kernel.
    """
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def classifier(features: int, classes: int) -> nn.Sequential:
    """The mean over all places of an image, then a linear layer: (n, features, h, w) to (n, classes)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))
