"""Every bound by its name, those that apply to a run, and the smallest of them."""

from __future__ import annotations

from typing import NamedTuple, NotRequired, TypedDict, Unpack

from rst_theory import display
from rst_theory.bounds import (
    average,
    concentration,
    convex,
    one_step,
    polyak_lojasiewicz,
    realized,
    strongly_convex,
    unnormalized,
)
from rst_theory.bounds.base import Bound, HasConstants, Parameter, RunBound
from rst_theory.notation import Ascent, DomainError
from rst_theory.schedules import Schedule

__all__ = ["ALL", "BoundValue", "BoundValues", "RunArguments", "applicable", "best"]

_ROOMS = (
    average,
    unnormalized,
    polyak_lojasiewicz,
    convex,
    strongly_convex,
    concentration,
    realized,
    one_step,
)

ALL: dict[str, Bound] = {
    name: bound
    for module in _ROOMS
    for name, bound in vars(module).items()
    if name in module.__all__ and isinstance(bound, Bound)
}
"""Every bound by its name: over runs first, of one step last."""


class BoundValue(NamedTuple):
    """A bound over a run and its value there; its metric says of what."""

    bound: RunBound
    value: float

    def _repr_html_(self) -> str:
        return BoundValues([self])._repr_html_()


class BoundValues(list[BoundValue]):
    """Bounds and their values, as a list that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        rows = [
            (display.number(value), display.formula(bound.metric.latex), bound.kind, display.code(bound.name))
            for bound, value in self
        ]
        return display.table(rows, ("value", "bounds", "kind", "name"))


class RunArguments(TypedDict):
    """The arguments of `RunBound.evaluate`, but for the constants."""

    schedule: Schedule | float
    steps: int
    eta: Parameter
    rho: Parameter
    gamma: NotRequired[Parameter]
    gap: NotRequired[float | None]
    distance: NotRequired[float | None]


def applicable(
    problem: HasConstants,
    *,
    ascent: Ascent = "normalized",
    quantity: str | None = None,
    **run: Unpack[RunArguments],
) -> BoundValues:
    """Every bound over a run that applies to the problem and the run, the smallest first.

    Args:
        problem: whatever has constants and assumptions.
        ascent: "normalized" or "unnormalized".
        quantity: only the bounds whose metric measures this: "squared_gradient_norm", "gap" or
            "squared_distance" along the run, "final_gap" or "final_squared_distance" at its end.
        **run: schedule, steps, eta, rho, gamma, gap and distance, as in `RunBound.evaluate`.

    Raises:
        ValueError: a quantity that no bound speaks of.
        DomainError: a parameter outside its domain.
    """
    return _judge(problem, ascent, quantity, run)[0]


def best(
    problem: HasConstants,
    *,
    ascent: Ascent = "normalized",
    quantity: str = "squared_gradient_norm",
    **run: Unpack[RunArguments],
) -> BoundValue:
    """The smallest bound on a quantity that applies to the problem and the run.

    Two bounds on an average may weigh the steps differently: each bounds the least value along the run,
    and the metric of the one returned says which average it speaks of. Of equal values it is the first in
    `ALL`. Arguments as of `applicable`.

    Raises:
        ValueError: a quantity that no bound speaks of.
        DomainError: none applies; the message says why each does not.
    """
    found, refusals = _judge(problem, ascent, quantity, run)
    if not found:
        raise DomainError(f"a bound on {quantity} for {ascent} ascent that applies", "; ".join(refusals))
    return found[0]


def _judge(
    problem: HasConstants, ascent: Ascent, quantity: str | None, run: RunArguments
) -> tuple[BoundValues, list[str]]:
    """The bounds that apply, the smallest first, and why each of the others does not."""
    over_runs = [bound for bound in ALL.values() if isinstance(bound, RunBound)]
    quantities = dict.fromkeys(bound.metric.quantity for bound in over_runs)
    if quantity is not None and quantity not in quantities:
        raise ValueError(f"quantity must be one of {', '.join(map(str, quantities))}; got {quantity!r}")
    found, refusals = [], []
    for bound in over_runs:
        if bound.ascent != ascent or quantity not in (None, bound.metric.quantity):
            continue
        if missing := bound.missing(problem):
            refusals.append(f"{bound.name} assumes {', '.join(sorted(a.name for a in missing))}")
            continue
        try:
            found.append(BoundValue(bound, bound.evaluate(constants=problem.constants, **run)))
        except DomainError as error:
            refusals.append(f"{bound.name}: {error}")
    return BoundValues(sorted(found, key=lambda candidate: candidate.value)), refusals
