"""Normalized ascent on a one-dimensional quadratic: the law that a run settles at.

On f(x) = lam x^2/2 with gradients g = lam x + n, n Gaussian of standard deviation s, the perturbed gradient
is g + lam rho sign(g), and one step is

    x+ = x - eta g - X b sign(g),   b = eta gamma lam rho,   a = 1 - eta lam,   |a| < 1.

Stationary laws are stated for the distance h = |x|.

Without noise h+ = |a| h on a base step and b - a h on a perturbed one: an affine iterated function system.
Its moments are rational functions of (a, b, p); its distribution function is in general continuous and no
more. With noise there is a smooth density (`rst_theory.bounds.stationary_noise`). Derivations and proofs:
`paper_notes/quadratics.md`.

Symbol key, beside the above: X ~ Bernoulli(p) the coin; tau = eta s the noise of one step; F the distribution
function of h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rst_theory.bounds.stationary_noise import law_under_noise
from rst_theory.notation import QUANTITIES, DomainError, FloatArray, natural
from rst_theory.problems import Quadratic

if TYPE_CHECKING:
    import sympy

__all__ = ["StationaryLaw", "distance_moments", "stationary_law", "symbolic_mean_square"]

_CELLS = 2**14
"""Cells of the grid for the distribution function without noise."""

_DEPTH = 4000
"""Most applications of the fixed-point equation of the distribution function, without noise."""

_TOLERANCE = 1e-9
"""What the distribution functions on two grids may differ by, one twice as fine, to be called smooth."""


@dataclass(frozen=True)
class StationaryLaw:
    """The law of the distance h = |x_t| from the minimizer, as t grows.

    Attributes:
        mean_square: E h^2.
        squared_gradient_norm: E||grad f||^2 = lam^2 E h^2.
        gap: E f - f_star = lam E h^2/2.
        distances: points h >= 0, increasing, float64 (n,); the atoms where the law has finitely many.
        cdf: F = P(h <= distance) at these points, float64 (n,).
        density: that of h at these points, float64 (n,); None without noise, where in general there is none.
        mean_square_error: relative: 0 without noise, a closed form; else what a finer grid changed.
        cdf_error: the largest error of `cdf`: proved (but for the rounding of the points) where there is no
            noise and the error exceeds 1e-9 or |1 - eta lam| <= 1/2; else what a finer grid changed.
    """

    mean_square: float
    squared_gradient_norm: float
    gap: float
    distances: FloatArray
    cdf: FloatArray
    density: FloatArray | None
    mean_square_error: float
    cdf_error: float


def stationary_law(
    problem: Quadratic, p: float, *, eta: float, rho: float, gamma: float = 1.0
) -> StationaryLaw:
    """The stationary law of |x_t| with normalized ascent and constant parameters.

    Without noise it is the limit from every start but the minimizer and countably many points that land on
    it, where the run stays. At eta lam = 1 without noise every base step lands on it; then the law is the
    limit eta lam -> 1 (`quadratics.md#noiseless`).

    Args:
        problem: a quadratic in one dimension, with its noise.
        p: probability, in [0, 1].
        eta: step size, 0 < eta < 2/lam.
        rho: radius, rho >= 0.
        gamma: mixing coefficient, gamma >= 0.

    Raises:
        DomainError: an argument outside its domain, or no stationary law: |1 - eta lam| >= 1.
        ArithmeticError: there is noise, but so little beside the range of h that the grid is too large.
    """
    if problem.dimension != 1:
        raise DomainError("a quadratic in one dimension", problem.dimension)
    lam = float(problem.eigenvalues[0])
    p, a, b = _system(lam, p, eta, rho, gamma)
    tau = float(eta) * problem.noise
    if tau == 0:
        mean_square, (distances, cdf, cdf_error) = _mean_square(a, b, p), _distribution(a, b, p)
        density, mean_square_error = None, 0.0
    else:
        law = law_under_noise(a, b / tau, p)
        mean_square, mean_square_error = law.mean_square * tau**2, law.mean_square_error
        distances, cdf, cdf_error, density = law.h * tau, law.cdf, law.cdf_error, law.density / tau
    return StationaryLaw(
        mean_square=mean_square,
        squared_gradient_norm=lam**2 * mean_square,
        gap=lam * mean_square / 2,
        distances=distances,
        cdf=cdf,
        density=density,
        mean_square_error=mean_square_error,
        cdf_error=cdf_error,
    )


def _system(L: float, p: float, eta: float, rho: float, gamma: float) -> tuple[float, float, float]:
    """The checked numbers (p, a, b) of the system."""
    L, p, eta, rho, gamma = (
        QUANTITIES[key].check(value)
        for key, value in (("L", L), ("p", p), ("eta", eta), ("rho", rho), ("gamma", gamma))
    )
    if not abs(1 - eta * L) < 1:
        raise DomainError("|1 - eta lam| < 1", eta * L, "eta lam")
    return p, 1 - eta * L, eta * gamma * L * rho


# Without noise


def distance_moments(
    order: int, *, L: float, p: float, eta: float, rho: float, gamma: float = 1.0
) -> FloatArray:
    """The stationary moments E h^n, n = 0, …, order, without noise, float64 (order + 1,).

    From h+ = |a| h or b - a h: (1 - (1-p) |a|^n - p (-a)^n) E h^n = p sum_{k<n} C(n, k) b^{n-k} (-a)^k E h^k.

    Args:
        order: the highest moment, >= 0.
        L: the curvature lam.
        p: probability, in [0, 1].
        eta: step size, 0 < eta < 2/L.
        rho: radius, rho >= 0.
        gamma: mixing coefficient, gamma >= 0.

    Raises:
        DomainError: an argument outside its domain.
    """
    order = natural("order", order)
    p, a, b = _system(L, p, eta, rho, gamma)
    moments = [1.0]  # in units of b^n
    for n in range(1, order + 1):
        kicked = sum(math.comb(n, k) * (-a) ** k * moments[k] for k in range(n))
        moments.append(p * kicked / (1 - (1 - p) * abs(a) ** n - p * (-a) ** n))
    return np.array([moment * b**n for n, moment in enumerate(moments)])


def _mean_square(a: float, b: float, p: float) -> float:
    if a >= 0:
        return p * b**2 / ((1 + a) * (1 - (1 - 2 * p) * a))
    return p * b**2 * (1 + (1 - 2 * p) * a) / ((1 + a) ** 2 * (1 - a))


def _distribution(a: float, b: float, p: float) -> tuple[FloatArray, FloatArray, float]:
    """Points h, F at these, and its largest error."""
    if p * b == 0:
        return np.zeros(1), np.ones(1), 0.0
    if p == 1:
        return np.array([0.0, b / (1 + a)]), np.array([0.0, 1.0]), 0.0
    if a == 0:
        return np.array([0.0, b]), np.array([1 - p, 1.0]), 0.0
    top = b / min(1.0, 1 + a)  # the largest h: b, or b/(1 - |a|) where a < 0
    h = np.linspace(0, top, _CELLS + 1)
    if abs(a) <= 1 / 2:
        return h, *_unfold(h, a, b, p)
    (coarse, _), (fine, remainder) = (_smooth(a, b / top, p, cells) for cells in (_CELLS // 2, _CELLS))
    error = float(np.abs(fine[::2] - coarse).max()) + remainder
    if error <= _TOLERANCE:
        return h, fine, error
    lower, upper = _bracket(a, b / top, p)
    return h, (lower + upper) / 2, float((upper - lower).max() / 2)


def _unfold(h: FloatArray, a: float, b: float, p: float) -> tuple[FloatArray, float]:
    """F where |a| <= 1/2: the images of the two maps do not overlap, so one branch is left at each point.

    F(h) = (1-p) F(h/|a|) on the image of the base step, and 1 - p + p P(b - a h' <= h) beyond it; unfolded
    until the weight of the unknown part is below rounding.
    """
    top = h[-1]
    y, known, weight = h.copy(), np.zeros_like(h), np.ones_like(h)
    known[-1], weight[0], weight[-1] = 1.0, 0.0, 0.0  # F(0) = 0 and F(top) = 1
    for _ in range(_DEPTH):
        if np.abs(weight).max() < np.finfo(np.float64).eps:
            break
        base = y <= abs(a) * top
        other = 1 - p + (p if a > 0 else 0.0)  # P(b - a h' <= y) is F or, where a > 0, 1 - F
        known += np.where(base, 0.0, other * weight)
        weight *= np.where(base, 1 - p, -p if a > 0 else p)
        y = np.clip(np.where(base, y / abs(a), (b - y) / a), 0.0, top)
    return known, float(np.abs(weight).max())


def _smooth(a: float, b: float, p: float, cells: int) -> tuple[FloatArray, float]:
    """F on an even grid of [0, 1], its range, where it is smooth: a fixed point, interpolated by cubics.

    F(y) = (1-p) F(y/|a|) + p P(b - a h <= y) is iterated; the laws approach each other at the rate |a|, which
    gives the remainder that is returned beside F.
    """
    y = np.arange(cells + 1) / cells
    offsets = np.arange(4)[:, None]

    def interpolant(u: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Four neighbours of each u, and Lagrange's weights."""
        z = np.clip(u, 0.0, 1.0) * cells
        first = np.clip(np.floor(z).astype(np.int64) - 1, 0, cells - 3)
        r = z - first
        weights = np.array(
            [
                (r - 1) * (r - 2) * (r - 3) / -6,
                r * (r - 2) * (r - 3) / 2,
                r * (r - 1) * (r - 3) / -2,
                r * (r - 1) * (r - 2) / 6,
            ]
        )
        return first + offsets, weights

    (base, base_weights), (kick, kick_weights) = interpolant(y / abs(a)), interpolant((b - y) / a)
    cdf = y
    for _ in range(_DEPTH):
        kicked = (cdf[kick] * kick_weights).sum(axis=0)
        better = (1 - p) * (cdf[base] * base_weights).sum(axis=0) + p * (1 - kicked if a > 0 else kicked)
        moved, cdf = np.abs(better - cdf).max(), better
        if moved < 1e-14:
            break
    return cdf, float(moved) / (1 - abs(a))


def _bracket(a: float, b: float, p: float) -> tuple[FloatArray, FloatArray]:
    """A lower and an upper bound of F on an even grid of [0, 1], its range.

    F(y) = (1-p) F(y/|a|) + p P(b - a h <= y) is applied to both, rounded outward between the nodes, until
    neither moves; the second term is F((y - b)/|a|) or, where a > 0, 1 - F(u-) with u = (b - y)/a.
    """
    y = np.arange(_CELLS + 1) / _CELLS

    def around(u: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The nodes next to u, on either side; node -1 stands for all that is left of 0."""
        nodes = (np.floor(u * _CELLS - 1e-6), np.ceil(u * _CELLS + 1e-6))
        left, right = (np.clip(node, -1, _CELLS).astype(np.int64) for node in nodes)
        return left, right

    (base_left, base_right), (left, right) = around(y / abs(a)), around((b - y) / a)
    # The last entry, at index -1, is node -1, where F = 0.
    lower, upper = np.zeros(_CELLS + 2), np.append(np.ones(_CELLS + 1), 0.0)
    lower[_CELLS], upper[0] = 1.0, 0.0  # no atoms
    for _ in range(_DEPTH):
        kicked = (1 - upper[right], 1 - lower[left]) if a > 0 else (lower[left], upper[right])
        risen = (1 - p) * lower[base_left] + p * kicked[0]
        fallen = (1 - p) * upper[base_right] + p * kicked[1]
        risen[-1], fallen[0] = 1.0, 0.0
        moved = max((risen - lower[:-1]).max(), (upper[:-1] - fallen).max())
        lower[:-1], upper[:-1] = risen, fallen
        if moved < 1e-14:
            break
    return lower[:-1], upper[:-1]


def symbolic_mean_square() -> sympy.Expr:
    r"""E h^2 without noise, in letters: e = eta L <= 1 and beyond (L the curvature).

    p (e gamma rho)^2/((2 - e) (e + 2 p (1 - e))) and p e (gamma rho)^2 (1 + (1 - 2 p) (1 - e))/(2 - e)^2.
    """
    import sympy

    L, p, eta, rho, gamma = (QUANTITIES[key].symbol for key in ("L", "p", "eta", "rho", "gamma"))
    e = eta * L
    short = p * (e * gamma * rho) ** 2 / ((2 - e) * (e + 2 * p * (1 - e)))
    long = p * e * (gamma * rho) ** 2 * (1 + (1 - 2 * p) * (1 - e)) / (2 - e) ** 2
    return sympy.Piecewise((short, e <= 1), (long, True))
