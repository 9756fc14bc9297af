"""Bounds on the average squared gradient of a smooth nonconvex objective.

Proofs: `paper_notes/master_bound.md` and `paper_notes/unnormalized_average.md`. Symbol key in
`rst_theory.bounds.base`.
"""

from __future__ import annotations

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
from rst_theory.notation import QUANTITIES, FloatArray

if TYPE_CHECKING:
    import sympy

__all__ = ["nonconvex_average", "nonconvex_average_unnormalized", "sam_average", "sgd_average"]


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


def _uniform_weights(eta: FloatArray, L: float) -> FloatArray:
    return np.full(eta.shape, 1 / eta.size)


WEIGHTED_AVERAGE = Metric(
    name="average squared gradient, weighted by a_t = eta_t (1 - L eta_t/2)",
    latex=r"\frac{1}{W} \sum_{t=0}^{T-1} a_t\, \mathbb{E}\|\nabla f(x_t)\|^2",
    quantity="squared_gradient_norm",
    weights=_descent_weights,
)
UNIFORM_AVERAGE = Metric(
    name="average squared gradient",
    latex=r"\frac{1}{T} \sum_{t=0}^{T-1} \mathbb{E}\|\nabla f(x_t)\|^2",
    quantity="squared_gradient_norm",
    weights=_uniform_weights,
)

NO_TRIALS = Condition("p_t = 0", r"p_t = 0", margin=lambda s: 0.5 - (s.p != 0), shown=lambda s: s.p)
ALL_TRIALS = Condition("p_t = 1", r"p_t = 1", margin=lambda s: 0.5 - (s.p != 1), shown=lambda s: s.p)
UNMIXED = Condition(
    "gamma_t = 1", r"\gamma_t = 1", margin=lambda s: 0.5 - (s.gamma != 1), shown=lambda s: s.gamma
)
DESCENT = Condition(
    "c_t > 0 for t < T-1, c_t = a_t - eta_t q_t |1 - L eta_t| L rho_t - L^3 eta_t^2 q_t gamma_t rho_t^2/2",
    r"c_t > 0,\quad c_t = a_t - \eta_t q_t |1 - L\eta_t| L\rho_t - \tfrac12 L^3\eta_t^2 q_t\gamma_t\rho_t^2",
    margin=lambda s: _guaranteed_descent(s)[:-1],
    shown=lambda s: _guaranteed_descent(s)[:-1],
)

_NONCONVEX = frozenset(
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
    assumptions=_NONCONVEX | {A.NORMALIZED_ASCENT},
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


def _guaranteed_descent(s: Setting) -> FloatArray:
    """c_t: the least expected decrease of f in step t, as a multiple of the squared gradient."""
    L = s.L
    return np.asarray(
        s.a - s.eta * s.q * abs(1 - L * s.eta) * L * s.rho - L**3 * s.eta**2 / 2 * s.q * s.gamma * s.rho**2
    )


def _unnormalized(s: Setting) -> float:
    c = _guaranteed_descent(s)
    c[-1] = 1 / (2 * s.L)
    return float(s.gap / (c.size * c.min()))


def _symbolic_unnormalized() -> Symbolic:
    import sympy

    i = indexed()
    t, L, T = i.t, i.L, i.T
    p, eta, rho, gamma = i.p[t], i.eta[t], i.rho[t], i.gamma[t]
    q, a = p * gamma, eta * (1 - L * eta / 2)
    c = a - eta * q * sympy.Abs(1 - L * eta) * L * rho - L**3 * eta**2 / 2 * q * gamma * rho**2
    weight = sympy.Piecewise((1 / (2 * L), sympy.Eq(t, T - 1)), (c, True))
    least = sympy.Symbol(r"w_{\min}", positive=True)
    return Symbolic(i.gap / (T * least), {least: sympy.Function(r"\min_{0 \le t < T}")(weight)})


nonconvex_average_unnormalized = RunBound(
    name="nonconvex_average_unnormalized",
    title="Unnormalized ascent without noise on smooth nonconvex objectives",
    source="unnormalized_average.md#theorem",
    kind="upper",
    assumptions=(_NONCONVEX - {A.UNBIASED, A.BOUNDED_VARIANCE}) | {A.NOISELESS, A.UNNORMALIZED_ASCENT},
    domain=(DESCENT, NO_NOISE, KNOWN_GAP),
    metric=UNIFORM_AVERAGE,
    formula=_unnormalized,
    symbolic=_symbolic_unnormalized,
)
