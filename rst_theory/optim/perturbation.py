"""Moving the weights to the perturbed point and back, bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rst_theory.optim.lists import by_device_and_type, copy_all
from rst_theory.optim.shards import is_distributed, local

__all__ = ["Move", "Perturbation", "Storage"]

Storage = Literal["auto", "swap", "copy"]
"""Where the perturbed weights lie: "swap" writes them into a kept buffer and points the parameter there for
the second pass; "copy" keeps the weights in the buffer and changes them in place, so that no address moves.
"auto" takes "swap" for plain parameters on the CPU that own their storage alone, else "copy"."""

_LOW = (torch.float16, torch.bfloat16)


class Move(NamedTuple):
    """What moves one parameter: x -> x + scale * vector.

    Attributes:
        point: the parameter x.
        vector: of the same shape, dense or sparse.
        scale: a number, or a tensor () on any device, for which no one has to wait.
    """

    point: Tensor
    vector: Tensor
    scale: float | Tensor


class _Undo(NamedTuple):
    point: Tensor
    weights: Tensor
    swapped: bool


class Perturbation:
    """The weights, moved and brought back; one buffer for each parameter stays from step to step.

    Args:
        storage: as in `Storage`.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._buffers: dict[Tensor, tuple[tuple[Any, ...], Tensor]] = {}  # by parameter, with its layout
        self._undo: list[_Undo] = []

    @property
    def is_moved(self) -> bool:
        """Whether weights are away from home."""
        return bool(self._undo)

    @torch.no_grad()
    def move(self, moves: Sequence[Move]) -> None:
        """Move each point; it is noted before it moves, so that `back` undoes half a move too."""
        homes = Counter(m.point.data_ptr() for m in moves if not is_distributed(m.point))
        swaps = [m for m in moves if self._may_swap(m.point, homes)]
        for m in swaps:
            buffer = self._buffer(m.point)
            _write(buffer, m)
            self._undo.append(_Undo(m.point, m.point.data, swapped=True))
            m.point.data = buffer
        if len(swaps) < len(moves):
            swapped = {m.point for m in swaps}
            self._copy_and_move([m for m in moves if m.point not in swapped])
        torch.clear_autocast_cache()  # an autocast around the step would go on with the old weights' casts

    def _copy_and_move(self, copies: Sequence[Move]) -> None:
        undo = [_Undo(local(m.point), self._buffer(m.point), swapped=False) for m in copies]
        copy_all([u.point for u in undo], [u.weights for u in undo])
        self._undo += undo
        _add([Move(local(m.point), local(m.vector), m.scale) for m in copies])

    @torch.no_grad()
    def back(self) -> None:
        """Bring every point back to where it was, bit for bit; an interruption in between is made good."""
        try:
            self._back()
        except BaseException:
            self._back()
            raise

    def _back(self) -> None:
        for undo in self._undo:
            if undo.swapped:
                undo.point.data = undo.weights
        if copied := [undo for undo in self._undo if not undo.swapped]:
            copy_all([undo.weights for undo in copied], [undo.point for undo in copied])
        self._undo.clear()
        torch.clear_autocast_cache()

    def _may_swap(self, p: Tensor, homes: Counter[int]) -> bool:
        if self.storage != "auto" or is_distributed(p):
            return self.storage == "swap" and not is_distributed(p)
        if type(p) not in (Tensor, nn.Parameter) or not p.is_cpu or p.layout is not torch.strided:
            return False
        storage = p.untyped_storage()
        return storage.nbytes() == p.nbytes and homes[p.data_ptr()] == 1 and not storage.is_shared()

    def _buffer(self, p: Tensor) -> Tensor:
        x = local(p)
        layout = (x.shape, x.dtype, x.device, x.stride())
        if p not in self._buffers or self._buffers[p][0] != layout:
            self._buffers[p] = layout, torch.empty_like(x)
        return self._buffers[p][1]


def _write(target: Tensor, move: Move) -> None:
    """Write x + scale * vector into the target."""
    x, vector, scale = move
    if isinstance(scale, Tensor) or vector.is_sparse or x.dtype in _LOW:
        target.copy_(x)
        _add([Move(target, vector, scale)])
    else:
        torch.add(x, vector, alpha=scale, out=target)


def _add(moves: Sequence[Move]) -> None:
    """Add scale * vector to each x, in few kernels where device, type and scale are the same."""
    by_scale: dict[float | Tensor, list[Move]] = {}
    for move in moves:
        if move.vector.is_sparse:
            factor = move.scale
            if isinstance(factor, Tensor):
                factor = factor.to(move.vector.device)
            move.point.add_(move.vector * factor)
        else:
            by_scale.setdefault(move.scale, []).append(move)
    for scale, together in by_scale.items():
        vector_of = {m.point: m.vector for m in together}
        for points in by_device_and_type(list(vector_of)):
            _add_dense(points, [vector_of[x] for x in points], scale)


def _add_dense(points: list[Tensor], vectors: list[Tensor], scale: float | Tensor) -> None:
    if points[0].dtype in _LOW:
        # In single precision: scale alone may lie beyond the range of half precision.
        wide = [x.float() for x in points]
        _add_dense(wide, [v.float() for v in vectors], scale)
        torch._foreach_copy_(points, wide)
    elif isinstance(scale, Tensor):
        torch._foreach_add_(points, torch._foreach_mul(vectors, scale.to(points[0])))
    else:
        torch._foreach_add_(points, vectors, alpha=scale)
