"""Bounds on the gap of a smooth convex objective: averaged and last iterate.

Proofs: `paper_notes/convex.md`. Symbol key in `rst_theory.bounds.base`; x_star is a minimizer and
D = ||x_0 - x_star||. A bound on the average gap bounds the gap of the average iterate too, by convexity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rst_theory.bounds.average import NO_TRIALS, indexed
from rst_theory.bounds.base import (
    FINAL_GAP,
    KNOWN_DISTANCE,
    NO_NOISE,
    SHORT_STEPS,
    A,
    Condition,
    Metric,
    RunBound,
    Setting,
    Symbolic,
)
from rst_theory.bounds.strongly_convex import (
    ascent_cost,
    current,
    noise_terms,
    recursion,
    symbolic_noise,
)
from rst_theory.notation import QUANTITIES, FloatArray

if TYPE_CHECKING:
    import sympy

__all__ = [
    "convex_average_gap",
    "convex_average_gap_noiseless",
    "convex_average_gap_unnormalized",
    "convex_average_gap_unnormalized_noiseless",
    "convex_last_iterate_unnormalized",
    "gradient_descent_last_iterate",
]


def _step_weights(eta: FloatArray, L: float) -> FloatArray:
    return np.asarray(eta / eta.sum())


AVERAGE_GAP = Metric(
    name="average gap, weighted by eta_t",
    latex=r"\frac{1}{\sum_{t<T}\eta_t} \sum_{t=0}^{T-1} \eta_t\, (\mathbb{E} f(x_t) - f^\star)",
    quantity="gap",
    weights=_step_weights,
)

MODERATE_DEGREE = Condition("q_t <= 1", r"q_t \le 1", holds=lambda s: s.q <= 1, shown=lambda s: s.q)
PROGRESS = Condition(
    "w_t > 0, the share of the progress of gradient descent that is left",
    r"w_t > 0",
    holds=lambda s: _progress(s) > 0,
    shown=lambda s: _progress(s),
)
CONSTANT_STEPS = Condition(
    "eta_t = eta_0",
    r"\eta_t = \eta_0",
    holds=lambda s: s.eta == s.eta[0],
    shown=lambda s: s.eta,
)

_CONVEX = frozenset({A.SMOOTH, A.CONVEX, A.INDEPENDENT_TRIALS})
_NOISY = frozenset({A.UNBIASED, A.BOUNDED_VARIANCE, A.SAME_MINIBATCH})


def _progress(s: Setting) -> FloatArray:
    """w_t = 1 - max(0, h_t): what the perturbation leaves of the progress 2 eta_t (f - f_star).

    h = max over 0 <= w <= 1 of -(1 - e)(1 + 2 q r w) + q r^2 (2 w - (2 - x) w^2), with e = L eta, r = L rho
    and x = gamma e, and w in the place of w^2 where x > 2.
    """
    e, r, q, x = s.L * s.eta, s.L * s.rho, s.q, s.gamma * s.L * s.eta
    slope = 2 * q * r * (r - (1 - e)) + q * r**2 * np.maximum(x - 2, 0)
    bend = q * r**2 * np.maximum(2 - x, 0)
    w = np.where(slope >= 2 * bend, 1.0, np.maximum(slope, 0) / np.where(bend > 0, 2 * bend, 1.0))
    return np.asarray(1 - np.maximum(0, -(1 - e) + slope * w - bend * w**2))


def _average_gap(s: Setting) -> float:
    v = s.distance**2
    shift = s.eta * s.q * s.L * s.rho
    spread = s.eta**2 * s.q * s.gamma * (s.L * s.rho) ** 2
    for b, c, noise in zip(shift, spread, (s.eta * s.sigma) ** 2, strict=True):
        square = v + noise
        v = square + 2 * b * np.sqrt(square) + c
    return float(v / (2 * s.eta.sum()))


def _rise(s: Setting) -> FloatArray:
    """psi_t = max over 0 <= w <= 1 of 2 w - c w^2, and w for w^2 if c < 0; c as in the code."""
    c = 2 - s.gamma * s.L * s.eta - (1 - s.L * s.eta) * s.q
    return np.where(c >= 1, 1 / np.maximum(c, 1), 2 - c)


def _spared(s: Setting, share: FloatArray) -> float:
    """Lambda/(1 + Lambda), Lambda = sum_t L eta_t/((1 - L eta_t) (1 - share_t)); 1 where that is infinite."""
    room = (1 - s.L * s.eta) * (1 - share)
    return float(1 / (1 + 1 / (s.L * s.eta / room).sum())) if (room > 0).all() else 1.0


def _average_gap_noiseless(s: Setting) -> float:
    cost = ascent_cost(replace(s, mu=0.0)).sum()  # convexity alone
    dearer = (s.q * s.eta * s.L * s.rho**2 * _rise(s)).sum()
    spared = s.distance**2 * _spared(s, np.zeros_like(s.p))
    return float(min(s.distance**2 + cost, spared + dearer) / (2 * s.eta.sum()))


def _average_gap_unnormalized_noiseless(s: Setting) -> float:
    rise, room = s.q * (s.L * s.rho) ** 2 * _rise(s), 1 - s.L * s.eta
    share = np.where(rise < room, rise / np.where(room > 0, room, 1.0), 1.0)
    return float(s.distance**2 * _spared(s, share) / (2 * s.eta.sum() * _progress(s).min()))


def _average_gap_unnormalized(s: Setting) -> float:
    v = s.distance**2
    for b, c in zip(*noise_terms(replace(s, mu=0.0)), strict=True):
        v += b * np.sqrt(v) + c
    return float(v / (2 * s.eta.sum() * _progress(s).min()))


def _last_iterate(s: Setting) -> float:
    return float(s.distance**2 / (2 * (s.eta * _progress(s)).sum() + 2 / s.L))


def _gradient_descent(s: Setting) -> float:
    return float(s.L * s.distance**2 / (4 * s.L * s.eta.sum() + 2))


def _total(term: sympy.Expr) -> sympy.Expr:
    import sympy

    i = indexed()
    return sympy.Sum(term, (i.t, 0, i.T - 1))


def _symbolic_average_gap() -> Symbolic:
    import sympy

    i = indexed()
    p, eta, rho, gamma = i.p[i.t], i.eta[i.t], i.rho[i.t], i.gamma[i.t]
    square = current() + eta**2 * i.sigma**2
    shift = 2 * eta * p * gamma * i.L * rho * sympy.sqrt(square)
    step = square + shift + eta**2 * p * gamma**2 * i.L**2 * rho**2
    return recursion(step, 2 * _total(eta))


def _symbolic_noiseless() -> Symbolic:
    import sympy

    i, D = indexed(), QUANTITIES["distance"].symbol
    eta, x = i.eta[i.t], i.gamma[i.t] * i.L * i.eta[i.t]
    unit = i.p[i.t] * i.gamma[i.t] * eta * i.L * i.rho[i.t] ** 2
    phi, psi = sympy.Function(r"\varphi_0")(x), sympy.IndexedBase(r"\psi")[i.t]
    slack = sympy.Symbol(r"\Lambda", positive=True)
    least = sympy.Min(D**2 + _total(unit * phi), D**2 * slack / (1 + slack) + _total(unit * psi))
    return Symbolic(least / (2 * _total(eta)), {slack: _total(i.L * eta / (1 - i.L * eta))})


def _symbolic_unnormalized_noiseless() -> Symbolic:
    import sympy

    i, D = indexed(), QUANTITIES["distance"].symbol
    slack, least = sympy.symbols(r"\Lambda w_{\min}", positive=True)
    eta, share = i.eta[i.t], sympy.IndexedBase("c")[i.t]
    room = _total(i.L * eta / ((1 - i.L * eta) * (1 - share)))
    return Symbolic(D**2 * slack / (1 + slack) / (2 * least * _total(eta)), {slack: room})


def _symbolic_unnormalized() -> Symbolic:
    import sympy

    kappa, least = sympy.Function(r"\kappa_0"), sympy.Symbol(r"w_{\min}", positive=True)
    scale = 2 * least * _total(indexed().eta[indexed().t])
    return recursion(current() + symbolic_noise(kappa), scale)


def _symbolic_last() -> Symbolic:
    import sympy

    i, D, w = indexed(), QUANTITIES["distance"].symbol, sympy.IndexedBase("w")
    return Symbolic(D**2 / (2 * _total(i.eta[i.t] * w[i.t]) + 2 / i.L))


def _symbolic_gradient_descent() -> Symbolic:
    i, D = indexed(), QUANTITIES["distance"].symbol
    return Symbolic(i.L * D**2 / (4 * i.L * _total(i.eta[i.t]) + 2))


convex_average_gap = RunBound(
    name="convex_average_gap",
    title="Convex with noise: average gap",
    source="convex.md#average",
    kind="upper",
    assumptions=_CONVEX | _NOISY | {A.NORMALIZED_ASCENT},
    domain=(SHORT_STEPS, KNOWN_DISTANCE),
    metric=AVERAGE_GAP,
    formula=_average_gap,
    symbolic=_symbolic_average_gap,
)

convex_average_gap_noiseless = RunBound(
    name="convex_average_gap_noiseless",
    title="Convex without noise: average gap",
    source="convex.md#average-noiseless",
    kind="upper",
    assumptions=_CONVEX | {A.NOISELESS, A.NORMALIZED_ASCENT},
    domain=(SHORT_STEPS, MODERATE_DEGREE, NO_NOISE, KNOWN_DISTANCE),
    metric=AVERAGE_GAP,
    formula=_average_gap_noiseless,
    symbolic=_symbolic_noiseless,
)

convex_average_gap_unnormalized = RunBound(
    name="convex_average_gap_unnormalized",
    title="Unnormalized ascent with noise, convex: average gap",
    source="convex.md#average-unnormalized",
    kind="upper",
    assumptions=_CONVEX | _NOISY | {A.UNNORMALIZED_ASCENT},
    domain=(SHORT_STEPS, MODERATE_DEGREE, PROGRESS, KNOWN_DISTANCE),
    metric=AVERAGE_GAP,
    formula=_average_gap_unnormalized,
    symbolic=_symbolic_unnormalized,
)

convex_average_gap_unnormalized_noiseless = RunBound(
    name="convex_average_gap_unnormalized_noiseless",
    title="Unnormalized ascent without noise, convex: average gap",
    source="convex.md#average-unnormalized-noiseless",
    kind="upper",
    assumptions=_CONVEX | {A.NOISELESS, A.UNNORMALIZED_ASCENT},
    domain=(SHORT_STEPS, MODERATE_DEGREE, PROGRESS, NO_NOISE, KNOWN_DISTANCE),
    metric=AVERAGE_GAP,
    formula=_average_gap_unnormalized_noiseless,
    symbolic=_symbolic_unnormalized_noiseless,
)

convex_last_iterate_unnormalized = RunBound(
    name="convex_last_iterate_unnormalized",
    title="Unnormalized ascent without noise, convex: gap of the last iterate",
    source="convex.md#last-unnormalized",
    kind="upper",
    assumptions=_CONVEX | {A.NOISELESS, A.UNNORMALIZED_ASCENT},
    domain=(SHORT_STEPS, MODERATE_DEGREE, PROGRESS, NO_NOISE, KNOWN_DISTANCE),
    metric=FINAL_GAP,
    formula=_last_iterate,
    symbolic=_symbolic_last,
)

gradient_descent_last_iterate = RunBound(
    name="gradient_descent_last_iterate",
    title="The case p = 0 on a convex objective: gradient descent with a constant step size",
    source="convex.md#gradient-descent",
    kind="tight",
    assumptions=_CONVEX | {A.NOISELESS, A.UNNORMALIZED_ASCENT},  # without trials it is any ascent
    domain=(SHORT_STEPS, NO_TRIALS, CONSTANT_STEPS, NO_NOISE, KNOWN_DISTANCE),
    metric=FINAL_GAP,
    formula=_gradient_descent,
    symbolic=_symbolic_gradient_descent,
)
