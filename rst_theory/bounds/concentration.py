"""Bounds that hold with high probability, over the trials and the noise, for the run at hand.

The average squared gradient of one run exceeds them with probability at most alpha = 1 - confidence.
Each is the master bound at the trials' worst tilt: probabilities pi_t >= p_t, which cost their relative
entropy KL(pi_t || p_t), at a total price of ln(1/alpha).

Proofs: `paper_notes/high_probability.md`. Symbol key in `rst_theory.bounds.base`, and: ell = ln(1/alpha),
s the noise in the worst direction, lam the parameter of the exponential supermartingale, nu the
multiplier of the descent inequality.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rst_theory.bounds.average import WEIGHTED_AVERAGE, indexed, nonconvex_average
from rst_theory.bounds.base import (
    NO_NOISE,
    STEP_SIZE,
    A,
    Bound,
    Metric,
    Parameter,
    Setting,
    Symbolic,
    settle,
)
from rst_theory.notation import QUANTITIES, DomainError, FloatArray, Interval, ProblemConstants, Quantity
from rst_theory.schedules import Schedule

if TYPE_CHECKING:
    import sympy

__all__ = ["ConfidenceBound", "nonconvex_average_confidence", "nonconvex_average_confidence_noisy"]

_CONFIDENCE = Quantity("confidence", "level of", r"1 - \alpha", Interval(0.0, 1.0, True, True))
_DIRECTIONAL_NOISE = Quantity("directional_noise", "noise level", "s", QUANTITIES["sigma"].domain)
_HALVINGS = 40

QUANTILE = Metric(
    name="average squared gradient of one run, weighted by a_t, exceeded with probability at most alpha",
    latex=r"Q_{1-\alpha}\left[\frac{1}{W} \sum_{t=0}^{T-1} a_t\, \|\nabla f(x_t)\|^2\right]",
    weights=WEIGHTED_AVERAGE.weights,
)


class Gamble(NamedTuple):
    """A run, the confidence 1 - alpha that is asked of its bound, and the directional noise s."""

    run: Setting
    confidence: float
    s: float


@dataclass(frozen=True, repr=False)
class ConfidenceBound(Bound):
    """A bound on the weighted sum of one run that fails with probability at most 1 - confidence."""

    def evaluate(
        self,
        *,
        schedule: Schedule | float,
        steps: int,
        eta: Parameter,
        rho: Parameter,
        constants: ProblemConstants,
        gap: float,
        gamma: Parameter = 1.0,
        confidence: float = 0.99,
        directional_noise: float | None = None,
    ) -> float:
        """The value that the metric of a run exceeds with probability at most 1 - confidence.

        Args:
            schedule: p(t), or a number.
            steps: T >= 1.
            eta: step sizes: a number, an array (T,) or a schedule; likewise rho and gamma.
            rho: radii.
            constants: of the problem; sigma^2 bounds the trace of the noise's covariance proxy.
            gap: f(x_0) - f_star >= 0.
            gamma: mixing coefficients.
            confidence: 1 - alpha, in (0, 1).
            directional_noise: s in [0, sigma]; s^2 bounds the largest eigenvalue of that proxy. sigma
                where not given; sigma / sqrt(d) for noise with equal, independent coordinates.

        Raises:
            DomainError: a parameter outside its domain, or a violated condition of the bound, with the
                value and its t.
        """
        run = settle(
            schedule=schedule, steps=steps, eta=eta, rho=rho, gamma=gamma, constants=constants, gap=gap
        )
        s = run.sigma if directional_noise is None else _DIRECTIONAL_NOISE.check(directional_noise)
        if s > run.sigma:
            raise DomainError(f"directional_noise <= sigma = {run.sigma:g}", s)
        for condition in self.domain:
            condition.require(run)
        return float(self.formula(Gamble(run, _CONFIDENCE.check(confidence), s)))


def _quantile(gamble: Gamble) -> float:
    """The smallest of three: at the worst tilt, by Markov's inequality, and, without noise, for sure."""
    run = gamble.run
    candidates = [_tilted(gamble), nonconvex_average.formula(run) / (1 - gamble.confidence)]
    if run.sigma == 0:
        candidates.append(nonconvex_average.formula(dataclasses.replace(run, p=np.sign(run.p))))
    return min(candidates)


