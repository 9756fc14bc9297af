"""A few thousand numbers that the package computes without torch, by name: what every version must agree on.

`python -m tests.campaigns.fingerprint FILE` writes them as JSON.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np

import rst_theory as rst
from rst_theory.files import write_json
from rst_theory.problems import FlatAndSharp, PiecewiseQuadratic, RippledQuadratic
from rst_theory.schedules import PRESETS

__all__ = ["PACKAGES", "fingerprint"]

PACKAGES = ("numpy", "scipy", "sympy", "matplotlib", "numba")
SCHEDULES = [
    *(rst.preset(name, p) for name in PRESETS for p in (0.25, 0.5)),
    *(rst.preset(name, 0.3, original=True) for name in PRESETS),
    rst.InverseSqrt(1),
    rst.Periodic(3),
    rst.FromExpression("(1 + sin(3*t/T))/2"),
    rst.Joined(((rst.Constant(0.2), 0.5), (rst.Cosine(1.0, 0.0), 0.5))),
]
QUADRATIC = rst.problems.Quadratic((0.1, 0.5, 1.0), noise=0.1)
PROBLEMS = {
    "quadratic": QUADRATIC,
    "noiseless": rst.problems.Quadratic((0.1, 0.5, 1.0)),
    "flat and sharp": FlatAndSharp(dimension=3, noise=0.1),
    "rippled": RippledQuadratic(dimension=3, noise=0.1),
    "two slopes": PiecewiseQuadratic((0.0,), (0.0,), 0.2, 1.0, noise=0.1),
}
HORIZONS = (1, 2, 7, 40)


def fingerprint() -> Iterator[tuple[str, float]]:
    """Each number with its name: schedules, means, cost laws, trials, bounds, simulations, allocations."""
    yield from _schedules()
    yield from _bounds()
    yield from _simulations()
    for budget, goal in product((0.2, 0.7), ("average", "last_iterate")):
        plan = rst.allocate(
            budget, steps=20, eta=0.5, rho=0.2, degree=0.2, constants=QUADRATIC.constants, goal=goal
        )
        yield from _each(f"allocation of {budget:g} for {goal}", plan.values(20))
    for p in (0.0, 0.5, 1.0):
        yield f"critical step size at p = {p}", rst.bounds.critical_step_size(L=1.0, rho=0.3, p=p)


def _schedules() -> Iterator[tuple[str, float]]:
    for schedule, steps in product(SCHEDULES, HORIZONS):
        name = f"{schedule} over {steps}"
        yield from _each(f"values of {name}", schedule.values(steps))
        yield f"mean of {name}", float(schedule.mean(steps))
        for kind in ("independent", "systematic"):
            law = rst.CostLaw(schedule, steps, kind=kind)
            yield from _each(f"{kind} law of {name}", [law.mean, law.variance, *law.pmf()])
            trials = rst.Trials(schedule.probabilities(steps), seed=7, kind=kind)
            yield from _each(f"{kind} trials of {name}", trials.sequence())


def _bounds() -> Iterator[tuple[str, float]]:
    for (name, problem), p, steps in product(PROBLEMS.items(), (0.0, 0.4, 1.0), (1, 12)):
        for ascent in ("normalized", "unnormalized"):
            found = rst.bounds.applicable(
                problem,
                ascent=ascent,
                schedule=p,
                steps=steps,
                eta=0.3,
                rho=0.1,
                gamma=1.0,
                gap=1.5,
                distance=2.0,
            )
            for bound, value in found:
                yield f"{bound.name} on {name}, {ascent}, p = {p}, {steps} steps", value


def _simulations() -> Iterator[tuple[str, float]]:
    for (name, problem), ascent in product(PROBLEMS.items(), ("normalized", "unnormalized")):
        run = rst.simulate(
            problem,
            rst.Linear(0.0, 1.0),
            steps=30,
            eta=0.2,
            rho=0.1,
            ascent=ascent,
            replicas=50,
            seed=3,
            backend="numpy",
        )
        yield from _each(f"squared gradients on {name}, {ascent}", run.squared_gradient_norm.mean)
        yield from _each(f"gaps on {name}, {ascent}", run.gap.mean)
        yield from _each(f"extra pairs on {name}, {ascent}", run.extra_pairs)


def _each(name: str, values: object) -> Iterator[tuple[str, float]]:
    for i, value in enumerate(np.asarray(values, dtype=float).ravel()):
        yield f"{name} [{i}]", float(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        found[package] = version(package)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    write_json(parser.parse_args().file, {"versions": _versions(), "numbers": dict(fingerprint())})
