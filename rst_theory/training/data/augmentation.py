"""Random crops, flips and cutouts of a batch of images, all in one reading of its pixels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["AUGMENTATIONS", "augment"]

AUGMENTATIONS: tuple[str, ...] = ("none", "flip", "crop", "crop-flip", "crop-flip-cutout")
"""The recipes: their parts are done from left to right."""


def augment(inputs: Tensor, recipe: str, generator: torch.Generator) -> Tensor:
    """Each image of a batch, changed at random and independently of the others.

    A changed image is the old one at other coordinates, and 0 where there is nothing to see:

        out[n, k, i, j] = inputs[n, k, a + i, b + c(j)], or 0 outside the image and in the hole,

    - crop: the image is padded with P = side // 8 zeros on each side and a window of the old size is cut out
      of it: a and b are uniform on -P, …, P; otherwise 0.
    - flip: c(j) = width - 1 - j with probability 1/2; otherwise c(j) = j.
    - cutout: the hole is a rectangle of half the height and width, centred on a uniform pixel (i, j), of
      which what lies outside the image is lost (arXiv 1708.04552).

    Numbers are drawn as int64 tensors (n, 1), in this order: the flips, 0 or 1; a, b; the centre's i, j.

    Args:
        inputs: (n, channels, height, width), of any dtype, layout and device; it is not changed.
        recipe: one of `AUGMENTATIONS`.
        generator: of random numbers, on the device of the inputs; equal states give equal results.

    Returns:
        A new tensor like the inputs; with "none" the inputs themselves.

    Raises:
        ValueError: an unknown recipe, or inputs that are not 4-dimensional.
    """
    if recipe not in AUGMENTATIONS:
        raise ValueError(f"augmentation must be one of {', '.join(AUGMENTATIONS)}; got {recipe!r}")
    if inputs.ndim != 4:
        raise ValueError(f"inputs must be (n, channels, height, width); got shape {tuple(inputs.shape)}")
    if recipe == "none":
        return inputs
    parts = recipe.split("-")
    n, channels, height, width = inputs.shape

    def uniform(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (n, 1), generator=generator, device=inputs.device)

    i, j = (torch.arange(side, device=inputs.device).expand(n, side) for side in (height, width))
    row, column = i, j
    if "flip" in parts:
        column = torch.where(uniform(0, 2).bool(), width - 1 - j, j)
    if "crop" in parts:
        row = row + uniform(-(height // 8), height // 8 + 1)
        column = column + uniform(-(width // 8), width // 8 + 1)
    y, x = row.clamp(0, height - 1), column.clamp(0, width - 1)
    dark = (y != row)[:, :, None] | (x != column)[:, None]
    if "cutout" in parts:
        dark |= _half(i, uniform(0, height), height)[:, :, None] & _half(j, uniform(0, width), width)[:, None]
    pixel = (y[:, :, None] * width + x[:, None]).flatten(1)[:, None].expand(n, channels, -1)
    seen = inputs.flatten(2).gather(2, pixel).view(inputs.shape)
    return torch.where(dark[:, None], inputs.new_zeros(()), seen, out=torch.empty_like(inputs))


def _half(index: Tensor, centre: Tensor, side: int) -> Tensor:
    """Where an index lies in the half of the side around the centre."""
    start = centre - side // 4
    return (index >= start) & (index < start + side // 2)
