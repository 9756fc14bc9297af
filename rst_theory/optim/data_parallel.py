"""Passes whose gradients stay on their rank, and what the ranks then have to agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rst_theory.optim.lengths import by_device_and_type

__all__ = ["LocalPass"]


class LocalPass:
    """A first pass without the all-reduce: each rank is perturbed by the gradient of its own minibatch.

    This is m-sharpness (arXiv 2010.01412, section 4.1), and saves one all-reduce of two where gamma = 1.

    Args:
        model: a `DistributedDataParallel`, or a module that holds some.

    Raises:
        ValueError: several processes, and no such module.
    """

    def __init__(self, model: nn.Module | None) -> None:
        modules = () if model is None else model.modules()
        self.parallel = [m for m in modules if isinstance(m, DistributedDataParallel)]
        if not self.parallel and _world() > 1:
            raise ValueError(
                "sync_perturbation=False needs model=, the DistributedDataParallel module whose first pass "
                f"is to be local; got {type(model).__name__}"
            )

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Forward and backward within it leave gradients as they are on this rank."""
        with ExitStack() as stack:
            for module in self.parallel:
                stack.enter_context(module.no_sync())
            yield

    def anywhere(self, condition: bool) -> bool:
        """Whether a condition holds on any rank; one number is exchanged."""
        for module in self.parallel:
            device = next(module.parameters()).device
            flag = torch.tensor([float(condition)], device=device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, module.process_group)
            condition = bool(flag)
        return condition

    def mean(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients, the same number on every rank, by their means over the ranks."""
        for module in self.parallel[:1]:
            group = module.process_group
            for together in by_device_and_type(list(gradients)):
                joined = torch.cat([g.reshape(-1) for g in together])
                torch.distributed.all_reduce(joined, group=group)
                joined /= torch.distributed.get_world_size(group)
                for g, mean in zip(together, torch.split(joined, [g.numel() for g in together]), strict=True):
                    g.copy_(mean.view(g.shape))


def _world() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1
