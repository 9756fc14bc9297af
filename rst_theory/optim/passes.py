"""What two passes over one minibatch must share, or must not do twice: random numbers and statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rst_theory.optim.lists import copy_all

__all__ = ["Buffers", "RandomState", "kept_statistics"]


class _Kept(NamedTuple):
    module: nn.Module
    name: str
    buffer: Tensor


class Buffers:
    """The buffers of a model's modules in training mode, put aside and brought back.

    Running statistics are buffers, whatever the class of the layer and however it averages them (batch
    normalization with momentum=None, with its counter; spectral normalization; a moving average of one's
    own), so all of them are kept. Copies stay from step to step.

    Args:
        model: its modules are looked at anew each time.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._copies: dict[Tensor, Tensor] = {}
        self._kept: list[_Kept] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Put the present values aside."""
        self._kept = [
            _Kept(module, name, buffer)
            for module in self.model.modules()
            if module.training
            for name, buffer in module._buffers.items()  # named_buffers takes several times as long
            if buffer is not None
        ]
        live = self._live()
        self._copies = {b: self._copies[b] if b in self._copies else torch.empty_like(b) for b in live}
        copy_all(live, [self._copies[b] for b in live])

    @torch.no_grad()
    def bring_back(self) -> None:
        """Bring the values back, also into buffers that were replaced by others."""
        for module, name, buffer in self._kept:
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)
        live = self._live()
        copy_all([self._copies[b] for b in live], live)
        self._kept = []

    def _live(self) -> list[Tensor]:
        return [kept.buffer for kept in self._kept if not _is_repeated(kept.buffer)]


def _is_repeated(buffer: Tensor) -> bool:
    """Whether entries share their memory (`expand`): torch refuses to write into it, so nothing changes."""
    if buffer.layout is not torch.strided:
        return False
    return any(n > 1 and stride == 0 for n, stride in zip(buffer.shape, buffer.stride(), strict=True))


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Running statistics of the model are after the block what they were before it.

    For loops of one's own; an `RST` that is given its model does it in every second pass.

    Args:
        model: its modules in training mode are kept; those in evaluation mode count nothing.
    """
    buffers = Buffers(model)
    buffers.keep()
    try:
        yield
    finally:
        buffers.bring_back()


class RandomState(NamedTuple):
    """The state of torch's generators: the CPU's, and those of the given devices."""

    cpu: Tensor
    devices: dict[torch.device, Tensor]

    @classmethod
    def now(cls, devices: set[torch.device]) -> RandomState:
        """The present state.

        Args:
            devices: accelerators whose generators count; the CPU's always does.
        """
        states = {d: torch.get_device_module(d).get_rng_state(d) for d in devices if d.type not in _HOSTS}
        return cls(torch.get_rng_state(), states)

    def restore(self) -> None:
        """Go back to it."""
        torch.set_rng_state(self.cpu)
        for device, state in self.devices.items():
            torch.get_device_module(device).set_rng_state(state, device)


_HOSTS = ("cpu", "meta")
