"""Bounds on the last iterate of a smooth strongly convex objective: squared distance and gap.

Proofs: `paper_notes/strongly_convex.md`. Symbol key in `rst_theory.bounds.base`; x_star is the minimizer,
D = ||x_0 - x_star||, and kappa_t the contraction factors of `rst_theory.bounds.contraction`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from rst_theory.bounds.average import indexed
from rst_theory.bounds.base import (
    FINAL_GAP,
    KNOWN_DISTANCE,
    KNOWN_GAP,
    NO_NOISE,
    POSITIVE_CURVATURE,
    SHORT_STEPS,
    STEP_SIZE,
    A,
    Condition,
    Metric,
    RunBound,
    Setting,
    Symbolic,
)
from rst_theory.bounds.contraction import contraction
from rst_theory.notation import QUANTITIES, FloatArray

if TYPE_CHECKING:
    import sympy

__all__ = [
    "FINAL_DISTANCE",
    "ascent_cost",
    "current",
    "noise_terms",
    "recursion",
    "strongly_convex_distance",
    "strongly_convex_distance_noiseless",
    "strongly_convex_distance_unnormalized",
    "strongly_convex_distance_unnormalized_noisy",
    "strongly_convex_gap_unnormalized",
    "symbolic_noise",
]

FINAL_DISTANCE = Metric(
    name="squared distance of the last iterate to the minimizer",
    latex=r"\mathbb{E}\|x_T - x^\star\|^2",
    quantity="final_squared_distance",
)

LOW_DEGREE = Condition(
    "q_t (1 - mu/L) <= 1 - eta_t mu",
    r"q_t (1 - \mu/L) \le 1 - \eta_t\mu",
    # q <= 1 is enough where eta <= 1/L: rounding must not refuse equality
    holds=lambda s: (s.q <= 1) | (s.q * (1 - s.mu / s.L) <= 1 - s.eta * s.mu),
    shown=lambda s: s.q,
)

_STRONGLY = frozenset({A.SMOOTH, A.CONVEX, A.STRONGLY_CONVEX, A.INDEPENDENT_TRIALS})
_NOISY = frozenset({A.UNBIASED, A.BOUNDED_VARIANCE, A.SAME_MINIBATCH})


def _factors(s: Setting, quantity: Literal["squared_distance", "gap"] = "squared_distance") -> FloatArray:
    return contraction(quantity, s.p, s.eta, s.rho, s.gamma, s.L, s.mu)


def noise_terms(s: Setting) -> tuple[FloatArray, FloatArray]:
    """(b_t, c_t): unnormalized ascent with noise adds b_t ||x_t - x_star|| + c_t to the squared distance.

    b = 2 eta q L rho sigma kappa_1^(1/2), where kappa_1 is the factor of a step that is surely perturbed, and
    c = eta^2 sigma^2 (1 - p + p (|1 - gamma| + gamma (1 + L rho))^2).
    """
    certain = _factors(replace(s, p=np.ones_like(s.p)))
    growth = abs(1 - s.gamma) + s.gamma * (1 + s.L * s.rho)
    shift = 2 * s.eta * s.q * s.L * s.rho * s.sigma * np.sqrt(certain)
    return shift, (s.eta * s.sigma) ** 2 * (1 - s.p + s.p * growth**2)


def ascent_cost(s: Setting) -> FloatArray:
    """e_t = q_t eta_t L rho_t^2 phi(gamma_t L eta_t): what normalized ascent adds to the squared distance.

    With m = mu/L, phi(x) = (1 - m + x m)^2/(2 - x) + x m^2 for x <= 1 - m, and phi(x) = x beyond.
    """
    m, x = s.mu / s.L, s.gamma * s.L * s.eta
    short = np.minimum(x, 1 - m)
    phi = np.where(x <= 1 - m, (1 - m + short * m) ** 2 / (2 - short) + short * m**2, x)
    return np.asarray(s.q * s.eta * s.L * s.rho**2 * phi)


def _distance_unnormalized(s: Setting) -> float:
    return float(s.distance**2 * np.prod(_factors(s)))


def _gap_unnormalized(s: Setting) -> float:
    return float(s.gap * np.prod(_factors(s, "gap")))


def _distance_unnormalized_noisy(s: Setting) -> float:
    v = s.distance**2
    for kappa, b, c in zip(_factors(s), *noise_terms(s), strict=True):
        v = kappa * v + b * np.sqrt(v) + c
    return float(v)


def _distance_noiseless(s: Setting) -> float:
    v = s.distance**2
    for shrink, cost in zip((1 - s.eta * s.mu) ** 2, ascent_cost(s), strict=True):
        v = shrink * v + cost
    return float(v)


def _distance(s: Setting) -> float:
    v = s.distance**2
    theta = np.maximum(abs(1 - s.eta * s.mu), abs(1 - s.eta * s.L))
    shift = s.eta * s.q * s.L * s.rho
    spread = s.eta**2 * s.q * s.gamma * (s.L * s.rho) ** 2
    for square, b, c, noise in zip(theta**2, shift, spread, (s.eta * s.sigma) ** 2, strict=True):
        root = np.sqrt(square * v + noise)
        v = root**2 + 2 * b * root + c
    return float(v)


def _symbols() -> tuple[sympy.Symbol, sympy.Symbol]:
    return QUANTITIES["mu"].symbol, QUANTITIES["distance"].symbol


def _symbolic_product(start: str, letter: str) -> Symbolic:
    import sympy

    i = indexed()
    first = QUANTITIES[start].symbol ** (2 if start == "distance" else 1)
    kappa = sympy.Function(letter)(i.p[i.t], i.eta[i.t], i.rho[i.t], i.gamma[i.t])
    return Symbolic(first * sympy.Product(kappa, (i.t, 0, i.T - 1)))


def _symbolic_noiseless() -> Symbolic:
    import sympy

    i, (mu, D) = indexed(), _symbols()
    s, last = sympy.Symbol("s", integer=True, nonnegative=True), i.T - 1
    phi = sympy.Function(r"\varphi")(i.gamma[i.t] * i.L * i.eta[i.t])
    cost = i.p[i.t] * i.gamma[i.t] * i.eta[i.t] * i.L * i.rho[i.t] ** 2 * phi
    later = sympy.Product((1 - i.eta[s] * mu) ** 2, (s, i.t + 1, last))
    every = sympy.Product((1 - i.eta[s] * mu) ** 2, (s, 0, last))
    return Symbolic(D**2 * every + sympy.Sum(cost * later, (i.t, 0, last)))


def current() -> sympy.Symbol:
    """v_t, the bound on the squared distance at step t, in the recursions."""
    import sympy

    return sympy.Symbol("v_t", nonnegative=True)


def recursion(step: sympy.Expr, scale: sympy.Expr) -> Symbolic:
    """The bound v_T/scale where v_0 = D^2 and v_{t+1} = `step`, an expression in v_t."""
    import sympy

    first, following, last = sympy.symbols("v_0 v_{t+1} v_T", nonnegative=True)
    _, D = _symbols()
    return Symbolic(last / scale, {following: step, first: D**2})


def _symbolic_distance() -> Symbolic:
    import sympy

    i, (mu, _) = indexed(), _symbols()
    p, eta, rho, gamma = i.p[i.t], i.eta[i.t], i.rho[i.t], i.gamma[i.t]
    theta = sympy.Max(sympy.Abs(1 - eta * mu), sympy.Abs(1 - eta * i.L))
    square = theta**2 * current() + eta**2 * i.sigma**2
    shift = 2 * eta * p * gamma * i.L * rho * sympy.sqrt(square)
    return recursion(square + shift + eta**2 * p * gamma**2 * i.L**2 * rho**2, sympy.Integer(1))


def symbolic_noise(kappa: sympy.Function) -> sympy.Expr:
    """b_t v_t^(1/2) + c_t of `noise_terms`."""
    import sympy

    i = indexed()
    p, eta, rho, gamma = i.p[i.t], i.eta[i.t], i.rho[i.t], i.gamma[i.t]
    growth = sympy.Abs(1 - gamma) + gamma * (1 + i.L * rho)
    shift = 2 * eta * p * gamma * i.L * rho * i.sigma * sympy.sqrt(kappa(1, eta, rho, gamma) * current())
    return shift + eta**2 * i.sigma**2 * (1 - p + p * growth**2)


def _symbolic_unnormalized_noisy() -> Symbolic:
    import sympy

    i = indexed()
    kappa = sympy.Function(r"\kappa")
    factor = kappa(i.p[i.t], i.eta[i.t], i.rho[i.t], i.gamma[i.t])
    return recursion(factor * current() + symbolic_noise(kappa), sympy.Integer(1))


strongly_convex_distance_unnormalized = RunBound(
    name="strongly_convex_distance_unnormalized",
    title="Unnormalized ascent without noise, strongly convex: distance of the last iterate",
    source="strongly_convex.md#distance-unnormalized",
    kind="upper",
    assumptions=_STRONGLY | {A.NOISELESS, A.UNNORMALIZED_ASCENT},
    domain=(POSITIVE_CURVATURE, NO_NOISE, KNOWN_DISTANCE),
    metric=FINAL_DISTANCE,
    formula=_distance_unnormalized,
    symbolic=lambda: _symbolic_product("distance", r"\kappa"),
)

strongly_convex_gap_unnormalized = RunBound(
    name="strongly_convex_gap_unnormalized",
    title="Unnormalized ascent without noise, strongly convex: gap of the last iterate",
    source="strongly_convex.md#gap-unnormalized",
    kind="upper",
    assumptions=_STRONGLY | {A.NOISELESS, A.UNNORMALIZED_ASCENT},
    domain=(POSITIVE_CURVATURE, NO_NOISE, KNOWN_GAP),
    metric=FINAL_GAP,
    formula=_gap_unnormalized,
    symbolic=lambda: _symbolic_product("gap", r"\kappa^f"),
)

strongly_convex_distance_unnormalized_noisy = RunBound(
    name="strongly_convex_distance_unnormalized_noisy",
    title="Unnormalized ascent with noise, strongly convex: distance of the last iterate",
    source="strongly_convex.md#distance-unnormalized-noisy",
    kind="upper",
    assumptions=_STRONGLY | _NOISY | {A.UNNORMALIZED_ASCENT},
    domain=(POSITIVE_CURVATURE, KNOWN_DISTANCE),
    metric=FINAL_DISTANCE,
    formula=_distance_unnormalized_noisy,
    symbolic=_symbolic_unnormalized_noisy,
)

strongly_convex_distance = RunBound(
    name="strongly_convex_distance",
    title="Strongly convex with noise: distance of the last iterate",
    source="strongly_convex.md#distance",
    kind="upper",
    assumptions=_STRONGLY | _NOISY | {A.NORMALIZED_ASCENT},
    domain=(POSITIVE_CURVATURE, STEP_SIZE, KNOWN_DISTANCE),
    metric=FINAL_DISTANCE,
    formula=_distance,
    symbolic=_symbolic_distance,
)

strongly_convex_distance_noiseless = RunBound(
    name="strongly_convex_distance_noiseless",
    title="Strongly convex without noise: distance of the last iterate",
    source="strongly_convex.md#distance-noiseless",
    kind="upper",
    assumptions=_STRONGLY | {A.NOISELESS, A.NORMALIZED_ASCENT},
    domain=(POSITIVE_CURVATURE, SHORT_STEPS, LOW_DEGREE, NO_NOISE, KNOWN_DISTANCE),
    metric=FINAL_DISTANCE,
    formula=_distance_noiseless,
    symbolic=_symbolic_noiseless,
)
