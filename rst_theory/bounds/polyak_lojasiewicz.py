r"""Bounds on the last gap E f(x_T) - f_star under the Polyak-Lojasiewicz inequality.

All come from one inequality. For curvatures in [l, L] (l = -L smooth, 0 convex, mu strongly convex), with
v = grad f(x) - L eta d the gradient that curvature L would leave, y = f(x - eta d) - f_star, gap(x) = delta
and s = G^2, for every theta in (0, 1]:

    [1 + mu (1 - theta)/(L - l)] y  <=  delta - s/(2L) + [1/(2L) + (1/theta - 1)/(2(L - l))] ||v||^2.

theta = 1 is the descent lemma; a smaller theta uses the inequality at the next point too. Averaged over the
step and maximised over 2 mu delta <= s <= 2 L delta it is a recursion for the mean gap.

Symbol key, beyond `rst_theory.bounds.base`: e = L eta, k = |1 - e|, m = e sigma, nu = e gamma L rho;
V_0^2, V_1^2 bound E||v||^2 without and with the perturbation. Proofs: `paper_notes/polyak_lojasiewicz.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rst_theory.bounds.average import indexed
from rst_theory.bounds.base import (
    FINAL_GAP,
    KNOWN_GAP,
    NO_NOISE,
    POSITIVE_CURVATURE,
    SHORT_STEPS,
    STEP_SIZE,
    A,
    RunBound,
    Setting,
    Symbolic,
)
from rst_theory.notation import QUANTITIES, Ascent

if TYPE_CHECKING:
    import sympy

__all__ = [
    "pl_last_iterate",
    "pl_last_iterate_closed",
    "pl_last_iterate_convex",
    "pl_last_iterate_strongly_convex",
    "pl_last_iterate_unnormalized",
]


class Step(NamedTuple):
    """The numbers of one step, as in the symbol key; weight = e gamma, reach = L rho, least = l."""

    p: float
    e: float
    k: float
    m: float
    weight: float
    reach: float
    L: float
    mu: float
    sigma: float
    least: float

    @property
    def nu(self) -> float:
        return self.weight * self.reach


_DIVERGED = 1e70
"""Above this a bound says nothing, and its squares leave the floating range: it is called infinite."""

Thetas = tuple[float, float]
"""theta without and with the perturbation."""


def _steps(s: Setting, least: float) -> Iterator[Step]:
    e = s.L * s.eta
    rows = zip(s.p.tolist(), e.tolist(), (e * s.gamma).tolist(), (s.L * s.rho).tolist(), strict=True)
    for p, e_t, weight, reach in rows:
        yield Step(p, e_t, abs(1 - e_t), e_t * s.sigma, weight, reach, s.L, s.mu, s.sigma, least)


class Weights(NamedTuple):
    """Of both branches at chosen thetas: chance/N, N the factor of y; and this by the factor of ||v||^2."""

    plain: float
    perturbed: float
    plain_tau: float
    perturbed_tau: float


def _weights(c: Step, thetas: Thetas) -> Weights:
    def factors(theta: float) -> tuple[float, float]:
        if theta == 1:
            return 1.0, 1 / (2 * c.L)
        width = c.L - c.least
        return 1 + c.mu * (1 - theta) / width, 1 / (2 * c.L) + (1 - theta) / (2 * width * theta)

    (N0, tau0), (N1, tau1) = factors(thetas[0]), factors(thetas[1])
    return Weights((1 - c.p) / N0, c.p / N1, (1 - c.p) / N0 * tau0, c.p / N1 * tau1)


def _best_theta(c: Step, V: float, gap: float) -> float:
    """The theta that gives the least y at s = 2 mu gap: ||v||/||grad f(x+)|| at the worst, if below 1.

    With r = sqrt(2 mu y) the least y solves r^2 + h (r - V)^2 = r_0^2 where r > V, h = mu/(L - l) and r_0 is
    its value for theta = 1.
    """
    r0_squared = 2 * c.mu * (gap * (1 - c.mu / c.L) + V**2 / (2 * c.L))
    if r0_squared <= V**2 or c.least == c.L:
        return 1.0
    h = c.mu / (c.L - c.least)
    r = (h * V + math.sqrt((1 + h) * r0_squared - h * V**2)) / (1 + h)
    return max(V / r, 1e-12)  # any positive number gives a bound; at V = 0 the least one is the limit 0


# The steps whose worst case is concave in the gap: Jensen's inequality applies as it stands


def _concave(c: Step, gap: float, ascent: Ascent) -> float:
    """The next mean gap, with E||y - x||^2 at most rho^2 R(s), R = constant + linear s = 1 or s + sigma^2."""
    constant, linear = (1.0, 0.0) if ascent == "normalized" else (c.sigma**2, 1.0)
    s = 2 * c.mu * gap
    V0 = c.k**2 * s + c.m**2
    V1 = V0 + _cross(c, gap, s, constant, linear) + c.nu**2 * (constant + linear * s)
    best = _best_theta(c, math.sqrt(V0), gap), _best_theta(c, math.sqrt(max(V1, 0.0)), gap)
    return min(_largest(c, gap, constant, linear, _weights(c, thetas)) for thetas in (best, (1.0, 1.0)))


def _cross(c: Step, gap: float, s: float, constant: float, linear: float) -> float:
    """K: of ||v||^2 what the direction of g_adv - g decides, at most 2 nu V_0 sqrt(R).

    Without noise the Polyak-Lojasiewicz inequality at y, which lies uphill, keeps g_adv from being small.
    """
    free = 2 * c.nu * math.sqrt(c.k**2 * s + c.m**2) * math.sqrt(constant + linear * s)
    if c.sigma > 0 or c.e >= 1:
        return free
    rise = linear * c.mu / c.L * c.reach * (2 - c.reach) * s
    return min(free, c.weight * c.k * (s - 2 * c.mu * gap + c.reach**2 * (constant + linear * s) - rise))


def _crossings(c: Step, gap: float, linear: float) -> list[float]:
    """Where the two bounds of `_cross` are equal, sigma = 0."""
    below = 2 * c.mu * gap
    if linear == 0:
        return [max(c.reach - math.sqrt(below), 0.0) ** 2, (c.reach + math.sqrt(below)) ** 2]
    slope = (1 - c.reach) ** 2 - c.mu / c.L * c.reach * (2 - c.reach)
    return [below / slope] if slope > 0 else []


def _largest(c: Step, gap: float, constant: float, linear: float, w: Weights) -> float:
    """The largest mean over s: concave, so at an end, at a crossing, or at the peak where K is uncapped."""
    W = w.plain + w.perturbed
    tau = w.plain_tau + w.perturbed_tau

    def mean(s: float) -> float:
        turned = _cross(c, gap, s, constant, linear) + c.nu**2 * (constant + linear * s)
        return W * (gap - s / (2 * c.L)) + tau * (c.k**2 * s + c.m**2) + w.perturbed_tau * turned

    beta = W / (2 * c.L) - tau * c.k**2 - w.perturbed_tau * c.nu**2 * linear
    peak = _peak(beta, 2 * w.perturbed_tau * c.nu, c.k**2, c.m**2, constant, linear)
    low, high = 2 * c.mu * gap, 2 * c.L * gap
    inner = [min(max(s, low), high) for s in (peak, *_crossings(c, gap, linear))]
    return max(0.0, *map(mean, (low, high, *inner)))  # rounding alone makes it negative


def _peak(beta: float, kappa: float, k2: float, m2: float, constant: float, linear: float) -> float:
    """Where kappa sqrt((k2 s + m2) (constant + linear s)) - beta s is largest; inf where it only grows.

    Under the root is A s^2 + B s + C.
    """
    A, B = k2 * linear, k2 * constant + m2 * linear
    excess = beta**2 - kappa**2 * A
    if beta <= 0 or excess <= 0:
        return math.inf
    if B == 0:
        return 0.0
    C_over_B = m2 * (constant / B)
    root = abs(k2 * constant - m2 * linear) / B / math.sqrt(excess)  # sqrt(B^2 - 4 A C)/B, over sqrt(excess)
    return (kappa**2 * B - 4 * beta**2 * C_over_B) / (2 * excess * (1 + beta * root))


def _recursion(s: Setting, ascent: Ascent) -> float:
    gap = s.gap
    for c in _steps(s, least=-s.L):
        if max(gap, c.nu, c.m, c.reach) > _DIVERGED:
            return math.inf
        gap = _concave(c, gap, ascent)
    return gap


# Convex objectives without noise, e <= 1: the worst case is convex in the gap, and its chord is used


def _chord(c: Step, gap: float, largest: float) -> float:
    """The next mean gap where no path is above `largest`: a chord of a convex function on [0, largest]."""
    V0, V1 = (math.sqrt(V2) for V2 in _squares(c, 2 * c.mu * gap))
    best0, best1 = _best_theta(c, V0, gap), _best_theta(c, V1, gap)
    values = []
    for thetas in ((best0, best1), (best0, 1.0), (1.0, 1.0)):
        w = _weights(c, thetas)
        low, high = _worst_end(c, 0.0, w), _worst_end(c, largest, w)
        share = gap / largest if largest > 0 else 0.0
        values.append(low + max(high - low, 0.0) * share)
    return min(values)


def _squares(c: Step, s: float) -> tuple[float, float]:
    """V_0^2 and V_1^2 = max over j in {l, L} of ((1 - e) G - e gamma j rho)^2."""
    G = math.sqrt(s)
    kept = (1 - c.e) * G
    return kept**2, max((kept - j / c.L * c.nu) ** 2 for j in (c.least, c.L))


def _worst_end(c: Step, gap: float, w: Weights) -> float:
    """The largest mean at gap: convex in s, so at an end of [2 mu gap, 2 L gap]."""

    def mean(s: float) -> float:
        V0, V1 = _squares(c, s)
        return (w.plain + w.perturbed) * (gap - s / (2 * c.L)) + w.plain_tau * V0 + w.perturbed_tau * V1

    return max(mean(2 * c.mu * gap), mean(2 * c.L * gap), 0.0)


def _convex_recursion(s: Setting, strongly: bool) -> float:
    gap = largest = s.gap  # of the mean, and of every path
    for c in _steps(s, least=s.mu if strongly else 0.0):
        if max(largest, c.nu, c.reach) > _DIVERGED:
            return math.inf
        outcomes = [c._replace(p=float(x)) for x, chance in ((0, 1 - c.p), (1, c.p)) if chance > 0]
        gap = _chord(c, gap, largest)
        largest = max(_chord(outcome, largest, largest) for outcome in outcomes)
    return gap


# The closed form: the tangents of the descent bound at its zeros


def _closed(s: Setting) -> float:
    """The gap is drawn towards the floor F_t with weight Theta_t in step t."""
    a, k, m = s.a, abs(1 - s.L * s.eta), s.L * s.eta * s.sigma
    kappa = s.q * s.eta * s.L * s.rho
    alpha = s.L * s.eta**2 / 2 * (s.sigma**2 + s.q * s.gamma * s.L**2 * s.rho**2)
    R = np.sqrt((kappa * k**2) ** 2 + 4 * a * alpha * k**2 + (2 * a * m) ** 2)
    F = (2 * a * alpha + (kappa * k) ** 2 + kappa * R) / (4 * s.mu * a**2)
    Theta = 2 * s.mu * a * np.divide(R, kappa * k**2 + R, out=np.ones_like(R), where=R > 0)
    gap = s.gap
    for weight, floor in zip(Theta.tolist(), F.tolist(), strict=True):
        gap += weight * (floor - gap)
    return float(gap)


# The same in letters


def _symbolic_closed() -> Symbolic:
    import sympy

    i = indexed()
    t, T, L, sigma, mu = i.t, i.T, i.L, i.sigma, QUANTITIES["mu"].symbol
    p, eta, rho, gamma = i.p[t], i.eta[t], i.rho[t], i.gamma[t]
    k, m, a = sympy.Abs(1 - L * eta), L * eta * sigma, eta * (1 - L * eta / 2)
    kappa = p * gamma * eta * L * rho
    alpha = L * eta**2 / 2 * (sigma**2 + p * gamma**2 * L**2 * rho**2)
    R = sympy.sqrt(kappa**2 * k**4 + 4 * a * alpha * k**2 + 4 * a**2 * m**2)

    s = sympy.Symbol("s", integer=True, nonnegative=True)
    Theta, F = sympy.IndexedBase(r"\Theta"), sympy.IndexedBase("F")

    def kept(first: sympy.Expr) -> sympy.Expr:
        return sympy.Product(1 - Theta[t], (t, first, T - 1))

    return Symbolic(
        i.gap * kept(sympy.Integer(0)) + sympy.Sum(F[s] * (kept(s + 1) - kept(s)), (s, 0, T - 1)),
        {
            Theta[t]: 2 * mu * a * R / (kappa * k**2 + R),
            F[s]: ((2 * a * alpha + kappa**2 * k**2 + kappa * R) / (4 * mu * a**2)).subs(t, s),
        },
    )


def _mean(least: sympy.Expr, V0: sympy.Expr, V1: sympy.Expr, gap: sympy.Expr, s: sympy.Symbol) -> sympy.Expr:
    """The inequality of the module averaged over the trial, divided by the factors of y."""
    import sympy

    i, mu = indexed(), QUANTITIES["mu"].symbol
    width = i.L - least

    def branch(theta: sympy.Symbol, V: sympy.Expr) -> sympy.Expr:
        y = gap - s / (2 * i.L) + (1 / (2 * i.L) + (1 / theta - 1) / (2 * width)) * V**2
        return y / (1 + mu * (1 - theta) / width)

    theta = sympy.symbols(r"\theta_0 \theta_1", positive=True)
    return (1 - i.p[i.t]) * branch(theta[0], V0) + i.p[i.t] * branch(theta[1], V1)


_OVER_THETA = r"\min_{0 < \theta_0, \theta_1 \le 1}"


def _symbolic_recursion(ascent: Ascent) -> Symbolic:
    """Delta_T where Delta_0 = Delta and Delta_{t+1} is a function of Delta_t."""
    import sympy

    i = indexed()
    t, L, sigma, mu = i.t, i.L, i.sigma, QUANTITIES["mu"].symbol
    eta, rho, gamma = i.eta[t], i.rho[t], i.gamma[t]
    s = sympy.Symbol("s", nonnegative=True)
    V0, V1 = sympy.symbols("V_0 V_1", nonnegative=True)
    gap, K = sympy.IndexedBase(r"\Delta"), sympy.Symbol("K", real=True)
    largest = sympy.Function(_OVER_THETA + r"\ \max_{2\mu\Delta_t \le s \le 2L\Delta_t}")
    k, weight, reach = sympy.Abs(1 - L * eta), eta * gamma * L, L * rho
    R = sympy.Integer(1) if ascent == "normalized" else s + sigma**2
    rise = 0 if ascent == "normalized" else mu / L * reach * (2 - reach) * s
    unperturbed = k**2 * s + L**2 * eta**2 * sigma**2
    free = 2 * weight * reach * sympy.sqrt(unperturbed) * sympy.sqrt(R)
    capped = sympy.Min(free, weight * k * (s - 2 * mu * gap[t] + reach**2 * R - rise))
    cap_holds = sympy.And(sympy.Eq(sigma, 0), L * eta < 1)
    return Symbolic(
        gap[i.T],
        {
            gap[t + 1]: largest(_mean(-L, V0, V1, gap[t], s)),
            V0: sympy.sqrt(unperturbed),
            V1: sympy.sqrt(unperturbed + K + weight**2 * reach**2 * R),
            K: sympy.Piecewise((capped, cap_holds), (free, True)),
        },
    )


def _symbolic_convex(strongly: bool) -> Symbolic:
    """Delta_T, with the largest gap D_t of any path beside the mean Delta_t; Delta_0 = D_0 = Delta."""
    import sympy

    i = indexed()
    t, L = i.t, i.L
    eta, rho, gamma = i.eta[t], i.rho[t], i.gamma[t]
    least = QUANTITIES["mu"].symbol if strongly else sympy.Integer(0)
    s, d = sympy.symbols("s d", nonnegative=True)
    V0, V1 = sympy.symbols("V_0 V_1", nonnegative=True)
    gap, most = sympy.IndexedBase(r"\Delta"), sympy.IndexedBase("D")
    over_theta = sympy.Function(_OVER_THETA)
    over_both = sympy.Function(r"\max_{X:\, P(X_t = X) > 0}\ " + _OVER_THETA)
    Psi, Psi_X = sympy.Function(r"\Psi_t"), sympy.Function(r"\Psi_t|_{p_t = X}")
    worst_end = sympy.Function(r"\max_{s \in \{2\mu d, 2Ld\}}")
    rise = sympy.Max(0, Psi(most[t]) - Psi(0))
    G = sympy.sqrt(s)
    return Symbolic(
        gap[i.T],
        {
            gap[t + 1]: over_theta(Psi(0) + gap[t] / most[t] * rise),
            most[t + 1]: over_both(sympy.Max(Psi_X(0), Psi_X(most[t]))),
            Psi(d): worst_end(_mean(least, V0, V1, d, s)),
            V0: (1 - L * eta) * G,
            V1: sympy.Max(*(sympy.Abs((1 - L * eta) * G - L * eta * gamma * j * rho) for j in (least, L))),
        },
    )


# The bounds

_ASSUMPTIONS = frozenset(
    {
        A.SMOOTH,
        A.UNBIASED,
        A.BOUNDED_VARIANCE,
        A.BOUNDED_BELOW,
        A.POLYAK_LOJASIEWICZ,
        A.SAME_MINIBATCH,
        A.INDEPENDENT_TRIALS,
    }
)
_EXACT_GRADIENTS = (_ASSUMPTIONS - {A.UNBIASED, A.BOUNDED_VARIANCE, A.SAME_MINIBATCH}) | {A.NOISELESS}

pl_last_iterate = RunBound(
    name="pl_last_iterate",
    title="The last gap under the Polyak-Lojasiewicz inequality",
    source="polyak_lojasiewicz.md#theorem",
    kind="upper",
    assumptions=_ASSUMPTIONS | {A.NORMALIZED_ASCENT},
    domain=(STEP_SIZE, POSITIVE_CURVATURE, KNOWN_GAP),
    metric=FINAL_GAP,
    formula=partial(_recursion, ascent="normalized"),
    symbolic=partial(_symbolic_recursion, ascent="normalized"),
)

pl_last_iterate_closed = RunBound(
    name="pl_last_iterate_closed",
    title="The same in closed form, weaker: a weighted mean of the gap at the start and the steps' floors",
    source="polyak_lojasiewicz.md#closed",
    kind="upper",
    assumptions=pl_last_iterate.assumptions,
    domain=pl_last_iterate.domain,
    metric=FINAL_GAP,
    formula=_closed,
    symbolic=_symbolic_closed,
)

pl_last_iterate_unnormalized = RunBound(
    name="pl_last_iterate_unnormalized",
    title="The last gap under the Polyak-Lojasiewicz inequality, unnormalized ascent",
    source="polyak_lojasiewicz.md#unnormalized",
    kind="upper",
    assumptions=_ASSUMPTIONS | {A.UNNORMALIZED_ASCENT},
    domain=pl_last_iterate.domain,
    metric=FINAL_GAP,
    formula=partial(_recursion, ascent="unnormalized"),
    symbolic=partial(_symbolic_recursion, ascent="unnormalized"),
)

pl_last_iterate_convex = RunBound(
    name="pl_last_iterate_convex",
    title="The last gap on a convex objective with the Polyak-Lojasiewicz inequality, without noise",
    source="polyak_lojasiewicz.md#convex",
    kind="upper",
    assumptions=_EXACT_GRADIENTS | {A.NORMALIZED_ASCENT, A.CONVEX},
    domain=(SHORT_STEPS, POSITIVE_CURVATURE, NO_NOISE, KNOWN_GAP),
    metric=FINAL_GAP,
    formula=partial(_convex_recursion, strongly=False),
    symbolic=partial(_symbolic_convex, strongly=False),
)

pl_last_iterate_strongly_convex = RunBound(
    name="pl_last_iterate_strongly_convex",
    title="The last gap on a strongly convex objective, without noise; it sees the order of a schedule",
    source="polyak_lojasiewicz.md#convex",
    kind="upper",
    assumptions=pl_last_iterate_convex.assumptions | {A.STRONGLY_CONVEX},
    domain=pl_last_iterate_convex.domain,
    metric=FINAL_GAP,
    formula=partial(_convex_recursion, strongly=True),
    symbolic=partial(_symbolic_convex, strongly=True),
)
