"""Question: does the master bound hold beside simulation, for every schedule, and how far is it?

Design: a quadratic and a nonconvex problem with known constants, normalized ascent, constant parameters
and parameters that decay as 1/sqrt(t); every schedule on common random numbers. Rule fixed before the run:
the bound is refuted where the lower end of the 99 % interval of its own metric exceeds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import rst_theory as rst
from experiments.pool import spread
from experiments.question import Check
from experiments.schedules import COMPARED, DRAWN, Named
from experiments.settings import CONFIDENCE, Size
from rst_theory.bounds import nonconvex_average
from rst_theory.cost import CostLaw
from rst_theory.files import write_json, write_table
from rst_theory.plots import Row, curve_row
from rst_theory.problems import FlatAndSharp, Problem, Quadratic
from rst_theory.schedules import Schedule
from rst_theory.simulation import simulate

__all__ = ["CHECKS", "run"]

CHECKS = (
    Check("bounds", ("problem", "schedule"), "measured", ("low", "high"), repetitions="replicas"),
    Check("bounds", ("problem", "schedule"), "bound"),
)

SEED = 20220309
_CURVE_POINTS = 60


class Parameters(NamedTuple):
    """Step sizes and radii, in units of 1/L and 1."""

    label: str
    eta: Schedule
    rho: Schedule


PROBLEMS: dict[str, Problem] = {
    "quadratic": Quadratic.random(20, L=1.0, mu=0.01, noise=0.1, seed=1),
    "flat and sharp": FlatAndSharp(dimension=10, noise=0.1),
}
PARAMETERS = (
    Parameters("constant", rst.Constant(0.2), rst.Constant(0.2)),
    Parameters("1/sqrt(t)", rst.InverseSqrt(0.5), rst.InverseSqrt(0.5)),
)


def run(size: Size, results: Path) -> Iterator[float]:
    """Write bounds.csv, bounds.json and curves.json; yields the share that is done."""
    tasks = [
        (problem, parameters, named, size.simulated_steps, size.replicas)
        for problem in PROBLEMS
        for parameters in PARAMETERS
        for named in COMPARED
    ]
    measured: list[tuple[dict[str, Any], Row]] = []
    yield from spread(measure, tasks, size.processes, measured)
    write_table(results, "bounds", [row for row, _ in measured])
    drawn = [curve for _, curve in measured if curve["schedule"] in DRAWN]
    write_json(results / "curves.json", drawn)


def measure(
    problem_name: str, parameters: Parameters, named: Named, T: int, replicas: int
) -> tuple[dict[str, Any], Row]:
    """One row of the table and one curve: a schedule on a problem."""
    problem = PROBLEMS[problem_name]
    trajectories = simulate(
        problem,
        named.schedule,
        steps=T,
        eta=parameters.eta,
        rho=parameters.rho,
        gamma=named.gamma,
        replicas=replicas,
        seed=SEED,
    )
    bound = nonconvex_average.evaluate(
        schedule=named.schedule,
        steps=T,
        eta=parameters.eta,
        rho=parameters.rho,
        gamma=named.gamma,
        constants=problem.constants,
        gap=float(problem.gap(problem.start)),
    )
    metric = trajectories.weighted(nonconvex_average)
    low, high = metric.interval(CONFIDENCE)
    law = CostLaw(named.schedule, T)
    label = f"{problem_name}, {parameters.label}"
    row = {
        "problem": label,
        "schedule": named.label,
        "mean_p": law.mean / T,
        "steps": T,
        "eta": repr(parameters.eta),
        "rho": repr(parameters.rho),
        "gamma": named.gamma,
        "replicas": replicas,
        "measured": metric.mean,
        "standard_error": metric.standard_error,
        "low": low,
        "high": high,
        "bound": bound,
        "ratio": bound / metric.mean,
        "expected_pairs": T + law.mean,
        "measured_pairs": T + float(trajectories.extra_pairs.mean()),
    }
    return row, curve_row(trajectories, label, named.label, _CURVE_POINTS)
