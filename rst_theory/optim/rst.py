"""The optimizer: one trial a step decides between one propagation pair and two."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from rst_theory.notation import Ascent
from rst_theory.optim.ascent import Point, ascend
from rst_theory.optim.compilation import uncompiled, uncompiled_context
from rst_theory.optim.data_parallel import LocalPass, world_size
from rst_theory.optim.finiteness import FiniteChecks, names, not_finite
from rst_theory.optim.gradients import share_memory, spoil_gradients, take_gradients
from rst_theory.optim.groups import GroupPerturbations, Perturb
from rst_theory.optim.lengths import length
from rst_theory.optim.mixture import clip, mix
from rst_theory.optim.options import OFFSET, Options
from rst_theory.optim.passes import Buffers, RandomState
from rst_theory.optim.perturbation import Perturbation, Storage
from rst_theory.optim.plan import Parameter, Plan, require_same
from rst_theory.optim.shards import is_distributed, sum_partial_gradients
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
    p = 0 is the base optimizer. The update is `rst_theory.method`'s, with one norm over all parameters; for a
    base that maximizes f, it is that of -f.

    `param_groups`, `state` and `defaults` are the base's own, so a learning-rate scheduler may be attached
    to either of the two. A parameter that gets no gradient in one pass of two counts as zero there; one
    that gets none in either, or is frozen, is left alone. Weights are restored bit for bit, at the same
    addresses, after the second pass, also where it raises; a step that raises is not counted. No step waits
    for a GPU, unless a scaler is given, a gradient is sparse, or local first passes (sync_perturbation=False)
    have to find unused parameters.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose own step needs no closure.
        schedule: the probabilities p_t, a `rst_theory.schedules.Schedule`; a number is constant.
        total_steps: T; may be left out where schedule, rho and gamma do not depend on it.
        rho: the radii rho_t >= 0: a number, an array (T,), or a schedule.
        gamma: the mixing coefficients gamma_t >= 0, likewise; 1 if neither gamma nor degree is given.
        degree: instead of gamma, the degree of sharpness regularization kappa_t, likewise: then
            gamma_t = kappa_t / p_t (`matched_gamma`), and 0 where p_t = 0.
        max_gamma: a cap on these coefficients; `degree_attained` tells what is left of the degree.
        seed: of the trials, 0 <= seed < 2^64; they are those of `rst_theory.trials.Trials`.
        trials: "independent", or "systematic" (the cost known to within one pair; needs total_steps).
        ascent: "normalized" or "unnormalized".
        adaptive: scale the perturbation of each entry by |x| + adaptive_offset (ASAM, arXiv 2102.11600).
        adaptive_offset: >= 0, in the unit of the weights.
        perturb_groups: one entry for each parameter group: True, perturbed with radius rho; False, left out
            of the perturbation and of its norm; a radius of its own (number, array or schedule); or a
            mapping with "rho" and "adaptive". A group's dict may hold the same under "perturb", which is
            taken out of it. None: all others are perturbed alike.
        clip_direction: the length of the direction that the base gets is cut to this, at every step.
        clip_ascent: the length of the first gradient is cut to this for an unnormalized ascent; a
            normalized one does not feel it.
        model: the module that is trained, or the DistributedDataParallel around it. Given it, running
            statistics (batch normalization's, or those of any layer that keeps them in buffers) are counted
            once a step.
        sync_perturbation: False: with DistributedDataParallel, each rank is perturbed by its own gradient
            and the first pass of a perturbed step goes without all-reduce. True: by the gradient of the
            joined minibatch, as one process would be.
        replay_randomness: both passes draw the same random numbers (dropout masks), and a perturbed step
            moves torch's generators on as far as a plain one.
        storage: "auto", "swap" or "copy", see `Storage`.

    Attributes:
        base: the base optimizer.
        steps_taken: t, the number of completed steps.
        perturbed_steps: how many of them were perturbed: the propagation pairs spent beyond the base's.

    Raises:
        TypeError: base_optimizer is no optimizer, or its step needs arguments, such as a closure; an argument
            of another type.
        ValueError: total_steps missing where it is needed, an unknown kind of trials, ascent or storage, both
            gamma and degree, entries that do not match the groups or are given in two places,
            sync_perturbation=False with sharded parameters or a static graph.
        DomainError: a probability, radius, coefficient, limit or seed outside its domain, named with its t.

    Example:
        >>> base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)   # doctest: +SKIP
        >>> optimizer = RST(base, schedule=0.5, rho=0.05, model=model)         # doctest: +SKIP
        >>> def closure():                                                     # doctest: +SKIP
        ...     optimizer.zero_grad()
        ...     loss = loss_function(model(inputs), targets)
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)                                     # doctest: +SKIP

        A loop that owns its passes:

        >>> optimizer.zero_grad()                                              # doctest: +SKIP
        >>> loss_function(model(inputs), targets).backward()                   # doctest: +SKIP
        >>> if optimizer.will_perturb:                                         # doctest: +SKIP
        ...     with optimizer.perturbed():
        ...         loss_function(model(inputs), targets).backward()
        >>> optimizer.step()                                                   # doctest: +SKIP
    """

    base: Optimizer
    steps_taken: int
    perturbed_steps: int
    _plan: Plan
    _perturbations: GroupPerturbations
    _perturbation: Perturbation
    _checks: FiniteChecks
    _options: Options
    _buffers: Buffers | None
    _local_pass: LocalPass | None
    _on_device: dict[tuple[str, int], Tensor]  # radii and coefficients that captured graphs read
    _mixed: bool  # whether `.grad` holds the direction of two passes
    _scaler: GradScaler | None  # of their losses
    _in_second_pass: bool
    _before_first_pass: RandomState | None

    def __init__(
        self,
        base_optimizer: Optimizer,
        schedule: Parameter,
        total_steps: int | None = None,
        rho: Parameter = 0.05,
        gamma: Parameter | None = None,
        seed: int = 0,
        trials: TrialsKind = "independent",
        ascent: Ascent = "normalized",
        *,
        degree: Parameter | None = None,
        max_gamma: float | None = None,
        adaptive: bool = False,
        adaptive_offset: float = OFFSET,
        perturb_groups: Sequence[Perturb] | None = None,
        clip_direction: float | None = None,
        clip_ascent: float | None = None,
        model: nn.Module | None = None,
        sync_perturbation: bool = True,
        replay_randomness: bool = False,
        storage: Storage = "auto",
    ) -> None:
        _require_closureless(base_optimizer)
        plan = Plan(schedule, total_steps, rho, gamma, degree, max_gamma, seed, trials, ascent)
        options = Options(
            adaptive_offset, clip_direction, clip_ascent, model, sync_perturbation, replay_randomness, storage
        )
        trained = [p for group in base_optimizer.param_groups for p in group["params"]]
        if not sync_perturbation and any(map(is_distributed, trained)):
            raise ValueError(
                "sync_perturbation=False needs whole gradients on every rank; these parameters are sharded"
            )
        if perturb_groups is not None and any("perturb" in group for group in base_optimizer.param_groups):
            raise ValueError("give perturb_groups, or 'perturb' in the groups, not both")
        asked = [group.get("perturb", True) for group in base_optimizer.param_groups]
        groups = GroupPerturbations(plan, adaptive)
        groups.extend(asked if perturb_groups is None else perturb_groups, len(asked))
        # Optimizer.__init__ would give this optimizer groups and state of its own; __setstate__ gives it
        # what else an optimizer has.
        self.__setstate__(
            {
                "base": base_optimizer,
                "_plan": plan,
                "_perturbations": groups,
                "_options": options,
                "steps_taken": 0,
                "perturbed_steps": 0,
            }
        )
        for group in self.param_groups:
            group.pop("perturb", None)

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
        """Add a group to the base; its "perturb", if it has one, says how it is perturbed."""
        group = dict(param_group)
        perturb = group.pop("perturb", True)
        before = len(self.param_groups)
        self._groups.append(perturb)
        try:
            self.base.add_param_group(group)
        except BaseException:
            self._groups.drop(before)
            raise

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and give up a direction that `perturbed` has left in them."""
        self.base.zero_grad(set_to_none)
        self._mixed = False

    # ---- what is known beforehand

    @property
    @uncompiled
    def will_perturb(self) -> bool:
        """The trial of the next step: whether it takes two passes.

        Raises:
            DomainError: total_steps steps have been taken.
        """
        return self._plan.trial(self.steps_taken)

    @property
    def is_perturbed(self) -> bool:
        """Whether this is the second pass of a step, at the perturbed weights: for metrics in a closure."""
        return self._in_second_pass

    @property
    def planned_pairs(self) -> int:
        """The propagation pairs of the whole run, exactly: its trials are known.

        Raises:
            ValueError: total_steps was not given.
        """
        return self._plan.pairs()

    @property
    def degree_attained(self) -> float:
        """The degree of sharpness regularization p_t gamma_t: its mean over the run.

        Without total_steps it is the value at the next step.
        """
        return self._plan.degree_attained(self.steps_taken)

    # ---- the step

    @overload
    def step(self, closure: None = None, scaler: GradScaler | None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Loss], scaler: GradScaler | None = None) -> Loss: ...
    @uncompiled
    def step(
        self, closure: Callable[[], Loss] | None = None, scaler: GradScaler | None = None
    ) -> Loss | None:
        """One step.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss; called
                once, or twice where the trial is 1, on the same minibatch, with gradients enabled. Several
                micro-batches may be accumulated in it. None where the loop has run the passes itself.
            scaler: of half-precision training: the closure calls `scaler.scale(loss).backward()`; this step
                calls `scaler.step` on the base, and the caller `scaler.update` afterwards. An infinity in
                either pass skips the step, which is counted all the same.

        Returns:
            The loss at the unperturbed weights, as the closure returned it.

        Raises:
            TypeError: no closure, where the step is perturbed and `perturbed` has not been used, or a closure
                where it has; or another scaler than `perturbed` was given.
            DomainError: a step beyond total_steps.
            FloatingPointError: without a scaler, the first gradient or the direction of a perturbed step is
                not finite, or a direction that is to be clipped, or on the CPU both the loss and its
                gradient. The message has the step, its trial, the length of the gradient and the names of
                the parameters. On the CPU the weights are untouched; elsewhere this is told one step late,
                so as not to wait.
        """
        self._checks.raise_late(self._blamed)
        loss = self._update(closure, _enabled(scaler))
        self.perturbed_steps += self._trial()
        self.steps_taken += 1
        return loss

    def _update(self, closure: Callable[[], Loss] | None, scaler: GradScaler | None = None) -> Loss | None:
        """The work of one step, all but its counting."""
        perturb, loss = self._trial(), None
        if closure is not None:
            if self._mixed:
                raise TypeError("perturbed() has run the second pass of this step: call step without closure")
            with self._first_pass(), torch.enable_grad():
                loss = closure()
            if scaler is None and world_size() == 1:
                self._require_finite(loss)
            if perturb:
                with self._perturbed(scaler), torch.enable_grad():
                    closure()
        elif perturb and not self._mixed:
            raise TypeError(
                "this step is perturbed: give RST.step a closure that clears the gradients, computes the "
                "loss, calls backward and returns the loss; or run the second pass yourself, within "
                "perturbed(), where will_perturb is True"
            )
        elif self._mixed and scaler is not self._scaler:
            raise TypeError(
                f"perturbed was given scaler={self._scaler}, step scaler={scaler}: they must agree"
            )
        try:
            self._judge_direction(perturb, scaler)
            if scaler is None:
                self.base.step()
            else:
                scaler.step(self.base)
        finally:
            self._mixed = False
        return loss

    @uncompiled_context
    def first_pass(self) -> Iterator[None]:
        """Around the first forward and backward of a loop that owns its passes.

        Needed there for sync_perturbation=False and replay_randomness=True only; `step` does it by itself.

        Raises:
            DomainError: total_steps steps have been taken.
        """
        with self._first_pass():
            yield

    @contextmanager
    def _first_pass(self) -> Iterator[None]:
        if not self._trial():
            yield
            return
        if self._options.replay_randomness:
            self._before_first_pass = RandomState.now({p.device for p in self._trained()})
        with nullcontext() if self._local_pass is None else self._local_pass.no_sync():
            yield

    @uncompiled_context
    def perturbed(self, scaler: GradScaler | None = None) -> Iterator[None]:
        """Around the second forward and backward of a perturbed step, in a loop that owns its passes.

        Within it the weights are the perturbed ones and the gradients are cleared; after it the weights are
        back and the gradients hold the direction (1 - gamma) g + gamma g_adv. Then comes `step()`.

        Args:
            scaler: as in `step`.

        Raises:
            RuntimeError: the trial of this step is 0, or it has been perturbed already; or the second
                backward wrote over the first gradients.
            DomainError, FloatingPointError: as in `step`.
        """
        with self._perturbed(scaler):
            yield

    @contextmanager
    def _perturbed(self, scaler: GradScaler | None) -> Iterator[None]:
        if not self._trial():
            raise RuntimeError(f"step {self.steps_taken} has trial 0: see will_perturb")
        if self._mixed or self._in_second_pass:
            raise RuntimeError(f"step {self.steps_taken} is perturbed once only: then comes step()")
        trained, gamma, scaler = self._trained(), self._gamma(), _enabled(scaler)
        try:
            accepted = self._ascend(scaler)
            first = take_gradients(trained, keep=not _is_one(gamma) or not accepted)
            with self._second_pass():
                yield
        finally:
            self._perturbation.back()
        if accepted:
            self._mix(trained, first, gamma)
        else:
            spoil_gradients(trained, first)
        self._mixed, self._scaler = True, scaler

    def _ascend(self, scaler: GradScaler | None) -> bool:
        """Move the weights to the perturbed point; False where the scaler has to refuse the step."""
        sum_partial_gradients(self._trained())
        points = [
            # What maximizes f minimizes -f, whose gradient is -g.
            Point(p, p.grad, -rho if group.get("maximize") else rho, self._groups[i].adaptive)
            for i, group in enumerate(self.param_groups)
            if (rho := self._radius(i)) is not None
            for p in group["params"]
            if p.requires_grad and p.grad is not None
        ]
        loss_scale = 1.0 if scaler is None else scaler.get_scale()
        options = self._options
        size, moves = ascend(
            points, self._plan.ascent, options.adaptive_offset, options.clip_ascent, loss_scale
        )
        what = f"the length of the first gradient of step {self.steps_taken}"
        if self._local_pass is not None:
            size = self._local_pass.longest(size)
        if scaler is None and isinstance(size, Tensor):
            self._checks.note(size, what)
        elif not math.isfinite(size):
            if scaler is not None:
                return False
            raise self._refusal(what, float(size))
        self._perturbation.move(moves)
        return True

    @contextmanager
    def _second_pass(self) -> Iterator[None]:
        """Around the second pass: statistics are not counted, and random numbers are drawn again if asked."""
        replayed, after = self._before_first_pass, None
        if self._options.replay_randomness and replayed is None:
            raise RuntimeError("replay_randomness=True needs the first pass within first_pass()")
        if self._buffers is not None:
            self._buffers.keep()
        if replayed is not None:
            after = RandomState.now(set(replayed.devices))
            replayed.restore()
        self._in_second_pass = True
        try:
            yield
        finally:
            self._in_second_pass = False
            if after is not None:
                after.restore()
                self._before_first_pass = None
            if self._buffers is not None:
                self._buffers.bring_back()

    @torch.no_grad()
    def _mix(self, trained: list[Tensor], first: list[Tensor | None], gamma: float | Tensor) -> None:
        """Turn the second gradients in `.grad` into the direction (1 - gamma) g + gamma g_adv."""
        sum_partial_gradients(trained)
        second = [p.grad for p in trained]
        if not _is_one(gamma) and any(share_memory(g, g_adv) for g, g_adv in zip(first, second, strict=True)):
            raise RuntimeError(
                "the second backward wrote over the first gradients: let backward allocate its gradients "
                "(zero_grad with set_to_none=True), or take gamma = 1"
            )
        if self._local_pass is not None:
            first = self._local_pass.joined(trained, first, second, mean=not _is_one(gamma))
        mix(trained, first, gamma)

    @torch.no_grad()
    def _judge_direction(self, perturbed: bool, scaler: GradScaler | None) -> None:
        """Refuse the direction of two passes where it is not finite, and clip any that is too long."""
        limit = self._options.clip_direction
        if limit is None and (scaler is not None or not perturbed):
            return
        sum_partial_gradients(self._trained())
        if scaler is not None:
            scaler.unscale_(self.base)
        gradients = [p.grad for p in self._trained() if p.grad is not None]
        size = length(gradients)
        what = f"the length of the direction of step {self.steps_taken}"
        if scaler is None and isinstance(size, Tensor):
            self._checks.note(size, what)
        elif scaler is None and not math.isfinite(size):
            raise self._refusal(what, float(size))
        if limit is not None:
            clip(gradients, size, limit)

    def _require_finite(self, loss: object) -> None:
        """Refuse a loss that is not finite, and whose gradient is not, where it can be seen without waiting.

        Not where others take part: they would wait for one that raised alone. What all look at, they refuse
        together: the lengths of the gradients.

        Raises:
            FloatingPointError: they are not.
        """
        if not (isinstance(loss, Tensor) and loss.is_cpu and loss.numel() == 1) or loss.isfinite():
            return
        size = float(length([p.grad for p in self._trained() if p.grad is not None]))
        if not math.isfinite(size):
            what = f"the loss of step {self.steps_taken} is {loss.item()}"
            raise self._refusal(f"{what}, the length of its gradient", size)

    def _refusal(self, what: str, size: float) -> FloatingPointError:
        """What is said of a length that is not finite, with the trial and the parameters that made it so."""
        called = names(self.param_groups, self._options.model)
        wrong = not_finite((name, p.grad) for p, name in called.items())
        said = f"{what} is {size}; the weights are untouched; trial {int(self._trial())}{wrong}"
        return FloatingPointError(said)

    def _blamed(self) -> str:
        """Which weights are not finite, once a step has been taken."""
        return not_finite((name, p) for p, name in names(self.param_groups, self._options.model).items())

    def _trial(self) -> bool:
        return self._plan.trial(self.steps_taken)

    def _trained(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    @property
    def _groups(self) -> GroupPerturbations:
        """How each group is perturbed, also those that were added to the base itself."""
        self._perturbations.follow(self.param_groups)
        return self._perturbations

    def _radius(self, group: int) -> float | Tensor | None:
        rho = self._groups.radius(group, self.steps_taken)
        return rho if rho is None else self._on_device.get(("rho", group), rho)

    def _gamma(self) -> float | Tensor:
        return self._on_device.get(("gamma", 0), self._plan.at("gamma", self.steps_taken))

    # ---- checkpoints and copies

    def _settings(self) -> dict[str, Any]:
        """What the rest of a run depends on beside weights and state; equal for equal runs."""
        groups = self._groups.to_list()
        return {**self._plan.to_dict(), "perturb_groups": groups, **self._options.to_dict()}

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state dict, and under "rst" the step counter and the plan of the run."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        rst = {
            "steps_taken": self.steps_taken,
            "perturbed_steps": self.perturbed_steps,
            "plan": self._settings(),
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
        if missing := {"plan", "steps_taken", "perturbed_steps"} - set(rst):
            raise ValueError(f"the state dict's entry 'rst' has no {sorted(missing)}")
        require_same(self._settings(), rst["plan"])
        self.base.load_state_dict(state)
        self.steps_taken, self.perturbed_steps = rst["steps_taken"], rst["perturbed_steps"]
        self._mixed = False
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        return {key: self.__dict__[key] for key in _STATE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        options: Options = state["_options"]
        model = options.model
        super().__setstate__(
            {
                **state,
                "_perturbation": Perturbation(options.storage),
                "_checks": FiniteChecks(),
                "_buffers": None if model is None else Buffers(model),
                "_local_pass": None if options.sync_perturbation else LocalPass(model),
                "_on_device": {},
                "_mixed": False,
                "_scaler": None,
                "_in_second_pass": False,
                "_before_first_pass": None,
            }
        )

    def __repr__(self) -> str:
        plan = ", ".join(f"{f.name}={getattr(self._plan, f.name)!r}" for f in fields(Plan) if f.init)
        return f"RST({plan}, base={self.base!r})"


_STATE = ("base", "_plan", "_perturbations", "_options", "steps_taken", "perturbed_steps")


def _require_closureless(base: Optimizer) -> None:
    if not isinstance(base, Optimizer):
        raise TypeError(f"base_optimizer must be a torch.optim.Optimizer instance; got {base!r}")
    _, *arguments = inspect.signature(type(base).step).parameters.values()
    collects = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [a.name for a in arguments if a.default is a.empty and a.kind not in collects]
    if isinstance(base, RST) or required:
        needs = " and ".join(required) or "closure"
        raise TypeError(f"base_optimizer {type(base).__name__} needs a {needs} for its own step")


def _enabled(scaler: GradScaler | None) -> GradScaler | None:
    return scaler if scaler is not None and scaler.is_enabled() else None


def _is_one(gamma: float | Tensor) -> bool:
    return not isinstance(gamma, Tensor) and gamma == 1
