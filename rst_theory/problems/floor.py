"""The objective on which randomized sharpness-aware steps stay at the floor of the theory."""

from __future__ import annotations

import math

from rst_theory.notation import QUANTITIES, DomainError, Interval, Quantity, natural
from rst_theory.problems.nonconvex import PiecewiseQuadratic

_DEGREE = Quantity("degree", "degree of regularization", "q", Interval(low=0.0, low_open=True))
_RADIUS = Quantity("radius", "radius", r"\rho", Interval(low=0.0, low_open=True))
_SLACK = Quantity("slack", "slack", "w", Interval(0.0, 0.25, high_open=True))


class FloorInstance(PiecewiseQuadratic):
    """One dimension; the gradient keeps its size, in the mean square, while the walk stays in its window.

    Symbol key: q the degree of regularization p gamma, rho the radius, w the slack. In units of rho for x
    and of L rho for f',

        f'' = 1 for x < w,    -1 for w < x < 1 - w,    1 for x > 1 - w,    f'(0) = G = q (1 - 4 w).

    While |x| <= w both x and the perturbed point x + 1 lie where f'' = 1, and f'(x + 1) - f'(x) is
    -(1 - 4 w) throughout, so that the expected direction is f'(x) - q (1 - 4 w) = x: it pulls the walk back
    to its start. It stays for a time exponential in w^2/(eta L), and E f'(x_t)^2 >= G^2, which tends to the
    floor (q L rho)^2 of the bounds as w -> 0. Proof, with explicit constants: `paper_notes/floors.md`. At
    p = 1, gamma = q no slack is needed: with w = 0 the walk stands still.

    Constants: those of `PiecewiseQuadratic`.

    Args:
        degree: q > 0.
        radius: rho > 0, the radius of the run that it is made for.
        L: smoothness constant, L > 0.
        slack: w, 0 <= w < 1/4.

    Attributes:
        degree, radius, slack: as given.
        floor: (q L rho)^2.
        attained: G^2 = (1 - 4 w)^2 (q L rho)^2, the squared gradient at the start.

    Raises:
        DomainError: an argument outside its domain.
    """

    name = "floor"

    degree: float
    radius: float
    slack: float
    floor: float
    attained: float

    def __init__(self, degree: float, radius: float = 1.0, L: float = 1.0, slack: float = 1 / 500) -> None:
        q, rho = _DEGREE.check(degree), _RADIUS.check(radius)
        L, w = QUANTITIES["L"].check(L), _SLACK.check(slack)
        self.degree, self.radius, self.slack = q, rho, w
        G = q * (1 - 4 * w)
        self.floor = (q * L * rho) ** 2
        self.attained = (G * L * rho) ** 2
        super().__init__(
            [w * rho, (1 - w) * rho],
            [(G + w) * L * rho, (G - 1 + 3 * w) * L * rho],
            left=L,
            right=L,
            start=[0.0],
        )

    def least_average(self, p: float, eta: float, steps: int) -> float:
        """What the mean of E f'(x_t)^2 over t = 0, …, T-1 provably is at least, with gamma = q/p.

        G^2 [1 - (T/p^2) exp(-2 (2 - e) w^2/(e gamma^2 (1 - 4 w)^2))] with e = eta L, or 0 where that is
        negative: `paper_notes/floors.md#attained`. At p = 1 it is G^2.

        Args:
            p: probability of the perturbed step, in (0, 1].
            eta: step size, 0 < eta < 1/L.
            steps: T >= 1.

        Raises:
            DomainError: an argument outside its domain.
        """
        p, T = QUANTITIES["p"].check(p), natural("steps", steps, least=1)
        e = float(self.slopes[0]) * QUANTITIES["eta"].check(eta)
        if p == 0:
            raise DomainError("probability p in (0, 1]", p)
        if not 0 < e < 1:
            raise DomainError("0 < eta < 1/L", eta)
        if p == 1:
            return self.attained
        spread = self.degree / p * (1 - 4 * self.slack)
        exponent = 2 * (2 - e) * (self.slack / spread) ** 2 / e
        return self.attained * max(0.0, 1 - T / p**2 * math.exp(-exponent))
