"""How the learning rate falls over the steps of a run."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
)

__all__ = ["Rate", "rate_scheduler"]

Rate = Literal["cosine", "step", "constant"]

_DROPS = (3, 6, 8)
"""Tenths of the run after which "step" divides by `_DROP`: WideResNet's 60, 120 and 160 of 200 epochs."""
_DROP = 5


def rate_scheduler(optimizer: Optimizer, rate: Rate, steps: int, warmup: float = 0.0) -> LRScheduler:
    """A scheduler that is stepped after every step of the optimizer.

    With T steps, W = round(warmup T) and the optimizer's own rate eta, step t has the rate
    min(1, (t + 1)/(W + 1)) eta f(t), where f(t) is

    - "cosine": (1 + cos(pi t/T))/2 (arXiv 1608.03983);
    - "step": 1, divided by 5 at 30 %, 60 % and 80 % of the steps (arXiv 1605.07146);
    - "constant": 1.

    Args:
        optimizer: whose rate is set.
        rate: f.
        steps: T >= 1.
        warmup: the share of the steps in which the rate rises linearly, in [0, 1).
    """
    shape: LRScheduler
    match rate:
        case "cosine":
            shape = CosineAnnealingLR(optimizer, T_max=steps)
        case "step":
            drops = [-(-tenths * steps // 10) for tenths in _DROPS]
            shape = MultiStepLR(optimizer, milestones=drops, gamma=1 / _DROP)
        case "constant":
            shape = ConstantLR(optimizer, factor=1.0)
    rising = round(warmup * steps)
    if not rising:
        return shape
    return ChainedScheduler([LinearLR(optimizer, 1 / (rising + 1), total_iters=rising), shape])
