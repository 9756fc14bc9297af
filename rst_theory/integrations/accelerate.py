"""Hugging Face Accelerate: one optimizer step over all micro-batches of an accumulated batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from rst_theory.integrations import needed
from rst_theory.optim import RST

with needed("accelerate"):
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

__all__ = ["step"]

Batch = TypeVar("Batch")


def step(
    accelerator: Accelerator,
    optimizer: AcceleratedOptimizer,
    loss_function: Callable[[Batch], Tensor],
    batches: Sequence[Batch],
    model: nn.Module | None = None,
) -> Tensor:
    """Both passes over the micro-batches, and the optimizer's step.

    What a prepared optimizer does by itself: `optimizer.step(closure)` runs both passes where there is one
    micro-batch, and loses the loss; of several it ignores the closures of all but the last, whose `zero_grad`
    clears what there was; and with a loss scale it fails, or takes scaled gradients for the loss's own. This
    function takes its place, outside `accelerator.accumulate`; a prepared scheduler goes on as ever.
    Clipping: `RST(clip_direction=…)`.

    Args:
        accelerator: it scales the losses and runs the backward passes.
        optimizer: what `accelerator.prepare` made of an `RST`.
        loss_function: the mean loss of one micro-batch, forward pass included.
        batches: the micro-batches, at least one; the step's loss is the mean of theirs.
        model: where several processes train it, what `accelerator.prepare` made of it: gradients are then
            reduced at the last micro-batch of a pass alone.

    Returns:
        The mean loss at the unperturbed weights, detached.

    Raises:
        TypeError: the optimizer is not a prepared `RST`.
        ValueError: no micro-batches.
        DomainError, FloatingPointError: as `RST.step`.
    """
    rst = getattr(optimizer, "optimizer", None)
    if not isinstance(rst, RST):
        raise TypeError(f"optimizer must be an RST prepared by the accelerator; got {optimizer!r}")
    if not batches:
        raise ValueError("batches must hold at least one micro-batch; got none")
    # The accelerator divides every loss by its own number of accumulation steps.
    share = accelerator.gradient_accumulation_steps / len(batches)

    def closure() -> Tensor:
        rst.zero_grad()
        losses = []
        for i, batch in enumerate(batches):
            waits = model is not None and i < len(batches) - 1
            with accelerator.no_sync(model) if waits else nullcontext():
                loss = loss_function(batch)
                accelerator.backward(loss * share)
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    loss = rst.step(closure, accelerator.scaler)
    if accelerator.scaler is not None:
        accelerator.scaler.update()
    return loss
