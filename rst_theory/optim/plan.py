"""What every step of a run will do, known before the run starts: its trial, radius and coefficient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, Ascent, DomainError, FloatArray, natural
from rst_theory.schedules import Constant, Schedule, Tabulated, matched_gamma, sequence
from rst_theory.trials import Trials, TrialsKind, uniform

__all__ = ["Parameter", "Plan", "as_schedule", "checked", "require_same"]

Parameter: TypeAlias = float | npt.ArrayLike | Schedule
"""A quantity over the steps: a number, an array of length T, or a schedule."""

_QUANTITY = {
    "schedule": QUANTITIES["p"],
    "rho": QUANTITIES["rho"],
    "gamma": QUANTITIES["gamma"],
    "degree": QUANTITIES["degree"],
}

_DRAWN_TOGETHER = 1024  # coins of a run without an end


@dataclass(frozen=True, eq=False)
class Plan:
    """The trials X_t, radii rho_t and mixing coefficients gamma_t of a run of T steps, or without an end.

    Args:
        schedule: the probabilities p_t.
        total_steps: T, or None where no quantity depends on it.
        rho: the radii rho_t >= 0.
        gamma: the mixing coefficients gamma_t >= 0.
        degree: instead of gamma, the degree of regularization kappa_t; then gamma_t = kappa_t / p_t, and 0
            where p_t = 0 (`matched_gamma`).
        max_gamma: a cap on these coefficients.
        seed: of the trials, 0 <= seed < 2^64.
        trials: their kind, "independent" or "systematic"; the latter needs T.
        ascent: "normalized" or "unnormalized".

    Raises:
        ValueError: total_steps missing where it is needed, both gamma and degree, max_gamma without a degree,
            or an unknown kind.
        DomainError: a value outside the domain of its quantity, named with its t.
    """

    schedule: Parameter
    total_steps: int | None
    rho: Parameter
    gamma: Parameter | None
    degree: Parameter | None
    max_gamma: float | None
    seed: int
    trials: TrialsKind
    ascent: Ascent
    _tables: dict[str, FloatArray] = field(init=False, repr=False, default_factory=dict)
    _trials: Trials | None = field(init=False, repr=False, default=None)
    _uniforms: dict[int, FloatArray] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", natural("seed", self.seed, below=2**64))
        for name, kinds in (("trials", TrialsKind), ("ascent", Ascent)):
            if getattr(self, name) not in get_args(kinds):
                allowed = " or ".join(map(repr, get_args(kinds)))
                raise ValueError(f"{name} must be {allowed}; got {getattr(self, name)!r}")
        self._settle_gamma()
        given = ["schedule", "rho", "gamma" if self.degree is None else "degree"]
        for name in given:
            object.__setattr__(self, name, as_schedule(name, getattr(self, name)))
        if self.total_steps is None:
            self._require_no_horizon(given)
        else:
            object.__setattr__(self, "total_steps", natural("total_steps", self.total_steps, least=1))
            for name in given:
                self._tables[name] = self.table(name, getattr(self, name))
            if self.degree is not None:
                p, degree = self._tables["schedule"], self._tables["degree"]
                self._tables["gamma"] = matched_gamma(p, p.size, degree, self.max_gamma).gamma
            object.__setattr__(self, "_trials", Trials(self._tables["schedule"], self.seed, self.trials))

    def _settle_gamma(self) -> None:
        if self.degree is None:
            if self.max_gamma is not None:
                raise ValueError("max_gamma caps the coefficients of a degree: give degree, or leave it out")
            object.__setattr__(self, "gamma", 1.0 if self.gamma is None else self.gamma)
        elif self.gamma is not None:
            raise ValueError(f"give gamma or degree, not both; got {self.gamma!r} and {self.degree!r}")
        elif self.max_gamma is not None:
            object.__setattr__(self, "max_gamma", float(QUANTITIES["gamma"].check(self.max_gamma)))

    def _require_no_horizon(self, given: list[str]) -> None:
        for name in given:
            self.table(name, getattr(self, name))
        if self.trials == "systematic":
            raise ValueError("trials = 'systematic' depend on the number of steps: give total_steps")

    def table(self, name: str, schedule: Schedule) -> FloatArray:
        """A schedule's values (T,), checked; without T its value at the first step alone.

        Args:
            name: of the quantity, "schedule", "rho", "gamma" or "degree".
            schedule: its schedule.

        Raises:
            ValueError: a schedule with a horizon where there is no T.
            DomainError: a value outside the domain, named with its t.
        """
        if self.total_steps is not None:
            return sequence(schedule, self.total_steps, _QUANTITY[name])
        if schedule.has_horizon:
            raise ValueError(f"{name} = {schedule!r} depends on the number of steps: give total_steps")
        return np.array([checked(name, schedule, 0)])

    def at(self, name: str, t: int) -> float:
        """The value of `schedule`, `rho` or `gamma` at step t.

        Raises:
            DomainError: t beyond total_steps, or a value outside the domain.
        """
        if self._tables:
            return float(self._tables[name][self._within(t)])
        if name == "gamma" and self.degree is not None:
            p, degree = self.at("schedule", t), self.at("degree", t)
            return float(matched_gamma(p, 1, degree, self.max_gamma).gamma[0])
        schedule = getattr(self, name)
        # A constant has been checked when the plan was made.
        return float(schedule.value) if isinstance(schedule, Constant) else checked(name, schedule, t)

    def degree_attained(self, t: int) -> float:
        """The mean of p_t gamma_t over the run; without T its value at step t."""
        if self._tables:
            return float(np.mean(self._tables["schedule"] * self._tables["gamma"]))
        return self.at("schedule", t) * self.at("gamma", t)

    def trial(self, t: int) -> bool:
        """The trial X_t; the same with total_steps as without.

        Raises:
            DomainError: t beyond total_steps.
        """
        if self._trials is None:
            return bool(self._uniform(t) < self.at("schedule", t))
        return self._trials.draw(self._within(t))

    def _uniform(self, t: int) -> float:
        """The number behind the coin of step t, drawn together with those of its neighbours."""
        block = t // _DRAWN_TOGETHER
        if block not in self._uniforms:
            self._uniforms.clear()
            steps = np.arange(block * _DRAWN_TOGETHER, (block + 1) * _DRAWN_TOGETHER)
            self._uniforms[block] = uniform(self.seed, steps)
        return float(self._uniforms[block][t % _DRAWN_TOGETHER])

    def pairs(self) -> int:
        """The propagation pairs of the run: T, and one more for each perturbed step.

        Raises:
            ValueError: there is no T.
        """
        if self._trials is None:
            raise ValueError("a run without total_steps has no end: give total_steps to know its cost")
        return self._trials.steps + self._trials.extra_pairs

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, equal for equal plans: what a checkpoint holds."""
        arguments = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return {name: v.to_dict() if isinstance(v, Schedule) else v for name, v in arguments.items()}

    def _within(self, t: int) -> int:
        if self.total_steps is not None and t >= self.total_steps:
            raise DomainError(f"a step t < total_steps = {self.total_steps}, where the run ends", t)
        return t


