"""Rows for the plots made from result objects, for whoever has those at hand instead of saved tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from rst_theory.bounds import BoundValue
from rst_theory.cost import CostLaw
from rst_theory.plots.tables import Row
from rst_theory.schedules import Schedule
from rst_theory.simulation import Trajectories

__all__ = ["Comparison", "Laws", "Runs", "comparison_row", "cost_row", "cost_rows", "curve_row", "curve_rows"]

Laws: TypeAlias = "Iterable[Row | CostLaw | Schedule] | Mapping[str, CostLaw | Schedule]"
"""Rows of the table `cost`, or the laws and schedules that they are made of, by their names or in a list."""

Runs: TypeAlias = "Iterable[Row] | Mapping[str, Trajectories]"
"""Rows of the table `curves`, or simulations by the names of their curves."""

_POINTS = 101


class WorstCase(Protocol):
    """What `comparison_row` asks of a certificate."""

    @property
    def value(self) -> float:
        """The worst case."""

    @property
    def exact(self) -> bool:
        """Whether it is the worst case itself, not an upper bound of it."""


class Comparison(NamedTuple):
    """A bound, the worst case and the measurement of one metric.

    Attributes:
        bound: the name of the bound.
        value: the bound.
        worst: the worst case.
        exact: whether it is the worst case itself, not an upper bound of it.
        measured: the mean.
        low: the lower end of its 99 % interval.
        high: the upper end.
    """

    bound: str
    value: float
    worst: float
    exact: bool
    measured: float
    low: float
    high: float


def comparison_row(found: BoundValue, worst: WorstCase, run: Trajectories) -> Comparison:
    """What `plot_comparison` needs of one bound; the interval of the measured metric is at 99 %.

    Args:
        found: a bound and its value on the run, as `bounds.applicable` lists them.
        worst: the certificate of the same bound, from `certificates.certify_bound`.
        run: the simulation.
    """
    measured = run.weighted(found.bound)
    return Comparison(
        found.bound.name, found.value, worst.value, worst.exact, measured.mean, *measured.interval(0.99)
    )


def cost_row(law: CostLaw, name: str | None = None) -> Row:
    """What `plot_cost` and `plot_schedules` need of one law; the interval is at 99 %.

    Args:
        law: of the extra pairs of a run.
        name: of its schedule; by default the way it prints.
    """
    low, high = law.interval(0.99)
    steps = np.linspace(0, law.T - 1, _POINTS).astype(int)
    return {
        "name": repr(law.schedule) if name is None else name,
        "steps": law.T,
        "share": law.mean / law.T,
        "low": low,
        "high": high,
        "values": law.probabilities[steps].tolist(),
    }


def cost_rows(laws: Laws, steps: int) -> list[Row]:
    """The rows of laws, or of schedules over so many steps; rows stay as they are."""
    named = laws.items() if isinstance(laws, Mapping) else ((None, law) for law in laws)
    return [
        cost_row(law if isinstance(law, CostLaw) else CostLaw(law, steps), name)
        if isinstance(law, CostLaw | Schedule)
        else law
        for name, law in named
    ]


def curve_rows(runs: Runs, problem: str) -> list[Row]:
    """The rows of simulations of one problem; rows stay as they are."""
    if isinstance(runs, Mapping):
        return [curve_row(run, problem, name) for name, run in runs.items()]
    return list(runs)


def curve_row(run: Trajectories, problem: str, schedule: str, points: int = 60) -> Row:
    """What `plot_convergence` needs of one simulation: mean and 99 % band, at steps even in log t.

    Args:
        run: a simulation of at least two replicas.
        problem: the panel that the curve belongs to.
        schedule: the name of the curve.
        points: the most steps to keep.
    """
    from scipy import special

    moments = run.squared_gradient_norm
    kept = np.unique(np.geomspace(1, moments.mean.size, points).astype(int)) - 1
    mean = moments.mean[kept]
    half = special.ndtri(0.995) * moments.standard_error[kept]
    return {
        "problem": problem,
        "schedule": schedule,
        "t": run.times[kept].tolist(),
        "mean": mean.tolist(),
        "low": np.maximum(mean - half, 0).tolist(),
        "high": (mean + half).tolist(),
    }
