"""The gradients of the first pass: taken out of `.grad` for the second, kept or only remembered."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rst_theory.optim.shards import is_distributed

__all__ = ["share_memory", "spoil_gradients", "take_gradients"]


def take_gradients(parameters: Sequence[Tensor], keep: bool) -> list[Tensor | None]:
    """Take the gradients out of `.grad`, so that no way of clearing them can wipe them.

    Args:
        parameters: of the model.
        keep: whether their values are needed. Else their memory is free for the second pass, and a zero of
            no shape tells which there were.

    Returns:
        A gradient, or None, for each parameter.
    """
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    if keep:
        # A view into a bucket of DistributedDataParallel is written over by the next backward.
        return [g.clone() if g is not None and _is_view(g) else g for g in gradients]
    return [g if g is None or is_distributed(g) else _zero(g.dtype, g.device) for g in gradients]


def spoil_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Give gradients back as no scaler accepts them: it then skips the step and lowers its scale.

    Args:
        parameters: of the model.
        gradients: one, or None, for each; written over.
    """
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = None if g is None else g.mul_(math.inf)


def share_memory(g: Tensor | None, g_adv: Tensor | None) -> bool:
    """Whether two dense gradients begin at one address."""
    if g is None or g_adv is None or not (g.layout is g_adv.layout is torch.strided) or is_distributed(g):
        return False
    return g.numel() > 0 and not g.is_meta and g.data_ptr() == g_adv.data_ptr()


def _is_view(g: Tensor) -> bool:
    """Whether a gradient is a part of some other memory, or all of it."""
    plain = g.layout is torch.strided and not is_distributed(g)
    return plain and (g._is_view() or g.untyped_storage().nbytes() != g.numel() * g.element_size())


@functools.cache
def _zero(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.zeros((), dtype=dtype, device=device)
