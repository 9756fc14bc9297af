"""What a problem promises of its noise, by tests of a mean that hold whatever the law is.

They need no normal approximation and no fourth moment: each rejects a true hypothesis with at most a stated
probability, at any number of independent draws.
"""

from __future__ import annotations

import math

import numpy as np

from rst_theory.notation import FloatArray
from rst_theory.problems import Problem
from rst_theory.testing.contract import Promise
from rst_theory.testing.inequalities import ROUNDING, norm, points, shown_point, slope_rounding

__all__ = ["NOISE", "REPLICAS", "mean_exceeds", "mean_is_not_zero", "moments"]

REPLICAS = 4000
_BETS = np.array([0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005])


def mean_exceeds(draws: FloatArray, bound: float, alarm: float) -> bool:
    """Whether independent nonnegative draws refute that their mean is at most `bound`.

    If it is, then 1 + b (Z/bound - 1) has a mean of at most 1 and is nonnegative for each bet b in [0, 1];
    so has the product over the draws, and the average of the products over several bets. By Markov's
    inequality this passes 1/alarm with probability at most alarm. (Testing by betting: Shafer, JRSS A 184,
    2021; Waudby-Smith & Ramdas, JRSS B 86, 2024.)

    Args:
        draws: shape (R,), >= 0.
        bound: > 0.
        alarm: the probability of a false alarm.
    """
    logarithms = np.log1p(_BETS[:, None] * (draws / bound - 1)).sum(axis=1)
    return bool(np.logaddexp.reduce(logarithms) - np.log(_BETS.size) >= -np.log(alarm))


def mean_is_not_zero(draws: FloatArray, deviation: float, alarm: float) -> bool:
    """Whether independent draws refute that their mean is 0 and their variance at most deviation^2.

    With Catoni's function phi(u) = sign(u) log(1 + |u| + u^2/2) <= log(1 + u + u^2/2),

        E exp(sum of phi(s Z)) <= (1 + s^2 deviation^2/2)^R <= exp(R s^2 deviation^2/2)

    for either sign of s, and Markov's inequality does the rest; s is the best against a mean of
    deviation sqrt(2 log(2/alarm)/R), about the least that is found. (Catoni, Annales de l'IHP 48, 2012.)

    Args:
        draws: shape (R,).
        deviation: > 0.
        alarm: the probability of a false alarm.
    """
    needed = np.log(2 / alarm)
    scale = np.sqrt(2 * needed / draws.size) / deviation
    u = scale * draws
    total = (np.sign(u) * np.log1p(np.abs(u) + u * u / 2)).sum()
    return bool(abs(total) >= 2 * needed)  # R scale^2 deviation^2/2 = needed


def _noise(problem: Problem) -> str | None:
    x = points(problem, 7)
    minibatch, again = (problem.sample(np.random.default_rng(2), 7) for _ in range(2))
    first, second = (problem.stochastic_gradient(x, m) for m in (minibatch, again))
    if np.shape(first) != x.shape or not np.isfinite(first).all():
        return f"the stochastic gradient of 7 points has the shape {np.shape(first)}, or is not finite"
    if not np.array_equal(first, second):
        return f"equal generators give different noise: at x = {shown_point(x[0])} {first[0]} and {second[0]}"
    gradient = problem.gradient(x)
    if problem.constants.sigma == 0 and (norm(first - gradient) > slope_rounding(problem, x)).any():
        return (
            f"sigma = 0, but at x = {shown_point(x[0])} the gradient is {gradient[0]}, the stochastic one "
            f"{first[0]}"
        )
    return None


def _noise_at(problem: Problem, x: FloatArray, seed: int) -> FloatArray:
    minibatch = problem.sample(np.random.default_rng(seed), REPLICAS)
    rows = np.tile(x, (REPLICAS, 1))
    return np.asarray(problem.stochastic_gradient(rows, minibatch) - problem.gradient(rows))


def _places(problem: Problem) -> FloatArray:
    return np.stack([problem.start, points(problem, 1)[0]])


def _bias(problem: Problem, alarm: float) -> str | None:
    sigma, d = problem.constants.sigma, problem.dimension
    x, y = _places(problem)
    if sigma == 0:
        return None
    tests = [(_noise_at(problem, x, 3), sigma, f"at x = {shown_point(x)}")] if math.isfinite(sigma) else []
    between = f"between x = {shown_point(x)} and y = {shown_point(y)}, at the same minibatch"
    change = _noise_at(problem, x, 4) - _noise_at(problem, y, 4)
    tests.append((change, problem.constants.L * float(norm(x - y)), between))
    for draws, deviation, where in tests:
        draws = np.where(np.abs(draws) > 1e-9 * deviation, draws, 0.0)  # rounding
        for j in range(d):
            if mean_is_not_zero(draws[:, j], deviation, alarm / (len(tests) * d)):
                error = deviation / math.sqrt(REPLICAS)
                return (
                    f"{where}: the stochastic gradient less the gradient, in coordinate {j}, is "
                    f"{draws[:, j].mean():.3g} in the mean of {REPLICAS}; its standard error is {error:.2g}"
                )
    return None


def _variance(problem: Problem, alarm: float) -> str | None:
    sigma = problem.constants.sigma
    if sigma == 0 or not math.isfinite(sigma):
        return None
    for seed, x in enumerate(_places(problem), start=5):
        squared = norm(_noise_at(problem, x, seed)) ** 2
        if mean_exceeds(squared, sigma**2 * (1 + ROUNDING), alarm / 2):
            found = f"the squared noise is {squared.mean():.6g} in the mean of {REPLICAS}"
            return f"at x = {shown_point(x)}: {found}; allowed is sigma^2 = {sigma**2:.6g}"
    return None


def moments(alarm: float) -> tuple[Promise, Promise]:
    """The first two moments of the noise, with this probability of a false alarm for both together."""
    return (
        Promise("unbiased", "the mean stochastic gradient is the gradient", lambda p: _bias(p, alarm / 2)),
        Promise("sigma", "sigma^2 bounds the variance of the gradient", lambda p: _variance(p, alarm / 2)),
    )


NOISE = Promise("noise", "noise is a function of the generator; none where sigma = 0", _noise)
