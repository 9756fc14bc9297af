"""The best probabilities under a budget of extra propagation pairs, at a given degree of regularization.

At a fixed degree q_t the probability enters the bounds only through the second moment of the trial,
q_t gamma_t = q_t^2/p_t, so what a schedule costs in accuracy is sum_t w_t^2/p_t with weights w_t that the
goal decides. It is made least under sum_t p_t = B by water-filling. Proofs: `paper_notes/allocation.md`.
"""

from __future__ import annotations

import bisect
import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from rst_theory.bounds import Parameter, Setting, settle
from rst_theory.bounds.base import STEP_SIZE
from rst_theory.notation import (
    QUANTITIES,
    DomainError,
    FloatArray,
    Interval,
    ProblemConstants,
    Quantity,
)
from rst_theory.schedules import Tabulated, sequence

__all__ = ["Goal", "allocate", "trial_weights", "water_filling"]

Goal: TypeAlias = Literal["average", "last_iterate"]


def allocate(
    budget: float,
    *,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    degree: Parameter,
    constants: ProblemConstants,
    goal: Goal = "average",
    spectrum: npt.ArrayLike | None = None,
    max_gamma: float | None = None,
) -> Tabulated:
    """The schedule of mean at most `budget` that makes a bound least at the given degrees.

    It is p_t = min(1, max(q_t/max_gamma, c w_t)) with the weights w_t of `trial_weights` and the c that
    spends the budget. What cannot lower the bound is not spent: p_t is least where w_t = 0.
    `matched_gamma(schedule, steps, degree)` gives the mixing coefficients that go with it.

    Args:
        budget: the largest mean of p_t, in [0, 1]: extra pairs per step.
        steps: T >= 1.
        eta: step sizes: a number, an array (T,) or a schedule; likewise rho and degree.
        rho: radii.
        degree: q_t >= 0.
        constants: of the problem.
        goal: "average" or "last_iterate".
        spectrum: the eigenvalues of a quadratic, as in `trial_weights`.
        max_gamma: the largest mixing coefficient allowed; None for no limit.

    Returns:
        The probabilities as a `Tabulated` schedule of length T.

    Raises:
        ValueError: an unknown goal.
        DomainError: what `trial_weights` refuses, another parameter outside its domain, or a budget too small
            for the degrees: none at all, or less than max_gamma asks for.
    """
    w = trial_weights(
        steps=steps, eta=eta, rho=rho, degree=degree, constants=constants, goal=goal, spectrum=spectrum
    )
    mean = QUANTITIES["p"].check(budget)
    least = np.zeros(w.size)
    if max_gamma is not None:
        with np.errstate(over="ignore"):  # infinite where no budget is enough
            least = sequence(degree, w.size, QUANTITIES["degree"]) / _LIMIT.check(max_gamma)
    return Tabulated(tuple(water_filling(w, mean * w.size, least)))


def trial_weights(
    *,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    degree: Parameter,
    constants: ProblemConstants,
    goal: Goal = "average",
    spectrum: npt.ArrayLike | None = None,
) -> FloatArray:
    """The weights w_t: at fixed degrees, trials add a multiple of sum_t w_t^2/p_t to a bound.

        average:       w_t = eta_t rho_t q_t, in the master bound on the average squared gradient;
        last_iterate:  w_t = eta_t rho_t q_t sqrt(v_t), v_t = prod_{s>t} (1 - mu a_s), in the plain recursion
                       of the gap under the Polyak-Lojasiewicz inequality that the note unrolls.

    On a quadratic of known spectrum what a trial adds is followed to the end of the run:
    w_t = eta_t rho_t q_t sqrt(max_i V_t(lam_i)) with V_t(lam) = r_{t+1} + (1 - eta_{t+1} lam)^2 V_{t+1}(lam);
    r_t = a_t lam^4 and V_{T-1} = 0 for the average, r_t = 0 and V_{T-1} = lam^3 for the last iterate.

    Args:
        steps: T >= 1.
        eta: step sizes: a number, an array (T,) or a schedule; likewise rho and degree.
        rho: radii.
        degree: q_t >= 0.
        constants: of the problem; the last iterate needs mu > 0 or a spectrum.
        goal: "average" or "last_iterate".
        spectrum: the eigenvalues of a quadratic, in [0, L], not all 0, shape (d,); None where f is none.

    Returns:
        float64 (T,).

    Raises:
        ValueError: an unknown goal.
        DomainError: a parameter outside its domain, eta_t outside (0, 2/L), mu = 0 for the last iterate
            without a spectrum, or a weight beyond the floating range.
    """
    if goal not in ("average", "last_iterate"):
        raise ValueError(f"goal must be 'average' or 'last_iterate'; got {goal!r}")
    run = settle(0.0, steps, eta, rho, 1.0, constants)
    STEP_SIZE.require(run)
    with np.errstate(over="ignore", invalid="ignore"):
        w = run.eta * run.rho * sequence(degree, run.T, QUANTITIES["degree"])
    if not np.isfinite(w).all():
        raise DomainError("eta_t rho_t q_t within the floating range", math.inf, f"t = {np.argmax(w)}")
    if spectrum is not None:
        return np.asarray(w * np.sqrt(_followed(run, _eigenvalues(spectrum, constants.L), goal)))
    if goal == "last_iterate":
        if constants.mu == 0:
            raise DomainError("mu > 0 for the last iterate, or a spectrum", constants.mu)
        return np.asarray(w * np.sqrt(_kept(constants.mu * run.a)))
    return np.asarray(w)


