"""The least number of propagation pairs that guarantees an accuracy, and what regularization adds to it.

Symbol key: eps the accuracy asked of the average squared gradient; kappa = q rho the strength of the
regularization (degree times radius, a length); Delta the initial gap; with s = sqrt(eps)

    D(eta, p) = a s^2 - kappa L eta |1 - L eta| s - kappa L^2 eta^2 sigma
                - (L eta^2/2) (sigma^2 + L^2 kappa^2/p)

the guaranteed progress of one step. The master bound with constant parameters is at most eps if and only if
T D >= Delta, so the cost is (1 + p) Delta/D. Proofs, and why no schedule does better than a constant one:
`paper_notes/pairs_to_accuracy.md`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rst_theory.notation import QUANTITIES, DomainError, Interval, ProblemConstants, Quantity

__all__ = ["Plan", "least_pairs"]


class Plan(NamedTuple):
    """Constant parameters that guarantee an accuracy, and what they cost.

    Attributes:
        pairs: expected propagation pairs, steps (1 + p).
        steps: T, as a real number; a run takes the next integer.
        p: the probability of the perturbed step.
        eta: the step size.
    """

    pairs: float
    steps: float
    p: float
    eta: float


class _Progress(NamedTuple):
    """D(eta, p) = A eta - (B0 + B1/p) eta^2 for eta <= 1/L; beyond 1/L it only falls."""

    A: float
    B0: float
    B1: float
    L: float

    def curvature(self, p: float) -> float:
        return self.B0 + (self.B1 / p if p > 0 else 0.0)

    def plan(self, p: float, gap: float) -> Plan:
        """The best step size at this p."""
        B = self.curvature(p)
        eta = min(1 / self.L, self.A / (2 * B)) if B > 0 else 1 / self.L
        progress = eta * (self.A - B * eta)
        steps = gap / progress if progress > 0 else math.inf
        return Plan((1 + p) * steps, steps, p, eta)


def least_pairs(
    accuracy: float,
    *,
    strength: float,
    constants: ProblemConstants,
    gap: float,
    p: float | None = None,
) -> Plan:
    """The cheapest guarantee that the average squared gradient is at most `accuracy`.

    Step size, probability, radius and mixing coefficient are chosen to make the expected number of pairs
    least for which the master bound is at most the accuracy, at the given strength q rho; the bound depends
    on radius and degree through their product alone. Without noise, with x = L q rho/sqrt(accuracy):

        RST:  (2 L Delta/eps) (x + sqrt(1 + x^2))^2 pairs at p = x^2 + x sqrt(1 + x^2), for x <= 1/sqrt(3);
        SAM:  (2 L Delta/eps) 2/(1 - x^2).

    Args:
        accuracy: eps > (L q rho)^2, the floor.
        strength: kappa = q rho >= 0, degree times radius; 0 is plain SGD.
        constants: of the problem.
        gap: Delta >= 0.
        p: the probability, where it is given: 1 is SAM with gamma = q; None for the best.

    Raises:
        DomainError: a number outside its domain, an accuracy at or below the floor, or p = 0 at a positive
            strength.
    """
    eps = _ACCURACY.check(accuracy)
    kappa = _STRENGTH.check(strength)
    gap = QUANTITIES["gap"].check(gap)
    L, sigma, s = constants.L, constants.sigma, math.sqrt(eps)
    if eps <= (L * kappa) ** 2:
        raise DomainError(f"accuracy > (L strength)^2 = {(L * kappa) ** 2:g}, the floor", eps)
    progress = _Progress(
        A=s * (s - kappa * L),
        B0=L * (eps / 2 - kappa * L * s + kappa * L * sigma + sigma**2 / 2),
        B1=L**3 * kappa**2 / 2,
        L=L,
    )
    if p is None:
        return min(progress.plan(candidate, gap) for candidate in _candidates(progress))  # by their pairs
    p = QUANTITIES["p"].check(p)
    if p == 0 and kappa > 0:
        raise DomainError("p > 0 at a positive strength", p)
    return progress.plan(p, gap)


def _candidates(progress: _Progress) -> list[float]:
    """The probabilities among which the best lies: 1 and the stationary points of the two regimes.

    At their border nothing new can be least: D is a maximum over eta, so it has one slope on both sides.
    """
    A, B0, B1, L = progress
    if B1 == 0:
        return [0.0]
    found = [1.0]
    if B0 > 0:  # eta < 1/L: pairs ~ (1 + p)(B0 + B1/p)
        found.append(math.sqrt(B1 / B0))
    alpha, beta = A / L - B0 / L**2, B1 / L**2  # eta = 1/L: pairs ~ (1 + p)/(alpha - beta/p)
    if alpha > 0:
        found.append((beta + math.sqrt(beta * (beta + alpha))) / alpha)
    return [p for p in found if 0 < p <= 1]


_ACCURACY = Quantity("accuracy", "accuracy", r"\varepsilon", Interval(low=0.0, low_open=True))
_STRENGTH = Quantity("strength", "strength of the regularization", r"\kappa", Interval(low=0.0))
