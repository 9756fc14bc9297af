"""Tensors that are spread over processes: their local part, and what belongs together."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

__all__ = ["gathered", "is_distributed", "local", "process_groups", "sum_partial_gradients"]

_PLAIN = (Tensor, nn.Parameter)  # known not to be, without a search


def _distributed_tensor() -> Any:
    """The class DTensor, once anything has loaded it; else there can be no such tensor."""
    module = sys.modules.get("torch.distributed.tensor")
    return getattr(module, "DTensor", ()) or ()


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: the tensor itself where it is not distributed."""
    if is_distributed(tensor):
        tensor = cast("Any", tensor).to_local()
    return tensor


def sum_partial_gradients(parameters: Iterable[Tensor]) -> None:
    """Where the processes hold terms of a gradient (tensor parallelism), put the sum in its place."""
    for p in parameters:
        if p.grad is not None and _is_partial(p.grad):
            p.grad = cast("Any", p.grad).redistribute(placements=cast("Any", p).placements)


def process_groups(tensor: Tensor) -> tuple[Any, ...]:
    """The process groups over which a tensor is sharded; replicas of a part count once.

    Raises:
        ValueError: a tensor that holds partial sums.
    """
    if not is_distributed(tensor):
        return ()
    spread: Any = tensor
    if _is_partial(tensor):
        raise ValueError(f"a distributed gradient must be sharded or replicated; got {spread.placements}")
    mesh = spread.device_mesh
    return tuple(
        mesh.get_group(i) for i, placement in enumerate(spread.placements) if not placement.is_replicate()
    )


def _is_partial(tensor: Tensor) -> bool:
    placements = cast("Any", tensor).placements if is_distributed(tensor) else ()
    return any(placement.is_partial() for placement in placements)


def is_distributed(tensor: Tensor) -> bool:
    """Whether a tensor is spread over processes: a `torch.distributed.tensor.DTensor`."""
    return type(tensor) not in _PLAIN and isinstance(tensor, _distributed_tensor())


@overload
def gathered(number: float, groups: tuple[Any, ...]) -> list[float]: ...
@overload
def gathered(number: Tensor, groups: tuple[Any, ...]) -> Tensor: ...
def gathered(number: float | Tensor, groups: tuple[Any, ...]) -> list[float] | Tensor:
    """The numbers of all processes of the groups: a list for a number, a tensor (n,) for a tensor ()."""
    if not groups and not isinstance(number, Tensor):
        return [number]
    values = number.reshape(1) if isinstance(number, Tensor) else torch.tensor([number], dtype=torch.float64)
    for group in groups:
        everyone = values.new_empty(torch.distributed.get_world_size(group), values.numel())
        torch.distributed.all_gather(list(everyone.unbind()), values, group=group)
        values = everyone.reshape(-1)
    return values if isinstance(number, Tensor) else values.tolist()
