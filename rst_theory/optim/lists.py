"""Many tensors at once, in few kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["by_device_and_type", "copy_all"]


def by_device_and_type(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors in lists of one device and type each: what the fused kernels take in one go."""
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return list(groups.values())


def copy_all(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Copy each source into its target, of the same shape; a target stands there once."""
    source_of = dict(zip(targets, sources, strict=True))
    for together in by_device_and_type(list(source_of)):
        torch._foreach_copy_(together, [source_of[t] for t in together])
