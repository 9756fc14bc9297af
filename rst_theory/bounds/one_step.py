"""The worst expected change of f in one step, given the gradient norm G at the point.

Without noise it is exact on smooth, convex and strongly convex objectives; with noise it is an upper bound.
Normalized and unnormalized ascent. Proofs: `paper_notes/one_step.md`. Symbol key in
`rst_theory.bounds.base`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from rst_theory.bounds.base import NO_NOISE, POSITIVE_CURVATURE, A, Bound, Metric, Symbolic
from rst_theory.notation import QUANTITIES, DomainError, ProblemConstants

if TYPE_CHECKING:
    import sympy

    from rst_theory.problems import PiecewiseQuadratic

__all__ = [
    "OneStepBound",
    "Regime",
    "one_step_convex",
    "one_step_convex_unnormalized",
    "one_step_noisy",
    "one_step_noisy_unnormalized",
    "one_step_smooth",
    "one_step_smooth_unnormalized",
    "one_step_strongly_convex",
    "one_step_strongly_convex_unnormalized",
    "regime",
    "worst_function",
]

WORST_CHANGE = Metric(
    name="worst expected change of f in one step",
    latex=r"\sup_f \mathbb{E} f(x^+) - f(x)",
)
CHANGE = Metric(
    name="expected change of f in one step",
    latex=r"\mathbb{E} f(x^+) - f(x)",
)


class Step(NamedTuple):
    """The numbers of one step."""

    p: float
    eta: float
    rho: float
    gamma: float
    G: float
    L: float
    mu: float
    sigma: float

    @property
    def a(self) -> float:
        """The descent weight eta (1 - L eta/2)."""
        return self.eta * (1 - self.L * self.eta / 2)


@dataclass(frozen=True, repr=False)
class OneStepBound(Bound):
    """A bound on the expected change of f in one step, given the gradient norm G at its start."""

    def evaluate(
        self,
        *,
        p: float,
        eta: float,
        rho: float,
        gradient_norm: float,
        constants: ProblemConstants,
        gamma: float = 1.0,
    ) -> float:
        """The value of the bound.

        Args:
            p: probability of the perturbed step, in [0, 1].
            eta: step size, eta >= 0.
            rho: radius, rho >= 0.
            gradient_norm: G = ||grad f(x)|| >= 0, of the full gradient.
            constants: of the problem.
            gamma: mixing coefficient, gamma >= 0.

        Raises:
            DomainError: a parameter outside its domain, or a violated condition of the bound.
        """
        step = checked(constants, p, eta, rho, gamma, gradient_norm)
        for condition in self.domain:
            condition.require(step)
        if step.G == 0 and A.NOISELESS in self.assumptions:
            return 0.0  # a zero gradient moves nothing
        try:
            value = self.formula(step)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise DomainError("numbers whose squares and products are finite", step)
        return value


def checked(
    constants: ProblemConstants, p: float, eta: float, rho: float, gamma: float, gradient_norm: float
) -> Step:
    """The numbers of one step, each in its domain."""
    return Step(
        p=QUANTITIES["p"].check(p),
        eta=QUANTITIES["eta"].check(eta),
        rho=QUANTITIES["rho"].check(rho),
        gamma=QUANTITIES["gamma"].check(gamma),
        G=QUANTITIES["gradient_norm"].check(gradient_norm),
        L=constants.L,
        mu=constants.mu,
        sigma=constants.sigma,
    )


# Smooth, not necessarily convex. In one dimension, with x = 0 and the perturbed point at rho, the worst f' is
# G at 0, falls with slope -L between a turning point s and rho, and has slope L elsewhere.


def _landing(s: Step, turn: float) -> float:
    """z: where the perturbed step ends if f' turns at `turn`."""
    return s.eta * s.gamma * s.L * (s.rho - 2 * turn) - s.eta * s.G


def _change(s: Step, turn: float) -> float:
    """phi: the change of f in the perturbed step if f' turns at `turn`."""
    z = _landing(s, turn)
    return s.G * z + s.L * (z**2 / 2 - max(0.0, z - turn) ** 2 + max(0.0, z - s.rho) ** 2)


def _worst_turn(s: Step) -> float:
    """The turning point in [0, rho] where the change of f is largest: an end, or stationary inside.

    The change is piecewise quadratic in it. Its stationary points, for a landing before rho and beyond it,
    count only where they are maxima; moved into [0, rho] they are turning points like any other.
    """
    u, D, h = s.eta * s.gamma * s.L, _landing(s, 0.0), s.G / s.L
    turns = [0.0, s.rho, ((1 + u) * D - u * h) / (2 * u**2 + 4 * u + 1)]
    concave = 1 + 4 * u - 2 * u**2
    if concave > 0:
        turns.append((u * (2 * s.rho - h) + (1 - u) * D) / concave)
    return max((min(max(turn, 0.0), s.rho) for turn in turns), key=lambda turn: _change(s, turn))