def as_schedule(name: str, parameter: Parameter) -> Schedule:
    """A number or an array as the schedule that it is.

    Args:
        name: of the quantity, "schedule", "rho", "gamma" or "degree".
        parameter: a number, an array (T,), or a schedule.

    Raises:
        TypeError: no numbers.
        ValueError: an array of another shape.
        DomainError: a value outside the domain.
    """
    if isinstance(parameter, Schedule):
        return parameter
    if parameter is None:  # NumPy would make it NaN
        raise TypeError(f"{name} must be a number, an array (T,) or a schedule; got None")
    values = _QUANTITY[name].check_all(parameter)
    if values.ndim > 1:
        raise ValueError(f"{name} must be a number, an array (T,) or a schedule; got shape {values.shape}")
    return Tabulated(tuple(values.tolist())) if values.ndim else Constant(float(values))


def checked(name: str, schedule: Schedule, t: int) -> float:
    """The value at step t of a schedule without a horizon.

    Raises:
        DomainError: a value outside the domain, named with its t.
    """
    try:
        return float(_QUANTITY[name].check(schedule.at(t)))
    except DomainError as error:
        raise DomainError(error.condition, error.value, f"t = {t}") from None


def require_same(ours: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Check that what a checkpoint holds of a run's settings is what this run has.

    Args:
        ours: plain data, from `Plan.to_dict` and the like.
        saved: the checkpoint's.

    Raises:
        ValueError: they differ; the first difference is named.
    """
    for name in {**ours, **saved}:
        if name not in saved or name not in ours:
            where = "the saved state" if name not in saved else "this optimizer"
            raise ValueError(f"{where} has no {name!r}: another version of this package has saved it")
        if saved[name] != ours[name]:
            raise ValueError(
                f"the saved state has {name} = {saved[name]}, this optimizer has {name} = {ours[name]}"
            )
