"""One run on several processes, started by torchrun, each with its part of every minibatch.

    torchrun --nproc-per-node 4 -m rst_theory.cli train --device cuda …

The environment then tells a process its rank r of W. Minibatch B of n examples is dealt out like
cards: process r takes the n_r examples B[r], B[r + W], …. `DistributedDataParallel` averages gradients over
the processes, so that the loss of process r counts W n_r / n: then the average is the mean over B, whatever
n is. Weights, trials and learning rate are equal everywhere, and rank 0 alone evaluates and writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Processes", "is_first", "joined"]


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        device: of this process.
        rank: r, its number.
        world: W, how many there are.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which evaluates and writes for all."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over the processes."""
        if self.world == 1:
            return model
        return DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None)

    def part(self, batch: Tensor) -> Tensor:
        """This process's part of the inputs or labels of a minibatch; one example where none is left."""
        mine = batch[self.rank :: self.world]
        return mine if len(mine) else batch[:1]

    def weight(self, n: int) -> float:
        """What the mean loss of this process's part of n examples counts: W n_r / n."""
        return self.world * len(range(self.rank, n, self.world)) / n

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, equal bit for bit on all of them."""
        if self.world == 1:
            return values
        distributed.all_reduce(values)
        return values / self.world

    def any(self, flag: bool) -> bool:
        """Whether the flag is raised on one of the processes; equal on all of them."""
        return self.mean(torch.tensor(float(flag), device=self.device)).item() > 0

    def from_first(self, value: Callable[[], float]) -> float:
        """What rank 0 computes; the others wait for it."""
        if self.world == 1:
            return value()
        shared = torch.tensor(value() if self.first else 0.0, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return shared.item()


def is_first() -> bool:
    """Whether this is the process that writes and prints: rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, able to talk to each other; this one alone without torchrun.

    Args:
        device: "cpu", "cuda" or "cuda:1"; under torchrun each process takes the GPU of its local rank.

    Raises:
        ValueError: no such device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    here = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if world > 1 else None)
    if world == 1:
        yield Processes(here)
        return
    on_gpu = here.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(here)  # else every process would open a context on the first GPU too
    distributed.init_process_group("nccl" if on_gpu else "gloo", device_id=here if on_gpu else None)
    try:
        yield Processes(here, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be such as cpu, cuda or cuda:1; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda; got {name!r}")
    if device.type == "cpu":
        return device
    index = local_rank if local_rank is not None else device.index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: this torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", index)
