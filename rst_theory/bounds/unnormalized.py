"""Bounds on the average squared gradient of a smooth nonconvex objective, unnormalized ascent y = x + rho g.

Proofs: `paper_notes/unnormalized_average.md`. Symbol key in `rst_theory.bounds.base`; beside it
c = a - eta q |1 - L eta| L rho - L^3 eta^2 q gamma rho^2/2 the least expected decrease of f in a step, as a
multiple of the squared gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from rst_theory.bounds.average import NONCONVEX, WEIGHTED_AVERAGE, indexed, least_ratio
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
from rst_theory.notation import QUANTITIES, DomainError, FloatArray

if TYPE_CHECKING:
    import sympy

__all__ = [
    "nonconvex_average_unnormalized",
    "nonconvex_average_unnormalized_noisy",
    "nonconvex_average_unnormalized_short",
    "nonconvex_potential_unnormalized",
]


def _uniform_weights(eta: FloatArray, L: float) -> FloatArray:
    return np.full(eta.shape, 1 / eta.size)


UNIFORM_AVERAGE = Metric(
    name="average squared gradient",
    latex=r"\frac{1}{T} \sum_{t=0}^{T-1} \mathbb{E}\|\nabla f(x_t)\|^2",
    quantity="squared_gradient_norm",
    weights=_uniform_weights,
)


def _descent(s: Setting) -> FloatArray:
    """c_t, (T,)."""
    L = s.L
    return np.asarray(
        s.a - s.eta * s.q * abs(1 - L * s.eta) * L * s.rho - L**3 * s.eta**2 / 2 * s.q * s.gamma * s.rho**2
    )


_C_TEXT = "c_t = a_t - eta_t q_t |1 - L eta_t| L rho_t - L^3 eta_t^2 q_t gamma_t rho_t^2/2"
_C_LATEX = r"c_t = a_t - \eta_t q_t |1 - L\eta_t| L\rho_t - \tfrac12 L^3\eta_t^2 q_t\gamma_t\rho_t^2"
DESCENT = Condition(
    f"c_t > 0 for t < T-1, {_C_TEXT}",
    rf"c_t > 0,\quad {_C_LATEX}",
    holds=lambda s: _descent(s)[:-1] > 0,
    shown=lambda s: _descent(s)[:-1],
)

_NOISELESS = (NONCONVEX - {A.UNBIASED, A.BOUNDED_VARIANCE}) | {A.NOISELESS, A.UNNORMALIZED_ASCENT}


class _Letters(NamedTuple):
    """The symbols of a run, and c_t written in them."""

    t: sympy.Symbol
    T: sympy.Symbol
    L: sympy.Symbol
    sigma: sympy.Symbol
    gap: sympy.Symbol
    eta: sympy.Expr
    rho: sympy.Expr
    gamma: sympy.Expr
    q: sympy.Expr
    c: sympy.Expr


def _letters() -> _Letters:
    import sympy

    i = indexed()
    t, L = i.t, i.L
    eta, rho, gamma, q = i.eta[t], i.rho[t], i.gamma[t], i.p[t] * i.gamma[t]
    a = eta * (1 - L * eta / 2)
    c = a - eta * q * sympy.Abs(1 - L * eta) * L * rho - L**3 * eta**2 / 2 * q * gamma * rho**2
    return _Letters(t, i.T, L, i.sigma, i.gap, eta, rho, gamma, q, c)


# Every step descends: the closed form.


def _closed(s: Setting) -> float:
    c = _descent(s)
    c[-1] = 1 / (2 * s.L)
    return float(s.gap / (c.size * c.min()))


def _symbolic_closed() -> Symbolic:
    import sympy

    i = _letters()
    weight = sympy.Piecewise((1 / (2 * i.L), sympy.Eq(i.t, i.T - 1)), (i.c, True))
    least = sympy.Symbol(r"w_{\min}", positive=True)
    return Symbolic(i.gap / (i.T * least), {least: sympy.Function(r"\min_{0 \le t < T}")(weight)})


nonconvex_average_unnormalized = RunBound(
    name="nonconvex_average_unnormalized",
    title="Unnormalized ascent without noise on smooth nonconvex objectives",
    source="unnormalized_average.md#theorem",
    kind="upper",
    assumptions=_NOISELESS,
    domain=(DESCENT, NO_NOISE, KNOWN_GAP),
    metric=UNIFORM_AVERAGE,
    formula=_closed,
    symbolic=_symbolic_closed,
)


# No perturbed step overshoots: the closed form with the last gradients taken into account.


def _least_descent(s: Setting) -> float:
    """The least c_t over t < T-1; 1/(2L), which no c_t exceeds, if there is none."""
    return float(min(_descent(s)[:-1], default=1 / (2 * s.L)))


def _no_overshoot(s: Setting) -> npt.NDArray[np.bool_]:
    """Where the condition of the theorem holds; (T-1,)."""
    e = s.L * s.eta[:-1]
    m = np.where(s.p[:-1] > 0, s.gamma[:-1] * s.L * s.rho[:-1], 0.0)
    gentle = (1 - 2 * s.L * _least_descent(s)) * (1 - e + e * m) <= (1 - e) * (1 - m)
    return np.asarray(gentle & (e <= 1) & (m < 1))


NO_OVERSHOOT = Condition(
    "(1 - 2 L c)(1 - e_t + e_t m_t) <= (1 - e_t)(1 - m_t), e_t = L eta_t <= 1, c = min c_t, and "
    "m_t = gamma_t L rho_t < 1 (m_t = 0 where p_t = 0), for t < T-1",
    r"(1 - 2Lc)(1 - e_t + e_tm_t) \le (1 - e_t)(1 - m_t),\quad e_t = L\eta_t \le 1,\quad "
    r"m_t = \gamma_tL\rho_t[p_t > 0] < 1",
    holds=_no_overshoot,
    shown=lambda s: s.eta[:-1],
)


def _short(s: Setting) -> float:
    c = _least_descent(s)
    return float(s.gap * (1 - (1 - 2 * s.L * c) ** s.T) / (s.T * c))


def _symbolic_short() -> Symbolic:
    import sympy

    i = _letters()
    least = sympy.Symbol("c", positive=True)
    weight = sympy.Piecewise((1 / (2 * i.L), sympy.Eq(i.t, i.T - 1)), (i.c, True))
    return Symbolic(
        i.gap * (1 - (1 - 2 * i.L * least) ** i.T) / (i.T * least),
        {least: sympy.Function(r"\min_{0 \le t < T}")(weight)},
    )


nonconvex_average_unnormalized_short = RunBound(
    name="nonconvex_average_unnormalized_short",
    title="Unnormalized ascent without noise, short steps on smooth nonconvex objectives",
    source="unnormalized_average.md#short",
    kind="upper",
    assumptions=_NOISELESS,
    domain=(DESCENT, NO_OVERSHOOT, NO_NOISE, KNOWN_GAP),
    metric=UNIFORM_AVERAGE,
    formula=_short,
    symbolic=_symbolic_short,
)


# Quadratic potentials. Everything is in units L = 1; D is the displacement x - x^+ in a branch of a step.


class _Potential(NamedTuple):
    """u |g|^2 + v <g, delta> + z |delta|^2, of a gradient and its change along the ascent, |delta| <= h |g|.

    Arrays over the multipliers alpha; z <= 0.
    """

    u: FloatArray
    v: FloatArray
    z: FloatArray
    h: float

    def worst(self) -> FloatArray:
        """Its least value at |g| = 1: concave in delta, it is least at an end."""
        return self.u - abs(self.v) * self.h + self.z * self.h**2


class _Form(NamedTuple):
    """A |g|^2 + B <g, D> + C |D|^2; -_HUGE for A where nothing was proved."""

    A: FloatArray
    B: FloatArray
    C: FloatArray

    def at(self, D: float) -> FloatArray:
        """Its value at |g| = 1 and a parallel displacement."""
        return self.A + (self.B + self.C * D) * D


_HUGE = 1e30
_NEGLIGIBLE = 1e-100  # a perturbation that is lost in the rounding of everything else
_FARTHEST_BALL = 1e6
_PRUDENCE = 0.6
# The menu: multipliers of two inequalities, and how far the branches of a step may differ in alpha.
_BALLS = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])[:, None]
_CYCLES = np.array([0.03, 0.08, 0.15, 0.22, 0.3, 0.4, 0.55, 0.8, 1.2, 2.0])[:, None]
_TILTS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2)


def _eliminate(
    after: _Potential, ball: FloatArray | float, cycle: FloatArray | float, tau: FloatArray | float
) -> _Form:
    """What is left of f(x) - f(x^+) + after(g^+, delta^+) when g^+ and delta^+ are chosen worst.

    Args:
        after: the potential at x^+.
        ball: multiplier of |g - g^+| <= |D|.
        cycle: multiplier of |g - g^+ - delta^+| <= |D - h g^+|, that is, of x and the perturbed point of x^+.
        tau: multiplier of |delta^+| <= h |g^+|.

    Source: `paper_notes/unnormalized_average.md#elimination`.
    """
    u, v, z, h = after
    K = 1 / 4 + ball + cycle
    # The quadratic in (g^+, delta^+) is H with the linear part (k_g g + k_D D, l g).
    H11, H12, H22 = K + u - (cycle + tau) * h**2, cycle + v / 2, cycle + z + tau
    k_g, k_D, l_g = -1 / 2 - 2 * ball - 2 * cycle, 1 / 2 + 2 * cycle * h, -2 * cycle
    det = H11 * H22 - H12**2
    convex = (H22 > 1e-9) & (det > 1e-9 * H22)
    four = np.where(convex, 4 * det, 1.0)
    return _Form(
        np.where(convex, K - (H22 * k_g**2 - 2 * H12 * k_g * l_g + H11 * l_g**2) / four, -_HUGE),
        np.where(convex, 1 / 2 - 2 * (H22 * k_g - H12 * l_g) * k_D / four, 0.0),
        np.where(convex, -K - H22 * k_D**2 / four, 0.0),
    )


def _ball(r: FloatArray, D: float) -> FloatArray:
    """The multiplier that keeps the worst g^+ within |g^+ - g| <= D, for the potential r |g^+|^2."""
    D = max(D, 1 / _FARTHEST_BALL)
    return np.clip(np.maximum(r * (1 - D) / D, -1 / 2 - r * (1 + D) / D), 0.0, _FARTHEST_BALL)


def _tau(after: _Potential, cycle: FloatArray, D: float) -> FloatArray:
    """The multiplier of |delta^+| <= h |g^+| that keeps the worst delta^+ = +-h g^+ at displacement D."""
    u, v, z, h = after
    worst_value, tau = np.array(np.inf), np.zeros_like(u)
    for s in (h, -h):
        square = 1 / 4 + cycle * (1 - h**2) + u + (2 * cycle + v) * s + (cycle + z) * s**2
        square = np.where(square > 1e-9, square, np.nan)
        half = (1 / 2 + 2 * cycle * (1 + s) - (1 / 2 + 2 * cycle * h) * D) / 2
        g, value = half / square, -(half**2) / square
        g = np.where(abs(g) > 1e-9, g, np.nan)
        kept = (2 * cycle - (2 * cycle + v) * g) / (2 * s * g) - cycle - z
        tau = np.where(value < worst_value, kept, tau)
        worst_value = np.fmin(worst_value, value)
    return np.maximum(np.nan_to_num(tau), 0.0)


def _branch(after: _Potential, displacements: tuple[float, float, float], prudence: float) -> _Form:
    """The best proved lower bound of a branch, as a form in g and D, out of a menu of multipliers.

    `displacements` are the least, the largest and the usual one, that of the base step, at |g| = 1; prudence
    weighs the worst of the first two against the last, among the bounds at least as good as any from the
    potential's worst value alone.
    """
    least, largest, usual = displacements
    lone = _Potential(after.worst(), np.zeros_like(after.u), np.zeros_like(after.u), 0.0)
    balls = np.stack([_ball(lone.u, D) for D in set(displacements)])
    forms = [_eliminate(lone, np.concatenate([balls, _BALLS + 0 * lone.u]), 0.0, 1.0)]
    if after.h > 0:
        forms += [_eliminate(after, 0.0, _CYCLES, _tau(after, _CYCLES, D)) for D in set(displacements)]
    menu = _Form(*(np.concatenate(part) for part in zip(*forms, strict=True)))
    worst = np.minimum(menu.at(least), menu.at(largest))
    safe = worst >= worst[: forms[0].A.shape[0]].max(axis=0)  # than without looking two steps back
    merit = prudence * worst + (1 - prudence) * menu.at(usual)
    best = np.where(safe, merit, -np.inf).argmax(axis=0)[None]
    return _Form(*(np.take_along_axis(part, best, axis=0)[0] for part in menu))


def _first_potential(s: Setting, alpha: FloatArray) -> FloatArray:
    """The worst value of the potential at x_0, for each multiplier alpha of f - f_star, increasing.

    Where it is nonnegative, the sum of the expected squared gradients is at most alpha Delta.
    """
    e, h = s.L * s.eta, s.L * s.rho
    zero = np.zeros_like(alpha)
    q = _Potential(1 / 2 - 1 / alpha, zero, zero, 0.0)
    for t in range(s.T - 2, -1, -1):
        p, gamma = s.p[t], s.gamma[t]
        base = _branch(q, (e[t], e[t], e[t]), 1.0).at(e[t])
        if p * gamma * h[t] > _NEGLIGIBLE:
            ends = e[t] * (1 - gamma * h[t]), e[t] * (1 + gamma * h[t])
            perturbed = _branch(q, (*ends, e[t]), _PRUDENCE if t else 1.0)
            q = _joined(base, perturbed, alpha, p, gamma, e[t], h[t])
        else:
            q = _Potential(base - 1 / alpha, zero, zero, 0.0)
        q = _released(q, alpha)
    return q.worst()


def _joined(
    base: FloatArray, perturbed: _Form, alpha: FloatArray, p: float, gamma: float, e: float, h: float
) -> _Potential:
    """The two branches together, with the best tilt of alpha towards one of them."""

    def moved(values: FloatArray, at: FloatArray) -> FloatArray:
        return np.asarray(np.interp(at, alpha, alpha * values, left=-_HUGE) / alpha)

    def together(base: FloatArray, A: FloatArray, B: FloatArray, C: FloatArray) -> _Potential:
        u = (1 - p) * base + p * (A + e * B + e**2 * C) - 1 / alpha  # D = e (g + gamma delta)
        return _Potential(u, p * gamma * e * (B + 2 * e * C), p * (gamma * e) ** 2 * C, h)

    menu = [together(base, *perturbed)]
    for tilt in _TILTS if p < 1 else ():
        up, down = tilt * alpha, alpha * (1 - p * tilt) / (1 - p)
        menu.append(together(moved(base, down), *(moved(part, up) for part in perturbed)))
    best = np.argmax([q.worst() for q in menu], axis=0)
    u, v, z = (np.choose(best, part) for part in list(zip(*menu, strict=True))[:3])
    return _Potential(u, v, z, h)


def _released(q: _Potential, alpha: FloatArray) -> _Potential:
    """With f - f_star >= |g|^2/2 for a part of alpha, where that is better."""
    merit = alpha * (q.worst() - 1 / 2)
    best = np.maximum.accumulate(merit)
    kept = np.maximum.accumulate(np.where(merit >= best, np.arange(alpha.size), 0))
    share = alpha[kept] / alpha
    return _Potential(share * q.u[kept] + (1 - share) / 2, share * q.v[kept], share * q.z[kept], q.h)


def _potential(s: Setting) -> float:
    return s.L * s.gap / s.T * _least_multiplier(s)


def _least_multiplier(s: Setting) -> float:
    """The least alpha found that bounds the sum of the expected squared gradients by alpha L Delta.

    A grid, made finer around the answer; each alpha on it that passes is proved by itself. The work grows in
    proportion to T: some milliseconds a step.

    Raises:
        DomainError: no alpha up to 1e8 passes.
    """
    grid, best = np.geomspace(2.0, 1e8, 90), np.inf
    for _ in range(5):
        passes = _first_potential(s, grid) >= 0
        if not passes.any():
            break
        first = int(np.argmax(passes))
        best = min(best, float(grid[first]))
        if first == 0:
            break
        low, high = grid[first - 1 : first + 1]
        grid = np.unique(np.concatenate([np.geomspace(2.0, 1.25 * high, 40), np.linspace(low, high, 12)]))
    if not np.isfinite(best):
        raise DomainError("a quadratic potential that proves a bound of at most 1e8 L Delta/T", "none found")
    return best


def _symbolic_potential() -> Symbolic:
    import sympy

    i = _letters()
    alpha = sympy.Symbol(r"\alpha", positive=True)
    multiplier = sympy.Function(r"\alpha^\star")(i.q / i.gamma, i.L * i.eta, i.L * i.rho, i.gamma)
    return Symbolic(alpha * i.L * i.gap / i.T, {alpha: multiplier})


nonconvex_potential_unnormalized = RunBound(
    name="nonconvex_potential_unnormalized",
    title="Unnormalized ascent without noise, by quadratic potentials",
    source="unnormalized_average.md#potential",
    kind="upper",
    assumptions=_NOISELESS,
    domain=(NO_NOISE, KNOWN_GAP),
    metric=UNIFORM_AVERAGE,
    formula=_potential,
    symbolic=_symbolic_potential,
)


# With noise.

STEADY_DESCENT = Condition(
    f"c_t > 0, {_C_TEXT}",
    rf"c_t > 0,\quad {_C_LATEX}",
    holds=lambda s: _descent(s) > 0,
    shown=_descent,
)


def _noisy(s: Setting) -> float:
    L, sigma, a, e = s.L, s.sigma, s.a, s.L * s.eta
    descent = a * (_descent(s) / a).min()  # of every c_t the part that is in proportion to a_t
    C = s.gap + (L * s.eta**2 / 2 * sigma**2 * (1 + s.q * s.gamma * L**2 * s.rho**2)).sum()
    # The cross term is m sqrt((b^2 G^2 + e^2 sigma^2)(G^2 + sigma^2)), b = |1 - e|.
    m = s.eta * s.q * L * s.rho
    mb, me, own = (x[m > 0] for x in (m * abs(1 - e), m * e, descent))

    def numerator(spent: float) -> float:
        spare = spent * own
        slope, root = mb + spare, np.sqrt(spare * (2 * mb + spare))
        split = np.clip(me, slope - root, slope + root)  # m/omega in the note
        other = np.divide(me**2, split, out=np.zeros_like(me), where=split > 0)  # both may underflow
        return float(C + sigma**2 / 2 * (split + other).sum())

    return least_ratio(numerator) / float(descent.sum())


def _symbolic_noisy() -> Symbolic:
    import sympy

    i = _letters()
    L, sigma, eta, rho = i.L, i.sigma, i.eta, i.rho
    a = eta * (1 - L * eta / 2)
    G = QUANTITIES["gradient_norm"].symbol
    C, W, k, share = sympy.symbols(r"C W \kappa \beta", positive=True)
    b = sympy.Abs(1 - L * eta)
    root = sympy.sqrt((b**2 * G**2 + L**2 * eta**2 * sigma**2) * (G**2 + sigma**2))
    most = sympy.Function(r"\max_{G \ge 0}")(
        eta * i.q * L * rho * (root - b * G**2) - (1 - k) * share * a * G**2
    )
    squares = L * eta**2 / 2 * sigma**2 * (1 + i.q * i.gamma * L**2 * rho**2)
    steps = (i.t, 0, i.T - 1)
    least = sympy.Function(r"\min_{0 < \kappa < 1}")((C + sympy.Sum(most, steps)) / k)
    return Symbolic(
        least / (share * W),
        {
            C: i.gap + sympy.Sum(squares, steps),
            share: sympy.Function(r"\min_{0 \le t < T}")(i.c / a),
            W: sympy.Sum(a, steps),
        },
    )


nonconvex_average_unnormalized_noisy = RunBound(
    name="nonconvex_average_unnormalized_noisy",
    title="Unnormalized ascent with noise on smooth nonconvex objectives",
    source="unnormalized_average.md#noisy",
    kind="upper",
    assumptions=NONCONVEX | {A.UNNORMALIZED_ASCENT},
    domain=(STEP_SIZE, STEADY_DESCENT, KNOWN_GAP),
    metric=WEIGHTED_AVERAGE,
    formula=_noisy,
    symbolic=_symbolic_noisy,
)
