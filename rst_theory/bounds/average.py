"""Bounds on the average squared gradient of a smooth nonconvex objective, normalized ascent.

Proofs: `paper_notes/master_bound.md` and `paper_notes/sharpened_average.md`. Symbol key in
`rst_theory.bounds.base`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rst_theory.bounds.base import (
    KNOWN_GAP,
    NO_NOISE,
    STEP_SIZE,
    A,
    Condition,
    Metric,
    RunBound,
    Setting,
    Symbolic,
)
from rst_theory.notation import QUANTITIES, Assumption, FloatArray

if TYPE_CHECKING:
    import sympy

__all__ = [
    "nonconvex_average",
    "nonconvex_average_majorant",
    "nonconvex_average_whole",
    "sam_average",
    "sgd_average",
]


class Indexed(NamedTuple):
    """The SymPy symbols of a run: sequences are IndexedBase objects, to be indexed by t."""

    t: sympy.Symbol
    T: sympy.Symbol
    p: sympy.IndexedBase
    eta: sympy.IndexedBase
    rho: sympy.IndexedBase
    gamma: sympy.IndexedBase
    L: sympy.Symbol
    sigma: sympy.Symbol
    gap: sympy.Symbol


def indexed() -> Indexed:
    """The symbols that the symbolic expressions of this module are written in."""
    import sympy

    def sequence(key: str) -> sympy.IndexedBase:
        return sympy.IndexedBase(QUANTITIES[key].symbol)

    return Indexed(
        t=QUANTITIES["t"].symbol,
        T=QUANTITIES["steps"].symbol,
        p=sequence("p"),
        eta=sequence("eta"),
        rho=sequence("rho"),
        gamma=sequence("gamma"),
        L=QUANTITIES["L"].symbol,
        sigma=QUANTITIES["sigma"].symbol,
        gap=QUANTITIES["gap"].symbol,
    )


def _descent_weights(eta: FloatArray, L: float) -> FloatArray:
    a = eta * (1 - L * eta / 2)
    return np.asarray(a / a.sum())


WEIGHTED_AVERAGE: Metric = Metric(
    name="average squared gradient, weighted by a_t = eta_t (1 - L eta_t/2)",
    latex=r"\frac{1}{W} \sum_{t=0}^{T-1} a_t\, \mathbb{E}\|\nabla f(x_t)\|^2",
    quantity="squared_gradient_norm",
    weights=_descent_weights,
)
NO_TRIALS = Condition("p_t = 0", r"p_t = 0", holds=lambda s: s.p == 0, shown=lambda s: s.p)
ALL_TRIALS = Condition("p_t = 1", r"p_t = 1", holds=lambda s: s.p == 1, shown=lambda s: s.p)
UNMIXED = Condition("gamma_t = 1", r"\gamma_t = 1", holds=lambda s: s.gamma == 1, shown=lambda s: s.gamma)
NONCONVEX: frozenset[Assumption] = frozenset(
    {
        A.SMOOTH,
        A.UNBIASED,
        A.BOUNDED_VARIANCE,
        A.BOUNDED_BELOW,
        A.SAME_MINIBATCH,
        A.INDEPENDENT_TRIALS,
    }
)


def _master(s: Setting) -> float:
    L, sigma, q, a = s.L, s.sigma, s.q, s.a
    W = a.sum()
    u = q * L * s.rho * s.eta * abs(1 - L * s.eta)
    U = np.sqrt((u**2 / a).sum())
    C = (
        s.gap
        + (q * L**2 * s.rho * s.eta**2 * sigma).sum()
        + (L * s.eta**2 / 2 * (sigma**2 + q * s.gamma * L**2 * s.rho**2)).sum()
    )
    return float(((U + np.sqrt(U**2 + 4 * C)) / 2) ** 2 / W)


def _symbolic_master(certain: bool = False) -> Symbolic:
    """The master bound in letters; `certain` sets p_t = gamma_t = 1."""
    import sympy

    i = indexed()
    t, L, sigma = i.t, i.L, i.sigma
    eta, rho = i.eta[t], i.rho[t]
    p, gamma = (1, 1) if certain else (i.p[t], i.gamma[t])
    q, a = p * gamma, eta * (1 - L * eta / 2)

    def total(term: sympy.Expr) -> sympy.Expr:
        return sympy.Sum(term, (t, 0, i.T - 1))

    u = q * L * rho * eta * sympy.Abs(1 - L * eta)
    U, C, W = sympy.symbols("U C W", nonnegative=True)
    mixing = q * L**2 * rho * eta**2 * sigma + L * eta**2 / 2 * (sigma**2 + q * gamma * L**2 * rho**2)
    return Symbolic(
        ((U + sympy.sqrt(U**2 + 4 * C)) / 2) ** 2 / W,
        {U: sympy.sqrt(total(u**2 / a)), C: i.gap + total(mixing), W: total(a)},
    )


def _symbolic_sgd() -> Symbolic:
    import sympy

    i = indexed()
    eta, W = i.eta[i.t], sympy.Symbol("W", positive=True)
    steps = (i.t, 0, i.T - 1)
    noise = sympy.Sum(i.L * eta**2 * i.sigma**2 / 2, steps)
    return Symbolic((i.gap + noise) / W, {W: sympy.Sum(eta * (1 - i.L * eta / 2), steps)})


nonconvex_average = RunBound(
    name="nonconvex_average",
    title="Master bound: RST and G-RST on smooth nonconvex objectives",
    source="master_bound.md#theorem",
    kind="upper",
    assumptions=NONCONVEX | {A.NORMALIZED_ASCENT},
    domain=(STEP_SIZE, KNOWN_GAP),
    metric=WEIGHTED_AVERAGE,
    formula=_master,
    symbolic=_symbolic_master,
)

sgd_average = RunBound(
    name="sgd_average",
    title="The case p = 0: SGD",
    source="master_bound.md#sgd",
    kind="upper",
    assumptions=nonconvex_average.assumptions,
    domain=(STEP_SIZE, KNOWN_GAP, NO_TRIALS),
    metric=WEIGHTED_AVERAGE,
    formula=_master,
    symbolic=_symbolic_sgd,
)

sam_average = RunBound(
    name="sam_average",
    title="The case p = 1, gamma = 1: SAM",
    source="master_bound.md#sam",
    kind="upper",
    assumptions=nonconvex_average.assumptions,
    domain=(STEP_SIZE, KNOWN_GAP, ALL_TRIALS, UNMIXED),
    metric=WEIGHTED_AVERAGE,
    formula=_master,
    symbolic=lambda: _symbolic_master(certain=True),
)


# Sharper. Let a step add at most F_t(G) beyond its descent a_t G^2. Then the sum S of a_t E G_t^2 is at most
# Delta + sum E F_t(G_t), and when a share of S is spent on what is added,
# (1 - spent) S <= Delta + sum of max over G of F_t(G) - spent a_t G^2.


def least_ratio(numerator: Callable[[float], float]) -> float:
    """The least numerator(spent)/(1 - spent) over 0 < spent < 1, for a convex numerator.

    Every share spent gives an upper bound of it; the search is in log(spent/(1 - spent)).
    """
    from scipy.optimize import minimize_scalar

    def ratio(x: float) -> float:
        odds = math.exp(x)
        return numerator(odds / (1 + odds)) * (1 + odds)

    nothing = -37.0  # in floating point a share of 1e-16 is none
    found = minimize_scalar(ratio, bounds=(nothing, 15.0), method="bounded", options={"xatol": 1e-10})
    return float(min(found.fun, ratio(nothing)))


def _whole(s: Setting) -> float:
    L, q, a = s.L, s.q, s.a
    m = s.eta * q * L * s.rho  # the cross term is m sqrt(b^2 G^2 + n^2)
    b, n = abs(1 - L * s.eta), L * s.eta * s.sigma
    C = s.gap + (L * s.eta**2 / 2 * (s.sigma**2 + q * s.gamma * L**2 * s.rho**2)).sum()

    def numerator(spent: float) -> float:
        slope = spent * a
        inside = m * b**2 > 2 * slope * n  # else the maximum lies at G = 0
        safe = np.where(inside, b, 1.0)
        return float(C + np.where(inside, (m * b) ** 2 / (4 * slope) + slope * (n / safe) ** 2, m * n).sum())

    return least_ratio(numerator) / float(a.sum())


def _symbolic_whole() -> Symbolic:
    import sympy

    i = indexed()
    t, L, sigma, eta, rho = i.t, i.L, i.sigma, i.eta[i.t], i.rho[i.t]
    q, a = i.p[t] * i.gamma[t], eta * (1 - L * eta / 2)
    G = QUANTITIES["gradient_norm"].symbol
    C, W, k = sympy.symbols("C W kappa", positive=True)
    cross = eta * q * L * rho * sympy.sqrt((1 - L * eta) ** 2 * G**2 + L**2 * eta**2 * sigma**2)
    most = sympy.Function(r"\max_{G \ge 0}")(cross - (1 - k) * a * G**2)
    squares = L * eta**2 / 2 * (sigma**2 + q * i.gamma[t] * L**2 * rho**2)
    steps = (t, 0, i.T - 1)
    least = sympy.Function(r"\min_{0 < \kappa < 1}")((C + sympy.Sum(most, steps)) / k)
    return Symbolic(least / W, {C: i.gap + sympy.Sum(squares, steps), W: sympy.Sum(a, steps)})


nonconvex_average_whole = RunBound(
    name="nonconvex_average_whole",
    title="Master bound with the noise term kept whole",
    source="sharpened_average.md#whole",
    kind="upper",
    assumptions=nonconvex_average.assumptions,
    domain=(STEP_SIZE, KNOWN_GAP),
    metric=WEIGHTED_AVERAGE,
    formula=_whole,
    symbolic=_symbolic_whole,
)


def _added(
    s: FloatArray, h: FloatArray, e: FloatArray, gamma: FloatArray, p: FloatArray, spent: float
) -> FloatArray:
    """What steps add in units L = rho = 1, less the share of the descent that is spent; arrays (T,).

    With h = G/(L rho), s the turning point of the worst function and u = e gamma it is at most
    (p - spent) b h^2 + p phi(s, h), b = e (1 - e/2), phi as in `paper_notes/one_step.md#smooth`.
    """
    w = e * gamma * (1 - 2 * s)
    z = w - e * h  # where the perturbed step ends
    # h z + z^2/2 = -b h^2 + (1 - e) w h + w^2/2, of which the first term cancels.
    phi = (1 - e) * w * h + w**2 / 2 - np.maximum(0.0, z - s) ** 2 + np.maximum(0.0, z - 1) ** 2
    return np.asarray(p * phi - spent * e * (1 - e / 2) * h**2)


def _most_added(e: FloatArray, gamma: FloatArray, p: FloatArray, spent: float) -> FloatArray:
    """The maximum over G of the worst expected change of f in a step plus (1 - spent) a G^2, in L rho^2.

    What is added is continuously differentiable and piecewise quadratic in (s, h), 0 <= s <= 1, h >= 0: its
    maximum lies on an edge, where it is concave in h, or where the piece s <= z <= 1 is stationary. Any other
    point that is tried does no harm. Proof: `paper_notes/sharpened_average.md#inner`.
    """
    u, zero, one = e * gamma, np.zeros_like(e), np.ones_like(e)
    long = np.maximum(0.0, gamma - 1 / e)  # at s = 0 the perturbed step ends beyond y while h < long
    spending = spent * e * (1 - e / 2)
    bend = 1 + 4 * u + 2 * u**2  # of the piece in s
    top = p * u * (1 + 2 * u - e) / 2
    room = spending * bend - p * u * (u * (1 + 2 * e - e**2) + 2 * e * (1 - e))  # of its ridge, in h
    inside = np.divide(top, room, out=gamma.copy(), where=top < gamma * room)  # h <= gamma where z >= 0
    ridge = np.maximum(0.0, inside)
    tried = [
        (one, np.maximum(0.0, p * u * (e - 1) / (2 * spending))),
        (zero, np.maximum(gamma, p * u * (1 - e) / (2 * spending))),
        (zero, np.clip(p * u * (1 + e) / (2 * (spending + p * e**2)), long, gamma)),
        (zero, np.clip(p * (u * (1 - e) + 2 * e) / (2 * spending), 0.0, long)),
        (np.clip((u * (1 + u) - (u + e + u * e) * ridge) / bend, 0.0, 1.0), ridge),
    ]
    return np.asarray(np.max([_added(s, h, e, gamma, p, spent) for s, h in tried], axis=0))


def _majorant(s: Setting) -> float:
    unit = s.L * s.rho**2

    def numerator(spent: float) -> float:
        return float(s.gap + (unit * _most_added(s.L * s.eta, s.gamma, s.p, spent)).sum())

    return least_ratio(numerator) / float(s.a.sum())


def _symbolic_majorant() -> Symbolic:
    import sympy

    i = indexed()
    t, L, eta, rho = i.t, i.L, i.eta[i.t], i.rho[i.t]
    a = eta * (1 - L * eta / 2)
    G = QUANTITIES["gradient_norm"].symbol
    W, k = sympy.symbols("W kappa", positive=True)
    change = sympy.Function(r"\Phi")(i.p[t], eta, rho, i.gamma[t], G)
    most = sympy.Function(r"\max_{G \ge 0}")(change + k * a * G**2)
    steps = (t, 0, i.T - 1)
    least = sympy.Function(r"\min_{0 < \kappa < 1}")((i.gap + sympy.Sum(most, steps)) / k)
    return Symbolic(least / W, {W: sympy.Sum(a, steps)})


nonconvex_average_majorant = RunBound(
    name="nonconvex_average_majorant",
    title="From the exact change of f in one step, without noise",
    source="sharpened_average.md#majorant",
    kind="upper",
    assumptions=(NONCONVEX - {A.UNBIASED, A.BOUNDED_VARIANCE}) | {A.NOISELESS, A.NORMALIZED_ASCENT},
    domain=(STEP_SIZE, NO_NOISE, KNOWN_GAP),
    metric=WEIGHTED_AVERAGE,
    formula=_majorant,
    symbolic=_symbolic_majorant,
)
