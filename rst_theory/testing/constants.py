"""What a problem promises of its constants: L, mu and f_star, as inequalities over points."""

from __future__ import annotations

import math

import numpy as np

from rst_theory.notation import Assumption, FloatArray
from rst_theory.problems import Problem
from rst_theory.testing.contract import Promise
from rst_theory.testing.inequalities import (
    ROUNDING,
    Inequality,
    dot,
    norm,
    rounding,
    shown_point,
    slope_rounding,
)

__all__ = ["CONSTANTS"]


def _claims(problem: Problem) -> str | None:
    c, claims = problem.constants, problem.assumptions
    for wrong, words in (
        (Assumption.STRONGLY_CONVEX in claims and c.mu == 0, "strong convexity is claimed with mu = 0"),
        (
            Assumption.POLYAK_LOJASIEWICZ in claims and c.mu == 0,
            "the Polyak-Lojasiewicz inequality with mu = 0",
        ),
        (
            (Assumption.NOISELESS in claims) != (c.sigma == 0),
            f"noiseless goes with sigma = 0; sigma = {c.sigma}",
        ),
        (
            (Assumption.BOUNDED_VARIANCE in claims) != math.isfinite(c.sigma),
            f"a bounded variance goes with a finite sigma; sigma = {c.sigma}",
        ),
        (any(claim.of_the_run for claim in claims), "an assumption on the run is claimed of a problem"),
    ):
        if wrong:
            return words
    return None


def _lipschitz(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    change = norm(problem.gradient(x) - problem.gradient(y))
    return change, problem.constants.L * norm(x - y) + slope_rounding(problem, x) + slope_rounding(problem, y)


def _stochastic_lipschitz(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    minibatch = problem.sample(np.random.default_rng(1), len(x))
    gx, gy = problem.stochastic_gradient(x, minibatch), problem.stochastic_gradient(y, minibatch)
    size = ROUNDING * (norm(gx) + norm(gy))
    return norm(gx - gy), problem.constants.L * norm(x - y) + size + slope_rounding(problem, x)


def _off_tangent(problem: Problem, x: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(problem.value(y) - problem.value(x) - dot(problem.gradient(x), y - x))


def _allowance(problem: Problem, x: FloatArray, y: FloatArray) -> FloatArray:
    return rounding(problem, x) + rounding(problem, y) + slope_rounding(problem, x) * norm(y - x)


def _smooth(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    bend = problem.constants.L / 2 * norm(y - x) ** 2
    return np.abs(_off_tangent(problem, x, y)), bend + _allowance(problem, x, y)


def _curved(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    """Convexity, with mu where it is claimed to be strong."""
    if Assumption.CONVEX not in problem.assumptions:
        return np.zeros(len(x)), np.ones(len(x))
    mu = problem.constants.mu if Assumption.STRONGLY_CONVEX in problem.assumptions else 0.0
    return mu / 2 * norm(y - x) ** 2 - _allowance(problem, x, y), _off_tangent(problem, x, y)


def _polyak_lojasiewicz(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    if Assumption.POLYAK_LOJASIEWICZ not in problem.assumptions or problem.constants.f_star is None:
        return np.zeros(len(x)), np.ones(len(x))
    mu, G = problem.constants.mu, norm(problem.gradient(x))
    allowed = G**2 + 2 * G * slope_rounding(problem, x) + 2 * mu * rounding(problem, x)
    return 2 * mu * problem.gap(x), allowed


def _below(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    f_star = problem.constants.f_star
    if f_star is None:
        return np.zeros(len(x)), np.ones(len(x))
    f = problem.value(x)
    return np.full(len(x), f_star), f + rounding(problem, x) + ROUNDING * abs(f_star), f


def _attained(problem: Problem) -> str | None:
    f_star, minimizer = problem.constants.f_star, problem.minimizer
    if f_star is None or minimizer is None:
        return None
    f, size = float(problem.value(minimizer)), float(rounding(problem, problem.start))
    if abs(f - f_star) > 1e3 * (size + ROUNDING * abs(f_star)):
        return f"at the minimizer, x = {shown_point(minimizer)}, the value is {f}; f_star = {f_star}"
    return None


CONSTANTS = (
    Promise("claims", "the assumptions go with the constants", _claims),
    Inequality(
        "L",
        "the gradient is L-Lipschitz",
        _lipschitz,
        "the gradient changes by {0:.6g}; allowed is L ||x - y|| = {1:.6g}",
    ).promise(),
    Inequality(
        "L",
        "each stochastic gradient is L-Lipschitz",
        _stochastic_lipschitz,
        "at the same minibatch the gradient changes by {0:.6g}; allowed is L ||x - y|| = {1:.6g}",
    ).promise(),
    Inequality(
        "L",
        "f(y) is within L/2 ||y - x||^2 of the tangent plane at x",
        _smooth,
        "f(y) is {0:.6g} off the tangent plane; allowed is L/2 ||y - x||^2 = {1:.6g}",
    ).promise(),
    Inequality(
        "mu",
        "f is mu-strongly convex where that is claimed, or convex",
        _curved,
        "f(y) is {1:.6g} above the tangent plane at x; required is mu/2 ||y - x||^2 = {0:.6g}",
    ).promise(),
    Inequality(
        "mu",
        "the Polyak-Lojasiewicz inequality",
        _polyak_lojasiewicz,
        "||grad f||^2 = {1:.6g}; required is 2 mu (f - f_star) = {0:.6g}",
        pair=False,
    ).promise(),
    Inequality(
        "f_star", "no value is below f_star", _below, "the value is {2:.9g}, f_star = {0:.9g}", pair=False
    ).promise(),
    Promise("f_star", "the minimizer attains f_star", _attained),
)
