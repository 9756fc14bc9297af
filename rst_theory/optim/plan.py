"""What every step of a run will do, known before the run starts: its trial, radius and coefficient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, get_args

import numpy.typing as npt

from rst_theory.notation import QUANTITIES, Ascent, DomainError, FloatArray, natural
from rst_theory.schedules import Constant, Schedule, Tabulated, sequence
from rst_theory.trials import Trials, TrialsKind, coin

__all__ = ["Parameter", "Plan"]

Parameter: TypeAlias = float | npt.ArrayLike | Schedule
"""A quantity over the steps: a number, an array of length T, or a schedule."""

_QUANTITY = {"schedule": QUANTITIES["p"], "rho": QUANTITIES["rho"], "gamma": QUANTITIES["gamma"]}


@dataclass(frozen=True, eq=False)
class Plan:
    """The trials X_t, radii rho_t and mixing coefficients gamma_t of a run of T steps, or without an end.

    Args:
        schedule: the probabilities p_t.
        total_steps: T, or None where no quantity depends on it.
        rho: the radii rho_t >= 0.
        gamma: the mixing coefficients gamma_t >= 0.
        seed: of the trials, 0 <= seed < 2^64.
        trials: their kind, "independent" or "systematic"; the latter needs T.
        ascent: "normalized" or "unnormalized".

    Raises:
        ValueError: total_steps missing where it is needed, or an unknown kind.
        DomainError: a value outside the domain of its quantity, named with its t.
    """

    schedule: Parameter
    total_steps: int | None
    rho: Parameter
    gamma: Parameter
    seed: int
    trials: TrialsKind
    ascent: Ascent
    _tables: dict[str, FloatArray] = field(init=False, repr=False, default_factory=dict)
    _trials: Trials | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", natural("seed", self.seed, below=2**64))
        for name, kinds in (("trials", TrialsKind), ("ascent", Ascent)):
            if getattr(self, name) not in get_args(kinds):
                allowed = " or ".join(map(repr, get_args(kinds)))
                raise ValueError(f"{name} must be {allowed}; got {getattr(self, name)!r}")
        for name in _QUANTITY:
            object.__setattr__(self, name, _as_schedule(name, getattr(self, name)))
        if self.total_steps is None:
            self._require_no_horizon()
        else:
            T = natural("total_steps", self.total_steps, least=1)
            object.__setattr__(self, "total_steps", T)
            for name, quantity in _QUANTITY.items():
                self._tables[name] = sequence(getattr(self, name), T, quantity)
            object.__setattr__(self, "_trials", Trials(self._tables["schedule"], self.seed, self.trials))

    def _require_no_horizon(self) -> None:
        for name in _QUANTITY:
            if getattr(self, name).has_horizon:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r} depends on the number of steps: give total_steps"
                )
            self.at(name, 0)
        if self.trials == "systematic":
            raise ValueError("trials = 'systematic' depend on the number of steps: give total_steps")

    def at(self, name: str, t: int) -> float:
        """The value of `schedule`, `rho` or `gamma` at step t.

        Raises:
            DomainError: t beyond total_steps, or a value outside the domain.
        """
        if self._tables:
            return float(self._tables[name][self._within(t)])
        try:
            return float(_QUANTITY[name].check(getattr(self, name).at(t)))
        except DomainError as error:
            raise DomainError(error.condition, error.value, f"t = {t}") from None

    def trial(self, t: int) -> bool:
        """The trial X_t; the same with total_steps as without.

        Raises:
            DomainError: t beyond total_steps.
        """
        if self._trials is None:
            return coin(self.at("schedule", t), self.seed, t)
        return self._trials.draw(self._within(t))

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, equal for equal plans: what a checkpoint holds."""
        arguments = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return {name: v.to_dict() if isinstance(v, Schedule) else v for name, v in arguments.items()}

    def require_same(self, saved: Mapping[str, Any]) -> None:
        """Check that `saved`, from `to_dict`, describes this plan.

        Raises:
            ValueError: it does not; the first difference is named.
        """
        for name, ours in self.to_dict().items():
            if name not in saved or saved[name] != ours:
                theirs = saved.get(name, "missing")
                raise ValueError(f"the saved state has {name} = {theirs}, this optimizer has {name} = {ours}")

    def _within(self, t: int) -> int:
        if self.total_steps is not None and t >= self.total_steps:
            raise DomainError(f"a step t < total_steps = {self.total_steps}, where the run ends", t)
        return t


def _as_schedule(name: str, parameter: Parameter) -> Schedule:
    if isinstance(parameter, Schedule):
        return parameter
    values = _QUANTITY[name].check_all(parameter)
    if values.ndim > 1:
        raise ValueError(f"{name} must be a number, an array (T,) or a schedule; got shape {values.shape}")
    return Tabulated(tuple(values.tolist())) if values.ndim else Constant(float(values))
