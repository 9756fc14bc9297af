"""How much one step with unnormalized ascent contracts on strongly convex objectives; without noise.

The least factor kappa with E V(x+) <= kappa V(x), where V is the squared distance to the minimizer or the
gap f - f_star. Proof: `paper_notes/strongly_convex.md#contraction`. Symbol key, in units of 1/L: e = L eta,
r = L rho, m = mu/L. Along a direction of curvature j in {m, 1} a step of gradient descent multiplies by
1 - e j, and a perturbed one by 1 - e j (1 + gamma r B) with B in [m, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from rst_theory.notation import FloatArray

__all__ = ["contraction"]

_POINTS, _ROUNDS = 12, 14  # of the searches: they leave 4e-11 of an interval
_SMALLEST = 1e-200  # keeps the divisions defined where a step is never perturbed


class _Steps(NamedTuple):
    """The steps, arrays (T,): what multiplies z and a, in units of 1/L.

    Gradient descent leads to flat z + steep a, and a perturbed step to alpha z + beta a - w b.
    """

    p: FloatArray
    r: FloatArray
    flat: FloatArray
    steep: FloatArray
    alpha: FloatArray
    beta: FloatArray
    w: FloatArray


def contraction(
    quantity: Literal["squared_distance", "gap"],
    p: FloatArray,
    eta: FloatArray,
    rho: FloatArray,
    gamma: FloatArray,
    L: float,
    mu: float,
) -> FloatArray:
    """The contraction factor of each step; all arrays are float64 (T,), and so is the result.

    Every choice of multipliers proves a factor. The best is known in closed form where the worst case is a
    function of one variable of curvatures mu and L; elsewhere it is searched numerically, and whatever a
    search returns is proved.

    Args:
        quantity: what is contracted.
        p: probabilities.
        eta: step sizes, eta >= 0.
        rho: radii, rho >= 0.
        gamma: mixing coefficients, gamma >= 0.
        L: smoothness constant, L > 0.
        mu: curvature constant, 0 < mu <= L; for the squared distance 0 is allowed.
    """
    m, gap = mu / L, quantity == "gap"
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite factor is a factor
        e, r = L * eta, np.maximum(L * rho, _SMALLEST)
        flat, steep, boost = 1 - e * m, 1 - e, gamma * r
        s = _Steps(p, r, flat, steep, flat - e * boost * m**2, steep - e * boost * m, e * boost * (1 - m))
        attained = [
            (1 - p) * (1 - e * x) ** 2 + p * (1 - e * x * (1 + boost * y)) ** 2
            for x in (m, 1.0)
            for y in (m, 1.0)
        ]
        kappa = _closed(s, m, gap)
        unsettled = kappa > np.max(attained, axis=0) * (1 + 1e-13)
        if unsettled.any():
            rest = _Steps(*(x[unsettled] for x in s))
            kappa[unsettled] = np.minimum(kappa[unsettled], _searched(rest, m, gap))
    return kappa


def _factor(
    s: _Steps, m: float, gap: bool, b: FloatArray, theta: FloatArray, tau: FloatArray | None = None
) -> FloatArray:
    """The factor proved by b = 2 lambda - p w^2 > 0, 0 <= tau <= lambda/r and 0 <= theta <= 1.

    For the distance theta plays no part. Without tau it is what brings zeta nearest to 0.
    """
    multiplier = (s.p * s.w**2 + b) / 2
    unit, rigid = m if gap else 1.0, np.maximum(s.flat, 0)
    low, low_adv = s.flat - (1 - unit) * rigid, s.alpha - (1 - unit) * theta
    if tau is None:
        tau = np.clip(s.p * s.w * low_adv - multiplier * m, 0, multiplier / s.r)
    zeta, omega = s.p * s.w * low_adv - multiplier * m - tau, s.p * s.w * s.beta - multiplier
    Z = (1 - s.p) * (unit * s.flat**2 + (1 - unit) * (s.flat - rigid) ** 2) + zeta**2 / b
    Z = Z + s.p * (unit * s.alpha**2 + (1 - unit) * (s.alpha - theta) ** 2)
    A = (1 - s.p) * s.steep**2 + s.p * s.beta**2 + omega**2 / b
    C = (1 - s.p) * low * s.steep + s.p * low_adv * s.beta + zeta * omega / b
    kappa = _least(unit, Z, A, unit, C + tau / s.r)
    if gap:
        kappa = np.maximum(kappa, _least(unit, Z, A, 1.0, C + (1 - m) * ((1 - s.p) * rigid + s.p * theta)))
    return np.where(np.isnan(kappa), np.inf, kappa)  # out of the floating range nothing is proved


def _closed(s: _Steps, m: float, gap: bool) -> FloatArray:
    """The factor of the multipliers that are best for the steep direction, moved to suit the flat one."""
    theta = np.maximum(s.alpha, 0)
    pull = 2 * theta * (m if gap else 1.0)
    most = pull / m - s.w if m > 0 else np.inf
    b = np.clip(np.abs(2 * s.beta - s.w), pull * s.r / (1 + m * s.r) - s.w, most)  # in units of p w
    return _factor(s, m, gap, np.maximum(s.p * s.w, _SMALLEST) * np.maximum(b, 1e-14), theta)


def _searched(s: _Steps, m: float, gap: bool) -> FloatArray:
    """The least factor over lambda and tau, or for the gap over lambda and theta; one search in another."""

    def best_other(scale: FloatArray) -> FloatArray:
        b = np.maximum(s.p * s.w, _SMALLEST) * (1 + s.w + np.abs(s.beta)) * np.exp(scale)
        zero = np.zeros_like(b)
        if gap:
            return _minimum(lambda theta: _factor(s, m, gap, b, theta), zero, zero + 1)
        multiplier = (s.p * s.w**2 + b) / 2
        most = np.minimum(multiplier / s.r, multiplier + s.p * s.w * (1 + np.abs(s.alpha)))
        return _minimum(lambda tau: _factor(s, m, gap, b, zero, tau), zero, most)

    return _minimum(best_other, np.full_like(s.p, -26.0), np.full_like(s.p, 10.0))


def _least(unit: float, Z: FloatArray, A: FloatArray, slope: float, C: FloatArray) -> FloatArray:
    """The least kappa for which some o <= slope kappa - C makes [[unit kappa - Z, o], [o, kappa - A]] >= 0.

    That is low = max(Z/unit, A) where slope low >= C, and else low + x with the root x >= 0 of
    unit x (x + apart) = (missing - slope x)^2, apart the distance of the two and missing = C - slope low;
    written so that nothing cancels.
    """
    low = np.maximum(Z / unit, A)
    apart, missing = low - np.minimum(Z / unit, A), np.maximum(C - slope * low, 0)
    root = np.sqrt(unit * (unit * apart**2 + 4 * slope * apart * missing + 4 * missing**2))
    below = unit * apart + 2 * slope * missing + root
    return np.asarray(low + 2 * missing * (missing / np.maximum(below, 1e-300)))


def _minimum(f: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """The least value that repeated grids find of convex functions of one variable, elementwise.

    The grid is a new leading axis of the argument; the next one lies between the neighbours of the best
    point, where the minimum of a convex function is.
    """
    for _ in range(_ROUNDS):
        points = np.linspace(low, high, _POINTS)
        values = f(points)
        best = values.argmin(axis=0)[None]
        low = np.take_along_axis(points, np.maximum(best - 1, 0), 0)[0]
        high = np.take_along_axis(points, np.minimum(best + 1, _POINTS - 1), 0)[0]
    return np.asarray(values.min(axis=0))
