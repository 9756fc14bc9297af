"""Convergence bounds as values: statement, assumptions, domain, metric, source and evaluation.

`ALL` holds every bound by its name; `best` picks the smallest one over many steps that applies.
"""

from __future__ import annotations

from typing import NamedTuple

from rst_theory.bounds.average import (
    nonconvex_average,
    nonconvex_average_unnormalized,
    sam_average,
    sgd_average,
)
from rst_theory.bounds.base import (
    Bound,
    Condition,
    HasConstants,
    Metric,
    Parameter,
    RunBound,
    Setting,
    settle,
)
from rst_theory.bounds.one_step import (
    OneStepBound,
    one_step_convex,
    one_step_smooth,
    one_step_strongly_convex,
)
from rst_theory.notation import Ascent, DomainError
from rst_theory.schedules import Schedule

__all__ = [
    "ALL",
    "BestBound",
    "Bound",
    "Condition",
    "Metric",
    "OneStepBound",
    "RunBound",
    "Setting",
    "best",
    "nonconvex_average",
    "nonconvex_average_unnormalized",
    "one_step_convex",
    "one_step_smooth",
    "one_step_strongly_convex",
    "sam_average",
    "settle",
    "sgd_average",
]

ALL: dict[str, Bound] = {
    bound.name: bound
    for bound in (
        nonconvex_average,
        sgd_average,
        sam_average,
        nonconvex_average_unnormalized,
        one_step_smooth,
        one_step_convex,
        one_step_strongly_convex,
    )
}


class BestBound(NamedTuple):
    """The smallest bound that applies, and its value."""

    bound: RunBound
    value: float


def best(
    problem: HasConstants,
    *,
    schedule: Schedule | float,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    gap: float,
    gamma: Parameter = 1.0,
    ascent: Ascent = "normalized",
) -> BestBound:
    """The smallest bound on the average squared gradient that applies to the problem and the run.

    Arguments as in `RunBound.evaluate`; of equal values the first in `ALL` is returned.

    Raises:
        DomainError: none applies; the message says why each does not.
    """
    refusals: list[str] = []
    found: list[BestBound] = []
    for bound in ALL.values():
        if not isinstance(bound, RunBound) or bound.ascent != ascent:
            continue
        if missing := bound.missing(problem):
            refusals.append(f"{bound.name} assumes {', '.join(sorted(a.name for a in missing))}")
            continue
        try:
            value = bound.evaluate(
                schedule=schedule,
                steps=steps,
                eta=eta,
                rho=rho,
                gamma=gamma,
                constants=problem.constants,
                gap=gap,
            )
        except DomainError as error:
            refusals.append(f"{bound.name}: {error}")
            continue
        found.append(BestBound(bound, value))
    if not found:
        raise DomainError(f"a bound for {ascent} ascent that applies", "; ".join(refusals) or "none")
    return min(found, key=lambda candidate: candidate.value)
