"""Question: does every bound hold on random problems, schedules and parameters?

Design: each instance is drawn from its own seed: a problem with proved constants, a schedule of any family,
step sizes, radii and mixing coefficients that may vary over the steps, either ascent. It is simulated, and
the metric of every bound over a run that applies is set beside the bound.

Rule: an instance violates a bound where the measured mean exceeds it by more than rounding and the t quantile
at which all comparisons together have false-alarm probability 1e-6 (the mean of each group of replicas taken
as normal), and does so again in a second simulation with other random numbers and 16 times the replicas.
Where nothing is random one simulation decides; where coins are random and no replica differed from another,
none does. Rounding is 1e-9 of the bound and 1e-12 of the scale of the problem: a small gap is the difference
of numbers of that scale, and the least value of f may itself be known to twelve digits only.

A first run over all instances had no allowance for the scale, and took a standard error of 0 for the absence
of chance. It flagged 31 comparisons: converged runs, whose last gap is below the rounding of f, and runs
whose rare coins came up in no replica. The rule was mended in these two points, and everything run anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

import rst_theory as rst
from experiments.pool import spread
from experiments.settings import Size
from rst_theory.bounds import ALL, RunBound, applicable
from rst_theory.files import write_table
from rst_theory.notation import Ascent
from rst_theory.problems import (
    FlatAndSharp,
    LogisticRegression,
    PiecewiseQuadratic,
    Problem,
    Quadratic,
    RippledQuadratic,
)
from rst_theory.schedules import Schedule
from rst_theory.simulation import DivergenceError, Estimate, simulate

__all__ = ["Comparison", "Instance", "compare", "draw", "run"]

SEED = 22030996
REPLICAS = 256
FALSE_ALARM = 1e-6
ROUNDING = 1e-9
_SCALE = 1e-12
_CONFIRMING = 16
_CHUNK = 500
_LONGEST = 16


class Instance(NamedTuple):
    """A problem and a run on it."""

    seed: int
    problem: Problem
    schedule: Schedule
    steps: int
    eta: Schedule
    rho: Schedule
    gamma: Schedule
    ascent: Ascent


class Comparison(NamedTuple):
    """A bound beside what was measured: bound over measured, unless that is mere rounding; the verdict."""

    bound: str
    ratio: float | None
    violated: bool


def run(size: Size, results: Path) -> Iterator[float]:
    """Write agreement.csv and agreement.json; yields the share that is done."""
    firsts = range(0, size.instances, _CHUNK)
    tasks = [(first, min(first + _CHUNK, size.instances), size.instances) for first in firsts]
    chunks: list[list[Comparison]] = []
    yield from spread(compare_all, tasks, size.processes, chunks)
    compared: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in (c for chunk in chunks for c in chunk):
        compared[comparison.bound].append(comparison)
    ratios = {name: [c.ratio for c in group if c.ratio is not None] for name, group in compared.items()}
    write_table(
        results,
        "agreement",
        [
            {
                "bound": name,
                "instances": size.instances,
                "compared": len(compared[name]),
                "violations": sum(c.violated for c in compared[name]),
                "least_ratio": min(ratios[name]),
                "median_ratio": float(np.median(ratios[name])),
                "tolerance": ROUNDING,
                "false_alarm": FALSE_ALARM,
            }
            for name in ALL
            if ratios.get(name)
        ],
    )


def compare_all(first: int, end: int, instances: int) -> list[Comparison]:
    """The comparisons of the instances first, …, end - 1 of so many."""
    alarm = FALSE_ALARM / (instances * len(ALL))
    return [comparison for i in range(first, end) for comparison in compare(draw(i), alarm)]


def compare(instance: Instance, alarm: float) -> list[Comparison]:
    """Every bound that applies to the instance, beside its simulation; none where it diverged.

    Args:
        instance: what is run.
        alarm: the false-alarm probability of one comparison.
    """
    problem = instance.problem
    applying = applicable(
        problem,
        ascent=instance.ascent,
        schedule=instance.schedule,
        steps=instance.steps,
        eta=instance.eta,
        rho=instance.rho,
        gamma=instance.gamma,
        gap=float(problem.gap(problem.start)),
        distance=float(np.sqrt(problem.squared_distance(problem.start))),
    )
    if not applying:
        return []
    try:
        first = _simulate(instance, REPLICAS, seed=0)
    except DivergenceError:
        return []
    compared = []
    chance = _is_random(instance)
    for bound, value in applying:
        rounding = ROUNDING * value + _SCALE * _scale(instance, bound)
        measured = first.weighted(bound)
        violated = _exceeds(measured, value + rounding, alarm)
        if violated and chance:
            again = _simulate(instance, _CONFIRMING * REPLICAS, seed=1).weighted(bound)
            violated = again.standard_error > 0 and _exceeds(again, value + rounding, alarm)
        told = measured.mean > 1e3 * _SCALE * _scale(instance, bound)
        compared.append(Comparison(bound.name, value / measured.mean if told else None, violated))
    return compared


def _exceeds(measured: Estimate, value: float, alarm: float) -> bool:
    quantile = float(-special.stdtrit(measured.degrees_of_freedom, alarm))
    return measured.mean - quantile * measured.standard_error > value


def _is_random(instance: Instance) -> bool:
    p = instance.schedule.values(instance.steps)
    return instance.problem.constants.sigma > 0 or bool(((p > 0) & (p < 1)).any())


def _scale(instance: Instance, bound: RunBound) -> float:
    """What the metric is at the start, and where it is a gap at least the size of f and 1."""
    problem = instance.problem
    match str(bound.metric.quantity).removeprefix("final_"):
        case "squared_gradient_norm":
            return float((problem.gradient(problem.start) ** 2).sum())
        case "squared_distance":
            return float(problem.squared_distance(problem.start))
    f_star = problem.constants.f_star or 0.0
    return max(1.0, abs(f_star), float(problem.gap(problem.start)))


def _simulate(instance: Instance, replicas: int, seed: int) -> Any:
    return simulate(
        instance.problem,
        instance.schedule,
        steps=instance.steps,
        eta=instance.eta,
        rho=instance.rho,
        gamma=instance.gamma,
        ascent=instance.ascent,
        replicas=replicas,
        seed=2 * instance.seed + seed,
    )


def draw(index: int) -> Instance:
    """The instance of this index, 0, 1, …: a pure function of it."""
    rng = np.random.default_rng([SEED, index])
    problem = _PROBLEMS[rng.integers(len(_PROBLEMS))](rng)
    T = int(rng.integers(1, _LONGEST + 1))
    L = problem.constants.L
    eta = _positive(rng, low=0.02 / L, high=rng.choice([1.0, 1.99]) / L)
    reach = float(np.linalg.norm(problem.start)) + 0.1
    ascent: Ascent = "normalized" if rng.random() < 0.5 else "unnormalized"
    radius = reach if ascent == "normalized" else 1 / L
    return Instance(
        seed=index,
        problem=problem,
        schedule=_probability(rng, T),
        steps=T,
        eta=eta,
        rho=_positive(rng, low=0.01 * radius, high=radius),
        gamma=rst.Constant(1.0) if rng.random() < 0.3 else _positive(rng, low=0.1, high=3.0),
        ascent=ascent,
    )


def _noise(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.0, 0.03, 0.3, 1.0]))


def _quadratic(rng: np.random.Generator) -> Problem:
    d = int(rng.integers(1, 4))
    eigenvalues = 10 ** rng.uniform(-2, 1, d)
    return Quadratic(eigenvalues, noise=_noise(rng), start=rng.standard_normal(d))


def _convex_pieces(rng: np.random.Generator) -> Problem:
    """Curvatures in [mu, L], drawn piece by piece."""
    slopes = rng.choice([rng.uniform(0, 0.3), 1.0], size=int(rng.integers(2, 6)))
    return _pieces(rng, np.maximum(slopes, 1e-3))


def _rough_pieces(rng: np.random.Generator) -> Problem:
    """Curvatures of either sign, positive far out so that phi is bounded below."""
    slopes = rng.choice([-1.0, 0.2, 1.0], size=int(rng.integers(3, 7)))
    slopes[[0, -1]] = 1.0
    return _pieces(rng, slopes)


def _pieces(rng: np.random.Generator, slopes: np.ndarray[Any, np.dtype[np.float64]]) -> Problem:
    knots = np.cumsum(rng.uniform(0.05, 1.0, slopes.size - 1))
    heights = rng.normal() + np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(knots))])
    start = rng.uniform(knots[0] - 1, knots[-1] + 1)
    return PiecewiseQuadratic(
        knots, heights, float(slopes[0]), float(slopes[-1]), noise=_noise(rng), start=[start]
    )


def _logistic(rng: np.random.Generator) -> Problem:
    features = rng.standard_normal((6, 2))
    labels = rng.choice([-1.0, 1.0], 6)
    batch = None if rng.random() < 0.5 else 2
    return LogisticRegression(features, labels, l2=float(10 ** rng.uniform(-2, 0)), batch=batch)


_PROBLEMS = (
    _quadratic,
    _convex_pieces,
    _rough_pieces,
    _logistic,
    lambda rng: RippledQuadratic(rng.uniform(0.55, 2.0), noise=_noise(rng), start=[rng.uniform(-4, 4)]),
    lambda rng: FlatAndSharp(noise=_noise(rng), start=[rng.uniform(-1, 6)]),
)


def _positive(rng: np.random.Generator, low: float, high: float) -> Schedule:
    """A schedule of any shape with values in [low, high]."""
    a, b = low * (high / low) ** rng.uniform(size=2)
    return (
        rst.Constant(a),
        rst.Linear(a, b),
        rst.Cosine(a, b),
        rst.InverseSqrt(a),
        rst.Piecewise(a, b, rng.uniform()),
    )[rng.integers(5)]


def _probability(rng: np.random.Generator, T: int) -> Schedule:
    """A schedule of any family with values in [0, 1]; certain trials and none among them."""
    a, b = rng.choice([0.0, 1.0, *rng.uniform(size=4)], size=2)
    return (
        rst.Constant(a),
        rst.Linear(a, b),
        rst.Cosine(a, b),
        rst.Piecewise(a, b, rng.uniform()),
        rst.InverseSqrt(a),
        rst.Periodic(int(rng.integers(1, 5))),
        rst.Tabulated(tuple(rng.uniform(size=T))),
        rst.Joined(((rst.Constant(a), 0.5), (rst.Linear(0.0, b), 0.5))),
    )[rng.integers(8)]
