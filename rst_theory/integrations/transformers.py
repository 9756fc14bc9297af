"""Hugging Face Transformers: a `Trainer` whose steps run both passes over all micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from rst_theory.integrations import needed
from rst_theory.optim import RST

with needed("transformers"):
    from transformers import Trainer

__all__ = ["RSTMixin", "RSTTrainer"]


class RSTMixin:
    """Placed before `Trainer`, or a class made from it: its optimizer is wrapped in an `RST`.

    The plain `Trainer` calls `optimizer.step()` without a closure, which an `RST` refuses where the step is
    perturbed. Here the last micro-batch's `training_step` is followed by the second pass over all of them;
    after it the gradients are the direction, which the trainer clips, logs and hands to the optimizer. The
    losses that it logs are those at the unperturbed weights.

    Args:
        args, kwargs: of the trainer. An optimizer given by `optimizers` is wrapped too, or kept if it is an
            `RST`.
        rst: arguments of `RST` other than the base: "schedule", "rho", "gamma", "seed", …; "total_steps" is
            the trainer's own if it is not given, "model" the trained one. None: SAM, schedule = 1.

    Raises:
        ValueError: training with a loss scale (fp16): the trainer would not tell of a step that it skips;
            bf16 needs none.
    """

    optimizer: Any

    def __init__(self, *args: Any, rst: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.rst = {"schedule": 1.0, **(rst or {})}
        self._kept: list[Any] = []
        self._first_pass = ExitStack()
        super().__init__(*args, **kwargs)

    def create_optimizer(self: Any, model: nn.Module | None = None) -> Optimizer:
        """The trainer's own optimizer, wrapped."""
        self._kept.clear()
        self._first_pass.close()
        optimizer: Optimizer = super().create_optimizer(model)  # type: ignore[misc]
        if not isinstance(getattr(optimizer, "optimizer", optimizer), RST):
            horizon = {"total_steps": self.state.max_steps, "model": self.model if model is None else model}
            optimizer = self.optimizer = RST(optimizer, **{**horizon, **self.rst})
        return optimizer

    def training_step(self: Any, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One micro-batch; the last one of a perturbed step is followed by the second pass."""
        if self.accelerator.scaler is not None:
            raise ValueError("RST in a Trainer needs training without a loss scale: bf16, not fp16")
        one_pass = super().training_step  # type: ignore[misc]
        rst: RST = self.optimizer.optimizer
        if rst.will_perturb:
            if not self._kept:
                self._first_pass.enter_context(rst.first_pass())
            self._kept.append(inputs)
        loss: Tensor = one_pass(model, inputs, num_items_in_batch)
        if self._kept and self.accelerator.sync_gradients:
            self._first_pass.close()
            kept, self._kept = self._kept, []
            with rst.perturbed():
                for i, again in enumerate(kept):
                    last = i == len(kept) - 1
                    with nullcontext() if last else self.accelerator.no_sync(model):
                        one_pass(model, again, num_items_in_batch)
        return loss


class RSTTrainer(RSTMixin, Trainer):
    """`Trainer` with the argument `rst`; see `RSTMixin`.

    Example:
        >>> trainer = RSTTrainer(                                                    # doctest: +SKIP
        ...     model, args, train_dataset=data, rst={"schedule": Linear(0, 1), "rho": 0.05}
        ... )
        >>> trainer.train()                                                          # doctest: +SKIP
    """
