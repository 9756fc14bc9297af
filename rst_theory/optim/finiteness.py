"""Gradients that are not finite: told at once on the CPU, one step late where no step may wait."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

__all__ = ["FiniteChecks"]


class FiniteChecks:
    """The lengths of gradients, checked without making the device wait."""

    def __init__(self) -> None:
        self.captured: list[tuple[str, Tensor]] = []  # those of a graph being captured: noted at its replays
        self._open: deque[tuple[str, Tensor, torch.cuda.Event | None]] = deque()

    def require(self, size: float | Tensor, what: str) -> None:
        """Check a length: now where it is a number, later where it is a tensor.

        Raises:
            FloatingPointError: a number that is infinite or NaN.
        """
        if isinstance(size, Tensor):
            self.note(size, what)
        elif not math.isfinite(size):
            raise FloatingPointError(f"{what} is {size}; the weights are untouched")

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

    def raise_late(self) -> None:
        """Look at the lengths of earlier steps that have arrived.

        Raises:
            FloatingPointError: one of them is infinite or NaN; the step has been taken.
        """
        while self._open and _arrived(self._open[0][2]):
            what, size, _ = self._open.popleft()
            if not math.isfinite(float(size)):
                self._open.clear()
                raise FloatingPointError(f"{what} was {float(size)}; the weights have taken that step")


def _arrived(event: torch.cuda.Event | None) -> bool:
    return event is None or bool(event.query())  # type: ignore[no-untyped-call]
