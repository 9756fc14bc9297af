"""Small networks for small images."""

from __future__ import annotations

import torch
from torch import nn

from rst_theory.training.seeds import generator

__all__ = ["MLP", "MODELS", "SmallCNN", "build_model"]


class MLP(nn.Sequential):
    """Two hidden layers with rectified linear units."""

    def __init__(self, shape: tuple[int, int], classes: int, width: int = 128) -> None:
        height, breadth = shape
        super().__init__(
            nn.Flatten(),
            nn.Linear(height * breadth, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )


class SmallCNN(nn.Sequential):
    """Two 3 x 3 convolutions, each with rectified linear units and 2 x 2 max pooling; then a linear layer."""

    def __init__(self, shape: tuple[int, int], classes: int, width: int = 16) -> None:
        height, breadth = shape
        super().__init__(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 4) * (breadth // 4), classes),
        )


MODELS: dict[str, type[MLP] | type[SmallCNN]] = {"mlp": MLP, "cnn": SmallCNN}


def build_model(
    name: str, shape: tuple[int, int], classes: int, seed: int, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """A network with initial weights that come from the repetition alone; the global generator is untouched.

    Args:
        name: a key of `MODELS`.
        shape: of an image, (height, width).
        classes: the number of outputs.
        seed: the repetition.
        dtype: of the weights; they are drawn in float32 whatever it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(generator(seed, "weights").integers(2**63)))
        return MODELS[name](shape, classes).to(dtype)
