"""The direction (1 - gamma) g + gamma g_adv of many tensors at once, and its clipping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rst_theory.method import direction
from rst_theory.optim.lists import by_device_and_type
from rst_theory.optim.shards import is_distributed, local

__all__ = ["clip", "mix"]

Pair = tuple[Tensor | None, Tensor | None]


@torch.no_grad()
def mix(parameters: Sequence[Tensor], first: Sequence[Tensor | None], gamma: float | Tensor) -> None:
    """Turn `.grad`, the second gradients, into the directions; a gradient that is missing counts as zero.

    What is missing in both passes stays missing; at gamma = 1 second gradients stay bit for bit.

    Args:
        parameters: of the model.
        first: their first gradients.
        gamma: the mixing coefficient, or a tensor () that holds it.
    """
    fast: dict[Tensor, Tensor] = {}
    for p, g in zip(parameters, first, strict=True):
        if g is None and p.grad is None:
            continue
        g, p.grad = _or_zero(g, p), _or_zero(p.grad, p)
        if _alike(g, p.grad):
            fast[local(p.grad)] = local(g)
        else:
            # torch adds no dense tensor to a sparse one, only the other way round.
            p.grad = direction(g if g.layout is p.grad.layout else g.to_dense(), p.grad, gamma)
    if isinstance(gamma, Tensor) or gamma != 1:
        for together in by_device_and_type(list(fast)):
            _lerp(together, [fast[g_adv] for g_adv in together], gamma)


def _lerp(second: list[Tensor], first: list[Tensor], gamma: float | Tensor) -> None:
    """g_adv <- g_adv + (1 - gamma) (g - g_adv), in place."""
    if isinstance(gamma, Tensor):
        differences = torch._foreach_sub(first, second)
        torch._foreach_mul_(differences, (1 - gamma).to(second[0]))  # of their type: else a kernel for each
        torch._foreach_add_(second, differences)
    else:
        torch._foreach_lerp_(second, first, 1 - gamma)


@torch.no_grad()
def clip(gradients: Sequence[Tensor], size: float | Tensor, limit: float) -> None:
    """Scale gradients of a given length down to the limit, in place, if they are longer.

    Args:
        gradients: dense or sparse.
        size: their length taken together.
        limit: of the length, > 0.
    """
    if isinstance(size, Tensor):
        factor: float | Tensor = (limit / size).clamp(max=1.0)
    elif size <= limit:
        return
    else:
        factor = limit / size
    dense = [local(g) for g in gradients if not g.is_sparse]
    for together in by_device_and_type(dense):
        torch._foreach_mul_(together, factor.to(together[0]) if isinstance(factor, Tensor) else factor)
    for g in gradients:
        if g.is_sparse:
            g.mul_(factor.to(g.device) if isinstance(factor, Tensor) else factor)


def _alike(g: Tensor, g_adv: Tensor) -> bool:
    layouts = g.layout is g_adv.layout is torch.strided
    return layouts and g.dtype == g_adv.dtype and is_distributed(g) == is_distributed(g_adv)


def _or_zero(gradient: Tensor | None, p: Tensor) -> Tensor:
    return torch.zeros_like(p) if gradient is None else gradient
