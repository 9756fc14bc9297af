"""Passes whose gradients stay on their rank, and what the ranks then have to agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rst_theory.optim.lists import by_device_and_type

__all__ = ["LocalPass", "world_size"]


class LocalPass:
    """A first pass without the all-reduce: each rank is perturbed by the gradient of its own minibatch.

    This is m-sharpness (arXiv 2010.01412, section 4.1), and saves one all-reduce of two where gamma = 1.

    Args:
        model: a `DistributedDataParallel`, or a module that holds some.

    Raises:
        ValueError: several processes, and no such module; or one with static_graph=True.
    """

    def __init__(self, model: nn.Module | None) -> None:
        modules = () if model is None else model.modules()
        self.parallel = [m for m in modules if isinstance(m, DistributedDataParallel)]
        if not self.parallel and world_size() > 1:
            raise ValueError(
                "sync_perturbation=False needs model=, the DistributedDataParallel module whose first pass "
                f"is to be local; got {type(model).__name__}"
            )
        if any(module.static_graph for module in self.parallel):
            raise ValueError(
                "sync_perturbation=False cannot be had with static_graph=True: DistributedDataParallel "
                "learns the graph from a first pass with all-reduce"
            )

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Forward and backward within it leave gradients as they are on this rank."""
        with ExitStack() as stack:
            for module in self.parallel:
                stack.callback(_forget_used, module)
                stack.enter_context(module.no_sync())
            yield

    def longest(self, size: float | Tensor) -> float | Tensor:
        """The longest of the ranks' lengths, infinite where one is not finite; one number is exchanged.

        No one waits for it where it is a tensor.
        """
        for module in self.parallel:
            device = next(module.parameters()).device
            number = torch.as_tensor(size, dtype=torch.float64, device=device)
            number = torch.where(number.isfinite(), number, torch.inf)
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, module.process_group)
            size = number if isinstance(size, Tensor) else float(number)
        return size

    def joined(
        self,
        parameters: Sequence[Tensor],
        first: Sequence[Tensor | None],
        second: Sequence[Tensor | None],
        mean: bool,
    ) -> list[Tensor | None]:
        """The first gradients of all ranks together: one that is missing on some counts as zero there.

        Args:
            parameters: of the model.
            first: their first gradients on this rank; written over.
            second: their second gradients, which are the same on every rank already.
            mean: whether first gradients are replaced by their means over the ranks; else it only matters
                which of them there are.
        """
        used = [g_adv is not None for g_adv in second]
        if any(module.find_unused_parameters for module in self.parallel):
            used = self._anywhere([u or g is not None for u, g in zip(used, first, strict=True)])
        whole = [
            torch.zeros_like(p if g_adv is None else g_adv) if u and g is None else g
            for p, g, g_adv, u in zip(parameters, first, second, used, strict=True)
        ]
        if mean:
            self._average([g for g, u in zip(whole, used, strict=True) if u and g is not None])
        return whole

    def _anywhere(self, conditions: Sequence[bool]) -> list[bool]:
        """Which conditions hold on any rank."""
        for module in self.parallel:
            flags = torch.tensor(conditions, dtype=torch.uint8, device=next(module.parameters()).device)
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX, module.process_group)
            conditions = flags.bool().tolist()
        return list(conditions)

    def _average(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients, the same number on every rank, by their means over the ranks."""
        for module in self.parallel[:1]:
            group: Any = module.process_group
            world = torch.distributed.get_world_size(group)
            for g in gradients:
                if g.is_sparse:
                    torch.distributed.all_reduce(g, group=group)
                    g.div_(world)
            for together in by_device_and_type([g for g in gradients if not g.is_sparse]):
                row = torch.cat([g.reshape(-1) for g in together]) / world
                torch.distributed.all_reduce(row, group=group)
                for g, mean in zip(together, torch.split(row, [g.numel() for g in together]), strict=True):
                    g.copy_(mean.view(g.shape))


def _forget_used(module: DistributedDataParallel) -> None:
    """Let the next pass not expect gradients of what a pass without all-reduce has used.

    DistributedDataParallel takes the two for micro-batches of one sum; here gradients are taken away in
    between.
    """
    if module.find_unused_parameters:
        module.reducer._reset_state()


def world_size() -> int:
    """How many processes take part; 1 where none have been joined."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1
