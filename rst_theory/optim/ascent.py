"""The ascent step: where the second gradient of a perturbed step is taken.

    normalized        y = x + rho T^2 g / ||T g||          unnormalized        y = x + rho T^2 g

with the radius rho, the gradient g, its length over all perturbed parameters taken together, and T = 1, or
T = |x| + offset entry by entry where the perturbation is adaptive (ASAM, arXiv 2102.11600). A zero gradient
perturbs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rst_theory.notation import Ascent
from rst_theory.optim.lengths import length
from rst_theory.optim.perturbation import Move

__all__ = ["Point", "ascend"]

_SHIFT = 2.0**100
_LARGEST = torch.finfo(torch.float32).max


class Point(NamedTuple):
    """A parameter that has a gradient and is to be perturbed, with its radius rho (negative: against g)."""

    parameter: Tensor
    gradient: Tensor
    rho: float | Tensor
    adaptive: bool


@torch.no_grad()
def ascend(
    points: Sequence[Point], ascent: Ascent, offset: float, clip: float | None, loss_scale: float
) -> tuple[float | Tensor, list[Move]]:
    """The length ||T g||, and the moves from x to y.

    Args:
        points: what is perturbed.
        ascent: "normalized" or "unnormalized".
        offset: of adaptive perturbations, added to |x|.
        clip: the gradient's length is cut to this before an unnormalized ascent; None leaves it. A
            normalized one does not feel it.
        loss_scale: the factor that the gradients carry beyond those of the loss.

    Returns:
        The length without the loss scale: a number on the CPU, a tensor () elsewhere; where it is not
        finite the moves mean nothing.
    """
    # T g is what the length is of, T^2 g where it leads.
    T = [_wide(x).abs() + offset if adaptive else None for x, _, _, adaptive in points]
    scaled = [p.gradient if t is None else t * _wide(p.gradient) for p, t in zip(points, T, strict=True)]
    size = length(scaled)
    vectors = [v if t is None else t * v for v, t in zip(scaled, T, strict=True)]
    shift = _shift(size) if ascent == "normalized" else 1.0
    if shift != 1:
        vectors = [v * shift for v in vectors]
    factors: dict[float | Tensor, float | Tensor] = {}
    for p in points:
        if p.rho not in factors:
            factors[p.rho] = _factor(p.rho, size * shift, ascent, clip, loss_scale)
    return size / loss_scale, [
        Move(p.parameter, v, factors[p.rho]) for p, v in zip(points, vectors, strict=True)
    ]


def _shift(size: float | Tensor) -> float:
    """What keeps rho / ||T g|| within the floating range: a power of two, hence exact."""
    if isinstance(size, Tensor) or size == 0 or 1 / _SHIFT <= size <= _SHIFT:
        return 1.0
    return _SHIFT if size < 1 else 1 / _SHIFT


def _factor(
    rho: float | Tensor, size: float | Tensor, ascent: Ascent, clip: float | None, loss_scale: float
) -> float | Tensor:
    """What T^2 g is multiplied with: rho / ||T g||, where the loss scale of both cancels, or rho; 0 where the
    length is 0 or not finite.
    """
    if isinstance(size, Tensor):
        factor = rho / size if ascent == "normalized" else rho / loss_scale * torch.ones_like(size)
        if clip is not None and ascent == "unnormalized":
            factor = factor * (clip * loss_scale / size).clamp(max=1.0)
        moves = torch.isfinite(size) & (size > 0)
        return torch.where(moves, factor, 0.0).clamp(max=_LARGEST)
    if not math.isfinite(size) or size == 0:
        return 0.0
    if ascent == "normalized":
        return rho / size
    cut = 1.0 if clip is None else min(1.0, clip * loss_scale / size)
    return rho / loss_scale * cut


def _wide(tensor: Tensor) -> Tensor:
    """Half precision as single: T^2 g alone may lie beyond its range."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
