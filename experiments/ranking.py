"""Question: do bounds rank schedules of equal cost and degree as the runs do, and do allocations win?

Design: a quadratic and a nonconvex problem with the Polyak-Lojasiewicz inequality, with and without noise,
cosine and constant step sizes; schedules of one mean and one degree, gamma_t = q/p_t, among them the two
that `allocate` finds; common random numbers. Each bound that applies predicts an order of the schedules in
its own metric, and so does, on the quadratic, what the trials add on its spectrum; the simulation measures
one.

Rule fixed before the run: a predictor is believed to rank schedules in a setting where Kendall's tau of the
two orders is positive with a one-sided p value of at most .05; an allocation wins where the 99 % interval of
its measured metric does not lie wholly above that of the best schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rst_theory as rst
from experiments.pool import spread
from experiments.settings import CONFIDENCE, Size
from rst_theory.allocation import allocate, trial_weights
from rst_theory.bounds import applicable, nonconvex_average, pl_last_iterate
from rst_theory.files import write_table
from rst_theory.problems import Problem, Quadratic, RippledQuadratic
from rst_theory.schedules import Schedule, matched_gamma
from rst_theory.simulation import simulate

__all__ = ["run"]

SEED = 20220311
DEGREE = 1.0
LARGEST_GAMMA = 1000.0  # keeps the degree where the metric would not miss it
T = 400


class Where(NamedTuple):
    """A problem with step sizes, radii and a budget."""

    problem: str
    noise: float
    eta: str
    budget: float


SETTINGS = [
    Where(problem, noise, eta, budget)
    for problem in ("quadratic", "rippled quadratic")
    for noise in (0.0, 0.1)
    for eta in ("cosine", "constant")
    for budget in (0.25, 0.5)
]
RADIUS = 0.3
_STEP_SIZES = {"cosine": rst.Cosine(0.8, 0.01), "constant": rst.Constant(0.2)}
"""In units of 1/L."""


def run(size: Size, results: Path) -> Iterator[float]:
    """Write ranking.csv (a row per schedule and predictor) and believed.csv (a row per predictor)."""
    found: list[list[dict[str, Any]]] = []
    yield from spread(measure, [(where, size.replicas) for where in SETTINGS], size.processes, found)
    write_table(results, "ranking", [row for rows in found for row in rows])
    write_table(results, "believed", [row for rows in found for row in _believed(rows)])


def measure(where: Where, replicas: int) -> list[dict[str, Any]]:
    """Every schedule and every predictor in one setting."""
    problem = _problem(where)
    L = problem.constants.L
    eta = _STEP_SIZES[where.eta].values(T) / L
    gap = float(problem.gap(problem.start))
    rows = []
    for name, schedule in _schedules(problem, eta, where.budget).items():
        gamma = matched_gamma(schedule, T, DEGREE).gamma
        arguments: dict[str, Any] = {"steps": T, "eta": eta, "rho": RADIUS, "gamma": gamma}
        trajectories = simulate(problem, schedule, replicas=replicas, seed=SEED, **arguments)
        found = applicable(problem, schedule=schedule, gap=gap, **arguments)
        predictions = [(bound.name, bound, predicted) for bound, predicted in found]
        if isinstance(problem, Quadratic):
            # The same metrics, predicted by what the trials add on this very quadratic.
            for like, goal in ((nonconvex_average, "average"), (pl_last_iterate, "last_iterate")):
                w = trial_weights(
                    steps=T,
                    eta=eta,
                    rho=RADIUS,
                    degree=DEGREE,
                    constants=problem.constants,
                    goal=goal,  # type: ignore[arg-type]
                    spectrum=problem.eigenvalues,
                )
                added = float((w**2 * (1 / schedule.values(T) - 1)).sum())
                predictions.append((f"trials on the spectrum, {goal}", like, added))
        for label, bound, predicted in predictions:
            measured = trajectories.weighted(bound)
            low, high = measured.interval(CONFIDENCE)
            rows.append(
                {
                    **where._asdict(),
                    "schedule": name,
                    "mean_p": float(schedule.values(T).mean()),
                    "largest_gamma": float(gamma.max()),
                    "predictor": label,
                    "quantity": bound.metric.quantity,
                    "measured": measured.mean,
                    "low": low,
                    "high": high,
                    "predicted": predicted,
                }
            )
    return rows


def _problem(where: Where) -> Problem:
    if where.problem == "quadratic":
        return Quadratic(np.geomspace(0.05, 1.0, 10), noise=where.noise)
    return RippledQuadratic(dimension=5, noise=where.noise)


def _schedules(problem: Problem, eta: Any, mean: float) -> dict[str, Schedule]:
    """Schedules of one mean, positive everywhere so that the degree is kept in every step."""
    high, low = 1.8 * mean, 0.2 * mean
    arguments: dict[str, Any] = {
        "steps": T,
        "eta": eta,
        "rho": RADIUS,
        "degree": DEGREE,
        "constants": problem.constants,
    }
    found: dict[str, Schedule] = {
        "constant": rst.Constant(mean),
        "early": rst.Piecewise(high, low, 0.5),
        "late": rst.Piecewise(low, high, 0.5),
        "falling": rst.Linear(high, low),
        "rising": rst.Linear(low, high),
        "allocated, average": allocate(mean, **arguments),
        "allocated, last": allocate(mean, goal="last_iterate", **arguments),
        "allocated, average, gamma <= 2/p": allocate(mean, max_gamma=2 * DEGREE / mean, **arguments),
    }
    if isinstance(problem, Quadratic):
        known = {**arguments, "spectrum": problem.eigenvalues, "max_gamma": LARGEST_GAMMA}
        found["spectrum, average"] = allocate(mean, **known)
        found["spectrum, last"] = allocate(mean, goal="last_iterate", **known)
    return found


def _believed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How the order of each predictor agrees with the measured one, and whether an allocation wins."""
    from scipy import stats

    found = []
    for predictor in dict.fromkeys(row["predictor"] for row in rows):
        group = [row for row in rows if row["predictor"] == predictor]
        tau = stats.kendalltau(
            [row["predicted"] for row in group], [row["measured"] for row in group], alternative="greater"
        )
        best = min(group, key=lambda row: row["measured"])
        goal = "last" if group[0]["quantity"] == "final_gap" else "average"
        own = min(
            (row for row in group if row["schedule"] in (f"allocated, {goal}", f"spectrum, {goal}")),
            key=lambda row: row["measured"],
        )
        foreseen = min(group, key=lambda row: row["predicted"])
        found.append(
            {
                **{key: group[0][key] for key in (*Where._fields, "predictor", "quantity")},
                "tau": float(tau.statistic),
                "p_value": float(tau.pvalue),
                "believed": bool(tau.pvalue <= 0.05),
                "measured_best": best["schedule"],
                "predicted_best": foreseen["schedule"],
                "allocation": own["schedule"],
                "allocation_wins": bool(own["low"] <= best["high"]),
                "own_over_best": own["measured"] / best["measured"],
            }
        )
    return found
