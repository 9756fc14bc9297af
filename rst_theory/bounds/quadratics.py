"""Unnormalized ascent on a quadratic, exactly: moments at every step, stability, the stationary covariance.

On f(x) = 1/2 sum_i lam_i x_i^2 with gradients g = lam x + n, where n is Gaussian of standard deviation s in
each coordinate, the second gradient is a multiple of the first, g_adv = (1 + rho lam) g. So one step is

    x+ = (1 - e w) x - eta w n,   e = eta lam,   w = 1 + X k,   k = gamma rho lam,

in each coordinate, with one coin X ~ Bernoulli(p) for all of them; the moments of each order close. These
are equalities, not bounds: the reference that simulations and bounds are held against. Derivations and
proofs: `paper_notes/quadratics.md`.

Symbol key, beside the above: w1 = E w = 1 + p k and w2 = E w^2 = 1 + 2 p k + p k^2 the moments of the gain;
A = E (1 - e w)^2 the mean-square factor; eta_c(lam) = (2/lam) w1/w2 the critical step size; m = E x^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rst_theory.bounds.base import Parameter, Symbolic
from rst_theory.notation import QUANTITIES, DomainError, FloatArray, natural
from rst_theory.problems import Quadratic
from rst_theory.schedules import Schedule, sequence

if TYPE_CHECKING:
    import sympy

__all__ = [
    "QuadraticMoments",
    "StationaryMoments",
    "critical_radius",
    "critical_step_size",
    "lyapunov_exponent",
    "quadratic_moments",
    "stationary_moments",
    "symbolic_critical_step_size",
    "symbolic_second_moment",
]


@dataclass(frozen=True)
class QuadraticMoments:
    """Exact moments of the iterates x_0, …, x_T of a run with unnormalized ascent on a quadratic.

    Attributes:
        eigenvalues: lam, float64 (d,).
        p: probabilities, float64 (T,).
        base: the factors 1 - e of a base step, float64 (T, d).
        perturbed: the factors 1 - e (1 + k) of a perturbed step, float64 (T, d).
        mean: E x_t, float64 (T+1, d).
        second_moment: E x_t^2 in each coordinate, float64 (T+1, d).
    """

    eigenvalues: FloatArray
    p: FloatArray
    base: FloatArray
    perturbed: FloatArray
    mean: FloatArray
    second_moment: FloatArray

    @property
    def gap(self) -> FloatArray:
        """The expected gap E f(x_t) - f_star, float64 (T+1,)."""
        return 0.5 * self.second_moment @ self.eigenvalues

    @property
    def squared_gradient_norm(self) -> FloatArray:
        """The mean squared gradient norm E||grad f(x_t)||^2, float64 (T+1,)."""
        return self.second_moment @ self.eigenvalues**2

    @property
    def squared_distance(self) -> FloatArray:
        """The mean squared distance E||x_t||^2 to the minimizer 0, float64 (T+1,)."""
        return np.asarray(self.second_moment.sum(axis=1))

    def joint(self, t: int) -> FloatArray:
        """All second moments E x_t x_t^T, float64 (d, d).

        Two coordinates share their coins but not their noise, so off the diagonal E x_i x_j is the product
        of the start and of E (1 - e_i w_i)(1 - e_j w_j) over the steps.

        Raises:
            DomainError: t outside 0, …, T.
        """
        t = natural("t", t, below=len(self.mean))
        joint = np.outer(self.mean[0], self.mean[0])
        for p, base, perturbed in zip(self.p[:t], self.base[:t], self.perturbed[:t], strict=True):
            joint *= (1 - p) * np.outer(base, base) + p * np.outer(perturbed, perturbed)
        np.fill_diagonal(joint, self.second_moment[t])
        return joint

    def covariance(self, t: int) -> FloatArray:
        """The covariance of x_t, float64 (d, d).

        Raises:
            DomainError: t outside 0, …, T.
        """
        return self.joint(t) - np.outer(self.mean[t], self.mean[t])


def quadratic_moments(
    problem: Quadratic,
    schedule: Schedule | float,
    *,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    gamma: Parameter = 1.0,
    start: npt.ArrayLike | None = None,
) -> QuadraticMoments:
    """The exact moments of a run with unnormalized ascent and independent trials.

    In each coordinate E x+ = (1 - e w1) E x and E (x+)^2 = A E x^2 + eta^2 s^2 w2
    (`quadratics.md#moments`).

    Args:
        problem: the quadratic, with its noise.
        schedule: p(t), or a number.
        steps: T >= 1.
        eta: step sizes: a number, an array (T,) or a schedule; likewise rho and gamma.
        rho: radii.
        gamma: mixing coefficients.
        start: x_0, shape (d,); the problem's own by default.

    Raises:
        DomainError: a parameter outside its domain, named with its t.
        ValueError: a start of the wrong shape.
        OverflowError: a moment leaves the floating-point range; the step is named.
    """
    T = natural("steps", steps, least=1)
    p = sequence(schedule, T, QUANTITIES["p"])
    step, radius, mix = (
        sequence(value, T, QUANTITIES[key])[:, None]
        for key, value in (("eta", eta), ("rho", rho), ("gamma", gamma))
    )
    x = problem.start if start is None else np.asarray(start, dtype=np.float64)
    if x.shape != (problem.dimension,) or not np.isfinite(x).all():
        raise ValueError(f"start must be finite numbers of shape ({problem.dimension},); got {start!r}")
    lam, chance = problem.eigenvalues, p[:, None]
    mean, second_moment = np.empty((2, T + 1, problem.dimension))
    with np.errstate(over="ignore", invalid="ignore"):
        gain = 1 + mix * radius * lam
        base, perturbed = 1 - step * lam, 1 - step * lam * gain
        drift = (1 - chance) * base + chance * perturbed
        factor = (1 - chance) * base**2 + chance * perturbed**2
        noise = (step * problem.noise) ** 2 * (1 - chance + chance * gain**2)
        mean[0], second_moment[0] = x, x**2
        for t in range(T):
            mean[t + 1] = drift[t] * mean[t]
            second_moment[t + 1] = factor[t] * second_moment[t] + noise[t]
    finite = np.isfinite(second_moment).all(axis=1)
    if not finite.all():
        raise OverflowError(f"E x_t^2 leaves the floating-point range at t = {int(np.argmin(finite))}")
    return QuadraticMoments(lam, p, base, perturbed, mean, second_moment)


# Stability


def critical_step_size(*, L: float, rho: float, p: float, gamma: float = 1.0) -> float:
    """The step size eta_c: E||x_t||^2 tends to 0 without noise if and only if 0 < eta < eta_c.

    eta_c = (2/L) w1/w2 at lam = L. It decreases in lam, so the largest eigenvalue decides for the whole
    spectrum (`quadratics.md#stability`).

    Args:
        L: the largest eigenvalue.
        rho: radius, rho >= 0.
        p: probability, in [0, 1].
        gamma: mixing coefficient, gamma >= 0.

    Raises:
        DomainError: an argument outside its domain.
    """
    L = QUANTITIES["L"].check(L)
    return float(_critical(np.array([L]), *_numbers(rho=rho, p=p, gamma=gamma))[0])


def critical_radius(*, L: float, eta: float, p: float, gamma: float = 1.0) -> float:
    """The radius rho_c: at this step size E||x_t||^2 tends to 0 without noise if and only if rho < rho_c.

    With r = 1 - e and S = sqrt((1 - (1-p) r^2)/p) it solves e (1 + gamma rho L) = 1 + S. Infinite where
    p gamma = 0.

    Args:
        L: the largest eigenvalue; it decides, as in `critical_step_size`.
        eta: step size, 0 < eta < 2/L: beyond, no radius is stable.
        p: probability, in [0, 1].
        gamma: mixing coefficient, gamma >= 0.

    Raises:
        DomainError: an argument outside its domain.
    """
    L = QUANTITIES["L"].check(L)
    eta, p, gamma = _numbers(eta=eta, p=p, gamma=gamma)
    e = eta * L
    if not 0 < e < 2:
        raise DomainError("0 < eta L < 2", e)
    if p * gamma == 0:
        return math.inf
    r = 1 - e
    S = math.sqrt((1 - (1 - p) * r**2) / p)
    # k = (S + r)/e, of two equal forms the one in which nothing cancels.
    k = (S + r) / e if r >= 0 else (2 - e) / (p * (S - r))
    return k / gamma / L


def lyapunov_exponent(*, lam: float, eta: float, rho: float, p: float, gamma: float = 1.0) -> float:
    """The almost sure rate E log|1 - e w|: without noise (1/t) log|x_t| tends to it.

    It is at most (log A)/2, so mean-square stability implies that almost every run converges, not the
    reverse. Here the largest eigenvalue does not decide.

    Args:
        lam: the eigenvalue of the coordinate, lam >= 0.
        eta: step size, eta >= 0.
        rho: radius, rho >= 0.
        p: probability, in [0, 1].
        gamma: mixing coefficient, gamma >= 0.

    Returns:
        The exponent; -inf where a step of positive probability lands on 0.

    Raises:
        DomainError: an argument outside its domain.
    """
    lam = QUANTITIES["mu"].check(lam)
    eta, rho, p, gamma = _numbers(eta=eta, rho=rho, p=p, gamma=gamma)
    e, k = eta * lam, gamma * rho * lam
    branches = ((1 - p, abs(1 - e)), (p, abs(1 - e * (1 + k))))
    return sum(
        chance * (math.log(factor) if factor > 0 else -math.inf) for chance, factor in branches if chance > 0
    )


# Under noise, in the long run


@dataclass(frozen=True)
class StationaryMoments:
    """The second moments that a run with constant parameters under noise settles at.

    The stationary mean is 0, and so is the covariance of two coordinates (which remain dependent, by their
    common coins).

    Attributes:
        variance: E x_i^2, float64 (d,).
        gap: E f - f_star.
        squared_gradient_norm: E||grad f||^2.
    """

    variance: FloatArray
    gap: float
    squared_gradient_norm: float


def stationary_moments(
    problem: Quadratic, p: float, *, eta: float, rho: float, gamma: float = 1.0
) -> StationaryMoments:
    """The stationary second moments with unnormalized ascent: lam^2 E x^2 = s^2 eta/(eta_c(lam) - eta).

    Args:
        problem: the quadratic, with its noise; every eigenvalue positive (a coordinate without curvature is
            a random walk under noise; leave it out, it adds nothing to gap and gradient).
        p: probability, in [0, 1].
        eta: step size, 0 < eta < eta_c(L).
        rho: radius, rho >= 0.
        gamma: mixing coefficient, gamma >= 0.

    Raises:
        DomainError: an argument outside its domain, or no stationary second moment.
    """
    p, eta, rho, gamma = _numbers(p=p, eta=eta, rho=rho, gamma=gamma)
    lam, s = problem.eigenvalues, problem.noise
    if not lam.all():
        raise DomainError("eigenvalues > 0", 0.0, f"index {int(np.argmin(lam))}")
    critical = _critical(lam, rho, p, gamma)
    if not 0 < eta < critical.min():
        raise DomainError(f"0 < eta < {critical.min():g}, the critical step size", eta)
    squared_gradient = s**2 * eta / (critical - eta)
    return StationaryMoments(
        variance=squared_gradient / lam**2,
        gap=float((squared_gradient / lam).sum() / 2),
        squared_gradient_norm=float(squared_gradient.sum()),
    )


def _critical(lam: FloatArray, rho: float, p: float, gamma: float) -> FloatArray:
    """The critical step size of each eigenvalue, with w2/w1 = 1 + (1 + k) p k/(1 + p k)."""
    k = gamma * rho * lam
    return np.asarray(2 / lam / (1 + (1 + k) * (p * k / (1 + p * k))))


def _numbers(**parameters: float) -> list[float]:
    return [QUANTITIES[key].check(value) for key, value in parameters.items()]


# In letters


def symbolic_second_moment() -> Symbolic:
    r"""E x_t^2 of one coordinate with constant parameters, in letters: A^t x_0^2 + B (1 - A^t)/(1 - A).

    Letters beyond those of `notation`: \lambda the eigenvalue, s the noise, x_0 the start; A = 1 (no
    curvature, or the threshold itself) gives x_0^2 + t B.
    """
    import sympy

    t, (A, B) = QUANTITIES["t"].symbol, sympy.symbols("A B", nonnegative=True)
    p, eta, rho, gamma = (QUANTITIES[key].symbol for key in ("p", "eta", "rho", "gamma"))
    lam, s = sympy.symbols(r"\lambda s", nonnegative=True)
    start = sympy.Symbol("x_0", real=True)
    gain = 1 + gamma * rho * lam
    geometric, linear = A**t * start**2 + B * (1 - A**t) / (1 - A), start**2 + t * B
    return Symbolic(
        sympy.Piecewise((geometric, sympy.Ne(A, 1)), (linear, True)),
        {
            A: (1 - p) * (1 - eta * lam) ** 2 + p * (1 - eta * lam * gain) ** 2,
            B: eta**2 * s**2 * (1 - p + p * gain**2),
        },
    )


def symbolic_critical_step_size() -> sympy.Expr:
    """The value of `critical_step_size` in letters: (2/L) (1 + p k)/(1 + 2 p k + p k^2), k = gamma rho L."""
    L, p, rho, gamma = (QUANTITIES[key].symbol for key in ("L", "p", "rho", "gamma"))
    k = gamma * rho * L
    return 2 * (1 + p * k) / (L * (1 + 2 * p * k + p * k**2))
