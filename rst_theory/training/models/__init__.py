"""Networks for small images, in plain torch; each is built from the shape of an image and the classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from rst_theory.notation import DomainError, natural
from rst_theory.training.models.resnet import ResNet18
from rst_theory.training.models.small import MLP, SmallCNN
from rst_theory.training.models.vit import ViT
from rst_theory.training.models.wide_resnet import WideResNet
from rst_theory.training.seeds import generator

__all__ = ["MLP", "MODELS", "ResNet18", "SmallCNN", "ViT", "WideResNet", "build_model"]

MODELS: dict[str, Callable[[tuple[int, int, int], int], nn.Module]] = {
    "mlp": MLP,
    "cnn": SmallCNN,
    "resnet18": ResNet18,
    "wrn28-10": WideResNet,
    "vit": ViT,
}
"""From (channels, height, width) of an image and the number of classes to a network."""


def build_model(
    name: str, shape: tuple[int, int, int], classes: int, seed: int, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """A network with initial weights that come from the repetition alone; the global generator is untouched.

    Args:
        name: a key of `MODELS`.
        shape: of an image, (channels, height, width).
        classes: the number of outputs.
        seed: the repetition.
        dtype: of the weights; they are drawn in float32 whatever it is.

    Raises:
        TypeError: a size that is not an integer.
        ValueError: an unknown name; as a DomainError a shape or number of classes that is none, or that
            the network cannot take.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {name!r}")
    if len(shape) != 3:
        raise DomainError("shape = (channels, height, width)", shape)
    for part, size in zip(("channels", "height", "width"), shape, strict=True):
        natural(part, size, least=1)
    natural("classes", classes, least=1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(generator(seed, "weights").integers(2**63)))
        return MODELS[name](shape, classes).to(dtype)
