"""The two-step interface that SAM implementations share, so that a user switches by changing one import."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, TypeVar, cast, overload

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from rst_theory.optim.gradients import take_gradients
from rst_theory.optim.passes import kept_statistics
from rst_theory.optim.plan import Parameter
from rst_theory.optim.rst import RST

__all__ = ["SAM"]

Loss = TypeVar("Loss")

_OF_A_GROUP = ("rho", "adaptive")


class SAM(RST):
    """`RST` behind `first_step`, `second_step` and `step(closure)`, with p = 1 unless a schedule is given.

    It takes the place of the class SAM of github.com/davda54/sam and of pytorch_optimizer, whose adaptive
    form has no offset. What else `RST` has (`will_perturb`, checkpoints, schedulers, …) it has too.

    Between the two steps the weights are the perturbed ones and the gradients are cleared, whether or not
    `zero_grad` is asked for: the second backward never adds to the first. Where a schedule is given and the
    trial is 0, `first_step` moves nothing and puts the gradients aside, and `second_step` uses them and drops
    those of the second backward; a loop that asks `will_perturb` saves that backward, and `first_step`.

    Args:
        params: parameters, or dicts that define groups; a dict's "rho" and "adaptive" are the group's own.
        base_optimizer: the class of the base, or what makes one from `params` and `kwargs`.
        rho: the radii rho_t >= 0: a number, an array (T,), or a schedule.
        adaptive: scale the perturbation of each entry by |x|.
        schedule: the probabilities p_t: a number, an array (T,), or a schedule.
        total_steps: T; may be left out where nothing depends on it.
        gamma: the mixing coefficients gamma_t >= 0, likewise.
        seed: of the trials.
        model: the module that is trained; given it, running statistics are counted once a step.
        kwargs: the base's own arguments.

    Raises:
        TypeError: base_optimizer makes no optimizer, or one whose own step needs a closure.
        ValueError, DomainError: as `RST`.

    Example:
        >>> optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)   # doctest: +SKIP
        >>> loss_function(model(inputs), targets).backward()                             # doctest: +SKIP
        >>> optimizer.first_step(zero_grad=True)                                         # doctest: +SKIP
        >>> loss_function(model(inputs), targets).backward()                             # doctest: +SKIP
        >>> optimizer.second_step(zero_grad=True)                                        # doctest: +SKIP
    """

    _between: ExitStack | None

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Callable[..., Optimizer] = torch.optim.SGD,
        rho: Parameter = 0.05,
        adaptive: bool = False,
        *,
        schedule: Parameter = 1.0,
        total_steps: int | None = None,
        gamma: Parameter | None = None,
        seed: int = 0,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(base_optimizer, Optimizer) or not callable(base_optimizer):
            raise TypeError(
                f"base_optimizer must be a class such as torch.optim.SGD; got {base_optimizer!r} "
                "(rst_theory.optim.RST takes an optimizer that exists)"
            )
        super().__init__(
            base_optimizer(_groups(params), **kwargs),
            schedule,
            total_steps,
            rho,
            gamma,
            seed,
            adaptive=adaptive,
            adaptive_offset=0.0,
            model=model,
        )

    def first_step(self, zero_grad: bool = False, scaler: GradScaler | None = None) -> None:
        """Go to the perturbed weights, after the first backward.

        Args:
            zero_grad: accepted for the interface's sake; the gradients are cleared in any case.
            scaler: of half-precision training, if the losses are scaled.

        Raises:
            RuntimeError: no gradients, or `first_step` twice without `second_step`.
            FloatingPointError: as `RST.step`.
        """
        self._require_at_home("first_step")
        if not self._has_gradients():
            raise RuntimeError("first_step needs the gradients of the first backward; there are none")
        between = ExitStack()
        between.enter_context(self.perturbed(scaler) if self.will_perturb else self._put_aside())
        self._between = between

    def second_step(self, zero_grad: bool = False, scaler: GradScaler | None = None) -> None:
        """Bring the weights back and take the base's step, after the second backward.

        Args:
            zero_grad: clear the gradients afterwards.
            scaler: as in `first_step`; the caller calls `scaler.update` afterwards.

        Raises:
            RuntimeError: the step is perturbed and `first_step` has not been called.
            FloatingPointError: as `RST.step`.
        """
        if self._between is not None:
            between, self._between = self._between, None
            between.close()
        elif self.will_perturb and not self._mixed:
            raise RuntimeError("second_step comes after first_step and a second backward")
        # By its name on the instance, where learning-rate schedulers count the steps.
        self.step(scaler=scaler)
        if zero_grad:
            self.zero_grad()

    def abandon(self) -> None:
        """After a second pass that failed: the weights are back where they were, and no step is counted.

        Nothing happens where `first_step` has not been called.
        """
        if self._between is not None:
            between, self._between = self._between, None
            with suppress(_Abandoned), between:
                raise _Abandoned
            self.zero_grad()

    @overload  # type: ignore[override]  # the peers' convention has no loss to return
    def step(self, closure: None = None, scaler: GradScaler | None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Loss], scaler: GradScaler | None = None) -> Loss | None: ...
    def step(
        self, closure: Callable[[], Loss] | None = None, scaler: GradScaler | None = None
    ) -> Loss | None:
        """One step.

        Args:
            closure: clears the gradients, computes the loss and calls backward. Where there are gradients,
                they are those of a first backward that the caller has run, as the peers have it: the
                closure is then called once, at the perturbed weights, or not at all where the trial is 0.
                Where there are none it is called as `RST.step` calls it, and leaves none behind.
            scaler: as in `RST.step`.

        Returns:
            The loss at the unperturbed weights; None where the caller has computed it.

        Raises:
            RuntimeError: between `first_step` and `second_step`.
            TypeError, DomainError, FloatingPointError: as `RST.step`.
        """
        self._require_at_home("step")
        # Once in the wrapper that calls the hooks of a step is enough: this method is in it.
        step = cast("Callable[..., Loss | None]", inspect.unwrap(RST.step))
        if closure is None:
            return step(self, closure, scaler)
        if not self._has_gradients():
            loss = step(self, closure, scaler)
            self.zero_grad()
            return loss
        if self.will_perturb:
            with self.perturbed(scaler), torch.enable_grad():
                closure()
        return step(self, None, scaler)

    def state_dict(self) -> dict[str, Any]:
        """As `RST.state_dict`.

        Raises:
            RuntimeError: between the two steps, where the model's weights are the perturbed ones.
        """
        self._require_at_home("state_dict")
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As `RST.load_state_dict`.

        Raises:
            RuntimeError: between the two steps.
            ValueError: as `RST.load_state_dict`.
        """
        self._require_at_home("load_state_dict")
        super().load_state_dict(state_dict)

    @contextmanager
    def _put_aside(self) -> Iterator[None]:
        """Around a second pass that counts for nothing."""
        trained, model = self._trained(), self._options.model
        first = take_gradients(trained, keep=True)
        with nullcontext() if model is None else kept_statistics(model):
            yield
        for p, g in zip(trained, first, strict=True):
            p.grad = g

    def _has_gradients(self) -> bool:
        return any(p.grad is not None for p in self._trained())

    def _require_at_home(self, called: str) -> None:
        if self._between is not None:
            raise RuntimeError(
                f"{called} was called between first_step and second_step, where the weights are the "
                "perturbed ones: call second_step, or abandon where the second pass failed"
            )
        if any("rho" in group for group in self.param_groups) and "rho" not in self.defaults:
            raise ValueError("a group's 'rho' is not read: give SAM its radii as a schedule, rho=…")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._between = None


class _Abandoned(Exception):  # noqa: N818 - it is no error
    """Leaves a second pass without an end."""


def _groups(params: Iterable[Any]) -> Iterable[Any]:
    """The same, with what groups say of their perturbation where `RST` looks for it."""
    if isinstance(params, Tensor | dict):
        return params  # the base says what is wrong with it
    return [_group(entry) if isinstance(entry, dict) else entry for entry in params]


def _group(group: dict[str, Any]) -> dict[str, Any]:
    perturb = {key: group[key] for key in _OF_A_GROUP if key in group}
    rest = {key: value for key, value in group.items() if key not in perturb}
    return {**rest, "perturb": perturb} if perturb else rest
