"""Question: is the worst change of f in one step what the formulas say, in every regime?

Design: random steps (L, mu, p, eta, rho, gamma, G), equally many in every regime of every function class,
for normalized and unnormalized ascent; each formula beside the semidefinite program of the same step, which
is exact. Differences are in units of the value, or of a tenth of L times the squared radius where the value
is smaller, since ascent and descent may cancel. Rule fixed before the run: a formula is refuted where the
program exceeds it by more than 1e-4, and it is not sharp where it exceeds the program by more than 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments.pool import spread
from experiments.settings import Size
from rst_theory.bounds import one_step
from rst_theory.bounds.one_step import OneStepBound, Regime
from rst_theory.certificates import CertificateError, certify
from rst_theory.files import write_table
from rst_theory.notation import Ascent, ProblemConstants

__all__ = ["run"]

SEED = 20220309
TOLERANCE = 1e-4
_POINTS = {False: 60, True: 1020}  # per class and kind of ascent; True for the full form

FunctionClass = Literal["smooth", "convex", "strongly_convex"]

REGIMES: dict[FunctionClass, tuple[str, ...]] = {
    "smooth": tuple(regime.name.lower() for regime in Regime),
    "convex": ("flat", "curved"),
    "strongly_convex": ("flat", "curved"),
}
BOUNDS: dict[tuple[FunctionClass, Ascent], OneStepBound] = {
    ("smooth", "normalized"): one_step.one_step_smooth,
    ("convex", "normalized"): one_step.one_step_convex,
    ("strongly_convex", "normalized"): one_step.one_step_strongly_convex,
    ("smooth", "unnormalized"): one_step.one_step_smooth_unnormalized,
    ("convex", "unnormalized"): one_step.one_step_convex_unnormalized,
    ("strongly_convex", "unnormalized"): one_step.one_step_strongly_convex_unnormalized,
}


class Point(NamedTuple):
    """One step: the constants of the class, the parameters, and the gradient norm."""

    L: float
    mu: float
    p: float
    eta: float
    rho: float
    gamma: float
    G: float


def run(size: Size, results: Path) -> Iterator[float]:
    """Write one_step.csv and one_step.json; yields the share that is done."""
    tasks = [
        (function_class, ascent, regime, _POINTS[size.full] // len(REGIMES[function_class]))
        for function_class, ascent in BOUNDS
        for regime in REGIMES[function_class]
    ]
    rows: list[dict[str, str | int | float]] = []
    yield from spread(compare, tasks, size.processes, rows)
    write_table(results, "one_step", rows)


def compare(
    function_class: FunctionClass, ascent: Ascent, regime: str, points: int
) -> dict[str, str | int | float]:
    """One row of the table: formula less program at random points of one regime, in units of their scale.

    Points at which the program has no certified solution are drawn again, and counted.

    Raises:
        CertificateError: as many are such as points are wanted.
    """
    rng = np.random.default_rng([SEED, list(BOUNDS).index((function_class, ascent))])
    differences: list[float] = []
    unsolved = 0
    while len(differences) < points:
        point = _draw(rng, function_class, ascent)
        if _regime(point, function_class, ascent) == regime:
            try:
                differences.append(_difference(point, function_class, ascent))
            except CertificateError:
                unsolved += 1
                if unsolved >= points:
                    raise
    return {
        "function_class": function_class,
        "ascent": ascent,
        "regime": regime,
        "points": points,
        "unsolved": unsolved,
        "largest_difference": max(map(abs, differences)),
        "violations": sum(difference < -TOLERANCE for difference in differences),
        "not_sharp": sum(difference > TOLERANCE for difference in differences),
    }


def _draw(rng: np.random.Generator, function_class: FunctionClass, ascent: Ascent) -> Point:
    """Steps that fill the plane of eta L and G/(gamma L radius), half of them near the thin regime."""
    L, size = (10 ** rng.uniform(-1, 1, 2)).tolist()
    mu = L * rng.uniform(0.02, 0.9) if function_class == "strongly_convex" else 0.0
    if rng.random() < 0.5:
        gamma, e, ratio = 10 ** rng.uniform(-0.7, 1.2), rng.uniform(0.02, 2.5), rng.uniform(0.01, 1.3)
    else:
        u = rng.uniform(1, 1 + math.sqrt(1.5))
        gamma, ratio = rng.uniform(u, 16), rng.uniform(0, 1 - 1 / u)
        e = u / gamma
    if ascent == "normalized":
        rho, G = size, ratio * gamma * L * size
    else:
        rho, G = 1 / (ratio * gamma * L), size
    return Point(L, mu, rng.uniform(0, 1), e / L, rho, gamma, G)


def _radius(point: Point, ascent: Ascent) -> float:
    return point.rho if ascent == "normalized" else point.rho * point.G


def _regime(point: Point, function_class: FunctionClass, ascent: Ascent) -> str:
    """Of a smooth function, as in `one_step.regime`; of a convex one, which curvature is the worst."""
    L, mu, _, eta, _, gamma, G = point
    radius = _radius(point, ascent)
    if function_class == "smooth":
        return one_step.regime(eta * L, G / (L * radius), gamma).name.lower()
    return "curved" if L * eta * gamma * radius * (L + mu) / 2 >= (1 - L * eta) * G else "flat"


def _difference(point: Point, function_class: FunctionClass, ascent: Ascent) -> float:
    L, mu, p, eta, rho, gamma, G = point
    value = BOUNDS[function_class, ascent].evaluate(
        p=p, eta=eta, rho=rho, gamma=gamma, gradient_norm=G, constants=ProblemConstants(L=L, mu=mu)
    )
    worst = certify(
        p,
        steps=1,
        eta=eta,
        rho=rho,
        gamma=gamma,
        function_class=function_class,
        ascent=ascent,
        L=L,
        mu=mu,
        metric="change",
        gradient_norm=G,
    ).value
    return (value - worst) / max(abs(value), 0.1 * L * _radius(point, ascent) ** 2)
