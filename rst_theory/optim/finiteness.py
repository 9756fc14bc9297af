"""Gradients that are not finite: told at once on the CPU, one step late where no step may wait."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rst_theory.optim.shards import local

__all__ = ["FiniteChecks", "names", "not_finite"]


class FiniteChecks:
    """The lengths of gradients, checked without making the device wait."""

    def __init__(self) -> None:
        self.captured: list[tuple[str, Tensor]] = []  # those of a graph being captured: noted at its replays
        self._open: deque[tuple[str, Tensor, torch.cuda.Event | None]] = deque()

    def note(self, size: Tensor, what: str) -> None:
        """Have a length looked at by a later call of `raise_late`."""
        if size.is_cuda:
            if torch.cuda.is_current_stream_capturing():
                self.captured.append((what, size))
            else:
                host = torch.empty((), dtype=size.dtype, pin_memory=True)
                host.copy_(size, non_blocking=True)
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record(torch.cuda.current_stream(size.device))  # it need not be the current device
                self._open.append((what, host, event))
        elif not size.is_meta:
            self._open.append((what, size, None))

    def raise_late(self, blame: Callable[[], str] = str) -> None:
        """Look at the lengths of earlier steps that have arrived.

        Args:
            blame: says which parameters are not finite.

        Raises:
            FloatingPointError: one of them is infinite or NaN; the step has been taken.
        """
        while self._open and _arrived(self._open[0][2]):
            what, size, _ = self._open.popleft()
            if not math.isfinite(float(size)):
                self._open.clear()
                raise FloatingPointError(
                    f"{what} was {float(size)}; the weights have taken that step{blame()}"
                )


def _arrived(event: torch.cuda.Event | None) -> bool:
    return event is None or bool(event.query())  # type: ignore[no-untyped-call]


def not_finite(values: Iterable[tuple[str, Tensor | None]]) -> str:
    """Words on the tensors among these that are not finite, as "; not finite: layer.weight", or none."""
    wrong = [name for name, x in values if x is not None and not _is_finite(x)]
    return f"; not finite: {', '.join(wrong)}" if wrong else ""


def _is_finite(x: Tensor) -> bool:
    x = local(x.detach())
    return bool(torch.isfinite(x.coalesce().values() if x.is_sparse else x).all())


def names(groups: Iterable[Mapping[str, Any]], model: nn.Module | None) -> dict[Tensor, str]:
    """What each parameter is called: by its group, by the model, or by its place."""
    known: dict[Tensor, str] = {}
    if model is not None:
        known.update((p, name) for name, p in model.named_parameters())
    for i, group in enumerate(groups):
        own = group.get("param_names") or [f"parameter {j} of group {i}" for j in range(len(group["params"]))]
        for p, name in zip(group["params"], own, strict=True):
            known.setdefault(p, name)
    return known
