"""The Euclidean length of a list of tensors taken together, whatever their size, precision, place and layout.

On the CPU it is a number. On another device it is a tensor there, so that no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rst_theory.optim.lists import by_device_and_type
from rst_theory.optim.shards import gathered, local, process_groups

__all__ = ["entries", "length"]

_EXACT = (torch.float32, torch.float64)  # whose squares are summed as they are
_ROW = 4096
_SHORT = 2**15  # entries that are summed in one go


def length(tensors: Sequence[Tensor]) -> float | Tensor:
    """The square root of the sum of |entry|^2 over all tensors; 0 for none.

    Squares that leave the floating range do not spoil it: a length is infinite or NaN only where an entry is.
    A tensor that is sharded over processes counts whole, with one collective call for each of its meshes.

    Args:
        tensors: real, complex, sparse, or distributed (`torch.distributed.tensor.DTensor`).

    Returns:
        A number where all tensors are on the CPU, else a float64 tensor () (float32 where the device has no
        float64) on the first tensor's device.

    Raises:
        ValueError: a distributed tensor that holds partial sums.
    """
    if all(map(_is_plain, tensors)):
        return _on_host(tensors)
    by_sharding: dict[tuple[Any, ...], list[Tensor]] = {}
    for tensor in tensors:
        by_sharding.setdefault(process_groups(tensor), []).append(entries(local(tensor)))
    if all(t.device.type == "cpu" for part in by_sharding.values() for t in part):
        return math.hypot(*(n for g, part in by_sharding.items() for n in gathered(_on_host(part), g)))
    parts = [gathered(_on_device(part), g) for g, part in by_sharding.items()]
    return _together(torch.cat([part.to(parts[0].device) for part in parts]))


def entries(tensor: Tensor) -> Tensor:
    """The real entries of a tensor: the values of a sparse one, the parts of a complex one."""
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


def _is_plain(t: Tensor) -> bool:
    """Nothing special, and on the CPU: as a rule, so that the search for what it is can be left out."""
    return type(t) is Tensor and t.is_cpu and t.layout is torch.strided and t.dtype in _EXACT


def _on_host(tensors: Sequence[Tensor]) -> float:
    return math.hypot(*map(_of_one_type, by_device_and_type([t for t in tensors if t.numel()])))


def _of_one_type(tensors: list[Tensor]) -> float:
    if tensors[0].dtype in _EXACT:
        size = _in_rows(tensors)
        if _least_safe(tensors[0].dtype) < size < math.inf:
            return size
    return math.hypot(*map(_carefully, tensors))


def _in_rows(tensors: list[Tensor]) -> float:
    """As short rows: faster than in one go, and without the rounding of a long sum (3e-5 of 2^22 entries)."""
    lengths, short = [], []
    for tensor in map(_as_in_memory, tensors):
        if tensor.numel() <= _SHORT:
            short.append(tensor)
        elif tensor.is_contiguous():
            row, whole = tensor.view(-1), tensor.numel() - tensor.numel() % _ROW
            lengths.append(torch.linalg.vector_norm(row[:whole].view(-1, _ROW), dim=1))
            short.append(row[whole:])
        else:
            lengths.append(torch.linalg.vector_norm(tensor, dtype=torch.float64).to(tensor.dtype).view(1))
    if short:
        lengths.append(torch.stack(torch._foreach_norm(short)))
    joined = torch.cat(lengths) if len(lengths) > 1 else lengths[0]
    return float(torch.linalg.vector_norm(joined, dtype=torch.float64))


def _as_in_memory(tensor: Tensor) -> Tensor:
    """The same entries in the order in which they lie: of channels_last, or of a transposed tensor."""
    if tensor.is_contiguous():
        return tensor
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))


def _carefully(tensor: Tensor) -> float:
    """With squares that cannot leave the floating range."""
    if tensor.dtype != torch.float64:
        return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
    largest = float(torch.linalg.vector_norm(tensor, math.inf))
    if largest in (0.0, math.inf) or math.isnan(largest):
        return largest
    return largest * float(torch.linalg.vector_norm(tensor / largest))


def _on_device(tensors: Sequence[Tensor]) -> Tensor:
    """The length as a tensor (), without waiting for it."""
    wide = torch.float32 if tensors[0].device.type == "mps" else torch.float64
    norms = []
    for one in by_device_and_type([t for t in tensors if t.numel()]):
        if one[0].dtype == torch.float64:
            # Squares of float64 entries may leave its range: the largest entry is divided out first.
            unit = _unit(torch.stack(torch._foreach_norm(one, math.inf)))
            scaled = torch.stack(torch._foreach_norm(torch._foreach_div(one, unit)))
            norms.append(torch.linalg.vector_norm(scaled) * unit)
        else:
            norms.append(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(one, 2, dtype=wide))))
    if not norms:
        return torch.zeros((), dtype=wide, device=tensors[0].device)
    return _together(torch.stack([n.to(norms[0].device) for n in norms]))


def _together(lengths: Tensor) -> Tensor:
    """The length of parts of known lengths, a tensor (n,)."""
    if lengths.numel() == 1:  # as a rule: a dozen launches less
        return lengths[0]
    unit = _unit(lengths)
    return cast("Tensor", torch.linalg.vector_norm(lengths / unit) * unit)


def _unit(sizes: Tensor) -> Tensor:
    """The largest of some sizes, by which they can be divided; else 1."""
    largest = sizes.max()
    return torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0)


def _least_safe(dtype: torch.dtype) -> float:
    """A length below which squares of entries that matter may underflow."""
    precision = torch.finfo(dtype)
    return math.sqrt(precision.tiny) / precision.eps