def _smooth(s: Step) -> float:
    return -(1 - s.p) * s.a * s.G**2 + s.p * _change(s, _worst_turn(s))


class Regime(Enum):
    """Which function is the worst for a perturbed step on a smooth objective; the value is its description.

    f' has slope -L between its turning point and the perturbed point y, and L elsewhere.
    """

    DESCENT = "the step ends downhill of x whatever f does, and the descent lemma is attained"
    OVERSHOOT = "f' never falls: the step ends downhill, far beyond the minimum of a parabola"
    SHORT = "f' falls from x to y, and the step ends uphill of x, before y"
    LONG = "f' falls from x to y, and the step ends beyond y"
    INTERIOR = "f' turns between x and y, and the step ends before y"
    SLIVER = "f' turns between x and y, and the step ends beyond y"


def regime(step_size: float, gradient: float, gamma: float) -> Regime:
    """The regime that a step on a smooth, not necessarily convex objective is in, whatever p.

    Args:
        step_size: eta L >= 0.
        gradient: G/(L rho) >= 0.
        gamma: mixing coefficient, gamma >= 0.

    Raises:
        DomainError: an argument outside its domain.

    Source: `paper_notes/one_step.md#smooth`.
    """
    s = checked(ProblemConstants(L=1.0), 1.0, step_size, 1.0, gamma, gradient)
    if s.eta >= 1 or _landing(s, 0.0) <= 0:
        return Regime.DESCENT
    turn = _worst_turn(s)
    if turn == s.rho:
        return Regime.OVERSHOOT
    beyond = _landing(s, turn) > s.rho
    if turn == 0:
        return Regime.LONG if beyond else Regime.SHORT
    return Regime.SLIVER if beyond else Regime.INTERIOR


def worst_function(
    *, eta: float, rho: float, gradient_norm: float, L: float, gamma: float = 1.0
) -> PiecewiseQuadratic:
    """A smooth objective in one dimension that attains `one_step_smooth` from its start, at every p.

    Args:
        eta: step size, eta >= 0.
        rho: radius, rho >= 0.
        gradient_norm: G >= 0, f' at the start, which is 0.
        L: smoothness constant, L > 0.
        gamma: mixing coefficient, gamma >= 0.

    Raises:
        DomainError: an argument outside its domain.

    Source: `paper_notes/one_step.md#smooth`.
    """
    from rst_theory.problems import PiecewiseQuadratic

    s = checked(ProblemConstants(L=L), 1.0, eta, rho, gamma, gradient_norm)
    turn = _worst_turn(s)
    # f' by its knots, of which equal ones merge.
    heights = {0.0: s.G, turn: s.G + s.L * turn, s.rho: s.G + s.L * (2 * turn - s.rho)}
    return PiecewiseQuadratic(list(heights), list(heights.values()), left=s.L, right=s.L, start=[0.0])


def _symbolic_smooth() -> Symbolic:
    import sympy

    p, eta, rho, gamma, G, L, *_ = _symbols()
    s, z = sympy.Symbol("s", nonnegative=True), sympy.Symbol("z", real=True)
    change = G * z + L * (z**2 / 2 - sympy.Max(0, z - s) ** 2 + sympy.Max(0, z - rho) ** 2)
    worst = sympy.Function(r"\max_{0 \le s \le \rho}")(change)
    landing = eta * gamma * L * (rho - 2 * s) - eta * G
    return Symbolic(-(1 - p) * eta * (1 - L * eta / 2) * G**2 + p * worst, {z: landing})


# Convex: the change is linear in the curvature along the ascent, so the worst is the largest or the smallest.


def _strongly_convex(s: Step) -> float:
    def mixing(j: float) -> float:
        moved = s.eta * s.gamma * j * s.rho
        return s.L * moved**2 / 2 - (1 - s.L * s.eta) * moved * s.G

    return -s.a * s.G**2 + s.p * max(mixing(s.mu), mixing(s.L))


def _convex(s: Step) -> float:
    return _strongly_convex(s._replace(mu=0.0))


def _symbolic_convex(strongly: bool) -> Symbolic:
    import sympy

    p, eta, rho, gamma, G, L, mu, _ = _symbols()

    def mixing(j: sympy.Expr) -> sympy.Expr:
        moved = eta * gamma * j * rho
        return L * moved**2 / 2 - (1 - L * eta) * moved * G

    worst = sympy.Max(mixing(mu if strongly else sympy.Integer(0)), mixing(L))
    return Symbolic(-eta * (1 - L * eta / 2) * G**2 + p * worst)


# With noise: the descent lemma, with the root of the cross term kept whole.


