"""Which parameter groups are perturbed, and how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from rst_theory.notation import FloatArray
from rst_theory.optim.plan import Parameter, Plan, as_schedule, checked
from rst_theory.schedules import Schedule

__all__ = ["GroupPerturbation", "GroupPerturbations", "Perturb"]

Perturb: TypeAlias = bool | Parameter | Mapping[str, Any]
"""How a group is perturbed: True, as all are; False, not at all; a radius of its own (a number, an array (T,)
or a schedule); or a mapping with the keys "rho" and "adaptive"."""

_KEYS = {"rho", "adaptive"}


@dataclass(frozen=True, eq=False)
class GroupPerturbation:
    """One group's: a radius of its own or the run's (None), whether it moves, and whether it is scaled."""

    moves: bool
    rho: Schedule | None
    adaptive: bool
    table: FloatArray | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, equal for equal settings."""
        rho = None if self.rho is None else self.rho.to_dict()
        return {"moves": self.moves, "rho": rho, "adaptive": self.adaptive}


@dataclass
class GroupPerturbations:
    """One `GroupPerturbation` for each of the optimizer's groups, in their order.

    They are kept beside the groups, never in them: a base whose own groups hold a "rho" (Adadelta) does not
    collide, and schedulers and checkpoints of the base see what they always saw.

    Args:
        plan: the run's.
        adaptive: of groups that do not say.
    """

    plan: Plan
    adaptive: bool
    _groups: list[GroupPerturbation] = field(default_factory=list)

    def append(self, perturb: Perturb) -> None:
        """One more group.

        Raises:
            TypeError: a radius that is no number, array or schedule.
            ValueError: unknown keys, or a radius with a horizon in a run without one.
            DomainError: a radius outside its domain.
        """
        given: Mapping[str, Any] = perturb if isinstance(perturb, Mapping) else {"rho": perturb}
        if unknown := set(given) - _KEYS:
            raise ValueError(f"a group's perturbation has the keys rho and adaptive; got {sorted(unknown)}")
        rho, adaptive = given.get("rho", True), bool(given.get("adaptive", self.adaptive))
        if isinstance(rho, bool | np.bool_):
            self._groups.append(GroupPerturbation(bool(rho), None, adaptive, None))
            return
        schedule = as_schedule("rho", rho)
        self._groups.append(GroupPerturbation(True, schedule, adaptive, self.plan.table("rho", schedule)))

    def extend(self, perturb_groups: Sequence[Perturb], groups: int) -> None:
        """The first groups.

        Args:
            perturb_groups: one entry for each group.
            groups: how many there are.

        Raises:
            ValueError: another number of entries; and what `append` raises.
        """
        entries = list(perturb_groups)
        if len(entries) != groups:
            raise ValueError(
                f"perturb_groups must have one entry for each of the {groups} parameter groups; "
                f"got {len(entries)}"
            )
        for entry in entries:
            self.append(entry)

    def radius(self, group: int, t: int) -> float | None:
        """rho_t of a group, or None where it is left out."""
        mine = self[group]
        if not mine.moves:
            return None
        if mine.rho is None or mine.table is None:
            return self.plan.at("rho", t)
        return float(mine.table[t]) if self.plan.total_steps is not None else checked("rho", mine.rho, t)

    def __getitem__(self, group: int) -> GroupPerturbation:
        return self._groups[group]

    def follow(self, param_groups: Sequence[dict[str, Any]]) -> None:
        """Take in the groups that were added to the base since, and their "perturb" out of them."""
        for group in param_groups[len(self._groups) :]:
            self.append(group.get("perturb", True))
            group.pop("perturb", None)  # not before it has been accepted

    def drop(self, group: int) -> None:
        """Forget a group and those after it."""
        del self._groups[group:]

    def to_list(self) -> list[dict[str, Any]]:
        """Plain data, equal for equal settings: what a checkpoint holds."""
        return [group.to_dict() for group in self._groups]
