"""The optimizer: one trial a step decides between one propagation pair and two."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from rst_theory.method import direction
from rst_theory.notation import Ascent
from rst_theory.optim.plan import Parameter, Plan
from rst_theory.trials import TrialsKind

__all__ = ["RST"]

Loss = TypeVar("Loss")


class RST(Optimizer):
    r"""Randomized Sharpness-Aware Training around any base optimizer.

    .. math::
       \begin{aligned}
            &\rule{110mm}{0.4pt} \\
            &\textbf{input}      : \text{base optimizer},\ p_t \text{ (schedule)},\ \rho_t \text{ (radius)},\
               \gamma_t \text{ (mixing coefficient)},\ \text{seed},\ x_0 \text{ (parameters)},\
               f \text{ (objective)} \\[-1.ex]
            &\rule{110mm}{0.4pt} \\
            &\textbf{for}\ t=0\ \textbf{to}\ T-1\ \textbf{do} \\
            &\hspace{5mm} X_t \sim \mathrm{Bernoulli}(p_t)
               \quad\text{(a function of the seed and } t \text{ alone)} \\
            &\hspace{5mm} g \leftarrow \nabla f(x_t;\xi_t) \\
            &\hspace{5mm}\textbf{if}\ X_t = 0:\quad d \leftarrow g \\
            &\hspace{5mm}\textbf{if}\ X_t = 1: \\
            &\hspace{10mm} y \leftarrow x_t + \rho_t\, g/\|g\|
               \quad\text{(normalized; } x_t \text{ where } g = 0\text{)}
               \quad\text{or}\quad y \leftarrow x_t + \rho_t\, g \quad\text{(unnormalized)} \\
            &\hspace{10mm} g_{\mathrm{adv}} \leftarrow \nabla f(y;\xi_t) \\
            &\hspace{10mm} d \leftarrow (1-\gamma_t)\, g + \gamma_t\, g_{\mathrm{adv}} \\
            &\hspace{5mm} x_{t+1} \leftarrow \mathrm{base}(x_t, d) \\
            &\rule{110mm}{0.4pt}
       \end{aligned}

    RST is arXiv 2203.09962; the mixture (G-RST) is the gradient-norm penalty of arXiv 2202.03599;
    p = 1, gamma = 1 is SAM (arXiv 2010.01412), with the unnormalized ascent USAM (arXiv 2206.06232);
    p = 0 is the base optimizer. The update is `rst_theory.method`'s, with one norm over all parameters.

    `param_groups`, `state` and `defaults` are the base's own, so a learning-rate scheduler may be attached
    to either of the two. A parameter that gets no gradient in one pass of two counts as zero there; one
    that gets none in either, or is frozen, is left alone. Weights are restored bit for bit, in place, after
    the second pass, also where it raises; a step that raises is not counted.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose own step needs no closure.
        schedule: the probabilities p_t, a `rst_theory.schedules.Schedule`; a number is constant.
        total_steps: T; may be left out where schedule, rho and gamma do not depend on it.
        rho: the radii rho_t >= 0: a number, an array (T,), or a schedule.
        gamma: the mixing coefficients gamma_t >= 0, likewise. With `matched_gamma` the degree of
            regularization p_t gamma_t is free to choose.
        seed: of the trials, 0 <= seed < 2^64; they are those of `rst_theory.trials.Trials`.
        trials: "independent", or "systematic" (the cost known to within one pair; needs total_steps).
        ascent: "normalized" or "unnormalized".

    Attributes:
        base: the base optimizer.
        steps_taken: t, the number of completed steps.
        perturbed_steps: how many of them were perturbed: the propagation pairs spent beyond the base's.

    Raises:
        TypeError: base_optimizer is no optimizer, or needs a closure itself.
        ValueError: total_steps missing where it is needed, or an unknown kind of trials or ascent.
        DomainError: a probability, radius, coefficient or seed outside its domain, named with its t.

    Example:
        >>> base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)   # doctest: +SKIP
        >>> optimizer = RST(base, schedule=0.5, rho=0.05)                      # doctest: +SKIP
        >>> def closure():                                                     # doctest: +SKIP
        ...     optimizer.zero_grad()
        ...     loss = loss_function(model(inputs), targets)
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)                                     # doctest: +SKIP
    """

    base: Optimizer
    steps_taken: int
    perturbed_steps: int
    _plan: Plan
    _kept: dict[Tensor, Tensor]

    def __init__(
        self,
        base_optimizer: Optimizer,
        schedule: Parameter,
        total_steps: int | None = None,
        rho: Parameter = 0.05,
        gamma: Parameter = 1.0,
        seed: int = 0,
        trials: TrialsKind = "independent",
        ascent: Ascent = "normalized",
    ) -> None:
        _require_closureless(base_optimizer)
        plan = Plan(schedule, total_steps, rho, gamma, seed, trials, ascent)
        # Optimizer.__init__ would give this optimizer groups and state of its own; __setstate__ gives it
        # what else an optimizer has.
        self.__setstate__({"base": base_optimizer, "_plan": plan, "steps_taken": 0, "perturbed_steps": 0})

    # ---- what is shared with the base

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups: the base's own list."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> Any:
        """The state: the base's own."""
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:
        self.base.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults: the base's own."""
        return self.base.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.base.defaults = defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    # ---- the step

    @property
    def will_perturb(self) -> bool:
        """The trial of the next step: whether it will call its closure twice.

        Raises:
            DomainError: total_steps steps have been taken.
        """
        return self._plan.trial(self.steps_taken)

    def step(self, closure: Callable[[], Loss] | None = None) -> Loss:
        """One step.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss; called
                once, or twice where the trial is 1, on the same minibatch, with gradients enabled.

        Returns:
            The loss at the unperturbed weights, as the closure returned it.

        Raises:
            TypeError: no closure.
            DomainError: a step beyond total_steps.
            FloatingPointError: the gradient of a perturbed step is not finite; the weights are untouched.
        """
        if closure is None:
            raise TypeError(
                "RST.step needs a closure that clears the gradients, computes the loss, calls backward and "
                "returns the loss: a perturbed step calls it twice"
            )
        t = self.steps_taken
        perturbed = self._plan.trial(t)
        with torch.enable_grad():
            loss = closure()
        if perturbed:
            self._mix_in_second_pass(closure, self._plan.at("rho", t), self._plan.at("gamma", t))
        self.base.step()
        self.steps_taken += 1
        self.perturbed_steps += perturbed
        return loss

    @torch.no_grad()
    def _mix_in_second_pass(self, closure: Callable[[], object], rho: float, gamma: float) -> None:
        """Turn each gradient g into the direction (1 - gamma) g + gamma g_adv."""
        trained = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        points = [p for p in trained if p.grad is not None]
        kept = [self._keep(p) for p in points]
        try:
            self._ascend(points, rho)
            # Taken out of .grad, so that no way of clearing the gradients can wipe them.
            first = [p.grad for p in trained]
            for p in trained:
                p.grad = None
            with torch.enable_grad():
                closure()
        finally:
            for p, weights in zip(points, kept, strict=True):
                p.copy_(weights)
        for p, g in zip(trained, first, strict=True):
            if g is not None or p.grad is not None:
                p.grad = direction(_or_zero(g, p), _or_zero(p.grad, p), gamma)

    def _ascend(self, points: Sequence[Tensor], rho: float) -> None:
        """Move the points to x + rho g/||g||, or to x + rho g."""
        gradients = [p.grad for p in points if p.grad is not None]
        unit, length = _scaled(gradients, self.steps_taken)
        if self._plan.ascent == "unnormalized":
            unit, length = gradients, 1.0
        for p, g in zip(points, unit, strict=True):
            p.add_(g, alpha=rho / length)

    def _keep(self, p: Tensor) -> Tensor:
        """A copy of the weights in a buffer that stays from step to step."""
        kept = self._kept.get(p)
        if kept is None or (kept.shape, kept.dtype, kept.device) != (p.shape, p.dtype, p.device):
            kept = self._kept[p] = torch.empty_like(p, requires_grad=False)
        kept.copy_(p)
        return kept

    # ---- checkpoints and copies

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state dict, and under "rst" the step counter and the plan of the run."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        rst = {
            "steps_taken": self.steps_taken,
            "perturbed_steps": self.perturbed_steps,
            "plan": self._plan.to_dict(),
        }
        state = {**self.base.state_dict(), "rst": rst}
        for after in self._optimizer_state_dict_post_hooks.values():
            state = after(self, state) or state
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the run goes on as if it had never stopped.

        Raises:
            ValueError: the state is not of this class, or of another plan (seed, schedule, …), or of other
                parameters.
        """
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state = before(self, state) or state
        if "rst" not in state:
            raise ValueError("the state dict has no entry 'rst': it is not the state of an RST optimizer")
        rst = state.pop("rst")
        self._plan.require_same(rst["plan"])
        self.base.load_state_dict(state)
        self.steps_taken, self.perturbed_steps = rst["steps_taken"], rst["perturbed_steps"]
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        return {key: self.__dict__[key] for key in ("base", "_plan", "steps_taken", "perturbed_steps")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_kept": {}})

    def __repr__(self) -> str:
        plan = ", ".join(f"{f.name}={getattr(self._plan, f.name)!r}" for f in fields(Plan) if f.init)
        return f"RST({plan}, base={self.base!r})"


def _require_closureless(base: Optimizer) -> None:
    if not isinstance(base, Optimizer):
        raise TypeError(f"base_optimizer must be a torch.optim.Optimizer instance; got {base!r}")
    _, *arguments = inspect.signature(type(base).step).parameters.values()
    required = [a for a in arguments if a.default is a.empty and a.kind is a.POSITIONAL_OR_KEYWORD]
    if isinstance(base, RST) or required:
        raise TypeError(f"base_optimizer {type(base).__name__} needs a closure for its own step")


def _or_zero(gradient: Tensor | None, p: Tensor) -> Tensor:
    return torch.zeros_like(p, requires_grad=False) if gradient is None else gradient


def _scaled(gradients: list[Tensor], t: int) -> tuple[list[Tensor], float]:
    """Tensors g_i and a length such that g_i / length is the unit gradient; (zeros, 1) for a zero one.

    The gradient is divided by its largest entry first where squares would leave the floating range.

    Raises:
        FloatingPointError: an entry is infinite or NaN.
    """
    length = _norm(gradients)
    if math.isfinite(length) and length > max(map(_least_safe, gradients), default=math.inf):
        return gradients, length
    largest = _norm(gradients, math.inf)
    if not math.isfinite(largest):
        raise FloatingPointError(f"the gradient norm at step {t} is {length}; the weights are untouched")
    if largest == 0:
        return gradients, 1.0
    scaled = [g / largest for g in gradients]
    return scaled, _norm(scaled)


def _norm(gradients: list[Tensor], order: float = 2.0) -> float:
    entries = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    return float(torch.nn.utils.get_total_norm(entries, order))


def _least_safe(g: Tensor) -> float:
    """A length below which the squares of entries that matter may underflow."""
    precision = torch.finfo(g.dtype)
    return math.sqrt(precision.tiny) / precision.eps
