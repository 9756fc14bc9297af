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


QUANTITIES_BOUNDED = tuple(
    dict.fromkeys(
        bound.metric.quantity
        for bound in ALL.values()
        if isinstance(bound, RunBound) and bound.metric.quantity is not None
    )
)
"""What the bounds over a run speak of, by the names that `rst_theory.simulation.Trajectories` has for it."""


class BestBound(NamedTuple):
    """The smallest bound that applies, and its value; its metric says of what."""

    bound: RunBound
    value: float


def best(
    problem: HasConstants,
    *,
    schedule: Schedule | float,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    gap: float | None = None,
    distance: float | None = None,
    gamma: Parameter = 1.0,
    ascent: Ascent = "normalized",
    quantity: str = "squared_gradient_norm",
) -> BestBound:
    """The smallest bound on a quantity that applies to the problem and the run.

    Two bounds on an average may weigh the steps differently: each is a bound on the least value along the
    run, and the metric of the one returned says which average it speaks of.

    Args:
        problem: whatever has constants and assumptions.
        schedule: as in `RunBound.evaluate`, like those that follow.
        steps: T.
        eta: step sizes.
        rho: radii.
        gap: f(x_0) - f_star, where it is known.
        distance: ||x_0 - x_star||, where it is known.
        gamma: mixing coefficients.
        ascent: "normalized" or "unnormalized".
        quantity: what the metric of the bound measures: "squared_gradient_norm", "gap" or
            "squared_distance" along the run, "final_gap" or "final_squared_distance" at its end.

    Returns:
        The bound and its value; of equal values the first in `ALL`.

    Raises:
        ValueError: an unknown quantity.
        DomainError: none applies; the message says why each does not.
    """
    if quantity not in QUANTITIES_BOUNDED:
        raise ValueError(f"quantity must be one of {', '.join(QUANTITIES_BOUNDED)}; got {quantity!r}")
    refusals: list[str] = []
    found: list[BestBound] = []
    for bound in ALL.values():
        if not isinstance(bound, RunBound) or bound.ascent != ascent or bound.metric.quantity != quantity:
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
                distance=distance,
            )
        except DomainError as error:
            refusals.append(f"{bound.name}: {error}")
            continue
        found.append(BestBound(bound, value))
    if not found:
        raise DomainError(
            f"a bound on {quantity} for {ascent} ascent that applies", "; ".join(refusals) or "none"
        )
    return min(found, key=lambda candidate: candidate.value)