def _noisy(s: Step) -> float:
    q, e = s.p * s.gamma, s.eta * s.L
    cross = s.eta * q * s.L * s.rho * math.hypot((1 - e) * s.G, e * s.sigma)
    return -s.a * s.G**2 + cross + e * s.eta / 2 * (s.sigma**2 + q * s.gamma * (s.L * s.rho) ** 2)


def _noisy_unnormalized(s: Step) -> float:
    return _noisy(s._replace(rho=s.rho * math.hypot(s.G, s.sigma)))


def _symbolic_noisy(normalized: bool) -> Symbolic:
    import sympy

    p, eta, rho, gamma, G, L, _, sigma = _symbols()
    q = p * gamma
    rho = rho if normalized else rho * sympy.sqrt(G**2 + sigma**2)
    cross = eta * q * L * rho * sympy.sqrt((1 - L * eta) ** 2 * G**2 + L**2 * eta**2 * sigma**2)
    squares = L * eta**2 / 2 * (sigma**2 + q * gamma * L**2 * rho**2)
    return Symbolic(-eta * (1 - L * eta / 2) * G**2 + cross + squares)


def _symbols() -> tuple[sympy.Symbol, ...]:
    """In the order of `Step`."""
    keys = ("p", "eta", "rho", "gamma", "gradient_norm", "L", "mu", "sigma")
    return tuple(QUANTITIES[key].symbol for key in keys)


def _unnormalized(bound: OneStepBound) -> OneStepBound:
    """The same with y = x + rho g: its radius is rho G, so the change is G^2 times that at G = 1."""

    def symbolic() -> Symbolic:
        compact, letters = bound.symbolic()
        G = QUANTITIES["gradient_norm"].symbol
        return Symbolic(
            G**2 * compact.subs(G, 1), {letter: meaning.subs(G, 1) for letter, meaning in letters.items()}
        )

    return dataclasses.replace(
        bound,
        name=f"{bound.name}_unnormalized",
        title=f"{bound.title}, unnormalized ascent",
        source="one_step.md#unnormalized",
        assumptions=(bound.assumptions - {A.NORMALIZED_ASCENT}) | {A.UNNORMALIZED_ASCENT},
        formula=lambda s: s.G**2 * bound.formula(s._replace(G=1.0)),
        symbolic=symbolic,
    )


_EXACT = frozenset({A.SMOOTH, A.NOISELESS, A.INDEPENDENT_TRIALS, A.NORMALIZED_ASCENT})

one_step_smooth = OneStepBound(
    name="one_step_smooth",
    title="One step on a smooth objective",
    source="one_step.md#smooth",
    kind="tight",
    assumptions=_EXACT,
    metric=WORST_CHANGE,
    domain=(NO_NOISE,),
    formula=_smooth,
    symbolic=_symbolic_smooth,
)

one_step_convex = OneStepBound(
    name="one_step_convex",
    title="One step on a smooth convex objective",
    source="one_step.md#convex",
    kind="tight",
    assumptions=_EXACT | {A.CONVEX},
    metric=WORST_CHANGE,
    domain=(NO_NOISE,),
    formula=_convex,
    symbolic=lambda: _symbolic_convex(strongly=False),
)

one_step_strongly_convex = OneStepBound(
    name="one_step_strongly_convex",
    title="One step on a smooth strongly convex objective",
    source="one_step.md#convex",
    kind="tight",
    assumptions=_EXACT | {A.CONVEX, A.STRONGLY_CONVEX},
    metric=WORST_CHANGE,
    domain=(NO_NOISE, POSITIVE_CURVATURE),
    formula=_strongly_convex,
    symbolic=lambda: _symbolic_convex(strongly=True),
)

one_step_smooth_unnormalized = _unnormalized(one_step_smooth)
one_step_convex_unnormalized = _unnormalized(one_step_convex)
one_step_strongly_convex_unnormalized = _unnormalized(one_step_strongly_convex)

_NOISY = frozenset({A.SMOOTH, A.UNBIASED, A.BOUNDED_VARIANCE, A.SAME_MINIBATCH, A.INDEPENDENT_TRIALS})

one_step_noisy = OneStepBound(
    name="one_step_noisy",
    title="One step on a smooth objective, with noise",
    source="one_step.md#noisy",
    kind="upper",
    assumptions=_NOISY | {A.NORMALIZED_ASCENT},
    metric=CHANGE,
    domain=(),
    formula=_noisy,
    symbolic=lambda: _symbolic_noisy(normalized=True),
)

one_step_noisy_unnormalized = OneStepBound(
    name="one_step_noisy_unnormalized",
    title="One step on a smooth objective, with noise, unnormalized ascent",
    source="one_step.md#noisy",
    kind="upper",
    assumptions=_NOISY | {A.UNNORMALIZED_ASCENT},
    metric=CHANGE,
    domain=(),
    formula=_noisy_unnormalized,
    symbolic=lambda: _symbolic_noisy(normalized=False),
)