class _Steps(NamedTuple):
    """The steps of a run as numbers (k,), equal ones merged; n says how many.

    A perturbed step raises f by at most v G + w + y ||z||, with z the noise, beyond what SGD does.
    """

    n: FloatArray
    p: FloatArray
    a: FloatArray
    v: FloatArray
    w: FloatArray
    y: FloatArray
    drift: FloatArray  # L eta^2 / 2
    cross: FloatArray  # eta^2 (1 - L eta)^2 / 2
    spread: FloatArray  # 1 - D = lam spread


def _steps(gamble: Gamble) -> _Steps:
    run, s = gamble.run, gamble.s
    table, count = np.unique(
        np.stack([run.p, run.eta, run.rho, np.where(run.p > 0, run.gamma, 0.0)]), axis=1, return_counts=True
    )
    (p, eta, rho, gamma), L, sigma = table, run.L, run.sigma
    r = s / sigma if sigma > 0 else 0.0
    return _Steps(
        n=count.astype(np.float64),
        p=p,
        a=eta * (1 - L * eta / 2),
        v=eta * gamma * abs(1 - L * eta) * L * rho,
        w=L * eta**2 / 2 * (gamma * L * rho) ** 2,
        y=gamma * L**2 * rho * eta**2,
        drift=L * eta**2 / 2,
        cross=(eta * (1 - L * eta)) ** 2 / 2,
        spread=r * s * L * eta**2 * (sigma + gamma * L * rho),
    )


def _tilted(gamble: Gamble) -> float:
    """The tilted bound, least over lam and nu; every feasible pair gives a valid bound.

    It is jointly convex in (nu, nu/lam), so a local search in two dimensions finds its minimum.
    """
    from scipy.optimize import minimize

    run, steps, s = gamble.run, _steps(gamble), gamble.s
    ell = -math.log1p(-gamble.confidence)

    def logarithm(point: FloatArray) -> float:
        lam, excess = np.exp(np.clip(point, -200.0, 200.0))
        return math.log(_value(steps, run, s, ell, float(lam), float(excess)))

    start = np.log(_start(steps, run, s, ell))
    found = minimize(
        logarithm,
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": start + np.array([[0.0, 0.0], [0.7, 0.0], [0.0, 0.7]]),
            "fatol": 1e-10,
            "maxfev": 300,
        },
    )
    return math.exp(found.fun) / float((steps.n * steps.a).sum())


def _value(steps: _Steps, run: Setting, s: float, ell: float, lam: float, excess: float) -> float:
    """W times the tilted bound at lam and nu = (1 + excess) max a/a'; 1e300 where lam is too large."""
    n, p, a, v, w, y, drift, cross, spread = steps
    D = 1 - lam * spread
    if D.min() <= 0:
        return 1e300
    remaining = a - lam * cross * s**2 / D  # a'
    if remaining.min() <= 0:
        return 1e300
    least = float((a / remaining).max())
    nu = (1 + excess) * least
    spare = excess * least * remaining + np.maximum(least * remaining - a, 0.0)  # nu a' - a
    worst = _worst_tilt(
        p,
        linear=nu * (w + y * run.sigma * (1 + 1 / D) / 2),
        square=(nu * v) ** 2 / (4 * spare),
        price=nu / lam,
    )
    return float(nu * (run.gap + ell / lam + (n * drift / D).sum() * run.sigma**2) + (n * worst).sum())


def _worst_tilt(p: FloatArray, linear: FloatArray, square: FloatArray, price: float) -> FloatArray:
    """The maximum over pi in [p, 1] of h = linear pi + square pi^2 - price KL(pi || p), elementwise.

    h can have two maxima, but h(1/2 + x) - h(1/2 - x) = 2 x h'(1/2), so the larger one lies on the side of
    1/2 to which h' points there. On that side h' changes its sign once: bisection, from 1/2, finds it.
    """
    from scipy.special import rel_entr

    pi = p.copy()
    gamble = (p > 0) & (p < 1)
    linear_, square_, logit = linear[gamble], square[gamble], np.log(p[gamble]) - np.log1p(-p[gamble])
    low, high = np.zeros_like(logit), np.ones_like(logit)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = linear_ + 2 * square_ * middle - price * (np.log(middle) - np.log1p(-middle) - logit)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    pi[gamble] = np.maximum(low, p[gamble])
    entropy = rel_entr(pi, p) + rel_entr(1 - pi, 1 - p)
    return np.asarray(linear * pi + square * pi**2 - price * entropy)