def _kept(contraction: FloatArray) -> FloatArray:
    """For each t the product over s > t of 1 - contraction_s: what is left at the end of an error at t."""
    later = np.cumsum(np.log1p(-contraction[::-1]))[::-1]
    return np.asarray(np.exp(np.append(later[1:], 0.0)))


def _eigenvalues(spectrum: npt.ArrayLike, L: float) -> FloatArray:
    quantity = Quantity("spectrum", "eigenvalue", "lam", Interval(0.0, L))
    lam = quantity.check_all(spectrum)
    if lam.ndim != 1 or not lam.any():
        raise DomainError("a spectrum of shape (d,), not all 0", lam)
    return lam


def _followed(run: Setting, lam: FloatArray, goal: Goal) -> FloatArray:
    """V_t: what a unit of variance that the trial of step t adds is worth in the metric, at the most."""
    T = run.T
    V = np.zeros((T, lam.size))
    V[-1] = lam**3 if goal == "last_iterate" else 0.0
    for t in range(T - 2, -1, -1):
        gained = 0.0 if goal == "last_iterate" else run.a[t + 1] * lam**4
        V[t] = gained + (1 - run.eta[t + 1] * lam) ** 2 * V[t + 1]
    return np.asarray(V.max(axis=1))


def water_filling(weights: npt.ArrayLike, budget: float, least: npt.ArrayLike = 0.0) -> FloatArray:
    """The probabilities that make sum_t w_t^2/p_t least under sum_t p_t <= budget and least_t <= p_t <= 1.

    They are p_t = min(1, max(least_t, c w_t)) with one c for all t; where w_t = 0 the least.

    Args:
        weights: w_t >= 0, shape (T,).
        budget: B >= 0.
        least: in [0, 1], shape (T,) or a number.

    Raises:
        DomainError: a number outside its domain, a budget less than the sum of the least, or one that
            leaves nothing for a positive weight.
    """
    w = _WEIGHT.check_all(weights)
    low = np.broadcast_to(QUANTITIES["p"].check_all(least), w.shape)
    B = _BUDGET.check(budget)
    if low.sum() > B * (1 + _ROUNDING):
        raise DomainError(f"budget >= {low.sum():g}, the sum of the least probabilities", B)
    B = max(B, float(low.sum()))
    if low.sum() == B and (low[w > 0] == 0).any():
        raise DomainError(f"budget > {low.sum():g}, so that every positive weight has its share", B)
    if w.any():
        w = w / w.max()
    wanted = w > 0
    if np.where(wanted, 1.0, low).sum() <= B:
        return np.where(wanted, 1.0, low)
    # The sum over t is piecewise linear and increasing in c; its knots are where a probability leaves its
    # least value or reaches 1. The first knot, 0, is always within the budget.
    leaves, full = low[wanted] / w[wanted], 1 / w[wanted]
    knots = np.unique(np.concatenate([[0.0], leaves, full]))
    before = knots[bisect.bisect_right(knots, B, key=lambda c: _filled(c, w, low).sum()) - 1]
    moving = w[wanted][(leaves <= before) & (before < full)]
    rest = B - _filled(before, w, low).sum()
    return _filled(before + rest / moving.sum() if moving.size else before, w, low)


def _filled(c: float, w: FloatArray, low: FloatArray) -> FloatArray:
    return np.asarray(np.minimum(1.0, np.maximum(low, c * w)))


_ROUNDING = 1e-12  # relative: sums of equal numbers in another order
_WEIGHT = Quantity("weights", "weight", "w", Interval(low=0.0))
_BUDGET = Quantity("budget", "budget", "B", Interval(low=0.0))
_LIMIT = Quantity("max_gamma", "largest mixing coefficient", r"\bar\gamma", Interval(low=0.0, low_open=True))
