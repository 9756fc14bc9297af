"""Lightning, automatic optimization: a module whose steps run both passes over all micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from torch import Tensor

from rst_theory.integrations import needed
from rst_theory.optim import RST

with needed("lightning"):
    from lightning.pytorch import LightningModule
    from lightning.pytorch.strategies import ParallelStrategy
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

__all__ = ["RSTModule"]


class RSTModule(LightningModule):
    """A `LightningModule` for `configure_optimizers` that returns an `RST`; else it is the plain one.

    What a plain module does with an `RST`, whose step calls Lightning's closure twice, and this one mends:

    * What `training_step` logs and returns is of the second pass, or of both mixed. Here it is of the first:
      `self.log` does nothing in the second pass. `self.optimizers().is_perturbed` tells a metric of one's
      own which pass it is in.
    * With `accumulate_grad_batches` the second pass runs over the last micro-batch alone. Here it runs over
      all of them, which are kept until then (where the step is perturbed).
    * `gradient_clip_val` clips both gradients, and `on_before_optimizer_step` comes twice. Here the
      direction is clipped, once, and the hook sees it.
    * 16-bit training with a loss scale fails. Here the optimizer is given the scaler; clip with
      `gradient_clip_val` there, not with `RST(clip_direction=…)`.

    `replay_randomness` asks that loading a micro-batch draws no numbers from torch's generator. An override
    of `on_train_batch_start` or `log` has to call `super()`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: list[tuple[Any, ...]] = []
        self._first_pass = ExitStack()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        rst = self._rst()
        if rst is not None:
            if batch_idx % self.trainer.accumulate_grad_batches == 0:
                self._kept.clear()
                self._first_pass.close()
                self._first_pass.enter_context(rst.first_pass())
            if rst.will_perturb:
                self._kept.append(self._arguments(batch, batch_idx))
        answer: int | None = super().on_train_batch_start(batch, batch_idx)
        return answer

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        rst = self._rst()
        if rst is None or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        precision = self.trainer.precision_plugin
        scaler = getattr(precision, "scaler", None)
        # Called here and never again: Lightning keeps what its last call returned as the step's output.
        optimizer_closure()
        self._first_pass.close()
        if rst.will_perturb:
            if not self._kept:
                raise RuntimeError(
                    f"{type(self).__name__}.on_train_batch_start must call super().on_train_batch_start, "
                    "which keeps the batches for the second pass"
                )
            with rst.perturbed(scaler):
                self._pass_again(rst)
        if scaler is not None:
            scaler.unscale_(rst.base)
        precision._after_closure(self, rst)  # hooks and clipping; nothing public calls them with their logs
        rst.step(scaler=scaler)
        if scaler is not None:
            scaler.update()

    def log(self, *args: Any, **kwargs: Any) -> None:
        """As `LightningModule.log`; nothing in the second pass of a perturbed step."""
        rst = self._rst()
        if rst is None or not rst.is_perturbed:
            super().log(*args, **kwargs)

    def _pass_again(self, rst: RST) -> None:
        """Forward and backward of all micro-batches, in Lightning's precision and strategy."""
        strategy = self.trainer.strategy
        while self._kept:
            arguments = self._kept.pop(0)
            # Processes exchange gradients at the last micro-batch alone.
            waits: AbstractContextManager[None] = (
                strategy.block_backward_sync()
                if isinstance(strategy, ParallelStrategy) and self._kept
                else nullcontext()
            )
            with waits:
                output = strategy.training_step(*arguments)
                loss = output["loss"] if isinstance(output, Mapping) else output
                if isinstance(loss, Tensor):
                    strategy.backward(loss / self.trainer.accumulate_grad_batches, rst)

    def _arguments(self, batch: Any, batch_idx: int) -> tuple[Any, ...]:
        """What Lightning gives `training_step`: the batch, and its index if it asks for it."""
        asks = is_param_in_hook_signature(self.training_step, "batch_idx", min_args=2)
        return (batch, batch_idx) if asks else (batch,)

    def _rst(self) -> RST | None:
        """The optimizer of the run, if it is an `RST` under automatic optimization."""
        trainer = self._trainer
        optimizers = trainer.optimizers if trainer is not None and self.automatic_optimization else []
        return optimizers[0] if len(optimizers) == 1 and isinstance(optimizers[0], RST) else None
