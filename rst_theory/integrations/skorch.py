"""Skorch: what makes an `RST` of the parameters and options that a net hands to its optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from rst_theory.integrations import needed
from rst_theory.optim import RST

with needed("skorch"):
    from skorch import NeuralNet

__all__ = ["GivesModel", "RSTFor"]

_OF_RST = set(inspect.signature(RST).parameters) - {"base_optimizer"}


class RSTFor:
    """An `optimizer=` for skorch: `NeuralNetClassifier(module, optimizer=RSTFor(SGD), optimizer__rho=0.1)`.

    A net calls its optimizer's step with a closure, so both passes run; it records the first loss, which is
    the one at the unperturbed weights. Its callbacks see the gradients of both passes: for clipping take
    `optimizer__clip_direction`, not `GradientNormClipping`.

    Args:
        base_optimizer: the class of the base, or what makes one from parameters and options.
    """

    def __init__(self, base_optimizer: Callable[..., Optimizer] = torch.optim.SGD) -> None:
        self.base_optimizer = base_optimizer

    def __call__(self, params: Iterable[Any], schedule: Any = 1.0, **options: Any) -> RST:
        """The optimizer.

        Args:
            params: parameters or groups.
            schedule: as in `RST`; 1 is SAM.
            options: those that `RST` knows are its own, the others the base's.

        Raises:
            TypeError, ValueError, DomainError: as `RST`, or the base.
        """
        own = {name: options.pop(name) for name in _OF_RST & set(options)}
        return RST(self.base_optimizer(params, **options), schedule, **own)

    def __repr__(self) -> str:
        return f"RSTFor({getattr(self.base_optimizer, '__name__', self.base_optimizer)})"


class GivesModel(NeuralNet):  # type: ignore[misc]  # skorch is untyped
    """Placed before a net's class: the optimizer is given the module, and counts running statistics once."""

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Iterable[Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, options = super().get_params_for_optimizer(prefix, named_parameters)
        return args, {"model": self.module_, **options}
