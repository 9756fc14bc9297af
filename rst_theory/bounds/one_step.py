"""The worst expected change of f in one step, given the gradient norm G at the point; without noise.

Normalized ascent. Proofs and what is proved how far: `paper_notes/one_step.md`. Symbol key in
`rst_theory.bounds.base`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rst_theory.bounds.base import NO_NOISE, POSITIVE_CURVATURE, A, Bound, Metric, Symbolic
from rst_theory.notation import QUANTITIES, ProblemConstants

if TYPE_CHECKING:
    import sympy

__all__ = ["OneStepBound", "one_step_convex", "one_step_smooth", "one_step_strongly_convex"]

CHANGE = Metric(
    name="expected change of f in one step",
    latex=r"\sup_f \mathbb{E} f(x^+) - f(x)",
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


@dataclass(frozen=True)
class OneStepBound(Bound):
    """The supremum over a class of objectives of the expected change of f in one step, given G."""

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
        """The worst expected change of f.

        Args:
            p: probability of the perturbed step, in [0, 1].
            eta: step size, eta >= 0.
            rho: radius, rho >= 0.
            gradient_norm: G >= 0.
            constants: of the problem; sigma must be 0.
            gamma: mixing coefficient, gamma >= 0.

        Raises:
            DomainError: a parameter outside its domain, sigma > 0, or mu = 0 where mu > 0 is needed.
        """
        step = Step(
            p=QUANTITIES["p"].check(p),
            eta=QUANTITIES["eta"].check(eta),
            rho=QUANTITIES["rho"].check(rho),
            gamma=QUANTITIES["gamma"].check(gamma),
            G=QUANTITIES["gradient_norm"].check(gradient_norm),
            L=constants.L,
            mu=constants.mu,
            sigma=constants.sigma,
        )
        for condition in self.domain:
            condition.require(step)
        return self.formula(step) if step.G > 0 else 0.0  # a zero gradient moves nothing


def _strongly_convex(s: Step) -> float:
    p, eta, rho, gamma, G, L, mu, _ = s
    a = eta * (1 - L * eta / 2)
    return -a * G**2 + p * max(
        L * (eta * gamma * j * rho) ** 2 / 2 - eta * gamma * (1 - L * eta) * j * rho * G for j in (mu, L)
    )


def _convex(s: Step) -> float:
    return _strongly_convex(s._replace(mu=0.0))


def _smooth(s: Step) -> float:
    p, eta, rho, gamma, G, L, *_ = s
    a, q = eta * (1 - L * eta / 2), p * gamma
    if eta * L >= 1 or gamma * L * rho <= G:
        mixing = L * eta**2 / 2 * q * gamma * (L * rho) ** 2
        return -a * G**2 + eta * q * abs(1 - L * eta) * L * rho * G + mixing
    return -(1 - p) * a * G**2 + p * L * rho**2 * _overshot(eta * L, G / (L * rho), gamma)


def _overshot(e: float, h: float, gamma: float) -> float:
    """S: the worst change of f in a perturbed step that overshoots to the ascent side, by D.

    In units of L rho^2, for e = eta L < 1 and h = G/(L rho) < gamma.
    """
    u, b = e * gamma, -e * (1 - e / 2) * h**2
    D = e * (gamma - h)
    scale = 2 * u**2 + 4 * u + 1
    d = (2 * u**2 * h + (2 * u + 1) * D) / scale
    candidates = [b - u * (1 - e) * h + u**2 / 2]
    if d <= min(1, D):
        candidates.append((2 * (u * h) ** 2 + 2 * (2 * u + 1) * h * D + D**2) / (2 * scale))
    if D <= 1 and d >= D:
        candidates.append(h * D - D**2 / 2)
    if D > 1:
        candidates.append(h * D + D**2 / 2 - 2 * D + 1)
        candidates.extend(_sliver(h, u, D))
    return max(candidates)


def _sliver(h: float, u: float, D: float) -> list[float]:
    """The thin regime D > 1, u < 1 + sqrt(3/2), with an interior maximum at 1 <= d <= D."""
    A = 1 / 2 - 1 / u - 1 / (4 * u**2)
    if not (u < 1 + math.sqrt(1.5) and A < 0):
        return []
    slope = h - 2 + D / u + D / (2 * u**2)
    if not 1 <= -slope / (2 * A) <= D:
        return []
    return [1 - (D / u) ** 2 / 4 - slope**2 / (4 * A)]


def _symbols() -> tuple[sympy.Symbol, ...]:
    return tuple(QUANTITIES[k].symbol for k in ("p", "eta", "rho", "gamma", "gradient_norm", "L", "mu"))


def _symbolic_convex(strongly: bool) -> Symbolic:
    import sympy

    p, eta, rho, gamma, G, L, mu = _symbols()

    def curvature(j: sympy.Expr) -> sympy.Expr:
        return L * (eta * gamma * j * rho) ** 2 / 2 - eta * gamma * (1 - L * eta) * j * rho * G

    worst = sympy.Max(curvature(mu if strongly else sympy.Integer(0)), curvature(L))
    return Symbolic(-eta * (1 - L * eta / 2) * G**2 + p * worst)


def _symbolic_smooth() -> Symbolic:
    """In the proved regime eta L >= 1 or G >= gamma L rho in closed form, beyond it by the name S."""
    import sympy

    p, eta, rho, gamma, G, L, _ = _symbols()
    a = eta * (1 - L * eta / 2)
    q = p * gamma
    closed = (
        -a * G**2
        + eta * q * sympy.Abs(1 - L * eta) * L * rho * G
        + L * eta**2 / 2 * q * gamma * L**2 * rho**2
    )
    S = sympy.Function("S")(eta * L, G / (L * rho), gamma)
    overshot = -(1 - p) * a * G**2 + p * L * rho**2 * S
    return Symbolic(sympy.Piecewise((closed, sympy.Or(eta * L >= 1, gamma * L * rho <= G)), (overshot, True)))


_ONE_STEP = frozenset({A.SMOOTH, A.NOISELESS, A.INDEPENDENT_TRIALS, A.NORMALIZED_ASCENT})

one_step_smooth = OneStepBound(
    name="one_step_smooth",
    title="One step, smooth nonconvex; proved for eta L >= 1 or G >= gamma L rho, else computed",
    source="one_step.md#smooth",
    kind="tight",
    assumptions=_ONE_STEP,
    metric=CHANGE,
    domain=(NO_NOISE,),
    formula=_smooth,
    symbolic=_symbolic_smooth,
)

one_step_convex = OneStepBound(
    name="one_step_convex",
    title="One step on a smooth convex objective",
    source="one_step.md#convex",
    kind="tight",
    assumptions=_ONE_STEP | {A.CONVEX},
    metric=CHANGE,
    domain=(NO_NOISE,),
    formula=_convex,
    symbolic=lambda: _symbolic_convex(strongly=False),
)

one_step_strongly_convex = OneStepBound(
    name="one_step_strongly_convex",
    title="One step on a smooth strongly convex objective",
    source="one_step.md#convex",
    kind="tight",
    assumptions=_ONE_STEP | {A.CONVEX, A.STRONGLY_CONVEX},
    metric=CHANGE,
    domain=(NO_NOISE, POSITIVE_CURVATURE),
    formula=_strongly_convex,
    symbolic=lambda: _symbolic_convex(strongly=True),
)