def _start(steps: _Steps, run: Setting, s: float, ell: float) -> tuple[float, float]:
    """The numbers lam and nu - 1 near the minimum: a Gaussian price of confidence on the master bound."""
    n, p, a, v, w, y, drift, cross, spread = steps
    U2 = float((n * (p * v) ** 2 / a).sum())
    C = run.gap + float((n * (p * (w + y * run.sigma) + drift * run.sigma**2)).sum())
    excess = math.sqrt(max(U2 / max(U2 + 4 * C, 1e-300), 1e-12))
    G = (1 + excess) * p * v / (2 * excess * a)
    variance = p * (1 - p) * (v * G + w) ** 2 + 2 * s**2 * (cross * G**2 + (drift * run.sigma) ** 2)
    lam = math.sqrt(2 * ell / max(float((n * variance).sum()), 1e-100))
    largest = max(float(spread.max()), float((2 * cross / a).max()) * s**2, 1e-100)
    return min(lam, 0.5 / largest), excess


def _symbolic(noisy: bool) -> Symbolic:
    """The tilted bound in letters, beside Markov's."""
    import sympy

    i = indexed()
    t, L = i.t, i.L
    p, eta, rho, gamma = i.p[t], i.eta[t], i.rho[t], i.gamma[t]
    alpha, lam, nu = sympy.symbols(r"\alpha \lambda \nu", positive=True)
    pi, D, a = sympy.symbols(r"\pi D_t a'_t", positive=True)
    v = eta * gamma * sympy.Abs(1 - L * eta) * L * rho
    w = L * eta**2 / 2 * (gamma * L * rho) ** 2
    descent = eta * (1 - L * eta / 2)
    remaining, noise = descent, sympy.S.Zero
    letters: dict[sympy.Symbol, sympy.Expr] = {}
    if noisy:
        sigma, s = i.sigma, sympy.Symbol("s", nonnegative=True)
        w += gamma * L**2 * rho * eta**2 * sigma * (1 + 1 / D) / 2
        noise = sympy.Sum(L * eta**2 * sigma**2 / (2 * D), (t, 0, i.T - 1))
        remaining = a
        whole = 1 - lam * s**2 / sigma * L * eta**2 * (sigma + gamma * L * rho)
        letters = {D: whole, a: descent - lam * eta**2 * (1 - L * eta) ** 2 * s**2 / (2 * whole)}
    entropy = pi * sympy.log(pi / p) + (1 - pi) * sympy.log((1 - pi) / (1 - p))
    tilt = nu * pi * w + (nu * pi * v) ** 2 / (4 * (nu * remaining - descent)) - nu / lam * entropy
    worst = sympy.Sum(sympy.Function(r"\max_{p_t \le \pi \le 1}")(tilt), (t, 0, i.T - 1))
    price = nu * (i.gap + sympy.log(1 / alpha) / lam + noise)
    feasible = r"\lambda > 0,\ D_t > 0,\ \nu a'_t > a_t" if noisy else r"\lambda > 0,\ \nu > 1"
    tilted = sympy.Function(rf"\inf_{{{feasible}}}")(price + worst)
    master, meanings = nonconvex_average.symbolic()
    if not noisy:
        meanings = {letter: value.subs(i.sigma, 0) for letter, value in meanings.items()}
    W = next(letter for letter in meanings if letter.name == "W")
    return Symbolic(sympy.Min(tilted / W, master / alpha), {**letters, **meanings})


nonconvex_average_confidence = ConfidenceBound(
    name="nonconvex_average_confidence",
    title="One run with high probability over its trials, without noise, on smooth nonconvex objectives",
    source="high_probability.md#noiseless",
    kind="upper",
    assumptions=(nonconvex_average.assumptions - {A.UNBIASED, A.BOUNDED_VARIANCE}) | {A.NOISELESS},
    domain=(STEP_SIZE, NO_NOISE),
    metric=QUANTILE,
    formula=_quantile,
    symbolic=lambda: _symbolic(noisy=False),
)

nonconvex_average_confidence_noisy = ConfidenceBound(
    name="nonconvex_average_confidence_noisy",
    title="One run with high probability over its trials and sub-Gaussian noise, smooth nonconvex",
    source="high_probability.md#noisy",
    kind="upper",
    assumptions=nonconvex_average.assumptions | {A.SUB_GAUSSIAN},
    domain=(STEP_SIZE,),
    metric=QUANTILE,
    formula=_quantile,
    symbolic=lambda: _symbolic(noisy=True),
)
